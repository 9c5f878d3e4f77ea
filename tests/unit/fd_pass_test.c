/* Messages with descriptors, also from a peer that sends more of them than were asked for. */
#include "base/fd_pass.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"

static int ends[2], watched[2]; /* a pipe, whose writing end is what is passed */

static void setup(void)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	ck_assert_int_eq(pipe2(watched, O_CLOEXEC), 0);
}

static void teardown(void)
{
	close(ends[0]);
	close(ends[1]);
	close(watched[0]);
}

/* `n` copies of the pipe's writing end leave; ours is closed. */
static void send_copies(unsigned n)
{
	int fds[FD_PASS_MAX];
	for (unsigned i = 0; i < n; i++)
		fds[i] = watched[1];
	ck_assert_int_eq(fd_pass_send(ends[0], "abc", 3, fds, n, 0), 0);
	close(watched[1]);
}

static bool nobody_has_it(void)
{
	struct pollfd p = {.fd = watched[0]};
	return poll(&p, 1, 0) == 1 && (p.revents & POLLHUP);
}

static const unsigned counts[] = {0, 1, 2, 11, FD_PASS_MAX};
START_TEST(there_and_back)
{
	char text[8];
	int fds[FD_PASS_MAX];
	unsigned n = FD_PASS_MAX;
	send_copies(counts[_i]);
	ck_assert_int_eq(fd_pass_receive(ends[1], text, sizeof text, fds, &n, 0), 3);
	ck_assert_mem_eq(text, "abc", 3);
	ck_assert_uint_eq(n, counts[_i]);
	for (unsigned i = 0; i < n; i++) {
		ck_assert_int_eq(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
		ck_assert(!nobody_has_it());
		close(fds[i]);
	}
	ck_assert(nobody_has_it());
}
END_TEST

/* The kernel gives what it has numbers for, and nobody could tell that from a message with fewer. */
START_TEST(too_few_numbers)
{
	char text[8];
	int fds[FD_PASS_MAX], spare = dup(0);
	unsigned n = FD_PASS_MAX;
	struct rlimit before, few;
	getrlimit(RLIMIT_NOFILE, &before);
	send_copies(counts[_i]);
	few = (struct rlimit){spare + 1, before.rlim_max};
	close(spare);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	ssize_t len = fd_pass_receive(ends[1], text, sizeof text, fds, &n, 0);
	setrlimit(RLIMIT_NOFILE, &before);
	ck_assert_int_eq(len, 3);
	ck_assert_uint_eq(n, counts[_i] <= 2 ? counts[_i] : 0); /* spare's, and the pipe's end's */
	while (n)
		close(fds[--n]);
	ck_assert(nobody_has_it());
}
END_TEST

/*
 * An odd number has room for one more in the control data, which the kernel fills: it must not land behind the array.
 */
static const unsigned rooms[] = {0, 1, 2, 5, 11};
START_TEST(more_than_asked_for)
{
	char text[8];
	struct {
		int fds[12];
	} got;
	unsigned n = rooms[_i];
	memset(&got, 0x5a, sizeof got);
	send_copies(n + 1);
	ck_assert_int_eq(fd_pass_receive(ends[1], text, sizeof text, got.fds, &n, 0), 3);
	ck_assert_uint_eq(n, rooms[_i]);
	for (unsigned i = n; i < 12; i++)
		ck_assert_int_eq(got.fds[i], 0x5a5a5a5a);
	for (unsigned i = 0; i < n; i++)
		close(got.fds[i]);
	ck_assert(nobody_has_it());
}
END_TEST

START_TEST(nothing_and_the_end)
{
	char text[8];
	int fd;
	unsigned n = 1;
	ck_assert_int_eq(fd_pass_receive(ends[1], text, sizeof text, &fd, &n, MSG_DONTWAIT), -EAGAIN);
	ck_assert_uint_eq(n, 0);
	close(ends[0]);
	ends[0] = -1;
	n = 1;
	ck_assert_int_eq(fd_pass_receive(ends[1], text, sizeof text, &fd, &n, 0), 0);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(fd_pass_send(ends[1], "x", 1, NULL, 0, 0), -EPIPE); /* and no SIGPIPE */
	close(watched[1]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fd_pass");
	TCase *tc = tcase_create("messages");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, there_and_back, 0, sizeof counts / sizeof counts[0]);
	tcase_add_loop_test(tc, more_than_asked_for, 0, sizeof rooms / sizeof rooms[0]);
	tcase_add_loop_test(tc, too_few_numbers, 0, sizeof counts / sizeof *counts);
	tcase_add_test(tc, nothing_and_the_end);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
