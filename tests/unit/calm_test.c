/* How often the helper thread looks after a program that comes back by itself: over an engine that is a pipe. */
#include <dirent.h>
#include <stdio.h>

#include "pipe_engine.h"
#include "unit.h"

/* How often the helper has slept. */
static unsigned long helper_sleeps(void)
{
	char path[300], line[128];
	unsigned long n = 0;
	DIR *tasks = opendir("/proc/self/task");
	for (struct dirent *t; (t = readdir(tasks));) {
		if (atoi(t->d_name) == getpid() || t->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "/proc/self/task/%s/status", t->d_name);
		FILE *f = fopen(path, "r");
		while (f && fgets(line, sizeof line, f))
			sscanf(line, "voluntary_ctxt_switches: %lu", &n);
		if (f)
			fclose(f);
	}
	closedir(tasks);
	return n;
}

/* It has been calm for long, from here on. */
static int64_t make_calm(void)
{
	drive_lock(&e.drive);
	int64_t long_ago = e.drive.calm_us = clock_now_us() - USEC_PER_SEC;
	__atomic_store_n(&e.drive.away, false, __ATOMIC_RELAXED);
	drive_unlock(&e.drive);
	return long_ago;
}

static int64_t calm_since(void)
{
	drive_lock(&e.drive);
	int64_t since = __atomic_load_n(&e.drive.away, __ATOMIC_RELAXED) ? 0 : e.drive.calm_us;
	drive_unlock(&e.drive);
	return since;
}

#define CALM_WAITS 1000

/*
 * Waits of 100 us: some 150 ms or more, of which it sleeps for 4 at a time but for the first 16, not for 1. (Where the
 * machine kept the thread away it is not calm: then once more.)
 */
START_TEST(calm_is_left_alone)
{
	unsigned long slept;
	int64_t calm, from, us;
	do {
		take(0, 100, -1);
		calm = make_calm();
		slept = helper_sleeps();
		from = clock_now_us();
		for (int i = 0; i < CALM_WAITS; i++)
			take(0, 100, -1);
		us = clock_now_us() - from;
		slept = helper_sleeps() - slept;
	} while (calm_since() != calm);
	ck_assert_uint_le(slept, us / (2 * USEC_PER_MSEC) + 2);
}
END_TEST

START_TEST(who_was_away_is_not_calm)
{
	int64_t calm = make_calm();
	while (calm_since() == calm) {
		take(0, 100, -1);
		for (int64_t until = clock_now_us() + USEC_PER_MSEC; clock_now_us() < until;)
			;
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("calm");
	TCase *c = tcase_create("calm");
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 60);
	tcase_add_test(c, calm_is_left_alone);
	tcase_add_test(c, who_was_away_is_not_calm);
	suite_add_tcase(suite, c);
	return suite_main(suite);
}
