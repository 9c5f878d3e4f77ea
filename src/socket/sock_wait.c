/* Waiting for one socket: what a verb does when it would block. */
#include "socket/engine.h"
#include "socket/process_ops.h"
#include "socket/listener.h"

#include <errno.h>

static void wait_is_left(struct undo *u)
{
	struct listener_wait *w = container_of(u, struct listener_wait, undo);
	engine_lock(w->e);
	if (!w->away)
		process_ops->waits(w->e, w->l, -1);
	sock_put(w->e, w->l);
	engine_unlock(w->e);
}

static bool wait_is_handled(struct undo *u, bool begins)
{
	struct listener_wait *w = container_of(u, struct listener_wait, undo);
	engine_lock(w->e);
	if (begins && !w->away)
		process_ops->waits(w->e, w->l, -1);
	w->away = begins || w->l->kind != SOCK_KIND_LISTENER;
	if (!w->away)
		process_ops->waits(w->e, w->l, 1);
	engine_unlock(w->e);
	return false;
}

void listener_wait_begin(struct listener_wait *w, struct engine *e, struct sock *l)
{
	w->e = e;
	w->l = sock_ref(l);
	w->away = false;
	process_ops->waits(e, l, 1);
	undo_push(&w->undo, wait_is_left);
	w->undo.handler = wait_is_handled;
}

void listener_wait_end(struct listener_wait *w)
{
	undo_pop(&w->undo);
	if (!w->away)
		process_ops->waits(w->e, w->l, -1);
	sock_put(w->e, w->l);
}

int sock_wait(struct engine *e, struct sock *s, const struct wait *wait)
{
	struct waiter *w = waiter_self(e);
	struct watch *watch = waiter_watches(w, 1);
	struct pollfd kernel_queue = {.fd = -1};
	struct wait shared = *wait;
	struct listener_wait wanted;
	unsigned n_kfds = 0;
	if (!watch)
		return -ENOMEM;
	if (s->kind == SOCK_KIND_LISTENER) {
		kernel_queue = (struct pollfd){.fd = listener_queue(s->lst), .events = POLLIN};
		n_kfds = 1;
		shared.share = &s->lst->accepts;
		listener_wait_begin(&wanted, e, s);
	}
	watch_add(watch, s);
	int r = engine_wait(e, w, &kernel_queue, n_kfds, &shared, NULL);
	if (n_kfds)
		listener_wait_end(&wanted);
	waiter_free(w, watch);
	if (!r && s->kind == SOCK_KIND_DEAD && s->connect_result == -EPIPE)
		return -EPIPE; /* another thread dissolved it: as Linux's sk_wait_event */
	return r;
}
