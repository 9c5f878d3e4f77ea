/*
 * Epoll registrations of candidates and engine sockets.
 *
 * Owns: one `struct registration` per (epoll, fd) of these sockets, on the list of both ends, under
 * the table's lock; the epset of an epoll, made with its first engine socket. Why: the kernel's
 * epoll cannot see an engine socket. While a socket is undecided its registration is the kernel's;
 * deciding moves a connection's to the epset, and handover moves it back. A listener is in both,
 * which the epset sees to: loopback clients arrive in the kernel's queue. A thread may already
 * sleep in the kernel's epoll_wait when an epoll gets its first engine socket: it is woken
 * (epoll_kick) by an fd that is always readable, and finds the epset when it looks again (epoll.c).
 */
#include "shim.h"
#include "registrations.h"

#include <stdlib.h>

#include "base/log.h"

struct registration {
	struct list in_file, in_epoll;
	struct file *file, *epoll;
	int fd;
	bool in_kernel;
	struct epoll_event event; /* while in the kernel only; the epset remembers its own */
};

const char epoll_kick_mark;

static struct registration *find(struct file *f, struct file *epoll, int fd)
{
	list_for_each(l, tmp, &f->registrations)
	{
		struct registration *r = container_of(l, struct registration, in_file);
		if (r->epoll == epoll && r->fd == fd)
			return r;
	}
	return NULL;
}

static struct registration *add(struct file *f, struct file *epoll, int fd)
{
	struct registration *r = malloc(sizeof *r);
	if (!r)
		return NULL;
	*r = (struct registration){.file = f, .epoll = epoll, .fd = fd};
	list_push_back(&f->registrations, &r->in_file);
	list_push_back(&epoll->registrations, &r->in_epoll);
	return r;
}

static void drop(struct registration *r)
{
	list_unlink(&r->in_file);
	list_unlink(&r->in_epoll);
	free(r);
}

static int epset_of(struct file *epoll, struct epset **out)
{
	struct epset *e = epoll->epset;
	if (!e) {
		int r = epset_new(epoll->fd, &e);
		if (r < 0)
			return r;
		epoll->epset = e;
		if (epoll->nested)
			epset_pollable(e);
	}
	*out = e;
	return 0;
}

/* Threads that sleep in the kernel's epoll_wait look again. */
static void epoll_kick(struct file *epoll)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = (void *)&epoll_kick_mark};
	if (epoll->kernel_waiters == 0 || atomic_exchange(&epoll->kicked, true))
		return;
	int fd = files_readable_fd();
	if (fd < 0 || sys_epoll_ctl(epoll->fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		epoll->kicked = false;
}

void epoll_unkick(struct file *epoll)
{
	fdtable_lock();
	if (epoll->kicked && epoll->kernel_waiters == 0) {
		sys_epoll_ctl(epoll->fd, EPOLL_CTL_DEL, files_readable_fd(), NULL);
		epoll->kicked = false;
	}
	fdtable_unlock();
}

static int candidate_ctl(struct file *epoll, int op, int fd, struct file *f,
			 struct epoll_event *event)
{
	struct registration *r = find(f, epoll, fd);
	bool fresh = op == EPOLL_CTL_ADD && !r;
	if (fresh && !(r = add(f, epoll, fd)))
		return -ENOMEM;
	int result = sys_epoll_ctl(epoll->fd, op, fd, event);
	if (result < 0) {
		if (fresh)
			drop(r);
		return result;
	}
	if (!r)
		return 0;
	if (op == EPOLL_CTL_DEL) {
		drop(r);
	} else {
		r->event = *event;
		r->in_kernel = true;
	}
	return 0;
}

static int sock_ctl(struct file *epoll, int op, int fd, struct file *f, struct epoll_event *event)
{
	struct epset *e;
	int result = epset_of(epoll, &e);
	if (result < 0)
		return result;
	struct registration *r = find(f, epoll, fd);
	bool fresh = op == EPOLL_CTL_ADD && !r;
	if (fresh && !(r = add(f, epoll, fd)))
		return -ENOMEM;
	result = epset_ctl(e, op, fd, f->sock, event);
	if (r && ((result < 0 && fresh) || (result == 0 && op == EPOLL_CTL_DEL)))
		drop(r);
	if (result == 0 && op != EPOLL_CTL_DEL)
		epoll_kick(epoll);
	return result;
}

/* The epoll at epfd, with a reference. -errno: it is none. */
static int epoll_file(int epfd, struct file **out)
{
	for (int attempt = 0; attempt < 2; attempt++) {
		struct file *f = fdtable_get(epfd);
		if (f) {
			*out = f;
			if (f->kind == FILE_EPOLL)
				return 0;
			file_put(f);
			return -EINVAL;
		}
		/* One that we did not see being made (inherited over exec): only an epoll says
		 * ENOENT. */
		fdtable_lock();
		int probe = files_readable_fd();
		int r = probe < 0 ? probe : sys_epoll_ctl(epfd, EPOLL_CTL_DEL, probe, NULL);
		fdtable_unlock();
		if (r != -ENOENT)
			return r < 0 ? r : -EINVAL;
		file_note_epoll(epfd);
	}
	return -ENOMEM;
}

int registration_ctl(int epfd, int op, int fd, struct file *f, struct epoll_event *event)
{
	struct file *epoll;
	if (op != EPOLL_CTL_DEL && !event)
		return -EFAULT;
	if (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD && op != EPOLL_CTL_DEL)
		return -EINVAL;
	int r = epoll_file(epfd, &epoll);
	if (r < 0)
		return r;
	fdtable_lock();
	if (f->kind == FILE_SOCK)
		r = sock_ctl(epoll, op, fd, f, event);
	else if (f->kind == FILE_CANDIDATE)
		r = candidate_ctl(epoll, op, fd, f, event);
	else
		r = sys_epoll_ctl(epfd, op, fd, event);
	fdtable_unlock();
	file_put(epoll);
	return r;
}

void registrations_suspend(struct file *f)
{
	fdtable_lock();
	list_for_each(l, tmp, &f->registrations)
	{
		struct registration *r = container_of(l, struct registration, in_file);
		if (r->in_kernel)
			sys_epoll_ctl(r->epoll->fd, EPOLL_CTL_DEL, r->fd, NULL);
	}
	fdtable_unlock();
}

void registrations_resume(struct file *f)
{
	fdtable_lock();
	list_for_each(l, tmp, &f->registrations)
	{
		struct registration *r = container_of(l, struct registration, in_file);
		if (r->in_kernel)
			sys_epoll_ctl(r->epoll->fd, EPOLL_CTL_ADD, r->fd, &r->event);
	}
	fdtable_unlock();
}

/* Lock held. */
void registrations_to_epset(struct file *f)
{
	list_for_each(l, tmp, &f->registrations)
	{
		struct registration *r = container_of(l, struct registration, in_file);
		struct epset *e;
		if (r->in_kernel) /* connect suspended it already; a listener's comes back from the
				     epset */
			sys_epoll_ctl(r->epoll->fd, EPOLL_CTL_DEL, r->fd, NULL);
		r->in_kernel = false;
		if (epset_of(r->epoll, &e) < 0 ||
		    epset_ctl(e, EPOLL_CTL_ADD, r->fd, f->sock, &r->event) < 0) {
			log_error("shim", "fd %d lost its epoll registration: no memory", r->fd);
			drop(r);
			continue;
		}
		epoll_kick(r->epoll);
	}
}

void registrations_to_kernel(struct file *f, bool already_there)
{
	fdtable_lock();
	list_for_each(l, tmp, &f->registrations)
	{
		struct registration *r = container_of(l, struct registration, in_file);
		struct epoll_event ev;
		struct epset *e = r->epoll->epset;
		if (e && epset_forget(e, r->fd, f->sock, &ev) == 1 && !already_there &&
		    fdtable_peek(r->fd) == f)
			sys_epoll_ctl(r->epoll->fd, EPOLL_CTL_ADD, r->fd, &ev);
		drop(r);
	}
	fdtable_unlock();
}

void registrations_drop(struct file *f)
{
	struct epoll_event ev;
	fdtable_lock();
	if (f->kind == FILE_EPOLL) {
		list_for_each(l, tmp, &f->registrations)
		    drop(container_of(l, struct registration, in_epoll));
	} else {
		list_for_each(l, tmp, &f->registrations)
		{
			struct registration *r = container_of(l, struct registration, in_file);
			if (r->epoll->epset && f->sock)
				epset_forget(r->epoll->epset, r->fd, f->sock, &ev);
			drop(r);
		}
	}
	fdtable_unlock();
}
