#include "wire/mld.h"

#include <errno.h>
#include <string.h>

#include "wire/checksum.h"
#include "wire/eth.h"
#include "wire/icmp.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"

#define HOP_BY_HOP      0
#define HOP_BY_HOP_LEN  8
#define QUERY_V1_BYTES  24
#define QUERY_V2_BYTES  28
#define DELAY_IS_FLOAT  0x8000 /* RFC 3810 §5.1.3: an exponent and a mantissa */
#define DELAY_MOST_MS   10000  /* its default; who asks for more time gets an answer sooner */

static const uint8_t router_alert[HOP_BY_HOP_LEN] = {IP_PROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0}; /* RFC 2711, padded */
static const uint8_t routers_v2[16] = {0xff, 0x02, [15] = 0x16};

int mld_parse_query(const uint8_t *ip, size_t len, struct mld_query *out)
{
	struct ipv6_header h;
	struct ipv6_upper upper;
	struct icmp_message m;
	if (ipv6_parse(ip, len, &h) != IPV6_OK || h.next_header != HOP_BY_HOP || h.payload_len > len - IPV6_HDR_BYTES)
		return -ENOMSG;
	const uint8_t *rest = ip + IPV6_HDR_BYTES;
	if (ipv6_walk(rest, h.payload_len, HOP_BY_HOP, &upper) != IPV6_OK || upper.protocol != IP_PROTO_ICMPV6 || upper.offset >= h.payload_len)
		return -ENOMSG;
	const uint8_t *icmp = rest + upper.offset;
	size_t n = h.payload_len - upper.offset;
	if (icmp[0] != MLD_QUERY)
		return -ENOMSG;
	if (icmp_parse(icmp, n, true, h.src, h.dst, &m) != ICMP_OK || m.code || n < QUERY_V1_BYTES || h.hop_limit != 1)
		return -EBADMSG;
	if (h.src[0] != 0xfe || (h.src[1] & 0xc0) != 0x80 || memcmp(rest + 2, router_alert + 2, 4) != 0)
		return -EBADMSG;
	if (n > QUERY_V1_BYTES && n < QUERY_V2_BYTES)
		return -EBADMSG;
	uint32_t delay = m.word >> 16;
	out->group = icmp + 8;
	out->v1 = n == QUERY_V1_BYTES;
	out->max_delay_ms = delay > DELAY_MOST_MS || (!out->v1 && (delay & DELAY_IS_FLOAT)) ? DELAY_MOST_MS : delay;
	return 0;
}

static void build_hdr(const uint8_t src_mac[6], const uint8_t src[16], const uint8_t dst[16], size_t body_len, uint8_t *hdr)
{
	const uint8_t mac[6] = {0x33, 0x33, dst[12], dst[13], dst[14], dst[15]}; /* RFC 2464 §7 */
	struct ipv6_header h = {.src = src, .dst = dst, .hop_limit = 1, .next_header = HOP_BY_HOP, .payload_len = body_len};
	eth_build(mac, src_mac, ETHERTYPE_IPV6, hdr);
	ipv6_build(&h, hdr + ETH_HDR_BYTES);
}

static void finish(const uint8_t src[16], const uint8_t dst[16], uint8_t *icmp, size_t len)
{
	uint64_t sum = checksum_pseudo_v6(src, dst, IP_PROTO_ICMPV6, len);
	checksum_store(icmp + 2, checksum_finish(checksum_add(sum, icmp, len)));
}

void mld_build_report(const uint8_t src_mac[6], const uint8_t src[16], const uint8_t (*groups)[16], unsigned n, uint8_t record, uint8_t hdr[MLD_HDR_BYTES], uint8_t *body)
{
	uint8_t *icmp = body + HOP_BY_HOP_LEN, *at = icmp + 8;
	build_hdr(src_mac, src, routers_v2, MLD_REPORT_BYTES(n), hdr);
	memset(body, 0, MLD_REPORT_BYTES(n));
	memcpy(body, router_alert, HOP_BY_HOP_LEN);
	icmp[0] = MLD_REPORT_V2;
	store_be16(icmp + 6, n);
	for (unsigned i = 0; i < n; i++, at += 20) {
		at[0] = record;
		memcpy(at + 4, groups[i], 16);
	}
	finish(src, routers_v2, icmp, MLD_REPORT_BYTES(n) - HOP_BY_HOP_LEN);
}

void mld_build_report_v1(const uint8_t src_mac[6], const uint8_t src[16], const uint8_t group[16], uint8_t hdr[MLD_HDR_BYTES], uint8_t body[MLD_REPORT_V1_BYTES])
{
	uint8_t *icmp = body + HOP_BY_HOP_LEN;
	build_hdr(src_mac, src, group, MLD_REPORT_V1_BYTES, hdr);
	memset(body, 0, MLD_REPORT_V1_BYTES);
	memcpy(body, router_alert, HOP_BY_HOP_LEN);
	icmp[0] = MLD_REPORT_V1;
	memcpy(icmp + 8, group, 16);
	finish(src, group, icmp, MLD_REPORT_V1_BYTES - HOP_BY_HOP_LEN);
}
