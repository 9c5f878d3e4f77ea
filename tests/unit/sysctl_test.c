/* When the namespace's settings are read again (kernel/sysctl.h). What the clock says is set here; that they were read is seen by read_us. */
#include <check.h>
#include <stdlib.h>

#include "kernel/sysctl.h"

#define MS INT64_C(1000)

/* Asked at `now`, for what may be `age_us` old; what is there is so old, took so long, and somebody asked so long ago. */
static bool is_read_for(int64_t age_us, int64_t old_us, int64_t took_us, int64_t asked_us)
{
	struct sysctls s = {.dirs = {-1, -1}, .open = true, .took_us = took_us};
	const int64_t now = 1000000 * MS;
	s.read_us = now - old_us;
	s.asked_us = now - asked_us;
	sysctls_refresh(&s, now, age_us);
	ck_assert_int_eq(s.asked_us, now);
	return s.read_us != now - old_us;
}

static bool is_read(int64_t old_us, int64_t took_us, int64_t asked_us)
{
	return is_read_for(SYSCTL_AGE_US, old_us, took_us, asked_us);
}

START_TEST(after_a_pause)
{
	ck_assert(!is_read(9 * MS, 10, 1000 * MS));
	ck_assert(is_read(10 * MS, 10, 1000 * MS));
	ck_assert(!is_read(29 * MS, 300, 10 * MS)); /* a hundred times what it took */
	ck_assert(is_read(30 * MS, 300, 10 * MS));
	ck_assert(!is_read(499 * MS, 5 * MS, 10 * MS));
	ck_assert(is_read(500 * MS, 5 * MS, 10 * MS));
}
END_TEST

START_TEST(one_after_the_other)
{
	ck_assert(!is_read(9 * MS, 10, 1 * MS));
	ck_assert(is_read(10 * MS, 10, 1 * MS));
	ck_assert(!is_read(79 * MS, 100, 9 * MS)); /* eight hundred times */
	ck_assert(is_read(80 * MS, 100, 9 * MS));
	ck_assert(!is_read(199 * MS, 300, 9 * MS)); /* but 200 ms */
	ck_assert(is_read(200 * MS, 300, 9 * MS));
	ck_assert(!is_read(499 * MS, 5 * MS, 1 * MS));
	ck_assert(is_read(500 * MS, 5 * MS, 1 * MS));
}
END_TEST

START_TEST(who_listens)
{
	ck_assert(!is_read_for(SYSCTL_AGE_LISTEN_US, 1 * MS - 1, 10, 1 * MS));
	ck_assert(is_read_for(SYSCTL_AGE_LISTEN_US, 1 * MS, 10, 1 * MS));
	ck_assert(!is_read_for(SYSCTL_AGE_LISTEN_US, 3 * MS - 1, 300, 1 * MS)); /* ten times what it took, though another socket was decided just before */
	ck_assert(is_read_for(SYSCTL_AGE_LISTEN_US, 3 * MS, 300, 1 * MS));
	ck_assert(!is_read_for(SYSCTL_AGE_LISTEN_US, 49 * MS, 5 * MS, 1000 * MS));
	ck_assert(is_read_for(SYSCTL_AGE_LISTEN_US, 50 * MS, 5 * MS, 1000 * MS));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sysctl");
	TCase *tc = tcase_create("age");
	tcase_add_test(tc, after_a_pause);
	tcase_add_test(tc, one_after_the_other);
	tcase_add_test(tc, who_listens);
	suite_add_tcase(s, tc);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
