/*
 * The host's rules change while connections live: theory of operation.
 *
 * The helper thread watches nftables' notifications. A while after the first of a burst it reads the rules anew, and
 * asks about every listener and every connection. Many rules are read by a thread of their own (rules_reader.h), and
 * the old ones hold until it has read them; but where that takes long no port is open meanwhile (judged.c), as the host
 * answers by the new ones. Rules that change while they are read are read again, for UNREAD_US at most. What a rule
 * could touch now becomes the kernel's, in batches, and the kernel obeys the rule on it: so a ban works on an
 * established connection, and others are not disturbed. conntrack is told first that the connection is established. The
 * process may have dropped its privilege and not be able to read the rules: then everything becomes the kernel's.
 *
 * Legacy iptables has no notifications. While it has tables here, the rules are read again every LEGACY_US. Nobody
 * tells that its first table comes, of a program that is attached to the process's cgroup (or that another cgroup is
 * the process's), to an interface's ingress, or to where sockets are looked up either: while the engine has turns the
 * kernel is asked every LOOK_US. A process without the right to asks the broker, without the engine's lock, also
 * whether nftables' rules or IPsec policies have changed, since it may not have the right to hear of that. A process
 * that has nothing to do asks nothing: what comes after a pause meets the engine once more, and is judged anew then.
 * When the engine comes up nothing is asked
 * either: whoever gave the link, or read the rules, looked just now, and a short program shall not wait for that twice.
 *
 * Routes may become the kernel's alone as well (a rule that chooses by port, a route that encapsulates). Who meets one
 * arms the same timer, and its connections are asked about.
 *
 * Who waits in an accept queue, or is half open, cannot be the kernel's before the program has accepted it: it is asked
 * about again until then.
 */
#include "socket/engine.h"
#include "socket/leaving.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "kernel/conntrack.h"
#include "kernel/firewall.h"
#include "kernel/netlink.h"
#include "kernel/privileged.h"
#include "socket/rules_reader.h"
#include "socket/listener.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/xfrm.h>
#include <stdio.h>
#include <sys/timerfd.h>

#define SETTLE_US (30 * USEC_PER_MSEC) /* tools change rules in several steps */
#define BATCH     64                   /* connections that become the kernel's at a time … */
#define BATCH_US  (2 * USEC_PER_MSEC)  /* … and the engine's turn between */
#define RETRY_US  (50 * USEC_PER_MSEC) /* for who cannot be the kernel's yet */
#define UNREAD_US (1 * USEC_PER_SEC)   /* rules that nobody could read so long may ban anybody */
#define BUSY_US   (15 * USEC_PER_SEC)  /* a broker that was late is not asked for five seconds */
#define LEGACY_US (400 * USEC_PER_MSEC)
#define LOOK_US   (400 * USEC_PER_MSEC)

static void arm(struct rejudge *r, int64_t after_us)
{
	const struct itimerspec at = {.it_value = {.tv_sec = after_us / USEC_PER_SEC, .tv_nsec = after_us % USEC_PER_SEC * 1000}};
	sys_call(SYS_timerfd_settime, r->timer.fd, 0, &at, NULL, 0, 0);
	r->armed = true;
}

static int skip(const struct nlmsghdr *h, void *ctx)
{
	(void)h;
	(void)ctx;
	return 0;
}

static void on_news(struct engine *e, struct control *c)
{
	struct rejudge *r = &e->rejudge;
	netlink_drain(c->fd, skip, NULL); /* that there are some is all; also when some were lost */
	r->stale = true;
	if (!r->armed)
		arm(r, SETTLE_US);
}

/* ---- one connection ---- */

/* The kernel serves it from now on, or nobody does: a descriptor, or -errno. */
static void give(struct engine *e, struct sock *s, bool held, const char *why)
{
	int fd;
	e->rejudge.holds = held;
	if (s->closed) { /* the program has done with it */
		fd = conn_handover(e, s, why);
		if (fd >= 0)
			sys_close(fd);
		else
			stream_close(e, s, true);
	} else {
		sock_give_kernel(e, s, why, &fd);
	}
	e->rejudge.holds = false;
}

/*
 * What its dest heard when it last asked for the way; who has nothing to send has not asked, and does before its next
 * segment.
 */
static bool way_is_kernels(struct engine *e, const struct sock *s, char *why, size_t why_len)
{
	if (e->own)
		return false;
	const char *rules = netstate_rules_why(e->net, !ip_addr_is_v4(&s->flow.key.raddr));
	const char *kernels = rules || !s->dest ? rules : s->dest->route.kernels;
	if (kernels)
		snprintf(why, why_len, "%s", kernels);
	return kernels;
}

/* Held: the host may have banned the peer. Where only the way is the kernel's, nobody is to be held back. */
enum judged_again { STAYS, GOES_LATER, GOES, GOES_HELD };

static enum judged_again judge_again(struct engine *e, struct sock *s, char *why, size_t why_len)
{
	if (s->kind != SOCK_KIND_CONN || !s->live || !s->in_demux || tcp_state(&s->tcp) == TCPS_TIME_WAIT || s->ending)
		return STAYS;
	bool refused = judged_refuses(e, &s->flow.key, !s->policy, why, why_len);
	if (!refused && !way_is_kernels(e, s, why, why_len))
		return STAYS;
	if (s->listener || s->fastopen_of)
		return GOES_LATER;
	return refused ? GOES_HELD : GOES;
}

/* Microseconds until the next batch; -1: all is done. */
static int64_t judge_connections(struct engine *e)
{
	unsigned n = 0;
	bool later = false;
	char why[160];
	for (struct list *pos = e->socks.next; pos != &e->socks;) {
		struct sock *s = container_of(pos, struct sock, node);
		enum judged_again again = judge_again(e, s, why, sizeof why);
		later |= again == GOES_LATER;
		if (again >= GOES && n++ == BATCH)
			return BATCH_US;
		sock_ref(s); /* it stays on the list as long as we have this; others may leave it meanwhile */
		if (again >= GOES)
			give(e, s, again == GOES_HELD, why);
		pos = pos->next;
		sock_put(e, s);
	}
	return later ? RETRY_US : -1;
}

/* ---- all ---- */

static void judge_listeners_again(struct engine *e)
{
	char why[160];
	list_for_each (pos, tmp, &e->listeners) {
		struct sock *l = container_of(pos, struct listener, node)->owner;
		if (judged_refuses_listener(e, &l->lst->addr, l->lst->port, l->family == AF_INET6, l->v6only, why, sizeof why))
			listener_to_kernel(e, l, why);
	}
}

static void listeners_to_kernel(struct engine *e, const char *why)
{
	list_for_each (pos, tmp, &e->listeners)
		listener_to_kernel(e, container_of(pos, struct listener, node)->owner, why);
}

/* Where the process may not read them, the broker does. */
static int read_by_broker(struct firewall **out)
{
	int fd = privileged_read_firewall();
	if (fd < 0)
		return fd;
	int err = firewall_load(out, fd);
	fd_close(fd);
	return err;
}

/*
 * Changed while they were read, or the broker is busy, without which no connection could become the kernel's either:
 * they are read once more, and the old ones hold.
 */
static bool is_read_again(struct engine *e, int err)
{
	struct rejudge *r = &e->rejudge;
	int64_t bound = err == -EAGAIN ? BUSY_US : UNREAD_US;
	if ((err != -EINTR && err != -EAGAIN) || (r->unread_us && e->now - r->unread_us > bound)) {
		r->unread_us = 0;
		return false;
	}
	if (!r->unread_us)
		r->unread_us = e->now;
	r->stale = true;
	return true;
}

/* What was read; false: it does not hold. */
static bool take_rules(struct engine *e, int err, struct firewall *now, char *why, size_t why_len)
{
	e->rejudge.late = false;
	if (err == -EPERM)
		err = read_by_broker(&now);
	if (is_read_again(e, err)) {
		judged_again(e); /* until then the host, who has the new ones, is asked about everybody */
		return false;
	}
	e->firewall_unknown = err < 0;
	if (!err) {
		firewall_free(e->firewall);
		e->firewall = now;
	} else {
		log_info("firewall", "%s", why);
	}
	judged_again(e);
	judge_listeners_again(e);
	if (!err && judged_start(e, why, why_len))
		listeners_to_kernel(e, why);
	return true;
}

/* For the next job. */
static struct rules_reader *resting(struct rejudge *r)
{
	struct rules_reader *rests = r->resting;
	r->resting = NULL;
	return rests;
}

/* True: there are new ones. */
static bool read_anew(struct engine *e)
{
	struct rejudge *r = &e->rejudge;
	struct firewall *now = NULL;
	char why[160];
	r->stale = false;
	if (firewall_is_large(e->firewall)) {
		r->late = firewall_is_slow(e->firewall);
		if (r->late) /* the host, who has the new ones, is asked about everybody meanwhile */
			judged_again(e);
		r->reader = rules_reader_begin(resting(r), r->timer.fd);
		if (r->reader)
			return false;
	}
	int err = firewall_read(&now, why, sizeof why);
	return take_rules(e, err, now, why, sizeof why);
}

/* The timer does it, not whoever has this turn: the broker may have to be asked. */
void rejudge_look(struct engine *e)
{
	struct rejudge *r = &e->rejudge;
	r->look_us = e->now + LOOK_US;
	r->looks = true;
	if (!r->armed)
		arm(r, 1);
}

void rejudge_all(struct engine *e)
{
	struct rejudge *r = &e->rejudge;
	if (!r->on)
		return;
	r->stale = true;
	if (!r->armed)
		arm(r, 1);
}

bool rejudge_routes(struct engine *e)
{
	struct rejudge *r = &e->rejudge;
	if (!r->on)
		return false;
	r->later = true;
	r->stale |= netstate_rules_why(e->net, false) || netstate_rules_why(e->net, true); /* listeners, too */
	if (!r->armed)
		arm(r, 1);
	return true;
}

/*
 * Where the rules were not read (the broker gave the link, and found nothing), nothing was at the ingress of what is
 * served.
 */
static void sight_of(struct engine *e, struct firewall_sight *s)
{
	struct iface *i;
	*s = (struct firewall_sight){.n = 0};
	if (e->firewall) {
		firewall_sight_of(e->firewall, s);
		return;
	}
	ifaces_for_each(e, i)
		if (i->link && s->n < FIREWALL_INTERFACES)
			s->at[s->n++].ifindex = link_info(i->link)->ifindex;
}

/*
 * This process may not see its cgroup's programs. The broker is asked from now on, at once for the first time; but not
 * one that gave no answer.
 */
static void note_unseen(struct rejudge *r)
{
	bool asked = r->asks_broker, anybody = !asked || privileged_look_failed();
	r->asks_broker = true;
	r->looks |= !asked && privileged_ops;
	if (!anybody && r->look.mounts_nothing)
		firewall_look_alone(&r->look);
}

/* The rules are stale where something is otherwise than they say. */
static void take_sight(struct engine *e, struct firewall_sight s, uint32_t generation)
{
	struct rejudge *r = &e->rejudge;
	if (s.untold == -EPERM)
		note_unseen(r);
	r->stale |= firewall_differs(e->firewall, &s) || (r->news.fd < 0 && generation != r->generation);
	r->generation = generation;
}

static void look_aside(struct engine *e)
{
	struct rejudge *r = &e->rejudge;
	struct firewall_sight s;
	sight_of(e, &s);
	int broker_fd = r->asks_broker ? privileged_look_begin() : -1;
	r->reader = rules_reader_begin_look(resting(r), r->timer.fd, &s, &r->look, broker_fd, r->generation);
	if (r->reader)
		return;
	uint32_t generation = r->generation;
	firewall_see(&s, &r->look);
	if (s.untold == -EPERM && broker_fd >= 0)
		s.untold = privileged_look(broker_fd, &generation);
	take_sight(e, s, generation);
}

/* What the reader has read, if it is done. True: there are new rules. */
static bool take_from_reader(struct engine *e)
{
	struct rejudge *r = &e->rejudge;
	struct firewall *now = NULL;
	char why[160];
	if (!rules_reader_is_done(r->reader))
		return false;
	uint32_t generation;
	const struct firewall_sight *saw = rules_reader_saw(r->reader, &generation);
	if (saw)
		take_sight(e, *saw, generation);
	bool looked = saw;
	int err = rules_reader_take(r->reader, &now, why, sizeof why);
	r->resting = r->reader;
	r->reader = NULL;
	return !looked && take_rules(e, err, now, why, sizeof why);
}

/* The rules, if there may be new ones. True: there are. */
static bool look_at_rules(struct engine *e)
{
	struct rejudge *r = &e->rejudge;
	bool anew = r->reader && take_from_reader(e);
	if (!r->reader && r->looks) {
		r->looks = false;
		look_aside(e);
	}
	if (!r->reader && !anew && (r->stale || firewall_has_legacy(e->firewall)))
		anew = read_anew(e);
	return anew;
}

static void on_timer(struct engine *e, struct control *c)
{
	struct rejudge *r = container_of(c, struct rejudge, timer);
	uint64_t count;
	sys_read(c->fd, &count, sizeof count);
	r->armed = false;
	turn_begin(e);
	bool anew = look_at_rules(e);
	int64_t again = anew || r->later ? judge_connections(e) : -1;
	r->later = again >= 0;
	turn_end(e);
	if (again < 0 && r->stale && !r->reader)
		again = SETTLE_US;
	if (again < 0 && firewall_has_legacy(e->firewall))
		again = LEGACY_US;
	if (again >= 0 && !r->armed)
		arm(r, again);
}

/* Nobody reads on: the caller wants no other thread, or forks. */
void rejudge_pause(struct engine *e)
{
	struct rejudge *r = &e->rejudge;
	if (r->reader)
		rules_reader_join(r->reader);
	if (r->resting)
		rules_reader_join(r->resting);
}

/* Who has dropped its privilege hears of no policy; the broker tells whether they changed (take_sight). */
static void watch_ipsec(struct engine *e)
{
	static const int groups[] = {XFRMNLGRP_POLICY};
	struct rejudge *r = &e->rejudge;
	int fd = fd_move_high(netlink_open_groups(NETLINK_XFRM, groups, 1));
	r->ipsec.ready = on_news;
	if (fd < 0 || control_add(e, &r->ipsec, fd, POLLIN)) {
		fd_close(fd);
		r->ipsec.fd = -1;
	}
}

void rejudge_start(struct engine *e)
{
	static const int groups[] = {NFNLGRP_NFTABLES};
	struct rejudge *r = &e->rejudge;
	if (e->settings.firewall != FIREWALL_JUDGED || r->on)
		return;
	int timer = fd_move_high(sys_call(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK, 0, 0, 0, 0));
	int news = fd_move_high(netlink_open_groups(NETLINK_NETFILTER, groups, 1));
	r->timer.ready = on_timer;
	r->news.ready = on_news;
	if (timer < 0 || control_add(e, &r->timer, timer, POLLIN)) {
		fd_close(timer);
		fd_close(news);
		return;
	}
	watch_ipsec(e);
	/*
	 * no nf_tables: then nobody can change its rules either. Or no right to hear: then the broker tells whether
	 * they changed
	 */
	if (news < 0 || control_add(e, &r->news, news, POLLIN)) {
		fd_close(news);
		r->news.fd = -1;
	}
	r->look = FIREWALL_LOOK_NONE;
	r->look.mounts_nothing = privileged_ops;
	firewall_look_open(&r->look); /* not by the helper, beside a call of the program's */
	r->on = true;
}

void rejudge_begin(struct engine *e)
{
	e->rejudge.look_us = e->now + LOOK_US;
	if (e->rejudge.on && firewall_has_legacy(e->firewall) && !e->rejudge.armed)
		arm(&e->rejudge, LEGACY_US);
}

void rejudge_stop(struct engine *e)
{
	struct rejudge *r = &e->rejudge;
	if (!r->on)
		return;
	rules_reader_end(r->reader);
	rules_reader_end(r->resting);
	r->reader = r->resting = NULL;
	control_del(e, &r->timer);
	if (r->news.fd >= 0)
		control_del(e, &r->news);
	if (r->ipsec.fd >= 0)
		control_del(e, &r->ipsec);
	rejudge_forget(e);
}

void rejudge_forget(struct engine *e)
{
	struct rejudge *r = &e->rejudge;
	rules_reader_forget(r->reader);
	rules_reader_forget(r->resting);
	if (r->on) {
		fd_close(r->timer.fd);
		fd_close(r->news.fd);
		firewall_look_close(&r->look);
		fd_close(r->ipsec.fd);
	}
	*r = (struct rejudge){.on = false};
}

void rejudge_tell_conntrack(struct engine *e, const struct sock *s)
{
	if (!e->firewall)
		return;
	int fd = netlink_open(NETLINK_NETFILTER);
	int err = fd < 0 ? fd : conntrack_establish(fd, &s->flow.key, !s->policy);
	if (err == -EPERM)
		err = privileged_establish(&s->flow.key, !s->policy);
	if (err)
		log_debug("firewall", "conntrack was not told of a connection (errno %d)", -err);
	if (fd >= 0)
		sys_close(fd);
}
