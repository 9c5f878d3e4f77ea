/*
 * A listener's half: from a SYN to a connection in its accept queue.
 *
 * A SYN becomes an embryo: a struct sock in SYN-RECEIVED, in the demultiplexing table, on its listener's list. Embryos
 * are bounded by the backlog. When there are as many, the SYN is answered by a cookie (tcp/syn_cookie.c) and nothing is
 * remembered: a flood costs a hash and a frame for each SYN. It goes back to who sent the frame, since a look-up of
 * forged sources would cost more than everything else, and fill the kernel's table of neighbours. The cookie's ACK
 * opens the connection straight into the accept queue, its text included. Where net.ipv4.tcp_syncookies is 0, an embryo
 * makes room instead: the oldest of the network that has most of them. 2: always cookies.
 *
 * A full accept queue drops SYNs, and the ACKs that would enter it, as Linux. A SYN that takes over a TIME-WAIT is
 * always remembered (its sequence number is bound by it); there are no more of those than TIME-WAITs.
 */
#include "socket/engine.h"
#include "socket/process_ops.h"
#include "socket/packet_seen.h"
#include "socket/saved_syn.h"
#include "socket/stamps.h"
#include "socket/listener.h"
#include "socket/fastopen.h"

#include "base/log.h"
#include "base/siphash.h"
#include "kernel/procfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Embryos a small backlog may still have, as Linux's tcp_max_syn_backlog floor. */
#define EMBRYOS_MIN      128
#define EVICT_LOOK_AT    256 /* embryos, from the oldest, in search of one of the fullest network */
#define UNROUTABLE_MAX   100 /* SYNs in a second whose way back is asked for in vain: the next ones are answered by a cookie, and cost no memory */
#define FLOOD_LOG_US     (60 * USEC_PER_SEC)

enum { SYNCOOKIES_OFF, SYNCOOKIES_WHEN_FULL, SYNCOOKIES_ALWAYS }; /* net.ipv4.tcp_syncookies */

/* ---- embryos ---- */

static bool embryos_full(const struct listener *lst)
{
	unsigned max = lst->backlog > EMBRYOS_MIN ? lst->backlog : EMBRYOS_MIN;
	return lst->n_embryonic >= max;
}

static void embryo_enter(struct engine *e, struct sock *l, struct sock *s)
{
	struct listener *lst = l->lst;
	uint8_t net[16] = {0};
	memcpy(net, s->flow.key.raddr.b, ip_addr_is_v4(&s->flow.key.raddr) ? 15 : 7);
	s->listener = l;
	lst->turn = ++e->listen_turns;
	s->embryo_net = siphash13_again(&e->last_net, net, sizeof net, e->hash_secret) % EMBRYO_NETS;
	list_push_back(&lst->embryos, &s->accept_node);
	lst->n_embryonic++;
	lst->embryo_nets[s->embryo_net]++;
	process_ops->queue_changed(e, l);
}

void embryo_leave(struct sock *s)
{
	struct listener *lst = s->listener->lst;
	list_unlink(&s->accept_node);
	list_unlink(&s->defer_node);
	lst->n_embryonic--;
	lst->embryo_nets[s->embryo_net]--;
	process_ops->queue_changed(s->engine, s->listener);
}

/*
 * Who has most loses its oldest: a flood from one network leaves the others' handshakes alone, one from everywhere
 * passes through the list.
 */
static void embryo_evict(struct engine *e, struct listener *lst)
{
	unsigned fullest = 0, looked = 0;
	struct sock *victim = NULL;
	for (unsigned i = 1; i < EMBRYO_NETS; i++)
		if (lst->embryo_nets[i] > lst->embryo_nets[fullest])
			fullest = i;
	list_for_each (pos, tmp, &lst->embryos) {
		struct sock *s = container_of(pos, struct sock, accept_node);
		if (!victim || s->embryo_net == fullest)
			victim = s;
		if (s->embryo_net == fullest || ++looked == EVICT_LOOK_AT)
			break;
	}
	if (!victim)
		return;
	e->counters[SOCKC_EmbryosEvicted]++;
	sock_retire(e, victim);
}

/* ---- opening ---- */

/* The route back decides whose a SYN is; one that leaves by another interface is the kernel's from its next SYN on. */
static int syn_destination(struct engine *e, const struct sock *l, struct sock *s)
{
	s->dest = dest_get(e, &s->flow.key.laddr, &s->flow.key.raddr, dest_oif(e, l, &s->flow.key.raddr));
	if (!s->dest)
		return -ENOMEM;
	int err = dest_resolve(e, s->dest);
	return err && err != -EAGAIN ? err : way_back_check(e, l, &s->flow.key, &s->dest->route);
}

/* False: the kernel keeps its TIME-WAIT of the same 4-tuple, and gets the SYN when it comes again. */
static bool kernel_gives_up(struct engine *e, struct listener *lst, const struct flow_key *key)
{
	if (lst->kernel_tw && kernel_tw_is_over(lst->kernel_tw, e->now))
		kernel_tw_free(&lst->kernel_tw);
	int r = lst->kernel_tw ? kernel_tw_end(lst->kernel_tw, key, iface_info(e->arrived)->ifindex) : 0;
	if (r >= 0)
		return true;
	log_debug("listen", "the kernel keeps its TIME-WAIT of a connection from port %u (%s)", key->rport, strerror(-r));
	e->counters[SOCKC_KernelOwns]++;
	return exception_add(e, key) < 0; /* no room: ours all the same */
}

static struct sock *child_new(struct engine *e, struct sock *l, const struct ip_input *in)
{
	struct sock *s = sock_new(e, SOCK_KIND_CONN, l->family);
	if (!s)
		return NULL;
	s->flow.key = in->key;
	options_inherit(s, l);
	if (stamps_inherit(e, s, l)) {
		sock_put(e, s);
		return NULL;
	}
	packet_seen_opening(e, s, in);
	packet_seen_syn(s);
	s->policy = l->lst->policy;
	s->read_protocol = e->settings.close_policy != CLOSE_POLICY_OFF;
	steer_listener_ref(s->policy);
	return s;
}

/* How a connection begins. */
struct begin {
	bool by_cookie; /* the SYN was made of an ACK */
	uint32_t iss;   /* … and that was the cookie; otherwise the least that it may be (0: any) */
	bool fastopen;
	struct fastopen_cookie fastopen_cookie;
};

static int child_open(struct engine *e, struct sock *l, struct sock *s, const struct tcp_segment *syn, const struct begin *how)
{
	struct tcp_open open;
	int err = syn_destination(e, l, s);
	if (err)
		return err;
	sock_fill_open(e, s, &l->lst->options, &open);
	if (how->by_cookie)
		open.iss = how->iss;
	else if (how->iss)
		open.iss = tcp_iss_at_least(open.iss, how->iss);
	open.fastopen = how->fastopen;
	open.cookie = how->fastopen_cookie;
	err = how->by_cookie ? tcp_open_cookie(&s->tcp, &e->tcp, e->now, &open, syn) : tcp_open_passive(&s->tcp, &e->tcp, e->now, &open, syn);
	if (!err && s->stamps) /* of Fast Open */
		stamps_on_syn(e, s, syn);
	if (!err)
		err = sock_enter_demux(e, s);
	return err ? err : judged_enter(e, l, s);
}

/* Sources without a way back never fill the queue, and each of them costs a question to the kernel. */
static bool too_many_unroutable(struct engine *e, struct listener *lst)
{
	if (e->now - lst->unroutable_us >= USEC_PER_SEC) {
		lst->unroutable_us = e->now;
		lst->unroutable = 0;
	}
	return lst->unroutable >= UNROUTABLE_MAX;
}

/* Whose way back is not ours. */
static void refuse(struct engine *e, struct listener *lst, const struct flow_key *key, int err)
{
	lst->unroutable++;
	if (err == -EXDEV) {
		e->counters[SOCKC_OtherInterface]++;
		exception_add_for_stranger(e, key);
	} else {
		e->counters[SOCKC_NoMemory]++;
	}
}

/* An embryo, or NULL: counted. */
static struct sock *child_make(struct engine *e, struct sock *l, const struct ip_input *in, const struct tcp_segment *syn, const struct begin *how)
{
	struct sock *s = child_new(e, l, in);
	int err = s ? child_open(e, l, s, syn, how) : -ENOMEM;
	if (!err) {
		process_ops->conn_began(e, l, s, how->by_cookie);
		embryo_enter(e, l, s);
		return s;
	}
	if (err == -ENOMEM)
		e->counters[SOCKC_NoMemory]++;
	else if (err != -E2BIG) /* that one is the kernel's: judged.c */
		refuse(e, l->lst, &in->key, err);
	if (s)
		sock_put(e, s);
	return NULL;
}

/* ---- cookies ---- */

static void note_flood(struct engine *e, struct listener *lst)
{
	if (lst->flooded_us && e->now - lst->flooded_us < FLOOD_LOG_US)
		return;
	lst->flooded_us = e->now;
	log_info("listen", "port %u has too many half-open connections: sending cookies", lst->port);
}

static void answer_by_cookie(struct engine *e, struct sock *l, const struct ip_input *in)
{
	struct listener *lst = l->lst;
	struct dest *d = dest_find(e, &in->key.laddr, &in->key.raddr, dest_oif(e, l, &in->key.raddr));
	struct tcp_segment synack;
	struct tcp_open open;
	int err = way_back_of_cookie(e, l, &in->key);
	note_flood(e, lst);
	if (err) {
		refuse(e, lst, &in->key, err);
		return;
	}
	fill_open(e, e->arrived, &in->key, d ? d->path.mtu : 0, &lst->options, &open);
	open.policy = lst->policy;
	if (syn_cookie_answer(&e->cookies, &e->tcp, e->now, &open, &in->seg, &synack) < 0)
		return;
	lst->cookies_until_us = e->now + SYN_COOKIE_VALID_US;
	e->counters[SOCKC_SyncookiesSent]++;
	classifier_note_cookies(e->classifier, lst->cookies_until_us); /* the host may judge by then */
	process_ops->cookie_sent(e, l);
	send_back(e, l, l->ip.tos[!ip_addr_is_v4(&in->key.raddr)], in, &synack);
}

bool listener_on_ack(struct engine *e, struct sock *l, const struct ip_input *in)
{
	struct tcp_segment syn;
	uint32_t iss;
	if (e->now >= l->lst->cookies_until_us)
		return false;
	if (!syn_cookie_check(&e->cookies, &e->tcp, e->now, &in->key, &in->seg, &syn, &iss)) {
		e->counters[SOCKC_SyncookiesFailed]++;
		return false;
	}
	if (!judged_admits_cookie(e, &in->key)) {
		e->counters[SOCKC_JudgedKernels]++;
		return false;
	}
	if (listener_accept_full(l)) {
		e->counters[SOCKC_ListenOverflows]++;
		return true; /* as if lost: it comes again with the first data */
	}
	if (!kernel_gives_up(e, l->lst, &in->key))
		return true;
	struct sock *s = child_make(e, l, in, &syn, &(struct begin){.by_cookie = true, .iss = iss});
	if (!s)
		return true;
	e->counters[SOCKC_SyncookiesRecv]++;
	sock_tcp_input(e, s, &in->seg);
	sock_mark_dirty(e, s);
	sock_process_events(e, s);
	return true;
}

/* ---- what arrives ---- */

bool listener_on_syn(struct engine *e, struct sock *l, const struct ip_input *in, uint32_t iss_min)
{
	struct listener *lst = l->lst;
	if (!judged_admits(e, &in->seg, &in->key))
		return false;
	if (listener_accept_full(l)) {
		e->counters[SOCKC_ListenDrops]++;
		return false;
	}
	bool full = embryos_full(lst);
	int64_t syncookies = sysctls_number(&e->sysctls, SYSCTL_tcp_syncookies);
	if (!iss_min && (syncookies == SYNCOOKIES_ALWAYS ||
			 (syncookies != SYNCOOKIES_OFF && (full || too_many_unroutable(e, lst))))) {
		answer_by_cookie(e, l, in);
		return false;
	}
	if (!kernel_gives_up(e, lst, &in->key))
		return false;
	if (full)
		embryo_evict(e, lst);
	struct begin how = {.iss = iss_min};
	how.fastopen = fastopen_on_syn(e, l, in, &how.fastopen_cookie) == FASTOPEN_TAKEN;
	struct sock *s = child_make(e, l, in, &in->seg, &how);
	if (!s)
		return false;
	if (s->values)
		saved_syn_note(e, s);
	sock_mark_dirty(e, s);
	if (how.fastopen)
		fastopen_began(e, l, s);
	return true;
}

void listener_on_established(struct engine *e, struct sock *s)
{
	if (!defer_starts(e, s))
		listener_give_to_accept(e, s);
}

void listener_give_to_accept(struct engine *e, struct sock *s)
{
	embryo_leave(s);
	s->listener = listener_in_use(e, s->listener);
	struct sock *l = s->listener;
	l->lst->n_accept++;
	s->accepted = true;
	s->ip.priority = 0; /* Linux: SYN-ACKs have the listener's; of what IP_TOS and SO_PRIORITY set, IP_TOS alone is inherited */
	s->keeps_address = !ip_addr_is_any(&l->lst->addr);
	e->counters[SOCKC_Accepted]++;
	sock_ref(s); /* the queue's */
	list_push_back(&l->lst->accept_queue, &s->accept_node);
	process_ops->queue_changed(e, l);
	sock_notify_events(e, l, SOCK_WAKES_READERS);
}
