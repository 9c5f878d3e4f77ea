/* Text out of order: all of it comes back, and it costs what was sent, not where it belongs. */
#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tcp/reassembly.h"
#include "test_memory.h"
#include "tests/suite.h"

#define BASE UINT32_C(0xffffff00) /* straddles 2^32 */

static struct test_memory memory;
static struct reassembly r;
static uint8_t text[200000];

static void setup(void)
{
	test_memory_init(&memory);
	memset(&r, 0, sizeof r);
	for (unsigned i = 0; i < sizeof text; i++)
		text[i] = i * 7 + i / 251;
}

static void teardown(void)
{
	reassembly_free(&r, &memory.memory);
	ck_assert_uint_eq(r.bytes, 0);
	ck_assert_uint_eq(r.n, 0);
	ck_assert_uint_eq(memory.live_blocks, 0);
}

static int add(uint32_t at, uint32_t len, uint32_t most)
{
	int err = reassembly_add(&r, &memory.memory, BASE + at, text + at, len, most);
	ck_assert_uint_eq(r.bytes, memory.live_bytes);
	ck_assert_uint_eq(r.n, memory.live_blocks);
	ck_assert_uint_le(r.bytes, most);
	return err;
}

/* Everything from `at` on that is there in a row: how much, and that it is right. */
static uint32_t take(uint32_t at)
{
	const uint8_t *bytes;
	uint32_t n, start = at;
	while ((n = reassembly_at(&r, &memory.memory, BASE + at, &bytes))) {
		ck_assert_mem_eq(bytes, text + at, n);
		at += n;
	}
	return at - start;
}

START_TEST(one_byte_far_away_costs_one_chunk)
{
	ck_assert_int_eq(add(65000, 1, 1 << 20), 0);
	ck_assert_uint_eq(r.bytes, 64);
	ck_assert_uint_eq(take(0), 0);
	ck_assert_uint_eq(take(65000), 1);
}
END_TEST

START_TEST(small_segments_in_a_row_fill_chunks)
{
	for (uint32_t i = 1; i < 60001; i++)
		ck_assert_int_eq(add(i, 1, 1 << 20), 0);
	ck_assert_uint_lt(r.bytes, 60000 + 2 * 16384);
	ck_assert_uint_eq(take(1), 60000);
}
END_TEST

START_TEST(large_segments_waste_little)
{
	ck_assert_int_eq(add(1000, 65000, 1 << 20), 0);
	ck_assert_uint_lt(r.bytes, 65000 + 16384);
	ck_assert_uint_eq(take(1000), 65000);
}
END_TEST

START_TEST(never_more_than_it_may)
{
	uint32_t most = 20000;
	for (uint32_t i = 0; i < 10000; i++) /* holes between all of them, backwards */
		if (add(40000 - 3 * i, 1, most) < 0)
			break;
	ck_assert_uint_gt(r.bytes, most - 128);
	ck_assert_int_eq(add(100000, 1460, most), -ENOMEM);
}
END_TEST

START_TEST(no_more_chunks_than_a_search_can_bear)
{
	for (uint32_t i = 0; i < 2 * REASSEMBLY_CHUNKS_MAX; i++)
		add(2 * i, 1, 1 << 30);
	ck_assert_uint_eq(r.n, REASSEMBLY_CHUNKS_MAX);
	ck_assert_uint_eq(take(0), 1);
}
END_TEST

START_TEST(memory_that_runs_out)
{
	memory.limit_bytes = 1000;
	ck_assert_int_eq(add(10, 2000, 1 << 20), -ENOMEM);
	ck_assert_int_eq(add(5000, 100, 1 << 20), 0);
	ck_assert_uint_eq(take(5000), 100);
}
END_TEST

/* Any order, any overlap, against an array of what was sent. */
START_TEST(whatever_the_order)
{
	static bool there[8000];
	uint32_t seed = 1 + _i;
	memset(there, 0, sizeof there);
	for (int k = 0; k < 400; k++) {
		seed = seed * 1664525 + 1013904223;
		uint32_t at = seed >> 8 & 0xfff, len = 1 + (seed >> 20) % (_i & 1 ? 1460 : 40);
		if (add(at, len, 1 << 20) == 0)
			memset(there + at, true, len);
	}
	for (uint32_t at = 0; at < 7000;) {
		uint32_t n = 0;
		while (there[at + n])
			n++;
		ck_assert_uint_ge(take(at), n);
		at += n + 1;
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tcp/reassembly");
	TCase *tc = tcase_create("reassembly");
	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, one_byte_far_away_costs_one_chunk);
	tcase_add_test(tc, small_segments_in_a_row_fill_chunks);
	tcase_add_test(tc, large_segments_waste_little);
	tcase_add_test(tc, never_more_than_it_may);
	tcase_add_test(tc, no_more_chunks_than_a_search_can_bear);
	tcase_add_test(tc, memory_that_runs_out);
	tcase_add_loop_test(tc, whatever_the_order, 0, 40);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
