/*
 * epoll. The kernel's epoll stays and keeps the kernel's fds; what the engine reports is src/ready's. These wrappers
 * find the files, and let the kernel judge arguments: what is wrong with them, and in which order, is its word.
 */
#include "shim.h"
#include "waits.h"

#include <limits.h>

#include "base/fd.h"
#include "base/user.h"

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

/* ---- epoll_ctl ---- */

/* 0: c->file is the epoll at epfd, until call_let_go. -errno: it is none. */
static int epoll_file(struct call *c, int epfd)
{
	for (int attempt = 0; attempt < 2; attempt++) {
		if (call_hold(c, epfd)) {
			if (c->file->kind == FILE_EPOLL)
				return 0;
			call_let_go(c);
			return -EINVAL;
		}
		/* One that we did not see being made (inherited over exec). */
		int r = fd_is_internal(epfd) ? -EBADF : epset_probe(epfd);
		if (r < 0)
			return r;
		file_note_epoll(epfd);
		struct file *made = fdtable_peek(epfd);
		if (made && made->kind == FILE_EPOLL)
			epset_note_kernel(&made->epset); /* it may have anything in it */
	}
	return -ENOMEM;
}

/* Of an fd that we follow. The event can be read: the wrapper saw to it. */
static int file_ctl(int epfd, int op, int fd, struct file *f, struct epoll_event *event)
{
	struct call epoll;
	struct epoll_event ev = {0};
	if (op != EPOLL_CTL_DEL)
		ev = *event;
	int r = epoll_file(&epoll, epfd);
	if (r < 0)
		return r;
	struct sock *s = f->kind == FILE_SOCK ? f->sock : NULL;
	r = epset_ctl(&epoll.file->epset, op, fd, &f->registrations, s, &ev);
	if (r == 0 && !s && f->kind == FILE_SOCK) /* another thread decided it meanwhile */
		registrations_to_engine(&f->registrations, f->sock);
	call_let_go(&epoll);
	return r;
}

/* The kernel's own; the set must know that there is something in the kernel's epoll. */
static int kernel_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	struct call epoll;
	int r = REAL(epoll_ctl)(epfd, op, fd, event);
	if (r == 0 && op == EPOLL_CTL_ADD && call_hold(&epoll, epfd)) {
		if (epoll.file->kind == FILE_EPOLL)
			epset_note_kernel(&epoll.file->epset);
		call_let_go(&epoll);
	}
	return r;
}

int wrap_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	struct call held;
	if (op == EPOLL_CTL_ADD)
		adopt_listener(fd);
	if (!shim_on())
		return REAL(epoll_ctl)(epfd, op, fd, event);
	if (op != EPOLL_CTL_DEL && !user_may_read(event, sizeof *event))
		return edge(-EFAULT); /* before anything else, as in the kernel */
	VIA_ENGINE_TO(fd, USE_TO_WAIT, file_ctl(epfd, op, fd, c.file, event));
	if (fd_is_internal(fd))
		return edge(-EBADF);
	epoll_note_polled(fd);
	const struct file *f = fdtable_peek(fd);
	if (!f || f->kind == FILE_EPOLL || !call_hold(&held, fd))
		return kernel_ctl(epfd, op, fd, event);
	if (held.file->kind == FILE_EPOLL || held.file->kind == FILE_KERNEL) {
		call_let_go(&held);
		return kernel_ctl(epfd, op, fd, event);
	}
	int r = file_ctl(epfd, op, fd, held.file, event);
	call_let_go(&held);
	return edge(r);
}

/* ---- epoll_wait ---- */

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

static int kernel_wait(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
		       const sigset_t *mask)
{
	int r;
	if (timeout && timeout->tv_nsec % 1000000)
		r = REAL(epoll_pwait2)(epfd, events, max, timeout, mask);
	else
		r = REAL(epoll_pwait)(epfd, events, max, timeout_ms(timeout), mask);
	return r < 0 ? -errno : r;
}

/* In a fork's child: sockets of the set that the parent's engine serves become the kernel's, for both. */
static void adopt_members(struct epset *set)
{
	struct list *at, *before = NULL;
	while ((at = epset_inherited(set)) && at != before) {
		struct file *of = container_of(at, struct file, registrations);
		struct call c;
		if (call_hold(&c, of->fd)) {
			if (c.file == of)
				file_adopt(of);
			call_let_go(&c);
		}
		before = at;
	}
}

struct wait_call {
	struct epoll_event *events;
	int max;
	const struct timespec *timeout;
	const sigset_t *mask;
};

/* The events have nowhere to go. As in the kernel that is an error when there are some, and they stay. */
static int wait_in_vain(int epfd, const struct wait_call *w)
{
	struct pollfd p = {.fd = epfd, .events = POLLIN};
	int r = wrap_ppoll(&p, 1, w->timeout, w->mask);
	return r > 0 ? edge(-EFAULT) : r;
}

/* True: *result is the answer. What is no epoll of ours, or has wrong arguments, is the kernel's to answer. */
static bool epoll_wait_ours(int epfd, const struct wait_call *w, int *result)
{
	struct file *f;
	struct call c; /* the set stays while it is waited for, whoever closes it */
	cancel_point(epfd);
	engine_call();
	if (!shim_on() || !(f = fdtable_peek(epfd)) || f->kind != FILE_EPOLL || w->max <= 0 ||
	    w->max > INT_MAX / (int)sizeof *w->events || !user_may_read(w->timeout, w->timeout ? sizeof *w->timeout : 0) ||
	    wait_is_wrong(w->timeout, w->mask) || !(f = call_hold(&c, epfd)))
		return false;
	bool ours = f->kind == FILE_EPOLL;
	if (ours && !user_may_write(w->events, sizeof *w->events)) {
		call_let_go(&c);
		*result = wait_in_vain(epfd, w);
		return true;
	}
	if (ours && shim_in_child) {
		f->epset.parents = false;
		adopt_members(&f->epset);
	}
	if (ours) {
		uint64_t held = wait_mask_hold(w->mask);
		int r = epset_wait(&f->epset, epfd, w->events, w->max, w->timeout, w->mask, kernel_wait);
		wait_mask_release(held);
		*result = edge(r);
	}
	int saved = errno;
	call_let_go(&c);
	errno = saved;
	return ours;
}

int wrap_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	struct timespec ts;
	struct wait_call w = {events, max, timespec_from_ms(timeout, &ts), NULL};
	int r;
	return epoll_wait_ours(epfd, &w, &r) ? r : REAL(epoll_wait)(epfd, events, max, timeout);
}

int wrap_epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout,
		     const sigset_t *mask)
{
	struct timespec ts;
	struct wait_call w = {events, max, timespec_from_ms(timeout, &ts), mask};
	int r;
	return epoll_wait_ours(epfd, &w, &r) ? r
					     : REAL(epoll_pwait)(epfd, events, max, timeout, mask);
}

int wrap_epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
		      const sigset_t *mask)
{
	struct wait_call w = {events, max, timeout, mask};
	int r;
	return epoll_wait_ours(epfd, &w, &r) ? r
					     : REAL(epoll_pwait2)(epfd, events, max, timeout, mask);
}
