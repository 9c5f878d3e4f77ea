/*
 * A program that waits in every way a program may leave a wait. Run by waits.py as a server, natively and under
 * finesse; each mode prints "ready" when it listens. Arguments: mode …
 *
 *   threads   a thread per connection, blocked in recv, at RLIMIT_NOFILE 256: echoes; says how many it accepted when accept says EMFILE; -hard: that is the hard limit, too
 *   thousand  1,000 threads, each blocked in recv of a connection of its own: echoes
 *   shared    16 threads in epoll_wait of one set, edge-triggered, with standard input (a byte there: says "read") and a connection (echoes); two more were
 *             there, of which one is cancelled and one is in a handler for ever
 *   churn     four threads accept, echo and close, four connect to the peer whose address is the next argument, 100 times each
 *   three     three threads in recv; two that get something then compute until a byte comes on standard input; the third answers
 *   compute   reads, then computes (or, with "sleep", sleeps in read of standard input) until a byte comes there; again
 *   late-*    sends, and computes or sleeps elsewhere: what is lost is sent again, what comes is acknowledged, in time
 *   jump      a handler jumps out of recv, accept, poll and epoll_wait; the same thread goes on with the same connection; then close must say FIN
 *   cancel    threads are cancelled in accept, recv, poll, select, epoll_wait and joined
 *   die       an event loop that ends itself right behind a send, in the way that the next argument names
 *   more      an event loop that sends with MSG_MORE right behind a send, and waits for the answer to that
 *   reset     an event loop that resets its connection right behind a send: with something unread, or by SO_LINGER
 *   forks     of each of 20 connections: a child of fork asks it, and then another one
 *   nofd      with no number left: recv, poll, select, epoll_wait block and wake
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PORT 7000

static int l;

static void fail(const char *what)
{
	printf("WRONG: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	exit(1);
}

static void say(const char *what)
{
	puts(what);
	fflush(stdout);
}

static void start_listening(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int one = 1;
	l = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(l, (void *)&a, sizeof a) || listen(l, 1000))
		fail("listen");
	say("ready");
}

static void in_thread(pthread_t *t, void *(*body)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	if (pthread_create(t, &attr, body, arg))
		fail("pthread_create");
	pthread_attr_destroy(&attr);
}

/* ---- threads ---- */

static void *echo(void *arg)
{
	int c = (int)(long)arg;
	char b[64];
	for (ssize_t n; (n = recv(c, b, sizeof b, 0)) > 0;)
		send(c, b, n, 0);
	return NULL;
}

static void threads(rlim_t hard)
{
	pthread_t t;
	int n = 0;
	struct rlimit limit = {.rlim_cur = 256, .rlim_max = hard};
	setrlimit(RLIMIT_NOFILE, &limit);
	start_listening();
	for (;; n++) {
		int c = accept(l, NULL, NULL);
		if (c < 0 && errno == EMFILE)
			break;
		if (c < 0)
			fail("accept");
		in_thread(&t, echo, (void *)(long)c);
	}
	printf("accepted %d\n", n);
	fflush(stdout);
	getchar();
}

static void thousand(void)
{
	pthread_t t;
	start_listening();
	for (int i = 0; i < 1000; i++) {
		int c = accept(l, NULL, NULL);
		if (c < 0)
			fail("accept");
		in_thread(&t, echo, (void *)(long)c);
	}
	say("accepted 1000");
	pause();
}

/* ---- shared ---- */

struct shared {
	int ep, c;
};

static void *shared_thread(void *arg)
{
	struct shared *s = arg;
	struct epoll_event ev;
	char b[64];
	while (epoll_wait(s->ep, &ev, 1, -1) == 1) {
		ssize_t n = read(ev.data.fd, b, sizeof b);
		if (n > 0 && ev.data.fd == s->c)
			send(s->c, b, n, 0);
		else if (n > 0)
			say("read");
	}
	return NULL;
}

static _Atomic int in_handler;

static void for_ever(int sig)
{
	in_handler = 1;
	for (;;)
		pause();
}

static void shared(void)
{
	static struct shared s;
	pthread_t first, t[17];
	start_listening();
	s.c = accept(l, NULL, NULL);
	s.ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
	epoll_ctl(s.ep, EPOLL_CTL_ADD, 0, &ev);
	ev.data.fd = s.c;
	epoll_ctl(s.ep, EPOLL_CTL_ADD, s.c, &ev);
	/* The first to come watches for all. It is cancelled; the next runs a handler that does not return. */
	signal(SIGUSR1, for_ever);
	in_thread(&first, shared_thread, &s);
	poll(NULL, 0, 20);
	for (int i = 0; i < 17; i++)
		in_thread(&t[i], shared_thread, &s);
	poll(NULL, 0, 20);
	pthread_cancel(first);
	pthread_join(first, NULL);
	pthread_kill(t[0], SIGUSR1);
	while (!in_handler) /* a thread that is not there yet could be given an event, and never tell it */
		poll(NULL, 0, 1);
	say("accepted");
	pause();
}

/* ---- churn ---- */

#define CHURN_TIMES 100

static void *churn_server(void *arg)
{
	char b[64];
	for (int i = 0; i < CHURN_TIMES; i++) {
		int c = accept(l, NULL, NULL);
		if (c < 0)
			fail("accept");
		for (ssize_t n; (n = recv(c, b, sizeof b, 0)) > 0;)
			send(c, b, n, 0);
		close(c);
	}
	return arg;
}

static void *churn_client(void *arg)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(PORT + 1)};
	struct pollfd p = {.events = POLLIN};
	char b[64] = {0};
	inet_pton(AF_INET, arg, &a.sin_addr);
	for (int i = 0; i < CHURN_TIMES; i++) {
		p.fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(p.fd, (void *)&a, sizeof a))
			fail("connect");
		if (send(p.fd, b, sizeof b, 0) != sizeof b || poll(&p, 1, -1) != 1 || recv(p.fd, b, sizeof b, MSG_WAITALL) != sizeof b)
			fail("echo");
		close(p.fd);
	}
	return NULL;
}

static void churn(char *peer)
{
	pthread_t t[8];
	start_listening();
	for (int i = 0; i < 8; i++)
		in_thread(&t[i], i % 2 ? churn_client : churn_server, peer);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	say("over");
}

/* ---- three ---- */

static int go; /* atomic */

static void *three_thread(void *arg)
{
	int c = (int)(long)arg;
	char b;
	while (recv(c, &b, 1, 0) == 1) {
		send(c, &b, 1, 0);
		while (b == 'c' && !__atomic_load_n(&go, __ATOMIC_RELAXED)) /* computes */
			;
	}
	return NULL;
}

static void three(void)
{
	pthread_t t[3];
	start_listening();
	for (int i = 0; i < 3; i++)
		in_thread(&t[i], three_thread, (void *)(long)accept(l, NULL, NULL));
	getchar();
	__atomic_store_n(&go, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
}

/* ---- compute ---- */

static void compute(bool sleeps)
{
	char b[4096];
	start_listening();
	int c = accept(l, NULL, NULL);
	while (read(c, b, sizeof b) > 0) {
		struct pollfd in = {.fd = 0, .events = POLLIN};
		say("read");
		if (!sleeps)
			while (poll(&in, 1, 0) == 0)
				;
		if (read(0, b, 1) != 1)
			break;
	}
}

/* ---- late ---- */

/*
 * For every byte that comes: says its RTO, sends 100 bytes, and makes no call on the connection until a byte comes on
 * standard input.
 */
static void late(bool sleeps)
{
	char b[4096] = {0};
	start_listening();
	int c = accept(l, NULL, NULL);
	while (read(c, b, 1) > 0) {
		struct tcp_info info;
		socklen_t len = sizeof info;
		struct pollfd in = {.fd = 0, .events = POLLIN};
		getsockopt(c, IPPROTO_TCP, TCP_INFO, &info, &len);
		printf("rto %u rtt %u\n", info.tcpi_rto, info.tcpi_rtt);
		fflush(stdout);
		if (write(c, b, 100) != 100)
			fail("write");
		if (!sleeps)
			while (poll(&in, 1, 0) == 0)
				;
		if (read(0, b, 1) != 1)
			break;
		recv(c, b, sizeof b, MSG_DONTWAIT);
		say("on"); /* what comes from here on is the next one's */
	}
}

/* ---- jump ---- */

static sigjmp_buf out;
static bool jumped; /* atomic */

static void on_signal(int sig)
{
	__atomic_store_n(&jumped, true, __ATOMIC_RELAXED);
	siglongjmp(out, 1);
}

/* Interrupts the main thread until it has jumped: before, between and in its waits. */
static void *interrupter(void *arg)
{
	pthread_t *main_thread = arg;
	while (!__atomic_load_n(&jumped, __ATOMIC_RELAXED)) {
		pthread_kill(*main_thread, SIGUSR1);
		poll(NULL, 0, 1);
	}
	return NULL;
}

static void block_in(const char *how, int fd, int ep)
{
	char b;
	fd_set set;
	struct epoll_event ev;
	struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
	FD_ZERO(&set);
	FD_SET(fd, &set);
	if (!strcmp(how, "recv"))
		recv(fd, &b, 1, 0);
	else if (!strcmp(how, "accept"))
		accept(l, NULL, NULL);
	else if (!strcmp(how, "poll"))
		poll(p, 2, -1);
	else if (!strcmp(how, "select"))
		select(fd + 1, &set, NULL, NULL, NULL);
	else
		epoll_wait(ep, &ev, 1, -1);
}

static const char *const ways[] = {"recv", "accept", "poll", "select", "epoll_wait"};
#define WAYS ((int)(sizeof ways / sizeof *ways))

static void jump(void)
{
	pthread_t me = pthread_self(), t;
	char b;
	start_listening();
	int c = accept(l, NULL, NULL), ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	epoll_ctl(ep, EPOLL_CTL_ADD, c, &ev);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	struct sigaction sa = {.sa_handler = on_signal};
	sigaction(SIGUSR1, &sa, NULL);
	for (volatile int round = 0; round < 10; round++)
		for (volatile int i = 0; i < WAYS; i++) {
			__atomic_store_n(&jumped, false, __ATOMIC_RELAXED);
			pthread_sigmask(SIG_BLOCK, &set, NULL);
			in_thread(&t, interrupter, &me);
			if (!sigsetjmp(out, 1)) {
				pthread_sigmask(SIG_UNBLOCK, &set, NULL);
				block_in(ways[i], c, ep);
				fail("came back");
			}
			pthread_join(t, NULL);
			/* The signals that are still under way come here. */
			__atomic_store_n(&jumped, true, __ATOMIC_RELAXED);
			say("jumped");
			if (recv(c, &b, 1, 0) != 1 || send(c, &b, 1, 0) != 1)
				fail("recv afterwards");
		}
	close(c); /* the client gets end of file: no reference was left behind */
	getchar();
}

/* ---- cancel ---- */

struct blocked {
	const char *how;
	int fd, ep;
};

static void *block_for_ever(void *arg)
{
	struct blocked *b = arg;
	for (;;)
		block_in(b->how, b->fd, b->ep);
	return NULL;
}

static void cancel(void)
{
	start_listening();
	int c = accept(l, NULL, NULL), ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	char byte;
	epoll_ctl(ep, EPOLL_CTL_ADD, c, &ev);
	for (int round = 0; round < 20; round++)
		for (int i = 0; i < WAYS; i++) {
			struct blocked b = {ways[i], c, ep};
			pthread_t t;
			void *result;
			in_thread(&t, block_for_ever, &b);
			if (round % 2)
				poll(NULL, 0, 2); /* most have blocked by then; both are right */
			pthread_cancel(t);
			pthread_join(t, &result);
			if (result != PTHREAD_CANCELED)
				fail(ways[i]);
		}
	say("cancelled");
	if (recv(c, &byte, 1, 0) != 1 || send(c, &byte, 1, 0) != 1)
		fail("recv afterwards");
	close(c);
	getchar();
}

/* ---- nofd ---- */

static void *recv_thread(void *arg)
{
	char b;
	if (recv((int)(long)arg, &b, 1, 0) != 1 || send((int)(long)arg, &b, 1, 0) != 1)
		fail("recv with no number left");
	return NULL;
}

static void nofd(void)
{
	pthread_t t;
	char b;
	start_listening();
	int c = accept(l, NULL, NULL), d = accept(l, NULL, NULL), ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	epoll_ctl(ep, EPOLL_CTL_ADD, c, &ev);
	struct rlimit limit = {.rlim_cur = 64, .rlim_max = 64};
	setrlimit(RLIMIT_NOFILE, &limit);
	while (dup(0) >= 0)
		;
	say("none");
	in_thread(&t, recv_thread, (void *)(long)d);
	for (int i = 0; i < 6; i++) {
		struct pollfd p[1] = {{.fd = c, .events = POLLIN}};
		fd_set set;
		FD_ZERO(&set);
		FD_SET(c, &set);
		int r = i % 3 == 0 ? select(c + 1, &set, NULL, NULL, NULL) : i % 3 == 1 ? epoll_wait(ep, &ev, 1, -1) : poll(p, 1, -1);
		if (r != 1)
			fail("select, epoll_wait, poll");
		if (recv(c, &b, 1, 0) != 1 || send(c, &b, 1, 0) != 1)
			fail("recv");
	}
	pthread_join(t, NULL);
	say("woke");
	getchar();
}

/* ---- die ---- */

static void end_by(const char *how)
{
	static volatile int *nowhere;
	if (!strcmp(how, "kill"))
		kill(getpid(), SIGKILL);
	else if (!strcmp(how, "raise"))
		raise(SIGKILL);
	else if (!strcmp(how, "thread"))
		pthread_kill(pthread_self(), SIGKILL);
	else if (!strcmp(how, "queue"))
		sigqueue(getpid(), SIGKILL, (union sigval){0});
	else if (!strcmp(how, "abort"))
		abort();
	else if (!strcmp(how, "fault"))
		*nowhere = 1;
	else if (!strcmp(how, "syscall"))
		syscall(SYS_kill, getpid(), SIGKILL);
	else if (!strcmp(how, "write"))
		write(1, "sent\n", 5); /* stdio's own would not pass the shim */
	for (;;) /* computes */
		;
}

/*
 * An event loop, which comes back so soon that its output may wait for that: accepts, and echoes what comes, up to the
 * echo of a 'd'.
 */
static int echo_until_d(void)
{
	char b = 0;
	struct epoll_event ev = {.events = EPOLLIN};
	int ep = epoll_create1(0), c = accept4(l, NULL, NULL, SOCK_NONBLOCK);
	setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	epoll_ctl(ep, EPOLL_CTL_ADD, c, &ev);
	while (b != 'd' && epoll_wait(ep, &ev, 1, -1) == 1 && recv(c, &b, 1, 0) == 1)
		send(c, &b, 1, 0);
	close(ep);
	return c;
}

static void die(const char *how)
{
	start_listening();
	echo_until_d();
	end_by(how);
}

/* ---- more ---- */

/* The peer answers a 'd' before it gets what MSG_MORE holds back. */
static void more(void)
{
	char b;
	start_listening();
	for (int i = 0; i < 10; i++) {
		int c = echo_until_d();
		send(c, "m", 1, MSG_MORE);
		poll(&(struct pollfd){c, POLLIN, 0}, 1, -1);
		recv(c, &b, 1, 0);
		send(c, "e", 1, 0);
		close(c);
	}
	getchar();
}

/* ---- reset ---- */

static void reset(bool linger)
{
	start_listening();
	for (int i = 0; i < 10; i++) {
		int c = echo_until_d();
		if (linger)
			setsockopt(c, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
		close(c);
	}
	getchar();
}

/* ---- forks ---- */

static int asks_in_child(int c)
{
	int status;
	char b;
	pid_t child = fork();
	if (child == 0) {
		errno = 0;
		recv(c, &b, 1, MSG_DONTWAIT);
		_exit(errno);
	}
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/*
 * A child takes the connection to the kernel's TCP; the next child is made at once. The many sockets make the time
 * between long.
 */
static void forks(void)
{
	start_listening();
	for (int i = 0; i < 3000; i++)
		if (socket(AF_INET, SOCK_STREAM, 0) < 0)
			fail("socket");
	for (int i = 0; i < 20; i++) {
		int c = accept(l, NULL, NULL), first = asks_in_child(c), second = asks_in_child(c);
		if (first != EAGAIN || second != EAGAIN) {
			printf("round %d: the children say %s, %s\n", i, strerrorname_np(first), strerrorname_np(second));
			exit(1);
		}
		close(c);
	}
	say("over");
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	if (!strcmp(mode, "threads"))
		threads(1024);
	else if (!strcmp(mode, "threads-hard"))
		threads(256);
	else if (!strcmp(mode, "thousand"))
		thousand();
	else if (!strcmp(mode, "shared"))
		shared();
	else if (!strcmp(mode, "churn"))
		churn(argv[2]);
	else if (!strcmp(mode, "three"))
		three();
	else if (!strcmp(mode, "compute") || !strcmp(mode, "sleep"))
		compute(!strcmp(mode, "sleep"));
	else if (!strcmp(mode, "late-compute") || !strcmp(mode, "late-sleep"))
		late(!strcmp(mode, "late-sleep"));
	else if (!strcmp(mode, "jump"))
		jump();
	else if (!strcmp(mode, "cancel"))
		cancel();
	else if (!strcmp(mode, "nofd"))
		nofd();
	else if (!strcmp(mode, "die"))
		die(argv[2]);
	else if (!strcmp(mode, "more"))
		more();
	else if (!strcmp(mode, "reset"))
		reset(!strcmp(argv[2], "linger"));
	else if (!strcmp(mode, "forks"))
		forks();
	else
		return 2;
	return 0;
}
