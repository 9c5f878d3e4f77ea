/* The timer heap: order, moving, cancelling, growth, against a plain array. */
#include <check.h>
#include <stdlib.h>

#include "base/timers.h"
#include "tests/suite.h"

static struct timers heap;

static void setup(void)
{
	timers_init(&heap);
}

static void teardown(void)
{
	ck_assert_uint_eq(heap.count, 0);
	timers_fini(&heap);
	ck_assert_ptr_null(heap.heap);
}

START_TEST(test_empty)
{
	struct timer t;
	timer_init(&t);
	ck_assert_ptr_null(timers_first(&heap));
	ck_assert_int_eq(timers_deadline(&heap), TIME_NEVER);
	ck_assert(!timer_is_armed(&t));
	timers_cancel(&heap, &t);
	ck_assert_int_eq(timers_set(&heap, &t, TIME_NEVER), 0);
	ck_assert(!timer_is_armed(&t));
}
END_TEST

START_TEST(test_move_and_cancel)
{
	struct timer a, b, c;
	timer_init(&a);
	timer_init(&b);
	timer_init(&c);
	ck_assert_int_eq(timers_set(&heap, &a, 10), 0);
	ck_assert_int_eq(timers_set(&heap, &b, 20), 0);
	ck_assert_int_eq(timers_set(&heap, &c, -5), 0); /* time may be negative */
	ck_assert_ptr_eq(timers_first(&heap), &c);
	ck_assert_int_eq(timers_set(&heap, &c, 30), 0); /* later */
	ck_assert_ptr_eq(timers_first(&heap), &a);
	ck_assert_int_eq(timers_set(&heap, &b, 5), 0); /* earlier */
	ck_assert_ptr_eq(timers_first(&heap), &b);
	ck_assert_int_eq(timers_deadline(&heap), 5);
	ck_assert_int_eq(b.at_us, 5);
	ck_assert_int_eq(timers_set(&heap, &b, TIME_NEVER), 0); /* cancels */
	ck_assert(!timer_is_armed(&b));
	ck_assert_int_eq(b.at_us, TIME_NEVER);
	ck_assert_ptr_eq(timers_first(&heap), &a);
	timers_cancel(&heap, &a);
	timers_cancel(&heap, &a);
	ck_assert_ptr_eq(timers_first(&heap), &c);
	timers_cancel(&heap, &c);
	ck_assert_ptr_null(timers_first(&heap));
}
END_TEST

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

/* Growth over several doublings; what comes out is sorted. Fixed seed. */
START_TEST(test_sorts)
{
	enum { N = 5000 };
	static struct timer t[N];
	static int64_t want[N];
	uint32_t seed = 7;
	for (int i = 0; i < N; i++) {
		seed = seed * 1664525 + 1013904223;
		want[i] = seed >> 20; /* many equal ones */
		ck_assert_int_eq(timers_set(&heap, &t[i], want[i]), 0);
	}
	ck_assert_uint_eq(heap.count, N);
	qsort(want, N, sizeof *want, compare);
	for (int i = 0; i < N; i++) {
		struct timer *first = timers_first(&heap);
		ck_assert_int_eq(first->at_us, want[i]);
		timers_cancel(&heap, first);
	}
}
END_TEST

/* Random set, move and cancel; after each step the first is the least of all. Fixed seed. */
START_TEST(test_random_against_array)
{
	enum { N = 64, STEPS = 5000 };
	struct timer t[N];
	uint32_t seed = 3;
	for (int i = 0; i < N; i++)
		timer_init(&t[i]);
	for (int step = 0; step < STEPS; step++) {
		int64_t least = TIME_NEVER;
		bool in_place = true;
		uint32_t armed = 0;
		seed = seed * 1664525 + 1013904223;
		struct timer *one = &t[(seed >> 8) % N];
		if (seed >> 30 == 0)
			timers_cancel(&heap, one);
		else
			ck_assert_int_eq(timers_set(&heap, one, (seed >> 16) % 1000), 0);
		for (int i = 0; i < N; i++) {
			if (!timer_is_armed(&t[i]))
				continue;
			armed++;
			least = t[i].at_us < least ? t[i].at_us : least;
			in_place &= heap.heap[t[i].index - 1].timer == &t[i];
		}
		for (uint32_t i = 1; i < heap.count; i++)
			in_place &= heap.heap[(i - 1) / 4].at_us <= heap.heap[i].at_us;
		ck_assert(in_place);
		ck_assert_uint_eq(heap.count, armed);
		ck_assert_int_eq(timers_deadline(&heap), least);
	}
	for (int i = 0; i < N; i++)
		timers_cancel(&heap, &t[i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("timers");
	TCase *tc = tcase_create("timers");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_empty);
	tcase_add_test(tc, test_move_and_cancel);
	tcase_add_test(tc, test_sorts);
	tcase_add_test(tc, test_random_against_array);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
