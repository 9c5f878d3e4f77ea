/*
 * IPv4 and IPv6: validate and take apart what the link received; put headers before what TCP sends.
 *
 * Pure over bytes (wire/ does the parsing): no I/O, no allocation. The caller keeps, per destination, a struct ip_path
 * (source and destination MAC, MTU …) that it got from kernel/netstate.
 */
#ifndef FINESSE_IP_IP_H
#define FINESSE_IP_IP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "link/link.h"
#include "wire/tcp.h"

enum ip_fate {
#define IP_FATE(name, text) IP_FATE_##name,
#include "ip/ip_fate.def"
#undef IP_FATE
	IP_FATE_COUNT
};
const char *ip_fate_name(enum ip_fate fate);

enum ip_input_kind { IP_INPUT_TCP, IP_INPUT_ICMP, IP_INPUT_NONE };

/* An ICMP error about a TCP segment that we sent. */
struct ip_icmp_error {
	struct flow_key key;  /* ours: laddr is the quoted source */
	uint32_t seq;         /* quoted TCP sequence number */
	int err;              /* Linux's errno for it: EHOSTUNREACH, ECONNREFUSED, … */
	bool hard;            /* RFC 1122 §4.2.3.9: aborts a connection that is not synchronized */
	bool frag_needed;
	uint32_t mtu;         /* frag_needed: next-hop MTU, 0 when the router did not say */
	/* What a program may be told of it: */
	uint8_t type, code;
	uint32_t info;           /* the MTU, or the pointer of a parameter problem */
	struct ip_addr offender; /* who sent it */
	const uint8_t *quote;    /* from the quoted TCP header on; in the frame */
	uint32_t quote_len;
};

struct ip_input {
	enum ip_input_kind kind;
	enum ip_fate fate;
	struct flow_key key;      /* TCP: laddr = the packet's destination */
	struct tcp_segment seg;   /* TCP; payload points into the frame */
	uint8_t tos;              /* the whole octet: TOS or traffic class */
	uint8_t ecn;              /* its two bits, RFC 3168 */
	uint8_t ttl;              /* or hop limit, as it arrived */
	uint16_t gso_size;
	uint32_t cut;             /* TCP: bytes of the payload that the link has not shown … */
	bool cut_fin;             /* … and behind them a FIN, which seg.flags has not */
	uint32_t ident;           /* IPv4 identification, or IPv6 flow label */
	const uint8_t *src_mac;   /* 6 bytes, or NULL without a link header */
	const uint8_t *tcp;       /* TCP: the segment's bytes, in the frame; NULL: not all of it is there */
	uint32_t tcp_len;
	struct ip_icmp_error icmp;
};

/*
 * Takes one frame apart and validates everything (lengths, version, header checksum, addresses that cannot be a source,
 * fragments, transport checksum unless rx->csum_ok). Truncated frames are refused, or their TCP payload cut to
 * what is here when the checksum needs no check. Always sets fate; kind NONE when there is nothing for anybody.
 */
void ip_input_parse(const struct link_rx *rx, bool has_eth, struct ip_input *out);

/* Where a flow's frames go on the link. */
struct ip_path {
	uint8_t src_mac[6], dst_mac[6];
	bool has_eth;
	uint8_t ttl;     /* 64 */
	uint8_t tos;     /* IP_TOS / traffic class of the socket, without ECN bits */
	uint8_t priority; /* of the frames, for the qdisc (link_tx) */
	bool dont_fragment; /* IPv4 DF (path MTU discovery) */
	uint32_t mtu;
};

/*
 * One TCP segment with headers into the link's queue: Ethernet, IPv4 or IPv6 by key, TCP with the pseudo-header sum for
 * checksum offload; gso_size as in tcp_emit. Payload stays the caller's until link_flush. 0 or link_send's -errno. The
 * ECN bits are the segment's. IPv4 identification: the first wire segment's from `ip_id`, which moves on behind the
 * last. IPv6 flow label: the low 20 bits of `label`.
 */
int ip_send_tcp(struct link *l, const struct ip_path *path, const struct flow_key *key,
		const struct tcp_segment *seg, uint16_t gso_size, uint32_t label, uint16_t *ip_id);
/*
 * … and only built, to be given to link_send, and looked at: `out` points to the headers, LINK_HDR_MAX bytes, and to
 * the segment's payload.
 */
int ip_build_tcp(uint8_t *hdr, struct link_tx *out, const struct ip_path *path, const struct flow_key *key, const struct tcp_segment *seg, uint16_t gso_size,
		 uint32_t label, uint16_t *ip_id);
/* Whose frame it is, of headers that ip_build_tcp built, and the sequence number. False: it is not TCP. */
bool ip_read_built(const uint8_t *hdr, bool has_eth, struct flow_key *key, uint32_t *seq);
/* How many segments it is on the wire. */
static inline uint32_t ip_wire_segs(const struct tcp_segment *seg, uint16_t gso_size)
{
	return gso_size && seg->payload_len > gso_size ? (seg->payload_len + gso_size - 1) / gso_size : 1;
}

/* Bytes of headers between the MTU and the TCP payload: 40 or 60. */
static inline uint32_t ip_tcp_overhead(const struct ip_addr *a)
{
	return ip_addr_is_v4(a) ? 20 + TCP_HDR_MIN : 40 + TCP_HDR_MIN;
}

/* ---- demultiplexing: a keyed hash from 4-tuple to whatever owns it (ip/demux.c) ---- */

struct flow { /* embedded in its owner */
	struct flow *hash_next;
	struct flow_key key;
	uint32_t hash; /* of key; demux's */
};

/*
 * Hashes 4-tuples under a secret. It remembers the last one: a frame's is looked for in one table after the other, and
 * inserted in the end, and is hashed once for all of them.
 */
struct flow_hasher {
	uint8_t secret[16];
	struct flow_key last;
	uint32_t last_hash;
};

void flow_hasher_init(struct flow_hasher *h, const uint8_t secret[16]);
uint32_t flow_hash(struct flow_hasher *h, const struct flow_key *key);

struct demux {
	struct flow **buckets;
	uint32_t n_buckets, count; /* n_buckets: power of two */
	struct flow_hasher *hasher; /* the tables of an engine share it */
};

int demux_init(struct demux *d, struct flow_hasher *hasher); /* -ENOMEM */
void demux_fini(struct demux *d);
struct flow *demux_find(const struct demux *d, const struct flow_key *key); /* NULL: none */
int demux_insert(struct demux *d, struct flow *f); /* -EEXIST; grows itself */
void demux_remove(struct demux *d, struct flow *f);
/* The hash, for who shares no hasher. Pure. */
uint32_t flow_key_hash(const struct flow_key *key, const uint8_t secret[16]);

#endif
