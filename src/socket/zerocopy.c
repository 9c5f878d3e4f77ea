/*
 * SO_ZEROCOPY: a program that sends with MSG_ZEROCOPY is told when it may use its memory again, by a message in the socket's error queue (MSG_ERRQUEUE).
 *
 * The engine copies, so the memory is free when the call returns, and the notice says so (SO_EE_CODE_ZEROCOPY_COPIED), as Linux's does on interfaces that cannot
 * do without a copy. It comes when the bytes are acknowledged, as Linux's. Calls are numbered from 0; a notice is of a range of them. One that follows on
 * the last one in the queue is joined to it.
 *
 * Limits: CALLS_MAX calls that wait for acknowledgments, then -ENOBUFS, as Linux where its memory for options is used up.
 * A connection that is handed over to the kernel loses the notices that are still owed.
 */
#include "socket/engine.h"

#include "base/user.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>

#ifndef SO_EE_CODE_ZEROCOPY_COPIED
#define SO_EE_CODE_ZEROCOPY_COPIED 1
#endif
#define CALLS_MAX 4096

struct zerocopy_calls {
	struct list node;
	uint32_t first, last;
	uint32_t end; /* sequence number behind their bytes */
};

bool zerocopy_is_on(const struct sock *s)
{
	return option_values_number(s->values, OPTION_SO_ZEROCOPY) != 0;
}

int zerocopy_may_send(const struct sock *s)
{
	return s->zc_waiting < CALLS_MAX ? 0 : -ENOBUFS;
}

/* A call took bytes. Without memory nobody is told of it, but its number is used. */
void zerocopy_sent(struct engine *e, struct sock *s)
{
	struct zerocopy_calls *z = engine_alloc(e, sizeof *z);
	uint32_t id = s->zc_next++;
	if (!z)
		return;
	*z = (struct zerocopy_calls){.first = id, .last = id, .end = tcp_send_end(&s->tcp)};
	list_push_back(&s->zc_sent, &z->node);
	s->zc_waiting++;
}

static bool join(struct engine *e, struct list *done, struct zerocopy_calls *z)
{
	struct list *pos = list_last(done);
	struct zerocopy_calls *tail = pos ? container_of(pos, struct zerocopy_calls, node) : NULL;
	if (!tail || tail->last + 1 != z->first)
		return false;
	tail->last = z->last;
	engine_free(e, z, sizeof *z);
	return true;
}

void zerocopy_progress(struct engine *e, struct sock *s)
{
	bool any = false;
	list_for_each (pos, tmp, &s->zc_sent) {
		struct zerocopy_calls *z = container_of(pos, struct zerocopy_calls, node);
		if (!tcp_is_delivered(&s->tcp, z->end))
			break;
		list_unlink(&z->node);
		s->zc_waiting--;
		any = true;
		if (!join(e, &s->zc_done, z))
			list_push_back(&s->zc_done, &z->node);
	}
	if (any)
		sock_notify_events(e, s, POLLERR);
}

bool zerocopy_has_notice(const struct sock *s)
{
	return !list_empty(&s->zc_done);
}

/* Linux's ip_recv_error and ipv6_recv_error: no bytes, one control message with the extended error and the address of nobody. */
ssize_t zerocopy_notice(struct engine *e, struct sock *s, struct cmsg_out *out, int *flags)
{
	struct {
		struct sock_extended_err ee;
		union {
			struct sockaddr_in v4;
			struct sockaddr_in6 v6;
		} offender;
	} told = {.ee = {.ee_origin = SO_EE_ORIGIN_ZEROCOPY, .ee_code = SO_EE_CODE_ZEROCOPY_COPIED}};
	struct list *pos = list_first(&s->zc_done);
	if (!pos)
		return -EAGAIN;
	struct zerocopy_calls *z = container_of(pos, struct zerocopy_calls, node);
	told.ee.ee_info = z->first;
	told.ee.ee_data = z->last;
	bool v6 = s->family == AF_INET6;
	int err = cmsg_put(out, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVERR : IP_RECVERR, &told,
			   sizeof told.ee + (v6 ? sizeof told.offender.v6 : sizeof told.offender.v4));
	if (err)
		return err;
	list_unlink(&z->node);
	engine_free(e, z, sizeof *z);
	*flags |= MSG_ERRQUEUE;
	return 0;
}

void zerocopy_fini(struct engine *e, struct sock *s)
{
	struct list *pos;
	while ((pos = list_first(&s->zc_sent)) || (pos = list_first(&s->zc_done))) {
		struct zerocopy_calls *z = container_of(pos, struct zerocopy_calls, node);
		list_unlink(&z->node);
		engine_free(e, z, sizeof *z);
	}
}
