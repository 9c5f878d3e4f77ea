/*
 * The receive window: what is advertised (RFC 9293 §3.8.6.2.2, silly window avoidance; SHLD-14, never shrunk), when an ACK tells of room, and how the
 * limits of both buffers follow the connection's speed.
 */
#include "tcp/tcp_int.h"

#define DRS_START_SEGS 10 /* a round's bytes above which the receive buffer starts to grow: the peer's initial window */
/* Bytes. A sender fills its window in bursts; what the packet ring has no slot for is lost: 2,048 slots (link/packet_rx.c) of a segment each are not more. */
#define AUTOTUNE_MOST  (UINT32_C(5) << 19)
#define DRS_SLACK_SEGS 16 /* room for what comes while the application is not scheduled; as Linux */

#define TRUESIZE_HEADERS 576   /* bytes: MAX_TCP_HEADER and skb_shared_info, of a kernel without tunnels */
#define TRUESIZE_DESCRIPTOR 256 /* bytes: struct sk_buff */

/* SO_RCVBUF counts what the kernel's TCP takes for a segment, headers and all; half of it is for the bytes, as Linux assumes before it has seen any. */
uint32_t window_space(uint32_t rcvbuf)
{
	return rcvbuf / 2;
}

/* What may wait unread. When memory is short it is half as much, but for a few segments; what was promised before stays promised. */
static uint32_t rcv_limit(const struct tcp_conn *c)
{
	uint32_t limit = window_space(c->rcvbuf_limit);
	if (c->options.window_clamp)
		limit = min_u32(limit, c->options.window_clamp);
	if (c->stack->memory->pressure)
		limit = max_u32(limit / 2, min_u32(limit, PRESSURE_SEGS * c->mss_advertised));
	return limit;
}

static uint32_t rcv_free(const struct tcp_conn *c)
{
	uint32_t limit = rcv_limit(c);
	return limit > c->rcv.len ? limit - c->rcv.len : 0;
}

/* MUST-39: the right edge stays until it can move by min(Fr * RCV.BUFF, Eff.snd.MSS), Fr = 1/2. */
static bool worth_moving(const struct tcp_conn *c, uint32_t cur, uint32_t room)
{
	return room > cur && room - cur >= min_u32(window_space(c->rcvbuf_limit) / 2, c->mss_advertised);
}

/* In units of the scale. An old edge that is no multiple is rounded up, or it would move back; but not without end. */
static uint32_t round_to_scale(const struct tcp_conn *c, uint32_t wnd, uint32_t cur, uint32_t room)
{
	uint32_t unit = UINT32_C(1) << c->rcv_wscale;
	uint32_t down = wnd & ~(unit - 1);
	if (down >= cur || down == wnd)
		return down;
	return down <= room ? down + unit : down;
}

/* Whole segments, as Linux; before the peer's SYN nobody knows whether they will have timestamps. */
uint16_t window_initial(const struct tcp_conn *c)
{
	uint32_t room = rcv_free(c), mss = c->mss_advertised - (c->ts_on && c->state != TCPS_SYN_SENT ? TCP_OPT_TS_BYTES : 0);
	if (room > mss)
		room -= room % mss;
	if (c->initial_rcv_segs)
		room = min_u32(room, c->initial_rcv_segs * mss);
	return min_u32(room, UINT16_MAX);
}

uint16_t window_advertise(struct tcp_conn *c, bool syn)
{
	uint32_t room = rcv_free(c);
	if (c->state == TCPS_SYN_SENT)
		return window_initial(c);
	unsigned scale = syn ? 0 : c->rcv_wscale; /* RFC 7323 §2.2: never scaled in a SYN */
	room = min_u32(room, (uint32_t)UINT16_MAX << scale);
	if (c->initial_rcv_segs) /* the route's: it grows with what arrives */
		room = min_u32(room, c->kept.established_us ? c->kept.rcv_ssthresh : window_initial(c));
	uint32_t cur = rcv_wnd(c);
	uint32_t wnd = cur;
	if (worth_moving(c, cur, room)) {
		wnd = room;
		c->read_since = 0;
	}
	if (scale)
		wnd = round_to_scale(c, wnd, cur, room);
	wnd = min_u32(wnd, (uint32_t)UINT16_MAX << scale);
	c->rcv_adv = seq_max(c->rcv_adv, c->rcv_nxt + wnd);
	return wnd >> scale;
}

/*
 * After a read: when the window at least doubles, by two segments or half the buffer (as Linux's tcp_cleanup_rbuf). And that by what was read: that
 * a SYN's 16 bits could not tell of more room is no reason for a segment, the next one that leaves has the scale.
 */
bool window_update_due(const struct tcp_conn *c)
{
	uint32_t step = min_u32(window_space(c->rcvbuf_limit) / 2, 2 * c->mss_advertised);
	if (c->read_since < step || c->peer_fin || c->state < TCPS_ESTABLISHED || c->state > TCPS_FIN_WAIT_2)
		return false;
	uint32_t room = min_u32(rcv_free(c), (uint32_t)UINT16_MAX << c->rcv_wscale);
	uint32_t cur = rcv_wnd(c);
	return room / 2 >= cur && room - cur >= step;
}

void window_release_rcv(struct tcp_conn *c)
{
	if (c->rcv.len == 0)
		ring_free(&c->rcv, c->stack->memory);
}

/* Dynamic right-sizing: twice what the application took in the last round trip, so that the peer's window may double. */
static void autotune_rcvbuf(struct tcp_conn *c)
{
	uint64_t space = c->drs_space ? c->drs_space : DRS_START_SEGS * c->mss_advertised;
	uint64_t copied = c->drs_copied;
	if (copied <= space || c->stack->memory->pressure)
		return;
	uint64_t want = 2 * copied + DRS_SLACK_SEGS * c->mss_advertised;
	want += want * (copied - space) / space; /* it accelerates: so does its sender, in slow start */
	uint64_t most = min_u32(window_space(c->stack->config.rcvbuf_max_bytes), (uint32_t)UINT16_MAX << c->rcv_wscale);
	most = min_u32(most, AUTOTUNE_MOST);
	if (want > most)
		want = most;
	c->rcvbuf_limit = max_u32(c->rcvbuf_limit, 2 * want);
	c->drs_space = copied;
}

void window_on_read(struct tcp_conn *c, int64_t now, uint32_t n)
{
	c->read_since = min_u32(c->read_since + n, INT32_MAX);
	c->drs_copied += n;
	if (now - c->drs_since < c->srtt_us)
		return;
	if (!c->options.user_rcvbuf && c->stack->config.moderate_rcvbuf)
		autotune_rcvbuf(c);
	c->drs_copied = 0;
	c->drs_since = now;
}

/*
 * What Linux reckons for a segment in its send buffer (tcp_sndbuf_expand): payload and headers in a power of two, and the descriptor. On a new
 * connection less room than Linux has shows: programs expect a first message of some tens of kilobytes to be taken at once.
 */
static uint32_t segment_truesize(const struct tcp_conn *c)
{
	uint32_t bytes = c->mss + TRUESIZE_HEADERS, size = 1;
	while (size < bytes)
		size *= 2;
	return size + TRUESIZE_DESCRIPTOR;
}

/* A congestion window in flight, and one being filled by the application; SO_SNDBUF tells what Linux's would. */
void window_grow_sndbuf(struct tcp_conn *c)
{
	if (c->options.user_sndbuf || c->stack->memory->pressure)
		return;
	uint32_t segs = max_u32(c->cwnd / max_u32(c->mss, 1), c->initial_window_segs), each = (c->cc->sndbuf_windows ? c->cc->sndbuf_windows : 2) * segment_truesize(c);
	uint32_t most = c->stack->config.sndbuf_max_bytes;
	c->sndbuf_limit = max_u32(c->sndbuf_limit, segs < most / each ? segs * each : most);
}
