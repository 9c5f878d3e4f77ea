/*
 * Life of a struct sock: made, entered into the tables, retired when the protocol is done, freed with its last
 * reference.
 */
#include "socket/engine.h"
#include "socket/errqueue.h"
#include "socket/process_ops.h"
#include "socket/saved_syn.h"
#include "socket/stamps.h"
#include "socket/trace.h"
#include "socket/unseen.h"
#include "socket/listener.h"
#include "socket/fastopen.h"

#include "kernel/living.h"
#include "kernel/privileged.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/siphash.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

struct sock *sock_new(struct engine *e, enum sock_kind kind, int family)
{
	struct sock *s = engine_alloc(e, sizeof *s);
	if (!s)
		return NULL;
	s->engine = e;
	s->kind = kind;
	s->family = family;
	s->refs = 1; /* the engine's, until sock_retire */
	s->lowat = 1;
	s->port_fd = s->kept_fd = -1;
	s->id = ++e->next_id;
	list_init(&s->dirty);
	list_init(&s->accept_node);
	list_init(&s->defer_node);
	list_init(&s->watches);
	errqueue_init(s);
	list_push_back(&e->socks, &s->node);
	return s;
}

static void sock_free(struct engine *e, struct sock *s)
{
	list_unlink(&s->node);
	list_unlink(&s->dirty);
	list_unlink(&s->accept_node);
	list_unlink(&s->defer_node);
	watches_clear(&s->watches);
	timers_cancel(&e->timers, &s->timer);
	if (s->tcp.stack)
		tcp_fini(&s->tcp);
	if (s->dest)
		dest_put(e, s->dest);
	if (s->policy)
		steer_listener_unref(s->policy);
	errqueue_fini(e, s);
	stamps_fini(e, s);
	saved_syn_forget(e, s);
	option_values_unref(e, s->values);
	fd_close(s->port_fd);
	fd_close(s->kept_fd);
	engine_free(e, s, sizeof *s);
}

void sock_put(struct engine *e, struct sock *s)
{
	if (__atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) == 0)
		sock_free(e, s);
}

struct sock *sock_ref(struct sock *s)
{
	__atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
	return s;
}

void sock_unref(struct sock *s)
{
	struct engine *e = s->engine;
	/* Mostly not the last one: no lock then. */
	int refs = __atomic_load_n(&s->refs, __ATOMIC_RELAXED);
	while (refs > 1)
		if (__atomic_compare_exchange_n(&s->refs, &refs, refs - 1, true, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			return;
	engine_lock_only(e);
	sock_put(e, s);
	engine_unlock(e);
}

/* The network of a peer, by /24 or /56: two of them may share a place, which only costs an offer. */
static int64_t *cr_off_of(struct engine *e, const struct ip_addr *peer)
{
	uint8_t net[16] = {0};
	memcpy(net, peer->b, ip_addr_is_v4(peer) ? 15 : 7);
	return &e->cr_off_until[siphash13_again(&e->last_net, net, sizeof net, e->hash_secret) & (CR_NETWORKS - 1)];
}

#define TCP_MSS_LEAST 256   /* Linux: ip_rt_min_advmss */
#define TCP_MSS_MOST  65495 /* 65535 less the headers */
#define CR_OFF_US (600 * USEC_PER_SEC)

void sock_note_handshake(struct engine *e, struct sock *s)
{
	if (tcp_close_request_declined(&s->tcp))
		peers_forget(&e->peers, &s->flow.key.raddr);
	if (tcp_close_request_unheard(&s->tcp))
		*cr_off_of(e, &s->flow.key.raddr) = e->now + CR_OFF_US;
}

/* Linux autotunes unless the application fixed the size; a path's MTU bounds both directions' segments. */
void fill_open(struct engine *e, const struct iface *i, const struct flow_key *key, uint32_t path_mtu, const struct tcp_options *opt,
	       struct tcp_open *open)
{
	const struct link_info *info = iface_info(i);
	uint32_t overhead = ip_tcp_overhead(&key->laddr);
	bool gso = ip_addr_is_v4(&key->laddr) ? info->gso_v4 : info->gso_v6;
	if (!path_mtu)
		path_mtu = info->mtu;
	*open = (struct tcp_open){
		.key = *key,
		.mss_advertised = path_mtu - overhead, /* as Linux: the route's MTU tells what may come back, too */
		.mss_path = path_mtu - overhead,
		.gso_max_bytes = gso ? info->gso_max_bytes : 0,
		.options = *opt,
		.cc = e->default_cc,
		.iss = tcp_isn(&e->tcp, e->now, key),
		.ts_offset = tcp_ts_offset(&e->tcp, key),
	};
}

/* May a SYN to this host offer close requests? */
static bool may_offer(struct engine *e, const struct ip_addr *peer)
{
	if (e->now < *cr_off_of(e, peer))
		return false;
	return e->settings.close_request == CLOSE_REQUEST_ALWAYS || peers_know(&e->peers, peer, e->now);
}

/* The route's, as Linux takes them: its congestion control comes before the namespace's. */
static void take_metrics(const struct route_metrics *m, struct tcp_open *open)
{
	open->initial_window_segs = m->initcwnd;
	open->initial_rcv_segs = m->initrwnd;
	open->window_clamp = m->window;
	open->rto_min_us = m->rto_min_ms * USEC_PER_MSEC;
	open->quickack = m->quickack;
	open->ecn_route = m->features & RTAX_FEATURE_ECN;
	if (m->advmss)
		open->mss_advertised = m->advmss < TCP_MSS_LEAST ? TCP_MSS_LEAST : m->advmss > TCP_MSS_MOST ? TCP_MSS_MOST : m->advmss;
	const struct tcp_cc_ops *cc = *m->congestion ? tcp_cc_find(m->congestion) : NULL;
	if (cc)
		open->cc = cc;
}

void sock_fill_open(struct engine *e, struct sock *s, const struct tcp_options *opt, struct tcp_open *open)
{
	const struct flow_key *key = &s->flow.key;
	const struct iface *i = s->dest->iface ? s->dest->iface : iface_first(e);
	s->path_mtu = s->dest->path.mtu ? s->dest->path.mtu : iface_info(i)->mtu;
	fill_open(e, i, key, s->path_mtu, opt, open);
	take_metrics(&s->dest->route.metrics, open);
	open->policy = s->policy;
	open->no_close_request = !s->policy && !may_offer(e, &key->raddr);
}

void sock_note_fin(struct engine *e, const struct sock *s, const struct ip_input *in)
{
	uint32_t seq;
	if (!(in->seg.flags & SEG_FIN) || !tcp_rcvd_fin(&s->tcp, &seq) || in->seg.seq + in->seg.payload_len != seq)
		return;
	uint32_t segs = ip_wire_segs(&in->seg, in->gso_size);
	uint16_t mark = ip_addr_is_v4(&s->flow.key.raddr) ? in->ident + segs - 1 : in->ident & PEERS_MARK_MAX;
	if (mark == peers_mark(seq))
		peers_note(&e->peers, &s->flow.key.raddr, e->now);
}

/*
 * What is in flight in frames that our own interface or route is too small for was lost: it goes again at once. What a
 * router refused is told to each connection by an ICMP message of its own; the others' segments are smaller from now
 * on.
 */
void sock_follow_path(struct engine *e, struct sock *s)
{
	const struct dest *d = s->dest;
	if (d->path.mtu == s->path_mtu)
		return;
	bool lost = d->route_mtu < s->path_mtu;
	s->path_mtu = d->path.mtu;
	tcp_set_path_mss(&s->tcp, e->now, s->path_mtu - ip_tcp_overhead(&d->laddr), lost);
}

/*
 * A broker tells the peers of those who live when this process has died. The table is made with the first connection.
 */
static void note_living(struct engine *e, struct sock *s)
{
	if (!e->living && !e->living_tried && !e->own) { /* a broker speaks by the kernel's addresses only */
		e->living_tried = true;
		if (privileged_ops && living_new(&e->living, iface_scope(e, &s->flow.key.laddr)) == 0 && privileged_watch(living_fd(e->living))) {
			living_forget(e->living);
			e->living = NULL;
		}
	}
	if (e->living)
		s->living = living_add(e->living, &s->flow.key);
}

/* Who was never accepted is reset, as by the kernel. */
void sock_say_last_word(struct engine *e, struct sock *s)
{
	if (!s->living)
		return;
	struct living_word word = {.flags = 0};
	word.flags = tcp_last_word(&s->tcp, &word.seq, &word.ack);
	if (s->listener)
		word.flags = word.flags & SEG_FIN ? SEG_RST | SEG_ACK : word.flags;
	living_say(e->living, s->living, &word);
}

int sock_enter_demux(struct engine *e, struct sock *s)
{
	int err = demux_insert(&e->demux, &s->flow);
	if (err)
		return err;
	s->in_demux = s->live = true;
	e->n_conns++;
	if (e->classifier)
		classifier_count_conn(e->classifier, &s->flow.key, 1);
	if (e->taken_ports.n)
		taken_ports_count(e, &s->flow.key, 1);
	note_living(e, s);
	return 0;
}

static void leave_demux(struct engine *e, struct sock *s, bool to_kernel)
{
	if (!s->in_demux)
		return;
	if (s->claim)
		process_ops->conn_left(e, s, to_kernel);
	demux_remove(&e->demux, &s->flow);
	s->in_demux = false;
	e->n_conns--;
	if (e->classifier)
		classifier_count_conn(e->classifier, &s->flow.key, -1);
	if (e->taken_ports.n)
		taken_ports_count(e, &s->flow.key, -1);
	if (e->living)
		living_del(e->living, s->living);
	s->living = 0;
	if (s->exact)
		classifier_del_flow(e->classifier, &s->flow.key);
	s->exact = false;
}

void sock_leave_demux(struct engine *e, struct sock *s)
{
	leave_demux(e, s, false);
}

void sock_becomes_kernels(struct engine *e, struct sock *s)
{
	if ((!s->exact || (e->judged && s->policy)) && !s->in_group)
		exception_add(e, &s->flow.key); /* on a listening port of ours */
	leave_demux(e, s, true);
	s->in_group = false;
}

void sock_set_exact(struct engine *e, struct sock *s)
{
	if (s->exact || !s->in_demux)
		return;
	int err = classifier_add_flow(e->classifier, &s->flow.key);
	if (err)
		log_warn("engine", "classifier: a connection's entry could not be added (%d)", err);
	s->exact = err == 0;
}

/* In the classifier, enum parting_left. */
static unsigned what_is_left(const struct engine *e, const struct sock *s)
{
	bool by_count = e->judged && s->in_demux && s->policy && !s->exact && !s->in_group;
	return (s->exact ? PARTING_EXACT : 0) | (s->in_group ? PARTING_GROUP : 0) | (by_count ? PARTING_COUNT : 0);
}

void sock_retire(struct engine *e, struct sock *s)
{
	if (!s->live)
		return;
	unseen_settle_sock(e, s);
	if (trace_on)
		trace_closed(s);
	if (s->fastopen_of)
		fastopen_ended(e, s);
	s->live = false;
	unsigned left = what_is_left(e, s);
	if (left & PARTING_COUNT)
		classifier_count_conn(e->classifier, &s->flow.key, 1);
	s->exact = false;
	sock_leave_demux(e, s);
	parting_add(e, &s->flow.key, left);
	fd_close(s->port_fd);
	s->port_fd = -1;
	timers_cancel(&e->timers, &s->timer);
	sock_unqueue(s);
	if (s->listener && !list_empty(&s->accept_node) && !s->accepted) { /* an embryo dies alone */
		embryo_leave(s);
		s->listener = NULL;
	}
	sock_put(e, s);
}

void count_first_fin(struct engine *e, struct sock *s)
{
	int who = s->first_fin_counted ? 0 : tcp_first_fin(&s->tcp);
	if (!who)
		return;
	s->first_fin_counted = true;
	e->counters[who > 0 ? SOCKC_FirstFinUs : SOCKC_FirstFinPeer]++;
}
