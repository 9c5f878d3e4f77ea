/*
 * TCP_DEFER_ACCEPT: a connection is not given to accept before its client has said something, or has closed, or the
 * time is over.
 *
 * Linux keeps such a connection in its SYN queue: it ignores the ACK that ends the handshake, and creates the
 * connection from the first segment with data. Here the connection is established and counts as an embryo, waits in its
 * listener's list `deferred`, and takes no data that the accept queue has no room for. When the time is over, Linux
 * asks once more with a SYN-ACK; here the ACK is remembered, and accept gets the connection.
 *
 * A listener that is released, or closed while others have its socket, keeps those that wait: in Linux they are the
 * socket's, whoever closes it. So the engine has a list of the listeners that somebody waits at, wherever else they
 * are. At the process's end they go to another process, which lets them wait on (process/claim_deferred.c). Where
 * nobody takes them they are forgotten, as Linux forgets those of a socket that is gone: who speaks then gets a reset.
 */
#include "socket/engine.h"
#include "socket/listener.h"

/*
 * With the same deadline rule for all of a listener's, the list is in the order of deadlines, but for a moment after
 * the option was changed.
 */
bool defer_starts(struct engine *e, struct sock *s)
{
	struct listener *lst = s->listener->lst;
	if (!lst->defer_us || tcp_readable_bytes(&s->tcp) || tcp_peer_fin(&s->tcp) || tcp_state(&s->tcp) != TCPS_ESTABLISHED)
		return false;
	s->defer_until_us = e->now + lst->defer_us;
	list_push_back(&lst->deferred, &s->defer_node);
	if (list_empty(&lst->defers))
		list_push_back(&e->deferring, &lst->defers);
	return true;
}

bool sock_is_deferred(const struct sock *s)
{
	return !list_empty(&s->defer_node);
}

static void give_first(struct engine *e, struct listener *lst)
{
	struct list *first = list_first(&lst->deferred);
	list_unlink(first);
	listener_give_to_accept(e, container_of(first, struct sock, defer_node));
}

bool defer_has_others(const struct listener *lst)
{
	list_for_each (pos, tmp, &lst->embryos)
		if (!sock_is_deferred(container_of(pos, struct sock, accept_node)))
			return true;
	return false;
}

void defer_forget(struct engine *e, struct listener *lst)
{
	for (struct list *first; (first = list_first(&lst->deferred));)
		sock_retire(e, container_of(first, struct sock, defer_node));
}

void defer_expire(struct engine *e)
{
	list_for_each (pos, tmp, &e->deferring) {
		struct listener *lst = container_of(pos, struct listener, defers);
		for (struct list *first; (first = list_first(&lst->deferred));) {
			if (container_of(first, struct sock, defer_node)->defer_until_us > e->now)
				break;
			give_first(e, lst);
		}
		if (list_empty(&lst->deferred))
			list_unlink(&lst->defers);
	}
}

int64_t defer_deadline(const struct engine *e)
{
	int64_t at = TIME_NEVER;
	list_for_each (pos, tmp, &e->deferring) {
		const struct listener *lst = container_of(pos, struct listener, defers);
		const struct list *first = list_first(&lst->deferred);
		if (first)
			at = min_time(at, container_of(first, struct sock, defer_node)->defer_until_us);
	}
	return at;
}
