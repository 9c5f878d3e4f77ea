/* base/chunks: the bytes come out as they went in, whatever the sizes; nothing is copied when it
 * grows, and all memory goes back. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/chunks.h"
#include "tests/suite.h"

#define MANY (40 * CHUNK_BYTES)

struct counted {
	struct tcp_memory memory;
	size_t in_use, limit;
	unsigned allocs;
};

static void *counted_alloc(struct tcp_memory *m, size_t size)
{
	struct counted *c = (struct counted *)m;
	ck_assert_uint_eq(size & (size - 1), 0);
	if (c->limit && c->in_use + size > c->limit)
		return NULL;
	c->in_use += size;
	c->allocs++;
	return malloc(size);
}

static void counted_free(struct tcp_memory *m, void *p, size_t size)
{
	((struct counted *)m)->in_use -= size;
	free(p);
}

static struct counted mem;
static struct chunks chunks;
static uint32_t first; /* which byte of the stream is the content's first */
static uint8_t bytes[MANY];

static uint8_t stream_byte(uint32_t i)
{
	return i * 7 + (i >> 8) + (i >> 17);
}

static void setup(void)
{
	mem = (struct counted){.memory = {counted_alloc, counted_free}};
	memset(&chunks, 0, sizeof chunks);
	first = 0;
}

static void teardown(void)
{
	chunks_free(&chunks, &mem.memory);
	ck_assert_uint_eq(chunks.len, 0);
	ck_assert_uint_eq(mem.in_use, 0);
}

static int append(uint32_t n)
{
	int err = chunks_reserve(&chunks, &mem.memory, chunks.len + n);
	if (err)
		return err;
	for (uint32_t i = 0; i < n; i++)
		bytes[i] = stream_byte(first + chunks.len + i);
	ck_assert_uint_eq(chunks_append(&chunks, bytes, n), n);
	return 0;
}

/* The same by way of the room that the bytes will have, of which a part may stay empty. */
static int append_in_place(uint32_t n, uint32_t unused)
{
	int err = chunks_reserve(&chunks, &mem.memory, chunks.len + n + unused);
	if (err)
		return err;
	while (n) {
		struct iovec room[2];
		uint32_t most = n + unused < CHUNK_BYTES ? n + unused : CHUNK_BYTES, filled = 0;
		int pieces = chunks_room(&chunks, most, room);
		for (int k = 0; k < pieces; k++)
			for (size_t i = 0; i < room[k].iov_len && filled < n; i++, filled++)
				((uint8_t *)room[k].iov_base)[i] = stream_byte(first + chunks.len + filled);
		ck_assert_uint_ge(filled, n < most ? n : most);
		chunks_commit(&chunks, filled);
		n -= filled;
	}
	return 0;
}

static void consume(uint32_t n)
{
	chunks_consume(&chunks, &mem.memory, n);
	first += n;
}

static void check_span(uint32_t at, uint32_t n)
{
	struct iovec piece[2];
	int pieces = chunks_span(&chunks, at, n, piece);
	for (int k = 0; k < pieces; k++)
		for (size_t i = 0; i < piece[k].iov_len; i++, at++, n--)
			if (((uint8_t *)piece[k].iov_base)[i] != stream_byte(first + at))
				ck_abort_msg("byte %u of %u is wrong", at, chunks.len);
	ck_assert_uint_eq(n, 0);
}

static void check_all(void)
{
	for (uint32_t at = 0, n; at < chunks.len; at += n) {
		n = chunks.len - at < CHUNK_BYTES ? chunks.len - at : CHUNK_BYTES;
		check_span(at, n);
	}
}

START_TEST(empty_owns_nothing)
{
	struct iovec piece[2];
	ck_assert_int_eq(chunks_span(&chunks, 0, 0, piece), 0);
	ck_assert_uint_eq(mem.in_use, 0);
	ck_assert_int_eq(append(1), 0);
	ck_assert_uint_eq(mem.in_use, RING_CAP_MIN);
}
END_TEST

/* From a ring that stands anywhere: empty, whole, small, wrapped. */
START_TEST(a_ring_becomes_a_table)
{
	static const struct {
		uint32_t put, take;
	} before[] = {
	    {0, 0},
	    {1, 0},
	    {5000, 4999},
	    {CHUNK_BYTES, 0},
	    {CHUNK_BYTES, 1},
	    {CHUNK_BYTES, CHUNK_BYTES},
	    {CHUNK_BYTES / 2 + 1, 77},
	};
	for (unsigned i = 0; i < sizeof before / sizeof *before; i++)
		for (uint32_t again = 0; again < 2; again++) {
			ck_assert_int_eq(append(before[i].put), 0);
			consume(before[i].take);
			if (again)
				ck_assert_int_eq(append(before[i].take / 2), 0); /* it may wrap */
			ck_assert_int_eq(append(3 * CHUNK_BYTES + 5), 0);
			check_all();
			chunks_free(&chunks, &mem.memory);
			ck_assert_uint_eq(mem.in_use, 0);
		}
}
END_TEST

/* A stream that is read as fast as it is written goes round in the same memory, however much it
 * once had. */
START_TEST(memory_follows_the_content)
{
	ck_assert_int_eq(append(MANY), 0);
	check_all();
	ck_assert_uint_ge(mem.in_use, MANY);
	consume(MANY - CHUNK_BYTES);
	ck_assert_uint_le(mem.in_use, 3 * CHUNK_BYTES);
	for (int i = 0; i < 500; i++) {
		ck_assert_int_eq(append(50000), 0);
		consume(50000);
		ck_assert_uint_le(mem.in_use, 4 * CHUNK_BYTES);
	}
	check_all();
}
END_TEST

/* Wherever the next bytes will stand: at a ring's end and beyond it, at a chunk's and beyond it. */
START_TEST(bytes_come_in_place)
{
	static const uint32_t before[] = {0, 1, RING_CAP_MIN - 1, RING_CAP_MIN, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES - 1};
	for (unsigned i = 0; i < sizeof before / sizeof *before; i++)
		for (uint32_t gone = 0; gone <= before[i]; gone += before[i] ? before[i] : 1) {
			ck_assert_int_eq(append(before[i]), 0);
			consume(gone);
			ck_assert_int_eq(append_in_place(1, 0), 0);
			ck_assert_int_eq(append_in_place(100, 100), 0);
			ck_assert_int_eq(append_in_place(CHUNK_BYTES, 5), 0);
			ck_assert_uint_eq(chunks.len, before[i] - gone + CHUNK_BYTES + 101);
			check_all();
			chunks_free(&chunks, &mem.memory);
			ck_assert_uint_eq(mem.in_use, 0);
		}
}
END_TEST

/* Each chunk is allocated once; only the table grows. */
START_TEST(growth_copies_nothing)
{
	ck_assert_int_eq(append(2 * CHUNK_BYTES), 0);
	struct iovec before[2], after[2];
	chunks_span(&chunks, 0, 100, before);
	unsigned allocs = mem.allocs;
	ck_assert_int_eq(append(30 * CHUNK_BYTES), 0);
	chunks_span(&chunks, 0, 100, after);
	ck_assert_ptr_eq(before[0].iov_base, after[0].iov_base);
	ck_assert_uint_le(mem.allocs, allocs + 30 + 1);
}
END_TEST

START_TEST(without_memory_the_content_stays)
{
	ck_assert_int_eq(append(CHUNK_BYTES / 2), 0);
	consume(100);
	mem.limit = mem.in_use;
	ck_assert_int_eq(append(CHUNK_BYTES), -ENOMEM);
	check_all();
	mem.limit = mem.in_use + 3 * CHUNK_BYTES;
	ck_assert_int_eq(append(2 * CHUNK_BYTES), 0);
	size_t in_use = mem.in_use;
	ck_assert_int_eq(append(8 * CHUNK_BYTES), -ENOMEM);
	ck_assert_uint_le(mem.in_use, in_use + 256); /* the table may have grown */
	ck_assert_int_eq(chunks_reserve(&chunks, &mem.memory, RING_CAP_MAX + 1), -ENOMEM);
	check_all();
}
END_TEST

/* Any order of verbs. */
START_TEST(whatever_comes)
{
	uint32_t random = 12345 + _i;
	for (int i = 0; i < 3000; i++) {
		random = random * 1103515245 + 12345;
		uint32_t r = random >> 8, size = r % 5 == 0 ? r % (4 * CHUNK_BYTES) : r % 5000;
		mem.limit = r % 11 == 0 ? mem.in_use + CHUNK_BYTES : 0;
		if (chunks.len + size <= MANY && (r >> 16) % 2)
			append(size);
		else if (chunks.len + size <= MANY && (r >> 16) % 3 == 0)
			append_in_place(size, r % 7 ? 0 : r % 3000);
		else
			consume(size < chunks.len ? size : chunks.len);
		if (!chunks.len && r % 3)
			chunks_free(&chunks, &mem.memory);
		if (chunks.len) {
			uint32_t at = r % chunks.len,
				 n = chunks.len - at < 66000 ? chunks.len - at : 66000;
			check_span(at, n);
		}
	}
	check_all();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("chunks");
	TCase *t = tcase_create("chunks");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, empty_owns_nothing);
	tcase_add_test(t, a_ring_becomes_a_table);
	tcase_add_test(t, memory_follows_the_content);
	tcase_add_test(t, bytes_come_in_place);
	tcase_add_test(t, growth_copies_nothing);
	tcase_add_test(t, without_memory_the_content_stays);
	tcase_add_loop_test(t, whatever_comes, 0, 8);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return suite_main(s);
}
