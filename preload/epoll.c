/*
 * epoll. The kernel's epoll stays and keeps the kernel's fds; engine sockets are in the epset that
 * hangs on its file.
 *
 * A wait goes to the epset while that has a member, else to the kernel. A thread in the kernel's
 * wait when the first member comes is kicked (registrations.c): it counts itself in kernel_waiters
 * *before* it looks whether the epset is empty, and the adder looks at the count *after* adding, so
 * one of the two sees the other. The kick's event is taken out of every result here.
 */
#include "shim.h"
#include "registrations.h"
#include "waits.h"

#include <limits.h>
#include <string.h>

#include "base/fd.h"

int wrap_epoll_create(int size)
{
	int fd = REAL(epoll_create)(size);
	if (fd >= 0 && shim_ready && !engine_inside)
		file_note_epoll(fd);
	return fd;
}

int wrap_epoll_create1(int flags)
{
	int fd = REAL(epoll_create1)(flags);
	if (fd >= 0 && shim_ready && !engine_inside)
		file_note_epoll(fd);
	return fd;
}

int wrap_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	struct file *f;
	if (!shim_on())
		return REAL(epoll_ctl)(epfd, op, fd, event);
	VIA_ENGINE(fd, registration_ctl(epfd, op, fd, c.file, event));
	if (fd_is_internal(fd))
		return edge(-EBADF);
	epoll_note_polled(fd);
	f = fdtable_peek(fd);
	if (!f || f->kind == FILE_EPOLL || !(f = fdtable_get(fd)))
		return REAL(epoll_ctl)(epfd, op, fd, event);
	int r = registration_ctl(epfd, op, fd, f, event);
	file_put(f);
	return edge(r);
}

static bool has_engine_sockets(struct file *epoll)
{
	struct epset *e = epoll->epset;
	return e && !epset_empty(e);
}

/* Our own event, if it is among these, goes. */
static int filter_kick(struct epoll_event *events, int n, bool *kicked)
{
	*kicked = false;
	for (int i = 0; i < n; i++)
		if (events[i].data.ptr == &epoll_kick_mark) {
			memmove(&events[i], &events[i + 1], (n - i - 1) * sizeof *events);
			*kicked = true;
			return n - 1;
		}
	return n;
}

struct wait {
	struct epoll_event *events;
	int max;
	const struct timespec *timeout;
	const sigset_t *mask;
};

/* For the kernel's milliseconds, rounded up: never early. */
static int timeout_ms(const struct timespec *ts)
{
	if (!ts)
		return -1;
	int64_t ms = ts->tv_sec > INT_MAX / 1000
			 ? INT_MAX
			 : ts->tv_sec * 1000 + (ts->tv_nsec + 999999) / 1000000;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

static int kernel_wait(int epfd, const struct wait *w)
{
	int r;
	if (w->timeout && w->timeout->tv_nsec % 1000000)
		r = REAL(epoll_pwait2)(epfd, w->events, w->max, w->timeout, w->mask);
	else
		r = REAL(epoll_pwait)(epfd, w->events, w->max, timeout_ms(w->timeout), w->mask);
	return r < 0 ? -errno : r;
}

static int wait_once(int epfd, struct file *epoll, const struct wait *w)
{
	if (has_engine_sockets(epoll))
		return epset_wait(epoll->epset, w->events, w->max, w->timeout, w->mask);
	epoll->kernel_waiters++;
	int r = has_engine_sockets(epoll)
		    ? epset_wait(epoll->epset, w->events, w->max, w->timeout, w->mask)
		    : kernel_wait(epfd, w);
	epoll->kernel_waiters--;
	return r;
}

static int64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static int wait_any(int epfd, struct file *epoll, struct wait w)
{
	struct timespec left;
	bool bounded = w.timeout && (w.timeout->tv_sec || w.timeout->tv_nsec);
	int64_t end =
	    bounded ? now_ns() + w.timeout->tv_sec * 1000000000LL + w.timeout->tv_nsec : 0;
	for (;;) {
		bool kicked;
		int r = filter_kick(w.events, wait_once(epfd, epoll, &w), &kicked);
		if (epoll->kicked)
			epoll_unkick(epoll);
		if (r != 0 || !kicked)
			return r;
		if (bounded) {
			int64_t ns = end - now_ns();
			left = ns > 0 ? (struct timespec){ns / 1000000000, ns % 1000000000}
				      : (struct timespec){0, 0};
			w.timeout = &left;
		}
	}
}

/* True: *result is the answer. */
static bool epoll_wait_ours(int epfd, struct wait w, int *result)
{
	struct file *f;
	if (!shim_on() || !(f = fdtable_peek(epfd)) || f->kind != FILE_EPOLL || w.max <= 0 ||
	    w.max > INT_MAX / (int)sizeof *w.events || !(f = fdtable_get(epfd)))
		return false;
	bool ours = f->kind == FILE_EPOLL;
	if (ours)
		*result = edge(wait_any(epfd, f, w));
	file_put(f);
	return ours;
}

int wrap_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	struct timespec ts;
	struct wait w = {events, max, timespec_from_ms(timeout, &ts), NULL};
	int r;
	return epoll_wait_ours(epfd, w, &r) ? r : REAL(epoll_wait)(epfd, events, max, timeout);
}

int wrap_epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout,
		     const sigset_t *mask)
{
	struct timespec ts;
	struct wait w = {events, max, timespec_from_ms(timeout, &ts), mask};
	int r;
	return epoll_wait_ours(epfd, w, &r) ? r
					    : REAL(epoll_pwait)(epfd, events, max, timeout, mask);
}

int wrap_epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
		      const sigset_t *mask)
{
	struct wait w = {events, max, timeout, mask};
	int r;
	return epoll_wait_ours(epfd, w, &r) ? r
					    : REAL(epoll_pwait2)(epfd, events, max, timeout, mask);
}
