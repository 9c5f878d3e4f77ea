/* Waits of shim_calls: poll, select, epoll and their siblings. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "shim_calls.h"
#include "tests/task.h"

#ifdef SYS_epoll_wait
#define EPOLL_WAIT_NR SYS_epoll_wait
#else
#define EPOLL_WAIT_NR SYS_epoll_pwait
#endif

static short poll1(int fd, short events)
{
	struct pollfd p = {fd, events, 0};
	return poll(&p, 1, 1000) < 0 ? -1 : p.revents;
}

/* The slave of a pseudo-terminal is opened again and flushed: the master in packet mode is told. */
static void *flush_slave(void *name)
{
	int slave = open(name, O_RDWR | O_NOCTTY);
	tcflush(slave, TCIFLUSH);
	return (void *)(intptr_t)slave;
}

/* What poll always tells, and select only of fds in whose set it is. */
static void select_hung_up(int s)
{
	int fds[2], on = 1, master = posix_openpt(O_RDWR | O_NOCTTY);
	fd_set in, ex;
	void *slave;
	pthread_t thread;
	struct timeval tv = {0, 20000};
	SAY(pipe(fds));
	close(fds[1]);
	SAY(grantpt(master) + unlockpt(master) + ioctl(master, TIOCPKT, &on));
	close(open(ptsname(master), O_RDWR | O_NOCTTY));
	SAY(poll1(master, 0) & POLLHUP);
	FD_ZERO(&in);
	FD_ZERO(&ex);
	FD_SET(s, &in);
	FD_SET(fds[0], &ex);
	FD_SET(master, &ex);
	SAY(select(100, &in, NULL, &ex, &tv));
	SAY(tv.tv_sec * 1000000 + tv.tv_usec);
	FD_SET(s, &in);
	FD_SET(fds[0], &ex);
	FD_SET(master, &ex);
	SAY(pthread_create(&thread, NULL, flush_slave, ptsname(master)));
	tv = (struct timeval){10, 0};
	SAY(select(100, &in, NULL, &ex, &tv));
	SAY(FD_ISSET(s, &in) + 2 * FD_ISSET(fds[0], &ex) + 4 * FD_ISSET(master, &ex));
	pthread_join(thread, &slave);
	close((int)(intptr_t)slave);
	close(master);
	close(fds[0]);
}

/*
 * More is said than the set holds, as with getdtablesize(): Linux looks no further than its table. What is behind the
 * set may change meanwhile, or not be mapped.
 */
static struct {
	fd_set in;
	volatile long behind[2048];
} wide;
static int wide_fd;

static void *change_behind(void *arg)
{
	struct timespec ts = {0, 20000000};
	nanosleep(&ts, NULL); /* the other is mostly in select by then; where it is not, nothing is tested */
	wide.behind[1] = 77;
	wide.behind[800] = 78;
	SAY(write(wide_fd, "w", 1));
	return arg;
}

static void select_beyond(int c, int s)
{
	const int numbers[] = {1024, 2000, 4096, 65536, 1048576, 0x7fffffff};
	char b, *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fd_set *last = (fd_set *)(void *)(page + 4096 - sizeof *last);
	struct timespec ts = {5, 0};
	pthread_t thread;
	munmap(page + 4096, 4096);
	wide_fd = c;
	for (int i = 0; i < 5; i++) {
		memset(&wide, 0, sizeof wide);
		FD_SET(s, &wide.in);
		pthread_create(&thread, NULL, change_behind, NULL);
		long r = pselect(numbers[i], &wide.in, NULL, NULL, &ts, NULL);
		pthread_join(thread, NULL);
		say("changed meanwhile", r);
		SAY(FD_ISSET(s, &wide.in) + wide.behind[1] * 1000 + wide.behind[800]);
		SAY(read(s, &b, 1));
	}
	memset(&wide, 255, sizeof wide); /* numbers that are not open, all beyond the table */
	FD_ZERO(&wide.in);
	SAY(write(c, "w", 1));
	FD_SET(s, &wide.in);
	SAY(pselect(10000, &wide.in, NULL, NULL, &ts, NULL));
	SAY(wide.behind[0] == -1 && wide.behind[100] == -1);
	for (int i = 0; i < 6; i++) {
		FD_ZERO(last);
		FD_SET(s, last);
		SAY(pselect(numbers[i], last, NULL, NULL, &ts, NULL));
		FD_ZERO(last);
		FD_SET(STDOUT_FILENO, last);
		SAY(pselect(numbers[i], NULL, last, NULL, &ts, NULL));
		SAY(pselect(numbers[i], (void *)(page + 4096), NULL, NULL, &ts, NULL));
	}
	SAY(read(s, &b, 1));
	munmap(page, 4096);
}

void polls(void)
{
	int c, s, fds[2];
	char b;
	puts("# polls");
	pair(&c, &s);
	SAY(pipe(fds));
	SAY(poll1(s, POLLOUT | POLLIN));
	struct pollfd p[4] = {
	    {s, POLLIN, 0}, {fds[0], POLLIN, 0}, {-1, POLLIN, 0}, {997, POLLIN, 0}};
	SAY(poll(p, 3, 0));
	SAY(poll(p, 4, 1000));
	printf("%x %x %x %x\n", p[0].revents, p[1].revents, p[2].revents, p[3].revents);
	SAY(write(fds[1], "1", 1));
	SAY(poll(p, 3, 1000));
	printf("%x %x\n", p[0].revents, p[1].revents);
	SAY(write(c, "2", 1));
	wait_readable(s);
	struct timespec ts = {1, 0}, bad = {0, -1};
	SAY(ppoll(p, 3, &ts, NULL));
	SAY(ppoll(p, 3, &bad, NULL));
	printf("%x %x\n", p[0].revents, p[1].revents);
	fd_set in, out, ex;
	struct timeval tv = {30, 0}, zero = {0, 0};
	memset(&in, 0, sizeof in);
	out = ex = in;
	FD_SET(s, &in);
	FD_SET(fds[0], &in);
	FD_SET(s, &out);
	FD_SET(s, &ex);
	SAY(select(100, &in, &out, &ex, &tv));
	SAY(FD_ISSET(s, &in) + 2 * FD_ISSET(fds[0], &in) + 4 * FD_ISSET(s, &out) +
	    8 * FD_ISSET(s, &ex));
	SAY(tv.tv_sec > 0 && tv.tv_sec < 30); /* what was left */
	SAY(read(s, &b, 1));
	SAY(read(fds[0], &b, 1));
	FD_SET(s, &in);
	FD_SET(fds[0], &in);
	SAY(select(100, &in, NULL, NULL, &zero));
	SAY(FD_ISSET(s, &in));
	tv = (struct timeval){0, 20000};
	FD_SET(s, &in);
	SAY(select(100, &in, NULL, NULL, &tv));
	SAY(tv.tv_sec * 1000000 + tv.tv_usec);
	FD_SET(s, &in);
	FD_SET(50, &in); /* not open */
	SAY(select(51, &in, NULL, NULL, &zero));
	FD_CLR(50, &in);
	SAY(pselect(100, &in, NULL, NULL, &ts, NULL) == 0);
	SAY(select(-1, NULL, NULL, NULL, &zero));
	select_hung_up(s);
	select_beyond(c, s);
	SAY(shutdown(c, SHUT_WR));
	wait_readable(s);
	SAY(poll1(s, POLLIN | POLLRDHUP));
	SAY(close(c));
	SAY(close(s));
	close(fds[0]);
	close(fds[1]);
}

int ready(int ep, int ms)
{
	struct epoll_event ev[8];
	int n = epoll_wait(ep, ev, 8, ms);
	if (n < 0)
		return -1;
	int bits = 0;
	for (int i = 0; i < n; i++)
		bits = bits * 10000 + ev[i].data.u32 * 1000 + (ev[i].events & 0xff);
	return bits;
}

int ctl(int ep, int op, int fd, unsigned events, unsigned tag)
{
	struct epoll_event ev = {.events = events, .data.u32 = tag};
	return epoll_ctl(ep, op, fd, &ev);
}

struct waiting {
	int ep;
	_Atomic pid_t tid;
	int result;
};
static void *wait_there(void *arg)
{
	struct waiting *w = arg;
	w->tid = gettid();
	w->result = ready(w->ep, 20000);
	return NULL;
}

/* Until that thread is asleep in an epoll wait of the kernel. */
static void until_asleep(struct waiting *w)
{
	long nr;
	do
		nr = task_call(getpid(), w->tid);
	while (nr != SYS_epoll_pwait && nr != EPOLL_WAIT_NR);
}

void epolls(void)
{
	int c, s, fds[2], port;
	char b;
	puts("# epolls");
	int ep = epoll_create1(0);
	int l = listener(&port);
	SAY(ctl(ep, EPOLL_CTL_ADD, l, EPOLLIN, 1));
	SAY(ctl(ep, EPOLL_CTL_ADD, l, EPOLLIN, 1));
	SAY(ready(ep, 0));
	c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	SAY(ctl(ep, EPOLL_CTL_ADD, c, EPOLLIN | EPOLLOUT, 2)); /* before it is decided */
	struct sockaddr_in a = address(port);
	SAY(connect(c, sa(&a), sizeof a));
	SAY(poll1(c, POLLOUT));
	SAY(connect(c, sa(&a), sizeof a) < 0 && errno != EISCONN);
	wait_readable(l);
	SAY(ctl(ep, EPOLL_CTL_MOD, c, EPOLLIN, 2));
	SAY(ready(ep, 1000));
	s = accept(l, NULL, NULL);
	SAY(ready(ep, 0));
	SAY(ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 3));
	SAY(pipe(fds));
	SAY(ctl(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN, 4));
	SAY(ready(ep, 0));
	write(c, "xy", 2);
	wait_readable(s);
	SAY(ready(ep, 1000));
	SAY(ready(ep, 0)); /* edge: once */
	write(fds[1], "p", 1);
	SAY(ready(ep, 1000));
	SAY(ready(ep, 0));
	SAY(read(fds[0], &b, 1));
	SAY(ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLONESHOT, 3));
	SAY(ready(ep, 1000));
	SAY(ready(ep, 0));
	SAY(ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN, 3));
	SAY(ready(ep, 1000));
	SAY(ctl(ep, EPOLL_CTL_DEL, s, 0, 0));
	SAY(ctl(ep, EPOLL_CTL_DEL, s, 0, 0));
	SAY(ctl(ep, EPOLL_CTL_MOD, s, 0, 0));
	SAY(epoll_ctl(ep, 77, s, NULL));
	SAY(epoll_ctl(ep, EPOLL_CTL_ADD, s, NULL));
	SAY(ctl(ep, EPOLL_CTL_ADD, 998, EPOLLIN, 0));
	SAY(ctl(fds[0], EPOLL_CTL_ADD, s, EPOLLIN, 0));
	SAY(ready(ep, 0));
	SAY(ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 3));
	/* an epoll in an epoll, and polled */
	int outer = epoll_create(1);
	SAY(ctl(outer, EPOLL_CTL_ADD, ep, EPOLLIN, 7));
	SAY(ready(outer, 1000));
	SAY(poll1(ep, POLLIN));
	SAY(read(s, &b, 1));
	SAY(read(s, &b, 1));
	SAY(ready(outer, 0));
	write(c, "z", 1);
	SAY(ready(outer, 1000));
	SAY(ready(ep, 1000));
	SAY(close(s)); /* takes its registration along */
	SAY(ready(ep, 0) == 0 || ready(ep, 0) / 1000 == 2);
	close(outer);
	close(c);
	close(ep);
	close(l);
	/* a member that comes while another thread waits */
	ep = epoll_create1(EPOLL_CLOEXEC);
	pair(&c, &s);
	write(c, "q", 1);
	wait_readable(s);
	struct waiting w = {.ep = ep};
	pthread_t t;
	pthread_create(&t, NULL, wait_there, &w);
	while (!w.tid)
		sched_yield();
	until_asleep(&w);
	SAY(ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 5));
	pthread_join(t, NULL);
	SAY(w.result);
	SAY(ready(ep, 0));
	struct epoll_event ev;
	struct timespec ts = {0, 1000000};
	SAY(epoll_pwait(ep, &ev, 1, 1000, NULL));
	SAY(epoll_pwait2(ep, &ev, 1, &ts, NULL));
	SAY(epoll_wait(ep, &ev, 0, 0));
	SAY(epoll_wait(s, &ev, 1, 0));
	int ep2 = dup(ep);
	close(ep);
	SAY(ready(ep2, 1000));
	close(ep2);
	close(s);
	close(c);
	close(fds[0]);
	close(fds[1]);
}
