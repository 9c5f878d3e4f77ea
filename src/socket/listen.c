/*
 * Listeners: a kernel listener and ours on one port.
 *
 * The application's fd stays the kernel's listening socket, so that the kernel's own answers to bind and listen hold,
 * `ss -l` shows it, and who comes by loopback or another interface is accepted from its queue through the same accept.
 * On the engine's interface the classifier keeps SYNs for the port from the kernel; they become embryos here
 * (SYN-RECEIVED, bounded by the backlog) and, when the handshake is complete, wait in the accept queue, each with a
 * reference of the queue that accept hands to the fd.
 *
 * Other processes may serve the same port, and accept from the same kernel socket: src/process decides what that means
 * (process_ops). A listener that is closed while there are others drains: what waits for accept is given to them at the
 * turn's end, and what is half open goes on until it can be given, too.
 */
#include "socket/own.h"
#include "socket/fallback.h"
#include "socket/process_ops.h"
#include "socket/listener.h"
#include "socket/fastopen.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "kernel/diag.h"
#include "kernel/roles.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define KERNELS_FIRST_US USEC_PER_SEC /* who came before the port was ours is accepted before those who came after */

bool listener_name_matches(const struct ip_addr *name, int family, bool v6only, const struct ip_addr *addr)
{
	if (!ip_addr_is_any(name))
		return ip_addr_equal(name, addr);
	return family == AF_INET ? ip_addr_is_v4(addr) : !(v6only && ip_addr_is_v4(addr));
}

static bool listener_matches(const struct sock *l, const struct flow_key *key)
{
	return l->lst->port == key->lport && listener_name_matches(&l->lst->addr, l->family, l->v6only, &key->laddr);
}

/*
 * Is `a`, which listens since later, better? The one that names the address is; of those that are bound to a device and
 * those that are not, which are two groups in Linux, the last of IPv4's, and otherwise the first. Of several sockets of
 * one port (SO_REUSEPORT): not one that nobody accepts from, as each of nginx's workers has the others', by fork; then
 * where somebody waits, then where fewer wait for accept, then each in its turn: Linux spreads them by hash.
 */
static bool is_better(const struct sock *a, const struct sock *b)
{
	const struct listener *x = a->lst, *y = b->lst;
	bool exact = !ip_addr_is_any(&x->addr);
	if (exact != !ip_addr_is_any(&y->addr))
		return exact;
	if (a->ip.oif != b->ip.oif)
		return a->family == AF_INET; /* Linux's table has IPv6's at its end */
	if (!x->seen_us != !y->seen_us)
		return x->seen_us;
	if (!x->n_waiting != !y->n_waiting)
		return x->n_waiting;
	unsigned wait = x->n_accept + x->n_embryonic, other_wait = y->n_accept + y->n_embryonic;
	return wait == other_wait ? x->turn < y->turn : wait < other_wait;
}

struct sock *listener_find(struct engine *e, const struct flow_key *key, int ifindex)
{
	struct sock *found = NULL;
	list_for_each (pos, tmp, &e->listeners) {
		struct listener *lst = container_of(pos, struct listener, node);
		struct sock *l = lst->owner;
		bool elsewhere = l->ip.oif && ifindex && l->ip.oif != ifindex;
		if (lst->claimed && !elsewhere && listener_matches(l, key) && (!found || is_better(l, found)))
			found = l;
	}
	return found;
}

/* Two sockets of one port (SO_REUSEPORT) in this process. */
static bool are_siblings(const struct sock *a, const struct sock *b)
{
	return a != b && a->lst->claim && a->lst->claim == b->lst->claim && a->ip.oif == b->ip.oif;
}

/*
 * Each of nginx's workers has the sockets of the others, too, and uses its own alone. A SYN that came before its first
 * look went to any of them: what it became is for the one that is used.
 */
struct sock *listener_in_use(struct engine *e, struct sock *l)
{
	if (l->lst->seen_us)
		return l;
	list_for_each (pos, tmp, &e->listeners) {
		const struct listener *lst = container_of(pos, struct listener, node);
		if (lst->seen_us && !lst->closing && are_siblings(lst->owner, l))
			return lst->owner;
	}
	return l;
}

void listener_is_used(struct engine *e, struct sock *l)
{
	unsigned before = l->lst->n_accept;
	list_for_each (pos, tmp, &e->listeners) {
		struct listener *lst = container_of(pos, struct listener, node);
		if (lst->seen_us || !are_siblings(lst->owner, l))
			continue;
		for (struct list *at; (at = list_first(&lst->accept_queue)); lst->n_accept--, l->lst->n_accept++) {
			list_unlink(at);
			list_push_back(&l->lst->accept_queue, at);
			container_of(at, struct sock, accept_node)->listener = l;
		}
	}
	if (l->lst->n_accept != before)
		sock_notify_events(e, l, SOCK_WAKES_READERS);
}

bool listener_is_elsewhere(struct engine *e, const struct flow_key *key)
{
	const struct sock *l = listener_find(e, key, 0);
	return l && l->ip.oif;
}

bool listener_accept_full(const struct sock *l)
{
	return l->lst->n_accept > (unsigned)l->lst->backlog;
}

/* ---- listen(2) ---- */

struct except_kernel {
	struct diag_visit visit;
	struct engine *e;
	struct listener *lst;
	const uint8_t *ports; /* of many: a bit each */
	unsigned n;
	int err; /* of the first that could not be added */
};

/* The peer's next SYN is ours. */
static int note_time_wait(struct except_kernel *x, const struct diag_socket *s)
{
	struct listener *lst = x->lst;
	if (!lst->kernel_tw)
		lst->kernel_tw = kernel_tw_new(x->e);
	return lst->kernel_tw ? kernel_tw_add(lst->kernel_tw, &s->key, s->cookie) : -ENOMEM;
}

static void except_one(struct diag_visit *v, const struct diag_socket *s)
{
	struct except_kernel *x = container_of(v, struct except_kernel, visit);
	bool time_wait = s->state == TCP_TIME_WAIT;
	int err = time_wait ? note_time_wait(x, s) : exception_add(x->e, &s->key);
	if (!err)
		x->n += !time_wait;
	else if (!x->err)
		x->err = err;
}

/* Those of an old process, orphans still sending. */
int listener_except_kernels(struct engine *e, struct listener *lst)
{
	struct except_kernel x = {.visit.socket = except_one, .e = e, .lst = lst};
	kernel_tw_free(&lst->kernel_tw);
	int err = diag_dump_port(lst->port, &x.visit);
	if (x.n) {
		lst->kernels_first_us = e->now + KERNELS_FIRST_US;
		log_info("listen", "%u connections on port %u stay with the kernel", x.n, lst->port);
	}
	return err ? err : x.err;
}

/* … of a listener of one of many ports. */
static void except_of_many(struct diag_visit *v, const struct diag_socket *s)
{
	struct except_kernel *x = container_of(v, struct except_kernel, visit);
	uint16_t port = s->key.lport;
	if (!(x->ports[port / 8] >> port % 8 & 1))
		return;
	list_for_each (pos, tmp, &x->e->listeners) {
		x->lst = container_of(pos, struct listener, node);
		if (x->lst->port != port)
			continue;
		if (s->state != TCP_TIME_WAIT)
			x->lst->kernels_first_us = x->e->now + KERNELS_FIRST_US;
		except_one(v, s);
	}
}

/* A dump walks along all that the kernel has: one for all. */
int listeners_except_kernels(struct engine *e, const uint8_t *ports)
{
	struct except_kernel x = {.visit.socket = except_of_many, .e = e, .ports = ports};
	uint16_t first = UINT16_MAX, last = 0;
	list_for_each (pos, tmp, &e->listeners) {
		struct listener *lst = container_of(pos, struct listener, node);
		if (!(ports[lst->port / 8] >> lst->port % 8 & 1))
			continue;
		kernel_tw_free(&lst->kernel_tw);
		first = lst->port < first ? lst->port : first;
		last = lst->port > last ? lst->port : last;
	}
	int err = diag_dump_ports(first, last, &x.visit);
	return err ? err : x.err;
}

static void note_listen_fallback(struct engine *e, const struct ip_addr *addr, uint16_t port, const char *why)
{
	char what[64], text[IP_ADDR_STRLEN];
	snprintf(what, sizeof what, "listen %s:%u", ip_addr_format(addr, text), port);
	engine_note_fallback(what, why);
	engine_init_tables(e);
	helper_start(e); /* who answers `finesse stat` */
}

/* May this listener be ours? NULL: yes. Otherwise why not; "" is policy, not a fall-back. */
static const char *listen_refused(struct engine *e, int kfd, const struct ip_addr *addr, uint16_t port)
{
	if (ip_addr_is_loopback(addr) || !settings_rules_allow(&e->settings, true, addr, port))
		return "";
	return engine_refuses(e, kfd);
}

void (*engine_on_queue_changed)(struct sock *l);

static void queue_add(int queue, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
	sys_epoll_ctl(queue, EPOLL_CTL_ADD, fd, &ev);
}

void listener_watch_too(struct engine *e, struct sock *l, int fd)
{
	struct listener *lst = l->lst;
	if (lst->kfd < 0) /* it drains: nobody accepts here */
		return;
	fd_close(lst->queue_fd);
	lst->queue_fd = fd_move_high(sys_epoll_create1(EPOLL_CLOEXEC));
	if (lst->queue_fd < 0) {
		log_warn("listen", "no descriptor is left for a queue that processes share");
		lst->queue_fd = -1;
		return;
	}
	queue_add(lst->queue_fd, lst->kfd);
	queue_add(lst->queue_fd, fd);
	if (engine_on_queue_changed)
		engine_on_queue_changed(l);
	sock_notify(e, l); /* who waits looks anew where to wait */
}

static int listener_make(struct engine *e, int kfd, const struct candidate *candidate, int backlog, struct sock **out)
{
	int family, err = -ENOMEM;
	struct sock *l = sock_new(e, SOCK_KIND_LISTENER, 0);
	struct listener *lst = l ? engine_alloc(e, sizeof *lst) : NULL;
	if (!lst)
		goto fail;
	lst->owner = l;
	l->lst = lst;
	list_init(&lst->accept_queue);
	list_init(&lst->embryos);
	list_init(&lst->deferred);
	list_init(&lst->defers);
	list_init(&lst->node);
	list_init(&lst->claim_node);
	lst->kfd = lst->queue_fd = -1;
	lst->backlog = namespace_backlog(e, backlog);
	err = name_of_kernel(kfd, &lst->addr, &lst->port, &family);
	if (err)
		goto fail;
	l->family = family;
	l->v6only = kernel_v6only(kfd, family);
	l->nonblock = sys_fcntl(kfd, F_GETFL, 0) & O_NONBLOCK;
	lst->candidate = *candidate;
	lst->from_elsewhere = candidate->adopted;
	lst->mode_shared = candidate->shared;
	err = options_take(e, kfd, candidate, l, &lst->options);
	if (!err)
		err = options_for_accepted(l);
	if (err)
		goto fail;
	fastopen_listen(e, l, kfd);
	lst->policy = steer_listener_new(e->steer, lst->port);
	err = lst->policy ? 0 : -ENOMEM;
	if (err)
		goto fail;
	lst->kfd = fd_copy_high(kfd);
	err = lst->kfd < 0 ? lst->kfd : 0;
	if (err)
		goto fail;
	*out = sock_ref(l); /* the caller's */
	return 0;
fail:
	if (lst) {
		fd_close(lst->kfd);
		if (lst->policy)
			steer_listener_unref(lst->policy);
		option_values_unref(e, lst->inherited);
		engine_free(e, lst, sizeof *lst); /* nobody waits in accept yet */
		l->lst = NULL;
	}
	if (l)
		sock_put(e, l);
	return err;
}

const struct ip_addr *listener_classifier_name(const struct ip_addr *addr, bool v6only)
{
	return v6only && ip_addr_is_any(addr) ? &classifier_any_v6only : addr;
}

static enum silence_end silence_ends(const struct sock *l, bool gone)
{
	if (gone)
		return SILENCE_DIES;
	return process_ops->others_serve(l) ? SILENCE_GOES_ON : SILENCE_ENDS;
}

/*
 * Must the socket be silent before its port is claimed? Where others serve it already: a socket of a kernel group of
 * theirs would answer, too, and one that is theirs stays as it is. Otherwise the kernel serves it until the claim is
 * ours, for it may have half-open connections (process_ops.claim).
 */
static bool is_silent_first(const struct sock *l)
{
	return kernel_int(l->lst->kfd, SOL_SOCKET, SO_REUSEPORT) || classifier_is_silenced(l->engine->classifier, l->lst->kfd);
}

/*
 * Where no connection can be handed to the kernel, a client that came between listen and fork could not be given to the
 * children. So the port is the kernel's until somebody wants to accept. Not that of a kernel group (SO_REUSEPORT),
 * which others may serve already.
 */
static bool begins_asleep(struct engine *e, const struct listener *lst)
{
	return classifier_holds_ports(e->classifier) && !e->own && !lst->candidate.adopted && !kernel_int(lst->kfd, SOL_SOCKET, SO_REUSEPORT);
}

int listener_claim(struct engine *e, struct sock *l)
{
	struct listener *lst = l->lst;
	if (lst->kernels)
		return 0;
	lst->claimed = true; /* so that what arrives in between finds it */
	list_push_back(&e->listeners, &lst->node);
	int err = is_silent_first(l) ? classifier_silence(e->classifier, lst->kfd, listener_classifier_name(&lst->addr, l->v6only), lst->port, SILENCE_ALL) : 0;
	if (!err)
		err = judged_attach(e, l);
	if (!err)
		err = process_ops->claim(e, l);
	if (err) {
		classifier_end_silence(e->classifier, lst->kfd, silence_ends(l, false));
		lst->claimed = false;
		list_unlink(&lst->node);
		lst->asleep = err == -ETIMEDOUT && !e->own; /* src/process tries again */
	}
	return err;
}

void listener_note_fallback(const struct sock *l, int err)
{
	char why[160];
	if (err == -EADDRINUSE)
		snprintf(why, sizeof why, "other processes serve the port, and this one could not join them");
	else if (err == -ETIMEDOUT)
		snprintf(why, sizeof why, "the process that serves the port does not answer");
	else
		snprintf(why, sizeof why, "claiming the port failed (errno %d)", -err);
	note_listen_fallback(l->engine, &l->lst->addr, l->lst->port, why);
}

/* Where it is bound to a device, that alone is served for it. */
static int serve_device(struct engine *e, int device, char *why, size_t why_len)
{
	int err = engine_up(e, device, why, why_len);
	if (err && !*why)
		snprintf(why, why_len, "%s", options_device_unserved);
	return err;
}

int listener_serve(struct engine *e, int kfd, const struct candidate *candidate, const struct ip_addr *addr, uint16_t port, char *why, size_t why_len)
{
	int ifindex = 0, err = engine_net(e, kfd, why, why_len), device = options_device(kfd, candidate);
	if (err)
		return err;
	*why = 0;
	if (device)
		return serve_device(e, device, why, why_len);
	if (own_mode(e)) {
		if (!ip_addr_is_any(addr) && !own_names(e, addr))
			return -EADDRNOTAVAIL;
		return engine_up(e, 0, why, why_len);
	}
	if (!ip_addr_is_any(addr)) {
		turn_net_changed(e);
		ifindex = netstate_interface_of(e->net, addr);
		if (!ifindex)
			return -EADDRNOTAVAIL;
	}
	err = engine_up(e, ifindex, why, why_len);
	if (!err && !ifindex)
		ifaces_serve_all(e, port);
	return err;
}

static int given_locked(struct engine *e, int kfd, const struct candidate *candidate, int backlog, struct sock **out)
{
	struct ip_addr addr;
	uint16_t port;
	int family;
	if (name_of_kernel(kfd, &addr, &port, &family) || listen_refused(e, kfd, &addr, port))
		return SOCK_KERNEL;
	engine_init_tables(e);
	struct sock *l = sock_new(e, SOCK_KIND_INHERITED, family);
	struct listener *lst = l ? engine_alloc(e, sizeof *lst) : NULL;
	if (!lst) {
		if (l)
			sock_put(e, l);
		return -ENOMEM;
	}
	*lst = (struct listener){.owner = l, .addr = addr, .port = port, .backlog = backlog, .candidate = *candidate, .from_elsewhere = true,
				 .kfd = fd_copy_high(kfd), .queue_fd = -1};
	l->lst = lst;
	list_init(&lst->accept_queue); /* given a spare queue, it is looked at at once */
	list_init(&lst->embryos);
	list_init(&lst->deferred);
	list_init(&lst->defers);
	list_init(&lst->node);
	list_init(&lst->claim_node);
	l->v6only = kernel_v6only(kfd, family);
	l->nonblock = sys_fcntl(kfd, F_GETFL, 0) & O_NONBLOCK;
	e->n_inherited++;
	process_ops->given(e, l);
	*out = sock_ref(l);
	return 0;
}

/*
 * A fall-back. Where the socket came from elsewhere, another process's engine may serve the port, and have in its queue
 * what this one wants to accept: so it keeps a listener of ours, which looks at both queues. (--strict: it fails. A
 * process that restricts its system calls may not ask.)
 */
static int listen_falls_back(struct engine *e, int kfd, const struct candidate *candidate, int backlog, const struct ip_addr *addr, uint16_t port, const char *why,
			     struct sock **out)
{
	note_listen_fallback(e, addr, port, why);
	if (!candidate->adopted || e->settings.strict || given_locked(e, kfd, candidate, backlog, out) != 0)
		return SOCK_KERNEL;
	listener_stays_kernels(e, *out);
	return 0;
}

static int decide_listen_locked(struct engine *e, int kfd, const struct candidate *candidate, int backlog, struct sock **out)
{
	struct ip_addr addr;
	uint16_t port;
	int family;
	char why[160] = "";
	if (name_of_kernel(kfd, &addr, &port, &family))
		return SOCK_KERNEL;
	const char *refused = listen_refused(e, kfd, &addr, port);
	if (refused) {
		if (*refused)
			note_listen_fallback(e, &addr, port, refused);
		return *refused ? SOCK_KERNEL : policy_keeps(e, true, &addr, port);
	}
	int err = listener_serve(e, kfd, candidate, &addr, port, why, sizeof why);
	if (err) /* without a reason it is policy */
		return *why ? listen_falls_back(e, kfd, candidate, backlog, &addr, port, why, out) : policy_keeps(e, true, &addr, port);
	if ((refused = engine_refuses(e, kfd))) {
		note_listen_fallback(e, &addr, port, refused);
		return SOCK_KERNEL;
	}
	if (!ip_addr_is_any(&addr) && !engine_owns_address(e, &addr))
		return policy_keeps(e, true, &addr, port); /* another interface's */
	if (options_refused_listener(e, kfd, candidate, why, sizeof why)) {
		siblings_follow(e, kfd, why);
		return listen_falls_back(e, kfd, candidate, backlog, &addr, port, why, out);
	}
	if (!candidate->adopted && siblings_refuse(e, kfd, &addr, port))
		return listen_falls_back(e, kfd, candidate, backlog, &addr, port, "another socket of its port (SO_REUSEPORT) is the kernel's", out);
	if (judged_refuses_listener(e, &addr, port, family == AF_INET6, kernel_v6only(kfd, family), why, sizeof why))
		return listen_falls_back(e, kfd, candidate, backlog, &addr, port, why, out);
	namespace_refresh(e, SYSCTL_AGE_LISTEN_US);
	err = sys_listen(kfd, backlog);
	if (err)
		return err;
	err = listener_make(e, kfd, candidate, backlog, out);
	if (!err && begins_asleep(e, (*out)->lst)) {
		(*out)->lst->asleep = true;
		process_ops->given(e, *out);
	} else if (!err) {
		err = listener_claim(e, *out);
		if (err) {
			listener_note_fallback(*out, err);
			listener_close(e, *out, true);
			sock_put(e, *out);
		}
	}
	if (err) {
		if (err == -ENOMEM || err == -EMFILE)
			note_listen_fallback(e, &addr, port, "no memory or no descriptor for it");
		return SOCK_KERNEL; /* a second listen(2) of the kernel socket does no harm */
	}
	/*
	 * From here accept must never block in the kernel's queue. Where others have the socket, it stays as they know
	 * it: accept_at_once.
	 */
	if (!candidate->adopted)
		sys_fcntl(kfd, F_SETFL, sys_fcntl(kfd, F_GETFL, 0) | O_NONBLOCK);
	return 0;
}

bool sock_role_is_kept(const struct candidate *c)
{
	struct engine *e = engine_of_process();
	engine_lock(e);
	bool kept = c->was_client && roles_are_kept(&c->client_addr);
	engine_unlock(e);
	return kept;
}

int sock_decide_listen(int kfd, const struct candidate *candidate, int backlog, struct sock **out)
{
	struct engine *e = engine_of_process();
	if (!e->configured)
		return SOCK_KERNEL;
	engine_lock(e);
	turn_begin(e);
	unsigned noted = fallbacks_noted;
	bool barred = candidate->was_client && roles_are_kept(&candidate->client_addr);
	int r = barred ? -EINVAL : decide_listen_locked(e, kfd, candidate, backlog, out);
	if (barred)
		roles_take_port(kfd);
	if (r == SOCK_KERNEL)
		r = engine_refusal(e, noted);
	if (r == -ENETDOWN)
		sys_shutdown(kfd, SHUT_RDWR); /* it may have begun to listen before its claim failed */
	turn_end(e);
	engine_unlock(e);
	return r;
}

int sock_decide_given(int kfd, const struct candidate *candidate, int backlog, struct sock **out)
{
	struct engine *e = engine_of_process();
	if (!e->configured)
		return SOCK_KERNEL;
	engine_lock(e);
	int r = given_locked(e, kfd, candidate, backlog, out);
	engine_unlock(e);
	return r;
}

int sock_listen_again(struct sock *s, int backlog)
{
	struct engine *e = s->engine;
	int err;
	engine_lock(e);
	if (s->kind == SOCK_KIND_DEAD)
		err = -EBADF;
	else if (s->kind != SOCK_KIND_LISTENER)
		err = -EINVAL;
	else
		err = sys_listen(s->lst->kfd, backlog);
	if (!err) {
		s->lst->backlog = namespace_backlog(e, backlog);
		fastopen_listen(e, s, s->lst->kfd);
	}
	engine_unlock(e);
	return err;
}

/* ---- the end of a listener ---- */

/*
 * Linux says nothing to half-open connections of a listener that is gone, nor to those that TCP_DEFER_ACCEPT held back:
 * who sends more is told.
 */
static void forget_embryos(struct engine *e, struct listener *lst)
{
	for (struct list *pos; (pos = list_first(&lst->embryos));) {
		struct sock *s = container_of(pos, struct sock, accept_node);
		assert(s->live); /* so that it leaves the list */
		sock_retire(e, s);
	}
}

static void abort_accept_queue(struct engine *e, struct listener *lst)
{
	for (struct list *pos; (pos = list_first(&lst->accept_queue));) {
		struct sock *s = container_of(pos, struct sock, accept_node);
		list_unlink(pos);
		s->listener = NULL;
		if (s->live) {
			tcp_abort(&s->tcp, e->now);
			sock_mark_dirty(e, s); /* the RST leaves with this turn */
		}
		sock_put(e, s);
	}
}

void listener_keep_connections(struct engine *e, uint16_t port)
{
	list_for_each (pos, tmp, &e->socks) {
		struct sock *s = container_of(pos, struct sock, node);
		if (s->kind == SOCK_KIND_CONN && s->in_demux && s->flow.key.lport == port)
			sock_set_exact(e, s);
	}
	if (!e->exiting) /* the kernel answers for them in a moment */
		time_wait_keep(e, port);
}

void listener_to_kernel(struct engine *e, struct sock *l, const char *why)
{
	l->lst->kernels = true;
	listener_release(e, l);
	note_listen_fallback(e, &l->lst->addr, l->lst->port, why);
}

int sock_listener_to_kernel(struct sock *s, const char *why)
{
	struct engine *e = s->engine;
	turn_enter(e);
	bool is = s->kind == SOCK_KIND_LISTENER;
	if (is && !s->lst->kernels)
		listener_to_kernel(e, s, why);
	turn_leave(e);
	return is ? 0 : -EBADF;
}

static void listener_free(struct engine *e, struct sock *l)
{
	struct listener *lst = l->lst;
	process_ops->detach(e, l);
	kernel_tw_free(&lst->kernel_tw);
	if (lst->policy)
		steer_listener_unref(lst->policy);
	option_values_unref(e, lst->inherited);
	fastopen_forget(e, &lst->fastopen);
	fd_share_end(&lst->accepts);
	list_unlink(&lst->node);
	list_unlink(&lst->defers);
	engine_free(e, lst, sizeof *lst);
	l->lst = NULL;
	sock_put(e, l);
}

/* `gone`: nobody has its kernel socket but us. */
static void release(struct engine *e, struct sock *l, bool gone)
{
	struct listener *lst = l->lst;
	if (!lst->claimed) {
		if (e->up && lst->kfd >= 0) /* silent for a sibling of its port */
			classifier_end_silence(e->classifier, lst->kfd, gone ? SILENCE_DIES : SILENCE_GOES_ON);
		return;
	}
	lst->claimed = false;
	list_unlink(&lst->node);
	process_ops->release(e, l);
	classifier_end_silence(e->classifier, lst->kfd, silence_ends(l, gone));
}

void listener_release(struct engine *e, struct sock *l)
{
	release(e, l, false);
}

/* What waits for accept is given to others at the turn's end, or reset where there are none. */
void listener_close(struct engine *e, struct sock *l, bool for_all)
{
	struct listener *lst = l->lst;
	bool drains = !for_all && (lst->requeues || process_ops->has_others(l));
	if (drains && lst->claimed && !lst->closing) { /* SYNs that were ours to answer when they came */
		process_ops->stops(e, l);
		turn_begin(e);
	}
	if (!drains) {
		forget_embryos(e, lst);
		abort_accept_queue(e, lst);
		lst->n_accept = lst->n_embryonic = 0;
	}
	release(e, l, !l->child_refs && !lst->from_elsewhere);
	taken_ports_listener_closes(e, l);
	l->kind = SOCK_KIND_DEAD;
	fd_close(lst->queue_fd);
	fd_close(lst->kfd);
	lst->queue_fd = lst->kfd = -1;
	sock_notify(e, l); /* who waits in accept looks again */
	if (drains)
		list_push_back(&e->draining, &lst->node);
	else
		listener_free(e, l);
}

void listeners_drain(struct engine *e)
{
	list_for_each (pos, tmp, &e->draining) {
		struct listener *lst = container_of(pos, struct listener, node);
		if (lst->requeues)
			listener_requeue(e, lst);
		process_ops->spare_give_all(e, lst->owner);
		if (e->exiting) {
			process_ops->deferred_give_all(e, lst->owner);
			defer_forget(e, lst);
		}
		abort_accept_queue(e, lst); /* what could not be given */
		lst->n_accept = 0;
		if (!lst->n_embryonic)
			listener_free(e, lst->owner);
	}
	if (list_empty(&e->draining))
		requeue_end(e);
}

