/*
 * SO_ZEROCOPY: a program that sends with MSG_ZEROCOPY is told when it may use its memory again, by a message in the
 * socket's error queue (MSG_ERRQUEUE).
 *
 * The engine copies, so the memory is free when the call returns, and the notice says so (SO_EE_CODE_ZEROCOPY_COPIED),
 * as Linux's does on interfaces that cannot do without a copy. It comes when the bytes are acknowledged, as Linux's.
 * Calls are numbered from 0; a notice is of a range of them. One that follows on the last one in the queue is joined to
 * it.
 *
 * Limits: ERR_OWED_MAX calls that wait for acknowledgments, then -ENOBUFS, as Linux where its memory for options is
 * used up.
 */
#include "socket/engine.h"
#include "socket/errqueue.h"

#include <errno.h>

#ifndef SO_EE_CODE_ZEROCOPY_COPIED
#define SO_EE_CODE_ZEROCOPY_COPIED 1
#endif

bool zerocopy_is_on(const struct sock *s)
{
	return option_values_number(s->values, OPTION_SO_ZEROCOPY) != 0;
}

int zerocopy_may_send(const struct sock *s)
{
	return s->n_err_owed < ERR_OWED_MAX ? 0 : -ENOBUFS;
}

/* A call took bytes. Without memory nobody is told of it, but its number is used. */
void zerocopy_sent(struct engine *e, struct sock *s)
{
	uint32_t id = s->zc_next++;
	struct err_owed *o = errqueue_owe(e, s);
	if (!o)
		return;
	o->zerocopy = true;
	o->first = o->last = id;
}

static bool join(struct sock *s, const struct err_owed *o)
{
	struct err_notice *tail = errqueue_last(s);
	if (!tail || tail->ee.ee_origin != SO_EE_ORIGIN_ZEROCOPY || tail->ee.ee_data + 1 != o->first)
		return false;
	tail->ee.ee_data = o->last;
	return true;
}

void zerocopy_done(struct engine *e, struct sock *s, const struct err_owed *o)
{
	struct err_notice n = {.ee = {.ee_origin = SO_EE_ORIGIN_ZEROCOPY, .ee_code = SO_EE_CODE_ZEROCOPY_COPIED, .ee_info = o->first, .ee_data = o->last}};
	if (join(s, o))
		s->errqueue_news = true;
	else
		errqueue_push(e, s, &n);
}
