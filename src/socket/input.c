/* From frames to connections: who takes a segment, and what its events mean to the socket. */
#include "socket/errqueue.h"
#include "socket/own.h"
#include "socket/packet_seen.h"
#include "socket/process_ops.h"
#include "socket/stamps.h"
#include "socket/trace.h"
#include "socket/unseen.h"
#include "socket/listener.h"
#include "socket/fastopen.h"

#include "base/fd.h"
#include "base/log.h"
#include "ip/pieces.h"
#include "kernel/diag.h"
#include "kernel/peer_packet.h"
#include "wire/ipv6.h"

#include <string.h>

/*
 * An answer to a stranger: no connection of ours is behind it, and its source may be forged. So nothing is asked or
 * stored for it: neither a route nor a neighbour, of which forged sources would fill the kernel's tables. Where no
 * connection knows the way it goes back to the host, or the router, that sent the frame.
 */
void send_back(struct engine *e, const struct sock *l, uint8_t tos, const struct ip_input *in, const struct tcp_segment *seg)
{
	const struct iface *i = e->arrived;
	struct dest *d = dest_find(e, &in->key.laddr, &in->key.raddr, dest_oif(e, l, &in->key.raddr));
	bool known = d && d->resolved && d->iface && d->iface->link;
	const struct link_info *info = iface_info(i);
	struct ip_path path = {.has_eth = info->has_eth, .ttl = DEFAULT_TTL, .dont_fragment = true, .mtu = info->mtu};
	uint16_t id = 0; /* as Linux's, which has no socket for it either */
	if (known) {
		path = d->path;
		i = d->iface;
	} else if (info->has_eth) {
		if (!in->src_mac || (in->src_mac[0] & 1)) /* a group's address cannot have sent it */
			return;
		memcpy(path.src_mac, iface_mac(e, i), 6);
		memcpy(path.dst_mac, in->src_mac, 6);
	}
	if (l)
		sock_shape_path(l, !ip_addr_is_v4(&in->key.raddr), &path);
	path.tos = tos;
	if (ip_send_tcp(i->link, &path, &in->key, seg, 0, flow_hash(&e->flow_hasher, &in->key), &id) < 0)
		e->counters[SOCKC_EmitFailed]++;
}

int engine_kernel_owns(struct engine *e, const struct flow_key *key, int ifindex)
{
	if (e->diag_fd <= 0)
		e->diag_fd = diag_open();
	int r = e->diag_fd < 0 ? e->diag_fd : diag_ask(e->diag_fd, key, ifindex);
	if (r < 0 && e->diag_fd > 0) { /* answers may be left in it */
		fd_close(e->diag_fd);
		e->diag_fd = 0;
	}
	return r;
}

/* Is it a connection of the kernel's, older than our listener or handed over meanwhile? 1, 0, -errno. */
static int kernel_owns(struct engine *e, const struct flow_key *key)
{
	return engine_kernel_owns(e, key, iface_info(e->arrived)->ifindex);
}

/*
 * The kernel's socket listens there, and none of ours does. So the port has become the kernel's (rules, an option, a
 * hook, another program to execute), or is on the way there, and the SYN was in the ring already: the client sends it
 * again, and then the kernel gets it. A listener's end is another thing: its socket is closed first, and one that keeps
 * the kernel silent for us answers nobody.
 */
static bool is_for_kernels_listener(struct engine *e, const struct ip_input *in)
{
	if ((in->seg.flags & (SEG_SYN | SEG_ACK | SEG_RST)) != SEG_SYN || e->diag_fd <= 0 || listener_find(e, &in->key, 0) ||
	    classifier_is_silent(e->classifier, &in->key))
		return false;
	return diag_has_listener(e->diag_fd, &in->key, iface_info(e->arrived)->ifindex) > 0;
}

/* The group's program made an entry of this process's for a SYN, and nothing became of it. */
static void group_flow_is_unused(struct engine *e, const struct flow_key *key)
{
	if (e->n_shared_claims)
		parting_add(e, key, PARTING_GROUP);
}

/*
 * A connection of the kernel's on a port that has just become ours, or that has just been handed over: the segment was
 * in the ring before the classifier knew of it. The client would say it again after 200 ms only. An inexact
 * classifier's kernel has it already. The kernel takes it as come by loopback: where rules concern such a connection,
 * it is left to the client.
 */
static void give_to_kernel(struct engine *e, const struct ip_input *in)
{
	int err = exception_add(e, &in->key); /* else what is given would come here again, where loopback is served */
	e->counters[SOCKC_KernelOwns]++;
	char why[160];
	if (!err && in->tcp && !(in->seg.flags & SEG_SYN) && classifier_is_exact(e->classifier) && !judged_refuses(e, &in->key, false, why, sizeof why))
		peer_packet_repeat(&in->key, in->ttl, in->tos, in->tcp, in->tcp_len, iface_info(e->arrived)->ifindex);
}

static void input_unknown(struct engine *e, const struct ip_input *in)
{
	struct tcp_segment rst;
	bool answers = tcp_reset_for(&in->seg, &rst);
	if (!answers && !e->judged)
		return;
	if (!budget_take(&e->answers, e->now, &in->key.raddr)) {
		e->counters[SOCKC_UnknownIgnored]++;
		return;
	}
	if (e->own && !own_may_reset(e, in)) {
		e->counters[SOCKC_UnknownIgnored]++;
		return;
	}
	if (!e->own && kernel_owns(e, &in->key) == 1) {
		give_to_kernel(e, in);
		return;
	}
	if (!e->own && is_for_kernels_listener(e, in)) {
		e->counters[SOCKC_KernelListens]++;
		group_flow_is_unused(e, &in->key);
		return;
	}
	if (judged_leaves_stray(e, in) || !answers)
		return;
	e->counters[SOCKC_NoSocket]++;
	group_flow_is_unused(e, &in->key);
	send_back(e, NULL, in->tos, in, &rst); /* Linux: as what it replies to */
}

static void input_time_wait(struct engine *e, struct time_wait *tw, const struct ip_input *in)
{
	struct tcp_segment reply;
	uint32_t iss_min = 0;
	bool syn = (in->seg.flags & (SEG_SYN | SEG_ACK | SEG_RST)) == SEG_SYN;
	struct sock *l = syn ? listener_find(e, &in->key, iface_info(e->arrived)->ifindex) : NULL;
	if (syn && !l && time_wait_is_in_group(tw)) { /* of others, who will get it when it comes again */
		time_wait_free(e, tw);
		return;
	}
	switch (time_wait_input(e, tw, &in->key, &in->seg, &reply, &iss_min)) {
	case TW_DROP:
	case TW_GONE:
		break;
	case TW_REPLY:
		send_back(e, NULL, time_wait_tos(tw), in, &reply);
		break;
	case TW_REUSE: /* of a SYN only */
		/*
		 * the listener has become the kernel's, which gets the SYN when it comes again; or there is none, and
		 * Linux's client, too, hears so a second later
		 */
		if (!l) {
			time_wait_free(e, tw);
			break;
		}
		if (!listener_on_syn(e, l, in, iss_min)) /* the record stays: it guards the 4-tuple until somebody has it */
			break;
		e->counters[SOCKC_TimeWaitReused]++;
		time_wait_free(e, tw);
	}
}

void sock_tcp_input(struct engine *e, struct sock *s, const struct tcp_segment *seg)
{
	if (s->n_unseen && seg->flags & SEG_URG) /* one of the bytes is looked at */
		unseen_settle_sock(e, s);
	if (s->stamps)
		stamps_input(e, s, seg);
	else
		tcp_input(&s->tcp, e->now, seg);
}

/* It would end the handshake: no forged ACK, whose sender does not know our number, has a request refused. */
static bool ends_handshake(const struct sock *s, const struct tcp_segment *seg)
{
	struct tcp_status st;
	tcp_get_status(&s->tcp, &st);
	return (seg->flags & SEG_ACK) && seg->ack == st.snd_nxt && seg->seq - st.rcv_nxt <= st.rcv_wnd;
}

/*
 * The handshake's last ACK, or the data that a listener waits for, finds the accept queue full: it is as if lost, or
 * net.ipv4.tcp_abort_on_overflow has the request refused.
 */
static void embryo_overflows(struct engine *e, struct sock *s, const struct ip_input *in)
{
	struct tcp_segment rst;
	e->counters[SOCKC_ListenOverflows]++;
	if (!sysctls_number(&e->sysctls, SYSCTL_tcp_abort_on_overflow) || !ends_handshake(s, &in->seg) || !tcp_reset_for(&in->seg, &rst))
		return;
	send_back(e, NULL, in->tos, in, &rst);
	sock_retire(e, s);
}

static void input_conn(struct engine *e, struct sock *s, const struct ip_input *in)
{
	bool embryo = s->listener && !s->accepted && (tcp_state(&s->tcp) == TCPS_SYN_RECEIVED || sock_is_deferred(s));
	if (embryo && listener_accept_full(s->listener) && !(in->seg.flags & (SEG_RST | SEG_SYN))) {
		embryo_overflows(e, s, in);
		return;
	}
	if (embryo)
		packet_seen_opening(e, s, in);
	sock_tcp_input(e, s, &in->seg);
	if (s->values)
		packet_seen_note(e, s, in);
	sock_note_fin(e, s, in);
	sock_mark_dirty(e, s);
	sock_process_events(e, s);
}

/* Where the classifier's tap is inexact: TCP that is none of ours. The kernel has it as well, and answers. */
static bool is_kernels(struct engine *e, const struct flow_key *key)
{
	if (!engine_owns_address(e, &key->laddr) || demux_find(&e->exceptions, key))
		return true;
	return !listener_find(e, key, 0) && !classifier_is_silent(e->classifier, key);
}

static bool is_of_others(struct engine *e, const struct ip_input *in)
{
	return process_ops->is_others(e, &in->key, (in->seg.flags & (SEG_SYN | SEG_ACK | SEG_RST)) == SEG_SYN);
}

/*
 * IP_MINTTL, IPV6_MINHOPCOUNT (RFC 5082): what comes from farther away was never seen; nor what comes by another
 * interface than the one that a socket is bound to.
 */
static bool came_too_far(struct engine *e, const struct sock *s, const struct ip_input *in)
{
	if (s->ip.oif && s->ip.oif != iface_info(e->arrived)->ifindex) {
		e->counters[SOCKC_OtherInterface]++;
		return true;
	}
	bool far = in->ttl < s->ip.min_ttl[!ip_addr_is_v4(&in->key.raddr)];
	e->counters[SOCKC_MinTtl] += far;
	return far;
}

/* RFC 9293 §3.10.7.2, fourth: neither RST, ACK nor SYN: drop. A SYN with FIN, too, as Linux. */
static bool is_nothing_to_listener(const struct tcp_segment *seg)
{
	return !(seg->flags & (SEG_ACK | SEG_RST)) && (!(seg->flags & SEG_SYN) || (seg->flags & SEG_FIN));
}

/*
 * A connection that ended earlier in this turn makes room first: what follows finds its TIME-WAIT, the listener or
 * nobody, as it would in a later turn.
 */
static struct sock *conn_find(struct engine *e, const struct flow_key *key)
{
	struct flow *f = demux_find(&e->demux, key);
	struct sock *s = f ? container_of(f, struct sock, flow) : NULL;
	return s && s->ending && turn_conclude(e, s) ? NULL : s;
}

/* The kernel has its connection, by now: it came while the process was stopped. */
static bool was_given(struct engine *e, const struct ip_input *in)
{
	return (in->seg.flags & (SEG_SYN | SEG_ACK | SEG_RST)) == SEG_SYN && exception_holds(e, &in->key, iface_info(e->arrived)->ifindex);
}

static void input_tcp(struct engine *e, const struct ip_input *in)
{
	if (was_given(e, in)) {
		e->counters[SOCKC_KernelOwns]++;
		return;
	}
	struct sock *s = conn_find(e, &in->key);
	if (s) {
		if (!came_too_far(e, s, in))
			input_conn(e, s, in);
		return;
	}
	struct time_wait *tw = time_wait_find(e, &in->key);
	if (tw)
		return input_time_wait(e, tw, in);
	if (!e->own && !classifier_is_exact(e->classifier) && (is_kernels(e, &in->key) || is_of_others(e, in))) {
		e->counters[SOCKC_NotOurs]++;
		return;
	}
	if (is_nothing_to_listener(&in->seg) && listener_find(e, &in->key, 0))
		return;
	if ((in->seg.flags & (SEG_SYN | SEG_ACK | SEG_RST)) == SEG_SYN) {
		struct sock *l = listener_find(e, &in->key, iface_info(e->arrived)->ifindex);
		if (!l && listener_is_elsewhere(e, &in->key)) { /* the kernel's, when it comes again */
			e->counters[SOCKC_OtherInterface]++;
			exception_add_for_stranger(e, &in->key);
			return;
		}
		if (l) {
			if (came_too_far(e, l, in) || !listener_on_syn(e, l, in, 0))
				group_flow_is_unused(e, &in->key);
			return;
		}
		if (e->n_shared_claims && process_ops->flow_ends(e, &in->key)) /* others listen: it comes again, and is theirs */
			return;
	}
	if ((in->seg.flags & (SEG_SYN | SEG_ACK | SEG_RST)) == SEG_ACK) {
		struct sock *l = listener_find(e, &in->key, iface_info(e->arrived)->ifindex);
		if (l && (came_too_far(e, l, in) || listener_on_ack(e, l, in)))
			return;
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

/*
 * As Linux: an attempt to connect ends by it, and its error queue has the message, of IPv6 only who asked for errors;
 * else who asked for them hears, and the connection goes on.
 */
void input_unreachable(struct engine *e, struct sock *s, const struct ip_icmp_error *icmp)
{
	bool passive = s->accepted || s->listener, v4 = ip_addr_is_v4(&icmp->key.raddr);
	switch (tcp_on_unreachable(&s->tcp, e->now, icmp->err, icmp->hard, icmp->seq)) {
	case TCP_UNREACHABLE_ENDED:
		if (!passive && (v4 || s->ip.recverr[1]))
			errqueue_push_icmp(e, s, icmp);
		break;
	case TCP_UNREACHABLE_NOTED:
		/* A half-open one has no program yet that could hear of it; and whoever opened it could send this. */
		if (s->ip.recverr[!v4] && !(s->listener && tcp_state(&s->tcp) == TCPS_SYN_RECEIVED))
			tcp_tell_error(&s->tcp, icmp->err);
		break;
	case TCP_UNREACHABLE_IGNORED:
		break;
	}
}

static void input_icmp(struct engine *e, const struct ip_icmp_error *icmp)
{
	struct flow *f = demux_find(&e->demux, &icmp->key);
	if (!f)
		return;
	struct sock *s = container_of(f, struct sock, flow);
	e->counters[SOCKC_IcmpErrors]++;
	if (icmp->frag_needed)
		input_frag_needed(e, s, icmp);
	else
		input_unreachable(e, s, icmp);
	sock_mark_dirty(e, s);
	sock_process_events(e, s);
}

/* A fragment: is its packet whole with it? */
static bool is_whole(struct engine *e, const struct link_rx *rx, bool has_eth, struct link_rx *whole)
{
	if (!e->pieces)
		e->pieces = pieces_new();
	return e->pieces && pieces_add(e->pieces, e->now, rx, has_eth, whole);
}

void input_frame(struct engine *e, struct iface *i, const struct link_rx *rx)
{
	struct ip_input in;
	struct link_rx whole;
	bool has_eth = iface_info(i)->has_eth;
	ip_input_parse(rx, has_eth, &in);
	if (in.fate == IP_FATE_Fragment && is_whole(e, rx, has_eth, &whole)) {
		rx = &whole;
		ip_input_parse(rx, has_eth, &in);
	}
	e->frame = rx;
	input_packet(e, i, &in);
	e->frame = NULL;
}

void input_packet(struct engine *e, struct iface *i, const struct ip_input *in)
{
	e->arrived = i;
	e->ip_fates[in->fate]++;
	if (in->kind == IP_INPUT_TCP)
		input_tcp(e, in);
	else if (in->kind == IP_INPUT_ICMP)
		input_icmp(e, &in->icmp);
}

/*
 * Linux's poll flags of the wake-up that an event is. 0: whoever watches looks at everything, as after a change of
 * state.
 */
static uint32_t poll_events_of(uint32_t ev)
{
	if (ev & ~(TCP_EV_READABLE | TCP_EV_WRITABLE | TCP_EV_URGENT))
		return 0;
	uint32_t in = ev & (TCP_EV_READABLE | TCP_EV_URGENT) ? SOCK_WAKES_READERS : 0;
	return in | (ev & TCP_EV_WRITABLE ? POLLOUT | POLLWRNORM | POLLWRBAND : 0);
}

void sock_notify_events(struct engine *e, struct sock *s, uint32_t poll_events)
{
	s->notify_events = poll_events;
	sock_notify(e, s);
	s->notify_events = 0;
}

void sock_process_events(struct engine *e, struct sock *s)
{
	if (s->n_err_owed)
		errqueue_progress(e, s);
	uint32_t ev = tcp_take_events(&s->tcp);
	if (!ev)
		return;
	count_first_fin(e, s);
	if (ev & TCP_EV_BLACK_HOLE)
		fastopen_hole(e);
	if (ev & TCP_EV_CONNECTED) {
		sock_note_handshake(e, s);
		fastopen_learn(e, s);
		if (trace_on)
			trace_opened(s);
	}
	if (s->fastopen_of && (ev & (TCP_EV_CONNECTED | TCP_EV_CLOSED | TCP_EV_ERROR)))
		fastopen_ended(e, s);
	if ((ev & TCP_EV_CONNECTED) && s->listener && !s->accepted)
		listener_on_established(e, s);
	else if ((ev & (TCP_EV_READABLE | TCP_EV_PEER_FIN)) && sock_is_deferred(s)) {
		list_unlink(&s->defer_node);
		listener_give_to_accept(e, s);
	}
	if (s->live && (ev & (TCP_EV_TIME_WAIT | TCP_EV_CLOSED))) {
		fastopen_client_ended(e, s);
		s->ends_in_time_wait = ev & TCP_EV_TIME_WAIT;
		s->ending = true; /* once its last segment is out: turn_end */
		sock_mark_dirty(e, s);
	}
	sock_notify_events(e, s, poll_events_of(ev));
}
