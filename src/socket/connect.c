/*
 * connect(2): deciding for the engine, the local end's address and port, and the handshake's end.
 *
 * Deciding begins the connection and does not wait. By then the program's fd is the engine's, so that close, shutdown
 * and poll of other threads act on the connection, and a call that is left by a signal, longjmp or cancellation leaves
 * it in progress, as Linux does. Waiting is sock_connect, on a socket like any other.
 */
#include "socket/own.h"
#include "socket/fallback.h"
#include "socket/port_range.h"
#include "socket/fastopen.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "kernel/lsm.h"
#include "kernel/roles.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

/* What is known before the connection exists. */
struct connect_plan {
	int kfd, family;
	const struct candidate *candidate; /* sock_decide_connect */
	bool may_be_bound;
	bool fastopen; /* by MSG_FASTOPEN: the SYN waits for the message */
	struct flow_key key;
	int ifindex;       /* the way leaves by it; 0: of an own address */
	int oif;           /* the interface that it is bound to, or that a link-local address is of; 0: any */
	bool bound;        /* the kernel socket holds the local port */
	uint32_t iss_min, ts_recent; /* TIME-WAIT reuse */
	bool reuse, reuse_stamped;
	struct port_range range; /* IP_LOCAL_PORT_RANGE */
	int port_fd;             /* … the kernel socket that holds the port of it which was chosen; or -1 */
};

struct port_probe {
	struct ports_in_use probe;
	struct engine *e;
	int ifindex;
	int64_t reuse_us; /* of a TIME-WAIT, after so long */
};

/* A port that the application or the kernel chose is the only one there is. */
static int64_t reuse_after(const struct engine *e, const struct connect_plan *p)
{
	if (p->bound)
		return TCP_TW_REUSE_SOON_US;
	int tw_reuse = sysctls_number(&e->sysctls, SYSCTL_tcp_tw_reuse);
	if (!tw_reuse || (p->range.last && tw_reuse != 1)) /* 2: in Linux of loopback only; but our own leases are short of ports sooner */
		return TIME_NEVER;
	return sysctls_number(&e->sysctls, SYSCTL_tcp_tw_reuse_delay) * USEC_PER_MSEC;
}

/* A 4-tuple in TIME-WAIT that may be reused counts as free (RFC 6191 and Linux's tcp_tw_reuse). */
static bool flow_in_use(struct ports_in_use *u, const struct flow_key *key)
{
	const struct port_probe *probe = container_of(u, struct port_probe, probe);
	struct engine *e = probe->e;
	uint32_t iss_min;
	if (demux_find(&e->demux, key))
		return true;
	struct time_wait *tw = time_wait_find(e, key);
	return tw && !time_wait_may_reuse(e, tw, probe->reuse_us, &iss_min);
}

/* … or the TIME-WAIT of one. */
static bool flow_is_kernels(struct ports_in_use *u, const struct flow_key *key)
{
	const struct port_probe *probe = container_of(u, struct port_probe, probe);
	return engine_kernel_owns(probe->e, key, probe->ifindex) > 0;
}

/* Not ours by policy: no reason is noted, the program asked for something that we do not serve. */
static bool connect_is_kernels(struct engine *e, const struct ip_addr *dst, uint16_t port)
{
	bool multicast = ip_addr_is_v4(dst) ? dst->b[12] >= 224 : dst->b[0] == 0xff;
	if (port == 0 || multicast)
		return true; /* it says what is wrong with it */
	if (!ip_addr_is_any(dst) && !ip_addr_is_loopback(dst) && settings_rules_allow(&e->settings, false, dst, port))
		return false;
	policy_keeps(e, false, dst, port);
	return true;
}

static int plan_port(struct engine *e, struct connect_plan *p)
{
	struct port_probe probe = {.probe.in_use = flow_in_use, .e = e, .ifindex = p->ifindex, .reuse_us = reuse_after(e, p)};
	if (!e->own && !classifier_holds_ports(e->classifier)) /* which silences the whole port */
		probe.probe.is_kernels = flow_is_kernels;
	if (p->range.last)
		return port_range_pick(e, &p->range, p->family, &p->key, &probe.probe, &p->port_fd);
	if (!p->bound)
		return ports_pick(e->ports, &p->key, &probe.probe);
	if (!flow_in_use(&probe.probe, &p->key))
		return 0;
	putoff_settle(&e->drive); /* who has it may give it up by what it has to say */
	return flow_in_use(&probe.probe, &p->key) ? -EADDRNOTAVAIL : 0; /* as Linux's __inet_check_established */
}

static void plan_take_time_wait(struct engine *e, struct connect_plan *p)
{
	struct time_wait *tw = time_wait_find(e, &p->key);
	if (!tw)
		return;
	p->reuse = time_wait_may_reuse(e, tw, reuse_after(e, p), &p->iss_min);
	p->reuse_stamped = time_wait_stamp(tw, &p->ts_recent);
	e->counters[SOCKC_TimeWaitReused]++;
	time_wait_make_way(e, tw);
}

/*
 * A socket that is unconnected again may tell a port that the kernel has taken from it. bind says which it is, without
 * giving it one: it is asked for a port that another socket has, and looks first whether it has one itself. Where it
 * has none, the kernel has forgotten its address, too, by the time it refuses, so that is bound again.
 */
static bool has_lost_port(struct engine *e, const struct connect_plan *p, const struct ip_addr *local)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof name;
	int other = sys_socket(p->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (other < 0)
		return false;
	name_from_addr(e, p->family, local, 0, (struct sockaddr *)&name, &len);
	int r = sys_bind(other, &name, len);
	if (!r)
		r = sys_getsockname(other, &name, &len);
	if (!r)
		r = sys_bind(p->kfd, &name, len);
	sys_close(other);
	if (r != -EADDRINUSE)
		return false;
	if (!ip_addr_is_any(local)) {
		name_from_addr(e, p->family, local, 0, (struct sockaddr *)&name, &len);
		bind_address_only(p->kfd, (struct sockaddr *)&name, len);
	}
	return true;
}

static int scope_of(const struct sockaddr *addr, socklen_t len)
{
	const struct sockaddr_in6 *in6 = (const void *)addr;
	return addr->sa_family == AF_INET6 && len >= sizeof *in6 ? (int)in6->sin6_scope_id : 0;
}

/* In own-address mode. 0, SOCK_KERNEL, or what connect says. */
static int plan_own(struct engine *e, struct connect_plan *p, const struct ip_addr *local, char *why, size_t why_len)
{
	if (engine_net(e, p->kfd, why, why_len))
		return SOCK_KERNEL;
	turn_net_look(e);
	int device = options_device(p->kfd, p->candidate), err = own_plan(e, &p->key.raddr, local, &p->key.laddr, why, why_len);
	p->oif = device;
	return !err && device && !iface_find(e, device) ? SOCK_KERNEL : err;
}

/* The way there, and the engine up and serving it: 0. SOCK_KERNEL as in plan_make. */
static int plan_route(struct engine *e, struct connect_plan *p, int scope, const struct ip_addr *local, char *why, size_t why_len)
{
	struct route route;
	bool any = ip_addr_is_any(local);
	if (own_mode(e))
		return plan_own(e, p, local, why, why_len);
	if (engine_net(e, p->kfd, why, why_len))
		return SOCK_KERNEL;
	turn_net_look(e); /* a route may have changed since anybody waited */
	p->oif = options_device(p->kfd, p->candidate);
	if (!p->oif && name_is_link_local(&p->key.raddr)) {
		p->oif = scope;
		if (!p->oif)
			return SOCK_KERNEL; /* it says EINVAL */
	}
	if (netstate_route(e->net, &p->key.raddr, any ? NULL : local, p->oif, 0, &route)) {
		if (p->oif && !iface_find(e, p->oif))
			snprintf(why, why_len, "%s", options_device_unserved);
		return SOCK_KERNEL; /* which has the right errno for it */
	}
	if (route.local || engine_up(e, route.ifindex, why, why_len)) {
		if (!*why && p->oif && !name_is_link_local(&p->key.raddr))
			snprintf(why, why_len, "%s", options_device_unserved);
		return *why ? SOCK_KERNEL : policy_keeps(e, false, &p->key.raddr, p->key.rport);
	}
	if (route.kernels) {
		snprintf(why, why_len, "%s", route.kernels);
		return SOCK_KERNEL;
	}
	p->ifindex = route.ifindex;
	p->key.laddr = any ? route.src : *local;
	return engine_owns_address(e, &p->key.laddr) ? 0 : policy_keeps_source(&p->key.raddr, p->key.rport);
}

static const char *connect_refused(const struct engine *e, const struct connect_plan *p)
{
	return p->candidate->home ? e->kept_out : engine_refuses(e, p->kfd);
}

/* 0: ours. SOCK_KERNEL: the kernel's, `why` says so unless it is policy. -errno: what connect says. */
static int plan_make(struct engine *e, struct connect_plan *p, const struct sockaddr *addr, socklen_t len, char *why, size_t why_len)
{
	struct ip_addr local = {0};
	uint16_t lport = 0;
	if (name_to_addr(addr, len, &p->key.raddr, &p->key.rport))
		return SOCK_KERNEL;
	if (p->candidate->bind_late)
		local = p->candidate->late_addr;
	else if (p->may_be_bound && name_of_kernel(p->kfd, &local, &lport, &p->family))
		return SOCK_KERNEL;
	if (lport && p->candidate->had_port && has_lost_port(e, p, &local))
		lport = 0;
	if (addr->sa_family != p->family)
		return SOCK_KERNEL; /* the kernel says what is wrong with it */
	bool was_up = e->up; /* then one question is enough, which is a system call */
	const char *refused = connect_refused(e, p);
	int err = refused ? 0 : plan_route(e, p, scope_of(addr, len), &local, why, why_len);
	if (err)
		return err;
	if (!refused && !was_up)
		refused = connect_refused(e, p);
	if (refused) {
		snprintf(why, why_len, "%s", refused);
		return SOCK_KERNEL;
	}
	if (lsm_bars() || lsm_connect(addr, len)) { /* as the kernel says then */
		snprintf(why, why_len, "a security module (Landlock, SELinux, AppArmor) refuses it");
		return SOCK_KERNEL;
	}
	if (classifier_holds_ports(e->classifier) && (lport || name_is_link_local(&p->key.laddr))) {
		snprintf(why, why_len, "the socket classifier cannot keep the kernel from %s", lport ? "a port that the program bound" : "a link-local address");
		return SOCK_KERNEL;
	}
	namespace_refresh(e, SYSCTL_AGE_US);
	if (!lport && port_range_of(p->kfd, p->candidate, &p->range) && classifier_holds_ports(e->classifier)) {
		snprintf(why, why_len, "the socket classifier cannot keep the kernel from a port of IP_LOCAL_PORT_RANGE");
		return SOCK_KERNEL;
	}
	if (p->fastopen && !fastopen_may_call(e))
		return SOCK_KERNEL; /* it says EOPNOTSUPP */
	if (options_refused(e, p->kfd, p->candidate, why, why_len))
		return SOCK_KERNEL;
	if (p->kfd <= STDERR_FILENO && !own_mode(e)) { /* libc's stdio may use it, without any call that the shim sees */
		snprintf(why, why_len, "it is a standard stream");
		return SOCK_KERNEL;
	}
	p->key.lport = lport;
	p->bound = lport != 0;
	return 0;
}

#define PORTS_TRIED 64 /* that others have, one after the other */

/* One on which the kernel is silent, where that is a matter of ports. */
static int plan_silent_port(struct engine *e, struct connect_plan *p)
{
	int err = plan_port(e, p);
	for (unsigned i = 0; !err && !p->bound && i < PORTS_TRIED; i++) {
		err = classifier_hold_port(e->classifier, &p->key.laddr, p->key.lport);
		if (err != -EADDRINUSE)
			return err;
		ports_handed_over(e->ports, p->key.lport);
		err = plan_port(e, p);
	}
	return err;
}

/* The local port. The kernel has its own range: what we have no port for, it may have one. */
static int plan_choose_port(struct engine *e, struct connect_plan *p, char *why, size_t why_len)
{
	int err = plan_silent_port(e, p);
	if (!err || p->bound || (p->range.last && err == -EADDRNOTAVAIL))
		return err;
	if (p->range.last)
		snprintf(why, why_len, "others have the ports of its IP_LOCAL_PORT_RANGE");
	else if (err == -EADDRNOTAVAIL)
		snprintf(why, why_len, "no free port outside the kernel's range");
	else
		snprintf(why, why_len, "no ports could be leased (errno %d)", -err);
	return SOCK_KERNEL;
}

static int connect_start(struct engine *e, struct sock *s, struct connect_plan *p)
{
	struct tcp_options opt;
	struct tcp_open open;
	s->flow.key = p->key;
	if (p->bound) {
		s->was_bound = true;
		s->port_chosen = p->candidate->port_chosen || p->candidate->shared;
		s->port_fd = fd_copy_high(p->kfd);
		if (s->port_fd < 0)
			return s->port_fd;
	}
	if (p->port_fd >= 0) {
		s->port_fd = p->port_fd;
		p->port_fd = -1;
	}
	int err = options_take(e, p->kfd, p->candidate, s, &opt);
	if (err)
		return err;
	if (s->dest)
		dest_put(e, s->dest);
	s->dest = dest_get(e, &p->key.laddr, &p->key.raddr, p->oif);
	if (!s->dest)
		return -ENOMEM;
	dest_resolve_anew(e, s->dest); /* for the MTU; a neighbour may still be asked for */
	plan_take_time_wait(e, p);
	sock_fill_open(e, s, &opt, &open);
	if (p->reuse && (int32_t)(open.iss - p->iss_min) < 0)
		open.iss = p->iss_min;
	open.reuses = p->reuse && p->reuse_stamped;
	open.ts_recent = open.reuses ? p->ts_recent : 0;
	open.syn_waits = p->fastopen || fastopen_wants_connect(s);
	err = tcp_open_active(&s->tcp, &e->tcp, e->now, &open);
	if (!err)
		err = sock_enter_demux(e, s);
	if (err)
		return err;
	sock_set_exact(e, s); /* before the SYN: the answer must find it */
	if (!s->exact) {
		sock_leave_demux(e, s);
		s->live = false;
		return -ENOMEM;
	}
	if (open.syn_waits && !p->fastopen)
		fastopen_connect(e, s);
	e->counters[SOCKC_Opened]++;
	turn_now(e); /* what the kernel was asked for until here is no part of the handshake's round trip */
	sock_mark_dirty(e, s);
	return 0;
}

void connect_given_up(struct engine *e, const struct sock *s)
{
	if (s->live && tcp_state(&s->tcp) == TCPS_SYN_SENT && !s->was_bound)
		ports_given_up(e->ports, s->flow.key.lport);
}

/*
 * A connection whose SYN is on its way; NULL and why not. What the engine lacks (memory, descriptors when the program
 * has used up its own) is nothing that Linux's connect fails for: the kernel's TCP has the socket then.
 */
static struct sock *connect_begin(struct engine *e, struct connect_plan *p, bool nonblock, char *why, size_t why_len)
{
	struct sock *s = sock_new(e, SOCK_KIND_CONN, p->family);
	int err = s ? 0 : -ENOMEM;
	if (s) {
		s->nonblock = nonblock;
		err = connect_start(e, s, p);
	}
	if (!err)
		return s;
	if (s)
		sock_put(e, s);
	snprintf(why, why_len, "the engine has no room for it (errno %d)", -err);
	return NULL;
}

static void note_connect_fallback(struct engine *e, const struct connect_plan *p, const char *why)
{
	char what[64], text[IP_ADDR_STRLEN];
	snprintf(what, sizeof what, "connect %s:%u", ip_addr_format(&p->key.raddr, text), p->key.rport);
	engine_note_fallback(what, why);
	engine_init_tables(e);
	helper_start(e); /* who answers `finesse stat` */
}

/* What was left in SO_ERROR when it became unconnected is over, as in Linux's tcp_connect_init. */
static void forget_error(int kfd)
{
	int error;
	socklen_t len = sizeof error;
	sys_getsockopt(kfd, SOL_SOCKET, SO_ERROR, &error, &len);
}

static int decide_connect_locked(struct engine *e, struct connect_plan *p, const struct sockaddr *addr, socklen_t len, bool nonblock,
				 struct sock **out)
{
	static const struct ip_addr unknown;
	char why[160] = "";
	unsigned noted = fallbacks_noted;
	bool barred = p->candidate->was_listener && roles_are_kept(&unknown); /* as was the kernel's socket, which says so */
	int err = barred ? SOCK_KERNEL : plan_make(e, p, addr, len, why, sizeof why);
	if (!err)
		err = plan_choose_port(e, p, why, sizeof why);
	if (!err && judged_refuses(e, &p->key, true, why, sizeof why))
		err = SOCK_KERNEL;
	struct sock *s = NULL;
	if (!err && p->candidate->had_port)
		forget_error(p->kfd);
	if (!err) {
		s = connect_begin(e, p, nonblock, why, sizeof why);
		err = s ? 0 : SOCK_KERNEL;
	}
	fd_close(p->port_fd);
	if (err == SOCK_KERNEL) {
		if (*why)
			note_connect_fallback(e, p, why);
		return engine_refusal(e, noted);
	}
	if (err)
		return err;
	*out = sock_ref(s); /* the caller's */
	return 0;
}

int sock_decide_connect(int kfd, const struct candidate *candidate, const struct sockaddr *addr, socklen_t len, bool nonblock,
			bool fastopen, struct sock **out)
{
	struct engine *e = engine_of_process();
	bool unknown = candidate->shared || !candidate->family || candidate->had_port;
	struct connect_plan plan = {
		.kfd = kfd, .family = candidate->family, .candidate = candidate, .may_be_bound = candidate->bound || unknown, .fastopen = fastopen, .port_fd = -1};
	struct ip_addr dst;
	uint16_t port;
	*out = NULL;
	if (!e->configured || len > sizeof(struct sockaddr_storage) || name_to_addr(addr, len, &dst, &port) ||
	    connect_is_kernels(e, &dst, port))
		return SOCK_KERNEL;
	turn_enter_verb(e);
	int r = decide_connect_locked(e, &plan, addr, len, nonblock, out);
	turn_leave_verb(e);
	return r;
}

/* ---- a connection that was begun ---- */

struct connecting {
	struct undo undo;
	struct sock *s;
	bool fastopen;
};

/* The call's frames are left while it waits: the connection goes on without it. No lock held. */
static void connecting_undo(struct undo *u)
{
	const struct connecting *c = container_of(u, struct connecting, undo);
	struct sock *s = c->s;
	engine_lock(s->engine);
	s->connecting--;
	s->fastopen_calls -= c->fastopen;
	engine_unlock(s->engine);
}

/* 0 to look again; or why waiting ended: -EINTR, -ETIMEDOUT, -ENOMEM. */
static int connect_wait(struct engine *e, struct sock *s, const struct wait *wait, bool fastopen)
{
	struct connecting c = {.s = s, .fastopen = fastopen};
	s->connecting++;
	s->fastopen_calls += fastopen;
	undo_push(&c.undo, connecting_undo);
	int r = sock_wait(e, s, wait);
	undo_pop(&c.undo);
	s->connecting--;
	s->fastopen_calls -= fastopen;
	return r;
}

/*
 * Linux's inet_stream_connect in SS_CONNECTING. `busy`: what is said while the handshake goes on and is not waited for.
 */
static int connect_locked(struct engine *e, struct sock *s, bool nonblock, bool fastopen, int busy, bool *failed)
{
	struct wait wait;
	wait_begin(&wait, e, s->sndtimeo_us);
	for (;;) {
		enum tcp_state state = tcp_state(&s->tcp);
		if (s->kind != SOCK_KIND_CONN)
			return s->kind == SOCK_KIND_DEAD && s->connect_result ? s->connect_result : -EBADF;
		if (s->disconnecting)
			return -EINVAL;
		if (state == TCPS_CLOSED || state == TCPS_TIME_WAIT) { /* one state in Linux */
			int err = tcp_take_error(&s->tcp);
			*failed = true;
			return err ? -err : -ECONNABORTED;
		}
		if (state != TCPS_SYN_SENT && state != TCPS_SYN_RECEIVED) {
			s->reported = true;
			return 0;
		}
		if (nonblock || s->sndtimeo_us == TIMEOUT_NOW_US)
			return busy;
		int r = connect_wait(e, s, &wait, fastopen);
		if (r)
			return r == -ETIMEDOUT ? busy : r;
	}
}

/* connect(2) with an address; `addr` NULL: of sendmsg with MSG_FASTOPEN, without one. */
int connect_call(struct engine *e, struct sock *s, const struct sockaddr *addr, bool begun, bool nonblock, bool fastopen, bool *dissolve)
{
	if (begun && nonblock) /* even if all is said and done already. 0: nothing was sent, the first text goes with the SYN */
		return s->kind == SOCK_KIND_CONN && tcp_syn_waits(&s->tcp) ? 0 : -EINPROGRESS;
	if (s->kind != SOCK_KIND_CONN && s->kind != SOCK_KIND_LISTENER)
		return s->kind == SOCK_KIND_DEAD && begun && s->connect_result ? s->connect_result : -EBADF;
	if (addr && addr->sa_family == AF_UNSPEC) {
		*dissolve = true;
		return 0;
	}
	if (s->kind == SOCK_KIND_LISTENER || s->accepted || s->reported)
		return -EISCONN;
	bool waits = tcp_syn_waits(&s->tcp);
	if (begun && waits)
		return 0;
	bool put_off = waits && fastopen_wants_connect(s); /* else another thread is within sendmsg, about to let it go */
	return connect_locked(e, s, nonblock, fastopen, put_off ? -EISCONN : begun ? -EINPROGRESS : -EALREADY, dissolve);
}

int sock_connect(struct sock *s, const struct sockaddr *addr, socklen_t len, enum connect_how how, bool *dissolve)
{
	struct engine *e = s->engine;
	*dissolve = false;
	if (len < sizeof addr->sa_family || len > sizeof(struct sockaddr_storage))
		return -EINVAL;
	turn_enter_verb(e);
	int r = connect_call(e, s, addr, how != CONNECT_ANEW, how == CONNECT_ANEW ? s->nonblock : how == CONNECT_BEGUN_NONBLOCK, false, dissolve);
	turn_leave_verb(e);
	return r;
}

/* ---- bind(2) of a socket that is not decided ---- */

bool sock_may_bind_late(struct candidate *c, const struct sockaddr *addr, socklen_t len)
{
	struct engine *e = engine_of_process();
	struct ip_addr local;
	uint16_t port;
	if (!e->up || own_mode(e) || len < sizeof(struct sockaddr_in) || addr->sa_family != c->family || name_to_addr(addr, len, &local, &port) || port ||
	    ip_addr_is_v4(&local) != (c->family == AF_INET) || ip_addr_is_any(&local) || name_is_link_local(&local))
		return false;
	turn_enter_verb(e);
	turn_net_look(e);
	bool late = e->up && !e->kept_out && !lsm_may_judge() && !classifier_holds_ports(e->classifier) && engine_owns_address(e, &local);
	turn_leave_verb(e);
	if (late) {
		c->late_addr = local;
		__atomic_store_n(&c->bind_late, true, __ATOMIC_RELEASE); /* from here on another thread's fork may tell the kernel */
	}
	return late;
}

void sock_late_name(const struct candidate *c, struct sockaddr *out, socklen_t *len)
{
	name_from_addr(engine_of_process(), c->family, &c->late_addr, 0, out, len);
}

void engine_before_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	const struct engine *e = engine_of_process();
	struct ip_addr a;
	uint16_t port;
	int on = 1;
	if (!own_mode(e) || name_to_addr(addr, len, &a, &port) || !own_names(e, &a))
		return;
	if (addr->sa_family == AF_INET)
		sys_setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof on);
	else
		sys_setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof on);
}
