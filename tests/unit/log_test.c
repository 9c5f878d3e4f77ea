/* base/log.h: where a line goes, and where not. */
#include "base/log.h"
#include "tests/suite.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Descriptor 2 becomes `fd`. */
static void becomes_two(int fd)
{
	ck_assert_int_eq(dup2(fd, 2), 2);
	ck_assert_int_eq(close(fd), 0);
}

static int temporary(int flags)
{
	char name[] = "/tmp/finesse-log-XXXXXX";
	int fd = mkostemp(name, flags);
	ck_assert_int_ge(fd, 0);
	unlink(name);
	return fd;
}

START_TEST(to_standard_error)
{
	int fd = temporary(0), reader = dup(fd);
	char text[64] = "";
	becomes_two(fd);
	ck_assert_int_eq(log_configure("info"), 0);
	log_info("here", "%d", 42);
	log_debug("here", "too much");
	ck_assert_int_gt(pread(reader, text, sizeof text - 1, 0), 0);
	ck_assert_str_eq(text, "finesse: here: 42\n");
}
END_TEST

/* A daemon closed it, and something of the program's has its number. */
START_TEST(not_to_what_has_its_number_since)
{
	int pair[2], data = temporary(0), reader = dup(data);
	char byte;
	becomes_two(temporary(0));
	ck_assert_int_eq(log_configure("info"), 0);
	becomes_two(data);
	log_warn("here", "lost");
	ck_assert_int_eq(pread(reader, &byte, 1, 0), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	becomes_two(pair[0]);
	log_warn("here", "lost");
	ck_assert_int_eq(read(pair[1], &byte, 1), -1);
	close(2);
	log_warn("here", "lost");
}
END_TEST

START_TEST(to_the_log_that_a_program_makes_it)
{
	int data = temporary(O_APPEND), reader = dup(data);
	char text[64] = "";
	becomes_two(temporary(0));
	ck_assert_int_eq(log_configure("info"), 0);
	becomes_two(data);
	log_warn("here", "found");
	ck_assert_int_gt(pread(reader, text, sizeof text - 1, 0), 0);
	ck_assert_str_eq(text, "finesse: here: found\n");
}
END_TEST

/* The default of SIGPIPE would end this process. */
START_TEST(a_reader_that_is_gone)
{
	int p[2];
	ck_assert_int_eq(pipe(p), 0);
	becomes_two(p[1]);
	ck_assert_int_eq(log_configure("info"), 0);
	close(p[0]);
	log_warn("here", "nobody");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("log");
	TCase *t = tcase_create("lines");
	tcase_add_test(t, to_standard_error);
	tcase_add_test(t, not_to_what_has_its_number_since);
	tcase_add_test(t, to_the_log_that_a_program_makes_it);
	tcase_add_test(t, a_reader_that_is_gone);
	suite_add_tcase(s, t);
	return suite_main(s);
}
