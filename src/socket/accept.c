/*
 * accept: a listener has up to three queues. Its own, of connections that the engine established; the spare one, of
 * what other processes of the port gave up; and the kernel's, of who came by another way than the engine. A program
 * finds whoever waits in any of them by the same call.
 *
 * The own queue is looked at first, since it costs no system call. So that the others are not kept waiting by a busy
 * server, they have their turn in between (is_others_turn).
 */
#include "socket/own.h"
#include "socket/process_ops.h"

#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>

#define OTHERS_US    (10 * USEC_PER_MSEC)
#define OWN_IN_A_ROW 16

static struct sock *accept_pop(struct sock *l)
{
	struct list *pos = list_first(&l->lst->accept_queue);
	if (!pos)
		return NULL;
	struct sock *s = container_of(pos, struct sock, accept_node);
	list_unlink(&s->accept_node);
	s->listener = NULL;
	sock_say_last_word(l->engine, s);
	tcp_accepted(&s->tcp);
	if (s->fastopen_of)
		tcp_fastopen_accepted(&s->tcp);
	l->lst->n_accept--;
	process_ops->queue_changed(l->engine, l);
	return s;
}

/* What another process of the port gave up. */
static int accept_spare(struct engine *e, struct sock *l, int flags, struct sockaddr *addr, socklen_t *len, int *kernel_fd)
{
	struct ip_addr peer;
	uint16_t port;
	struct sockaddr_storage name;
	socklen_t name_len = sizeof name;
	int fd = process_ops->spare_take(e, l);
	if (fd < 0)
		return -EAGAIN;
	if (flags & SOCK_NONBLOCK)
		sys_fcntl(fd, F_SETFL, sys_fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
	if (!(flags & SOCK_CLOEXEC))
		sys_fcntl(fd, F_SETFD, 0);
	if (addr && sys_getpeername(fd, &name, &name_len) == 0 && name_to_addr((struct sockaddr *)&name, name_len, &peer, &port) == 0)
		name_from_addr(e, l->family, &peer, port, addr, len);
	*kernel_fd = fd;
	return 1;
}

static bool kernel_queue_has(int kfd)
{
	struct pollfd p = {.fd = kfd, .events = POLLIN};
	struct timespec now = {0, 0};
	return sys_ppoll(&p, 1, &now, NULL) > 0;
}

/*
 * Our duplicate is non-blocking, and so is the socket for all who have it. A program that got it as a blocking one
 * (preload/handover.c) must find it so, also when no process of ours refers to it any more: then nobody is accepted who
 * is not there, and it is non-blocking for the moment of the call.
 */
static int accept_at_once(struct sock *l, int flags, struct sockaddr *addr, socklen_t *len)
{
	int kfd = l->lst->kfd, accept_flags = flags & (SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (!l->lst->from_elsewhere && !l->lst->mode_shared)
		return sys_accept4(kfd, addr, len, accept_flags);
	if (!kernel_queue_has(kfd))
		return -EAGAIN;
	int status = sys_fcntl(kfd, F_GETFL, 0);
	if (status < 0 || (status & O_NONBLOCK))
		return sys_accept4(kfd, addr, len, accept_flags);
	sys_fcntl(kfd, F_SETFL, status | O_NONBLOCK);
	int fd = sys_accept4(kfd, addr, len, accept_flags);
	sys_fcntl(kfd, F_SETFL, status);
	return fd;
}

bool sock_ended_elsewhere(struct sock *s)
{
	struct engine *e = s->engine;
	struct pollfd p = {.fd = -1, .events = POLLIN};
	struct timespec now = {0, 0};
	engine_lock_only(e);
	/* While no other process has it, only this one can end it, and does so itself. */
	if (s->kind == SOCK_KIND_LISTENER && (s->lst->queue_fd >= 0 || s->lst->from_elsewhere || s->child_refs))
		p.fd = s->lst->kfd;
	bool ended = p.fd >= 0 && sys_ppoll(&p, 1, &now, NULL) > 0 && (p.revents & POLLHUP); /* a listener has none */
	engine_unlock(e);
	return ended;
}

/* The kernel's own queue: who came by another way. */
static int accept_kernel(struct sock *l, int flags, struct sockaddr *addr, socklen_t *len, int *kernel_fd)
{
	int fd = accept_at_once(l, flags, addr, len);
	if (fd == -EMFILE && !kernel_queue_has(l->lst->kfd)) /* the kernel looks for a number first, also when nobody is there */
		return -EAGAIN;
	if (fd < 0)
		return fd;
	if (l->engine->up) /* a forked child whose engine did not come up accepts, too */
		classifier_accepted(l->engine->classifier, l->lst->kfd, l->lst->kernels, fd);
	*kernel_fd = fd;
	process_ops->look_for_dead(l->engine, l);
	return 1;
}

/* From the queues that are not the engine's. */
static int accept_others(struct sock *l, int flags, struct sockaddr *addr, socklen_t *len, int *kernel_fd)
{
	int r = accept_spare(l->engine, l, flags, addr, len, kernel_fd);
	if (r == -EAGAIN)
		r = accept_kernel(l, flags, addr, len, kernel_fd);
	l->lst->others_us = l->engine->now;
	l->lst->own_since = 0;
	l->lst->others_had = r == 1;
	l->lst->others_next = false;
	return r;
}

/*
 * Who came by another way, or before anybody waited, must not wait for as long as the own queue has somebody: a busy
 * server's always has. A look costs a system call. So there is one each OTHERS_US, or after OWN_IN_A_ROW; and while
 * somebody is found the queues take turns.
 */
static bool is_others_turn(const struct listener *lst, int64_t now)
{
	return lst->n_accept && (lst->others_next || now < lst->kernels_first_us || lst->own_since >= OWN_IN_A_ROW || now - lst->others_us >= OTHERS_US);
}

static struct sock *accept_own(struct sock *l, int flags, struct sockaddr *addr, socklen_t *len)
{
	struct sock *s = accept_pop(l);
	if (!s)
		return NULL;
	l->lst->own_since++;
	l->lst->others_next = l->lst->others_had;
	s->nonblock = flags & SOCK_NONBLOCK;
	name_from_addr(l->engine, s->family, &s->flow.key.raddr, s->flow.key.rport, addr, len);
	return s;
}

int sock_accept(struct sock *l, int flags, struct sockaddr *addr, socklen_t *len, struct sock **out, int *kernel_fd)
{
	struct engine *e = l->engine;
	bool at_once = flags & SOCK_ACCEPT_AT_ONCE;
	flags &= ~SOCK_ACCEPT_AT_ONCE;
	if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))
		return -EINVAL;
	turn_enter_look(e);
	namespace_refresh(e, SYSCTL_AGE_LONG_US);
	struct wait wait;
	wait_begin(&wait, e, l->rcvtimeo_us);
	int r;
	for (;;) {
		if (l->kind != SOCK_KIND_LISTENER) {
			r = l->kind == SOCK_KIND_DEAD ? -EBADF : -EINVAL;
			break;
		}
		process_ops->comes_by(e, l);
		if (is_others_turn(l->lst, e->now) && accept_others(l, flags, addr, len, kernel_fd) == 1) {
			sock_notify(e, l); /* whom the own queue woke has somebody else's: another thread looks at it */
			r = 1;
			break;
		}
		*out = accept_own(l, flags, addr, len);
		if (*out) {
			r = 0;
			break;
		}
		r = accept_others(l, flags, addr, len, kernel_fd);
		if (r != -EAGAIN || l->nonblock || at_once)
			break;
		r = sock_wait(e, l, &wait);
		if (r) {
			r = r == -ETIMEDOUT ? -EAGAIN : r;
			break;
		}
	}
	turn_leave_verb(e);
	return r;
}

int sock_accept_kernel(struct sock *l, int flags, struct sockaddr *addr, socklen_t *len, int *kernel_fd)
{
	struct engine *e = l->engine;
	turn_enter(e);
	int r = l->kind == SOCK_KIND_LISTENER ? accept_kernel(l, flags, addr, len, kernel_fd) : -EINVAL;
	turn_leave(e);
	return r;
}
