/* Round-trip time and retransmission timeout (RFC 6298). */
#include "tcp/tcp_int.h"

#define RTT_MOST_US           (UINT32_C(1) << 28) /* minutes: an estimate by 8 stays within 32 bits */
#define RTO_AFTER_LOST_SYN_US (3 * USEC_PER_SEC) /* RFC 6298 (5.7) */

void rtt_init(struct tcp_conn *c)
{
	c->rto_us = c->stack->config.rto_init_us; /* (2.1) */
}

static void update_min(struct tcp_conn *c, int64_t now, uint32_t r)
{
	uint32_t at = now / USEC_PER_MSEC;
	if (!c->min_rtt_us)
		minmax_reset(&c->rtt_min, at, r);
	else
		minmax_add_min(&c->rtt_min, c->stack->config.min_rtt_window_us / USEC_PER_MSEC, at, r);
	c->min_rtt_us = minmax_get(&c->rtt_min);
}

static uint32_t rto_least(const struct tcp_conn *c)
{
	return c->rto_min_us ? c->rto_min_us : c->stack->config.rto_min_us;
}

/*
 * (2.3) in the scales of Linux's tcp_rtt_estimator: srtt by 8, deviations by 4. An error that makes the estimate
 * smaller counts for an eighth of that.
 */
static void add_error(struct tcp_rtt *e, int64_t err)
{
	e->srtt8 += err;
	if (err < 0) {
		err = -err - (e->mdev4 >> 2);
		if (err > 0)
			err >>= 3;
	} else {
		err -= e->mdev4 >> 2;
	}
	e->mdev4 += err;
}

/*
 * Each ACK is a sample, so the deviation of one would be that of a moment: the RTO goes by the largest of a round trip,
 * and comes down by a quarter of the difference with each. The floor goes into the variance term: a peer's delayed ACK
 * comes on top of the RTT.
 */
static void update_variance(struct tcp_conn *c)
{
	struct tcp_rtt *e = &c->rtt;
	if (e->mdev4 > e->most4) {
		e->most4 = e->mdev4;
		e->var4 = max_u32(e->var4, e->most4);
	}
	if (!SEQ_GT(c->snd_una, e->seq))
		return;
	if (e->most4 < e->var4)
		e->var4 -= (e->var4 - e->most4) >> 2;
	e->seq = c->snd_nxt;
	e->most4 = rto_least(c);
}

/* `least`: for the least of all. */
static void rtt_sample(struct tcp_conn *c, int64_t now, uint32_t r, uint32_t least)
{
	struct tcp_rtt *e = &c->rtt;
	r = min_u32(r, RTT_MOST_US);
	if (!e->srtt8) { /* (2.2) */
		e->srtt8 = r << 3;
		e->mdev4 = r << 1;
		e->var4 = e->most4 = max_u32(e->mdev4, rto_least(c));
		e->seq = c->snd_nxt;
	} else {
		add_error(e, (int64_t)r - (e->srtt8 >> 3));
		update_variance(c);
	}
	e->srtt8 = max_u32(e->srtt8, 8);
	c->srtt_us = e->srtt8 >> 3;
	c->rttvar_us = e->mdev4 >> 2;
	update_min(c, now, least);
	c->backoff = 0; /* Karn, §5: a new measurement, and nothing else, collapses the backed-off RTO */
	int64_t rto = (int64_t)c->srtt_us + e->var4, most = c->stack->config.rto_max_us;
	c->rto_us = rto < most ? rto : most;
}

/* RFC 7323's RTTM, for every ACK of new data; 0: it tells nothing. */
static uint32_t rtt_by_timestamp(const struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	if (!c->ts_on || !(seg->has & SEG_HAS_TIMESTAMPS) || !seg->ts_ecr)
		return 0;
	uint32_t ticks = tcp_ts_now(now, c->ts_offset) - seg->ts_ecr;
	if (ticks >= (uint32_t)(c->stack->config.rto_max_us / TCP_TS_TICK_US))
		return 0; /* a peer's nonsense */
	return ticks ? ticks * TCP_TS_TICK_US : TCP_TS_TICK_US / 2;
}

/*
 * Of what this ACK delivered, and did so for the first time, the round trips of the first and the last piece; of what
 * it acknowledges, or where that tells nothing, of what it says by SACK. Last by time stamp (RTTM): an ACK of what was
 * sent twice does not say of which.
 */
void rtt_of_ack(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg, bool acked)
{
	c->ack_rtt_us = 0;
	if (c->rate.first_rtt_us && !c->rate.acked_again)
		c->ack_rtt_us = c->rate.rtt_us;
	else if (c->rate.sack_rtt_us)
		c->ack_rtt_us = c->rate.rtt_us;
	else if (acked)
		c->ack_rtt_us = rtt_by_timestamp(c, now, seg);
	if (!c->ack_rtt_us)
		return;
	uint32_t first = c->rate.first_rtt_us && !c->rate.acked_again ? c->rate.first_rtt_us : c->rate.sack_rtt_us;
	rtt_sample(c, now, first ? first : c->ack_rtt_us, c->ack_rtt_us);
}

/*
 * (5.7): "If the timer expires awaiting the ACK of a SYN segment and the TCP implementation is using an RTO less than 3
 * seconds, the RTO MUST be re-initialized to 3 seconds when data transmission begins". That is for a path of which
 * nothing is known, since Karn forbids the sample; a timestamp that comes back tells which SYN was answered, and (2.2)
 * applies.
 */
void rtt_handshake(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	if (!c->syn_retransmitted && !c->by_cookie)
		c->handshake_rtt_us = now - c->syn_at > 0 ? now - c->syn_at : 1;
	else
		c->handshake_rtt_us = rtt_by_timestamp(c, now, seg);
	if (c->handshake_rtt_us)
		rtt_sample(c, now, c->handshake_rtt_us, c->handshake_rtt_us);
	else if (c->rto_us < RTO_AFTER_LOST_SYN_US && !c->by_cookie)
		c->rto_us = RTO_AFTER_LOST_SYN_US;
}

/* As Linux 6.18: the least. A larger one may be of a peer that had nothing to send in between. */
static void receiver_sample(struct tcp_conn *c, uint32_t us)
{
	if (!c->rcv_rtt.us || us < c->rcv_rtt.us)
		c->rcv_rtt.us = us;
}

void rtt_receiver_ts(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	if (!c->ts_on || !(seg->has & SEG_HAS_TIMESTAMPS) || !seg->ts_ecr || seg->ts_ecr == c->rcv_rtt.ts_ecr)
		return;
	c->rcv_rtt.ts_ecr = seg->ts_ecr;
	uint32_t ticks = tcp_ts_now(now, c->ts_offset) - seg->ts_ecr;
	if (seg->payload_len >= c->rcv_mss && ticks && ticks < INT32_MAX / TCP_TS_TICK_US)
		receiver_sample(c, ticks * TCP_TS_TICK_US);
}

void rtt_receiver_text(struct tcp_conn *c, int64_t now)
{
	struct tcp_rcv_rtt *r = &c->rcv_rtt;
	if (r->since_us) {
		if (SEQ_LT(c->rcv_nxt, r->seq))
			return;
		receiver_sample(c, now > r->since_us ? now - r->since_us : 1);
	}
	r->seq = c->rcv_nxt + (c->rcv_adv - c->rcv_wup);
	r->since_us = now;
}

/*
 * (5.5), bounded by (2.5). Linux keeps it in ticks, rounded up, before it doubles: a timer is never early. An ordinary
 * SYN-ACK's by Linux's constant: up to 6.18 at least the setting is not for it.
 */
int64_t rtt_backed_off(const struct tcp_conn *c)
{
	bool synack = c->state == TCPS_SYN_RECEIVED && c->passive && !c->fastopen;
	int64_t tick = max_time(c->stack->config.tick_us, 1), rto = (c->rto_us + tick - 1) / tick * tick, most = synack ? TCP_RTO_MAX_US : c->stack->config.rto_max_us;
	for (unsigned i = 0; i < c->backoff && rto < most; i++)
		rto *= 2;
	return rto < most ? rto : most;
}
