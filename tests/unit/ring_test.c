/* base/ring: content, wrap-around, growth with data beyond the end, and memory given back. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/ring.h"
#include "base/user.h"
#include "tests/suite.h"

#define FRESH 0xee

struct counted {
	struct tcp_memory memory;
	size_t in_use;
	size_t limit;
};

static void *counted_alloc(struct tcp_memory *m, size_t size)
{
	struct counted *c = (struct counted *)m;
	ck_assert_uint_eq(size & (size - 1), 0);
	if (c->limit && c->in_use + size > c->limit)
		return NULL;
	c->in_use += size;
	void *p = malloc(size);
	return p ? memset(p, FRESH, size) : NULL;
}

static void counted_free(struct tcp_memory *m, void *p, size_t size)
{
	((struct counted *)m)->in_use -= size;
	free(p);
}

static struct counted mem;
static struct ring ring;
static uint8_t pattern[1 << 16], back[1 << 16];

static void setup(void)
{
	mem = (struct counted){.memory = {counted_alloc, counted_free}};
	memset(&ring, 0, sizeof ring);
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = i * 7 + (i >> 8);
}

static void teardown(void)
{
	ring_free(&ring, &mem.memory);
	ck_assert_uint_eq(mem.in_use, 0);
}

static void append(const uint8_t *bytes, uint32_t n)
{
	ck_assert_int_eq(ring_reserve(&ring, &mem.memory, ring.len + n), 0);
	ring_write(&ring, ring.len, bytes, n);
	ring_commit(&ring, n);
}

/*
 * Wherever the ring and the caller's memory stand in their pages: nothing is copied but what was asked for, and all of
 * that.
 */
START_TEST(any_distance_within_a_page)
{
	static uint8_t room[(1 << 16) + 8192], sent[sizeof room];
	enum { N = 20011 };
	for (unsigned distance = 0; distance < 4096; distance += distance < 70 || distance > 4020 ? 1 : 61) {
		ck_assert_int_eq(ring_reserve(&ring, &mem.memory, N), 0);
		uintptr_t first = (uintptr_t)ring.bytes + ring.head;
		uint8_t *at = room + ((first + distance - (uintptr_t)room) & 4095), *from = sent + ((first - distance - (uintptr_t)sent) & 4095);
		memset(room, 0xa5, sizeof room);
		memcpy(from, pattern + distance, N);
		append(from, N);
		ring_read(&ring, 0, at + 1, N - 1);
		ck_assert_mem_eq(at + 1, pattern + distance, N - 1);
		ck_assert_uint_eq(at[0], 0xa5);
		ck_assert_uint_eq(at[N], 0xa5);
		ring_consume(&ring, N);
	}
}
END_TEST

START_TEST(empty_owns_nothing)
{
	struct iovec piece[2];
	ck_assert_int_eq(ring_span(&ring, 0, 0, piece), 0);
	ck_assert_uint_eq(mem.in_use, 0);
	append(pattern, 1);
	ck_assert_uint_eq(mem.in_use, RING_CAP_MIN);
}
END_TEST

START_TEST(bytes_come_out_in_order)
{
	append(pattern, 100);
	ring_read(&ring, 10, back, 20);
	ck_assert_mem_eq(back, pattern + 10, 20);
	ring_consume(&ring, 60);
	ck_assert_uint_eq(ring.len, 40);
	ring_read(&ring, 0, back, 40);
	ck_assert_mem_eq(back, pattern + 60, 40);
}
END_TEST

START_TEST(a_span_that_wraps_is_two_pieces)
{
	append(pattern, RING_CAP_MIN - 10);
	ring_consume(&ring, RING_CAP_MIN - 20);
	append(pattern + RING_CAP_MIN - 10, 50);
	ck_assert_uint_eq(ring.cap, RING_CAP_MIN);
	struct iovec piece[2];
	ck_assert_int_eq(ring_span(&ring, 0, 60, piece), 2);
	ck_assert_uint_eq(piece[0].iov_len, 20);
	ck_assert_uint_eq(piece[1].iov_len, 40);
	ck_assert_mem_eq(piece[0].iov_base, pattern + RING_CAP_MIN - 20, 20);
	ck_assert_mem_eq(piece[1].iov_base, pattern + RING_CAP_MIN, 40);
	ck_assert_int_eq(ring_span(&ring, 25, 10, piece), 1);
	ck_assert_mem_eq(piece[0].iov_base, pattern + RING_CAP_MIN + 5, 10);
}
END_TEST

static void on_fault(int sig, siginfo_t *info, void *context)
{
	if (!user_fix_up(info, context))
		abort();
	(void)sig;
}

/* A page that is gone in the middle of a copy: whatever copies, it says so, and the ring is as it was. */
START_TEST(memory_that_is_gone)
{
	enum { PAGE = 4096, PAGES = 8 }; /* more than the longest piece: nothing else is behind it */
	struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER}, old;
	uint8_t *page = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(page, MAP_FAILED);
	mprotect(page + PAGE, (PAGES - 1) * PAGE, PROT_NONE);
	sigaction(SIGSEGV, &act, &old);
	append(pattern, 20000);
	ck_assert_int_eq(ring_reserve(&ring, &mem.memory, 40000), 0);
	for (uint32_t before = 0; before < PAGE; before += 97)
		for (uint32_t n = before + 1; n < 20000; n = n * 3 + 5) {
			ck_assert(!ring_read(&ring, 0, page + PAGE - before, n));
			ck_assert(!ring_write_user(&ring, ring.len, page + PAGE - before, n));
			ck_assert(ring_read(&ring, 0, page + PAGE - before, before));
			ck_assert(ring_write_user(&ring, ring.len, page + PAGE - before, before));
		}
	ck_assert_uint_eq(ring.len, 20000);
	ring_read(&ring, 0, back, 20000);
	ck_assert_mem_eq(back, pattern, 20000);
	sigaction(SIGSEGV, &old, NULL);
	munmap(page, PAGES * PAGE);
}
END_TEST

START_TEST(growth_keeps_what_waits_out_of_order)
{
	/* Wrapped, with 100 bytes in order, a gap of 100, and 100 beyond it. */
	append(pattern, RING_CAP_MIN - 50);
	ring_consume(&ring, RING_CAP_MIN - 50);
	append(pattern, 100);
	ck_assert_int_eq(ring_reserve(&ring, &mem.memory, 300), 0);
	ring_write(&ring, 200, pattern + 200, 100);
	ck_assert_int_eq(ring_reserve(&ring, &mem.memory, 3 * RING_CAP_MIN), 0);
	ck_assert_uint_eq(ring.cap, 4 * RING_CAP_MIN);
	ring_write(&ring, 100, pattern + 100, 100); /* the gap is filled */
	ring_commit(&ring, 200);
	ring_read(&ring, 0, back, 300);
	ck_assert_mem_eq(back, pattern, 300);
	ck_assert_uint_eq(mem.in_use, 4 * RING_CAP_MIN);
}
END_TEST

/* Also where what is kept wraps, or is nothing. */
START_TEST(growth_copies_what_is_kept)
{
	static const uint32_t kept[] = {0, 1, 40, 50, 51, 99, 100};
	for (unsigned k = 0; k < sizeof kept / sizeof *kept; k++) {
		append(pattern, RING_CAP_MIN - 50);
		ring_consume(&ring, RING_CAP_MIN - 50);
		append(pattern, 100);
		ck_assert_uint_eq(ring.cap, RING_CAP_MIN);
		ck_assert_int_eq(ring_reserve_keep(&ring, &mem.memory, RING_CAP_MIN + 1, kept[k]), 0);
		ring_read(&ring, 0, back, 100);
		ck_assert_mem_eq(back, pattern, kept[k]);
		for (uint32_t i = kept[k]; i < 100; i++)
			ck_assert_uint_eq(back[i], FRESH);
		ring_free(&ring, &mem.memory);
		ring.hint = 0;
	}
}
END_TEST

START_TEST(without_memory_nothing_changes)
{
	append(pattern, 500);
	mem.limit = mem.in_use;
	ck_assert_int_eq(ring_reserve(&ring, &mem.memory, RING_CAP_MIN + 1), -ENOMEM);
	ck_assert_int_eq(ring_reserve(&ring, &mem.memory, RING_CAP_MAX + 1), -ENOMEM);
	ring_read(&ring, 0, back, 500);
	ck_assert_mem_eq(back, pattern, 500);
}
END_TEST

/* What a burst needed once is asked for again; where that is refused, what is needed now is enough. */
START_TEST(a_refused_size_is_not_needed)
{
	ck_assert_int_eq(ring_reserve(&ring, &mem.memory, 1 << 20), 0);
	ring_free(&ring, &mem.memory);
	mem.limit = 1 << 16;
	append(pattern, 100);
	ck_assert_uint_lt(ring.cap, 1 << 16);
}
END_TEST

START_TEST(a_stream_starts_where_it_ended)
{
	append(pattern, 8 * RING_CAP_MIN);
	ring_consume(&ring, 8 * RING_CAP_MIN);
	ring_free(&ring, &mem.memory);
	append(pattern, 10);
	ck_assert_uint_eq(ring.cap, 8 * RING_CAP_MIN);
	/* Not only once: the next burst need not grow it anew, … */
	for (int i = 0; i < 12; i++) {
		ring_consume(&ring, ring.len);
		ring_free(&ring, &mem.memory);
		append(pattern, 10);
		ck_assert_uint_eq(ring.cap, 8 * RING_CAP_MIN);
	}
	/* … but a single one does not fix the size for ever. */
	for (int i = 0; i < 4 * 16; i++) {
		ring_consume(&ring, ring.len);
		ring_free(&ring, &mem.memory);
		append(pattern, 10);
	}
	ck_assert_uint_le(ring.cap, 2 * RING_CAP_MIN);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ring");
	TCase *t = tcase_create("ring");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, any_distance_within_a_page);
	tcase_add_test(t, empty_owns_nothing);
	tcase_add_test(t, bytes_come_out_in_order);
	tcase_add_test(t, a_span_that_wraps_is_two_pieces);
	tcase_add_test(t, memory_that_is_gone);
	tcase_add_test(t, growth_keeps_what_waits_out_of_order);
	tcase_add_test(t, growth_copies_what_is_kept);
	tcase_add_test(t, without_memory_nothing_changes);
	tcase_add_test(t, a_refused_size_is_not_needed);
	tcase_add_test(t, a_stream_starts_where_it_ended);
	suite_add_tcase(s, t);
	return suite_main(s);
}
