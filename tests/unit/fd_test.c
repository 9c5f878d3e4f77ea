#include "base/fd.h"
#include "tests/suite.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct rlimit before;

static void limit(rlim_t soft, rlim_t hard)
{
	struct rlimit lim = {soft, hard};
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
}

/* What is internal is seen from outside only. */
static void limit_is(rlim_t soft, rlim_t hard)
{
	struct rlimit lim;
	getrlimit(RLIMIT_NOFILE, &lim);
	ck_assert_uint_eq(lim.rlim_cur, soft);
	ck_assert_uint_eq(lim.rlim_max, hard);
}

static void setup(void)
{
	getrlimit(RLIMIT_NOFILE, &before);
	ck_assert_uint_ge(before.rlim_max, 4096);
	limit(2048, before.rlim_max);
}

START_TEST(moves_up_and_remembers)
{
	int low = open("/dev/null", O_RDONLY);
	int fd = fd_move_high(low);
	ck_assert_int_ge(fd, 1024 - 128);
	ck_assert_int_lt(fd, 1024);
	ck_assert_int_eq(fcntl(low, F_GETFD), -1);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert(fd_is_internal(fd));
	ck_assert(!fd_is_internal(low));
	int next = fd_move_high(open("/dev/null", O_RDONLY));
	ck_assert_int_ne(next, fd);
	ck_assert_int_ge(next, 1024 - 128);
	fd_close(fd);
	ck_assert(!fd_is_internal(fd));
	ck_assert(fd_is_internal(next));
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
	fd_unmark(next);
	ck_assert(!fd_is_internal(next));
	ck_assert_int_eq(close(next), 0);
}
END_TEST

START_TEST(a_copy_leaves_the_original)
{
	int low = open("/dev/null", O_RDONLY);
	int fd = fd_copy_high(low);
	ck_assert_int_ge(fd, 1024 - 128);
	ck_assert(fd_is_internal(fd));
	ck_assert(!fd_is_internal(low));
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(close(low), 0);
	fd_close(fd);
	ck_assert_int_eq(fd_copy_high(low), -EBADF);
}
END_TEST

/* Beyond the end only when those below are used up. */
START_TEST(many)
{
	for (int i = 0; i < 300; i++) {
		int fd = fd_move_high(open("/dev/null", O_RDONLY));
		ck_assert_int_ge(fd, 1024 - 128);
		if (i < 100)
			ck_assert_int_lt(fd, 1024);
		ck_assert(fd_is_internal(fd));
	}
	int low = open("/dev/null", O_RDONLY);
	ck_assert_int_lt(low, 1024 - 128);
}
END_TEST

/* A limit of 1024 and less, where it can be raised for a moment: the program keeps all of its numbers. */
static const rlim_t limits[] = {1024, 256, 32, 4};

START_TEST(beyond_the_limit)
{
	int files[300], n = 0;
	limit(limits[_i], before.rlim_max);
	for (int i = 0; i < 100 && i < (int)limits[_i]; i++) {
		files[i] = fd_copy_high(0);
		ck_assert_int_ge(files[i], (int)limits[_i]);
		ck_assert(fd_is_internal(files[i]));
		ck_assert_int_eq(fcntl(files[i], F_GETFD), FD_CLOEXEC);
		n++;
	}
	limit_is(limits[_i], before.rlim_max);
	for (int i = 0; i < n; i++)
		fd_close(files[i]);
	while ((n = dup(0)) >= 0)
		ck_assert_int_lt(n, (int)limits[_i]);
	ck_assert_int_eq(errno, EMFILE);
	int fd = fd_copy_high(0); /* none is left, and still */
	ck_assert_int_ge(fd, (int)limits[_i]);
	limit_is(limits[_i], before.rlim_max);
}
END_TEST

/*
 * The limit is not asked for each copy, and still the program keeps its numbers when it lowers it: at once, or all but
 * a few.
 */
START_TEST(a_limit_that_is_lowered)
{
	unsigned within = 0;
	int first = fd_copy_high(0);
	ck_assert_int_ge(first, 1024 - 128);
	limit(256, before.rlim_max);
	int fd = fd_copy_high(0);
	ck_assert_int_ge(fd, 256);
	limit_is(256, before.rlim_max);
	limit(2048, before.rlim_max);
	fd_copy_high(0);
	limit(1024, before.rlim_max);
	for (int i = 0; i < 100; i++)
		within += fd_copy_high(0) < 1024;
	ck_assert_uint_le(within, 16);
	limit_is(1024, before.rlim_max);
}
END_TEST

/* Each gets a number beyond, and none takes the limit that another raised for the program's. */
static void *mover(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2000; i++) {
		int fd = fd_copy_high(0);
		if (fd < 256)
			return (void *)1;
		fd_close(fd);
	}
	return NULL;
}

START_TEST(several_at_once)
{
	pthread_t t[3];
	limit(256, before.rlim_max);
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, mover, NULL);
	for (int i = 0; i < 3; i++) {
		void *low;
		pthread_join(t[i], &low);
		ck_assert_ptr_null(low);
	}
	limit_is(256, before.rlim_max);
}
END_TEST

START_TEST(an_error_is_handed_through)
{
	ck_assert_int_eq(fd_move_high(-EPERM), -EPERM);
	fd_close(-1);
	ck_assert(!fd_is_internal(-1));
	ck_assert(!fd_is_internal(1 << 30));
}
END_TEST

/* The hard limit is no higher, and there is no privilege to raise it. */
START_TEST(a_hard_limit_is_respected)
{
	limit(256, 256);
	prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	if (getuid() == 0)
		ck_assert_int_eq(syscall(SYS_setresuid, 65534, 65534, 65534), 0);
	int fd = fd_move_high(open("/dev/null", O_RDONLY));
	ck_assert_int_lt(fd, 256);
	ck_assert_int_ge(fd, 128);
	fd_close(fd);
	ck_assert(fd_has_room());
	limit(32, 256);
	ck_assert(fd_has_room());
	limit_is(32, 256);
	limit(32, 32);
	ck_assert(!fd_has_room());
	limit_is(32, 32);
	limit(20, 20); /* nothing up there: it stays where it is */
	int low = open("/dev/null", O_RDONLY);
	ck_assert_int_eq(fd_move_high(low), low);
	ck_assert(fd_is_internal(low));
	ck_assert_int_eq(fcntl(low, F_GETFD), FD_CLOEXEC);
	fd_close(low);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fd");
	TCase *t = tcase_create("high");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, moves_up_and_remembers);
	tcase_add_test(t, a_copy_leaves_the_original);
	tcase_add_test(t, many);
	tcase_add_loop_test(t, beyond_the_limit, 0, 4);
	tcase_add_test(t, several_at_once);
	tcase_add_test(t, a_limit_that_is_lowered);
	tcase_add_test(t, an_error_is_handed_through);
	tcase_add_test(t, a_hard_limit_is_respected);
	suite_add_tcase(s, t);
	return suite_main(s);
}
