/* Waiting for one socket: what a verb does when it would block. */
#include "socket/engine.h"

#include <errno.h>

int sock_wait(struct engine *e, struct sock *s, const struct wait *wait)
{
	struct waiter *w = waiter_self(e);
	struct watch *watch = waiter_watches(w, 1);
	struct pollfd kernel_queue = {.fd = -1};
	struct wait shared = *wait;
	unsigned n_kfds = 0;
	if (!watch)
		return -ENOMEM;
	if (s->kind == SOCK_KIND_LISTENER) {
		kernel_queue = (struct pollfd){.fd = s->lst->kfd, .events = POLLIN};
		n_kfds = 1;
		shared.share = &s->lst->accepts;
	}
	watch_add(watch, s);
	int r = engine_wait(e, w, &kernel_queue, n_kfds, &shared, NULL);
	waiter_free(w, watch);
	if (!r && s->kind == SOCK_KIND_DEAD && s->connect_result == -EPIPE)
		return -EPIPE; /* another thread dissolved it: as Linux's sk_wait_event */
	return r;
}
