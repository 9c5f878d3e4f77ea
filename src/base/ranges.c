#include "base/ranges.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

_Static_assert(((RANGES_MIN * sizeof(struct range)) & (RANGES_MIN * sizeof(struct range) - 1)) == 0, "tcp_memory gives powers of two");

static bool before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static void ranges_remove(struct ranges *s, uint32_t first, uint32_t n)
{
	memmove(s->r + first, s->r + first + n, (s->n - first - n) * sizeof s->r[0]);
	s->n -= n;
}

/* The first range that ends at or after `seq`. */
static uint32_t first_to(const struct ranges *s, uint32_t seq)
{
	uint32_t low = 0, high = s->n;
	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (before(s->r[middle].right, seq))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Room for one more. */
static int ranges_reserve(struct ranges *s, struct tcp_memory *m)
{
	if (s->n < s->room)
		return 0;
	if (s->n == RANGES_MAX)
		return -ENOSPC;
	uint32_t room = s->room ? 2 * s->room : RANGES_MIN;
	struct range *r = m->alloc(m, room * sizeof *r);
	if (!r)
		return -ENOMEM;
	if (s->r) {
		memcpy(r, s->r, s->n * sizeof *r);
		m->free(m, s->r, ranges_bytes(s));
	}
	s->r = r;
	s->room = room;
	return 0;
}

/* Opens a hole at `i`. */
static int ranges_insert(struct ranges *s, struct tcp_memory *m, uint32_t i, struct range new)
{
	int r = ranges_reserve(s, m);
	if (r < 0)
		return r;
	memmove(s->r + i + 1, s->r + i, (s->n - i) * sizeof s->r[0]);
	s->r[i] = new;
	s->n++;
	return 0;
}

bool ranges_fits(struct ranges *s, struct tcp_memory *m, uint32_t left, uint32_t right)
{
	uint32_t i = first_to(s, left);
	bool touches = i < s->n && !before(right, s->r[i].left);
	return touches || ranges_reserve(s, m) == 0;
}

int64_t ranges_add(struct ranges *s, struct tcp_memory *m, uint32_t left, uint32_t right)
{
	assert(before(left, right));
	uint32_t i = first_to(s, left);
	uint32_t end = i; /* first range that begins after `right` */
	uint32_t had = 0;
	while (end < s->n && !before(right, s->r[end].left)) {
		had += s->r[end].right - s->r[end].left;
		end++;
	}
	if (end == i) {
		int ret = ranges_insert(s, m, i, (struct range){left, right});
		return ret < 0 ? ret : (int64_t)(right - left);
	}
	if (before(s->r[i].left, left))
		left = s->r[i].left;
	if (before(right, s->r[end - 1].right))
		right = s->r[end - 1].right;
	s->r[i] = (struct range){left, right};
	ranges_remove(s, i + 1, end - i - 1);
	return (int64_t)(right - left) - had;
}

void ranges_drop_before(struct ranges *s, struct tcp_memory *m, uint32_t seq)
{
	uint32_t gone = 0;
	while (gone < s->n && !before(seq, s->r[gone].right))
		gone++;
	if (gone)
		ranges_remove(s, 0, gone);
	if (s->n && before(s->r[0].left, seq))
		s->r[0].left = seq;
	if (s->n == 0)
		ranges_free(s, m);
}

const struct range *ranges_find(const struct ranges *s, uint32_t seq)
{
	uint32_t i = first_to(s, seq + 1); /* ends behind `seq` */
	return i < s->n && !before(seq, s->r[i].left) ? &s->r[i] : NULL;
}

uint32_t ranges_total(const struct ranges *s)
{
	uint32_t total = 0;
	for (uint32_t i = 0; i < s->n; i++)
		total += s->r[i].right - s->r[i].left;
	return total;
}

void ranges_free(struct ranges *s, struct tcp_memory *m)
{
	if (s->r)
		m->free(m, s->r, ranges_bytes(s));
	s->r = NULL;
	s->n = s->room = 0;
}
