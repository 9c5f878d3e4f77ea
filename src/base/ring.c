#include "base/ring.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/user.h"

#define PAGE_BYTES       4096
#define SLOW_BYTES       32   /* … and nearer, but not at the same place */
#define HINT_USES        16
#define COPY_PIECE_BYTES 2048 /* libc copies no more than that by vectors */

/*
 * memcpy, but not slow where the target is, modulo a page, a few bytes behind the source. libc copies what is longer
 * than some 4 KiB with `rep movsb`, and there processors take it for an overlap: 64 KiB cost 25 us instead of 1.3 on an
 * AMD EPYC (Zen; dst - src modulo 4096 from 1 to 31). A program that reads whole pages into what malloc gave it, 16
 * bytes behind a page's start, would have that each time.
 */
static void *copy(void *dst, const void *src, size_t n)
{
	if ((((uintptr_t)dst - (uintptr_t)src - 1) & (PAGE_BYTES - 1)) < SLOW_BYTES - 1)
		for (; n > COPY_PIECE_BYTES; n -= COPY_PIECE_BYTES) {
			size_t piece = COPY_PIECE_BYTES;
			__asm__("" : "+r"(piece)); /* a length that the compiler knows it would copy with `rep movsq` */
			memcpy(dst, src, piece);
			dst = (char *)dst + piece;
			src = (const char *)src + piece;
		}
	return memcpy(dst, src, n);
}

static uint32_t round_up_power_of_two(uint32_t n)
{
	return n <= 1 ? 1 : UINT32_C(1) << (32 - __builtin_clz(n - 1));
}

/* What `hint` says: a capacity, and in the bits below RING_CAP_MIN how many uses it has been enough for. */
static uint32_t hint_cap(const struct ring *r)
{
	return r->hint & ~(RING_CAP_MIN - 1);
}

static uint32_t ring_index(const struct ring *r, uint32_t at)
{
	return (r->head + at) & (r->cap - 1);
}

int ring_span(const struct ring *r, uint32_t at, uint32_t n, struct iovec out[2])
{
	if (n == 0)
		return 0;
	assert(at + n <= r->cap);
	uint32_t start = ring_index(r, at), first = r->cap - start;
	if (n <= first) {
		out[0] = (struct iovec){r->bytes + start, n};
		return 1;
	}
	out[0] = (struct iovec){r->bytes + start, first};
	out[1] = (struct iovec){r->bytes, n - first};
	return 2;
}

int ring_reserve(struct ring *r, struct tcp_memory *m, uint32_t need)
{
	return ring_reserve_keep(r, m, need, r->cap); /* data beyond len may wait there out of order */
}

int ring_reserve_keep(struct ring *r, struct tcp_memory *m, uint32_t need, uint32_t keep)
{
	if (need <= r->cap)
		return 0;
	if (need > RING_CAP_MAX)
		return -ENOMEM;
	uint32_t cap = round_up_power_of_two(need);
	if (cap < RING_CAP_MIN)
		cap = RING_CAP_MIN;
	uint8_t *bytes = cap < hint_cap(r) ? m->alloc(m, hint_cap(r)) : NULL;
	if (bytes) {
		cap = hint_cap(r);
	} else {
		r->hint = 0; /* what it once had is not what it may have now */
		bytes = m->alloc(m, cap);
	}
	if (!bytes)
		return -ENOMEM;
	if (r->cap) {
		uint32_t first = keep < r->cap - r->head ? keep : r->cap - r->head;
		copy(bytes, r->bytes + r->head, first);
		copy(bytes + first, r->bytes, keep - first);
		m->free(m, r->bytes, r->cap);
	}
	r->bytes = bytes;
	r->cap = cap;
	r->head = 0;
	return 0;
}

void ring_write(struct ring *r, uint32_t at, const void *src, uint32_t n)
{
	struct iovec piece[2];
	int pieces = ring_span(r, at, n, piece);
	if (pieces > 0)
		copy(piece[0].iov_base, src, piece[0].iov_len);
	if (pieces > 1)
		copy(piece[1].iov_base, (const uint8_t *)src + piece[0].iov_len, piece[1].iov_len);
}

bool ring_write_user(struct ring *r, uint32_t at, const void *src, uint32_t n)
{
	struct iovec piece[2];
	int pieces = ring_span(r, at, n, piece);
	return (pieces < 1 || user_guarded(copy, piece[0].iov_base, src, piece[0].iov_len)) &&
	       (pieces < 2 || user_guarded(copy, piece[1].iov_base, (const uint8_t *)src + piece[0].iov_len, piece[1].iov_len));
}

void ring_commit(struct ring *r, uint32_t n)
{
	assert(r->len + n <= r->cap);
	r->len += n;
}

bool ring_read(const struct ring *r, uint32_t at, void *dst, uint32_t n)
{
	struct iovec piece[2];
	assert(at + n <= r->len);
	int pieces = ring_span(r, at, n, piece);
	return (pieces < 1 || user_guarded(copy, dst, piece[0].iov_base, piece[0].iov_len)) &&
	       (pieces < 2 || user_guarded(copy, (uint8_t *)dst + piece[0].iov_len, piece[1].iov_base, piece[1].iov_len));
}

void ring_consume(struct ring *r, uint32_t n)
{
	assert(n <= r->len);
	if (n == 0)
		return;
	r->head = ring_index(r, n);
	r->len -= n;
}

void ring_free(struct ring *r, struct tcp_memory *m)
{
	if (!r->cap)
		return;
	m->free(m, r->bytes, r->cap);
	/*
	 * Once in a while halfway back: a burst does not fix the size for ever. But a stream whose bursts differ would
	 * grow it anew, and copy all, at each large one.
	 */
	if (r->cap <= 2 * RING_CAP_MIN || r->cap != hint_cap(r))
		r->hint = r->cap;
	else if (++r->hint - r->cap == HINT_USES)
		r->hint = r->cap / 2;
	r->bytes = NULL;
	r->cap = r->head = r->len = 0;
}
