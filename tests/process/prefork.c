/*
 * A server with workers that share a listening port, as servers do it.
 *
 *   prefork HOW PORT N      the master; N workers, forked from it. Commands come on its standard input, a line each; it answers each with a line
 *     HOW  accept           each worker blocks in accept(2)
 *          deferred         as epoll; a client is accepted when it has spoken, or after a minute (TCP_DEFER_ACCEPT)
 *          poll             … in poll(2), then accepts without blocking
 *          epoll            … in an epoll of its own
 *          epoll_first      the listener is in an epoll that the workers inherit
 *          serial           a lock lets one worker accept at a time (apache2's)
 *          reuseport        each worker has a socket of its own (SO_REUSEPORT)
 *          own_sockets      as reuseport, but the master opens them all, and its workers drop their privilege (nginx with reuseport)
 *          daemon           as accept; the process that listened is gone
 *          own_master       as accept; the master accepts, too, before it forks the workers
 *          launched         as epoll; the listener is on descriptor 3 of a program that this one executes (LISTEN_FDS)
 *          bound            as launched, and the listener is bound to the loopback device
 *          passed           as epoll; each worker gets the listener by SCM_RIGHTS, which the master opened after it had forked the first ones
 *     more                  one worker more
 *     reload                N new workers; the old ones stop listening, finish what they have, and end
 *     kill                  one worker is killed (SIGKILL), and a new one takes its place
 *     dies                  … and no new one
 *     exec                  launched: all workers finish and end; then the master executes itself with the listener, and begins anew
 *     quit                  all workers finish and end, and so does the master
 *     workers               their pids
 *
 * A connection is served line by line: "who\n" is answered with the worker's pid and a newline; "busy MS\n" keeps the
 * worker from everything else for that time, then "done\n" is the answer. A worker that accepts by epoll or poll serves
 * many connections; the others one at a time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKERS_MAX 64
#define CONNS_MAX   4096
#define GIVEN_FD    3

static const char *how;
static int port, listener = -1, epoll_fd = -1, n_wanted;
static pid_t workers[WORKERS_MAX];
static int n_workers;
static volatile sig_atomic_t finish;
static int lock_fd = -1;
static char **arguments;
static int given; /* the listener came over exec */
static int sockets[WORKERS_MAX]; /* own_sockets: a worker's place is its socket's */
static int places[WORKERS_MAX];

static int is(const char *what)
{
	return strcmp(how, what) == 0;
}

static int listen_here(void)
{
	int on = 1, minute = 60, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (is("reuseport") || is("own_sockets"))
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	if (is("deferred"))
		setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &minute, sizeof minute);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 512)) {
		perror("listen");
		exit(9);
	}
	return fd;
}

static int is_multiplexed(void)
{
	return is("launched") || is("bound") || is("passed") || is("deferred") || is("poll") || is("epoll") || is("epoll_first") || is("reuseport") || is("own_sockets");
}

/* ---- a connection ---- */

static void busy_for(long ms)
{
	struct timespec t, end;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += ms / 1000;
	end.tv_nsec += ms % 1000 * 1000000;
	do
		clock_gettime(CLOCK_MONOTONIC, &t);
	while (t.tv_sec < end.tv_sec || (t.tv_sec == end.tv_sec && t.tv_nsec < end.tv_nsec));
}

/* One line, or what there is of several. 0: it is over. */
static int serve(int c)
{
	char in[512], out[64];
	ssize_t n = read(c, in, sizeof in - 1);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 1;
	if (n <= 0)
		return 0;
	in[n] = 0;
	for (char *line = strtok(in, "\n"); line; line = strtok(NULL, "\n")) {
		int len;
		if (strncmp(line, "busy ", 5) == 0) {
			busy_for(atol(line + 5));
			len = snprintf(out, sizeof out, "done\n");
		} else {
			len = snprintf(out, sizeof out, "%d\n", getpid());
		}
		if (write(c, out, len) != len)
			return 0;
	}
	return 1;
}

/* ---- workers ---- */

static void on_term(int sig)
{
	(void)sig;
	finish = 1;
}

static void one_at_a_time(void)
{
	while (!finish) {
		if (lock_fd >= 0)
			flock(lock_fd, LOCK_EX);
		int c = finish ? -1 : accept(listener, NULL, NULL);
		if (lock_fd >= 0)
			flock(lock_fd, LOCK_UN);
		if (c < 0)
			continue;
		while (serve(c))
			;
		close(c);
	}
}

/* Which of `fds` may be read, by the way that is to be tested. */
static void wait_readable(struct pollfd *fds, int n)
{
	struct epoll_event evs[64];
	for (int i = 0; i < n; i++)
		fds[i].revents = 0;
	if (is("poll")) {
		poll(fds, n, 1000);
		return;
	}
	int got = epoll_wait(epoll_fd, evs, 64, 1000);
	for (int e = 0; e < got; e++)
		for (int i = 0; i < n; i++)
			if (fds[i].fd == evs[e].data.fd)
				fds[i].revents = POLLIN;
}

static void follow(int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
	if (!is("poll") && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev))
		perror("epoll_ctl");
}

static void many_at_once(void)
{
	static struct pollfd fds[CONNS_MAX];
	int n = 1;
	fds[0] = (struct pollfd){.fd = listener, .events = POLLIN};
	fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
	if (epoll_fd < 0) {
		epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		follow(listener);
	}
	while (!finish || n > 1) {
		if (finish && fds[0].fd >= 0) { /* no new ones; those that are there go on to their end */
			close(listener);
			fds[0].fd = -1;
		}
		wait_readable(fds, n);
		for (int i = n - 1; i > 0; i--) {
			if (fds[i].revents && !serve(fds[i].fd)) {
				close(fds[i].fd);
				fds[i] = fds[--n];
			}
		}
		int c;
		while (fds[0].revents && n < CONNS_MAX && (c = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
			follow(c);
			fds[n++] = (struct pollfd){.fd = c, .events = POLLIN};
		}
	}
}

static int pass(int via, int fd)
{
	char byte = 'x';
	struct iovec iov = {&byte, 1};
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = {0};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof u.buf};
	if (fd < 0)
		return recvmsg(via, &m, 0) == 1 && CMSG_FIRSTHDR(&m) ? *(int *)CMSG_DATA(CMSG_FIRSTHDR(&m)) : -1;
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(h), &fd, sizeof fd);
	return sendmsg(via, &m, 0) == 1 ? fd : -1;
}

#define NOBODY 65534

static void start_worker(int place)
{
	int pair[2] = {-1, -1};
	if (is("passed"))
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
	pid_t pid = fork();
	if (pid) {
		places[n_workers] = place;
		workers[n_workers++] = pid;
		if (is("passed")) {
			if (listener < 0)
				listener = listen_here();
			if (pass(pair[0], listener) < 0)
				exit(7);
			close(pair[0]);
			close(pair[1]);
		}
		return;
	}
	struct sigaction act = {.sa_handler = on_term}; /* no SA_RESTART: accept is left */
	sigaction(SIGTERM, &act, NULL);
	close(STDIN_FILENO);
	if (is("serial"))
		lock_fd = open("lock", O_RDWR | O_CREAT, 0600);
	if (is("reuseport"))
		listener = listen_here();
	if (is("passed")) {
		close(listener);
		listener = pass(pair[1], -1);
	}
	if (is("own_sockets")) {
		listener = sockets[place];
		if (setgid(NOBODY) || setuid(NOBODY))
			exit(5);
	}
	if (is_multiplexed())
		many_at_once();
	else
		one_at_a_time();
	exit(0);
}

/* ---- the master ---- */

static void forget_worker(int i)
{
	waitpid(workers[i], NULL, 0);
	workers[i] = workers[--n_workers];
	places[i] = places[n_workers];
}

static void stop_first(int n)
{
	for (int i = 0; i < n; i++)
		kill(workers[i], SIGTERM);
}

static void obey(const char *command)
{
	int old = n_workers;
	if (strcmp(command, "more") == 0) {
		start_worker(n_workers % n_wanted);
	} else if (strcmp(command, "reload") == 0) {
		for (int i = 0; i < n_wanted; i++)
			start_worker(i);
		stop_first(old);
		memmove(workers, workers + old, (n_workers - old) * sizeof *workers); /* they end when they are through */
		memmove(places, places + old, (n_workers - old) * sizeof *places);
		n_workers -= old;
	} else if (strcmp(command, "kill") == 0 || strcmp(command, "dies") == 0) {
		int place = places[0];
		kill(workers[0], SIGKILL);
		forget_worker(0);
		if (command[0] == 'k')
			start_worker(place);
	} else if (strcmp(command, "exec") == 0) {
		stop_first(n_workers);
		while (wait(NULL) > 0)
			;
		execv(arguments[0], arguments);
		exit(6);
	} else if (strcmp(command, "quit") == 0) {
		stop_first(n_workers);
		close(listener);
		while (wait(NULL) > 0)
			;
		n_workers = 0;
	}
	printf("ok");
	for (int i = 0; i < n_workers; i++)
		printf(" %d", workers[i]);
	printf("\n");
	fflush(stdout);
}

static void listen_and_go(char **argv)
{
	if (is("reuseport") || is("passed"))
		return;
	if (is("own_sockets")) {
		for (int i = 0; i < n_wanted; i++)
			sockets[i] = listen_here();
		return;
	}
	if (given) { /* the second time */
		listener = GIVEN_FD;
		return;
	}
	listener = listen_here();
	if (is("bound") && setsockopt(listener, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3))
		exit(4);
	if (is("launched") || is("bound")) {
		dup2(listener, GIVEN_FD);
		fcntl(GIVEN_FD, F_SETFD, 0);
		argv[1] = is("bound") ? "given-bound" : "given";
		execv(argv[0], argv);
		exit(6);
	}
	if (is("daemon") && fork())
		_exit(0);
	if (is("epoll_first")) {
		epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		follow(listener);
	}
	if (is("own_master")) {
		fcntl(listener, F_SETFL, O_NONBLOCK);
		if (accept(listener, NULL, NULL) >= 0)
			exit(8);
		fcntl(listener, F_SETFL, 0);
	}
}

int main(int argc, char **argv)
{
	char line[64];
	if (argc < 4)
		return 2;
	given = strncmp(argv[1], "given", 5) == 0;
	how = !given ? argv[1] : argv[1][5] ? "bound" : "launched";
	arguments = argv;
	port = atoi(argv[2]);
	n_wanted = atoi(argv[3]);
	listen_and_go(argv);
	for (int i = 0; i < n_wanted; i++)
		start_worker(i);
	obey("workers");
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		obey(line);
		if (strcmp(line, "quit") == 0)
			return 0;
	}
	stop_first(n_workers);
	return 0;
}
