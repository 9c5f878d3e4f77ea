/*
 * Claims where processes part: fork, and listeners that go to another process by exec or by a message.
 *
 * A process that listens and forks before it ever accepts stands down: its port is the kernel's until somebody wants to
 * accept, who then claims it. For it cannot be known which of the two will, and the kernel's queue is everybody's. One
 * that has accepted keeps the port, and whoever else accepts joins it.
 */
#include "process/claim.h"
#include "socket/listener.h"
#include "process/broker.h"
#include "process/spare_exec.h"

static bool may_stand_down(const struct claim *c)
{
	return c->group.state == GROUP_ALONE && c->taken && !claim_is_used(c) && !c->group.refuses;
}

/*
 * What comes meanwhile is not lost. Of what had come before the kernel had the port, SYNs are answered here, and of
 * what came before it had a connection, each segment is given to it (socket/input.c): this process may end at once.
 */
static void stand_down(struct claim *c)
{
	claim_gives_back(c);
	turn_frames(c->e);
	list_for_each (at, next, &c->listeners) {
		struct sock *l = container_of(at, struct listener, claim_node)->owner;
		l->lst->from_elsewhere = l->lst->asleep = true; /* it will not be ours alone */
		listener_requeue(c->e, l->lst); /* where any child finds them, however it accepts */
		claim_moves_queue(c->e, l);
		listener_release(c->e, l);
	}
	turn_frames(c->e);
}

static void asleep_are_shared(struct claim *c)
{
	list_for_each (pos, tmp, &c->listeners) {
		struct listener *lst = container_of(pos, struct listener, claim_node);
		lst->from_elsewhere |= lst->asleep;
	}
}

void claim_before_fork(struct engine *e)
{
	list_for_each (pos, tmp, &e->claims) {
		struct claim *c = container_of(pos, struct claim, node);
		if (list_empty(&c->listeners))
			continue;
		group_spare_make(&c->group);
		if (may_stand_down(c))
			stand_down(c);
		asleep_are_shared(c);
	}
	if (list_empty(&e->draining))
		requeue_end(e); /* before a child has it, too */
}

void claim_shares(struct engine *e, struct sock *l)
{
	struct claim *c = l->lst->claim;
	if (!c)
		return;
	l->lst->from_elsewhere = true;
	if (group_spare_make(&c->group) == 0)
		broker_client_passes(l->lst->kfd, c->group.spare);
	if (c->group.state == GROUP_OUT) {
		if (!l->lst->asleep) /* tells who serves it */
			group_enter(&c->group, NULL, l->lst->kfd);
		return;
	}
	if (may_stand_down(c))
		stand_down(c);
	else if (!e->own && !c->group.refuses && group_begin(&c->group)) /* it cannot be watched who accepts: the kernel's queue is everybody's */
		c->host.gives_up(&c->host);
}

void claim_passes(struct engine *e, struct sock *l)
{
	struct claim *c = l->lst->claim;
	if (!c)
		return;
	if (l->kind == SOCK_KIND_LISTENER && group_spare_make(&c->group) == 0)
		l->lst->from_elsewhere = true; /* whoever is executed accepts from it */
	spare_exec_pass(&c->group);
	(void)e;
}

void claim_after_fork(struct engine *e)
{
	list_for_each (pos, tmp, &e->claims) {
		struct claim *c = container_of(pos, struct claim, node);
		group_after_fork(&c->group);
		claim_deferred_after_fork(c);
		c->watched = c->taken = c->accepting = c->lately = false;
		c->n_conns = c->n_waiting = 0;
		c->tw_until_us = 0;
		claim_end_if_over(c);
	}
	e->n_shared_claims = 0;
	e->claims_changed = false;
	e->claims_us = TIME_NEVER;
}
