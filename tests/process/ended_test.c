/*
 * kernel/ended.h: what a program finds on the socket, with and without a loopback interface. Root, in a network
 * namespace of its own; every wait is a poll with a bound.
 */
#include "kernel/ended.h"
#include "tests/suite.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS 10000
#define BIG     (1 << 20)

static const struct {
	bool loopback;
	int family;
	int error;
	size_t bytes[2];
} cases[] = {
	{true, AF_INET, ECONNRESET, {0, 0}},   {true, AF_INET, 0, {0, 0}},   {true, AF_INET, ECONNRESET, {5, 3}},    {true, AF_INET, 0, {5, 3}},
	{true, AF_INET6, ECONNRESET, {5, 0}},  {true, AF_INET6, 0, {0, 0}},  {true, AF_INET, ECONNRESET, {BIG, 9}},  {true, AF_INET, 0, {BIG, BIG}},
	{true, AF_INET, ECONNREFUSED, {0, 0}}, {true, AF_INET6, ECONNREFUSED, {0, 0}}, {false, AF_INET, ECONNREFUSED, {0, 0}},
	{true, AF_INET, EPIPE, {0, 0}},        {true, AF_INET, EPIPE, {5, 3}}, {true, AF_INET6, EPIPE, {BIG, 0}}, {false, AF_INET, EPIPE, {5, 3}},
	{false, AF_INET, ECONNRESET, {0, 0}},  {false, AF_INET, 0, {5, 3}},  {false, AF_INET, ECONNRESET, {5, 3}},   {false, AF_INET6, ECONNRESET, {9000, 1}},
};
#define N_CASES ((int)(sizeof cases / sizeof *cases))

static size_t read_all(int fd, const char *want)
{
	static char buf[65536];
	size_t n = 0;
	ssize_t r;
	while ((r = recv(fd, buf, sizeof buf, MSG_DONTWAIT)) > 0) {
		ck_assert_int_eq(memcmp(buf, want + n, r), 0);
		n += r;
	}
	return n;
}

START_TEST(shows_the_end)
{
	static char text[2 * BIG];
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = i * 7 + i / 251;
	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	if (cases[_i].loopback)
		ck_assert_int_eq(system("ip link set lo up"), 0);
	const size_t *b = cases[_i].bytes;
	struct iovec data[2] = {{text, b[0]}, {text + b[0], b[1]}};
	int fd = ended_socket(cases[_i].family, data, cases[_i].error);
	ck_assert_msg(fd >= 0, "%s", strerror(-fd));
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};
	ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
	ck_assert(p.revents & POLLIN);
	ck_assert(p.revents & POLLRDHUP);
	ck_assert(p.revents & POLLHUP);
	/* EPIPE is of a reset behind the peer's FIN: a read finds the end of file. */
	bool read_tells = cases[_i].error && cases[_i].error != EPIPE, said = read_tells || (cases[_i].error && cases[_i].loopback);
	ck_assert_int_eq(!!(p.revents & POLLERR), said);
	errno = 0;
	ck_assert_int_eq(read_all(fd, text), b[0] + b[1]);
	char byte;
	int error;
	socklen_t len = sizeof error;
	if (read_tells) {
		ck_assert_int_eq(errno, cases[_i].loopback ? cases[_i].error : ECONNRESET); /* an AF_UNIX socket knows no other */
		ck_assert_int_eq(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
	} else {
		ck_assert_int_eq(errno, 0);
	}
	ck_assert_int_eq(recv(fd, &byte, 1, 0), 0);
	ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	ck_assert_int_eq(error, said && !read_tells ? cases[_i].error : 0);
	ck_assert_int_eq(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	ck_assert_int_eq(errno, EPIPE);
	close(fd);
}
END_TEST

int main(void)
{
	if (unshare(CLONE_NEWNET)) {
		puts("skipped: needs root");
		return 77;
	}
	Suite *s = suite_create("ended");
	TCase *t = tcase_create("ended");
	tcase_add_loop_test(t, shows_the_end, 0, N_CASES);
	suite_add_tcase(s, t);
	return suite_main(s);
}
