/*
 * Theory of operation: input
 *
 * Owns nothing: a frame's bytes stay the link's, and what comes out points into them. Each step
 * either passes the rest of the packet to the next one or ends with a named fate; the order is the packet's.
 *
 * Lengths: three must agree before a byte is believed. `wire_len` is what the frame had, `len` what was
 * captured of it (they differ only when the link cut it), and the IP header says what the packet is. A packet longer
 * than the frame lies; a frame longer than the packet has padding (Ethernet's minimum of 60 bytes), which is cut
 * off. A super-segment over 64 KiB says 0; that is believed only when the link says that it is one.
 *
 * Cost: no work per byte except a transport checksum that nobody verified.
 *
 * References: RFC 791, RFC 1122 §3.2.1, RFC 8200, RFC 2675, RFC 9293 §3.10.
 */
#include <linux/if_packet.h>

#include "ip/ip_internal.h"
#include "wire/checksum.h"
#include "wire/eth.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"

const char *ip_fate_name(enum ip_fate fate)
{
	static const char *const names[] = {
#define IP_FATE(name, text) #name,
#include "ip/ip_fate.def"
#undef IP_FATE
	};
	return (unsigned)fate < IP_FATE_COUNT ? names[fate] : "?";
}

/* The upper-layer part of a packet. */
struct upper {
	const uint8_t *bytes;
	uint32_t len;      /* captured */
	uint32_t full_len; /* by the IP header; more than len: the capture was cut */
	const uint8_t *src, *dst;
	uint8_t protocol;
	bool v6;
};

static enum ip_fate input_tcp(const struct link_rx *rx, const struct upper *u, struct ip_input *out)
{
	struct tcp_segment *seg = &out->seg;

	if (tcp_parse(u->bytes, u->len, seg) < 0)
		return u->len < u->full_len ? IP_FATE_CaptureTruncated : IP_FATE_TcpBadHeader;
	if (u->len < u->full_len) {
		if (!rx->csum_ok)
			return IP_FATE_CaptureTruncated;
		out->cut = u->full_len - u->len;
		out->cut_fin = seg->flags & SEG_FIN;
		seg->flags &= ~SEG_FIN; /* it stands behind the bytes that were cut off */
	} else if (!rx->csum_ok) {
		uint64_t sum = u->v6 ? checksum_pseudo_v6(u->src, u->dst, IP_PROTO_TCP, u->len) :
				       checksum_pseudo_v4(u->src, u->dst, IP_PROTO_TCP, u->len);
		if (!checksum_is_valid(checksum_add(sum, u->bytes, u->len)))
			return IP_FATE_TcpBadChecksum; /* RFC 9293 MUST-3 */
	}
	if (seg->has & SEG_HAS_SIGNATURE) /* as Linux: whoever signs means another connection, or forges */
		return IP_FATE_TcpSigned;
	if (u->v6) {
		out->key.laddr = ip_addr_from_v6(u->dst);
		out->key.raddr = ip_addr_from_v6(u->src);
	} else {
		out->key.laddr = ip_addr_from_v4(u->dst);
		out->key.raddr = ip_addr_from_v4(u->src);
	}
	seg->ecn = out->ecn;
	seg->gso_size = rx->gso_size < seg->payload_len ? rx->gso_size : 0;
	out->tcp = out->cut ? NULL : u->bytes;
	out->tcp_len = u->len;
	out->key.lport = seg->dport;
	out->key.rport = seg->sport;
	out->kind = IP_INPUT_TCP;
	return IP_FATE_Delivered;
}

static enum ip_fate input_upper(const struct link_rx *rx, const struct upper *u,
				struct ip_input *out)
{
	enum ip_fate fate;

	if (u->protocol == IP_PROTO_TCP)
		return input_tcp(rx, u, out);
	if (u->protocol != (u->v6 ? IP_PROTO_ICMPV6 : IP_PROTO_ICMP))
		return IP_FATE_NotTcp;
	if (u->len < u->full_len)
		return IP_FATE_CaptureTruncated;
	fate = ip_icmp_parse(u->bytes, u->len, u->v6, u->src, u->dst, &out->icmp);
	if (fate == IP_FATE_Delivered)
		out->kind = IP_INPUT_ICMP;
	return fate;
}

/*
 * Nobody, loopback, multicast, limited broadcast: on a wire, no host's address (RFC 1122 §3.2.1.3; of "this network"
 * Linux takes all but 0.0.0.0 for one since 5.3).
 */
static bool v4_is_unicast(const uint8_t *a)
{
	return load_be32(a) != 0 && a[0] != 127 && (a[0] & 0xf0) != 224 && load_be32(a) != UINT32_MAX;
}

/* Not multicast, and not under ::/80: unspecified, loopback, IPv4-compatible and IPv4-mapped addresses stand
   there. A mapped one from the wire would pass for IPv4 in everything above (RFC 4942 §2.2). */
static bool v6_is_unicast(const uint8_t *a)
{
	static const uint8_t zero[10];
	return a[0] != 0xff && memcmp(a, zero, sizeof zero) != 0;
}

static enum ip_fate check_addresses(const struct upper *u)
{
	if (!(u->v6 ? v6_is_unicast(u->src) : v4_is_unicast(u->src)))
		return IP_FATE_BadSource; /* RFC 9293 MUST-57, MUST-58 */
	if (!(u->v6 ? v6_is_unicast(u->dst) : v4_is_unicast(u->dst)))
		return IP_FATE_BadDestination;
	if (memcmp(u->src, u->dst, u->v6 ? 16 : 4) == 0)
		return IP_FATE_BadSource; /* our own address: we do not talk to ourselves over the wire */
	return IP_FATE_Delivered;
}

static enum ip_fate v4_fate(enum ipv4_result result)
{
	switch (result) {
	case IPV4_SHORT:
		return IP_FATE_Ip4HeaderShort;
	case IPV4_BAD_VERSION:
		return IP_FATE_Ip4BadVersion;
	case IPV4_BAD_IHL:
		return IP_FATE_Ip4BadHeaderLength;
	case IPV4_BAD_LENGTH:
		return IP_FATE_Ip4BadLength;
	case IPV4_BAD_CHECKSUM:
		return IP_FATE_Ip4BadChecksum;
	case IPV4_OK:
		break;
	}
	return IP_FATE_Delivered;
}

static enum ip_fate input_v4(const struct link_rx *rx, const uint8_t *bytes, uint32_t len,
			     uint32_t wire_len, struct ip_input *out)
{
	struct ipv4_header h;
	struct upper u;
	uint32_t total;
	enum ip_fate fate = v4_fate(ipv4_parse(bytes, len, &h));

	if (fate != IP_FATE_Delivered)
		return fate;
	total = h.total_len;
	if (total == 0) {
		if (!rx->gso_size)
			return IP_FATE_Ip4BadLength;
		total = wire_len;
	}
	if (total > wire_len)
		return IP_FATE_Ip4Truncated;
	if (h.frag_offset || h.more_fragments)
		return IP_FATE_Fragment;
	if (h.header_len > IPV4_HDR_MIN && ipv4_has_source_route(bytes, &h))
		return IP_FATE_Ip4SourceRoute; /* as Linux with accept_source_route 0 */
	u.bytes = bytes + h.header_len;
	u.full_len = total - h.header_len;
	u.len = (total < len ? total : len) - h.header_len;
	u.src = h.src;
	u.dst = h.dst;
	u.protocol = h.protocol;
	u.v6 = false;
	out->tos = h.tos;
	out->ecn = h.tos & 3;
	out->ident = h.id;
	out->ttl = h.ttl;
	fate = check_addresses(&u);
	return fate == IP_FATE_Delivered ? input_upper(rx, &u, out) : fate;
}

static enum ip_fate v6_fate(enum ipv6_result result)
{
	switch (result) {
	case IPV6_SHORT:
		return IP_FATE_Ip6HeaderShort;
	case IPV6_BAD_VERSION:
		return IP_FATE_Ip6BadVersion;
	case IPV6_BAD_OPTIONS:
		return IP_FATE_Ip6BadOptions;
	case IPV6_OPTION:
		return IP_FATE_Ip6UnknownOption;
	case IPV6_ROUTED:
		return IP_FATE_Ip6Routed;
	case IPV6_FRAGMENT:
		return IP_FATE_Fragment;
	case IPV6_TOO_MANY:
		return IP_FATE_Ip6TooManyHeaders;
	case IPV6_OK:
		break;
	}
	return IP_FATE_Delivered;
}

/*
 * What follows the fixed header, over the extension headers. A payload length of 0 is either a super-segment
 * (the link says so) or a jumbogram (a hop-by-hop option says so); Linux's own super-segments may be both.
 */
static enum ip_fate v6_upper(const struct link_rx *rx, const struct ipv6_header *h, uint32_t len,
			     uint32_t wire_len, struct upper *u)
{
	struct ipv6_upper walk;
	bool big = h->payload_len == 0;
	uint32_t full = big && (rx->gso_size || ipv6_is_extension(h->next_header)) ?
				wire_len :
				h->payload_len;
	enum ip_fate fate;

	if (full > wire_len)
		return IP_FATE_Ip6Truncated;
	fate = v6_fate(ipv6_walk(u->bytes, full < len ? full : len, h->next_header, &walk));
	if (fate != IP_FATE_Delivered)
		return fate;
	if (walk.jumbo_len) {
		if (!big)
			return IP_FATE_Ip6BadOptions; /* RFC 2675 §3: only with payload length 0 */
		if (walk.jumbo_len > wire_len)
			return IP_FATE_Ip6Truncated;
		full = walk.jumbo_len;
	} else if (big && !rx->gso_size) {
		return IP_FATE_Ip6BadLength;
	}
	u->bytes += walk.offset;
	u->full_len = full - walk.offset;
	u->len = (full < len ? full : len) - walk.offset;
	u->protocol = walk.protocol;
	return IP_FATE_Delivered;
}

static enum ip_fate input_v6(const struct link_rx *rx, const uint8_t *bytes, uint32_t len,
			     uint32_t wire_len, struct ip_input *out)
{
	struct ipv6_header h;
	struct upper u;
	enum ip_fate fate = v6_fate(ipv6_parse(bytes, len, &h));

	if (fate != IP_FATE_Delivered)
		return fate;
	u.bytes = bytes + IPV6_HDR_BYTES;
	u.src = h.src;
	u.dst = h.dst;
	u.v6 = true;
	out->tos = h.traffic_class;
	out->ecn = h.traffic_class & 3;
	out->ident = h.flow_label;
	out->ttl = h.hop_limit;
	fate = check_addresses(&u);
	if (fate == IP_FATE_Delivered)
		fate = v6_upper(rx, &h, len - IPV6_HDR_BYTES, wire_len - IPV6_HDR_BYTES, &u);
	return fate == IP_FATE_Delivered ? input_upper(rx, &u, out) : fate;
}

/* The link's own header: sets the offset of the IP header and the version that it must have. */
static enum ip_fate input_link(const struct link_rx *rx, bool has_eth, uint32_t *offset,
			       bool *v6, struct ip_input *out)
{
	struct eth_header eth;

	if (rx->pkttype != PACKET_HOST)
		return IP_FATE_OtherHost;
	if (rx->vlan)
		return IP_FATE_VlanTagged;
	if (!has_eth) {
		if (!rx->len)
			return IP_FATE_LinkHeaderShort;
		*offset = 0;
		*v6 = rx->data[0] >> 4 == 6;
		return *v6 || rx->data[0] >> 4 == 4 ? IP_FATE_Delivered : IP_FATE_NotIp;
	}
	if (eth_parse(rx->data, rx->len, &eth) < 0)
		return IP_FATE_LinkHeaderShort;
	out->src_mac = eth.src;
	*offset = ETH_HDR_BYTES;
	*v6 = eth.ethertype == ETHERTYPE_IPV6;
	if (*v6 || eth.ethertype == ETHERTYPE_IPV4)
		return IP_FATE_Delivered;
	return ethertype_is_vlan(eth.ethertype) ? IP_FATE_VlanTagged : IP_FATE_NotIp;
}

void ip_input_parse(const struct link_rx *rx, bool has_eth, struct ip_input *out)
{
	uint32_t offset = 0, wire_len = rx->wire_len > rx->len ? rx->wire_len : rx->len;
	bool v6 = false;

	out->kind = IP_INPUT_NONE;
	out->gso_size = rx->gso_size;
	out->cut = 0;
	out->cut_fin = false;
	out->src_mac = NULL;
	out->tos = out->ecn = 0;
	out->ttl = 0;
	out->ident = 0;
	out->fate = input_link(rx, has_eth, &offset, &v6, out);
	if (out->fate != IP_FATE_Delivered)
		return;
	out->fate = (v6 ? input_v6 : input_v4)(rx, rx->data + offset, rx->len - offset,
					       wire_len - offset, out);
}
