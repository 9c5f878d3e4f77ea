/* From frames to connections: who takes a segment, and what its events mean to the socket. */
#include "socket/engine.h"

#include "base/log.h"
#include "kernel/diag.h"
#include "wire/ipv6.h"

/* Before a segment of no connection is answered by RST, the kernel is asked whether it owns it; at most this often. */
#define DIAG_PER_WINDOW 100
#define DIAG_WINDOW_US  USEC_PER_SEC

static void send_detached(struct engine *e, const struct flow_key *key, const struct tcp_segment *seg)
{
	struct dest *d = dest_get(e, &key->laddr, &key->raddr);
	if (!d)
		return;
	int err = dest_resolve(e, d);
	if (!err)
		err = ip_send_tcp(e->link, &d->path, key, seg, 0, 0, &d->ip_id);
	if (err)
		e->counters[SOCKC_EmitFailed]++;
	dest_put(e, d);
}

static bool may_ask_kernel(struct engine *e)
{
	if (e->now - e->diag_window_us >= DIAG_WINDOW_US) {
		e->diag_window_us = e->now;
		e->diag_asked = 0;
	}
	return e->diag_asked++ < DIAG_PER_WINDOW;
}

static void input_unknown(struct engine *e, const struct ip_input *in)
{
	struct tcp_segment rst;
	if (!tcp_reset_for(&in->seg, &rst))
		return;
	if (!may_ask_kernel(e)) {
		e->counters[SOCKC_UnknownIgnored]++;
		return;
	}
	if (diag_owns_on(&in->key, link_info(e->link)->ifindex) == 1) { /* older than our listener, or handed over meanwhile */
		exception_add(e, &in->key);
		e->counters[SOCKC_KernelOwns]++;
		return;
	}
	e->counters[SOCKC_NoSocket]++;
	send_detached(e, &in->key, &rst);
}

static void input_time_wait(struct engine *e, struct time_wait *tw, const struct ip_input *in)
{
	struct tcp_segment reply;
	uint32_t iss_min = 0;
	bool syn = (in->seg.flags & (SEG_SYN | SEG_ACK | SEG_RST)) == SEG_SYN;
	struct sock *l = syn ? listener_find(e, &in->key) : NULL;
	if (syn && !l)
		return input_unknown(e, in);
	switch (time_wait_input(e, tw, &in->key, &in->seg, &reply, &iss_min)) {
	case TW_DROP:
	case TW_GONE:
		break;
	case TW_REPLY:
		send_detached(e, &in->key, &reply);
		break;
	case TW_REUSE: /* of a SYN only */
		e->counters[SOCKC_TimeWaitReused]++;
		listener_on_syn(e, l, in, iss_min);
	}
}

static void input_conn(struct engine *e, struct sock *s, const struct ip_input *in)
{
	/* The handshake's last ACK finds the accept queue full: it is as if lost (Linux's tcp_abort_on_overflow=0). */
	if (s->listener && tcp_state(&s->tcp) == TCPS_SYN_RECEIVED && listener_accept_full(s->listener) &&
	    !(in->seg.flags & (SEG_RST | SEG_SYN))) {
		e->counters[SOCKC_ListenOverflows]++;
		return;
	}
	tcp_input(&s->tcp, e->now, &in->seg);
	sock_mark_dirty(e, s);
	sock_process_events(e, s);
}

/* Where the classifier's tap is inexact: TCP that is none of ours. The kernel has it as well, and answers. */
static bool is_kernels(struct engine *e, const struct flow_key *key)
{
	return !engine_owns_address(e, &key->laddr) || !listener_find(e, key) || demux_find(&e->exceptions, key);
}

static void input_tcp(struct engine *e, const struct ip_input *in)
{
	struct flow *f = demux_find(&e->demux, &in->key);
	if (f)
		return input_conn(e, container_of(f, struct sock, flow), in);
	struct time_wait *tw = time_wait_find(e, &in->key);
	if (tw)
		return input_time_wait(e, tw, in);
	if (!classifier_is_exact(e->classifier) && is_kernels(e, &in->key)) {
		e->counters[SOCKC_NotOurs]++;
		return;
	}
	if ((in->seg.flags & (SEG_SYN | SEG_ACK | SEG_RST)) == SEG_SYN) {
		struct sock *l = listener_find(e, &in->key);
		if (l)
			return listener_on_syn(e, l, in, 0);
	}
	input_unknown(e, in);
}

/* A packet of ours was too big for a router. */
static void input_frag_needed(struct engine *e, struct sock *s, const struct ip_icmp_error *icmp)
{
	uint32_t mtu = icmp->mtu, least = ip_addr_is_v4(&icmp->key.raddr) ? PMTU_MIN_V4 : IPV6_MTU_MIN;
	if (s->path_mtu && mtu >= s->path_mtu)
		return;
	if (tcp_on_frag_needed(&s->tcp, e->now, (mtu > least ? mtu : least) - ip_tcp_overhead(&icmp->key.raddr), icmp->seq))
		pmtu_learn(e, &icmp->key.raddr, mtu);
}

static void input_icmp(struct engine *e, const struct ip_icmp_error *icmp)
{
	struct flow *f = demux_find(&e->demux, &icmp->key);
	if (!f)
		return;
	struct sock *s = container_of(f, struct sock, flow);
	e->counters[SOCKC_IcmpErrors]++;
	if (icmp->frag_needed) {
		input_frag_needed(e, s, icmp);
	} else {
		tcp_on_unreachable(&s->tcp, e->now, icmp->err, icmp->hard, icmp->seq);
	}
	sock_mark_dirty(e, s);
	sock_process_events(e, s);
}

void input_frame(struct engine *e, const struct link_rx *rx)
{
	struct ip_input in;
	ip_input_parse(rx, link_info(e->link)->has_eth, &in);
	e->ip_fates[in.fate]++;
	if (in.kind == IP_INPUT_TCP)
		input_tcp(e, &in);
	else if (in.kind == IP_INPUT_ICMP)
		input_icmp(e, &in.icmp);
}

void sock_process_events(struct engine *e, struct sock *s)
{
	uint32_t ev = tcp_take_events(&s->tcp);
	if (!ev)
		return;
	count_first_fin(e, s);
	if (ev & TCP_EV_CONNECTED) {
		sock_note_handshake(e, s);
		if (trace_on)
			trace_opened(s);
	}
	if ((ev & TCP_EV_CONNECTED) && s->listener)
		listener_on_established(e, s);
	if (s->live && (ev & (TCP_EV_TIME_WAIT | TCP_EV_CLOSED))) {
		s->ends_in_time_wait = ev & TCP_EV_TIME_WAIT;
		s->ending = true; /* once its last segment is out: turn_end */
		sock_mark_dirty(e, s);
	}
	sock_notify(e, s);
}
