/*
 * A small bounded set of disjoint, non-adjacent ranges of sequence numbers, in order: what was received out of order,
 * or what the peer reported by SACK. Arithmetic is modulo 2³² (RFC 9293 §3.4): all ranges lie within 2³¹ of each other.
 *
 * Empty, it owns nothing; otherwise one block of `struct tcp_memory`, twice as large whenever it is full. At RANGES_MAX
 * a new range that touches none is refused.
 */
#ifndef FINESSE_BASE_RANGES_H
#define FINESSE_BASE_RANGES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"

#define RANGES_MIN 8 /* entries of the first block: 64 bytes */
/*
 * 16 KiB at most. Of a receive buffer of 6 MiB (Linux's largest by default) that is full of segments of 1448 bytes each
 * second one may be missing: a slow start that overflows a queue loses so. A peer that makes more holes loses the rest.
 */
#define RANGES_MAX 2048

struct range {
	uint32_t left, right; /* [left, right) */
};

struct ranges {
	struct range *r;
	uint32_t n;
	uint32_t room; /* entries that the block has */
};

/* Adds [left, right), merging what it touches. Returns the number of numbers that are new (0: all were there);
   -ENOSPC or -ENOMEM and nothing changes. `left` must come before `right`. */
int64_t ranges_add(struct ranges *s, struct tcp_memory *m, uint32_t left, uint32_t right);
/* Whether ranges_add would not say -ENOSPC or -ENOMEM: makes room for one more. */
bool ranges_fits(struct ranges *s, struct tcp_memory *m, uint32_t left, uint32_t right);
/* Everything before `seq` goes. */
void ranges_drop_before(struct ranges *s, struct tcp_memory *m, uint32_t seq);
/* The range that holds `seq`, or NULL. */
const struct range *ranges_find(const struct ranges *s, uint32_t seq);
static inline uint32_t ranges_bytes(const struct ranges *s) /* of memory */
{
	return s->room * sizeof(struct range);
}
uint32_t ranges_total(const struct ranges *s); /* numbers in the set */
void ranges_free(struct ranges *s, struct tcp_memory *m);

#endif
