/*
 * The learner of `adaptive`.
 *
 * A hold of T has one benefit: if the client closes first within T, its TIME-WAIT stays away from
 * us. It has one cost: a client that waits for our EOF gets it T later. A client that closes by
 * itself, early or late, knows that the message is over and loses nothing. So, with S(T) the share
 * of clients that have not closed after T,
 *
 *	worth(T) = PRICE_US · (1 − S(T)) − T · S(T)
 *
 * and we hold for the T that is worth most, or not at all when none is worth anything. One formula
 * gives what a quantile with special cases would have to patch together: where everybody closes
 * first, T covers the slowest client seen; where half of them wait, T covers the quick ones if that
 * costs little; where nobody closes first, T is 0. It also bounds what others can be made to lose:
 * on average no waiter's delay costs more than PRICE_US per close that was steered, so that somebody
 * who wants others to wait long must close first himself, many times over.
 *
 * Observations. Every hold ends in one: the client closed first after so long (this time, from "all
 * acknowledged" to the client's FIN, hardly depends on the round trip, because its ACK and its FIN
 * travel together), or the hold ran out. The latter says only that this client takes longer than
 * this hold; S is therefore estimated as Kaplan and Meier do (1958): at each time, the share of
 * those who close then among those who were watched until then. So many short holds that ran out do
 * not hide what a few long ones show. After a hold ran out, a FIN that comes sooner than a round
 * trip after ours was on its way: a closer after all, who took the hold and that; one that comes a
 * second later or never was no waiter, whatever it is doing.
 *
 * Whose clients: prefixes.h has one learner for each group of them. Memory: the weights halve every
 * 64 observations, so that a change of population shows within some dozens.
 *
 * Exploring. A new listener tries: the first closes are held for 10 ms (curl, wget, urllib, wrk and git close within
 * 0–1 ms, node 2 ms; the rest is for scheduling and, plus SRTT, for jitter), at most 64 at a time; one closer ends the
 * trying, six waiters end it the other way, so that a client that waits and comes again and again has lost 60 ms once.
 * Later, one close in 256, and so seldom that probes take less than 1 % of the time (a single client in a loop would
 * feel each of them; the learner of many groups counts closes only), is a probe of 3, 10, 3 or 50 ms in turn (short
 * ones may come more often, and most clients are quick); after a success the next, of the same length, comes after 32
 * closes, because a success costs nothing. Where holds pay, one close in 256 is held longer, to see whether there are
 * slower clients. Clients that take longer than 50 ms + SRTT are found only where their round trip is as long (see late
 * FINs above).
 *
 * Looking. Clients whose processes get no CPU for a while close late, all at the same time, and to an expired hold they
 * look like waiters. So where holds pay, a close is held for 50 ms, on credit: each client that closes first earns
 * LOOK_EARN_US, and who was held so long and waited spends the time beyond T. A group's own clients alone earn and
 * spend. Where hardly anybody waits, all are held so long, and it costs nothing; where many wait, a steered close costs
 * them LOOK_EARN_US more on average.
 *
 * Events: advise at close; on_closed_first, on_waited, on_late afterwards. No timers. Limits: fixed
 * memory; T ≤ hold_max.
 */
#include "steer/learner.h"

#include <string.h>

#include "base/time.h"

/* What waiters may lose, all together, for one TIME-WAIT avoided. It costs the engine some 100 bytes,
 * so little; and below what a person notices. */
#define PRICE_US (5 * USEC_PER_MSEC)

#define ONE             16u /* the weight of one observation: halving keeps fractions */
#define PRIOR_WAITER    4u /* a quarter of one: never be sure that nobody waits */
#define HALVE_AFTER     64 /* observations */
#define WAITERS_OFF_MAX (8 * ONE) /* of a bad past, so that a few good probes outweigh it */
#define SHARE_ONE       65536 /* S in fixed point */

#define FIRST_EDGE_US    64
#define EDGES_PER_OCTAVE 4
#define HOLD_FLOOR_US    USEC_PER_MSEC /* a client's scheduler is no better than that */
#define MARGIN           2 /* T in edges: room to see that clients become slower */

#define TRIAL_US        (10 * USEC_PER_MSEC)
#define SHORT_PROBE_US  (3 * USEC_PER_MSEC)
#define LONG_PROBE_US   (50 * USEC_PER_MSEC)
#define TRIALS_AT_ONCE  64
#define YOUNG           32  /* observations, in which to look for more than the quickest */
#define PROBE_EVERY     256 /* closes: with none in a hundred, the slowest hundredth of clients does not notice */
#define PROBE_SOON      32
#define PROBE_TIME_PART 100 /* probes take at most one part in so many of the time */

#define LOOK_EARN_US   (PRICE_US / 32)
#define LOOKS_AT_ONCE  8 /* so many may turn out to be waiters together, before the first of them is known to be one */
#define LOOK_CREDIT_US (LOOKS_AT_ONCE * LONG_PROBE_US)

#define RTT_TELLING_US USEC_PER_MSEC /* of shorter round trips, noise could pass for a closer */
#define NO_WAITER_US   USEC_PER_SEC  /* who answers our FIN so late was not waiting for it */

/* The upper edge of bucket i: 64 µs, then four steps per octave. */
static int64_t bucket_edge(unsigned i)
{
	int64_t base = (int64_t)FIRST_EDGE_US << (i / EDGES_PER_OCTAVE);
	return base + base * (i % EDGES_PER_OCTAVE) / EDGES_PER_OCTAVE;
}

static unsigned bucket_of(int64_t us)
{
	unsigned i = 0;
	while (i + 1 < LEARNER_BUCKETS && bucket_edge(i) < us)
		i++;
	return i;
}

static int64_t bucket_hold(const struct learner *l, unsigned i)
{
	int64_t us = MARGIN * bucket_edge(i);
	return min_time(us > HOLD_FLOOR_US ? us : HOLD_FLOOR_US, l->hold_max_us);
}

/* Finds the hold that is worth most. */
static void learner_weigh(struct learner *l)
{
	int64_t best = 0, share = SHARE_ONE, watched = PRIOR_WAITER;
	for (unsigned i = 0; i < LEARNER_BUCKETS; i++)
		watched += l->closers[i] + l->waiters[i];
	l->hold_us = 0;
	for (unsigned i = 0; i < l->buckets; i++) {
		if (l->closers[i] > 0) {
			share -= share * l->closers[i] / watched;
			int64_t us = bucket_hold(l, i);
			int64_t worth = PRICE_US * (SHARE_ONE - share) - us * share;
			if (worth > best) {
				best = worth;
				l->hold_us = us;
			}
		}
		watched -= l->closers[i] + l->waiters[i];
	}
}

static void learner_scale(struct learner *l, uint32_t num, uint32_t den)
{
	for (unsigned i = 0; i < LEARNER_BUCKETS; i++) {
		l->closers[i] = (uint32_t)((uint64_t)l->closers[i] * num / den);
		l->waiters[i] = (uint32_t)((uint64_t)l->waiters[i] * num / den);
	}
}

static void learner_observe(struct learner *l, uint32_t *bucket, bool closed_first)
{
	uint32_t waiters = 0;
	*bucket += ONE;
	l->encouraged = closed_first;
	if (++l->observations % HALVE_AFTER == 0)
		learner_scale(l, 1, 2);
	learner_weigh(l);
	for (unsigned i = 0; i < LEARNER_BUCKETS && l->hold_us == 0; i++)
		waiters += l->waiters[i];
	if (waiters > WAITERS_OFF_MAX)
		learner_scale(l, WAITERS_OFF_MAX, waiters);
}

void learner_init(struct learner *l, int64_t hold_max_us)
{
	memset(l, 0, sizeof *l);
	l->hold_max_us = hold_max_us;
	while (l->buckets < LEARNER_BUCKETS && bucket_edge(l->buckets) <= hold_max_us)
		l->buckets++;
}

void learner_on_closed_first(struct learner *l, int64_t after_us)
{
	l->look_credit_us = min_time(l->look_credit_us + LOOK_EARN_US, LOOK_CREDIT_US);
	learner_observe(l, &l->closers[bucket_of(after_us)], true);
}

void learner_on_waited(struct learner *l, int64_t held_us)
{
	if (held_us >= min_time(LONG_PROBE_US, l->hold_max_us))
		l->look_credit_us = max_time(l->look_credit_us - (held_us - min_time(l->hold_us, held_us)), -LOOK_CREDIT_US);
	l->probes += l->hold_us == 0; /* the next may be of another length */
	learner_observe(l, &l->waiters[bucket_of(held_us)], false);
}

bool learner_on_late(struct learner *l, int64_t held_us, int64_t after_us)
{
	bool before_ours = l->rtt_floor_us >= RTT_TELLING_US && after_us < l->rtt_floor_us / 2;
	bool indifferent = after_us > NO_WAITER_US;
	if (held_us >= 0 && (before_ours || indifferent)) {
		uint32_t *waiters = &l->waiters[bucket_of(held_us)];
		*waiters -= *waiters < ONE ? *waiters : ONE;
		learner_weigh(l);
	}
	if (before_ours)
		learner_on_closed_first(l, (held_us > 0 ? held_us : 0) + after_us);
	return before_ours;
}

/* The least round trip of late; it drifts up slowly, for when the near clients have gone. */
static void learner_see_rtt(struct learner *l, int64_t srtt_us)
{
	if (srtt_us <= 0)
		return;
	if (l->rtt_floor_us == 0 || srtt_us < l->rtt_floor_us)
		l->rtt_floor_us = srtt_us;
	else
		l->rtt_floor_us += (srtt_us - l->rtt_floor_us) / 256;
}

/* While holds pay, only clients that take longer are news. */
static int64_t probe_length(const struct learner *l)
{
	static const int64_t lengths[] = {SHORT_PROBE_US, TRIAL_US, SHORT_PROBE_US, LONG_PROBE_US};
	if (l->hold_us > 0)
		return l->hold_us < TRIAL_US ? TRIAL_US : LONG_PROBE_US;
	return lengths[l->probes % (sizeof lengths / sizeof lengths[0])];
}

static bool may_probe(const struct learner *l, int64_t now, int64_t us)
{
	bool hurry = l->encouraged && l->hold_us == 0;
	if (us <= l->hold_us || l->asked_since_probe < (hurry ? PROBE_SOON : PROBE_EVERY))
		return false;
	return hurry || l->of_many || now - l->probed_at >= us * PROBE_TIME_PART;
}

/* Longer than worth it by what is known, on credit. */
static bool may_look(const struct learner *l, int64_t us, uint64_t held_now)
{
	return !l->of_many && us > l->hold_us && l->look_credit_us >= us - l->hold_us && held_now < LOOKS_AT_ONCE;
}

enum learner_advice learner_advise(struct learner *l, int64_t now, int64_t srtt_us,
				   uint64_t held_now, int64_t *hold_us)
{
	int64_t trial_us = min_time(TRIAL_US + srtt_us, l->hold_max_us);
	int64_t probe_us = min_time(probe_length(l) + srtt_us, l->hold_max_us);
	learner_see_rtt(l, srtt_us);
	l->asked_since_probe++;
	if (learner_is_trying(l)) {
		*hold_us = trial_us;
		l->asked_since_probe = 0;
		l->probed_at = now;
		return held_now < TRIALS_AT_ONCE ? LEARNER_PROBE : LEARNER_FULL;
	}
	if (may_probe(l, now, probe_us)) {
		*hold_us = probe_us;
		l->asked_since_probe = 0;
		l->probed_at = now;
		return LEARNER_PROBE;
	}
	*hold_us = l->hold_us;
	if (l->hold_us == 0)
		return LEARNER_FIN;
	if (l->observations < YOUNG && *hold_us < trial_us)
		*hold_us = trial_us;
	int64_t look_us = min_time(LONG_PROBE_US + srtt_us, l->hold_max_us);
	if (may_look(l, look_us, held_now))
		*hold_us = look_us;
	return LEARNER_HOLD;
}

enum learner_advice learner_advise_only(const struct learner *l, int64_t *hold_us)
{
	*hold_us = l->hold_us;
	return l->hold_us > 0 ? LEARNER_HOLD : LEARNER_FIN;
}
