/*
 * Connections that TCP_DEFER_ACCEPT holds back, when the process that has them ends, and others accept from the same
 * socket.
 *
 * In Linux they are the listening socket's, and wait there for their clients to speak, whoever closes it. A process
 * that accepts them early has clients on its hands that say nothing: servers wait for those before they end. So the
 * process that ends makes kernel sockets of them, and puts them into the spare queue, the other way round: nobody who
 * accepts sees them there. A process that accepts takes and holds them, and its helper watches them. Once the client
 * has spoken, or closed, or the time is over, the connection goes to the spare queue proper, where whoever accepts next
 * has it. Who ends while it holds some leaves them to the next one.
 *
 * Owns the connections in claim.held, and a duplicate of the queue's end, since the queue's own descriptor may be
 * replaced (group.c).
 */
#include "process/claim.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"

#include <errno.h>
#include <sys/epoll.h>

#define HELD_MAX 128 /* by a process: each costs a descriptor. One more is accepted early */

struct held {
	struct list node; /* claim.held */
	struct control client;
	struct claim *claim;
	int64_t until_us;
};

void claim_deferred_init(struct claim *c)
{
	list_init(&c->held);
	c->deferrals.fd = DEFERRALS_NOT_YET;
}

/* ---- one that is held ---- */

static void held_free(struct held *h)
{
	struct claim *c = h->claim;
	control_del(c->e, &h->client);
	fd_close(h->client.fd);
	list_unlink(&h->node);
	c->n_held--;
	c->e->claims_changed = true; /* the claim may be over */
	engine_free(c->e, h, sizeof *h);
}

static void to_accept(struct claim *c, int fd)
{
	if (group_spare_give(&c->group, fd))
		log_info("group", "a connection whose client had not spoken was lost: the spare queue is full");
}

static void client_speaks(struct engine *e, struct control *client)
{
	struct held *h = container_of(client, struct held, client);
	char byte;
	ssize_t n = sys_recvfrom(client->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
	(void)e;
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n >= 0) /* otherwise the client has reset it: nobody hears of that */
		to_accept(h->claim, client->fd);
	held_free(h);
}

static int hold(struct claim *c, int fd, int64_t until_us)
{
	struct held *h = c->n_held < HELD_MAX ? engine_alloc(c->e, sizeof *h) : NULL;
	if (!h)
		return -ENOMEM;
	*h = (struct held){.client.ready = client_speaks, .claim = c, .until_us = until_us};
	list_init(&h->node);
	int err = control_add(c->e, &h->client, fd, EPOLLIN);
	if (err) {
		engine_free(c->e, h, sizeof *h);
		return err;
	}
	list_push_back(&c->held, &h->node);
	c->n_held++;
	c->e->claims_changed = true; /* its deadline */
	return 0;
}

int64_t claim_deferred_deadline(const struct claim *c)
{
	int64_t at = TIME_NEVER;
	list_for_each (pos, tmp, &c->held)
		at = min_time(at, container_of(pos, struct held, node)->until_us);
	return at;
}

void claim_deferred_expire(struct claim *c)
{
	list_for_each (pos, tmp, &c->held) {
		struct held *h = container_of(pos, struct held, node);
		if (h->until_us > c->e->now)
			continue;
		to_accept(c, h->client.fd);
		held_free(h);
	}
}

/* ---- between processes ---- */

static void others_leave(struct engine *e, struct control *deferrals)
{
	struct claim *c = container_of(deferrals, struct claim, deferrals);
	int64_t until_us;
	int fd = group_spare_take_deferred(deferrals->fd, &until_us);
	if (fd < 0)
		return; /* another process was quicker */
	int err = hold(c, fd, until_us);
	if (!err)
		return;
	to_accept(c, fd);
	fd_close(fd);
	(void)e;
}

void claim_deferred_follows(struct claim *c)
{
	int fd = helper_start(c->e) ? -1 : fd_copy_high(c->group.spare[0]);
	c->deferrals.ready = others_leave;
	if (fd >= 0 && control_add(c->e, &c->deferrals, fd, EPOLLIN) == 0)
		return;
	fd_close(fd);
	c->deferrals.fd = DEFERRALS_NEVER;
}

void claim_deferred_stops(struct claim *c)
{
	if (c->deferrals.fd < 0)
		return;
	control_del(c->e, &c->deferrals);
	fd_close(c->deferrals.fd);
	c->deferrals.fd = DEFERRALS_NOT_YET;
}

/* Who has no engine has perhaps no helper either, that would see the client speak: it accepts early. */
static void leave(struct claim *c, int fd, int64_t until_us)
{
	if (c->has_engineless || group_spare_defer(&c->group, fd, until_us))
		to_accept(c, fd);
}

void claim_deferred_leaves(struct claim *c)
{
	claim_deferred_stops(c);
	list_for_each (pos, tmp, &c->held) {
		struct held *h = container_of(pos, struct held, node);
		leave(c, h->client.fd, h->until_us);
		held_free(h);
	}
}

/* They are the parent's. */
void claim_deferred_after_fork(struct claim *c)
{
	fd_close(c->deferrals.fd);
	c->deferrals.fd = DEFERRALS_NOT_YET;
	list_for_each (pos, tmp, &c->held) {
		struct held *h = container_of(pos, struct held, node);
		fd_close(h->client.fd);
		list_unlink(pos);
		engine_free(c->e, h, sizeof *h);
	}
	c->n_held = 0;
}

void claim_moves_deferred(struct engine *e, struct sock *l)
{
	struct listener *lst = l->lst;
	if (!lst->claim || lst->claim->group.spare[0] < 0)
		return;
	list_for_each (pos, tmp, &lst->deferred) {
		struct sock *s = container_of(pos, struct sock, defer_node);
		int64_t until_us = s->defer_until_us;
		int fd = conn_handover(e, s, NULL);
		if (fd < 0)
			continue;
		claim_spare_resets(fd);
		leave(lst->claim, fd, until_us);
		sys_close(fd);
	}
}
