/*
 * Pacing: segments leave at a rate, not in bursts, where the congestion control asks for it (BBR) or the program has
 * bounded the rate (SO_MAX_PACING_RATE). As Linux's own pacing of TCP, where no queueing discipline does it.
 *
 * What left moves pace_ns, when the next may go, by its time at c->pacing_rate. Until then pace_waits keeps new text
 * and repairs back (output.c); the time is the core's deadline. Who comes late, counted from what left last, is let off
 * half of a segment's time at most. But where text waited for its time, and only the engine came late to it, what
 * should have left meanwhile goes at once (pace_held), up to CATCH_UP_US and half of a round trip: the kernel's timers
 * interrupt whatever runs, and its segments leave in time; a thread of ours waits for a CPU, and would lose so much of
 * the rate each time. Timers that wait for an answer to what has just left wait for so much longer: what leaves last
 * leaves later. The first segments of a connection are not paced. Of a connection that is not paced, nothing here is
 * touched but `paced`, which is false.
 */
#include "tcp/tcp_int.h"

#define UNPACED_SEGS 10 /* at the beginning: the initial window */
#define AHEAD_US     50 /* so much may go before its time: no thread sleeps for less, and a fast path would pay a wake-up for each super-segment */
#define CATCH_UP_US  (10 * USEC_PER_MSEC) /* a busy machine's scheduler lets a thread wait for so long */
#define NSEC_PER_SEC UINT64_C(1000000000)

uint64_t pace_bounded(const struct tcp_conn *c, uint64_t rate)
{
	uint64_t most = c->options.max_pacing_rate;
	if (most == TCP_PACING_RATE_ZERO)
		return 0;
	return most && rate > most ? most : rate;
}

void pace_init(struct tcp_conn *c)
{
	c->paced |= c->cc->control || c->options.max_pacing_rate;
	if (!c->cc->control)
		c->pacing_rate = tso_rate(c);
	else
		c->pacing_rate = pace_bounded(c, c->pacing_rate);
}

int64_t pace_at(const struct tcp_conn *c)
{
	return (c->pace_ns + NSEC_PER_USEC - 1) / NSEC_PER_USEC;
}

/* Of a lateness, what is made up for. */
static int64_t caught_up_ns(const struct tcp_conn *c, int64_t late_ns)
{
	return c->pace_held ? min_time(late_ns, min_time(c->min_rtt_us / 2, CATCH_UP_US) * NSEC_PER_USEC) : 0;
}

/* A segment of any kind leaves: from now on nobody is late, but for what is made up for. */
void pace_emit(struct tcp_conn *c, int64_t now)
{
	int64_t now_ns = now * NSEC_PER_USEC;
	int64_t late = now_ns > c->pace_ns ? now_ns - c->pace_ns : 0;
	late -= caught_up_ns(c, late);
	c->pace_ns += late;
	/* What is left of it counts for the next, where one takes no longer than a sleep. */
	if (late)
		c->pace_credit_ns = late;
}

void pace_charge(struct tcp_conn *c, int64_t now, uint32_t bytes)
{
	uint64_t rate = c->pacing_rate;
	if (!bytes || !rate || rate == UINT64_MAX || c->data_segs_out < UNPACED_SEGS) {
		c->pace_credit_ns = 0;
		return;
	}
	int64_t takes = bytes * NSEC_PER_SEC / rate;
	int64_t let_off = takes / 2 < c->pace_credit_ns ? takes / 2 : c->pace_credit_ns;
	c->pace_credit_ns = takes < AHEAD_US * NSEC_PER_USEC ? c->pace_credit_ns - let_off : 0;
	c->pace_ns += takes - let_off;
	c->pace_waits = pace_at(c) > now + AHEAD_US;
}
