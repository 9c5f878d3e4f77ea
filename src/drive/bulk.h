/*
 * Whether a leader looks for frames for a moment before it blocks, since a large one has just come, and another is
 * likely to follow.
 *
 * A reader that is faster than its peer sleeps after each frame of a stream, and is woken by the next: that costs the
 * peer's processor an interrupt for ours, and ours two switches, together more than to copy the frame. The next one is
 * there within BULK_LOOK_US, where the peer has a processor of its own.
 *
 * Where it has not, or the stream has ended, nothing comes while we look. So of waits that could look only one in
 * `every` does: each look in vain doubles that, up to BULK_EVERY_MAX, and each that finds something halves it.
 *
 * Pure. The lock is the engine's.
 */
#ifndef FINESSE_DRIVE_BULK_H
#define FINESSE_DRIVE_BULK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/time.h"

#define BULK_LEAST     8192 /* bytes of a frame */
#define BULK_LOOK_US   30   /* about what a wake-up costs both ends: so a look in vain at most doubles it */
#define BULK_FRESH_US  50   /* for a program to read a frame takes less */
#define BULK_EVERY_MAX 64

struct bulk {
	int64_t frame_us; /* when a large frame came last */
	unsigned every;   /* 0 is 1 */
	unsigned skipped;
};

static inline void bulk_note_frame(struct bulk *b, int64_t now, uint32_t len)
{
	if (len >= BULK_LEAST)
		b->frame_us = now;
}

/* A wait begins: for how long it looks. */
static inline int64_t bulk_look_us(struct bulk *b, int64_t now)
{
	if (!b->frame_us || now - b->frame_us > BULK_FRESH_US || ++b->skipped < b->every)
		return 0;
	b->skipped = 0;
	return BULK_LOOK_US;
}

/* It has looked. */
static inline void bulk_looked(struct bulk *b, bool found)
{
	if (found)
		b->every /= 2;
	else
		b->every = !b->every ? 2 : b->every < BULK_EVERY_MAX ? 2 * b->every : BULK_EVERY_MAX;
}

#endif
