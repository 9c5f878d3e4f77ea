/* Whether one more thread may be made: told before it is needed, under a limit that nobody can read off. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/thread.h"
#include "tests/suite.h"

#define NOBODY 54321 /* a user without processes, so that the limit counts this one alone */

/*
 * What thread_try says in a process of such a user under this limit; without privilege, of this user, who has more than
 * one process.
 */
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

/*
 * libc does not know of this copy, and still counts the thread; were it not born there, setgroups would wait for its
 * first step.
 */
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

/* ---- only ours are left ---- */

#define HAND_OFFS 20000

static int hand_offs, over; /* atomic */

static void *nothing(void *arg)
{
	return arg;
}

/* A thread of the program's that begins another one and ends; now and then it begins one of ours. */
static void *hands_off(void *arg)
{
	pthread_t next;
	pthread_attr_t detached;
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	if (hand_offs % 16 == 0 && thread_start(&next, nothing, NULL) == 0)
		pthread_detach(next);
	if (--hand_offs > 0)
		while (pthread_create(&next, &detached, hands_off, arg))
			;
	else
		__atomic_store_n(&over, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/* One of ours. Status 0: it said so when it was, and not before. */
static void *looks(void *arg)
{
	int proc_stat = open("/proc/self/stat", O_RDONLY);
	(void)arg;
	while (!thread_only_ours(proc_stat))
		;
	_exit(!__atomic_load_n(&over, __ATOMIC_SEQ_CST));
}

START_TEST(only_ours_is_said_when_the_programs_last_thread_is_gone)
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		pthread_t looker;
		hand_offs = HAND_OFFS;
		if (thread_start(&looker, looks, NULL))
			_exit(2);
		hands_off(NULL);
		pthread_exit(NULL);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
}
END_TEST

static void *blocks(void *arg)
{
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, arg, sizeof(uint64_t));
	return NULL;
}

/* libc asks each thread by a signal of its own to change its users, and waits for all of them. */
START_TEST(a_thread_blocks_all_signals_but_libcs)
{
	uint64_t mask = 0;
	pthread_t thread;
	ck_assert_int_eq(thread_start(&thread, blocks, &mask), 0);
	thread_join(thread);
	for (int sig = 1; sig <= 64; sig++) {
		bool is_libcs = sig == SIGRTMIN - 1 || sig == SIGRTMIN - 2;
		if (sig != SIGKILL && sig != SIGSTOP)
			ck_assert_msg((mask >> (sig - 1) & 1) == !is_libcs, "signal %d", sig);
	}
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(thread_start(&thread, blocks, &mask), 0);
		ck_assert_int_eq(setgid(getgid()), 0);
		thread_join(thread);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("thread");
	TCase *t = tcase_create("try");
	tcase_add_test(t, no_thread_under_a_limit_of_one);
	tcase_add_test(t, a_thread_where_there_is_room);
	tcase_add_test(t, a_thread_blocks_all_signals_but_libcs);
	suite_add_tcase(s, t);
	t = tcase_create("births");
	tcase_set_timeout(t, 30);
	tcase_add_loop_test(t, a_copy_by_number_may_change_its_groups, 0, 50);
	suite_add_tcase(s, t);
	t = tcase_create("last");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, only_ours_is_said_when_the_programs_last_thread_is_gone);
	suite_add_tcase(s, t);
	return suite_main(s);
}
