/*
 * The error queue (errqueue.h): Linux's sock_queue_err_skb, sock_dequeue_err_skb, ip_recv_error and ipv6_recv_error.
 *
 * What is owed and what waits to be read are two lists of the connection. Both kinds of notice share them, so they come in the order of the bytes; of one call
 * the stamp comes first. A connection that is handed over to the kernel loses what is owed and what nobody has read.
 */
#include "socket/engine.h"
#include "socket/errqueue.h"
#include "socket/stamps.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>

void errqueue_init(struct sock *s)
{
	list_init(&s->err_owed);
	list_init(&s->errqueue);
}

struct err_owed *errqueue_owe(struct engine *e, struct sock *s)
{
	struct err_owed *o = s->n_err_owed < ERR_OWED_MAX ? engine_alloc(e, sizeof *o) : NULL;
	if (!o)
		return NULL;
	o->end = tcp_send_end(&s->tcp);
	list_push_back(&s->err_owed, &o->node);
	s->n_err_owed++;
	return o;
}

void errqueue_settle(struct engine *e, struct sock *s, struct err_owed *o)
{
	list_unlink(&o->node);
	s->n_err_owed--;
	engine_free(e, o, sizeof *o);
}

void errqueue_progress(struct engine *e, struct sock *s)
{
	list_for_each (pos, tmp, &s->err_owed) {
		struct err_owed *o = container_of(pos, struct err_owed, node);
		if (!tcp_is_delivered(&s->tcp, o->end))
			break;
		if (o->zerocopy)
			zerocopy_done(e, s, o);
		else
			stamps_acked(e, s, o);
		errqueue_settle(e, s, o);
	}
	errqueue_notify(e, s);
}

/* An edge for each piece of news, and for nothing else: epoll counts them. */
void errqueue_notify(struct engine *e, struct sock *s)
{
	if (!s->errqueue_news)
		return;
	s->errqueue_news = false;
	sock_notify_events(e, s, POLLERR);
}

struct err_notice *errqueue_last(struct sock *s)
{
	struct list *pos = list_last(&s->errqueue);
	return pos ? container_of(pos, struct err_notice, node) : NULL;
}

bool errqueue_has(const struct sock *s)
{
	return !list_empty(&s->errqueue);
}

/* Linux counts what waits there with what was received. */
static bool has_room(const struct sock *s, uint32_t charge)
{
	struct tcp_status st;
	if (!charge)
		return true;
	tcp_get_status(&s->tcp, &st);
	return (uint64_t)st.readable_bytes + st.ooo_bytes + s->errqueue_bytes + charge < st.rcvbuf_bytes;
}

bool errqueue_push(struct engine *e, struct sock *s, const struct err_notice *n)
{
	struct err_notice *own = has_room(s, n->charge) ? engine_alloc(e, sizeof *own) : NULL;
	if (!own)
		return false;
	*own = *n;
	s->errqueue_bytes += n->charge;
	list_push_back(&s->errqueue, &own->node);
	s->errqueue_news = true;
	return true;
}

static void drop(struct engine *e, struct sock *s, struct err_notice *n)
{
	list_unlink(&n->node);
	s->errqueue_bytes -= n->charge;
	engine_free(e, n, sizeof *n);
}

/* No bytes: the time, and the extended error with the address of nobody. */
ssize_t errqueue_read(struct engine *e, struct sock *s, struct cmsg_out *out, int *flags)
{
	struct {
		struct sock_extended_err ee;
		union {
			struct sockaddr_in v4;
			struct sockaddr_in6 v6;
		} offender;
	} told = {0};
	struct list *pos = list_first(&s->errqueue);
	if (!pos)
		return -EAGAIN;
	struct err_notice *n = container_of(pos, struct err_notice, node);
	told.ee = n->ee;
	bool v6 = s->family == AF_INET6;
	int err = stamps_tell_notice(s, n, out);
	if (!err)
		err = cmsg_put(out, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVERR : IP_RECVERR, &told,
			       sizeof told.ee + (v6 ? sizeof told.offender.v6 : sizeof told.offender.v4));
	if (err)
		return err;
	drop(e, s, n);
	if (errqueue_has(s))
		sock_notify_events(e, s, POLLERR);
	*flags |= MSG_ERRQUEUE;
	return 0;
}

void errqueue_fini(struct engine *e, struct sock *s)
{
	struct list *pos;
	while ((pos = list_first(&s->err_owed)))
		errqueue_settle(e, s, container_of(pos, struct err_owed, node));
	while ((pos = list_first(&s->errqueue)))
		drop(e, s, container_of(pos, struct err_notice, node));
}
