/*
 * Moves connections that nobody here will accept to the spare queue: each becomes a kernel socket, which whoever
 * accepts next gets. Once nobody can, they are reset.
 */
#include "process/claim.h"

#include "base/log.h"
#include "base/sys.h"
#include "kernel/diag.h"

#define LOOK_US     USEC_PER_MSEC /* after the last listener was closed: the program's own descriptor goes a moment later; doubled each time */
#define LOOK_MAX_US USEC_PER_SEC

/*
 * Who ends while it waits is reset, as the kernel does with what nobody accepted, not closed in order.
 * claim_spare_taken undoes it.
 */
void claim_spare_resets(int fd)
{
	struct linger at_once = {1, 0};
	sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

void claim_spare_taken(int fd, int kfd)
{
	struct linger inherited = {0};
	socklen_t len = sizeof inherited;
	sys_getsockopt(kfd, SOL_SOCKET, SO_LINGER, &inherited, &len);
	sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &inherited, sizeof inherited);
}

/* False: it stays where it is. */
static bool move_one(struct engine *e, struct group *g, struct sock *s)
{
	if (!s->live) /* its peer has reset it meanwhile */
		return true;
	int fd = conn_handover(e, s, NULL);
	if (fd < 0)
		return false;
	claim_spare_resets(fd);
	int err = group_spare_give(g, fd);
	sys_close(fd);
	if (err)
		log_info("group", "a connection that waited for accept was lost: the spare queue is full (errno %d)", -err);
	return true;
}

void claim_moves_queue(struct engine *e, struct sock *l)
{
	struct listener *lst = l->lst;
	if (!lst->claim || lst->claim->group.spare[0] < 0)
		return;
	for (struct list *pos; (pos = list_first(&lst->accept_queue));) {
		struct sock *s = container_of(pos, struct sock, accept_node);
		if (!move_one(e, &lst->claim->group, s))
			return;
		list_unlink(&s->accept_node);
		s->listener = NULL;
		lst->n_accept--;
		sock_put(e, s); /* the queue's */
	}
	if (claim_is_shared(lst->claim))
		claim_shows(lst->claim);
}

/* ---- when nobody listens any more ---- */

static bool listens(const struct claim *c)
{
	list_for_each (pos, tmp, &c->listeners)
		if (container_of(pos, struct listener, claim_node)->kfd >= 0)
			return true;
	return false;
}

struct listened {
	struct diag_visit visit;
	const struct ip_addr *addr;
	bool found;
};

static void compare(struct diag_visit *v, const struct diag_socket *s)
{
	struct listened *l = container_of(v, struct listened, visit);
	l->found |= ip_addr_equal(&s->key.laddr, l->addr);
}

/* Of whatever process. True also where the kernel does not say. */
static bool is_listened_at(const struct group_place *p)
{
	struct listened l = {.visit.socket = compare, .addr = &p->addr};
	return diag_dump_listeners(p->port, &l.visit) || l.found;
}

void claim_spare_looks(struct claim *c)
{
	int64_t now = c->e->now;
	if (c->group.spare[1] < 0 || listens(c)) {
		c->spare_us = TIME_NEVER;
		return;
	}
	if (c->spare_us == TIME_NEVER)
		c->spare_after_us = LOOK_US;
	else if (now < c->spare_us)
		return;
	else if (group_spare_has_any(&c->group) && !is_listened_at(&c->group.place))
		group_spare_empty(&c->group);
	c->spare_us = now + c->spare_after_us;
	c->spare_after_us = min_time(2 * c->spare_after_us, LOOK_MAX_US);
}
