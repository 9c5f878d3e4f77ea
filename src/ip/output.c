/*
 * One TCP segment on its way out: Ethernet, IP and TCP headers are built in one piece on the stack,
 * the payload stays where it is. The TCP checksum is left to the link: the field holds the folded sum of the
 * pseudo-header over the whole (super-)segment, which is what CHECKSUM_PARTIAL and TSO want to find there.
 */
#include <errno.h>
#include <string.h>

#include "ip/ip.h"
#include "wire/bytes.h"
#include "wire/checksum.h"
#include "wire/eth.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"

#define TCP_CHECKSUM_OFFSET 16 /* RFC 9293 §3.1 */

_Static_assert(ETH_HDR_BYTES + IPV6_HDR_BYTES + TCP_HDR_MAX <= LINK_HDR_MAX, "all headers fit");

static void build_v4(uint8_t *out, const struct ip_path *path, const struct flow_key *key,
		     uint32_t tcp_len, uint8_t ecn, uint16_t id)
{
	struct ipv4_header h = {
		.src = key->laddr.b + 12,
		.dst = key->raddr.b + 12,
		.tos = (path->tos & ~3) | (ecn & 3),
		.ttl = path->ttl,
		.protocol = IP_PROTO_TCP,
		.total_len = IPV4_HDR_MIN + tcp_len,
		.id = id,
		.dont_fragment = path->dont_fragment,
	};
	ipv4_build(&h, out);
}

static void build_v6(uint8_t *out, const struct ip_path *path, const struct flow_key *key,
		     uint32_t tcp_len, uint8_t ecn, uint32_t label)
{
	struct ipv6_header h = {
		.src = key->laddr.b,
		.dst = key->raddr.b,
		.traffic_class = (path->tos & ~3) | (ecn & 3),
		.hop_limit = path->ttl,
		.next_header = IP_PROTO_TCP,
		.payload_len = tcp_len,
		.flow_label = label & IPV6_LABEL_MASK,
	};
	ipv6_build(&h, out);
}

int ip_build_tcp(uint8_t *hdr, struct link_tx *out, const struct ip_path *path, const struct flow_key *key, const struct tcp_segment *seg, uint16_t gso_size,
		 uint32_t label, uint16_t *ip_id)
{
	bool v6 = !ip_addr_is_v4(&key->raddr);
	uint32_t l2 = path->has_eth ? ETH_HDR_BYTES : 0;
	uint32_t l3 = v6 ? IPV6_HDR_BYTES : IPV4_HDR_MIN;
	uint8_t *ip = hdr + l2, *tcp = ip + l3;
	uint32_t tcp_hdr_len = tcp_build(seg, tcp), tcp_len = tcp_hdr_len + seg->payload_len;
	bool gso = gso_size && seg->payload_len > gso_size;
	uint64_t pseudo;

	if (tcp_len > (v6 ? IPV6_PAYLOAD_MAX : IPV4_LEN_MAX - IPV4_HDR_MIN))
		return -EMSGSIZE;
	if (path->has_eth)
		eth_build(path->dst_mac, path->src_mac, v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4, hdr);
	if (v6) {
		build_v6(ip, path, key, tcp_len, seg->ecn, label);
		pseudo = checksum_pseudo_v6(key->laddr.b, key->raddr.b, IP_PROTO_TCP, tcp_len);
	} else {
		build_v4(ip, path, key, tcp_len, seg->ecn, *ip_id);
		pseudo = checksum_pseudo_v4(key->laddr.b + 12, key->raddr.b + 12, IP_PROTO_TCP,
					    tcp_len);
		*ip_id += ip_wire_segs(seg, gso_size); /* each wire segment gets the next one, as TSO counts */
	}
	store_be16(tcp, key->lport);
	store_be16(tcp + 2, key->rport);
	checksum_store(tcp + TCP_CHECKSUM_OFFSET, checksum_fold(pseudo));

	*out = (struct link_tx){
		.hdr = hdr,
		.hdr_len = l2 + l3 + tcp_hdr_len,
		.payload = seg->payload,
		.n_payload = seg->payload_len == 0	    ? 0 :
			     seg->payload[1].iov_len == 0 ? 1 :
							    2,
		.csum_start = l2 + l3,
		.csum_offset = TCP_CHECKSUM_OFFSET,
		.gso_size = gso ? gso_size : 0,
		.v6 = v6,
		.ecn_cwr = gso && (seg->flags & SEG_CWR), /* CWR on the first segment only (RFC 3168 §6.1.2) */
		.priority = path->priority,
	};
	return 0;
}

bool ip_read_built(const uint8_t *hdr, bool has_eth, struct flow_key *key, uint32_t *seq)
{
	const uint8_t *ip = hdr + (has_eth ? ETH_HDR_BYTES : 0);
	bool v6 = ip[0] >> 4 == 6;
	const uint8_t *tcp = ip + (v6 ? IPV6_HDR_BYTES : IPV4_HDR_MIN);
	if (has_eth && load_be16(hdr + ETH_HDR_BYTES - 2) != (v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4)) /* ARP */
		return false;
	if (ip[v6 ? 6 : 9] != IP_PROTO_TCP)
		return false;
	if (v6) {
		memcpy(key->laddr.b, ip + 8, sizeof key->laddr.b);
		memcpy(key->raddr.b, ip + 24, sizeof key->raddr.b);
	} else {
		key->laddr = ip_addr_from_v4(ip + 12);
		key->raddr = ip_addr_from_v4(ip + 16);
	}
	key->lport = load_be16(tcp);
	key->rport = load_be16(tcp + 2);
	*seq = load_be32(tcp + 4);
	return true;
}

int ip_send_tcp(struct link *l, const struct ip_path *path, const struct flow_key *key,
		const struct tcp_segment *seg, uint16_t gso_size, uint32_t label, uint16_t *ip_id)
{
	uint8_t hdr[LINK_HDR_MAX];
	struct link_tx tx;
	int err = ip_build_tcp(hdr, &tx, path, key, seg, gso_size, label, ip_id);
	return err < 0 ? err : link_send(l, &tx);
}
