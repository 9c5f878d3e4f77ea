/* Calls that wait for readiness. */
#include "differential.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <unistd.h>

#define BRIEF_MS 40 /* longer than LATER_US */
#define ALL      (POLLIN | POLLOUT | POLLPRI | POLLERR | POLLHUP | POLLNVAL | POLLRDHUP | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND)

static void call_poll(struct run *r, long events, long timeout)
{
	struct pollfd f = {r->fd, events, 0};
	CALL(r, "poll", poll(&f, 1, timeout));
	out(r, " %04x", (unsigned)(unsigned short)f.revents);
}

static void call_poll_many(struct run *r, long kind, long timeout)
{
	int p[2];
	if (pipe(p) < 0)
		return;
	struct pollfd f[4] = {{r->fd, POLLIN, 0}, {-1, ALL, 77}, {r->fd, POLLOUT, 0}, {kind == 1 ? 987 : p[1], POLLOUT, 0}};
	CALL(r, "poll", poll(f, 4, timeout));
	for (int i = 0; i < 4; i++)
		out(r, " %04x", (unsigned)(unsigned short)f[i].revents);
	close(p[0]), close(p[1]);
}

static volatile nfds_t too_many = 0x7fffffff; /* volatile: the compiler would warn */
static volatile int negative_room = -1;

static void call_poll_bad(struct run *r, long kind, long unused)
{
	struct pollfd f = {r->fd, ALL, 0};
	struct timespec negative = {-1, 0}, big = {0, 2000000000}, zero = {0, 0};
	sigset_t none;
	sigemptyset(&none);
	if (kind == 0)
		CALL(r, "poll", poll(unmapped, 1, 0));
	else if (kind == 1)
		CALL(r, "ppoll", ppoll(&f, 1, &negative, NULL));
	else if (kind == 2)
		CALL(r, "ppoll", ppoll(&f, 1, &big, NULL));
	else if (kind == 3)
		CALL(r, "ppoll", ppoll(&f, 1, &zero, &none));
	else if (kind == 4)
		CALL(r, "poll", poll(&f, too_many, 0));
	out(r, " %04x", (unsigned)(unsigned short)f.revents);
}

/* More entries than RLIMIT_NOFILE. */
static void call_poll_limit(struct run *r, long n, long unused)
{
	struct rlimit before, low = {5, 0};
	struct pollfd f[6];
	getrlimit(RLIMIT_NOFILE, &before);
	low.rlim_max = before.rlim_max;
	for (int i = 0; i < 6; i++)
		f[i] = (struct pollfd){r->fd, POLLIN, 0};
	setrlimit(RLIMIT_NOFILE, &low);
	long got = CALL(r, "poll", poll(f, n, 0));
	setrlimit(RLIMIT_NOFILE, &before);
	out(r, " %d", got > 0);
}

static void call_select(struct run *r, long sets, long milliseconds)
{
	fd_set s[3];
	for (int i = 0; i < 3; i++) {
		FD_ZERO(&s[i]);
		FD_SET(r->fd, &s[i]);
	}
	struct timeval t = {0, milliseconds * 1000};
	CALL(r, "select", select(r->fd + 1, sets & 1 ? &s[0] : NULL, sets & 2 ? &s[1] : NULL, sets & 4 ? &s[2] : NULL, milliseconds < 0 ? NULL : &t));
	for (int i = 0; i < 3; i++)
		if (sets >> i & 1)
			out(r, " %d", !!FD_ISSET(r->fd, &s[i]));
}

static void call_pselect(struct run *r, long kind, long unused)
{
	fd_set s[3];
	for (int i = 0; i < 3; i++) {
		FD_ZERO(&s[i]);
		FD_SET(r->fd, &s[i]);
	}
	struct timespec t = {kind == 1 ? -1 : 0, kind == 2 ? 2000000000 : 0};
	int n = kind == 3 ? -1 : r->fd + 1;
	CALL(r, "pselect", pselect(n, kind == 4 ? unmapped : &s[0], &s[1], &s[2], &t, NULL));
	for (int i = 0; i < 3; i++)
		out(r, " %d", !!FD_ISSET(r->fd, &s[i]));
}

static void wait_once(struct run *r, int ep, int timeout)
{
	struct epoll_event e[4] = {0};
	long n = CALL(r, "epoll_wait", epoll_wait(ep, e, 4, timeout));
	for (long i = 0; i < n; i++)
		out(r, " %04x/%llx", e[i].events, (unsigned long long)e[i].data.u64);
}

static int epoll_with(struct run *r, uint32_t events)
{
	int ep = epoll_create1(0);
	struct epoll_event e = {.events = events, .data.u64 = 0x123456789aULL};
	CALL(r, "add", epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &e));
	return ep;
}

static void call_epoll(struct run *r, long events, long timeout)
{
	int ep = epoll_with(r, events);
	wait_once(r, ep, timeout);
	wait_once(r, ep, 0);
	close(ep);
}

/* Ready, then again after the socket was read and written. */
static void call_epoll_recv(struct run *r, long events, long unused)
{
	char buffer[3] = "xyz";
	int ep = epoll_with(r, events);
	wait_once(r, ep, 0);
	CALL(r, "recv", recv(r->fd, buffer, sizeof buffer, MSG_DONTWAIT));
	wait_once(r, ep, 0);
	CALL(r, "send", send(r->fd, buffer, sizeof buffer, MSG_DONTWAIT | MSG_NOSIGNAL));
	wait_once(r, ep, 0);
	struct epoll_event e = {.events = events, .data.u64 = 2};
	CALL(r, "mod", epoll_ctl(ep, EPOLL_CTL_MOD, r->fd, &e));
	wait_once(r, ep, 0);
	close(ep);
}

/* A connect that fails at once is no event, whoever looks at routes. */
static void call_epoll_unreachable(struct run *r, long unused, long unused2)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0xcb007101)}; /* 203.0.113.1 */
	int ep = epoll_with(r, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
	wait_once(r, ep, 0);
	CALL(r, "connect", connect(r->fd, (struct sockaddr *)&to, sizeof to));
	wait_once(r, ep, 0);
	close(ep);
}

/*
 * One socket, registered by several numbers: who registered last is told first. Then all but the last go, and the
 * socket is dissolved.
 */
static void call_epoll_numbers(struct run *r, long ending, long n)
{
	static const struct sockaddr unspecified = {.sa_family = AF_UNSPEC};
	int ep = epoll_with(r, EPOLLIN | EPOLLRDHUP | EPOLLET), before[4];
	for (int i = 1; i < n; i++) {
		struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u64 = 3 + i};
		before[i] = r->fd;
		r->fd = dup(r->fd);
		CALL(r, "add", epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &e));
	}
	wait_once(r, ep, 0);
	if (r->peer_has)
		peer_does(r, PEER_END, ending, 0);
	settle();
	wait_once(r, ep, 0);
	for (int i = 1; i < n; i++)
		CALL(r, "close", close(before[i]));
	CALL(r, "connect", connect(r->fd, &unspecified, sizeof unspecified));
	wait_once(r, ep, 0);
	close(ep);
}

static void call_epoll_control(struct run *r, long kind, long unused)
{
	int ep = epoll_create1(0), copy = -1;
	struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.u64 = 3};
	if (kind == 0) {
		CALL(r, "mod", epoll_ctl(ep, EPOLL_CTL_MOD, r->fd, &e));
		CALL(r, "del", epoll_ctl(ep, EPOLL_CTL_DEL, r->fd, NULL));
		CALL(r, "add", epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &e));
		CALL(r, "add", epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &e));
		CALL(r, "mod", epoll_ctl(ep, EPOLL_CTL_MOD, r->fd, &e));
		CALL(r, "del", epoll_ctl(ep, EPOLL_CTL_DEL, r->fd, &e));
		CALL(r, "del", epoll_ctl(ep, EPOLL_CTL_DEL, r->fd, &e));
	} else if (kind == 1) {
		CALL(r, "add", epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, NULL));
		CALL(r, "add", epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, unmapped));
		CALL(r, "ctl", epoll_ctl(ep, 17, r->fd, &e));
		CALL(r, "ctl", epoll_ctl(r->fd, EPOLL_CTL_ADD, ep, &e));
		CALL(r, "ctl", epoll_ctl(r->fd, EPOLL_CTL_ADD, r->fd, &e));
		e.events |= EPOLLEXCLUSIVE | EPOLLONESHOT;
		CALL(r, "exclusive", epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &e));
		e.events = EPOLLIN | EPOLLOUT | EPOLLEXCLUSIVE;
		CALL(r, "exclusive", epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &e));
		CALL(r, "mod", epoll_ctl(ep, EPOLL_CTL_MOD, r->fd, &e));
	} else if (kind == 2) { /* the registration stays with the file while a duplicate lives */
		copy = dup(r->fd);
		CALL(r, "add", epoll_ctl(ep, EPOLL_CTL_ADD, copy, &e));
		e.data.u64 = 4, e.events |= EPOLLET;
		CALL(r, "add", epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &e));
		wait_once(r, ep, 0);
		CALL(r, "close", close(copy));
		wait_once(r, ep, 0);
		copy = -1;
	} else if (kind == 3) {
		CALL(r, "add", epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &e));
		CALL(r, "close", close(r->fd));
		wait_once(r, ep, 0);
		r->fd = -1;
	}
	if (kind < 2)
		wait_once(r, ep, 0);
	close(ep);
	close(copy);
}

/* An epoll set within an epoll set, and polled. */
static void call_epoll_nested(struct run *r, long events, long unused)
{
	char buffer[60000];
	int inner = epoll_with(r, events), outer = epoll_create1(0);
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = 5};
	CALL(r, "nest", epoll_ctl(outer, EPOLL_CTL_ADD, inner, &e));
	struct pollfd f = {inner, POLLIN, 0};
	wait_once(r, outer, 0);
	CALL(r, "poll", poll(&f, 1, 0));
	CALL(r, "recv", recv(r->fd, buffer, sizeof buffer, MSG_DONTWAIT));
	wait_once(r, outer, 0);
	CALL(r, "poll", poll(&f, 1, 0));
	wait_once(r, inner, 0);
	wait_once(r, outer, 0);
	e.events = EPOLLPRI;
	CALL(r, "mod", epoll_ctl(inner, EPOLL_CTL_MOD, r->fd, &e));
	wait_once(r, outer, 0);
	close(inner), close(outer);
}

/*
 * What comes while an inner epoll is ready by another member: an edge of the outer one, if the inner one's member asks
 * for that kind of event, whether or not it is ready.
 */
static void call_epoll_nested_edge(struct run *r, long events, long ending)
{
	int p[2], inner = epoll_with(r, events), outer = epoll_create1(0);
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = 6}, two[2];
	if (pipe(p) < 0 || write(p[1], "p", 1) != 1)
		return;
	CALL(r, "add", epoll_ctl(inner, EPOLL_CTL_ADD, p[0], &e));
	e.events |= EPOLLET;
	CALL(r, "nest", epoll_ctl(outer, EPOLL_CTL_ADD, inner, &e));
	wait_once(r, outer, 0);
	wait_once(r, outer, 0);
	if (r->peer_has)
		peer_does(r, PEER_END, ending, 0);
	else if (r->own_port && peer_does(r, PEER_CONNECT, 0, r->own_port).result == 0)
		r->peer_has = true;
	settle();
	wait_once(r, outer, 0);
	CALL(r, "inner", epoll_wait(inner, two, 2, 0)); /* in which order is nobody's promise */
	wait_once(r, outer, 0);
	close(p[0]), close(p[1]), close(inner), close(outer);
}

static void call_epoll_bad(struct run *r, long kind, long unused)
{
	struct epoll_event e[2];
	struct timespec bad = {0, 2000000000}, negative = {-1, 0}, zero = {0, 0};
	int ep = epoll_with(r, EPOLLIN | EPOLLOUT);
	if (kind == 0)
		CALL(r, "epoll_wait", epoll_wait(ep, e, 0, 0));
	else if (kind == 1)
		CALL(r, "epoll_wait", epoll_wait(ep, unmapped, 2, 0));
	else if (kind == 2)
		CALL(r, "epoll_pwait2", epoll_pwait2(ep, e, 2, &bad, NULL));
	else if (kind == 3)
		CALL(r, "epoll_pwait2", epoll_pwait2(ep, e, 2, &negative, NULL));
	else if (kind == 4)
		CALL(r, "epoll_pwait2", epoll_pwait2(ep, e, 2, &zero, NULL));
	else if (kind == 5)
		CALL(r, "epoll_wait", epoll_wait(r->fd, e, 2, 0));
	else if (kind == 6)
		CALL(r, "epoll_wait", epoll_wait(ep, e, negative_room, 0));
	wait_once(r, ep, 0);
	close(ep);
}

static const struct call calls[] = {
	{"poll", call_poll, (short)ALL, 0, CALL_FIRST | CALL_SECOND},
	{"poll.none", call_poll, 0, 0, CALL_SECOND},
	{"poll.in", call_poll, POLLIN, 0, CALL_FIRST},
	{"poll.out", call_poll, POLLOUT, 0, 0},
	{"poll.pri", call_poll, POLLPRI, 0, 0},
	{"poll.rdhup", call_poll, POLLRDHUP, 0, 0},
	{"poll.rdnorm", call_poll, POLLRDNORM | POLLRDBAND, 0, 0},
	{"poll.wrnorm", call_poll, POLLWRNORM | POLLWRBAND, 0, 0},
	{"poll.msg", call_poll, POLLMSG | POLLREMOVE, 0, 0},
	{"poll.in.brief", call_poll, POLLIN, BRIEF_MS, CALL_WAITS},
	{"poll.in.ever", call_poll, POLLIN, -1, CALL_WAITS},
	{"poll.none.ever", call_poll, 0, -1, CALL_WAITS},
	{"poll.rdhup.brief", call_poll, POLLRDHUP | POLLPRI, BRIEF_MS, CALL_WAITS},
	{"poll.many", call_poll_many, 0, 0, 0},
	{"poll.many.brief", call_poll_many, 0, BRIEF_MS, 0},
	{"poll.many.closed", call_poll_many, 1, BRIEF_MS, 0},
	{"poll.bad", call_poll_bad, 0, 0, 0},
	{"ppoll.negative", call_poll_bad, 1, 0, 0},
	{"ppoll.time-bad", call_poll_bad, 2, 0, 0},
	{"ppoll", call_poll_bad, 3, 0, 0},
	{"poll.too-many", call_poll_bad, 4, 0, 0},
	{"poll.limit.5", call_poll_limit, 5, 0, 0},
	{"poll.limit.6", call_poll_limit, 6, 0, 0},
	{"select", call_select, 7, 0, CALL_FIRST | CALL_SECOND},
	{"select.r", call_select, 1, 0, 0},
	{"select.w", call_select, 2, 0, 0},
	{"select.e", call_select, 4, 0, 0},
	{"select.r.brief", call_select, 1, BRIEF_MS, CALL_WAITS},
	{"select.r.ever", call_select, 1, -1, CALL_WAITS},
	{"select.e.brief", call_select, 4, BRIEF_MS, CALL_WAITS},
	{"pselect", call_pselect, 0, 0, 0},
	{"pselect.negative", call_pselect, 1, 0, 0},
	{"pselect.time-bad", call_pselect, 2, 0, 0},
	{"pselect.n-bad", call_pselect, 3, 0, 0},
	{"pselect.bad", call_pselect, 4, 0, 0},
	{"epoll", call_epoll, (short)ALL & ~POLLNVAL, 0, CALL_FIRST | CALL_SECOND},
	{"epoll.none", call_epoll, 0, 0, 0},
	{"epoll.in", call_epoll, EPOLLIN, 0, 0},
	{"epoll.out", call_epoll, EPOLLOUT, 0, 0},
	{"epoll.in.brief", call_epoll, EPOLLIN | EPOLLRDHUP, BRIEF_MS, CALL_WAITS},
	{"epoll.in.ever", call_epoll, EPOLLIN, -1, CALL_WAITS},
	{"epoll.et", call_epoll, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 0, CALL_SECOND},
	{"epoll.et.brief", call_epoll, EPOLLIN | EPOLLRDHUP | EPOLLET, BRIEF_MS, CALL_WAITS},
	{"epoll.oneshot", call_epoll, EPOLLIN | EPOLLOUT | EPOLLONESHOT, 0, 0},
	{"epoll.oneshot.brief", call_epoll, EPOLLIN | EPOLLONESHOT, BRIEF_MS, CALL_WAITS},
	{"epoll.exclusive", call_epoll, EPOLLIN | EPOLLOUT | EPOLLEXCLUSIVE, 0, 0},
	{"epoll.wakeup", call_epoll, EPOLLIN | EPOLLWAKEUP, 0, 0},
	{"epoll.recv", call_epoll_recv, EPOLLIN | EPOLLRDHUP, 0, 0},
	{"epoll.recv.out", call_epoll_recv, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 0, 0},
	{"epoll.recv.et", call_epoll_recv, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 0, 0},
	{"epoll.recv.oneshot", call_epoll_recv, EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, 0, 0},
	{"epoll.control", call_epoll_control, 0, 0, 0},
	{"epoll.control.bad", call_epoll_control, 1, 0, 0},
	{"epoll.dup", call_epoll_control, 2, 0, 0},
	{"epoll.close", call_epoll_control, 3, 0, 0},
	{"epoll.unreachable", call_epoll_unreachable, 0, 0, 0},
	{"epoll.two", call_epoll_numbers, END_DATA, 2, 0},
	{"epoll.four", call_epoll_numbers, END_DATA, 4, 0},
	{"epoll.nested", call_epoll_nested, EPOLLIN, 0, 0},
	{"epoll.nested.et", call_epoll_nested, EPOLLIN | EPOLLET, 0, 0},
	{"epoll.nested.edge", call_epoll_nested_edge, EPOLLPRI | EPOLLET, END_DATA, 0},
	{"epoll.nested.edge.in", call_epoll_nested_edge, EPOLLIN | EPOLLET, END_DATA, 0},
	{"epoll.nested.edge.out", call_epoll_nested_edge, EPOLLOUT | EPOLLET, END_DATA, 0},
	{"epoll.nested.edge.none", call_epoll_nested_edge, EPOLLET, END_RST, 0},
	{"epoll.nested.edge.level", call_epoll_nested_edge, EPOLLRDBAND, END_DATA, 0},
	{"epoll.wait.0", call_epoll_bad, 0, 0, 0},
	{"epoll.wait.bad", call_epoll_bad, 1, 0, 0},
	{"epoll.pwait2.time-bad", call_epoll_bad, 2, 0, 0},
	{"epoll.pwait2.negative", call_epoll_bad, 3, 0, 0},
	{"epoll.pwait2", call_epoll_bad, 4, 0, 0},
	{"epoll.of-socket", call_epoll_bad, 5, 0, 0},
	{"epoll.wait.negative", call_epoll_bad, 6, 0, 0},
};
const struct call_table wait_calls = {calls, sizeof calls / sizeof *calls};
