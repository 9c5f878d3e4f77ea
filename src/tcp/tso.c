/*
 * How many segments go as one super-segment: about as much as the path carries in a millisecond, as Linux's
 * tcp_tso_autosize, so that a slow path does not get bursts; and more where the peer is near, since a burst hurts least
 * there.
 */
#include "tcp/tcp_int.h"

#define SOFT_SEGS_MAX  4  /* where the link cuts nothing: a burst that its queue has room for */
#define TSO_DEFERRED_SEGS 3 /* Linux's tcp_max_tso_deferred_mss */
#define TSO_RATE_SHIFT 10 /* 1/1024 s: SO_MAX_PACING_RATE's sk_pacing_shift */

uint64_t tso_rate(const struct tcp_conn *c)
{
	if (!c->srtt_us)
		return pace_bounded(c, UINT64_MAX);
	const struct tcp_config *config = &c->stack->config;
	uint64_t percent = c->cwnd < c->ssthresh / 2 ? config->pacing_ss_ratio : config->pacing_ca_ratio;
	uint64_t rate = (uint64_t)max_u32(c->cwnd, snd_flight(c)) * percent / 100 * USEC_PER_SEC / c->srtt_us;
	return pace_bounded(c, rate);
}

/* Linux's tcp_bound_to_half_wnd, of what a write sends at once: so that two are on the way. */
uint32_t tso_half_window(const struct tcp_conn *c)
{
	return c->max_snd_wnd > TCP_MSS_DEFAULT_V4 ? c->max_snd_wnd / 2 : c->max_snd_wnd;
}

uint32_t tso_bytes(const struct tcp_conn *c, uint32_t mss)
{
	uint32_t max = c->gso_max_bytes ? c->gso_max_bytes : SOFT_SEGS_MAX * mss;
	if (c->just_written)
		max = max_u32(min_u32(max, tso_half_window(c)), mss);
	uint64_t bytes = c->pacing_rate >> TSO_RATE_SHIFT;
	const struct tcp_config *config = &c->stack->config;
	uint32_t near = config->tso_rtt_log ? c->min_rtt_us >> config->tso_rtt_log : UINT32_MAX; /* half as much more for each 512 µs */
	if (near < 32)
		bytes += max >> near;
	uint32_t segs = (bytes < max ? bytes : max) / mss;
	uint32_t most = max / mss;
	uint32_t least = c->cc->min_tso_segs ? c->cc->min_tso_segs(c) : config->min_tso_segs;
	return max_u32(min_u32(max_u32(segs, least), most), 1) * mss;
}

#define DEFER_US USEC_PER_MSEC

/* As Linux's tcp_tso_should_defer: in a burst, where the ACK of the oldest segment is due. */
void tso_look(struct tcp_conn *c, int64_t now)
{
	c->tso_waits = false;
	if (!c->sent.n || now - c->last_sent_us > DEFER_US)
		return;
	int64_t ack_in = sent_peek(&c->sent, 0)->at_us + c->srtt_us - now;
	c->tso_waits = ack_in <= min_time(c->srtt_us / 2, DEFER_US);
}

bool tso_defers(const struct tcp_conn *c, uint32_t wnd, uint32_t mss, bool more_may_come, enum out_blocked *why)
{
	uint32_t pipe = recovery_pipe(c), room = c->cwnd > pipe ? c->cwnd - pipe : 0, limit = min_u32(wnd, room), divisor = c->stack->config.tso_win_divisor;
	if (!c->tso_waits || c->loss != TCP_LOSS_OPEN || snd_unsent(c) <= mss || limit < mss || limit >= tso_bytes(c, mss) ||
	    limit >= (divisor ? min_u32(c->snd_wnd, c->cwnd) / divisor : TSO_DEFERRED_SEGS * mss + 1))
		return false;
	*why = wnd <= room ? BLOCKED_WINDOW : BLOCKED_CWND;
	return more_may_come || limit <= snd_unsent(c);
}
