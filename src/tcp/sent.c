#include "tcp/sent.h"

#include <stddef.h>
#include <string.h>

#include "tcp/seq.h"

#define FIRST_BLOCK 8 /* records; then twice as many, up to SENT_MAX */

static size_t block_bytes(uint32_t cap)
{
	return cap * sizeof(struct sent);
}
_Static_assert((sizeof(struct sent) & (sizeof(struct sent) - 1)) == 0, "tcp_memory gives powers of two");

static struct sent *base_of(struct sent_log *l)
{
	return l->more ? l->more : l->few;
}

/* Room for one more record behind the last. */
static bool make_room(struct sent_log *l, struct tcp_memory *m)
{
	uint32_t cap = l->more ? l->cap : SENT_FEW;
	if (l->first + l->n < cap)
		return true;
	if (l->first) { /* what was acknowledged left room in front */
		memmove(base_of(l), base_of(l) + l->first, l->n * sizeof(struct sent));
		l->first = 0;
		return true;
	}
	uint32_t larger = l->more ? 2 * cap : FIRST_BLOCK;
	struct sent *r = larger <= SENT_MAX ? m->alloc(m, block_bytes(larger)) : NULL;
	if (!r)
		return false;
	memcpy(r, base_of(l), l->n * sizeof *r);
	if (l->more)
		m->free(m, l->more, block_bytes(l->cap));
	l->more = r;
	l->cap = larger;
	return true;
}

void sent_free(struct sent_log *l, struct tcp_memory *m)
{
	if (l->more)
		m->free(m, l->more, block_bytes(l->cap));
	l->more = NULL;
	l->first = l->n = l->cap = 0;
}

/* What is known of a record's segments when others follow on them. */
static uint8_t segments_behind(const struct sent *r, uint8_t bits)
{
	return r->bits & SENT_SHORT_END ? SENT_UNEVEN : bits & (SENT_SHORT_END | SENT_UNEVEN);
}

static bool say_the_same(const struct sent *a, const struct sent *b)
{
	return a->again == b->again && a->lost == b->lost;
}

/* The record takes in the one behind it, and has the later time of the two. */
static void take_in(struct sent *r, const struct sent *behind)
{
	r->bits = (r->bits & ~SENT_PUSH) | segments_behind(r, behind->bits) | (behind->bits & SENT_PUSH);
	r->end = behind->end;
	if (behind->at_us > r->at_us)
		r->at_us = behind->at_us;
}

/* Neighbours that differ in their times only become one. */
static void compress(struct sent_log *l)
{
	struct sent *r = sent_at(l, 0);
	uint32_t kept = 0;
	bool paired = false; /* each takes in one other: a second call halves what is left */
	for (uint32_t i = 1; i < l->n; i++) {
		if (!paired && say_the_same(&r[kept], &r[i])) {
			take_in(&r[kept], &r[i]);
			paired = true;
		} else {
			r[++kept] = r[i];
			paired = false;
		}
	}
	l->n = kept + 1;
}

/* As make_room, at the price of accuracy when there is none. False: every neighbour differs. */
static bool find_room(struct sent_log *l, struct tcp_memory *m)
{
	if (make_room(l, m))
		return true;
	compress(l);
	return make_room(l, m);
}

static bool in_one_grain(int64_t a, int64_t b, int64_t grain)
{
	return grain ? a / grain == b / grain : a == b;
}

static uint8_t segments_of(const struct sent_mark *mark)
{
	return (mark->short_end ? SENT_SHORT_END : 0) | (mark->uneven ? SENT_UNEVEN : 0);
}

static struct sent make_record(uint32_t end, int64_t now_us, const struct sent_mark *mark)
{
	return (struct sent){
		.at_us = now_us,
		.from_us = now_us,
		.end = end,
		.delivered = mark->delivered,
		.delivered_us = mark->delivered_us,
		.first_us = mark->first_us,
		.bits = (mark->app_limited ? SENT_APP_LIMITED : 0) | (mark->push ? SENT_PUSH : 0) | segments_of(mark),
	};
}

/* What leaves now, up to `end`, is the record's, too. */
static void extend(struct sent *r, uint32_t end, int64_t now_us, const struct sent_mark *mark)
{
	r->bits = (r->bits & ~SENT_PUSH) | segments_behind(r, segments_of(mark)) | (mark->push ? SENT_PUSH : 0);
	r->at_us = now_us;
	r->end = end;
}

void sent_append(struct sent_log *l, struct tcp_memory *m, uint32_t end, int64_t now_us, int64_t grain_us, const struct sent_mark *mark)
{
	struct sent *last = l->n ? sent_at(l, l->n - 1) : NULL;
	bool alike = last && l->n >= SENT_SINGLE && in_one_grain(last->at_us, now_us, grain_us) && !last->again && !last->lost;
	if (!alike && find_room(l, m)) {
		*sent_at(l, l->n++) = make_record(end, now_us, mark);
		return;
	}
	extend(sent_at(l, l->n - 1), end, now_us, mark);
}

/* Record i ends at `seq`, and what is behind becomes record i + 1. False: no room. */
static bool split(struct sent_log *l, struct tcp_memory *m, uint32_t i, uint32_t seq)
{
	if (!make_room(l, m))
		return false;
	struct sent *r = sent_at(l, i);
	memmove(r + 1, r, (l->n - i) * sizeof *r);
	l->n++;
	r->end = seq;
	r->bits &= ~SENT_PUSH;
	return true;
}

/*
 * Record i ends at `seq`. Without room what is behind becomes the next record's, if the same holds for that. False:
 * neither.
 */
static bool cut(struct sent_log *l, struct tcp_memory *m, uint32_t i, uint32_t seq)
{
	if (split(l, m, i, seq))
		return true;
	struct sent *r = sent_at(l, i);
	if (i + 1 == l->n || r->lost != r[1].lost || (!r->lost && r->again != r[1].again))
		return false;
	struct sent both = *r;
	both.again |= r[1].again; /* of what is lost the safe side: no round trip is taken of it */
	take_in(&both, r + 1);
	r[1] = both;
	r->end = seq;
	r->bits &= ~SENT_PUSH;
	return true;
}

/* Without room for a record of its own, what goes again is the record's before it, if that went again, too. */
static bool follows(struct sent_log *l, uint32_t i, uint32_t right, int64_t now_us, const struct sent_mark *mark)
{
	struct sent *before = i ? sent_at(l, i - 1) : NULL;
	if (!before || !before->again || before->lost)
		return false;
	extend(before, right, now_us, mark);
	return true;
}

/* With the record before, if they say the same. */
static void join(struct sent_log *l, uint32_t i)
{
	if (i == 0 || i >= l->n || l->n < SENT_SINGLE)
		return;
	struct sent *a = sent_at(l, i - 1), *b = sent_at(l, i);
	if (a->at_us != b->at_us || !say_the_same(a, b))
		return;
	take_in(a, b);
	memmove(b, b + 1, (l->n - i - 1) * sizeof *b);
	l->n--;
}

/* What left as several small segments leaves as one now: whole records from i on, up to `right`. */
static void join_small(struct sent_log *l, uint32_t i, uint32_t right)
{
	struct sent *r = sent_at(l, i);
	bool several = false;
	for (; i + 1 < l->n && SEQ_LEQ(r[1].end, right); several = true) {
		take_in(r, r + 1);
		memmove(r + 1, r + 2, (l->n - i - 2) * sizeof *r);
		l->n--;
	}
	if (several)
		r->bits = (r->bits & ~SENT_UNEVEN) | SENT_SHORT_END;
}

void sent_again(struct sent_log *l, struct tcp_memory *m, uint32_t una, uint32_t left, uint32_t right, int64_t now_us,
		const struct sent_mark *mark)
{
	uint32_t room = (l->more ? l->cap : SENT_FEW) - l->n;
	if (room < 2 && l->cap == SENT_MAX)
		compress(l); /* at most two more are needed for the edges */
	uint32_t i = sent_find(l, left);
	if (i == l->n)
		return;
	uint32_t start = i ? sent_at(l, i - 1)->end : una;
	if (SEQ_LT(start, left) && split(l, m, i, left)) {
		i++;
		start = left;
	}
	uint32_t first = i;
	join_small(l, i, right);
	for (; i < l->n && SEQ_LT(start, right); i++) {
		if (SEQ_GT(sent_at(l, i)->end, right) && !cut(l, m, i, right) && follows(l, i, right, now_us, mark))
			return;
		struct sent *r = sent_at(l, i);
		uint8_t segments = r->bits & (SENT_SHORT_END | SENT_UNEVEN | SENT_PUSH);
		start = r->end;
		*r = make_record(r->end, now_us, mark);
		r->bits |= segments;
		r->again = true;
	}
	for (; i >= first && i > 0; i--)
		join(l, i);
}

void sent_mark_lost(struct sent_log *l, struct tcp_memory *m, uint32_t i, uint32_t right)
{
	if (SEQ_GT(sent_at(l, i)->end, right))
		split(l, m, i, right);
	sent_at(l, i)->lost = true;
	join(l, i);
}

void sent_cut(struct sent_log *l, struct tcp_memory *m, uint32_t una, uint32_t seq)
{
	uint32_t i = sent_find(l, seq);
	uint32_t start = i && i < l->n ? sent_at(l, i - 1)->end : una;
	if (i < l->n && l->n < SENT_SINGLE && SEQ_LT(start, seq))
		split(l, m, i, seq);
}

void sent_take_back(struct sent_log *l, uint32_t una, uint32_t seq)
{
	while (l->n && SEQ_GEQ(l->n > 1 ? sent_at(l, l->n - 2)->end : una, seq))
		l->n--;
	if (l->n && SEQ_GT(sent_at(l, l->n - 1)->end, seq)) {
		sent_at(l, l->n - 1)->end = seq;
		sent_at(l, l->n - 1)->bits &= ~SENT_PUSH;
	}
}

void sent_drop_before(struct sent_log *l, struct tcp_memory *m, uint32_t seq)
{
	while (l->n && SEQ_LEQ(sent_at(l, 0)->end, seq)) {
		l->first++;
		l->n--;
	}
	if (!l->n)
		sent_free(l, m);
}

uint32_t sent_find(const struct sent_log *l, uint32_t seq)
{
	uint32_t low = 0, high = l->n;
	while (low < high) { /* the first record that ends behind seq */
		uint32_t middle = (low + high) / 2;
		if (SEQ_GT(sent_peek(l, middle)->end, seq))
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

void sent_forget_segments(struct sent_log *l)
{
	for (uint32_t i = 0; i < l->n; i++)
		sent_at(l, i)->bits |= SENT_UNEVEN;
}
