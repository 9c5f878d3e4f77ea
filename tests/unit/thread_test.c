/* Whether one more thread may be made: told before it is needed, under a limit that nobody can read off. */
#include <check.h>
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/thread.h"

#define NOBODY 54321 /* a user without processes, so that the limit counts this one alone */

/* What thread_try says in a process of such a user under this limit; without privilege, of this user, who has more than one process. */
static int tried_under(rlim_t limit)
{
	struct rlimit r = {limit, limit};
	pid_t child = fork();
	if (child == 0) {
		if (geteuid() == 0 && setuid(NOBODY))
			_exit(255);
		_exit(setrlimit(RLIMIT_NPROC, &r) ? 255 : -thread_try());
	}
	int status;
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

START_TEST(no_thread_under_a_limit_of_one)
{
	ck_assert_int_eq(tried_under(1), -EAGAIN);
}
END_TEST

START_TEST(a_thread_where_there_is_room)
{
	if (geteuid() == 0)
		ck_assert_int_eq(tried_under(2), 0);
	ck_assert_int_eq(thread_try(), 0);
}
END_TEST

static void *rest(void *arg)
{
	return arg;
}

/* libc does not know of this copy, and still counts the thread; were it not born there, setgroups would wait for its first step. */
START_TEST(a_copy_by_number_may_change_its_groups)
{
	pthread_t thread;
	ck_assert_int_eq(thread_start(&thread, rest, NULL), 0);
	thread_await_births();
	long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (child == 0) {
		alarm(20);
		setgroups(0, NULL);
		_exit(0);
	}
	int status;
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	thread_join(thread);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("thread");
	TCase *t = tcase_create("try");
	tcase_add_test(t, no_thread_under_a_limit_of_one);
	tcase_add_test(t, a_thread_where_there_is_room);
	suite_add_tcase(s, t);
	t = tcase_create("births");
	tcase_set_timeout(t, 30);
	tcase_add_loop_test(t, a_copy_by_number_may_change_its_groups, 0, 50);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
