/*
 * Calls of readiness that generated steps do not make: wrong arguments and their order, signals and masks, threads in
 * one epoll, no fd left, numbers that are closed while they are waited for, a socket that becomes the kernel's.
 * `ready_steps calls PATH PEER-IP` prints what they said; natively and under finesse it must be the same.
 */
#include "ready_steps.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"

#define SAY(expr)                                                                                                                          \
	do {                                                                                                                               \
		errno = 0;                                                                                                                 \
		long r_ = (expr);                                                                                                          \
		printf("%s: %ld %s\n", #expr, r_, r_ < 0 ? strerrorname_np(errno) : "");                                                   \
	} while (0)

static int add(int ep, int fd, unsigned events, unsigned data)
{
	struct epoll_event ev = {.events = events, .data.u32 = data};
	return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
}

static void arguments(int l, int s)
{
	struct epoll_event ev = {.events = EPOLLIN}, evs[4];
	struct timespec bad = {0, 1000000000}, negative = {-1, 0}, none = {0, 0};
	int ep = epoll_create1(0), p[2];
	puts("# arguments");
	SAY(pipe(p));
	SAY(add(ep, s, EPOLLIN, 1));
	SAY(epoll_pwait2(ep, evs, 4, &bad, NULL));
	SAY(epoll_pwait2(ep, evs, 4, &negative, NULL));
	SAY(epoll_pwait2(-1, evs, 4, &bad, NULL));
	SAY(epoll_pwait2(ep, evs, 4, &none, NULL));
	SAY(epoll_wait(ep, evs, 0, 0));
	SAY(epoll_wait(ep, evs, -1, 0));
	SAY(epoll_wait(ep, evs, 0x7fffffff, 0));
	SAY(epoll_wait(-1, evs, 0, 0));
	SAY(epoll_wait(s, evs, 4, 0));
	SAY(epoll_wait(s, evs, 0, 0));
	SAY(epoll_wait(p[0], evs, 4, 0));
	SAY(epoll_ctl(-1, EPOLL_CTL_ADD, s, NULL));
	SAY(epoll_ctl(-1, EPOLL_CTL_ADD, s, &ev));
	SAY(epoll_ctl(ep, EPOLL_CTL_MOD, s, NULL));
	SAY(epoll_ctl(ep, 77, s, NULL));
	SAY(epoll_ctl(ep, 77, s, &ev));
	SAY(epoll_ctl(ep, EPOLL_CTL_ADD, s, (void *)8));
	SAY(epoll_ctl(p[0], EPOLL_CTL_ADD, s, &ev));
	SAY(epoll_ctl(s, EPOLL_CTL_ADD, s, &ev));
	SAY(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &ev));
	SAY(epoll_ctl(ep, EPOLL_CTL_ADD, 800, &ev));
	SAY(epoll_ctl(ep, EPOLL_CTL_ADD, 950, &ev));
	ev.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT;
	SAY(epoll_ctl(ep, EPOLL_CTL_ADD, l, &ev));
	ev.events = EPOLLIN | EPOLLEXCLUSIVE;
	SAY(epoll_ctl(ep, EPOLL_CTL_ADD, l, &ev));
	SAY(epoll_ctl(ep, EPOLL_CTL_MOD, l, &ev));
	ev.events = EPOLLIN;
	SAY(epoll_ctl(ep, EPOLL_CTL_MOD, l, &ev));
	SAY(epoll_ctl(ep, EPOLL_CTL_DEL, l, NULL));
	SAY(epoll_ctl(ep, EPOLL_CTL_DEL, l, NULL));
	close(p[0]);
	close(p[1]);
	close(ep);
}

/* An edge of a pipe whose data is a socket's, and a listener in the same set. */
static void equal_data(int l, int s)
{
	struct epoll_event evs[8];
	int ep = epoll_create1(0), p[2];
	puts("# equal data");
	SAY(pipe(p));
	SAY(add(ep, l, EPOLLIN | EPOLLET, 7));
	SAY(add(ep, s, EPOLLIN, 7));
	SAY(add(ep, p[0], EPOLLIN | EPOLLET, 7));
	peer_sends(s, 5);
	SAY(write(p[1], "x", 1));
	SAY(epoll_wait(ep, evs, 8, 0));
	SAY(epoll_wait(ep, evs, 8, 0));
	SAY(write(p[1], "x", 1));
	SAY(epoll_wait(ep, evs, 8, 0));
	char buf[8];
	SAY(read(s, buf, 8));
	SAY(epoll_wait(ep, evs, 8, 0));
	close(p[0]);
	close(p[1]);
	close(ep);
}

static volatile sig_atomic_t handled;
static void handle(int sig)
{
	(void)sig;
	handled++;
}

static void masks(int s)
{
	struct epoll_event evs[4];
	struct sigaction sa = {.sa_handler = handle};
	struct timespec none = {0, 0}, some = {5, 0};
	struct pollfd p = {s, POLLIN, 0};
	sigset_t usr1, empty;
	fd_set in;
	char buf[8];
	int ep = epoll_create1(0);
	puts("# masks");
	sigemptyset(&empty);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigaction(SIGUSR1, &sa, NULL);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	SAY(add(ep, s, EPOLLIN, 1));
	raise(SIGUSR1);
	SAY(epoll_pwait(ep, evs, 4, 0, &empty));
	SAY(handled);
	SAY(epoll_pwait(ep, evs, 4, 5000, &empty));
	SAY(handled);
	raise(SIGUSR1);
	SAY(ppoll(&p, 1, &none, &usr1));
	SAY(handled);
	SAY(ppoll(&p, 1, &none, &empty));
	SAY(handled);
	raise(SIGUSR1);
	SAY(ppoll(&p, 1, &some, &empty));
	SAY(handled);
	raise(SIGUSR1);
	FD_ZERO(&in);
	FD_SET(s, &in);
	SAY(pselect(s + 1, &in, NULL, NULL, &none, &empty));
	SAY(handled);
	peer_sends(s, 3);
	raise(SIGUSR1);
	SAY(ppoll(&p, 1, &some, &empty)); /* ready: the signal stays */
	SAY(handled);
	SAY(epoll_pwait(ep, evs, 4, 5000, &empty));
	SAY(handled);
	sigprocmask(SIG_UNBLOCK, &usr1, NULL);
	SAY(handled);
	SAY(read(s, buf, 8));
	close(ep);
}

/* ---- threads ---- */

/* What ends a wait that nothing else ends, so that no step is decided by time. */
#define LONG_MS 30000
#define OF_PIPE 9

struct sleeper {
	pthread_t thread;
	int ep, result;
	struct epoll_event ev;
	bool done;
	pid_t tid;
};

static void *sleep_there(void *arg)
{
	struct sleeper *w = arg;
	__atomic_store_n(&w->tid, gettid(), __ATOMIC_SEQ_CST);
	w->result = epoll_wait(w->ep, &w->ev, 1, LONG_MS);
	__atomic_store_n(&w->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

/* Blocked in a system call that is a wait: a lock is waited for by a futex without a time-out. */
static bool is_asleep(pid_t tid)
{
	char path[64], text[256];
	unsigned long nr, a[4];
	snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
	text[n > 0 ? n : 0] = 0;
	close(fd);
	if (sscanf(text, "%lu %lx %lx %lx %lx", &nr, &a[0], &a[1], &a[2], &a[3]) != 5)
		return false; /* "running" */
	return nr != SYS_futex || a[3];
}

static void until_asleep(struct sleeper *w)
{
	pid_t tid;
	for (int tries = 0; tries < LONG_MS; tries++) {
		if ((tid = __atomic_load_n(&w->tid, __ATOMIC_SEQ_CST)) && is_asleep(tid))
			return;
		usleep(1000);
	}
	puts("late: asleep");
}

static void sleepers_start(struct sleeper *w, int n, int ep)
{
	for (int i = 0; i < n; i++) {
		w[i] = (struct sleeper){.ep = ep};
		pthread_create(&w[i].thread, NULL, sleep_there, &w[i]);
		until_asleep(&w[i]);
	}
}

/* How many were told of something else than the pipe, once all are. */
static int sleepers_told(struct sleeper *w, int n)
{
	int told = 0;
	for (int i = 0; i < n; i++) {
		pthread_join(w[i].thread, NULL);
		told += w[i].result == 1 && w[i].ev.data.u32 != OF_PIPE;
	}
	return told;
}

static int sleepers_done(const struct sleeper *w, int n)
{
	int done = 0;
	for (int i = 0; i < n; i++)
		done += __atomic_load_n(&w[i].done, __ATOMIC_SEQ_CST);
	return done;
}

/* The same where not all are to be told: once one was, the pipe, which is in all the epolls, ends the other waits. */
static int one_told(struct sleeper *w, int n, const int p[2])
{
	char byte;
	for (int tries = 0; tries < LONG_MS && !sleepers_done(w, n); tries++)
		usleep(1000);
	if (write(p[1], "x", 1) != 1)
		puts("pipe");
	int told = sleepers_told(w, n);
	if (read(p[0], &byte, 1) != 1)
		puts("pipe");
	return told;
}

/*
 * A socket that is ready already is added while a thread sleeps in the kernel's wait. Under finesse a mark in the
 * kernel's epoll wakes the thread. It must be gone when the last thread has left, or later waits never sleep. So the
 * epoll itself is asked, past everything that is between: its edge was told, and it has nothing.
 */
static long added_beside_waits(int s, int rounds)
{
	struct epoll_event evs[4];
	struct sleeper w;
	long wrong = 0;
	for (int i = 0; i < rounds; i++) {
		int ep = epoll_create1(0);
		sleepers_start(&w, 1, ep);
		wrong += add(ep, s, EPOLLIN | EPOLLET, 2) != 0;
		wrong += sleepers_told(&w, 1) != 1;
		wrong += sys_epoll_pwait(ep, evs, 4, 0, NULL) != 0;
		close(ep);
	}
	return wrong;
}

/*
 * The number of an epoll goes to another file while a thread waits in it, with a dup of it (`kept`) and without: what
 * is in the set is told all the same.
 */
static long number_reused_beside_waits(int s, bool kept, int rounds)
{
	struct sleeper w;
	int p[2], empty[2];
	long wrong = pipe(p) || pipe(empty);
	for (int i = 0; i < rounds; i++) {
		int ep = epoll_create1(0), other = kept ? dup(ep) : -1;
		wrong += add(ep, p[0], EPOLLIN, 1) || add(ep, s, EPOLLPRI, 2);
		sleepers_start(&w, 1, ep);
		wrong += dup2(empty[0], ep) != ep;
		wrong += write(p[1], "x", 1) != 1;
		wrong += sleepers_told(&w, 1) != 1;
		wrong += read(p[0], (char[1]){0}, 1) != 1;
		close(ep);
		close(other);
	}
	for (int i = 0; i < 2; i++) {
		close(p[i]);
		close(empty[i]);
	}
	return wrong;
}

static void threads(int s)
{
	struct sleeper w[4];
	struct epoll_event evs[4];
	char buf[16];
	int ep = epoll_create1(0), p[2];
	puts("# threads");
	SAY(pipe(p));
	SAY(add(ep, p[0], EPOLLIN, OF_PIPE));
	/* one event, edge-triggered: one thread */
	SAY(add(ep, s, EPOLLIN | EPOLLET, 1));
	sleepers_start(w, 4, ep);
	peer_sends(s, 4);
	SAY(one_told(w, 4, p));
	/* a level-triggered one that nobody reads: all */
	SAY(epoll_ctl(ep, EPOLL_CTL_MOD, s, &(struct epoll_event){.events = EPOLLIN}));
	SAY(read(s, buf, 16));
	sleepers_start(w, 4, ep);
	peer_sends(s, 4);
	SAY(sleepers_told(w, 4));
	SAY(read(s, buf, 16));
	/* one-shot: one */
	SAY(epoll_ctl(ep, EPOLL_CTL_MOD, s, &(struct epoll_event){.events = EPOLLIN | EPOLLONESHOT}));
	sleepers_start(w, 4, ep);
	peer_sends(s, 4);
	SAY(one_told(w, 4, p));
	SAY(epoll_ctl(ep, EPOLL_CTL_DEL, s, NULL));
	/* ready already, and added while threads sleep in the kernel's wait */
	sleepers_start(w, 2, ep);
	SAY(add(ep, s, EPOLLIN, 2));
	SAY(sleepers_told(w, 2));
	SAY(added_beside_waits(s, 100));
	SAY(read(s, buf, 16));
	SAY(epoll_wait(ep, evs, 4, 0));
	/* closed while it is waited on: the wait goes on */
	sleepers_start(w, 1, ep);
	SAY(close(ep));
	peer_sends(s, 4);
	SAY(sleepers_told(w, 1));
	SAY(read(s, buf, 16));
	SAY(number_reused_beside_waits(s, false, 10));
	SAY(number_reused_beside_waits(s, true, 10));
	close(p[0]);
	close(p[1]);
}

/* Two epolls that have a socket exclusively, each with a thread: one is woken. */
static void exclusive(int s)
{
	struct sleeper w[2];
	char buf[16];
	int ep1 = epoll_create1(0), ep2 = epoll_create1(0), p[2];
	puts("# exclusive");
	SAY(pipe(p));
	SAY(add(ep1, p[0], EPOLLIN, OF_PIPE));
	SAY(add(ep2, p[0], EPOLLIN, OF_PIPE));
	SAY(add(ep1, s, EPOLLIN | EPOLLEXCLUSIVE, 1));
	SAY(add(ep2, s, EPOLLIN | EPOLLEXCLUSIVE, 1));
	sleepers_start(&w[0], 1, ep1);
	sleepers_start(&w[1], 1, ep2);
	peer_sends(s, 4);
	SAY(one_told(w, 2, p));
	SAY(read(s, buf, 16));
	close(ep1);
	close(ep2);
	close(p[0]);
	close(p[1]);
}

static void nested(int s)
{
	struct epoll_event evs[4];
	struct pollfd p;
	char buf[16];
	int inner = epoll_create1(0), outer = epoll_create1(0), edge = epoll_create1(0);
	puts("# nested");
	SAY(add(inner, s, EPOLLIN, 1));
	SAY(add(outer, inner, EPOLLIN, 2));
	SAY(add(edge, inner, EPOLLIN | EPOLLET, 3));
	p = (struct pollfd){inner, POLLIN, 0};
	peer_sends(s, 4);
	SAY(epoll_wait(outer, evs, 4, 1000));
	SAY(epoll_wait(edge, evs, 4, 1000));
	SAY(epoll_wait(edge, evs, 4, 0));
	peer_sends(s, 4);
	SAY(epoll_wait(edge, evs, 4, 0));
	SAY(read(s, buf, 16));
	SAY(epoll_wait(outer, evs, 4, 0)); /* without an inner wait */
	SAY(poll(&p, 1, 0));
	peer_sends(s, 4);
	SAY(epoll_wait(outer, evs, 4, 0));
	SAY(epoll_ctl(inner, EPOLL_CTL_MOD, s, &(struct epoll_event){.events = EPOLLPRI}));
	SAY(epoll_wait(outer, evs, 4, 0)); /* changed to what is not ready */
	SAY(poll(&p, 1, 0));
	SAY(epoll_ctl(inner, EPOLL_CTL_MOD, s, &(struct epoll_event){.events = EPOLLIN}));
	SAY(epoll_wait(outer, evs, 4, 0));
	SAY(read(s, buf, 16));
	close(inner);
	close(outer);
	close(edge);
}

/* More than fits: kernel fds and engine sockets, both are told within a few waits of one. */
static void narrow(int s)
{
	struct epoll_event ev;
	char buf[16];
	int ep = epoll_create1(0), e = eventfd(1, EFD_NONBLOCK), seen = 0;
	puts("# narrow");
	SAY(add(ep, s, EPOLLOUT, 1));
	SAY(add(ep, e, EPOLLIN, 2));
	for (int i = 0; i < 4; i++)
		seen |= epoll_wait(ep, &ev, 1, 0) == 1 ? (int)ev.data.u32 : 0;
	SAY(seen);
	SAY(read(e, buf, 8));
	close(e);
	close(ep);
}

static void no_fd_left(int s)
{
	struct epoll_event evs[4];
	struct rlimit now, none;
	struct pollfd p = {s, POLLIN, 0};
	struct timeval tv = {1, 0};
	fd_set in, ex;
	char buf[16];
	int ep = epoll_create1(0), filled[64], n = 0, ended[2];
	puts("# no fd left");
	SAY(pipe(ended));
	close(ended[1]);
	SAY(add(ep, s, EPOLLIN, 1));
	getrlimit(RLIMIT_NOFILE, &now);
	none = now;
	none.rlim_cur = 40;
	setrlimit(RLIMIT_NOFILE, &none);
	while (n < 64 && (filled[n] = dup(0)) >= 0)
		n++;
	SAY(dup(0));
	SAY(epoll_wait(ep, evs, 4, 20));
	SAY(poll(&p, 1, 20));
	peer_sends(s, 4);
	SAY(epoll_wait(ep, evs, 4, 1000));
	SAY(poll(&p, 1, 1000));
	FD_ZERO(&in);
	FD_SET(s, &in);
	SAY(select(s + 1, &in, NULL, NULL, &tv));
	SAY(recv(s, buf, 16, 0));
	/* a pipe at its end is nothing exceptional: select sleeps through it */
	FD_ZERO(&ex);
	FD_SET(ended[0], &ex);
	FD_ZERO(&in);
	FD_SET(s, &in);
	tv = (struct timeval){0, 50000};
	SAY(select(64, &in, NULL, &ex, &tv));
	peer_sends(s, 4);
	SAY(recv(s, buf, 16, 0));
	while (n)
		close(filled[--n]);
	close(ended[0]);
	setrlimit(RLIMIT_NOFILE, &now);
	close(ep);
}

/* What belongs to the number, and not to the socket. */
static void numbers(int l, int s)
{
	int fds[2] = {l, s};
	puts("# numbers");
	for (int i = 0; i < 2; i++) {
		int fd = fds[i], on = 1, off = 0;
		SAY(ioctl(fd, FIOCLEX));
		SAY(fcntl(fd, F_GETFD));
		SAY(ioctl(fd, FIONCLEX));
		SAY(fcntl(fd, F_GETFD));
		SAY(fcntl(fd, F_GETFL));
		SAY(ioctl(fd, FIONBIO, &off));
		SAY(fcntl(fd, F_GETFL));
		SAY(ioctl(fd, FIONBIO, &on));
		SAY(fcntl(fd, F_GETFL));
		SAY(ioctl(fd, FIOASYNC, &off));
		struct stat st;
		SAY(fstat(fd, &st) < 0 ? -1 : S_ISSOCK(st.st_mode));
	}
}

/*
 * A one-shot registration that has told is silent, also of what is always told, and also where the socket becomes the
 * kernel's in between.
 */
static void one_shot_that_moves(int s)
{
	struct epoll_event ev, again = {.events = EPOLLIN | EPOLLONESHOT, .data.u32 = 2};
	int ep = epoll_create1(0), both = epoll_create1(0);
	puts("# one-shot that moves");
	SAY(add(ep, s, EPOLLOUT | EPOLLONESHOT, 1));
	SAY(add(both, s, EPOLLOUT | EPOLLONESHOT | EPOLLET, 1));
	SAY(add(both, ep, EPOLLIN, 3));
	SAY(epoll_wait(ep, &ev, 1, 0));
	SAY(epoll_wait(both, &ev, 1, 0));
	SAY(fcntl(s, F_SETOWN, getpid()));
	SAY(epoll_wait(ep, &ev, 1, 0));
	SAY(shutdown(s, SHUT_RDWR));
	SAY(epoll_wait(ep, &ev, 1, 0));
	SAY(epoll_wait(both, &ev, 1, 0));
	SAY(epoll_wait(ep, &ev, 1, 0));
	SAY(epoll_ctl(ep, EPOLL_CTL_ADD, s, &again));
	SAY(epoll_ctl(ep, EPOLL_CTL_MOD, s, &again));
	SAY(epoll_wait(ep, &ev, 1, 0));
	SAY(ev.data.u32);
	SAY(epoll_ctl(both, EPOLL_CTL_DEL, s, NULL));
	close(both);
	close(ep);
}

void ready_calls(int l, int s)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	arguments(l, s);
	equal_data(l, s);
	masks(s);
	threads(s);
	exclusive(s);
	nested(s);
	narrow(s);
	no_fd_left(s);
	numbers(l, s);
	one_shot_that_moves(s);
	puts("# end");
}
