/*
 * HyStart++ (RFC 9406): the first slow start, left when the round trip grows rather than when the queue overflows.
 *
 * Owns struct hystart, within an algorithm's cc_state. Rounds are counted by sequence number, from the ACK after the one that
 * ended the last (what that one let go belongs to the round that ends with it, or rounds would drift into the middle of bursts), and each keeps the least RTT of its ACKs (every
 * ACK's, which takes timestamps; without them there is one sample per round, N_RTT_SAMPLE is never reached, and slow start is RFC 5681's). A round
 * whose least is markedly above the last's begins Conservative Slow Start: a quarter of the growth, for five rounds; a least below that which
 * began it says that it was noise, and slow start goes on. No timers. Once out it stays out (§4.3: only the initial slow start).
 */
#ifndef FINESSE_TCP_CC_HYSTART_H
#define FINESSE_TCP_CC_HYSTART_H

#include <stdbool.h>
#include <stdint.h>

struct tcp_conn;

enum hystart_phase {
	HYSTART_OFF,        /* over, or never begun */
	HYSTART_SLOW_START,
	HYSTART_CSS,        /* Conservative Slow Start */
};

/* RTTs in µs; 0: RFC 9406's infinity. */
struct hystart {
	uint8_t phase; /* enum hystart_phase */
	uint8_t rtt_sample_count, css_rounds;
	bool round_due;     /* the next ACK begins a round */
	uint32_t window_end;
	uint32_t last_round_min_rtt, current_round_min_rtt, css_baseline_min_rtt;
};

void hystart_init(struct hystart *h);
/* By how much `acked` bytes may let cwnd grow in this phase. */
uint32_t hystart_growth(const struct hystart *h, uint32_t acked);
/* After cwnd grew for an ACK. True: slow start is over, without loss. */
bool hystart_on_ack(struct hystart *h, const struct tcp_conn *c);
void hystart_stop(struct hystart *h); /* loss */

#endif
