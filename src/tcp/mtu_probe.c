/*
 * Packetization layer path MTU discovery (RFC 4821, RFC 8899 for other transports), as Linux's:
 * net.ipv4.tcp_mtu_probing, tcp_base_mss, tcp_mtu_probe_floor, tcp_probe_threshold, tcp_probe_interval.
 *
 * Where it is on, segments are no larger than search_low, which the path is known to take. Now and then one in the
 * middle between search_low and search_high leaves as a probe, with enough behind it that its loss is found by SACK.
 * Its ACK makes search_low larger; its loss makes search_high smaller, and is no congestion. tcp_mtu_probing 2: from
 * the start, at tcp_base_mss; who was called has settled the size of its segments by then, as in Linux, and keeps it
 * until a probe arrives. 1: when timeouts say that the path swallows large segments (RFC 4821 §7.7): then each makes
 * search_low half as large.
 *
 * Sizes here are `room`: what an IP packet has for text and TCP options. Owns c->mtu; no timer, no memory.
 */
#include "tcp/tcp_int.h"

#define PROBE_CWND_SEGS 11               /* Linux: from so much on a window has a segment to spare */
#define RTO_MIN_US      (200 * USEC_PER_MSEC) /* Linux's TCP_RTO_MIN, in whose terms tcp_retries1 is a time */
#define HEADER_V4       (20 + TCP_HDR_MIN)
#define HEADER_V6       (40 + TCP_HDR_MIN)

static uint32_t option_bytes(const struct tcp_conn *c)
{
	return c->ts_on ? TCP_OPT_TS_BYTES : 0;
}

static uint32_t header_bytes(const struct tcp_conn *c)
{
	return ip_addr_is_v4(&c->key.raddr) ? HEADER_V4 : HEADER_V6;
}

/* The text of a segment that needs `room`; no more than the peer takes. */
static uint32_t text_in(const struct tcp_conn *c, uint32_t room)
{
	room = min_u32(room, c->mss_peer);
	if (c->options.maxseg)
		room = min_u32(room, c->options.maxseg);
	return max_u32(room, c->stack->config.min_snd_mss) - option_bytes(c);
}

static void begin(struct tcp_conn *c, int64_t now, uint32_t low)
{
	uint32_t clamp = c->options.maxseg ? min_u32(c->mss_peer, c->options.maxseg) : c->mss_peer;
	c->mtu.high = c->passive ? clamp : min_u32(clamp, c->mss_path);
	c->mtu.low = low;
	c->mtu.probe = 0;
	c->mtu.at_us = now;
}

void mtu_probe_init(struct tcp_conn *c, int64_t now)
{
	begin(c, now, c->stack->config.base_mss + option_bytes(c));
	c->mtu.on = c->stack->config.mtu_probing > 1;
	c->mtu.settled = c->passive ? c->mss + option_bytes(c) : 0;
}

uint32_t mtu_probe_bound(const struct tcp_conn *c, uint32_t room)
{
	uint32_t known = max_u32(c->mtu.low, c->mtu.settled);
	return c->mtu.on ? min_u32(room, max_u32(known, c->stack->config.min_snd_mss)) : room;
}

/* The size of segments is another one. */
static void resize(struct tcp_conn *c)
{
	uint32_t mss = c->mss;
	negotiate_mss(c);
	if (c->mss != mss)
		sent_forget_segments(&c->sent);
}

static bool is_quiet(const struct tcp_conn *c)
{
	return c->loss == TCP_LOSS_OPEN && !c->cwr && !c->sacked_bytes && !c->ooo.n && c->dsack.left == c->dsack.right;
}

enum mtu_probe_says mtu_probe_next(const struct tcp_conn *c, struct out *o)
{
	const struct tcp_mtu *m = &c->mtu;
	if (!m->on || m->probe || !is_quiet(c) || c->cwnd < PROBE_CWND_SEGS * c->mss || SEQ_GT(c->snd_up, c->snd_nxt) || c->eor.n || m->high < m->low)
		return MTU_PROBE_NO;
	uint32_t room = (m->high + m->low + 2 * header_bytes(c)) / 2 - header_bytes(c), len = text_in(c, room), needed = len + (c->kept.reordering + 1) * c->mss;
	if (len > text_in(c, m->high) || m->high - m->low < c->stack->config.probe_threshold || len + option_bytes(c) > c->mss_path)
		return MTU_PROBE_NO;
	if (snd_unsent(c) < needed || c->snd_wnd < needed)
		return MTU_PROBE_NO;
	if (SEQ_GT(c->snd_nxt + needed, c->snd_una + c->snd_wnd))
		return MTU_PROBE_LATER;
	uint32_t pipe = recovery_pipe(c);
	if (pipe + 2 * c->mss > c->cwnd)
		return pipe ? MTU_PROBE_LATER : MTU_PROBE_NO;
	*o = (struct out){.kind = OUT_DATA, .seq = c->snd_nxt, .len = len, .probe = true};
	return MTU_PROBE_NOW;
}

void mtu_probe_sent(struct tcp_conn *c, uint32_t seq, uint32_t len)
{
	c->cwnd -= c->mss; /* Linux: what it is larger than others is paid for */
	c->mtu.probe = len + option_bytes(c);
	c->mtu.start = seq;
	c->mtu.end = seq + len;
	sent_forget_segments(&c->sent);
	TCP_COUNT(c, MtuProbes);
}

static void succeeded(struct tcp_conn *c, uint32_t acked)
{
	uint32_t before = c->mss, header = header_bytes(c) + option_bytes(c);
	uint64_t segs = (uint64_t)(c->cwnd / before) * (before + header) / (c->mtu.probe + header_bytes(c));
	if (c->ssthresh != TCP_SSTHRESH_INITIAL)
		c->ssthresh = max_u32(c->ssthresh, c->cwnd / 4 * 3);
	c->mtu.low = c->mtu.probe;
	c->mtu.probe = c->mtu.settled = 0;
	resize(c);
	c->cwnd = max_u32(segs, 1) * c->mss; /* as many bytes, about */
	c->flight_max = (uint64_t)c->flight_max * c->mss / before;
	if (c->mss > before) /* as Linux, for which this ACK's segments, of the size before, open the window by as many of the new size */
		c->mtu.more_acked = (uint64_t)acked * (c->mss - before) / before;
	c->cwnd_acked = 0;
	TCP_COUNT(c, MtuProbesGood);
}

void mtu_probe_on_ack(struct tcp_conn *c, int64_t now, uint32_t acked)
{
	struct tcp_mtu *m = &c->mtu;
	if (!m->on)
		return;
	m->more_acked = 0;
	if (m->probe && SEQ_GEQ(c->snd_una, m->end))
		succeeded(c, acked);
	if (!m->probe && now - m->at_us >= c->stack->config.probe_interval_us) /* the path may have become another one */
		begin(c, now, c->mss + option_bytes(c));
}

bool mtu_probe_failed(struct tcp_conn *c)
{
	struct tcp_mtu *m = &c->mtu;
	if (!m->probe || c->snd_una != m->start)
		return false;
	m->high = m->probe - 1;
	m->probe = 0;
	c->cwnd += c->mss;
	return true;
}

/* Linux's retransmits_timed_out(), by which tcp_retries1 is the time that so many doublings take. */
static bool is_long(const struct tcp_conn *c, int64_t now)
{
	unsigned n = min_u32(c->stack->config.retries1, 20);
	return c->stall_at != TIME_NEVER && now - c->stall_at >= ((INT64_C(2) << n) - 1) * RTO_MIN_US;
}

void mtu_probe_on_rto(struct tcp_conn *c, int64_t now)
{
	struct tcp_mtu *m = &c->mtu;
	const struct tcp_config *config = &c->stack->config;
	if (!config->mtu_probing || !tcp_is_synchronized(c) || !is_long(c, now))
		return;
	m->settled = 0;
	if (!m->on) {
		m->on = true;
		m->at_us = now;
	} else {
		uint32_t half = min_u32(config->base_mss, text_in(c, m->low) / 2);
		m->low = max_u32(max_u32(half, config->mtu_probe_floor), config->min_snd_mss) + option_bytes(c);
	}
	resize(c);
}
