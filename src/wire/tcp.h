/*
 * TCP header ↔ struct tcp_segment (RFC 9293 §3.1, options of RFC 7323, 2018, 5482's neighbours).
 *
 * Pure. A segment is in host byte order, options decoded. The same struct travels both ways:
 * tcp_parse fills it for the core's input, the core fills it for tcp_build.
 */
#ifndef FINESSE_WIRE_TCP_H
#define FINESSE_WIRE_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define SEG_FIN 0x01
#define SEG_SYN 0x02
#define SEG_RST 0x04
#define SEG_PSH 0x08
#define SEG_ACK 0x10
#define SEG_URG 0x20
#define SEG_ECE 0x40
#define SEG_CWR 0x80
#define SEG_AE  0x100 /* RFC 9768 */
#define SEG_RESERVED 0xe00

/* RFC 3168 §5: ECN codepoints. */
#define ECN_NOT_ECT 0
#define ECN_ECT_1   1
#define ECN_ECT_0   2
#define ECN_CE      3

#define TCP_HDR_MIN     20 /* bytes, RFC 9293 §3.1 */
#define TCP_HDR_MAX     60 /* data offset is 4 bits of 32-bit words */
#define TCP_SACK_BLOCKS 4  /* most that fit into 40 bytes of options (RFC 2018 §3) */

/* Which options a segment carries: bits of tcp_segment.has. */
#define SEG_HAS_MSS            0x01
#define SEG_HAS_WSCALE         0x02
#define SEG_HAS_SACK_PERMITTED 0x04
#define SEG_HAS_TIMESTAMPS     0x08
#define SEG_HAS_CLOSE_CAPABLE  0x10 /* tcp/close_request.c */
#define SEG_HAS_CLOSE_REQUEST  0x20 /* … or its echo */
#define SEG_HAS_FASTOPEN       0x40 /* RFC 7413's option, of a SYN: `cookie`; none is a request for one */
#define SEG_HAS_FASTOPEN_OLD   0x80 /* … the same as the experimental option that it was before it had a number; one of the two */
#define SEG_HAS_SIGNATURE      0x100 /* RFC 2385's, which nobody looks at here; of what came only */

#define SEG_COOKIE_MIN 4  /* bytes, RFC 7413 §4.1.1 */
#define SEG_COOKIE_MAX 16

struct sack_block {
	uint32_t left, right; /* [left, right) */
};

struct tcp_segment {
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint16_t window; /* as on the wire, not scaled */
	uint16_t urgent;
	uint16_t flags; /* SEG_* */
	uint16_t has;  /* SEG_HAS_* */
	uint8_t wscale;
	uint8_t n_sack;
	uint8_t ecn;   /* the two bits of the IP header that carries it (RFC 3168 §5); ECN_* */
	uint16_t mss;
	uint16_t gso_size; /* of a super-segment that came: the text of each segment that it was made of. 0: it is one */
	uint32_t ts_val, ts_ecr;
	uint32_t close_seq;
	uint8_t cookie_len;    /* bytes at `cookie`, with SEG_HAS_FASTOPEN… */
	const uint8_t *cookie; /* whoever made the segment has them: of what came, they lie in the packet */
	struct sack_block sack[TCP_SACK_BLOCKS];
	/* Payload: input uses payload[0] only; output up to two pieces (a ring that wraps). */
	struct iovec payload[2];
	uint32_t payload_len; /* bytes over both pieces */
};

/*
 * Header and options from `len` bytes at `bytes` (the whole TCP part of the packet); payload points
 * into `bytes`. Malformed options beyond the fixed header are skipped as RFC 9293 MUST-7/64 ask:
 * an unknown kind by its length; a length that lies ends option processing.
 * 0, or -EBADMSG when the fixed header or data offset does not fit.
 */
int tcp_parse(const uint8_t *bytes, size_t len, struct tcp_segment *seg);

/*
 * Header with options into `out` (TCP_HDR_MAX bytes), checksum field zero. Returns the header's
 * length, a multiple of 4. Option order is Linux's: MSS, SACK-permitted, timestamps, wscale,
 * close request, SACK, Fast Open's cookie.
 * SACK blocks that do not fit are left out, and so is a cookie.
 */
size_t tcp_build(const struct tcp_segment *seg, uint8_t out[TCP_HDR_MAX]);

#endif
