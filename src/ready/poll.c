/*
 * poll(2) over engine and kernel fds mixed.
 *
 * The engine's part is looked at in memory. Kernel fds, and the kernel's queues of listeners, are part of the wait's
 * own system call, so that all of the set is waited for at once. Without a time to wait, both are looked at once.
 */
#include "ready/internal.h"
#include "socket/process_ops.h"
#include "socket/listener.h"

#include "base/sys.h"

#include <errno.h>
#include <string.h>

#define POLL_WATCHES_ON_STACK 32

/* One poll(2) in progress: the kernel's part of the set, and a watch per engine socket. */
struct poll_call {
	struct undo undo;
	struct engine *e;
	struct sock_pollfd *fds;
	unsigned n, n_kernel, n_watches;
	struct pollfd *kernel;  /* kernel fds, and the kernel queues of listeners */
	bool away; /* a handler has run: this call waits for no client any more */
	unsigned *kernel_index; /* which of `fds` each belongs to */
	struct watch *watches;
};

static void poll_call_fill(struct poll_call *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct sock_pollfd *f = &c->fds[i];
		int kfd = f->sock && f->sock->kind == SOCK_KIND_LISTENER ? listener_queue(f->sock->lst) : f->sock ? -1 : f->fd;
		if (kfd >= 0) {
			c->kernel_index[c->n_kernel] = i;
			c->kernel[c->n_kernel++] = (struct pollfd){.fd = kfd, .events = f->events};
		}
		if (f->sock)
			watch_add(&c->watches[c->n_watches++], f->sock);
	}
}

static unsigned poll_call_check(struct engine *e, struct poll_call *c)
{
	unsigned ready = 0;
	for (unsigned i = 0; i < c->n; i++) {
		struct sock_pollfd *f = &c->fds[i];
		short always = f->exact ? POLLNVAL : POLLERR | POLLHUP | POLLNVAL;
		f->revents = f->sock ? sock_mask(e, f->sock) & (f->events | always) : 0;
	}
	for (unsigned i = 0; i < c->n_kernel; i++)
		c->fds[c->kernel_index[i]].revents |= c->kernel[i].revents;
	for (unsigned i = 0; i < c->n; i++)
		ready += c->fds[i].revents != 0;
	return ready;
}

/* What is ready in the kernel right now, beside what is ready in memory. */
static void poll_call_kernel(struct poll_call *c)
{
	struct timespec now = {0, 0};
	if (c->n_kernel && sys_ppoll(c->kernel, c->n_kernel, &now, NULL) < 0)
		for (unsigned i = 0; i < c->n_kernel; i++)
			c->kernel[i].revents = 0;
}

/* Clients of listeners are waited for. */
static void poll_call_waits(struct engine *e, struct poll_call *c, int by)
{
	for (unsigned i = 0; i < c->n; i++)
		if (c->fds[i].sock && c->fds[i].sock->lst && (c->fds[i].events & (POLLIN | POLLRDNORM)))
			process_ops->waits(e, c->fds[i].sock, by);
}

static void poll_call_left(struct undo *u)
{
	struct poll_call *c = container_of(u, struct poll_call, undo);
	engine_lock(c->e);
	if (!c->away)
		poll_call_waits(c->e, c, -1);
	c->away = true;
	engine_unlock(c->e);
}

static bool poll_call_handled(struct undo *u, bool begins)
{
	if (begins)
		poll_call_left(u);
	return false;
}

/* A listener's queue may be another one, which processes share. */
static void poll_call_follow(struct poll_call *c)
{
	for (unsigned i = 0; i < c->n_kernel; i++) {
		const struct sock *s = c->fds[c->kernel_index[i]].sock;
		if (s && s->kind == SOCK_KIND_LISTENER)
			c->kernel[i].fd = listener_queue(s->lst);
	}
}

static int poll_loop(struct engine *e, struct poll_call *c, struct waiter *w, const struct wait *wait, const sigset_t *mask)
{
	/*
	 * With a mask and nothing ready, even a poll that does not wait lets signals in: as a wait, which is over at
	 * once.
	 */
	if (poll_call_check(e, c) || (e->now >= wait->deadline && !mask)) {
		poll_call_kernel(c);
		return poll_call_check(e, c);
	}
	int r = 0;
	unsigned ready = 0;
	poll_call_waits(e, c, 1);
	undo_push(&c->undo, poll_call_left);
	c->undo.handler = poll_call_handled;
	while (!r && !ready) {
		r = engine_wait(e, w, c->kernel, c->n_kernel, wait, mask);
		if (r == -EINTR) /* to the program a handler runs after the call: what it has done is not told */
			break;
		poll_call_follow(c);
		ready = poll_call_check(e, c);
	}
	undo_pop(&c->undo);
	if (!c->away)
		poll_call_waits(e, c, -1);
	return ready ? (int)ready : r == -ETIMEDOUT ? 0 : r;
}

int sock_poll(struct sock_pollfd *fds, unsigned n, const struct timespec *timeout, const sigset_t *mask)
{
	struct engine *e = engine_of_process();
	struct pollfd kernel[POLL_WATCHES_ON_STACK];
	unsigned index[POLL_WATCHES_ON_STACK];
	struct poll_call c = {.e = e, .fds = fds, .n = n, .kernel = kernel, .kernel_index = index};
	void *heap = NULL;
	struct wait wait;
	if (!e->pool.memory.alloc) { /* no socket was decided yet: the set has a number of ours, which is to look closed */
		engine_lock(e);
		engine_init_tables(e);
		engine_unlock(e);
	}
	struct waiter *w = waiter_self(e);
	turn_enter_wait(e);
	int r = wait_begin_timespec(&wait, e, timeout);
	if (!r && n > POLL_WATCHES_ON_STACK) {
		heap = waiter_alloc(w, n * (sizeof *kernel + sizeof *index));
		r = heap ? 0 : -ENOMEM;
		c.kernel = heap;
		c.kernel_index = (void *)(c.kernel + n);
	}
	if (!r) {
		c.watches = waiter_watches(w, n); /* the thread's: a handler may jump out of this call */
		r = c.watches ? 0 : -ENOMEM;
	}
	if (!r) {
		poll_call_fill(&c);
		r = poll_loop(e, &c, w, &wait, mask);
	}
	waiter_free(w, c.watches);
	waiter_free(w, heap);
	if (r > 0)
		turn_leave_verb(e);
	else
		turn_leave(e);
	return r;
}
