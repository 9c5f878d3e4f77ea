/*
 * What a group asks of the port that it is about: who is one of its processes, and what the beginning of sharing means
 * to connections that are there.
 */
#include "process/claim.h"
#include "socket/listener.h"

#include "base/log.h"
#include "base/sockopt.h"
#include "base/sys.h"

#include <errno.h>

#ifndef SO_INCOMING_CPU
#define SO_INCOMING_CPU 49
#endif
#define REST_US USEC_PER_SEC /* frames from before the group are out of the ring by then */

static struct claim *claim_of(struct group_host *h)
{
	return container_of(h, struct claim, host);
}

/* A listening socket of this place, in this namespace. */
static bool listens_here(struct claim *c, int fd)
{
	struct group_place p = {0};
	if (!kernel_int(fd, SOL_SOCKET, SO_ACCEPTCONN) || name_of_kernel(fd, &p.addr, &p.port, &p.family) || engine_refuses(c->e, fd))
		return false;
	p.v6only = kernel_v6only(fd, p.family);
	return group_place_equal(&p, &c->group.place);
}

static bool admits(struct group_host *h, int fd)
{
	struct claim *c = claim_of(h);
	bool reuseport = kernel_int(fd, SOL_SOCKET, SO_REUSEPORT), open = false;
	uint64_t cookie = sockopt_cookie(fd);
	if (c->e->own || !listens_here(c, fd)) /* of an own address no kernel hands each frame to one member */
		return false;
	list_for_each (pos, tmp, &c->listeners) {
		int mine = container_of(pos, struct listener, claim_node)->kfd;
		if (mine < 0) /* closed, and drains */
			continue;
		if (sockopt_cookie(mine) == cookie || (reuseport && kernel_int(mine, SOL_SOCKET, SO_REUSEPORT)))
			return true;
		open = true;
	}
	return !open; /* nobody listens here any more: the kernel let the other one bind */
}

static int flows_enter(struct claim *c)
{
	struct engine *e = c->e;
	int err = 0;
	list_for_each (pos, tmp, &e->socks) {
		struct sock *s = container_of(pos, struct sock, node);
		if (s->kind != SOCK_KIND_CONN || !s->in_demux || s->claim != c)
			continue;
		err = classifier_group_add_flow(c->group.maps, &s->flow.key);
		if (err)
			return err;
		s->in_group = true;
	}
	return 0;
}

static void enter_time_wait(struct time_wait_visit *v, const struct flow_key *key)
{
	/* no room: the kernel answers with RST, as without TIME-WAIT */
	classifier_group_add_flow(container_of(v, struct claim, tw_visit)->group.maps, key);
}

static int judge_attach_all(struct claim *c)
{
	int err = 0;
	list_for_each (pos, tmp, &c->listeners) {
		const struct listener *lst = container_of(pos, struct listener, claim_node);
		if (lst->claimed && !err)
			err = classifier_group_attach_judge(c->group.maps, lst->kfd);
	}
	return err;
}

static int begins(struct group_host *h)
{
	struct claim *c = claim_of(h);
	struct engine *e = c->e;
	int err = flows_enter(c);
	if (!err && e->judged)
		err = judge_attach_all(c);
	if (!err && c->taken) {
		c->tw_visit.each = enter_time_wait;
		time_waits_enter_group(e, c->group.place.port, &c->tw_visit);
		err = classifier_group_convert_listener(c->group.maps, listener_classifier_name(&c->group.place.addr, c->group.place.v6only), c->group.place.port);
	}
	if (err)
		return err;
	e->n_shared_claims++;
	c->add_until_us = clock_now_us() + REST_US; /* the turn may have begun long ago: this process was stopped */
	c->accepting = c->waiting = c->lately = false;
	claim_shows(c);
	log_info("group", "port %u is served by several processes", c->group.place.port);
	return 0;
}

/*
 * The mark: on the listening socket itself, which all who have it see, and which lives as long as it. No engine may
 * serve it alone any more. It is a value of SO_INCOMING_CPU, which means nothing on a listener of no kernel group.
 */
#define SHARED_MARK 0x66696e65 /* no CPU's number */

bool claim_is_marked(const struct listener *lst)
{
	return kernel_int(lst->kfd, SOL_SOCKET, SO_INCOMING_CPU) == SHARED_MARK;
}

static void mark(const struct listener *lst)
{
	int value = SHARED_MARK;
	int err = kernel_int(lst->kfd, SOL_SOCKET, SO_REUSEPORT) ? 0 : sys_setsockopt(lst->kfd, SOL_SOCKET, SO_INCOMING_CPU, &value, sizeof value);
	if (err)
		log_warn("claim", "a shared listener could not be marked (errno %d)", -err);
}

static void gives_up(struct group_host *h)
{
	struct claim *c = claim_of(h);
	list_for_each (pos, tmp, &c->listeners) {
		struct listener *lst = container_of(pos, struct listener, claim_node);
		if (lst->kfd < 0)
			continue;
		mark(lst);
		listener_release(c->e, lst->owner);
		listener_note_fallback(lst->owner, -EADDRINUSE);
	}
}

static void attends(struct group_host *h)
{
	struct engine *e = claim_of(h)->e;
	list_for_each (pos, tmp, &e->claims)
		group_serve(&container_of(pos, struct claim, node)->group);
}

void claim_serves(struct engine *e, struct control *door)
{
	(void)e;
	group_serve(&container_of(door, struct claim, door)->group);
}

static void has_spare(struct group_host *h)
{
	struct claim *c = claim_of(h);
	list_for_each (pos, tmp, &c->listeners)
		listener_watch_too(c->e, container_of(pos, struct listener, claim_node)->owner, c->group.spare[1]);
}

/*
 * Nobody sees when he waits. So what waits here is given away whenever nobody of this process comes for it; now, if
 * nobody waits.
 */
static void has_engineless(struct group_host *h)
{
	struct claim *c = claim_of(h);
	c->has_engineless = true;
	list_for_each (pos, tmp, &c->listeners) {
		struct listener *lst = container_of(pos, struct listener, claim_node);
		if (lst->n_accept && !lst->n_waiting)
			claim_moves_queue(c->e, lst->owner);
	}
	c->e->claims_changed = true;
}

const struct group_host claim_host = {
	.admits = admits,
	.begins = begins,
	.gives_up = gives_up,
	.attends = attends,
	.has_spare = has_spare,
	.has_engineless = has_engineless,
};
