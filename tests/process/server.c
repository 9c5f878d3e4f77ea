/*
 * Servers whose connections change hands, and what is found on the other side.
 *
 *   server HOW PORT      accepts for ever; each connection is served
 *                          clone, number, clone3        by a child of that kind: it sends back what comes
 *                          posix_spawn, system, popen   by a shell that has the connection under its number
 *                          uring, uring_accept_libc, uring_raw   by io_uring, in this process; the ring is made after listen(2) by liburing, or before
 *                                                       by a system call that nobody sees
 *                          uring_waiting, uring_waiting_child   by io_uring, in this process or a forked one; the ring is made at SIGUSR1
 *                          uring_files, uring_late      by libc's calls, beside a ring that reads files, registered and not; the third client, of uring_late, by that ring
 *                          plainly                      by libc's calls, one after the other
 *                          like_libuv                   by libc's calls, beside rings as libuv makes them
 *                          other_user                   as like_libuv; before, the process enters namespaces for which it may have one thread only
 *                          other_net                    as like_libuv; before, a thread with a network namespace of its own listens and connects
 *                          daemon, prefork_daemon       by one process, by two: forked from one that listened and has ended since
 *                          reloaded                     as daemon; after the first client another process accepts from the listener, too
 *                          hoard                        500 connections are kept and not read, the next ones are served by children
 *                          closes                       500 connections, which it closes first, and ends
 *                          exec, fork_exec, passed      by this program (probe), after the client reset it
 *   server probe FD      tells on stderr what is found on FD
 *   server ask IP PORT N     a client: N connections, three words each; prints how many were answered
 *   server ask_many IP PORT N    … all of them open at once
 *   server hold IP PORT N        … and then left alone; ends with its stdin
 *   server ended IP PORT N       a client: N connections, each to its end
 *   server forked_reader IP PORT a client whose forked child sends while it waits for the answer itself: in how many of the ways to wait it came
 *   server noisy_forks N         forks N times while a thread makes listeners that stay with the kernel; each child makes one, too. How many ended
 *   server stat_reader PID       asks what `finesse stat` asks, and does not read; ends with its stdin
 *   server reset IP PORT     a client that connects, and resets once the server has accepted (it sends a byte)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <liburing.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"

#define WAIT_MS 30000

extern char **environ;
static const char *self;

static int is(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static int listen_on(int port)
{
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 64)) {
		perror("listen");
		exit(9);
	}
	return fd;
}

/* ---- on the other side ---- */

static int probe(int fd)
{
	char buf[100];
	struct pollfd p = {.fd = fd, .events = POLLIN};
	for (int i = 0; i < 2; i++) {
		if (poll(&p, 1, WAIT_MS) != 1) {
			fprintf(stderr, "nothing\n");
			return 1;
		}
		ssize_t n = read(fd, buf, sizeof buf);
		fprintf(stderr, "%s%s", n < 0 ? strerrorname_np(errno) : n ? "data" : "end", i ? "\n" : ", ");
	}
	return 0;
}

static int echo(void *arg)
{
	int c = (int)(long)arg;
	char b[100];
	ssize_t n;
	while ((n = read(c, b, sizeof b)) > 0)
		if (write(c, b, n) != n)
			break;
	_exit(0);
	return 0;
}

static void wait_for_reset(int c)
{
	struct pollfd p = {.fd = c, .events = POLLRDHUP};
	write(c, "!", 1);
	poll(&p, 1, WAIT_MS);
}

static void exec_probe(int c)
{
	char number[12];
	snprintf(number, sizeof number, "%d", c);
	execl(self, self, "probe", number, NULL);
	perror("exec");
	_exit(1);
}

static void pass(int via, int fd)
{
	char byte = 'x';
	struct iovec iov = {&byte, 1};
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = {0};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof u.buf};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(h), &fd, sizeof fd);
	if (sendmsg(via, &m, 0) != 1)
		perror("sendmsg");
}

static int receive(int via)
{
	char byte;
	int fd = -1;
	struct iovec iov = {&byte, 1};
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u;
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof u.buf};
	if (recvmsg(via, &m, 0) == 1 && CMSG_FIRSTHDR(&m))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	return fd;
}

/* ---- serving ---- */

static void by_child(const char *how, int l, int c)
{
	static char stack[65536] __attribute__((aligned(16)));
	struct clone_args args = {.exit_signal = SIGCHLD};
	long pid = -1;
	if (is(how, "clone"))
		pid = clone(echo, stack + sizeof stack, SIGCHLD, (void *)(long)c);
	else if (is(how, "number"))
		pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	else
		pid = syscall(SYS_clone3, &args, sizeof args);
	if (pid == 0) {
		close(l);
		echo((void *)(long)c);
	}
}

static void by_shell(const char *how, int c)
{
	char command[200];
	char *argv[] = {"sh", "-c", command, NULL};
	pid_t pid;
	snprintf(command, sizeof command, "while read line <&%d; do echo \"$line\" >&%d; done", c, c);
	if (is(how, "system")) {
		if (system(command))
			fprintf(stderr, "the shell failed\n");
	} else if (is(how, "popen")) {
		FILE *f = popen(command, "r");
		pclose(f);
	} else if (posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) == 0) {
		waitpid(pid, NULL, 0);
	}
}

static void to_probe(const char *how, int c)
{
	int via[2];
	wait_for_reset(c);
	if (is(how, "exec"))
		exec_probe(c);
	if (is(how, "fork_exec") && fork() == 0)
		exec_probe(c);
	if (is(how, "passed") && socketpair(AF_UNIX, SOCK_STREAM, 0, via) == 0) {
		pass(via[0], c);
		if (fork() == 0)
			exec_probe(receive(via[1]));
	}
}

/* ---- by io_uring ---- */

static struct io_uring ring;

static int complete(void)
{
	struct io_uring_cqe *cqe;
	int r;
	io_uring_submit(&ring);
	if (io_uring_wait_cqe(&ring, &cqe))
		return -1;
	r = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	return r;
}

static void make_ring(int raw)
{
	struct io_uring_params p = {0};
	int fd = raw ? sys_call(SYS_io_uring_setup, 8, &p, 0, 0, 0, 0) : -1;
	if (raw ? io_uring_queue_mmap(fd, &p, &ring) : io_uring_queue_init(8, &ring, 0)) {
		fprintf(stderr, "no ring\n");
		exit(8);
	}
	for (unsigned i = 0; raw && i < p.sq_entries; i++)
		ring.sq.array[i] = i;
}

static int accept_uring(int l)
{
	io_uring_prep_accept(io_uring_get_sqe(&ring), l, NULL, NULL, 0);
	return complete();
}

static void echo_uring(int c)
{
	char b[100];
	for (;;) {
		io_uring_prep_recv(io_uring_get_sqe(&ring), c, b, sizeof b, 0);
		int n = complete();
		if (n <= 0)
			return;
		io_uring_prep_send(io_uring_get_sqe(&ring), c, b, n, 0);
		if (complete() != n)
			return;
	}
}

static void await_signal(void)
{
	sigset_t usr1;
	int signal;
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1); /* blocked since main */
	sigwait(&usr1, &signal);
}

static void serve_uring(const char *how, int port)
{
	int raw = is(how, "uring_raw");
	if (raw)
		make_ring(1);
	int l = listen_on(port);
	if (strncmp(how, "uring_waiting", 13) == 0)
		await_signal();
	if (is(how, "uring_waiting_child") && fork())
		pause();
	if (!raw)
		make_ring(0);
	for (;;) {
		int c = is(how, "uring_accept_libc") ? accept(l, NULL, NULL) : accept_uring(l);
		if (c < 0) {
			fprintf(stderr, "accept: %s\n", strerror(-c));
			exit(7);
		}
		echo_uring(c);
		close(c);
	}
}

/* A byte of this program's file through the ring, by its number and as a registered file. */
static void read_by_ring(int file)
{
	char b;
	for (int registered = 0; registered < 2; registered++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
		io_uring_prep_read(sqe, registered ? 0 : file, &b, 1, 1);
		sqe->flags |= registered ? IOSQE_FIXED_FILE : 0;
		if (complete() != 1 || b != 'E') { /* ELF */
			fprintf(stderr, "the ring does not read\n");
			exit(9);
		}
	}
}

static void serve_beside_ring(const char *how, int port)
{
	int file = open("/proc/self/exe", O_RDONLY);
	make_ring(0);
	if (io_uring_register_files(&ring, &file, 1))
		exit(8);
	int l = listen_on(port);
	for (int i = 0;; i++) {
		int c = accept(l, NULL, NULL);
		read_by_ring(file);
		if (i == 2 && is(how, "uring_late"))
			echo_uring(c);
		char b[100];
		for (ssize_t n; (n = read(c, b, sizeof b)) > 0 && write(c, b, n) == n;)
			;
		close(c);
	}
}

/* The name by which the shim knows libuv. */
__attribute__((visibility("default"))) int uv_loop_init(void *loop);
int uv_loop_init(void *loop)
{
	struct io_uring_params control = {0}, files = {.flags = IORING_SETUP_SQPOLL};
	(void)loop;
	int c = syscall(SYS_io_uring_setup, 256, &control), f = syscall(SYS_io_uring_setup, 64, &files);
	fprintf(stderr, "control ring %s, file ring %s\n", c < 0 ? "no" : "yes", f < 0 ? "no" : "yes");
	return 0;
}

/* On PORT + 1 and to the peer's address: neither may leave the thread's own namespace. */
static void *other_net(void *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = inet_addr("10.78.0.2")};
	int fd = socket(AF_INET, SOCK_STREAM, 0); /* of the first namespace: the engine's, whoever uses it */
	if (unshare(CLONE_NEWNET))
		perror("unshare");
	int r = connect(fd, (struct sockaddr *)&a, sizeof a);
	fprintf(stderr, "old socket %s, ", r ? strerrorname_np(errno) : "connected");
	fd = socket(AF_INET, SOCK_STREAM, 0);
	r = connect(fd, (struct sockaddr *)&a, sizeof a);
	fprintf(stderr, "new socket %s\n", r ? strerrorname_np(errno) : "connected");
	listen_on((int)(long)port + 1);
	return NULL;
}

static const char *result(long r)
{
	return r < 0 ? strerrorname_np(errno) : "done";
}

static void enter_namespaces(void)
{
	int mounts = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	fprintf(stderr, "setns %s, ", result(setns(mounts, 0)));
	fprintf(stderr, "by number %s, ", result(syscall(SYS_setns, mounts, CLONE_NEWNS)));
	fprintf(stderr, "unshare %s\n", result(unshare(CLONE_NEWUSER)));
}

static void serve_plainly(const char *how, int port)
{
	pthread_t thread;
	if (is(how, "like_libuv"))
		uv_loop_init(NULL);
	int l = listen_on(port);
	if (is(how, "other_user"))
		enter_namespaces();
	if (is(how, "other_net")) {
		pthread_create(&thread, NULL, other_net, (void *)(long)port);
		pthread_join(thread, NULL);
	}
	for (;;) {
		char b[100];
		int c = accept(l, NULL, NULL);
		for (ssize_t n; (n = read(c, b, sizeof b)) > 0 && write(c, b, n) == n;)
			;
		close(c);
	}
}

/* ---- by processes that inherited the listener ---- */

static void serve_one(int c)
{
	char b[100];
	for (ssize_t n; (n = read(c, b, sizeof b)) > 0 && write(c, b, n) == n;)
		;
	close(c);
}

static void worker(int l)
{
	for (;;) {
		int c = accept(l, NULL, NULL);
		if (c >= 0)
			serve_one(c);
	}
}

static void serve_as_daemon(const char *how, int port)
{
	int l = listen_on(port), ended[2];
	char byte;
	if (pipe(ended))
		exit(8);
	if (fork())
		_exit(0);
	setsid();
	close(ended[1]);
	read(ended[0], &byte, 1); /* until the first process has ended */
	if (is(how, "prefork_daemon") && fork() == 0)
		worker(l);
	if (is(how, "reloaded")) {
		if (fork() == 0)
			worker(l);
		for (int i = 0; i < 1000 && access(getenv("GO"), F_OK); i++) /* the test says when */
			usleep(20000);
	}
	worker(l);
}

static void hoard(int port)
{
	int l = listen_on(port), n = 0;
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int c = accept(l, NULL, NULL);
		if (c >= 0 && ++n > 500) {
			by_child("number", l, c);
			close(c);
		}
	}
}

static void close_first(int port)
{
	int l = listen_on(port);
	for (int i = 0; i < 500; i++)
		close(accept(l, NULL, NULL));
	usleep(300000); /* the last client closes, too */
	exit(0);
}

static void serve(const char *how, int port)
{
	int l = listen_on(port);
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		int c = accept(l, NULL, NULL);
		if (c < 0)
			continue;
		if (is(how, "clone") || is(how, "number") || is(how, "clone3"))
			by_child(how, l, c);
		else if (is(how, "posix_spawn") || is(how, "system") || is(how, "popen"))
			by_shell(how, c);
		else
			to_probe(how, c);
		close(c);
	}
}

/* ---- clients ---- */

static int connect_to(const char *ip, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(ip)};
	struct timeval tv = {.tv_sec = WAIT_MS / 1000};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	return connect(fd, (struct sockaddr *)&a, sizeof a) ? -1 : fd;
}

static int ask_once(const char *ip, int port)
{
	char word[20], answer[20];
	int fd = connect_to(ip, port);
	for (int i = 0; i < 3; i++) {
		int n = snprintf(word, sizeof word, "word%d\n", i), got = 0;
		if (fd < 0 || write(fd, word, n) != n)
			return 0;
		while (got < n) {
			ssize_t r = read(fd, answer + got, n - got);
			if (r <= 0)
				return 0;
			got += r;
		}
		if (memcmp(word, answer, n))
			return 0;
	}
	close(fd);
	return 1;
}

static int ask(const char *ip, int port, int n)
{
	int right = 0;
	for (int i = 0; i < n; i++)
		right += ask_once(ip, port);
	printf("%d\n", right);
	return right != n;
}

/* Each is asked only when the last is connected. */
static int ask_many(const char *ip, int port, int n)
{
	int right = 0, *fds = calloc(n, sizeof *fds);
	char answer[4];
	for (int i = 0; i < n; i++)
		fds[i] = connect_to(ip, port);
	for (int i = n - 1; i >= 0; i--)
		right += fds[i] >= 0 && write(fds[i], "ping", 4) == 4 && recv(fds[i], answer, 4, MSG_WAITALL) == 4 && !memcmp(answer, "ping", 4);
	printf("%d\n", right);
	return right != n;
}

static int hold(const char *ip, int port, int n)
{
	char byte;
	for (int i = 0; i < n; i++)
		if (connect_to(ip, port) < 0)
			return 1;
	puts("held");
	fflush(stdout);
	return read(STDIN_FILENO, &byte, 1) != 0;
}

static int to_the_end(const char *ip, int port, int n)
{
	char byte;
	for (int i = 0; i < n; i++) {
		int fd = connect_to(ip, port);
		if (fd < 0 || read(fd, &byte, 1) != 0)
			return 1;
		close(fd);
	}
	return 0;
}

/* Waits in the `way`-th way until `fd` is readable. */
static int await(int way, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct timeval tv = {.tv_sec = WAIT_MS / 1000};
	struct timespec ts = {.tv_sec = WAIT_MS / 1000};
	struct epoll_event ev = {.events = EPOLLIN};
	fd_set in;
	int ep;
	switch (way) {
	case 0:
		return 1; /* recv itself waits */
	case 1:
		return poll(&p, 1, WAIT_MS) == 1 && p.revents == POLLIN;
	case 2:
		return ppoll(&p, 1, &ts, NULL) == 1 && p.revents == POLLIN;
	case 3:
		FD_ZERO(&in);
		FD_SET(fd, &in);
		return select(fd + 1, &in, NULL, NULL, &tv) == 1 && FD_ISSET(fd, &in);
	default:
		ep = epoll_create1(0);
		epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
		return epoll_wait(ep, &ev, 1, WAIT_MS) == 1 && ev.events == EPOLLIN;
	}
}

static int forked_reader(const char *ip, int port)
{
	int right = 0;
	char answer[4];
	signal(SIGPIPE, SIG_IGN);
	for (int way = 0; way < 5; way++) {
		int fd = connect_to(ip, port);
		pid_t pid = fork();
		if (pid == 0) {
			usleep(100000); /* the parent waits by then; if not, it is right all the same */
			_exit(write(fd, "ping", 4) != 4);
		}
		if (!await(way, fd) || recv(fd, answer, 4, MSG_WAITALL) != 4)
			fprintf(stderr, "way %d: no answer to the child (%s)\n", way, strerrorname_np(errno));
		else if (write(fd, "more", 4) != 4 || recv(fd, answer, 4, MSG_WAITALL) != 4)
			fprintf(stderr, "way %d: no answer to the parent (%s)\n", way, strerrorname_np(errno));
		else
			right++;
		waitpid(pid, NULL, 0);
		close(fd);
	}
	printf("%d\n", right);
	return right != 5;
}

static void listen_in_a_group(void)
{
	int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in any = {.sin_family = AF_INET};
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&any, sizeof any) || listen(fd, 1))
		perror("listen");
	close(fd);
}

static void *listen_for_ever(void *arg)
{
	for (;;)
		listen_in_a_group();
	return arg;
}

static int noisy_forks(int n)
{
	int ended = 0;
	pthread_t thread;
	pthread_create(&thread, NULL, listen_for_ever, NULL);
	for (int i = 0; i < n; i++) {
		int done[2];
		if (pipe(done))
			break;
		pid_t pid = fork();
		if (pid == 0) {
			listen_in_a_group();
			_exit(0);
		}
		close(done[1]); /* its end is the child's */
		struct pollfd p = {.fd = done[0], .events = POLLIN};
		ended += poll(&p, 1, WAIT_MS) == 1;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		close(done[0]);
		if (ended != i + 1)
			break;
	}
	printf("%d\n", ended);
	return ended != n;
}

static int read_stat_slowly(const char *pid)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	char byte;
	int n = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "finesse/stat/%s", pid), fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&name, offsetof(struct sockaddr_un, sun_path) + 1 + n)) {
		perror("connect");
		return 1;
	}
	puts("asked");
	fflush(stdout);
	return read(STDIN_FILENO, &byte, 1) != 0;
}

static int reset(const char *ip, int port)
{
	struct linger at_once = {.l_onoff = 1};
	char byte;
	int fd = connect_to(ip, port);
	if (fd < 0 || read(fd, &byte, 1) != 1)
		return 1;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	return close(fd);
}

int main(int argc, char **argv)
{
	self = "/proc/self/exe";
	if (argc == 3 && is(argv[1], "probe"))
		return probe(atoi(argv[2]));
	if (argc == 5 && is(argv[1], "ask"))
		return ask(argv[2], atoi(argv[3]), atoi(argv[4]));
	if (argc == 5 && is(argv[1], "ask_many"))
		return ask_many(argv[2], atoi(argv[3]), atoi(argv[4]));
	if (argc == 5 && is(argv[1], "hold"))
		return hold(argv[2], atoi(argv[3]), atoi(argv[4]));
	if (argc == 5 && is(argv[1], "ended"))
		return to_the_end(argv[2], atoi(argv[3]), atoi(argv[4]));
	if (argc == 4 && is(argv[1], "forked_reader"))
		return forked_reader(argv[2], atoi(argv[3]));
	if (argc == 3 && is(argv[1], "noisy_forks"))
		return noisy_forks(atoi(argv[2]));
	if (argc == 3 && is(argv[1], "stat_reader"))
		return read_stat_slowly(argv[2]);
	if (argc == 3 && is(argv[1], "hoard"))
		hoard(atoi(argv[2]));
	if (argc == 3 && is(argv[1], "closes"))
		close_first(atoi(argv[2]));
	if (argc == 4 && is(argv[1], "reset"))
		return reset(argv[2], atoi(argv[3]));
	if (argc == 3 && (is(argv[1], "uring_files") || is(argv[1], "uring_late")))
		serve_beside_ring(argv[1], atoi(argv[2]));
	if (argc == 3 && strncmp(argv[1], "uring_waiting", 13) == 0)
		sigprocmask(SIG_BLOCK, &(sigset_t){{1UL << (SIGUSR1 - 1)}}, NULL);
	if (argc == 3 && strncmp(argv[1], "uring", 5) == 0)
		serve_uring(argv[1], atoi(argv[2]));
	if (argc == 3 && (is(argv[1], "plainly") || is(argv[1], "like_libuv") || is(argv[1], "other_user") || is(argv[1], "other_net")))
		serve_plainly(argv[1], atoi(argv[2]));
	if (argc == 3 && (is(argv[1], "daemon") || is(argv[1], "prefork_daemon") || is(argv[1], "reloaded")))
		serve_as_daemon(argv[1], atoi(argv[2]));
	if (argc == 3)
		serve(argv[1], atoi(argv[2]));
	return 64;
}
