#include "wire/tcp.h"

#include <errno.h>
#include <string.h>

#include "wire/bytes.h"

/* Option kinds and lengths (RFC 9293 §3.2, RFC 7323, RFC 2018). */
#define OPT_END            0
#define OPT_NOP            1
#define OPT_MSS            2
#define OPT_WSCALE         3
#define OPT_SACK_PERMITTED 4
#define OPT_SACK           5
#define OPT_TIMESTAMPS     8
#define OPT_MD5            19 /* RFC 2385 */
#define OPT_FASTOPEN       34  /* RFC 7413 §4.1.1 */
#define OPT_EXPERIMENT     253 /* RFC 4727, RFC 6994 */
#define OPT_EXPERIMENT_2   254
#define EXID_FASTOPEN      0xf989 /* RFC 7413, before it had a number; Linux still speaks it */
#define EXID_CLOSE_REQUEST 0xf1fe /* not registered */
#define LEN_CLOSE_CAPABLE  4
#define LEN_CLOSE_REQUEST  8
#define LEN_FASTOPEN       2
#define LEN_FASTOPEN_OLD   4
#define LEN_MSS            4
#define LEN_WSCALE         3
#define LEN_SACK_PERMITTED 2
#define LEN_SACK_BASE      2
#define LEN_SACK_BLOCK     8
#define LEN_TIMESTAMPS     10

#define WSCALE_MAX 14 /* RFC 7323 §2.3: a larger shift is taken as 14 */

/* NOP NOP TIMESTAMPS 10: how RFC 7323 appendix A lays out the only option of most segments. */
#define ALIGNED_TIMESTAMPS 0x0101080a

static void parse_timestamps(const uint8_t *value, struct tcp_segment *seg)
{
	seg->has |= SEG_HAS_TIMESTAMPS;
	seg->ts_val = load_be32(value);
	seg->ts_ecr = load_be32(value + 4);
}

static void parse_sack(const uint8_t *value, size_t len, struct tcp_segment *seg)
{
	if (len % LEN_SACK_BLOCK || len > TCP_SACK_BLOCKS * LEN_SACK_BLOCK)
		return;
	seg->n_sack = len / LEN_SACK_BLOCK;
	for (unsigned i = 0; i < seg->n_sack; i++) {
		seg->sack[i].left = load_be32(value + i * LEN_SACK_BLOCK);
		seg->sack[i].right = load_be32(value + i * LEN_SACK_BLOCK + 4);
	}
}

static void parse_experiment(const uint8_t *opt, uint8_t len, struct tcp_segment *seg)
{
	if (len < LEN_CLOSE_CAPABLE || load_be16(opt + 2) != EXID_CLOSE_REQUEST)
		return;
	if (len == LEN_CLOSE_CAPABLE) {
		seg->has |= SEG_HAS_CLOSE_CAPABLE;
	} else if (len == LEN_CLOSE_REQUEST) {
		seg->has |= SEG_HAS_CLOSE_REQUEST;
		seg->close_seq = load_be32(opt + 4);
	}
}

/*
 * As Linux: in a SYN, and of an even length. A cookie of a length that none has is as if the option were not there,
 * whatever was before.
 */
static void parse_fastopen(const uint8_t *cookie, size_t len, uint8_t has, struct tcp_segment *seg)
{
	if (!(seg->flags & SEG_SYN) || len % 2)
		return;
	seg->has &= ~(SEG_HAS_FASTOPEN | SEG_HAS_FASTOPEN_OLD);
	if (len && (len < SEG_COOKIE_MIN || len > SEG_COOKIE_MAX))
		return;
	seg->has |= has;
	seg->cookie = cookie;
	seg->cookie_len = len;
}

/* One option with its length byte checked. A known kind of a wrong length is passed over. */
static void parse_option(const uint8_t *opt, uint8_t len, struct tcp_segment *seg)
{
	switch (opt[0]) {
	case OPT_MSS:
		if (len == LEN_MSS) {
			seg->has |= SEG_HAS_MSS;
			seg->mss = load_be16(opt + 2);
		}
		break;
	case OPT_WSCALE:
		if (len == LEN_WSCALE) {
			seg->has |= SEG_HAS_WSCALE;
			seg->wscale = opt[2] < WSCALE_MAX ? opt[2] : WSCALE_MAX;
		}
		break;
	case OPT_SACK_PERMITTED:
		if (len == LEN_SACK_PERMITTED)
			seg->has |= SEG_HAS_SACK_PERMITTED;
		break;
	case OPT_SACK:
		parse_sack(opt + LEN_SACK_BASE, len - LEN_SACK_BASE, seg);
		break;
	case OPT_TIMESTAMPS:
		if (len == LEN_TIMESTAMPS)
			parse_timestamps(opt + 2, seg);
		break;
	case OPT_MD5:
		seg->has |= SEG_HAS_SIGNATURE;
		break;
	case OPT_EXPERIMENT:
		parse_experiment(opt, len, seg);
		break;
	case OPT_FASTOPEN:
		parse_fastopen(opt + LEN_FASTOPEN, len - LEN_FASTOPEN, SEG_HAS_FASTOPEN, seg);
		break;
	case OPT_EXPERIMENT_2:
		if (len >= LEN_FASTOPEN_OLD && load_be16(opt + 2) == EXID_FASTOPEN)
			parse_fastopen(opt + LEN_FASTOPEN_OLD, len - LEN_FASTOPEN_OLD, SEG_HAS_FASTOPEN_OLD, seg);
		break;
	default: /* RFC 9293 MUST-6: ignored without error */
		break;
	}
}

static void parse_options(const uint8_t *opt, size_t len, struct tcp_segment *seg)
{
	if (len == 12 && load_be32(opt) == ALIGNED_TIMESTAMPS) {
		parse_timestamps(opt + 4, seg);
		return;
	}
	while (len && *opt != OPT_END) {
		if (*opt == OPT_NOP) {
			opt++;
			len--;
			continue;
		}
		/* RFC 9293 MUST-7: an illegal length must not crash; what follows cannot be trusted. */
		if (len < 2 || opt[1] < 2 || opt[1] > len)
			return;
		parse_option(opt, opt[1], seg);
		len -= opt[1];
		opt += opt[1];
	}
}

int tcp_parse(const uint8_t *bytes, size_t len, struct tcp_segment *seg)
{
	size_t header_len;

	if (len < TCP_HDR_MIN)
		return -EBADMSG;
	header_len = (size_t)(bytes[12] >> 4) * 4;
	if (header_len < TCP_HDR_MIN || header_len > len)
		return -EBADMSG;
	seg->sport = load_be16(bytes);
	seg->dport = load_be16(bytes + 2);
	seg->seq = load_be32(bytes + 4);
	seg->ack = load_be32(bytes + 8);
	seg->flags = load_be16(bytes + 12) & (SEG_RESERVED | SEG_AE | 0xff);
	seg->window = load_be16(bytes + 14);
	seg->urgent = load_be16(bytes + 18);
	seg->has = 0;
	seg->wscale = 0;
	seg->n_sack = 0;
	seg->ecn = ECN_NOT_ECT; /* who knows the IP header sets it */
	seg->mss = seg->gso_size = 0; /* … and the link's frame */
	seg->ts_val = seg->ts_ecr = seg->close_seq = 0;
	seg->cookie = NULL;
	seg->cookie_len = 0;
	if (header_len > TCP_HDR_MIN)
		parse_options(bytes + TCP_HDR_MIN, header_len - TCP_HDR_MIN, seg);
	seg->payload[0].iov_base = (void *)(bytes + header_len);
	seg->payload[0].iov_len = len - header_len;
	seg->payload[1].iov_base = NULL;
	seg->payload[1].iov_len = 0;
	seg->payload_len = len - header_len;
	return 0;
}

static uint8_t *build_sack(const struct tcp_segment *seg, uint8_t *p, size_t room)
{
	unsigned fit = (room - 4) / LEN_SACK_BLOCK; /* the other options take 28 of 40 bytes at most */
	unsigned n = seg->n_sack < fit ? seg->n_sack : fit;

	if (n == 0)
		return p;
	*p++ = OPT_NOP;
	*p++ = OPT_NOP;
	*p++ = OPT_SACK;
	*p++ = LEN_SACK_BASE + n * LEN_SACK_BLOCK;
	for (unsigned i = 0; i < n; i++, p += LEN_SACK_BLOCK) {
		store_be32(p, seg->sack[i].left);
		store_be32(p + 4, seg->sack[i].right);
	}
	return p;
}

static uint8_t *build_experiment(const struct tcp_segment *seg, uint8_t *p)
{
	bool request = seg->has & SEG_HAS_CLOSE_REQUEST;
	*p++ = OPT_EXPERIMENT;
	*p++ = request ? LEN_CLOSE_REQUEST : LEN_CLOSE_CAPABLE;
	store_be16(p, EXID_CLOSE_REQUEST);
	p += 2;
	if (request) {
		store_be32(p, seg->close_seq);
		p += 4;
	}
	return p;
}

static uint8_t *build_fastopen(const struct tcp_segment *seg, uint8_t *p, size_t room)
{
	bool old = seg->has & SEG_HAS_FASTOPEN_OLD;
	size_t len = (old ? LEN_FASTOPEN_OLD : LEN_FASTOPEN) + seg->cookie_len;
	if (!(seg->has & (SEG_HAS_FASTOPEN | SEG_HAS_FASTOPEN_OLD)) || (len + 3) / 4 * 4 > room)
		return p;
	*p++ = old ? OPT_EXPERIMENT_2 : OPT_FASTOPEN;
	*p++ = len;
	if (old) {
		store_be16(p, EXID_FASTOPEN);
		p += 2;
	}
	if (seg->cookie_len)
		memcpy(p, seg->cookie, seg->cookie_len);
	p += seg->cookie_len;
	for (; len % 4; len++)
		*p++ = OPT_NOP;
	return p;
}

/*
 * Options from `p`, each padded in front to 32 bits as Linux does; SACK-permitted and timestamps share their padding.
 */
static uint8_t *build_options(const struct tcp_segment *seg, uint8_t *p, const uint8_t *end)
{
	if (seg->has & SEG_HAS_MSS) {
		*p++ = OPT_MSS;
		*p++ = LEN_MSS;
		store_be16(p, seg->mss);
		p += 2;
	}
	if (seg->has & (SEG_HAS_SACK_PERMITTED | SEG_HAS_TIMESTAMPS)) {
		bool both = (seg->has & SEG_HAS_SACK_PERMITTED) && (seg->has & SEG_HAS_TIMESTAMPS);
		*p++ = both ? OPT_SACK_PERMITTED : OPT_NOP;
		*p++ = both ? LEN_SACK_PERMITTED : OPT_NOP;
		if (seg->has & SEG_HAS_TIMESTAMPS) {
			*p++ = OPT_TIMESTAMPS;
			*p++ = LEN_TIMESTAMPS;
			store_be32(p, seg->ts_val);
			store_be32(p + 4, seg->ts_ecr);
			p += 8;
		} else {
			*p++ = OPT_SACK_PERMITTED;
			*p++ = LEN_SACK_PERMITTED;
		}
	}
	if (seg->has & SEG_HAS_WSCALE) {
		*p++ = OPT_NOP;
		*p++ = OPT_WSCALE;
		*p++ = LEN_WSCALE;
		*p++ = seg->wscale;
	}
	if (seg->has & (SEG_HAS_CLOSE_CAPABLE | SEG_HAS_CLOSE_REQUEST))
		p = build_experiment(seg, p);
	p = build_sack(seg, p, end - p);
	return build_fastopen(seg, p, end - p);
}

size_t tcp_build(const struct tcp_segment *seg, uint8_t out[TCP_HDR_MAX])
{
	size_t header_len = build_options(seg, out + TCP_HDR_MIN, out + TCP_HDR_MAX) - out;

	store_be16(out, seg->sport);
	store_be16(out + 2, seg->dport);
	store_be32(out + 4, seg->seq);
	store_be32(out + 8, seg->ack);
	store_be16(out + 12, header_len / 4 << 12 | seg->flags);
	store_be16(out + 14, seg->window);
	store_be16(out + 16, 0);
	store_be16(out + 18, seg->urgent);
	return header_len;
}
