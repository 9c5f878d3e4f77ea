/*
 * The receive window: what is advertised (RFC 9293 §3.8.6.2.2, silly window avoidance; SHLD-14, never shrunk, unless
 * tcp_shrink_window says so), when an ACK tells of room, and how the limits of both buffers follow the connection's
 * speed.
 */
#include "tcp/tcp_int.h"

/*
 * Bytes. A sender fills its window in bursts; what the packet ring has no slot for is lost: 2,048 slots
 * (link/packet_rx.c) of a segment each are not more.
 */
#define AUTOTUNE_MOST  (UINT32_C(5) << 19)
#define DRS_SLACK_SEGS 16 /* room for what comes while the application is not scheduled; as Linux */

#define NEARLY_FULL 16 /* less than such a part is no room */
/*
 * A round is not shorter: on a fast path one read would be a round, and however fast it is, it takes no more than it
 * asks for. As Linux, which measures by timestamps.
 */
#define DRS_ROUND_LEAST_US USEC_PER_MSEC

#define TRUESIZE_HEADERS 576   /* bytes: MAX_TCP_HEADER and skb_shared_info, of a kernel without tunnels */
#define TRUESIZE_DESCRIPTOR 256 /* bytes: struct sk_buff */

#define SNDBUF_CACHED_BYTES (UINT32_C(1) << 20) /* with the frames that carry them, what a processor's own cache holds */
#define NEAR_US             100 /* on this host, or on a network as fast */
#define NEAR_LOADED_US      10000 /* … with what waits on the way, and until somebody is given a processor: some ms were seen */

#define RATIO_UNIT     256 /* rcv_ratio's */
#define SKB_HEADERS    424 /* bytes beside the text in a small buffer of the kernel's: headers, headroom, struct skb_shared_info */
#define SKB_PAGE       4096
#define OOO_COUNTED    16  /* ranges: to add up more at each segment is too much */

/*
 * SO_RCVBUF counts what the kernel's TCP takes for a segment, headers and all; half of it is for the bytes, as Linux
 * assumes before it has seen any.
 */
uint32_t window_space(uint32_t rcvbuf)
{
	return rcvbuf / 2;
}

/* The same after it has seen segments: Linux's tcp_win_from_space. */
uint32_t window_of(const struct tcp_conn *c)
{
	return c->rcv_ratio ? (uint64_t)c->rcvbuf_limit * c->rcv_ratio / RATIO_UNIT : window_space(c->rcvbuf_limit);
}

/*
 * The memory that Linux takes for a segment of this length: a small one lies in a power of two, a large one in pages.
 */
static uint32_t rcv_truesize(uint32_t len)
{
	uint32_t size = 512;
	if (len + SKB_HEADERS > SKB_PAGE)
		return (len + SKB_HEADERS + SKB_PAGE - 1) / SKB_PAGE * SKB_PAGE + TRUESIZE_DESCRIPTOR;
	while (size < len + SKB_HEADERS)
		size *= 2;
	return size + TRUESIZE_DESCRIPTOR;
}

/* Linux's tcp_set_window_clamp: the most that the threshold may become, until something else says so. */
static void set_clamp(struct tcp_conn *c, uint32_t clamp)
{
	uint32_t before = c->kept.rcv_clamp, *threshold = &c->kept.rcv_ssthresh;
	c->kept.rcv_clamp = clamp;
	if (clamp < before)
		*threshold = min_u32(*threshold, clamp);
	else
		*threshold = max_u32(*threshold, min_u32(c->rcv_adv - c->rcv_wup, clamp));
}

/* Linux's tcp_set_rcvlowat: so much has to fit in, or who waits for it waits for ever. */
void window_fits_lowat(struct tcp_conn *c)
{
	uint64_t rcvbuf = (uint64_t)c->options.rcvlowat_bytes * RATIO_UNIT / (c->rcv_ratio ? c->rcv_ratio : RATIO_UNIT / 2);
	if (c->options.user_rcvbuf || rcvbuf <= c->rcvbuf_limit)
		return;
	c->rcvbuf_limit = min_u32(rcvbuf, INT32_MAX);
	if (c->kept.rcv_ssthresh && c->kept.rcv_clamp < c->options.rcvlowat_bytes)
		c->kept.rcv_clamp = c->options.rcvlowat_bytes;
}

void tcp_set_window_clamp(struct tcp_conn *c, uint32_t bytes)
{
	if (c->kept.rcv_ssthresh)
		set_clamp(c, bytes);
}

uint32_t tcp_window_clamp(const struct tcp_conn *c)
{
	if (c->kept.rcv_ssthresh)
		return c->kept.rcv_clamp;
	return c->options.window_clamp || !tcp_is_opening(c) ? c->options.window_clamp : (uint32_t)UINT16_MAX << c->rcv_wscale;
}

/* What the buffer has room for now; what the program said of it (TCP_WINDOW_CLAMP) is over, as in Linux. */
static void clamp_anew(struct tcp_conn *c)
{
	c->options.window_clamp = 0;
	set_clamp(c, window_of(c));
}

/* Unlike Linux not below a half for small ones: they take no more memory than their bytes here. */
void window_saw(struct tcp_conn *c, uint32_t len)
{
	uint32_t ratio = (uint64_t)len * RATIO_UNIT / rcv_truesize(len), before = c->rcv_ratio ? c->rcv_ratio : RATIO_UNIT / 2;
	c->rcv_ratio = min_u32(len < TCP_MSS_DEFAULT_V4 ? max_u32(ratio, RATIO_UNIT / 2) : ratio, UINT8_MAX);
	if (c->kept.rcv_ssthresh && c->rcv_ratio != before)
		clamp_anew(c);
}

/* Of a segment's memory, what counts as text by the ratio so far. */
uint32_t window_share(const struct tcp_conn *c, uint32_t len)
{
	return (uint64_t)rcv_truesize(len) * (c->rcv_ratio ? c->rcv_ratio : RATIO_UNIT / 2) / RATIO_UNIT;
}

/*
 * What may wait unread. When memory is short it is half as much, but for a few segments; what was promised before stays
 * promised.
 */
static uint32_t rcv_limit(const struct tcp_conn *c)
{
	uint32_t limit = window_of(c);
	if (c->options.window_clamp && !c->kept.rcv_ssthresh) /* which has it from then on */
		limit = min_u32(limit, c->options.window_clamp);
	if (c->stack->memory->pressure)
		limit = max_u32(limit / 2, min_u32(limit, PRESSURE_SEGS * c->mss_advertised));
	return limit;
}

/*
 * Text out of order takes room, too. Unlike in Linux not once the buffer grew by itself: a burst of losses would hold a
 * fast sender up for its length.
 */
static uint32_t rcv_used(const struct tcp_conn *c)
{
	bool counts = c->ooo.n && c->ooo.n <= OOO_COUNTED && !c->drs_space;
	return c->rcv.len + (counts ? ranges_total(&c->ooo) : 0);
}

uint32_t window_free(const struct tcp_conn *c)
{
	uint32_t limit = rcv_limit(c), used = rcv_used(c);
	return limit > used ? limit - used : 0;
}

/*
 * Where the scale's units do not round it: whole segments, but what was told last is told again while it is within a
 * segment of the room (as Linux).
 */
static uint32_t unscaled(const struct tcp_conn *c, uint32_t room)
{
	uint32_t told = c->rcv_adv - c->rcv_wup, mss = c->rcv_mss;
	if (told >= mss && told <= room && told + mss > room)
		return told;
	return room > mss ? room - room % mss : room;
}

/*
 * What may be told of it: no more than the threshold, which grows with what comes, so that a peer's first burst does
 * not fill the buffer (as Linux).
 */
static uint32_t rcv_offer(const struct tcp_conn *c)
{
	uint32_t room = window_free(c), most = (uint32_t)UINT16_MAX << c->rcv_wscale;
	if (c->kept.rcv_ssthresh)
		room = min_u32(room, c->kept.rcv_ssthresh);
	else if (c->state == TCPS_SYN_RECEIVED && !c->passive) /* what the SYN said */
		room = min_u32(room, c->rcv_adv - c->rcv_wup);
	if (!c->rcv_wscale)
		room = unscaled(c, room);
	return min_u32(room, most);
}

/*
 * MUST-39: the right edge stays until it can move by min(Fr * RCV.BUFF, Eff.snd.MSS), Fr = 1/2; but with half of the
 * buffer free there are no slivers. As Linux it stays also until a sixteenth of the buffer is free: a program that is
 * slower than its peer, and reads in small pieces, would have each piece filled by a segment of its own, with an ACK
 * for each.
 */
static bool worth_moving(const struct tcp_conn *c, uint32_t cur, uint32_t room)
{
	uint32_t half = window_of(c) / 2;
	if (room < half && window_free(c) < rcv_limit(c) / NEARLY_FULL)
		return false;
	if (!c->rcv_wscale && room >= c->rcv_mss)
		return room > cur; /* whole segments, or what was told last */
	return room > cur && (room >= half || room - cur >= min_u32(half, min_u32(c->rcv_mss, c->mss_advertised)));
}

/* In units of the scale. An old edge that is no multiple is rounded up, or it would move back; but not without end. */
static uint32_t round_to_scale(const struct tcp_conn *c, uint32_t wnd, uint32_t cur)
{
	uint32_t unit = UINT32_C(1) << c->rcv_wscale;
	uint32_t down = wnd & ~(unit - 1);
	if (down == wnd)
		return down;
	if (wnd > cur) /* it moves by more than that: rounded up, as Linux, where it is no sliver */
		return wnd >= window_of(c) / 2 ? down + unit : down > cur ? down : cur;
	return down + rcv_used(c) <= c->rcvbuf_limit ? down + unit : down;
}

/*
 * Whole segments, as Linux; before the peer's SYN nobody knows whether they will have timestamps, unless by a
 * connection before.
 */
static uint32_t initial(const struct tcp_conn *c, bool ts)
{
	uint32_t room = window_free(c), mss = c->by_cookie ? c->mss_peer : c->mss_advertised - (ts ? TCP_OPT_TS_BYTES : 0);
	if (room > mss)
		room -= room % mss;
	if (c->initial_rcv_segs)
		room = min_u32(room, c->initial_rcv_segs * mss);
	return min_u32(room, (uint32_t)UINT16_MAX << c->rcv_wscale);
}

uint32_t window_initial(const struct tcp_conn *c)
{
	return initial(c, c->ts_on && (c->state != TCPS_SYN_SENT || c->reuses));
}

uint32_t tcp_first_window(const struct tcp_conn *c)
{
	return initial(c, c->ts_on && c->reuses);
}

/*
 * Linux's tcp_shrink_window: what there is room for, even if more was told. (The scale's unit, or the whole segment
 * that is left, may be told as nothing.)
 */
static uint32_t window_now(struct tcp_conn *c)
{
	uint32_t unit = UINT32_C(1) << c->rcv_wscale, full = rcv_limit(c), room = window_free(c) & ~(unit - 1), threshold = c->kept.rcv_ssthresh;
	if (room < full / 2) {
		c->quickacks = 0;
		if (room < window_of(c) / NEARLY_FULL || room < min_u32(c->rcv_mss, full) || room < unit)
			return 0;
	}
	if (threshold && room > threshold)
		room = (threshold + unit - 1) & ~(unit - 1);
	return min_u32(room, (uint32_t)UINT16_MAX << c->rcv_wscale);
}

uint16_t window_advertise(struct tcp_conn *c, bool syn)
{
	if (c->state == TCPS_SYN_SENT)
		return min_u32(tcp_first_window(c), UINT16_MAX);
	if (syn) /* RFC 7323 §2.2: never scaled; and the same whenever it goes again */
		return min_u32(rcv_wnd(c), UINT16_MAX);
	unsigned scale = c->rcv_wscale;
	if (tcp_is_closed_late(c)) { /* Linux has forgotten the buffer by then: what was told last */
		uint32_t told = c->rcv_adv - c->rcv_wup;
		c->rcv_adv = seq_max(c->rcv_adv, c->rcv_nxt + told);
		return told >> scale;
	}
	if (c->stack->config.shrink_window && scale) {
		uint32_t wnd = window_now(c);
		c->read_since = 0; /* it is told, whatever it is: else what is due would be due again */
		c->rcv_adv = c->rcv_nxt + wnd;
		return wnd >> scale;
	}
	uint32_t room = rcv_offer(c);
	if (c->initial_rcv_segs && !c->kept.rcv_ssthresh) /* the route's: it grows with what arrives */
		room = min_u32(room, window_initial(c));
	uint32_t cur = rcv_wnd(c);
	uint32_t wnd = cur;
	if (worth_moving(c, cur, room)) {
		wnd = room;
		c->read_since = 0;
	}
	if (scale)
		wnd = round_to_scale(c, wnd, cur);
	wnd = min_u32(wnd, (uint32_t)UINT16_MAX << scale);
	c->rcv_adv = seq_max(c->rcv_adv, c->rcv_nxt + wnd);
	return wnd >> scale;
}

bool window_is_half_used(const struct tcp_conn *c)
{
	return window_free(c) < rcv_limit(c) / 2;
}

bool window_keeps(const struct tcp_conn *c)
{
	return rcv_offer(c) >= c->rcv_adv - c->rcv_wup;
}

/*
 * After a read: when the window at least doubles, by a segment or half the buffer, or opens at all (as Linux's
 * tcp_cleanup_rbuf). And that by what was read: that a SYN's 16 bits could not tell of more room is no reason for a
 * segment, the next one that leaves has the scale.
 */
bool window_update_due(const struct tcp_conn *c)
{
	uint32_t cur = rcv_wnd(c), step = cur ? min_u32(window_of(c) / 2, c->rcv_mss) : 1;
	if (c->read_since < step || c->peer_fin || c->state < TCPS_ESTABLISHED || c->state > TCPS_FIN_WAIT_2)
		return false;
	uint32_t room = rcv_offer(c);
	return room / 2 >= cur && worth_moving(c, cur, room) && room - cur >= step;
}

void window_release_rcv(struct tcp_conn *c)
{
	if (c->rcv.len == 0)
		ring_free(&c->rcv, c->stack->memory);
}

/* Until so many bytes fit in. */
static void grow_rcvbuf(struct tcp_conn *c, uint64_t want)
{
	uint64_t most = min_u32(AUTOTUNE_MOST, (uint32_t)UINT16_MAX << c->rcv_wscale);
	uint64_t rcvbuf = (want < most ? want : most) * RATIO_UNIT / (c->rcv_ratio ? c->rcv_ratio : RATIO_UNIT / 2);
	rcvbuf = min_u32(rcvbuf, c->stack->config.rcvbuf_max_bytes);
	if (rcvbuf > c->rcvbuf_limit) {
		c->rcvbuf_limit = rcvbuf;
		clamp_anew(c);
	}
}

/*
 * Dynamic right-sizing: twice what the application took in the last round trip, so that the peer's window may double;
 * and it accelerates, as its sender does in slow start. As Linux, by twice the growth: the sender is a round ahead of
 * what is known here. Within a millisecond nobody waits for a window, and a smaller buffer stays in the cache.
 */
static void autotune_rcvbuf(struct tcp_conn *c)
{
	uint64_t space = c->drs_space ? c->drs_space : c->kept.rcv_space;
	uint64_t copied = min_u32(c->drs_copied, AUTOTUNE_MOST);
	if (copied <= space || c->stack->memory->pressure)
		return;
	bool near = c->rcv_rtt.us <= DRS_ROUND_LEAST_US; /* a tick of the time stamps: they cannot tell less */
	uint64_t want = 2 * copied + (near ? DRS_SLACK_SEGS * c->mss_advertised : 0);
	want += want * (copied - space) / max_u32(space, 1) * (near ? 1 : 2);
	grow_rcvbuf(c, want + (c->ooo.n ? c->ooo.r[c->ooo.n - 1].right - c->rcv_nxt : 0));
	c->drs_space = copied;
}

/*
 * What came out of order needs room beside what comes in order: as Linux since 6.18, where the program has the
 * connection.
 */
void window_on_ahead(struct tcp_conn *c)
{
	bool has = !c->orphan && (!c->passive || c->accepted);
	if (!has || c->options.user_rcvbuf || !c->stack->config.moderate_rcvbuf || c->stack->memory->pressure || !c->ooo.n)
		return;
	uint64_t space = c->drs_space ? c->drs_space : c->kept.rcv_space;
	grow_rcvbuf(c, 2 * space + (c->ooo.r[c->ooo.n - 1].right - c->rcv_nxt));
}

void window_on_read(struct tcp_conn *c, int64_t now, uint32_t n)
{
	c->read_since = min_u32(c->read_since + n, INT32_MAX);
	c->drs_copied += n;
	if (!c->rcv_rtt.us || now - c->drs_since < max_time(c->rcv_rtt.us, DRS_ROUND_LEAST_US))
		return;
	if (!c->options.user_rcvbuf && c->stack->config.moderate_rcvbuf)
		autotune_rcvbuf(c);
	c->drs_copied = 0;
	c->drs_since = now;
}

/*
 * What Linux reckons for a segment in its send buffer (tcp_sndbuf_expand): payload and headers in a power of two, and
 * the descriptor. On a new connection less room than Linux has shows: programs expect a first message of some tens of
 * kilobytes to be taken at once.
 */
static uint32_t segment_truesize(const struct tcp_conn *c)
{
	uint32_t bytes = c->mss + TRUESIZE_HEADERS, size = 1;
	while (size < bytes)
		size *= 2;
	return size + TRUESIZE_DESCRIPTOR;
}

/*
 * A congestion window in flight, and one being filled by the application. SO_SNDBUF tells what Linux's would, except
 * near by.
 *
 * Near by, a window of megabytes only waits in the peer's buffer, and what the program sends goes round in all of ours,
 * so that no cache has any of it: on one host 64 KiB take 2.5 us to come into a buffer of 3 MiB, and 1.5 us where it is
 * small. SNDBUF_CACHED_BYTES in NEAR_US are 80 Gbit/s, so near by it grows no further. The least round trip is of the
 * last minutes: a path that has become longer since (another route, a peer that has moved) shows in the smoothed one.
 */
void window_grow_sndbuf(struct tcp_conn *c)
{
	if (c->options.user_sndbuf || c->stack->memory->pressure)
		return;
	uint32_t segs = max_u32(c->cwnd / max_u32(c->mss, 1), c->initial_window_segs), each = (c->cc->sndbuf_windows ? c->cc->sndbuf_windows : 2) * segment_truesize(c);
	uint32_t most = c->stack->config.sndbuf_max_bytes, limit = segs < most / each ? segs * each : most, cached = max_u32(c->sndbuf_limit, SNDBUF_CACHED_BYTES);
	if (limit > cached && c->min_rtt_us && c->min_rtt_us < NEAR_US && c->srtt_us < NEAR_LOADED_US)
		limit = cached;
	c->sndbuf_limit = max_u32(c->sndbuf_limit, limit);
}
