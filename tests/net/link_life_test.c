/*
 * The life and death of a packet link: what it leaves to the program, a fork, an interface that goes, io_uring refused,
 * and who ends what. As link_test: root, a veth pair.
 */
#include "base/fd.h"
#include "link/link.h"
#include "tests/net/link_pair.h"
#include "tests/net/rtnl_hold.h"
#include "tests/untested.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned count_tasks(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/task");
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

START_TEST(it_keeps_to_itself)
{
	open_pair(false);
	for (uint32_t seq = 0; seq < 500; seq++)
		send_seq(seq);
	link_flush(link_a);
	ck_assert_uint_eq(count_tasks(), 1); /* no kernel worker of the io_uring */
	DIR *d = opendir("/proc/self/fd");
	for (struct dirent *e; (e = readdir(d));) {
		int fd = atoi(e->d_name);
		if (fd > 2 && fd != dirfd(d) && fd_is_internal(fd)) {
			ck_assert_int_ge(fd, 1024 - 128);
			ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		}
	}
	closedir(d);
	int rx = link_rx_fd(link_a), tx = link_tx_fd(link_a);
	ck_assert(fd_is_internal(rx) && fd_is_internal(tx));
	close_pair();
	for (int fd = 1024 - 128; fd < 1024; fd++)
		ck_assert_msg(fcntl(fd, F_GETFD) < 0 && !fd_is_internal(fd), "fd %d is left", fd);
}
END_TEST

START_TEST(a_fork_child_forgets_without_harm)
{
	open_pair(_i);
	send_seq(0); /* queued in both; the parent's to send */
	pid_t pid = fork();
	if (pid == 0) {
		link_forget(link_a);
		link_forget(link_b);
		int left = 0;
		for (int fd = 1024 - 128; fd < 1024; fd++)
			left += fd_is_internal(fd) || fcntl(fd, F_GETFD) >= 0;
		_exit(left);
	}
	int status;
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	seen_b.on_frame = check_seq;
	send_seq(1);
	ck_assert_int_eq(link_flush(link_a), 2);
	wait_frames(link_b, &seen_b, 2);
	ck_assert_uint_eq(seen_b.n, 2);
	close_pair();
}
END_TEST

START_TEST(the_interface_disappears)
{
	open_pair(_i);
	sh("ip link set va down");
	send_seq(0);
	ck_assert_int_eq(link_flush(link_a), 0);
	sh("ip link del va");
	send_seq(1);
	ck_assert_int_eq(link_flush(link_a), 0);
	ck_assert_uint_eq(link_counters(link_a)[LINKC_TxDroppedDown], 2);
	ck_assert(!link_tx_blocked(link_a));
	ck_assert_int_eq(link_refresh_info(link_a), -ENODEV);
	ck_assert_int_eq(link_drain(link_a, &seen_a.handler, 10), 0);
	link_close(link_a);
	link_close(link_b);
}
END_TEST

static void refuse_syscall(int nr)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {.len = 4, .filter = code};
	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

START_TEST(without_io_uring_from_the_start)
{
	make_pair();
	refuse_syscall(SYS_io_uring_setup);
	struct link *l = open_link("va", false);
	ck_assert_str_eq(link_info(l)->tx_backend, "sendmmsg");
	link_close(l);
	sh("ip link del va");
}
END_TEST

START_TEST(io_uring_refused_later)
{
	open_pair(false);
	refuse_syscall(SYS_io_uring_enter);
	seen_b.on_frame = check_seq;
	for (uint32_t seq = 0; seq < 10; seq++)
		send_seq(seq);
	ck_assert_int_eq(link_flush(link_a), 10);
	ck_assert_str_eq(link_info(link_a)->tx_backend, "sendmmsg");
	wait_frames(link_b, &seen_b, 10);
	close_pair();
}
END_TEST

/* Each test forks from here, into a namespace of its own that dies with it. */
/* Who gives it up last is the kernel, after the link: the pipe's other end hears of it then. */
START_TEST(what_it_keeps_ends_with_it)
{
	int ends[2];
	char c;
	open_pair(false);
	ck_assert_int_eq(pipe(ends), 0);
	link_keep(link_a, ends[1]);
	ck_assert_int_eq(fcntl(ends[1], F_GETFD), -1);
	struct pollfd p = {.fd = ends[0], .events = POLLIN};
	ck_assert_int_eq(poll(&p, 1, 0), 0);
	link_close(link_a);
	ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
	ck_assert_int_eq(read(ends[0], &c, 1), 0);
	link_a = open_link("va", true);
	close_pair();
	close(ends[0]);
}
END_TEST

/* Without an io_uring nobody keeps it, and it stays open. */
START_TEST(without_io_uring_it_keeps_nothing)
{
	int fd;
	open_pair(true);
	fd = dup(STDIN_FILENO);
	link_keep(link_a, fd);
	ck_assert_int_eq(fcntl(fd, F_GETFD), 0);
	close(fd);
	close_pair();
}
END_TEST

/* The ring is made while the caller goes on; a link that is closed before is closed as a whole. */
/*
 * Elsewhere somebody makes interfaces, and holds the kernel's lock of the network: a program that comes up, or hears of
 * a change, does not wait for that.
 */
START_TEST(opened_while_others_hold_the_network)
{
	struct rtnl_hold hold;
	make_pair();
	if (!rtnl_hold(&hold)) {
		ck_assert_msg(errno == EPERM || errno == ENOSYS, "the lock of the network: %s", strerror(errno));
		return untested("userfaultfd of the kernel's reads");
	}
	struct link *l = open_link("va", false);
	int err = link_refresh_info(l);
	ck_assert_msg(rtnl_release(&hold), "it waited for the lock");
	ck_assert_int_eq(err, 0);
	link_close(l);
	sh("ip link del va");
}
END_TEST

START_TEST(it_is_completed_later)
{
	make_pair();
	struct link_config config = {.ifindex = if_nametoindex("va"), .later = true};
	ck_assert_int_eq(link_open_packet(&link_a, &config), 0);
	link_close(link_a);
	ck_assert_int_eq(link_open_packet(&link_a, &config), 0);
	ck_assert_int_eq(link_complete(link_a), 0);
	ck_assert(!link_rx_pending(link_a));
	link_b = open_link("vb", false);
	close_pair();
}
END_TEST

static Suite *link_life_suite(void)
{
	Suite *s = suite_create("link");
	TCase *t = tcase_create("packet");
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, own_namespace, NULL);
	tcase_add_test(t, it_keeps_to_itself);
	tcase_add_loop_test(t, a_fork_child_forgets_without_harm, 0, 2);
	tcase_add_loop_test(t, the_interface_disappears, 0, 2);
	tcase_add_test(t, without_io_uring_from_the_start);
	tcase_add_test(t, io_uring_refused_later);
	tcase_add_test(t, what_it_keeps_ends_with_it);
	tcase_add_test(t, without_io_uring_it_keeps_nothing);
	tcase_add_test(t, opened_while_others_hold_the_network);
	tcase_add_test(t, it_is_completed_later);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return run_suite(link_life_suite);
}
