#include "base/ranges.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#define RANGES_BYTES (RANGES_MAX * sizeof(struct range))
_Static_assert((RANGES_BYTES & (RANGES_BYTES - 1)) == 0, "tcp_memory gives powers of two");

static bool before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static void ranges_remove(struct ranges *s, uint32_t first, uint32_t n)
{
	memmove(s->r + first, s->r + first + n, (s->n - first - n) * sizeof s->r[0]);
	s->n -= n;
}

/* Opens a hole at `i`. */
static int ranges_insert(struct ranges *s, struct tcp_memory *m, uint32_t i, struct range new)
{
	if (s->n == RANGES_MAX)
		return -ENOSPC;
	if (!s->r) {
		s->r = m->alloc(m, RANGES_BYTES);
		if (!s->r)
			return -ENOMEM;
	}
	memmove(s->r + i + 1, s->r + i, (s->n - i) * sizeof s->r[0]);
	s->r[i] = new;
	s->n++;
	return 0;
}

int64_t ranges_add(struct ranges *s, struct tcp_memory *m, uint32_t left, uint32_t right)
{
	assert(before(left, right));
	uint32_t i = 0; /* first range that ends at or after `left` */
	while (i < s->n && before(s->r[i].right, left))
		i++;
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
	for (uint32_t i = 0; i < s->n; i++) {
		if (!before(seq, s->r[i].left) && before(seq, s->r[i].right))
			return &s->r[i];
	}
	return NULL;
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
		m->free(m, s->r, RANGES_BYTES);
	s->r = NULL;
	s->n = 0;
}
