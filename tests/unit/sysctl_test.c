/*
 * When the namespace's settings are read again (kernel/sysctl.h). What the clock says is set here; that they were read
 * is seen by read_us. And that sysctl.def says of each of this kernel's what becomes of it.
 */
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/sysctl.h"
#include "tests/suite.h"

#define MS INT64_C(1000)

/*
 * Asked at `now`, for what may be `age_us` old; what is there is so old, took so long, and somebody asked so long ago.
 */
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
	/* ten times what it took, though another socket was decided just before */
	ck_assert(!is_read_for(SYSCTL_AGE_LISTEN_US, 3 * MS - 1, 300, 1 * MS));
	ck_assert(is_read_for(SYSCTL_AGE_LISTEN_US, 3 * MS, 300, 1 * MS));
	ck_assert(!is_read_for(SYSCTL_AGE_LISTEN_US, 49 * MS, 5 * MS, 1000 * MS));
	ck_assert(is_read_for(SYSCTL_AGE_LISTEN_US, 50 * MS, 5 * MS, 1000 * MS));
}
END_TEST

static const char *const listed[] = {
#define CORE(name, member, unit, otherwise, least, most) #name,
#define CORE_AT(name, column, member, unit, otherwise, least, most) #name,
#define SYSCTL(name, otherwise, least, most) #name,
#define UNHEEDED(name, otherwise, why) #name,
#define ASIDE(name, why) #name,
#define SYSCTL_DIRECTORY(name)
#include "kernel/sysctl.def"
};

static bool is_listed(const char *name)
{
	for (size_t i = 0; i < sizeof listed / sizeof *listed; i++)
		if (strcmp(listed[i], name) == 0)
			return true;
	return false;
}

START_TEST(all_of_the_kernels)
{
	DIR *d = opendir("/proc/sys/net/ipv4");
	unsigned n = 0, lacking = 0;
	ck_assert_ptr_nonnull(d);
	for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
		if (strncmp(entry->d_name, "tcp_", 4) != 0)
			continue;
		n++;
		if (!is_listed(entry->d_name)) {
			lacking++;
			printf("sysctl.def does not say what becomes of net.ipv4.%s\n", entry->d_name);
		}
	}
	closedir(d);
	ck_assert_uint_gt(n, 40);
	ck_assert_uint_eq(lacking, 0);
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
	tc = tcase_create("table");
	tcase_add_test(tc, all_of_the_kernels);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
