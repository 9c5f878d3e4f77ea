/*
 * Slow start and congestion avoidance (RFC 5681 §3.1), counting bytes (RFC 3465). Loss recovery itself is the core's
 * (recovery.c); NewReno's part of it is in how partial ACKs are taken there (RFC 6582).
 */
#include "tcp/cc.h"
#include "tcp/tcp.h"

static void newreno_init(struct tcp_conn *c, int64_t now)
{
	c->cwnd_acked = 0;
}

void reno_grow(struct tcp_conn *c, int64_t now, uint32_t acked)
{
	if (c->cwnd < c->ssthresh) {
		/* Slow start grows by what was acknowledged. RFC 3465's L is not applied: receivers that take
		   super-segments acknowledge many segments at once, and pacing of bursts is the link's. */
		uint32_t room = c->ssthresh - c->cwnd;
		uint32_t grow = acked < room ? acked : room;
		c->cwnd += grow;
		acked -= grow;
	}
	/* Congestion avoidance: one SMSS per window of acknowledged bytes (RFC 3465 §2.1). */
	c->cwnd_acked += acked;
	while (c->cwnd_acked >= c->cwnd) {
		c->cwnd_acked -= c->cwnd;
		c->cwnd += c->mss;
	}
}

/*
 * RFC 5681 (4): ssthresh = max (FlightSize / 2, 2*SMSS). In whole segments, as Linux: half a segment lets nothing go,
 * but a window that has it takes longer to grow.
 */
uint32_t reno_ssthresh(struct tcp_conn *c, int64_t now, uint32_t flight)
{
	uint32_t half = flight / 2 / c->mss * c->mss, least = TCP_LOSS_WINDOW_SEGS * c->mss;
	return half > least ? half : least;
}

const struct tcp_cc_ops tcp_cc_newreno = {
	.name = "reno",
	.init = newreno_init,
	.on_ack = reno_grow,
	.ssthresh = reno_ssthresh,
};
