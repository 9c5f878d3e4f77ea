#include "base/fd.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

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
static void many_with_limit(rlim_t limit, int n, int least)
{
	struct rlimit lim;
	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = limit;
	if (lim.rlim_max < lim.rlim_cur || setrlimit(RLIMIT_NOFILE, &lim))
		return;
	for (int i = 0; i < n; i++) {
		int fd = fd_move_high(open("/dev/null", O_RDONLY));
		ck_assert_int_ge(fd, least);
		if (i < 100)
			ck_assert_int_lt(fd, 1024);
		ck_assert(fd_is_internal(fd));
	}
}

START_TEST(many)
{
	many_with_limit(2048, 300, 1024 - 128);
	int low = open("/dev/null", O_RDONLY);
	ck_assert_int_lt(low, 1024 - 128);
}
END_TEST

START_TEST(many_within_the_limit)
{
	many_with_limit(1024, 100, 1024 - 128);
	int low = open("/dev/null", O_RDONLY);
	ck_assert_int_lt(low, 1024 - 128);
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

START_TEST(a_low_limit_is_respected)
{
	struct rlimit lim;
	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = 256;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
	int fd = fd_move_high(open("/dev/null", O_RDONLY));
	ck_assert_int_lt(fd, 256);
	ck_assert_int_ge(fd, 128);
	fd_close(fd);
	lim.rlim_cur = 20; /* nothing up there: it stays where it is */
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
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
	tcase_add_test(t, moves_up_and_remembers);
	tcase_add_test(t, a_copy_leaves_the_original);
	tcase_add_test(t, many);
	tcase_add_test(t, many_within_the_limit);
	tcase_add_test(t, an_error_is_handed_through);
	tcase_add_test(t, a_low_limit_is_respected);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
