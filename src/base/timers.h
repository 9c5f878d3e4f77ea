/*
 * Deadlines in order: an intrusive 4-ary min-heap. A struct timer is embedded in its owner, armed
 * in at most one heap; the heap owns only its array (mapped, grown by doubling). Pure in time: the
 * caller compares with its clock. Not thread-safe.
 */
#ifndef FINESSE_BASE_TIMERS_H
#define FINESSE_BASE_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/time.h"

struct timer {
	int64_t at_us;  /* valid while armed */
	uint32_t index; /* place in the heap + 1; 0: not armed */
};

struct timers_slot {
	int64_t at_us; /* beside the pointer, so that sifting touches no owner */
	struct timer *timer;
};

struct timers {
	struct timers_slot *heap;
	uint32_t count, capacity;
};

/* Memory all zeros is an empty heap and an unarmed timer, too. */
void timers_init(struct timers *t);
/* Forgets what is armed (their `index` goes stale) and unmaps the array. */
void timers_fini(struct timers *t);
/*
 * Arm, or move when armed. at_us TIME_NEVER cancels. 0; -ENOMEM when the array cannot grow: then the timer is as
 * before.
 */
int timers_set(struct timers *t, struct timer *timer, int64_t at_us);
void timers_cancel(struct timers *t, struct timer *timer); /* not armed: nothing */

static inline void timer_init(struct timer *timer)
{
	timer->at_us = TIME_NEVER;
	timer->index = 0;
}

static inline bool timer_is_armed(const struct timer *timer)
{
	return timer->index != 0;
}

/* The timer that is due first, or NULL; it stays armed. */
static inline struct timer *timers_first(const struct timers *t)
{
	return t->count ? t->heap[0].timer : NULL;
}

/* When that is; TIME_NEVER for an empty heap. */
static inline int64_t timers_deadline(const struct timers *t)
{
	return t->count ? t->heap[0].at_us : TIME_NEVER;
}

#endif
