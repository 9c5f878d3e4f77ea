/*
 * Congestion control: mechanism in the core, policy behind this table.
 *
 * The core says what happened; the algorithm sets c->cwnd and c->ssthresh (bytes), and may keep state in c->cc_state
 * (zero before init) and c->cwnd_acked. It never sends, never reads a clock, and no growth is asked of it while the
 * window was not the limit (RFC 2861: an unused window does not grow). c->ack_rtt_us is the round trip that the ACK at
 * hand tells; 0: none.
 */
#ifndef FINESSE_TCP_CC_H
#define FINESSE_TCP_CC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tcp/tcp.h" /* TCP_CC_INFO_WORDS */

struct tcp_conn;

/* What one ACK tells of the path (rate.c). */
struct rate_sample {
	uint64_t prior_delivered;    /* c->delivered when what this ACK delivers left */
	uint32_t delivered;          /* bytes since … */
	uint32_t interval_us;        /* … in this time; 0: the sample tells nothing */
	uint32_t rtt_us;             /* 0: not known */
	uint32_t acked_sacked, lost; /* bytes of this ACK alone */
	uint32_t prior_flight;       /* bytes in flight before it */
	bool app_limited, ack_delayed;
};

struct tcp_cc_ops {
	const char *name; /* as TCP_CONGESTION spells it */
	bool needs_ecn;   /* every packet says that it may be marked */
	uint8_t sndbuf_windows; /* how many windows the send buffer is for; 0: 2 */
	void (*init)(struct tcp_conn *c, int64_t now);
	/* `acked` new bytes were acknowledged outside of fast recovery, cwnd being the limit. */
	void (*on_ack)(struct tcp_conn *c, int64_t now, uint32_t acked);
	/* c->delivered and c->delivered_ce moved; c->ack_rtt_us is of this ACK. NULL: no matter. */
	void (*on_delivered)(struct tcp_conn *c, int64_t now);
	/*
	 * Text of the peer's arrived in a packet that may be marked, and `ce`: is. May say what is echoed. NULL: no
	 * matter.
	 */
	void (*on_text_ecn)(struct tcp_conn *c, bool ce);
	/* Loss was found with `flight` bytes out: what ssthresh becomes. cwnd is still what it was. */
	uint32_t (*ssthresh)(struct tcp_conn *c, int64_t now, uint32_t flight);
	/*
	 * Instead of on_ack and of what recovery.c does to the windows, the algorithm sets cwnd and c->pacing_rate
	 * itself, with each ACK, in an episode of loss or not. NULL: the core does.
	 */
	void (*control)(struct tcp_conn *c, int64_t now, const struct rate_sample *rs);
	/* New text leaves, and nothing was in flight. NULL: no matter. */
	void (*on_start)(struct tcp_conn *c, int64_t now);
	/* An episode had no reason. NULL: its state is what it was before. */
	void (*undo)(struct tcp_conn *c);
	/* The least that a super-segment has. NULL: the configuration's. */
	unsigned (*min_tso_segs)(const struct tcp_conn *c);
	/* TCP_CC_INFO, in bytes; NULL: nothing. */
	size_t (*info)(const struct tcp_conn *c, uint32_t out[TCP_CC_INFO_WORDS]);
	/* The retransmission timer expired; cwnd is the loss window now. NULL: no matter. */
	void (*on_timeout)(struct tcp_conn *c, int64_t now);
};

/* Reno's, for those that are like it but for one thing. */
void reno_grow(struct tcp_conn *c, int64_t now, uint32_t acked);
uint32_t reno_ssthresh(struct tcp_conn *c, int64_t now, uint32_t flight);

#define TCP_CC_UNDO_WORDS 9 /* of cc_state, which an episode that had no reason brings back: algorithms without `undo` have no more */
#define TCP_SSTHRESH_INITIAL (UINT32_MAX / 2) /* RFC 5681 §3.1: arbitrarily high */
#define TCP_LOSS_WINDOW_SEGS 2 /* RFC 5681 (4), RFC 9438 §4.6: ssthresh is never below 2*SMSS */

#endif
