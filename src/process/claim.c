/*
 * The claim of a listening port: how listeners, their connections, and the group of the processes that serve the port
 * hang together.
 *
 * A process that listens claims the port (group.c). As long as nobody else does, the classifier gives it all frames of
 * the port, and a connection's end costs nothing. When a second process joins, the connections that are there get
 * entries in the group's table of flows, and from then on each frame is decided by that. The entry of a connection goes
 * PARTING_US after its end (socket/parting.c), or with its TIME-WAIT.
 *
 * Who is accepting. SYNs should go where somebody accepts. A process counts as accepting while a thread of it waits, in
 * accept, poll or an epoll set, or did so less than LEASE_US ago. When nobody is, they go to one that did less than
 * LATELY_US ago: all are busy, and he is soon done. When there is none either, SYNs go to the kernel's queue, which all
 * share: so a master that only watches its workers, or a worker that computes, keeps no client waiting.
 *
 * What waits for accept in a process that has not come for it for LEASE_US is given to the others when one of them
 * waits. After LATELY_US it is theirs anyway, for they may be so busy that nobody is ever seen to wait.
 *
 * A process that listens and forks before it ever accepts stands down (claim_fork.c): its port is the kernel's until
 * somebody wants to accept, who then claims it. So do listeners that were inherited by fork (fork.c). Where no
 * connection can be handed to the kernel, every listener begins so. A listener that is closed while others may accept
 * from the same socket gives what waits to the spare queue; its half-open connections go on, and go there, too, once
 * they are established.
 */
#include "process/claim.h"
#include "socket/leaving.h"
#include "socket/process_ops.h"
#include "socket/listener.h"
#include "process/broker.h"
#include "process/spare_exec.h"

#include "base/log.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>

#define LEASE_US      (20 * USEC_PER_MSEC)
#define LATELY_US     (100 * USEC_PER_MSEC)
#define LOOK_US       (100 * USEC_PER_MSEC) /* between two looks for dead members */
#define SYN_LOOK_US   (10 * USEC_PER_MSEC)  /* … where a SYN may be a dead one's. Of 63 others, a look takes 150 µs */
#define RETRY_US      USEC_PER_SEC /* when nobody answered who wants to join; doubled each time */
#define RETRY_MAX_US  (4 * USEC_PER_SEC)

/* ---- life ---- */

/* The claim of a place, made if need be; NULL: no memory. */
static struct claim *claim_get(struct engine *e, const struct group_place *place)
{
	list_for_each (pos, tmp, &e->claims) {
		struct claim *c = container_of(pos, struct claim, node);
		if (group_place_equal(&c->group.place, place))
			return c;
	}
	struct claim *c = engine_alloc(e, sizeof *c);
	if (!c)
		return NULL;
	c->e = e;
	c->host = claim_host;
	c->door.ready = claim_serves;
	c->spare_us = TIME_NEVER;
	list_init(&c->listeners);
	claim_deferred_init(c);
	group_init(&c->group, &c->host, place);
	spare_exec_find(&c->group);
	list_push_back(&e->claims, &c->node);
	return c;
}

static const struct ip_addr *classifier_name(const struct claim *c)
{
	return listener_classifier_name(&c->group.place.addr, c->group.place.v6only);
}

static int classifier_takes(struct claim *c)
{
	int err = claim_is_shared(c) ? classifier_group_add_listener(c->group.maps, classifier_name(c), c->group.place.port)
				     : classifier_add_listener(c->e->classifier, classifier_name(c), c->group.place.port);
	c->taken = err == 0;
	return err;
}

/* Does the classifier keep nothing from the kernel that this engine answers? */
static bool answers_nothing(const struct engine *e)
{
	list_for_each (pos, tmp, &e->claims)
		if (container_of(pos, struct claim, node)->taken)
			return false;
	return !e->n_conns;
}

/*
 * Who gave its privilege away cannot take a listener back from nftables, and the kernel, whose port it is now, would
 * not see a SYN.
 */
static void classifier_gives_back(struct claim *c)
{
	if (!c->taken)
		return;
	int err = 0;
	if (claim_is_shared(c))
		classifier_group_del_listener(c->group.maps, classifier_name(c), c->group.place.port);
	else
		err = classifier_del_listener(c->e->classifier, classifier_name(c), c->group.place.port);
	c->taken = false;
	if (err == -EPERM && answers_nothing(c->e))
		classifier_let_go(c->e->classifier);
}

void claim_gives_back(struct claim *c)
{
	if (c->taken)
		listener_keep_connections(c->e, c->group.place.port);
	classifier_gives_back(c);
}

static void claim_leave(struct claim *c)
{
	classifier_gives_back(c);
	if (c->watched)
		control_del(c->e, &c->door);
	c->watched = c->accepting = c->lately = false;
	c->e->n_shared_claims -= claim_is_shared(c);
	group_leave(&c->group);
}

static int claim_enter(struct claim *c, int kfd)
{
	if (c->group.state != GROUP_OUT)
		return c->group.refuses ? -EADDRINUSE : 0;
	int err = group_enter(&c->group, c->e->classifier, kfd);
	if (c->group.in_vain) {
		c->retry_after_us = c->retry_after_us ? min_time(2 * c->retry_after_us, RETRY_MAX_US) : RETRY_US;
		c->retry_us = clock_now_us() + c->retry_after_us;
		c->e->claims_changed = true;
	}
	if (err)
		return err;
	c->retry_after_us = 0;
	c->e->n_shared_claims += claim_is_shared(c);
	err = control_add(c->e, &c->door, c->group.door_fd, POLLIN);
	c->watched = !err;
	if (err)
		claim_leave(c);
	return err;
}

/* No connection is left of it, and no listener. */
void claim_end_if_over(struct claim *c)
{
	bool held = !list_empty(&c->listeners) || c->n_conns || c->n_held || c->e->now < c->tw_until_us;
	if (held)
		return;
	claim_deferred_stops(c);
	claim_leave(c);
	group_fini(&c->group);
	list_unlink(&c->node);
	engine_free(c->e, c, sizeof *c);
}

/* ---- listeners ---- */

static void attach(struct claim *c, struct listener *lst)
{
	if (lst->claim == c)
		return;
	lst->claim = c;
	list_push_back(&c->listeners, &lst->claim_node);
	if (c->group.spare[1] >= 0)
		listener_watch_too(c->e, lst->owner, c->group.spare[1]);
}

static int silence(struct claim *c, const struct sock *l, enum silence_begin how)
{
	return classifier_silence(c->e->classifier, l->lst->kfd, classifier_name(c), c->group.place.port, how);
}

/*
 * Of several sockets of one port (SO_REUSEPORT) the kernel may answer at any: those that this process has, and does not
 * use, are as silent as the one that it does.
 */
static void silence_others(struct claim *c, const struct sock *l, bool on, enum silence_end how)
{
	list_for_each (pos, tmp, &c->listeners) {
		struct listener *lst = container_of(pos, struct listener, claim_node);
		if (lst->owner == l || lst->claimed || lst->kernels || lst->kfd < 0)
			continue;
		classifier_end_silence(c->e->classifier, lst->kfd, how);
		if (on && silence(c, lst->owner, SILENCE_ALL))
			log_warn("claim", "port %u: a socket that is not used answers", c->group.place.port);
	}
}

/* It came by SCM_RIGHTS, and who passed it may be gone: what waits for accept is not. */
static void find_spare(struct claim *c, const struct listener *lst)
{
	if (!lst->candidate.adopted || c->group.spare[0] >= 0 || broker_client_spare(lst->kfd, c->group.spare) < 0)
		return;
	c->host.has_spare(&c->host);
}

static int claim_take(struct engine *e, struct sock *l)
{
	struct group_place place = claim_place(l);
	struct claim *c = claim_get(e, &place);
	if (!c)
		return -ENOMEM;
	broker_client_mark();
	attach(c, l->lst);
	bool was_out = c->group.state == GROUP_OUT;
	int err = claim_is_marked(l->lst) ? -EADDRINUSE : claim_enter(c, l->lst->kfd);
	/* Nobody had the port: what is half open there is the kernel's. */
	bool was_kernels = was_out && c->group.state == GROUP_ALONE;
	find_spare(c, l->lst);
	if (!err)
		err = silence(c, l, was_kernels ? SILENCE_SYNS : SILENCE_ALL);
	if (!err && claim_is_shared(c)) {
		err = judged_attach(e, l);
		if (err)
			claim_leave(c);
	}
	if (!err && !c->taken) {
		err = classifier_takes(c);
		if (!err)
			silence_others(c, l, true, SILENCE_GOES_ON);
		if (!err && (!claim_is_shared(c) || classifier_group_decides_here(c->group.maps)))
			err = listener_except_kernels(e, l->lst);
		if (!err && was_kernels)
			err = silence(c, l, SILENCE_ALL);
		if (err)
			claim_leave(c);
	}
	if (!err && claim_is_shared(c))
		claim_shows(c);
	if (!err)
		ifaces_watch_rings(e);
	return err;
}

static void release(struct engine *e, struct sock *l)
{
	struct claim *c = l->lst->claim;
	if (!c)
		return;
	c->group.others_serve = true; /* this engine, by another listener */
	list_for_each (pos, tmp, &c->listeners)
		if (container_of(pos, struct listener, claim_node)->claimed)
			return;
	c->group.others_serve = false;
	if (!claim_is_shared(c)) {
		if (c->taken)
			listener_keep_connections(e, c->group.place.port);
		classifier_gives_back(c);
	}
	if (claim_is_shared(c)) {
		if (classifier_group_decides_here(c->group.maps)) /* the kernel stays silent to them */
			listener_keep_connections(e, c->group.place.port);
		claim_shows(c);
		group_bury_dead(&c->group);
		c->group.others_serve = classifier_group_has_others(c->group.maps) || c->n_conns;
		if (!c->e->exiting)
			time_waits_leave_group(e, c->group.place.port);
	}
	silence_others(c, l, false, c->group.others_serve ? SILENCE_GOES_ON : SILENCE_ENDS);
	if (!c->n_conns && !c->group.refuses && !claim_is_shared(c)) /* nobody needs to know of us */
		claim_leave(c);
}

/* New SYNs go to others, or to the kernel's queue, which whoever accepts next has. */
static void stops(struct engine *e, struct sock *l)
{
	struct claim *c = l->lst->claim;
	l->lst->closing = e->claims_changed = true;
	if (!c)
		return;
	if (claim_is_shared(c)) {
		claim_shows(c);
		return;
	}
	list_for_each (pos, tmp, &c->listeners) {
		const struct listener *lst = container_of(pos, struct listener, claim_node);
		if (lst->claimed && !lst->closing)
			return;
	}
	claim_gives_back(c);
}

static void detach(struct engine *e, struct sock *l)
{
	struct claim *c = l->lst->claim;
	if (!c)
		return;
	c->n_waiting -= l->lst->n_waiting;
	l->lst->n_waiting = 0;
	list_unlink(&l->lst->claim_node);
	l->lst->claim = NULL;
	if (list_empty(&c->listeners))
		claim_deferred_stops(c);
	e->claims_changed = true; /* who looks after the spare queue now? */
	claim_end_if_over(c);
}

static bool is_shared(const struct sock *l)
{
	return l->lst->claim && claim_is_shared(l->lst->claim);
}

static bool member(const struct sock *l, unsigned slot, struct classifier_member *out)
{
	return is_shared(l) && classifier_group_member(l->lst->claim->group.maps, slot, out);
}

static bool has_engineless(const struct sock *l)
{
	return l->lst->claim && l->lst->claim->has_engineless;
}

static bool others_serve(const struct sock *l)
{
	return l->lst->claim && l->lst->claim->group.others_serve;
}

static int attach_judge(const struct sock *l)
{
	return classifier_group_attach_judge(l->lst->claim->group.maps, l->lst->kfd);
}

/* May others accept from the listening socket? Then what waits here is theirs. */
static bool has_others(const struct sock *l)
{
	const struct claim *c = l->lst->claim;
	return c && c->group.spare[0] >= 0 && (l->child_refs || l->lst->from_elsewhere || claim_is_shared(c));
}

/* ---- who accepts ---- */

static bool used_within(const struct listener *lst, int64_t now, int64_t us)
{
	return lst->n_waiting || (lst->seen_us && now - lst->seen_us < us);
}

static bool in_use(const struct listener *lst, int64_t now)
{
	return used_within(lst, now, LEASE_US);
}

/* Somebody has accepted here, or waited. */
bool claim_is_used(const struct claim *c)
{
	list_for_each (pos, tmp, &c->listeners)
		if (container_of(pos, struct listener, claim_node)->seen_us)
			return true;
	return false;
}

/* Who had the port did not answer (it may be stopped): claim_tick tries again. */
static bool waits_for_another_try(const struct claim *c)
{
	return c && c->group.in_vain && c->retry_us != TIME_NEVER;
}

static void wakes(struct engine *e, struct sock *l)
{
	bool again = l->lst->claim && l->lst->claim->group.in_vain;
	l->lst->asleep = false;
	int err = listener_claim(e, l);
	if (err && !again)
		listener_note_fallback(l, err);
}

static void comes_by(struct engine *e, struct sock *l)
{
	if (l->lst->asleep && !waits_for_another_try(l->lst->claim))
		wakes(e, l);
	struct claim *c = l->lst->claim;
	if (!c)
		return;
	bool first = !l->lst->seen_us;
	l->lst->seen_us = e->now;
	if (first)
		listener_is_used(e, l);
	if (c->deferrals.fd == DEFERRALS_NOT_YET && l->lst->defer_us && c->group.spare[0] >= 0)
		claim_deferred_follows(c);
	if (claim_is_shared(c) && !c->accepting)
		claim_shows(c);
}

static void waits(struct engine *e, struct sock *l, int by)
{
	struct listener *lst = l->lst;
	if (!lst)
		return;
	comes_by(e, l);
	if (!lst->claim)
		return;
	lst->n_waiting += by;
	lst->claim->n_waiting += by;
	if (claim_is_shared(lst->claim))
		claim_shows(lst->claim);
}

static void queue_changed(struct engine *e, struct sock *l)
{
	struct claim *c = l->lst->claim;
	if (c && claim_is_shared(c))
		claim_shows(c);
	if (l->lst->asleep) /* a handshake from before ended */
		e->claims_changed = true;
}

void claim_shows(struct claim *c)
{
	unsigned queue = 0;
	bool accepting = false, lately = false, serving = false;
	list_for_each (pos, tmp, &c->listeners) {
		struct listener *lst = container_of(pos, struct listener, claim_node);
		queue += lst->n_accept + lst->n_embryonic;
		if (!lst->claimed || lst->closing)
			continue;
		serving = true;
		accepting |= in_use(lst, c->e->now);
		lately |= used_within(lst, c->e->now, LATELY_US);
	}
	classifier_group_set_queue(c->group.maps, queue);
	classifier_group_set_serving(c->group.maps, serving);
	if (accepting != c->accepting) {
		classifier_group_set_accepting(c->group.maps, accepting);
		c->waiting = false;
	}
	c->accepting = accepting;
	if (lately != c->lately)
		classifier_group_set_lately(c->group.maps, lately);
	c->lately = lately;
	if (accepting && c->waiting != (c->n_waiting > 0)) {
		c->waiting = c->n_waiting > 0;
		classifier_group_set_waiting(c->group.maps, c->waiting);
	}
}

/* ---- in each turn ---- */

/* Connections wait for accept, and nobody comes for them. */
static bool is_left(const struct claim *c, const struct listener *lst)
{
	return lst->n_accept && !in_use(lst, c->e->now);
}

/* What waits here while this process is busy, and others wait for work, or may have done so unseen: it is theirs. */
static void help_out(struct claim *c)
{
	bool now = c->has_engineless || classifier_group_others_waiting(c->group.maps), later = now || classifier_group_has_others(c->group.maps);
	list_for_each (pos, tmp, &c->listeners) {
		struct listener *lst = container_of(pos, struct listener, claim_node);
		if (is_left(c, lst) && (used_within(lst, c->e->now, LATELY_US) ? now : later))
			claim_moves_queue(c->e, lst->owner);
	}
}

static bool has_left(const struct claim *c)
{
	list_for_each (pos, tmp, &c->listeners)
		if (is_left(c, container_of(pos, struct listener, claim_node)))
			return true;
	return false;
}

static bool is_idle(const struct claim *c, int64_t us)
{
	list_for_each (pos, tmp, &c->listeners)
		if (used_within(container_of(pos, struct listener, claim_node), c->e->now, us))
			return false;
	return true;
}

/* When something changes of who accepts and what is left. */
static int64_t listener_deadline(const struct claim *c, const struct listener *lst)
{
	if (is_left(c, lst))
		return c->help_us;
	if (lst->n_waiting)
		return TIME_NEVER;
	if (in_use(lst, c->e->now))
		return c->accepting || lst->n_accept ? lst->seen_us + LEASE_US : TIME_NEVER;
	return c->lately && used_within(lst, c->e->now, LATELY_US) ? lst->seen_us + LATELY_US : TIME_NEVER;
}

static int64_t claim_deadline(const struct claim *c)
{
	int64_t at = TIME_NEVER;
	if (list_empty(&c->listeners) && !c->n_conns)
		at = c->tw_until_us;
	if (waits_for_another_try(c))
		at = min_time(at, c->retry_us);
	at = min_time(at, claim_deferred_deadline(c));
	at = min_time(at, c->spare_us);
	if (claim_is_shared(c))
		list_for_each (pos, tmp, &c->listeners)
			at = min_time(at, listener_deadline(c, container_of(pos, struct listener, claim_node)));
	return at;
}

/* What was half open when a listener stood down: nobody here accepts it. */
static void asleep_gives(const struct claim *c)
{
	list_for_each (pos, tmp, &c->listeners) {
		struct listener *lst = container_of(pos, struct listener, claim_node);
		if (lst->asleep && lst->n_accept)
			claim_moves_queue(c->e, lst->owner);
	}
}

static void tries_again(struct claim *c)
{
	c->retry_us = TIME_NEVER; /* unless it is in vain again */
	list_for_each (pos, tmp, &c->listeners) {
		struct listener *lst = container_of(pos, struct listener, claim_node);
		if (lst->asleep)
			wakes(c->e, lst->owner);
	}
}

static void claim_tick(struct claim *c)
{
	int64_t now = c->e->now;
	if (waits_for_another_try(c) && now >= c->retry_us)
		tries_again(c);
	asleep_gives(c);
	claim_deferred_expire(c);
	claim_spare_looks(c);
	if (claim_is_shared(c)) {
		if ((c->accepting && is_idle(c, LEASE_US)) || (c->lately && is_idle(c, LATELY_US)))
			claim_shows(c);
		if (now >= c->help_us && has_left(c)) {
			c->help_us = now + LEASE_US;
			help_out(c);
		}
	}
	claim_end_if_over(c);
}

static void turn_ends(struct engine *e)
{
	int64_t at = TIME_NEVER;
	if (!e->n_shared_claims && !e->claims_changed && e->now < e->claims_us)
		return;
	e->claims_changed = false;
	list_for_each (pos, tmp, &e->claims)
		claim_tick(container_of(pos, struct claim, node));
	list_for_each (pos, tmp, &e->claims)
		at = min_time(at, claim_deadline(container_of(pos, struct claim, node)));
	e->claims_us = at;
}

/* True: there were some. */
static bool bury_dead(struct claim *c, int64_t every_us)
{
	if (c->e->now - c->looked_us < every_us)
		return false;
	c->looked_us = c->e->now;
	unsigned n = group_bury_dead(&c->group);
	if (n)
		classifier_group_sweep(c->group.maps);
	return n;
}

/* Somebody came by the kernel's queue although there are members: one of them may be dead, and chosen still. */
static void look_for_dead(struct engine *e, struct sock *l)
{
	struct claim *c = l->lst->claim;
	(void)e;
	if (c && claim_is_shared(c) && classifier_group_has_others(c->group.maps))
		bury_dead(c, LOOK_US);
}

/* Whose frame it is may be dead. A SYN that nobody answers comes again after a second only. */
static bool is_others(struct engine *e, const struct flow_key *key, bool syn)
{
	struct claim *found = e->n_shared_claims ? claim_of_flow(e, key) : NULL;
	if (!found || !claim_is_shared(found) || !classifier_group_decides_here(found->group.maps))
		return false;
	bool others = classifier_group_is_others(found->group.maps, key, syn, e->now);
	if (others && bury_dead(found, syn ? SYN_LOOK_US : LOOK_US))
		others = classifier_group_is_others(found->group.maps, key, syn, e->now);
	return others;
}

/* The kernel drops a connection that comes by SCM_RIGHTS when no number is left for it. */
static bool number_is_left(int like)
{
	int fd = sys_fcntl(like, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0)
		sys_close(fd);
	return fd >= 0;
}

static int spare_take(struct engine *e, struct sock *l)
{
	const struct claim *c = l->lst->claim;
	(void)e;
	if (!c || !group_spare_has(&c->group) || !number_is_left(l->lst->kfd))
		return -EAGAIN;
	int fd = group_spare_take(&l->lst->claim->group);
	if (fd >= 0)
		claim_spare_taken(fd, l->lst->kfd);
	return fd;
}

/* ---- passed on, and the end ---- */

static void given(struct engine *e, struct sock *l)
{
	struct group_place place = claim_place(l);
	struct claim *c = claim_get(e, &place);
	if (c)
		attach(c, l->lst);
}

static void adopts(struct engine *e, struct sock *l)
{
	struct claim *c = l->lst->claim;
	if (c && c->group.spare[1] >= 0)
		listener_watch_too(e, l, c->group.spare[1]);
}

static bool is_from_elsewhere(const struct claim *c)
{
	list_for_each (pos, tmp, &c->listeners)
		if (container_of(pos, struct listener, claim_node)->from_elsewhere)
			return true;
	return false;
}

/*
 * Where processes cannot share a port (nftables), one that others have, too, must be the kernel's before: it could not
 * be given to the kernel afterwards, when they want it.
 */
static void prepare(struct engine *e, struct claim *c)
{
	if (group_prepare(&c->group) == -EOPNOTSUPP && !e->own && is_from_elsewhere(c))
		c->host.gives_up(&c->host);
}

void group_join_inherited(void)
{
	struct engine *e = engine_of_process();
	engine_lock(e);
	if (e->pool.memory.alloc) {
		turn_begin(e);
		listeners_adopt(e);
		list_for_each (pos, tmp, &e->claims)
			prepare(e, container_of(pos, struct claim, node));
		turn_end(e);
	}
	engine_unlock(e);
}

static void leaving(struct engine *e)
{
	list_for_each (pos, tmp, &e->claims) {
		struct claim *c = container_of(pos, struct claim, node);
		list_for_each (at, next, &c->listeners) {
			struct listener *lst = container_of(at, struct listener, claim_node);
			if (lst->claimed && has_others(lst->owner))
				stops(e, lst->owner);
		}
		claim_deferred_leaves(c);
	}
}

static const struct process_ops claim_ops = {
	.claim = claim_take,
	.release = release,
	.stops = stops,
	.detach = detach,
	.is_shared = is_shared,
	.attach_judge = attach_judge,
	.others_serve = others_serve,
	.has_others = has_others,
	.is_others = is_others,
	.enter = claim_flow_enter,
	.conn_began = claim_conn_began,
	.conn_left = claim_conn_left,
	.time_wait_began = claim_time_wait_began,
	.flow_ends = claim_flow_ends,
	.flow_is_kernels = claim_flow_is_kernels,
	.flows_end = claim_flows_end,
	.cookie_sent = claim_cookie_sent,
	.comes_by = comes_by,
	.waits = waits,
	.queue_changed = queue_changed,
	.turn_ends = turn_ends,
	.look_for_dead = look_for_dead,
	.spare_take = spare_take,
	.spare_give_all = claim_moves_queue,
	.deferred_give_all = claim_moves_deferred,
	.leaving = leaving,
	.before_fork = claim_before_fork,
	.shares = claim_shares,
	.passes = claim_passes,
	.after_fork = claim_after_fork,
	.given = given,
	.member = member,
	.has_engineless = has_engineless,
	.adopts = adopts,
};

const struct process_ops *const process_ops = &claim_ops;
