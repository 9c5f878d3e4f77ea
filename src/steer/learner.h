/*
 * What `adaptive` knows of one listener's clients: do they close first when given time, and how
 * much time do they take? The algorithm and the reasons for its constants are in learner.c. Pure,
 * fixed size, virtual time; the caller locks.
 */
#ifndef FINESSE_STEER_LEARNER_H
#define FINESSE_STEER_LEARNER_H

#include <stdbool.h>
#include <stdint.h>

#define LEARNER_BUCKETS 82 /* from 64 µs up to 60 s, four to an octave */

struct learner {
	int64_t look_credit_us; /* for holds that are longer than hold_us; negative: spent in advance */
	int64_t hold_max_us;
	uint32_t closers[LEARNER_BUCKETS]; /* who closed first, by the time taken after the last
					      byte was acknowledged; in 1/16 */
	uint32_t waiters[LEARNER_BUCKETS]; /* who did not within their hold, by the length of it; in
					      1/16 */
	uint64_t observations;             /* all that were ever made */
	int64_t hold_us;                   /* worth holding now; 0: not worth it */
	int64_t rtt_floor_us;              /* the quickest clients' round trip; 0: unknown */
	uint64_t asked_since_probe;
	int64_t probed_at;
	uint64_t probes; /* says which of them are long */
	uint8_t buckets; /* those whose edge is within hold_max_us */
	bool of_many;    /* of many groups of clients: a probe is no one's second */
	bool encouraged; /* the last one that was held closed first */
};

enum learner_advice {
	LEARNER_FIN, /* holding does not pay */
	LEARNER_HOLD,
	LEARNER_PROBE, /* hold, to learn */
	LEARNER_FULL,  /* nothing is known yet, and enough are held to find out */
};

void learner_init(struct learner *l, int64_t hold_max_us);
/* `held_now`: closes of this listener that are held. Sets *hold_us when the advice is to hold. */
enum learner_advice learner_advise(struct learner *l, int64_t now, int64_t srtt_us,
				   uint64_t held_now, int64_t *hold_us);
/* The same for a close of which nothing will be learned: no probe. */
enum learner_advice learner_advise_only(const struct learner *l, int64_t *hold_us);

/* The client closed, or reset, within the hold. */
void learner_on_closed_first(struct learner *l, int64_t after_us);
/* The hold ran out. */
void learner_on_waited(struct learner *l, int64_t held_us);
/* After our FIN, `after_us` until the client's (TIME_NEVER: it never came). `held_us`: of a hold
 * that ran out, else −1. Returns whether it was a closer after all. */
bool learner_on_late(struct learner *l, int64_t held_us, int64_t after_us);

/* So many closes that were held in vain say that clients of a new listener do not close first. */
#define LEARNER_TRIALS 6

/* Nothing is known yet. */
static inline bool learner_is_trying(const struct learner *l)
{
	return l->hold_us == 0 && l->observations < LEARNER_TRIALS;
}

#endif
