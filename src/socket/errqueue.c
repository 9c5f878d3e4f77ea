/*
 * The error queue (errqueue.h): Linux's sock_queue_err_skb, sock_dequeue_err_skb, ip_recv_error and ipv6_recv_error.
 *
 * What is owed and what waits to be read are two lists of the connection. Both kinds of notice share them, so they come
 * in the order of the bytes; of one call the stamp comes first. An ICMP error of IPv4 is queued whether IP_RECVERR is
 * on or not, one of IPv6 where IPV6_RECVERR is on, as Linux does; its message gives what the router quoted, to whom
 * that was sent, and the router. A connection that is handed over to the kernel loses what is owed and what nobody has
 * read.
 */
#include "socket/engine.h"
#include "socket/errqueue.h"
#include "socket/stamps.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>

#include "base/user.h"

/* What ICMP said. */
struct err_icmp {
	struct ip_addr offender, remote;
	uint16_t rport;
	uint16_t quote_len;
	uint8_t quote[]; /* from the TCP header on */
};

static size_t icmp_bytes(const struct err_icmp *i)
{
	return sizeof *i + i->quote_len;
}

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

void errqueue_unref(struct engine *e, struct err_frame *f)
{
	if (f && --f->users == 0)
		engine_free(e, f, sizeof *f + f->len);
}

void errqueue_settle(struct engine *e, struct sock *s, struct err_owed *o)
{
	list_unlink(&o->node);
	s->n_err_owed--;
	errqueue_unref(e, o->frame);
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
	if (own->frame)
		own->frame->users++;
	s->errqueue_bytes += n->charge;
	list_push_back(&s->errqueue, &own->node);
	s->errqueue_news = true;
	return true;
}

void errqueue_push_icmp(struct engine *e, struct sock *s, const struct ip_icmp_error *icmp)
{
	struct err_icmp *i = engine_alloc(e, sizeof *i + icmp->quote_len);
	if (!i)
		return;
	*i = (struct err_icmp){.offender = icmp->offender, .remote = icmp->key.raddr, .rport = icmp->key.rport, .quote_len = icmp->quote_len};
	memcpy(i->quote, icmp->quote, icmp->quote_len);
	struct err_notice n = {
		.ee = {.ee_errno = icmp->err, .ee_origin = ip_addr_is_v4(&icmp->offender) ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6,
		       .ee_type = icmp->type, .ee_code = icmp->code, .ee_info = icmp->info},
		.icmp = i,
	};
	if (!errqueue_push(e, s, &n))
		engine_free(e, i, icmp_bytes(i));
	s->errqueue_news = false;
}

static void drop(struct engine *e, struct sock *s, struct err_notice *n)
{
	if (n->icmp)
		engine_free(e, n->icmp, icmp_bytes(n->icmp));
	errqueue_unref(e, n->frame);
	list_unlink(&n->node);
	s->errqueue_bytes -= n->charge;
	engine_free(e, n, sizeof *n);
}

/* What the router quoted, or the frame that was sent. Bytes or -EFAULT. */
static ssize_t give_bytes(const uint8_t *bytes, size_t len, const struct msghdr *msg, int *flags)
{
	size_t done = 0;
	for (size_t k = 0; k < msg->msg_iovlen && done < len; k++) {
		const struct iovec *v = &msg->msg_iov[k];
		size_t n = v->iov_len < len - done ? v->iov_len : len - done;
		if (!user_may_write(v->iov_base, n))
			return -EFAULT;
		memcpy(v->iov_base, bytes + done, n);
		done += n;
	}
	if (done < len)
		*flags |= MSG_TRUNC;
	return done;
}

/* To whom the quoted packet went: the caller gives it to the program. */
static int give_name(struct engine *e, const struct sock *s, const struct err_icmp *i, struct msghdr *msg)
{
	socklen_t room = msg->msg_namelen, full = sizeof(struct sockaddr_storage);
	struct sockaddr_storage name;
	msg->msg_namelen = 0;
	if (!msg->msg_name)
		return 0;
	name_from_addr(e, s->family, &i->remote, i->rport, (struct sockaddr *)&name, &full);
	if (room > full)
		room = full;
	if (!user_may_write(msg->msg_name, room))
		return -EFAULT;
	memcpy(msg->msg_name, &name, room);
	msg->msg_namelen = full;
	return 0;
}

/* After the last message of ICMP's the socket's error is none, before another one it is that one's. */
static void error_follows(struct sock *s, const struct err_notice *read)
{
	struct list *pos = list_first(&s->errqueue);
	const struct err_notice *next = pos ? container_of(pos, struct err_notice, node) : NULL;
	if (next && next->icmp)
		tcp_put_error(&s->tcp, next->ee.ee_errno);
	else if (read->icmp)
		tcp_take_error(&s->tcp);
}

void errqueue_drop_icmp(struct engine *e, struct sock *s)
{
	list_for_each (pos, tmp, &s->errqueue) {
		struct err_notice *n = container_of(pos, struct err_notice, node);
		if (n->icmp)
			drop(e, s, n);
	}
}

/* Of a stamp the bytes that were sent, where they are wanted, of zero-copy none; of both the address of nobody. */
ssize_t errqueue_read(struct engine *e, struct sock *s, struct msghdr *msg, struct cmsg_out *out, int *flags)
{
	struct {
		struct sock_extended_err ee;
		union {
			struct sockaddr sa;
			struct sockaddr_in v4;
			struct sockaddr_in6 v6;
		} offender;
	} told = {0};
	ssize_t bytes = 0;
	socklen_t len = sizeof told.offender;
	struct list *pos = list_first(&s->errqueue);
	if (!pos)
		return -EAGAIN;
	struct err_notice *n = container_of(pos, struct err_notice, node);
	told.ee = n->ee;
	bool v6 = s->family == AF_INET6;
	stamps_tell_notice(s, n, out);
	if (n->icmp) {
		name_from_addr(e, s->family, &n->icmp->offender, 0, &told.offender.sa, &len);
		bytes = give_bytes(n->icmp->quote, n->icmp->quote_len, msg, flags);
		int err = bytes < 0 ? (int)bytes : give_name(e, s, n->icmp, msg);
		if (err)
			return err;
	} else {
		msg->msg_namelen = 0;
		if (n->frame)
			bytes = give_bytes(n->frame->bytes + n->skip, n->frame->len - n->skip, msg, flags);
		if (bytes < 0)
			return bytes;
	}
	cmsg_put(out, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVERR : IP_RECVERR, &told,
		 sizeof told.ee + (v6 ? sizeof told.offender.v6 : sizeof told.offender.v4));
	list_unlink(&n->node);
	error_follows(s, n);
	drop(e, s, n);
	if (errqueue_has(s))
		sock_notify_events(e, s, POLLERR);
	*flags |= MSG_ERRQUEUE;
	return bytes;
}

void errqueue_fini(struct engine *e, struct sock *s)
{
	struct list *pos;
	while ((pos = list_first(&s->err_owed)))
		errqueue_settle(e, s, container_of(pos, struct err_owed, node));
	while ((pos = list_first(&s->errqueue)))
		drop(e, s, container_of(pos, struct err_notice, node));
}
