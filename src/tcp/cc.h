/*
 * Congestion control: mechanism in the core, policy behind this table.
 *
 * The core says what happened; the algorithm sets c->cwnd and c->ssthresh (bytes), and may keep state in c->cc_state. It
 * never sends, never reads a clock, and is not asked while the window was not the limit (RFC 2861: an unused
 * window does not grow).
 */
#ifndef FINESSE_TCP_CC_H
#define FINESSE_TCP_CC_H

#include <stdint.h>

struct tcp_conn;

struct tcp_cc_ops {
	const char *name; /* as TCP_CONGESTION spells it */
	void (*init)(struct tcp_conn *c, int64_t now);
	/* `acked` new bytes were acknowledged outside of fast recovery, cwnd being the limit. */
	void (*on_ack)(struct tcp_conn *c, int64_t now, uint32_t acked);
	/* Loss was found with `flight` bytes out: what ssthresh becomes. */
	uint32_t (*ssthresh)(struct tcp_conn *c, int64_t now, uint32_t flight);
};

#endif
