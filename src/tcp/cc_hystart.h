/*
 * HyStart (Ha and Rhee, 2011), as in Linux: slow start is left when the path seems full rather than when its queue
 * overflows.
 *
 * Owns struct hystart, within an algorithm's cc_state. Two signs, from a window of 16 segments on. The train: the ACKs
 * of a round, each at most two milliseconds after the one before, come for as long as half of the least round trip
 * takes: what is in flight fills the path. (All of it where the sender paces: it stretches the train itself.) The
 * delay: the least round trip of a round, of more than eight samples, is an eighth above the least of all. A round is
 * what was in flight at its begin. RFC 9406's HyStart++ has the second sign alone, and grows on slowly. Peers and
 * figures expect Linux's window, so this is Linux's. No timers. Once out it stays out until a timeout.
 */
#ifndef FINESSE_TCP_CC_HYSTART_H
#define FINESSE_TCP_CC_HYSTART_H

#include <stdbool.h>
#include <stdint.h>

struct tcp_conn;

struct hystart {
	int64_t round_start_us, last_ack_us; /* last_ack_us: of the train */
	uint32_t round_end;    /* a sequence number */
	uint32_t least_rtt_us; /* of all that counted; 0: none */
	uint32_t round_rtt_us; /* of the round; UINT32_MAX: none yet */
	uint8_t samples;
	bool found;
};

void hystart_init(struct hystart *h, const struct tcp_conn *c, int64_t now);
/* An ACK told a round trip. */
void hystart_sample(struct hystart *h, uint32_t rtt_us);
/* … in slow start. True: it is over, without loss. */
bool hystart_on_ack(struct hystart *h, const struct tcp_conn *c, int64_t now, uint32_t rtt_us);

#endif
