/*
 * A 4-ary heap in one array: children of slot i are 4i+1 … 4i+4, which share a 64-byte cache line
 * half of the time, and the tree is half as deep as a binary one. Most calls move a deadline a
 * little (a retransmission timer at each ACK), so timers_set sifts from where the timer is.
 */
#include "base/timers.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

#include "base/sys.h"

#define ARITY          4
#define FIRST_CAPACITY 256 /* slots: one page of 16-byte slots */

void timers_init(struct timers *t)
{
	*t = (struct timers){0};
}

void timers_fini(struct timers *t)
{
	if (t->heap)
		sys_munmap(t->heap, t->capacity * sizeof *t->heap);
	timers_init(t);
}

static int grow(struct timers *t)
{
	size_t now_bytes = t->capacity * sizeof *t->heap;
	uint32_t capacity = t->capacity ? t->capacity * 2 : FIRST_CAPACITY;
	size_t bytes = capacity * sizeof *t->heap;
	void *heap = now_bytes ? sys_mremap(t->heap, now_bytes, bytes, MREMAP_MAYMOVE) :
				 sys_mmap(NULL, bytes, PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sys_is_error(heap))
		return -ENOMEM;
	t->heap = heap;
	t->capacity = capacity;
	return 0;
}

static inline void put(struct timers *t, uint32_t i, struct timers_slot slot)
{
	t->heap[i] = slot;
	slot.timer->index = i + 1;
}

/* Moves `slot` from the hole at `i` towards the root. */
static void sift_up(struct timers *t, uint32_t i, struct timers_slot slot)
{
	while (i) {
		uint32_t parent = (i - 1) / ARITY;
		if (t->heap[parent].at_us <= slot.at_us)
			break;
		put(t, i, t->heap[parent]);
		i = parent;
	}
	put(t, i, slot);
}

/* Moves `slot` from the hole at `i` towards the leaves. */
static void sift_down(struct timers *t, uint32_t i, struct timers_slot slot)
{
	for (;;) {
		uint32_t child = i * ARITY + 1, least = child;
		uint32_t end = child + ARITY < t->count ? child + ARITY : t->count;
		if (child >= t->count)
			break;
		while (++child < end)
			if (t->heap[child].at_us < t->heap[least].at_us)
				least = child;
		if (slot.at_us <= t->heap[least].at_us)
			break;
		put(t, i, t->heap[least]);
		i = least;
	}
	put(t, i, slot);
}

int timers_set(struct timers *t, struct timer *timer, int64_t at_us)
{
	struct timers_slot slot = {at_us, timer};
	uint32_t i;

	if (at_us == TIME_NEVER) {
		timers_cancel(t, timer);
		return 0;
	}
	if (timer->index) {
		i = timer->index - 1;
		assert(i < t->count && t->heap[i].timer == timer);
		timer->at_us = at_us;
		if (at_us < t->heap[i].at_us)
			sift_up(t, i, slot);
		else
			sift_down(t, i, slot);
		return 0;
	}
	if (t->count == t->capacity && grow(t) < 0)
		return -ENOMEM;
	timer->at_us = at_us;
	sift_up(t, t->count++, slot);
	return 0;
}

void timers_cancel(struct timers *t, struct timer *timer)
{
	if (!timer->index)
		return;
	uint32_t i = timer->index - 1;
	assert(i < t->count && t->heap[i].timer == timer);
	struct timers_slot last = t->heap[--t->count];
	timer_init(timer);
	if (last.timer == timer)
		return;
	if (i && last.at_us < t->heap[(i - 1) / ARITY].at_us)
		sift_up(t, i, last);
	else
		sift_down(t, i, last);
}
