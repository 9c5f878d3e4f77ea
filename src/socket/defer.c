/*
 * TCP_DEFER_ACCEPT: a connection is not given to accept before its client has said something, or has closed, or the time is over.
 *
 * Linux keeps such a connection in its SYN queue: it ignores the ACK that ends the handshake, and creates the connection from the first segment with data.
 * Here the connection is established and counts as an embryo, waits in its listener's list `deferred`, and takes no data that the accept queue has no
 * room for. When the time is over, Linux asks once more with a SYN-ACK; here the ACK is remembered, and accept gets the connection.
 */
#include "socket/engine.h"

/* With the same deadline rule for all of a listener's, the list is in the order of deadlines, but for a moment after the option was changed. */
bool defer_starts(struct engine *e, struct sock *s)
{
	struct listener *lst = s->listener->lst;
	if (!lst->defer_us || tcp_readable_bytes(&s->tcp) || tcp_peer_fin(&s->tcp) || tcp_state(&s->tcp) != TCPS_ESTABLISHED)
		return false;
	s->defer_until_us = e->now + lst->defer_us;
	list_push_back(&lst->deferred, &s->defer_node);
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

void defer_end(struct engine *e, struct listener *lst)
{
	while (!list_empty(&lst->deferred))
		give_first(e, lst);
}

void defer_expire(struct engine *e)
{
	list_for_each (pos, tmp, &e->listeners) {
		struct listener *lst = container_of(pos, struct listener, node);
		for (struct list *first; (first = list_first(&lst->deferred));) {
			if (container_of(first, struct sock, defer_node)->defer_until_us > e->now)
				break;
			give_first(e, lst);
		}
	}
}

int64_t defer_deadline(const struct engine *e)
{
	int64_t at = TIME_NEVER;
	list_for_each (pos, tmp, &e->listeners) {
		const struct listener *lst = container_of(pos, struct listener, node);
		const struct list *first = list_first(&lst->deferred);
		if (first)
			at = min_time(at, container_of(first, struct sock, defer_node)->defer_until_us);
	}
	return at;
}
