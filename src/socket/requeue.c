/*
 * The clients that wait for accept at a listener which becomes the kernel's: io_uring accepts from the kernel's queue
 * alone, so they go there (kernel/requeue.h). Half-open ones follow when their handshake is complete: the listener
 * drains until then. Where the kernel cannot take them they are reset, as when a listener is closed.
 */
#include "socket/own.h"
#include "socket/fallback.h"
#include "socket/unseen.h"
#include "socket/listener.h"

#include "base/log.h"
#include "kernel/requeue.h"

#include <errno.h>

static int queue_open(struct engine *e)
{
	if (e->requeue || e->requeue_err)
		return e->requeue_err;
	if (e->own || !sysctls_number(&e->sysctls, SYSCTL_tcp_syncookies)) /* the kernel has no such address, or takes no cookies */
		return -EOPNOTSUPP;
	e->requeue_err = requeue_open(&e->requeue);
	return e->requeue_err;
}

static int give(struct engine *e, struct sock *s)
{
	struct tcp_snapshot snap;
	if (!s->live)
		return -ENOTCONN;
	int err = queue_open(e);
	unseen_settle_sock(e, s);
	if (!err)
		err = tcp_snapshot(&s->tcp, e->now, &snap);
	if (!err)
		err = requeue_give(e->requeue, &snap);
	if (err)
		return err;
	rejudge_tell_conntrack(e, s);
	sock_becomes_kernels(e, s);
	e->counters[SOCKC_HandedOver]++;
	handover_note(&s->flow.key, "its listener became the kernel's");
	s->kind = SOCK_KIND_DEAD;
	sock_retire(e, s);
	return 0;
}

void listener_requeue(struct engine *e, struct listener *lst)
{
	list_for_each (pos, tmp, &lst->accept_queue) {
		struct sock *s = container_of(pos, struct sock, accept_node);
		int err = give(e, s);
		if (err) {
			log_info("listen", "a client that waited for accept could not go to the kernel's queue (errno %d)", -err);
			continue; /* in the queue still: others may have it, or it is reset */
		}
		list_unlink(pos);
		s->listener = NULL;
		lst->n_accept--;
		sock_put(e, s);
	}
}

void requeue_end(struct engine *e)
{
	if (e->requeue)
		requeue_close(e->requeue);
	e->requeue = NULL;
	e->requeue_err = 0;
}

void requeue_after_fork(struct engine *e)
{
	if (e->requeue)
		requeue_forget(e->requeue);
	e->requeue = NULL;
	e->requeue_err = 0;
}
