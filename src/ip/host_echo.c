/*
 * Echo replies (RFC 792, RFC 1122 §3.2.2.6; RFC 4443 §4.2). The reply goes back to the host or router that sent the
 * frame: nothing is asked or kept for a stranger. The budget of strangers' answers bounds them.
 *
 * A fragmented request is not put together, and so not answered; nor is one to a group.
 */
#include "ip/host_internal.h"

#include <string.h>

#include "wire/checksum.h"
#include "wire/eth.h"
#include "wire/icmp.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"

#define ECHO_REQUEST_V4 8
#define ECHO_REPLY_V4   0
#define ECHO_REQUEST_V6 128
#define ECHO_REPLY_V6   129
#define TTL             64

/* One that an answer can go to: no group, not everybody, not nobody. */
static bool may_answer(const struct ip_addr *a)
{
	bool group = ip_addr_is_v4(a) ? a->b[12] >= 224 : a->b[0] == 0xff;
	return !group && !ip_addr_is_any(a) && !ip_addr_is_loopback(a) && !(ip_addr_is_v4(a) && a->b[12] == 0);
}

/* Over the header (eth and IP are there already) and what the request had after its first eight bytes. */
static void reply(struct host *h, uint8_t *hdr, size_t icmp_at, uint8_t type, uint64_t pseudo, const uint8_t *request, size_t len)
{
	uint8_t *icmp = hdr + icmp_at;
	memcpy(icmp, request, ICMP_HDR_BYTES); /* identifier and sequence number are the request's; so is the code, as Linux */
	icmp[0] = type;
	icmp[2] = icmp[3] = 0;
	uint64_t sum = checksum_add(checksum_add(pseudo, icmp, ICMP_HDR_BYTES), request + ICMP_HDR_BYTES, len - ICMP_HDR_BYTES);
	checksum_store(icmp + 2, checksum_finish(sum));
	h->counters[HOST_EchoAnswered]++;
	h->out->frame(h->out, hdr, icmp_at + ICMP_HDR_BYTES, request + ICMP_HDR_BYTES, len - ICMP_HDR_BYTES);
}

static bool may_reply(struct host *h, int64_t now, const struct ip_addr *src, const struct host_addr *own)
{
	if (h->silent || !own || own->state != HOST_ADDR_OURS)
		return false;
	if (!may_answer(src)) {
		h->counters[HOST_EchoMalformed]++;
		return false;
	}
	if (budget_take(&h->echoes, now, src))
		return true;
	h->counters[HOST_EchoLimited]++;
	return false;
}

bool host_echo_v4(struct host *h, int64_t now, const uint8_t *frame, size_t len)
{
	size_t l2 = h->has_eth ? ETH_HDR_BYTES : 0;
	uint8_t out[ETH_HDR_BYTES + IPV4_HDR_MIN + ICMP_HDR_BYTES];
	struct ipv4_header in;
	struct icmp_message m;
	if (ipv4_parse(frame + l2, len - l2, &in) != IPV4_OK || in.total_len > len - l2 || in.protocol != IP_PROTO_ICMP)
		return false;
	const uint8_t *request = frame + l2 + in.header_len;
	size_t n = in.total_len - in.header_len;
	if (in.frag_offset || in.more_fragments || n < ICMP_HDR_BYTES || request[0] != ECHO_REQUEST_V4)
		return false;
	struct ip_addr src = ip_addr_from_v4(in.src), dst = ip_addr_from_v4(in.dst);
	if (icmp_parse(request, n, false, in.src, in.dst, &m) != ICMP_OK) {
		h->counters[HOST_EchoMalformed]++;
		return true;
	}
	if (!may_reply(h, now, &src, host_address(h, &dst)))
		return true;
	struct ipv4_header back = {.src = in.dst, .dst = in.src, .tos = in.tos, .ttl = TTL, .protocol = IP_PROTO_ICMP,
				   .total_len = IPV4_HDR_MIN + n, .id = h->ident++};
	if (l2)
		eth_build(frame + ETH_MAC_BYTES, h->mac, ETHERTYPE_IPV4, out);
	ipv4_build(&back, out + l2);
	reply(h, out, l2 + IPV4_HDR_MIN, ECHO_REPLY_V4, 0, request, n);
	return true;
}

bool host_echo_v6(struct host *h, int64_t now, const uint8_t *frame, size_t len)
{
	size_t l2 = h->has_eth ? ETH_HDR_BYTES : 0;
	uint8_t out[ETH_HDR_BYTES + IPV6_HDR_BYTES + ICMP_HDR_BYTES];
	struct ipv6_header in;
	struct icmp_message m;
	if (ipv6_parse(frame + l2, len - l2, &in) != IPV6_OK || in.next_header != IP_PROTO_ICMPV6 || in.payload_len > len - l2 - IPV6_HDR_BYTES)
		return false;
	const uint8_t *request = frame + l2 + IPV6_HDR_BYTES;
	size_t n = in.payload_len;
	if (n < ICMP_HDR_BYTES || request[0] != ECHO_REQUEST_V6)
		return false;
	struct ip_addr src = ip_addr_from_v6(in.src), dst = ip_addr_from_v6(in.dst);
	if (icmp_parse(request, n, true, in.src, in.dst, &m) != ICMP_OK) {
		h->counters[HOST_EchoMalformed]++;
		return true;
	}
	if (!may_reply(h, now, &src, host_address(h, &dst)))
		return true;
	struct ipv6_header back = {.src = in.dst, .dst = in.src, .traffic_class = in.traffic_class, .hop_limit = TTL, .next_header = IP_PROTO_ICMPV6,
				   .payload_len = n};
	if (l2)
		eth_build(frame + ETH_MAC_BYTES, h->mac, ETHERTYPE_IPV6, out);
	ipv6_build(&back, out + l2);
	reply(h, out, l2 + IPV6_HDR_BYTES, ECHO_REPLY_V6, checksum_pseudo_v6(in.dst, in.src, IP_PROTO_ICMPV6, n), request, n);
	return true;
}
