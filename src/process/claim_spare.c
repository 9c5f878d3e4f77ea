/* Moves connections that nobody here will accept to the spare queue: each becomes a kernel socket, which whoever accepts next gets. */
#include "process/claim.h"

#include "base/log.h"
#include "base/sys.h"

/* Who ends while it waits is reset, as the kernel does with what nobody accepted, not closed in order. claim_spare_taken undoes it. */
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
