/* Files that end in a work queue of the kernel's: they stay until that is asked for, and end then. */
#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/late.h"
#include "tests/suite.h"
#include "tests/untested.h"

#define WAIT_MS 60000 /* on failure only */

static bool has_ended(int reader, int wait_ms)
{
	struct pollfd p = {.fd = reader, .events = POLLIN};
	return poll(&p, 1, wait_ms) == 1 && (p.revents & POLLHUP);
}

START_TEST(what_is_held_ends_when_it_is_let_go)
{
	int one[2], two[2];
	ck_assert_int_eq(pipe(one), 0);
	ck_assert_int_eq(pipe(two), 0);
	int fds[] = {one[1], -1, two[1]};
	int hold = late_hold(fds, 3);
	if (hold < 0) {
		return untested("io_uring");
	}
	close(one[1]);
	close(two[1]);
	ck_assert(!has_ended(one[0], 0));
	ck_assert(!has_ended(two[0], 0));
	late_let_go(hold);
	ck_assert(has_ended(one[0], WAIT_MS));
	ck_assert(has_ended(two[0], WAIT_MS));
	close(one[0]);
	close(two[0]);
}
END_TEST

START_TEST(what_cannot_be_held_is_closed_as_ever)
{
	int pipes[2], none = 1 << 20;
	ck_assert_int_eq(pipe(pipes), 0);
	ck_assert_int_lt(late_hold(&none, 1), 0);
	int next = dup(0); /* nothing of it is left open */
	close(next);
	ck_assert_int_eq(next, pipes[1] + 1);
	late_let_go(-1);
	close(pipes[1]);
	ck_assert(has_ended(pipes[0], 0));
	close(pipes[0]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base/late");
	TCase *tc = tcase_create("late");
	tcase_set_timeout(tc, 2 * WAIT_MS / 1000);
	tcase_add_test(tc, what_is_held_ends_when_it_is_let_go);
	tcase_add_test(tc, what_cannot_be_held_is_closed_as_ever);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
