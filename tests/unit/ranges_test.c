/* base/ranges against a plain bitmap, with sequence numbers that wrap. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/ranges.h"
#include "tests/suite.h"

static size_t in_use;
static bool memory_refuses;

static void *count_alloc(struct tcp_memory *m, size_t size)
{
	if (memory_refuses)
		return NULL;
	in_use += size;
	return malloc(size);
}

static void count_free(struct tcp_memory *m, void *p, size_t size)
{
	in_use -= size;
	free(p);
}

static struct tcp_memory memory = {.alloc = count_alloc, .free = count_free};
static struct ranges set;

#define BASE UINT32_C(0xffffff80) /* wraps after 128 */

static int64_t add(uint32_t left, uint32_t right)
{
	return ranges_add(&set, &memory, BASE + left, BASE + right);
}

static void setup(void)
{
	memset(&set, 0, sizeof set);
}

static void teardown(void)
{
	ranges_free(&set, &memory);
	ck_assert_uint_eq(in_use, 0);
}

START_TEST(merges_what_touches)
{
	ck_assert_int_eq(add(100, 110), 10);
	ck_assert_int_eq(add(130, 140), 10);
	ck_assert_uint_eq(set.n, 2);
	ck_assert_int_eq(add(110, 130), 20);
	ck_assert_uint_eq(set.n, 1);
	ck_assert_uint_eq(set.r[0].left, BASE + 100);
	ck_assert_uint_eq(set.r[0].right, BASE + 140);
	ck_assert_int_eq(add(105, 120), 0);
	ck_assert_int_eq(add(90, 150), 20);
	ck_assert_uint_eq(ranges_total(&set), 60);
}
END_TEST

START_TEST(finds_and_drops)
{
	add(10, 20);
	add(120, 140); /* straddles 2^32 */
	ck_assert_ptr_null(ranges_find(&set, BASE + 20));
	ck_assert_ptr_nonnull(ranges_find(&set, BASE + 19));
	ck_assert_ptr_eq(ranges_find(&set, BASE + 130), &set.r[1]);
	ranges_drop_before(&set, &memory, BASE + 130);
	ck_assert_uint_eq(set.n, 1);
	ck_assert_uint_eq(set.r[0].left, BASE + 130);
	ranges_drop_before(&set, &memory, BASE + 140);
	ck_assert_uint_eq(set.n, 0);
	ck_assert_uint_eq(in_use, 0); /* empty, it owns nothing */
}
END_TEST

START_TEST(a_full_set_refuses_new_ranges_only)
{
	for (uint32_t i = 0; i < RANGES_MAX; i++)
		ck_assert_int_eq(add(i * 4, i * 4 + 2), 2);
	ck_assert(!ranges_fits(&set, &memory, BASE + 100000, BASE + 100001));
	ck_assert(ranges_fits(&set, &memory, BASE + 2, BASE + 3));
	ck_assert_int_eq(add(100000, 100001), -ENOSPC);
	ck_assert_int_eq(add(2, 4), 2); /* closes a hole */
	ck_assert_uint_eq(set.n, RANGES_MAX - 1);
	ck_assert(ranges_fits(&set, &memory, BASE + 100000, BASE + 100001));
	ck_assert_int_eq(add(100000, 100001), 1);
}
END_TEST

/* A few holes cost a few bytes, and who asks whether there is room has it. */
START_TEST(takes_what_it_needs)
{
	for (uint32_t i = 0; i < 100; i++) {
		ck_assert(ranges_fits(&set, &memory, BASE + i * 4, BASE + i * 4 + 2));
		memory_refuses = true;
		ck_assert_int_eq(add(i * 4, i * 4 + 2), 2);
		memory_refuses = false;
		ck_assert_uint_eq(in_use, ranges_bytes(&set));
		ck_assert_uint_le(in_use, i < RANGES_MIN ? 64 : 2 * (i + 1) * sizeof(struct range));
	}
	memory_refuses = true;
	while (set.n < set.room)
		add(set.n * 4, set.n * 4 + 2);
	ck_assert_int_eq(add(100000, 100001), -ENOMEM);
	memory_refuses = false;
}
END_TEST

START_TEST(agrees_with_a_bitmap)
{
	enum { SPACE = 256 };
	uint32_t random = 12345;
	for (int round = 0; round < 200; round++) {
		uint8_t bitmap[SPACE] = {0};
		for (int step = 0; step < 40; step++) {
			random = random * 1664525 + 1013904223;
			uint32_t left = (random >> 8) % (SPACE - 16);
			uint32_t right = left + 1 + (random >> 24) % 15;
			int64_t new = 0;
			for (uint32_t i = left; i < right; i++) {
				new += !bitmap[i];
				bitmap[i] = 1;
			}
			ck_assert_int_eq(add(left, right), new);
		}
		for (uint32_t i = 0; i < SPACE; i++)
			ck_assert_int_eq(ranges_find(&set, BASE + i) != NULL, bitmap[i]);
		for (uint32_t i = 1; i < set.n; i++) /* in order, and never adjacent */
			ck_assert_int_gt((int32_t)(set.r[i].left - set.r[i - 1].right), 0);
		ranges_free(&set, &memory);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ranges");
	TCase *t = tcase_create("ranges");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, merges_what_touches);
	tcase_add_test(t, finds_and_drops);
	tcase_add_test(t, a_full_set_refuses_new_ranges_only);
	tcase_add_test(t, takes_what_it_needs);
	tcase_add_test(t, agrees_with_a_bitmap);
	suite_add_tcase(s, t);
	return suite_main(s);
}
