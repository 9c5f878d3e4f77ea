/* Round-trip time and retransmission timeout (RFC 6298). */
#include "tcp/tcp_int.h"

#define RTT_G_US              1 /* clock granularity */
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

void rtt_sample(struct tcp_conn *c, int64_t now, uint32_t r)
{
	if (!c->srtt_us) { /* (2.2) */
		c->srtt_us = r;
		c->rttvar_us = r / 2;
	} else { /* (2.3): beta = 1/4, alpha = 1/8 */
		uint32_t err = r > c->srtt_us ? r - c->srtt_us : c->srtt_us - r;
		c->rttvar_us = c->rttvar_us - c->rttvar_us / 4 + err / 4;
		c->srtt_us = c->srtt_us - c->srtt_us / 8 + r / 8;
	}
	if (!c->srtt_us)
		c->srtt_us = 1;
	update_min(c, now, r);
	c->backoff = 0; /* Karn, §5: a new measurement, and nothing else, collapses the backed-off RTO */
	/* (2.3), (2.4). The floor goes into the variance term, as Linux does: a peer's delayed ACK comes on top of the RTT. */
	const struct tcp_config *config = &c->stack->config;
	int64_t var = max_u32(RTT_G_US, 4 * c->rttvar_us);
	int64_t least = c->rto_min_us ? c->rto_min_us : config->rto_min_us;
	int64_t rto = c->srtt_us + (var > least ? var : least);
	c->rto_us = rto < config->rto_max_us ? rto : config->rto_max_us;
}

uint32_t rtt_by_timestamp(const struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	if (!c->ts_on || !(seg->has & SEG_HAS_TIMESTAMPS) || !seg->ts_ecr)
		return 0;
	uint32_t ticks = tcp_ts_now(now, c->ts_offset) - seg->ts_ecr;
	if (ticks >= (uint32_t)(c->stack->config.rto_max_us / TCP_TS_TICK_US))
		return 0; /* a peer's nonsense */
	return ticks ? ticks * TCP_TS_TICK_US : TCP_TS_TICK_US / 2;
}

/*
 * (5.7): "If the timer expires awaiting the ACK of a SYN segment and the TCP implementation is using an RTO less than
 * 3 seconds, the RTO MUST be re-initialized to 3 seconds when data transmission begins". That is for a path of which nothing is
 * known, since Karn forbids the sample; a timestamp that comes back tells which SYN was answered, and (2.2) applies.
 */
void rtt_handshake(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	c->rtt_timing = false;
	if (c->by_cookie)
		return;
	if (!c->syn_retransmitted)
		c->handshake_rtt_us = now - c->rtt_at > 0 ? now - c->rtt_at : 1;
	else
		c->handshake_rtt_us = rtt_by_timestamp(c, now, seg);
	if (c->handshake_rtt_us)
		rtt_sample(c, now, c->handshake_rtt_us);
	else if (c->rto_us < RTO_AFTER_LOST_SYN_US)
		c->rto_us = RTO_AFTER_LOST_SYN_US;
}

/* (5.5), bounded by (2.5). */
int64_t rtt_backed_off(const struct tcp_conn *c)
{
	int64_t rto = c->rto_us, most = c->stack->config.rto_max_us;
	for (unsigned i = 0; i < c->backoff && rto < most; i++)
		rto *= 2;
	return rto < most ? rto : most;
}
