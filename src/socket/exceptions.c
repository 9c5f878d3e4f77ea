/*
 * 4-tuples on our listening ports that stay the kernel's: those that it owned before we listened, those handed over to
 * it.
 *
 * Each is an entry in the classifier and one here. When the kernel no longer has the connection, the entry would keep
 * the peer's next connection from that port away from us, and a server that hands over every connection would fill the
 * map; so while there are any, the kernel is asked every few seconds what it still owns, one inet_diag dump per port,
 * and the others go.
 */
#include "socket/engine.h"
#include "socket/process_ops.h"

#include "base/fd.h"
#include "base/log.h"
#include "kernel/diag.h"

#include <errno.h>

#define SWEEP_INTERVAL_US (5 * USEC_PER_SEC)
#define STRANGERS_MAX     4096 /* entries beyond which no forged SYN adds one: the rest of the classifier's table is for connections that exist */

struct exception {
	struct flow flow; /* in engine.exceptions */
	struct list node; /* engine.exception_list */
	bool kernel_has;  /* in this sweep */
	bool in_set;      /* it is one of the classifier's exceptions */
	bool in_group;    /* it has an entry in the group's flows */
};

/* The classifier has it. */
static int enter(struct engine *e, const struct flow_key *key, bool in_group)
{
	struct exception *x = engine_alloc(e, sizeof *x);
	if (!x)
		return -ENOMEM;
	*x = (struct exception){.flow.key = *key, .in_set = !in_group, .in_group = in_group};
	int err = demux_insert(&e->exceptions, &x->flow);
	if (err) {
		engine_free(e, x, sizeof *x);
		return err;
	}
	if (list_empty(&e->exception_list))
		e->sweep_us = e->now + SWEEP_INTERVAL_US;
	list_push_back(&e->exception_list, &x->node);
	return 0;
}

static struct exception *find(const struct engine *e, const struct flow_key *key)
{
	struct flow *f = demux_find(&e->exceptions, key);
	return f ? container_of(f, struct exception, flow) : NULL;
}

/* A group's entry does not do: the port may be another listener's by now, which is in no group or in another one. */
int exception_add(struct engine *e, const struct flow_key *key)
{
	struct exception *x = find(e, key);
	if (x && x->in_set)
		return 0;
	int err = classifier_add_exception(e->classifier, key);
	if (err || !x)
		return err ? err : enter(e, key, false);
	x->in_set = true;
	return 0;
}

struct taking {
	struct classifier_given visit;
	struct engine *e;
};

/* A handshake of this engine's with the same client cannot come about any more. */
static void take_given(struct classifier_given *v, const struct flow_key *key, bool in_group)
{
	struct engine *e = container_of(v, struct taking, visit)->e;
	struct exception *x = find(e, key);
	if (x) {
		x->in_group |= in_group;
		x->in_set |= !in_group;
		return;
	}
	if (enter(e, key, in_group))
		return;
	struct flow *f = demux_find(&e->demux, key);
	struct sock *s = f ? container_of(f, struct sock, flow) : NULL;
	if (s && s->listener && !s->accepted && tcp_state(&s->tcp) == TCPS_SYN_RECEIVED)
		sock_retire(e, s);
}

void exceptions_take_given(struct engine *e)
{
	struct taking t = {.visit.each = take_given, .e = e};
	if (e->classifier && classifier_has_given(e->classifier))
		classifier_visit_given(e->classifier, &t.visit);
}

void exception_add_for_stranger(struct engine *e, const struct flow_key *key)
{
	if (e->exceptions.count < STRANGERS_MAX)
		exception_add(e, key);
}

static void exception_remove(struct engine *e, struct exception *x)
{
	if (x->in_group)
		parting_add(e, &x->flow.key, PARTING_GROUP);
	if (x->in_set)
		classifier_del_exception(e->classifier, &x->flow.key);
	demux_remove(&e->exceptions, &x->flow);
	list_unlink(&x->node);
	engine_free(e, x, sizeof *x);
}

/*
 * A group's programs choose a member without asking for its exceptions. So a SYN may come here of a connection that the
 * kernel had, and nobody else would answer it: all obey the entry. An entry of the group that says "the kernel's" keeps
 * such SYNs away: who comes in spite of it was in the ring before. So was who comes in spite of an exception where this
 * process serves alone. Where the kernel has the connection still, its client has lost it: the SYN's repetition is the
 * kernel's, by an entry of the group, and it asks that client as RFC 5961 has it.
 */
bool exception_holds(struct engine *e, const struct flow_key *key, int ifindex)
{
	struct exception *x = e->exceptions.count ? find(e, key) : NULL;
	if (!x)
		return false;
	if (x->in_group || !e->n_shared_claims || !classifier_is_exact(e->classifier) || !budget_take(&e->answers, e->now, &key->raddr))
		return true;
	if (e->diag_fd <= 0)
		e->diag_fd = diag_open();
	int r = e->diag_fd < 0 ? e->diag_fd : diag_end_time_wait(e->diag_fd, key, ifindex);
	if (r < 0 && e->diag_fd > 0) { /* answers may be left in it */
		fd_close(e->diag_fd);
		e->diag_fd = 0;
	}
	if (r > 0)
		exception_remove(e, x);
	else if (r == 0)
		x->in_group = process_ops->flow_is_kernels(e, key);
	return r <= 0;
}

struct sweep {
	struct diag_visit visit;
	struct engine *e;
};

static void still_there(struct diag_visit *v, const struct diag_socket *s)
{
	struct flow *f = demux_find(&container_of(v, struct sweep, visit)->e->exceptions, &s->key);
	if (f)
		container_of(f, struct exception, flow)->kernel_has = true;
}

/* Everything on one port, from the first entry of the list that has it. -errno: the kernel did not answer, all stay. */
static int sweep_port(struct engine *e, uint16_t port, unsigned *gone)
{
	struct sweep s = {.visit.socket = still_there, .e = e};
	int err = diag_dump_port(port, &s.visit);
	struct list kept;
	list_init(&kept);
	list_for_each (pos, tmp, &e->exception_list) {
		struct exception *x = container_of(pos, struct exception, node);
		if (x->flow.key.lport != port)
			continue;
		if (!err && !x->kernel_has) {
			exception_remove(e, x);
			++*gone;
			continue;
		}
		x->kernel_has = false;
		list_unlink(pos);
		list_push_back(&kept, pos);
	}
	for (struct list *pos; (pos = list_first(&kept));) {
		list_unlink(pos);
		list_push_back(&e->swept, pos);
	}
	return err;
}

void exceptions_sweep(struct engine *e)
{
	unsigned gone = 0;
	if (list_empty(&e->exception_list) || e->now < e->sweep_us)
		return;
	list_init(&e->swept);
	for (struct list *pos; (pos = list_first(&e->exception_list));)
		sweep_port(e, container_of(pos, struct exception, node)->flow.key.lport, &gone);
	for (struct list *pos; (pos = list_first(&e->swept));) {
		list_unlink(pos);
		list_push_back(&e->exception_list, pos);
	}
	e->sweep_us = e->now + SWEEP_INTERVAL_US;
	if (gone)
		log_debug("exceptions", "%u connections that the kernel had are over", gone);
}

int64_t exceptions_deadline(const struct engine *e)
{
	return list_empty(&e->exception_list) ? TIME_NEVER : e->sweep_us;
}
