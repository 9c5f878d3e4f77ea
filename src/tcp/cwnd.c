/*
 * Is the congestion window the limit? (RFC 2861, RFC 7661), as Linux's tcp_cwnd_validate: a window that is not used
 * tells nothing of the path. It does not grow, and where the program has used less of it for a timeout's time, half of
 * what was not used goes.
 *
 * Looked at when new text left, or could not: cwnd_limited and flight_max are of the round that ends at flight_seq, the
 * round's best.
 */
#include "tcp/tcp_int.h"

bool cwnd_is_limit(const struct tcp_conn *c)
{
	return c->cwnd_limited || (c->cwnd < c->ssthresh && c->cwnd < 2 * (uint64_t)c->flight_max);
}

static void take_unused(struct tcp_conn *c)
{
	uint32_t used = max_u32(c->cwnd_used, c->initial_window_segs * c->mss);
	bool open = c->loss == TCP_LOSS_OPEN && !c->cwr && !c->sacked_bytes;
	if (!open || c->nospace || used >= c->cwnd)
		return;
	c->ssthresh = max_u32(c->ssthresh, c->cwnd / 4 * 3);
	c->cwnd = (c->cwnd + used) / 2;
}

void cwnd_validate(struct tcp_conn *c, int64_t now, bool limited)
{
	uint32_t flight = snd_flight(c);
	if (SEQ_GEQ(c->snd_una, c->flight_seq) || limited || (!c->cwnd_limited && flight > c->flight_max)) {
		c->cwnd_limited = limited;
		c->flight_max = flight;
		c->flight_seq = c->snd_nxt;
	}
	if (cwnd_is_limit(c)) {
		c->cwnd_used = 0;
		c->cwnd_used_at = now;
		return;
	}
	c->cwnd_used = max_u32(c->cwnd_used, flight);
	if (!c->stack->config.slow_start_after_idle || c->cc->control || now - c->cwnd_used_at < c->rto_us)
		return;
	take_unused(c);
	c->cwnd_used = 0;
	c->cwnd_used_at = now;
}

/*
 * RFC 5681 §4.1, RFC 2861: after an idle RTO the window is no longer a fact; it halves for each RTO, down to the
 * initial one. Looked at when what the program writes begins a buffer, as in Linux, and when the peer's window changes:
 * who waits for it is not idle until then.
 */
void cwnd_after_idle(struct tcp_conn *c, int64_t now)
{
	if (snd_flight(c) || !c->last_data_sent_us || !tcp_may_transmit(c))
		return;
	int64_t idle = now - c->last_data_sent_us;
	uint32_t least = min_u32(c->initial_window_segs * c->mss, c->cwnd);
	if (idle <= c->rto_us || c->cwnd <= least || !c->stack->config.slow_start_after_idle || c->cc->control)
		return;
	TCP_COUNT(c, SlowStartIdle);
	c->ssthresh = max_u32(c->ssthresh, c->cwnd / 4 * 3);
	for (; idle > c->rto_us && c->cwnd > least; idle -= c->rto_us)
		c->cwnd /= 2;
	c->cwnd = max_u32(c->cwnd, least);
	c->cwnd_used = 0;
	c->cwnd_used_at = now;
}
