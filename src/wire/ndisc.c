#include "wire/ndisc.h"

#include <errno.h>
#include <string.h>

#include "wire/checksum.h"
#include "wire/eth.h"
#include "wire/icmp.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"

#define OPT_SOURCE_MAC 1
#define OPT_TARGET_MAC 2
#define HOP_LIMIT      255 /* RFC 4861 §7.1.1: what is less came from another link */
#define FIXED_BYTES    24  /* ICMPv6 header, target */
#define OPTION_UNIT    8

static bool is_unspecified(const uint8_t a[16])
{
	static const uint8_t zero[16];
	return memcmp(a, zero, sizeof zero) == 0;
}

static bool is_solicited_group(const uint8_t a[16])
{
	static const uint8_t prefix[13] = {0xff, 0x02, [11] = 1, 0xff};
	return memcmp(a, prefix, sizeof prefix) == 0;
}

void ndisc_solicited_group(const uint8_t target[16], uint8_t group[16], uint8_t mac[6])
{
	memset(group, 0, 16);
	group[0] = 0xff;
	group[1] = 0x02;
	group[11] = 1;
	group[12] = 0xff;
	memcpy(group + 13, target + 13, 3);
	mac[0] = mac[1] = 0x33;
	memcpy(mac + 2, group + 12, 4);
}

/*
 * Each option's length is checked, known or not: RFC 4861 §7.1.1, "all included options have a length that is greater
 * than zero".
 */
static int parse_options(const uint8_t *bytes, size_t len, uint8_t wanted, const uint8_t **mac)
{
	*mac = NULL;
	while (len) {
		size_t n = len < 2 ? 0 : (size_t)bytes[1] * OPTION_UNIT;
		if (!n || n > len)
			return -EBADMSG;
		if (bytes[0] == wanted && n == OPTION_UNIT && !(bytes[2] & 1))
			*mac = bytes + 2;
		bytes += n;
		len -= n;
	}
	return 0;
}

int ndisc_parse(const uint8_t *bytes, size_t len, const uint8_t src[16], const uint8_t dst[16], uint8_t hop_limit, struct ndisc_message *out)
{
	struct icmp_message m;
	if (len < 1 || (bytes[0] != NDISC_SOLICITATION && bytes[0] != NDISC_ADVERTISEMENT))
		return -ENOMSG;
	bool asks = bytes[0] == NDISC_SOLICITATION;
	if (hop_limit != HOP_LIMIT || icmp_parse(bytes, len, true, src, dst, &m) != ICMP_OK || m.code || len < FIXED_BYTES)
		return -EBADMSG;
	out->type = m.type;
	out->flags = asks ? 0 : bytes[4];
	out->target = bytes + 8;
	if (out->target[0] == 0xff)
		return -EBADMSG;
	if (parse_options(bytes + FIXED_BYTES, len - FIXED_BYTES, asks ? OPT_SOURCE_MAC : OPT_TARGET_MAC, &out->mac) < 0)
		return -EBADMSG;
	if (asks && is_unspecified(src) && (!is_solicited_group(dst) || out->mac))
		return -EBADMSG;
	return !asks && dst[0] == 0xff && (out->flags & NDISC_SOLICITED) ? -EBADMSG : 0;
}

size_t ndisc_build(const struct ndisc_frame *f, uint8_t out[NDISC_FRAME_BYTES])
{
	uint8_t *icmp = out + ETH_HDR_BYTES + IPV6_HDR_BYTES;
	uint16_t len = FIXED_BYTES + (f->tells_mac ? OPTION_UNIT : 0);
	struct ipv6_header h = {
		.src = f->src,
		.dst = f->dst,
		.hop_limit = HOP_LIMIT,
		.next_header = IP_PROTO_ICMPV6,
		.payload_len = len,
	};
	eth_build(f->dst_mac, f->src_mac, ETHERTYPE_IPV6, out);
	ipv6_build(&h, out + ETH_HDR_BYTES);
	memset(icmp, 0, len);
	icmp[0] = f->type;
	icmp[4] = f->flags;
	memcpy(icmp + 8, f->target, 16);
	if (f->tells_mac) {
		icmp[24] = f->type == NDISC_SOLICITATION ? OPT_SOURCE_MAC : OPT_TARGET_MAC;
		icmp[25] = 1;
		memcpy(icmp + 26, f->src_mac, 6);
	}
	uint64_t sum = checksum_pseudo_v6(f->src, f->dst, IP_PROTO_ICMPV6, len);
	checksum_store(icmp + 2, checksum_finish(checksum_add(sum, icmp, len)));
	return ETH_HDR_BYTES + IPV6_HDR_BYTES + len;
}

void ndisc_build_solicitation(const uint8_t src_mac[6], const uint8_t src[16], const uint8_t target[16],
			      uint8_t out[NDISC_FRAME_BYTES])
{
	uint8_t group[16], mac[6];
	ndisc_solicited_group(target, group, mac);
	struct ndisc_frame f = {
		.type = NDISC_SOLICITATION, .dst_mac = mac, .src_mac = src_mac, .src = src, .dst = group, .target = target, .tells_mac = true};
	ndisc_build(&f, out);
}
