/*
 * One turn of the engine: the time is read once, frames come in, due timers run; after the verb, every connection that
 * was touched says what it sends, its next deadline is armed, and all frames go to the kernel in one call.
 *
 * While an interface's queue is full (link_tx_blocked), its connections are held: what they would say now would only
 * wait behind what is queued, and be old when it leaves; their timers would run against a queue of our own making. They
 * go on, in order, when there is room again.
 */
#include "socket/own.h"
#include "socket/process_ops.h"
#include "socket/stamps.h"
#include "socket/trace.h"
#include "socket/unseen.h"
#include "socket/listener.h"

#include "base/log.h"
#include "base/sys.h"
#include "kernel/judge.h"

#include <errno.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <string.h>

/* Frames taken per turn before segments go out: bounds the delay of ACKs under load. */
#define TURN_RX_BUDGET 256
/*
 * A connection that may not send: its timers go on (a handshake must be able to give up), but what is due to be sent
 * waits, so its deadline must not spin.
 */
#define WAITING_TICK_US (100 * USEC_PER_MSEC)

static struct engine *engine_of(struct drive *d)
{
	return container_of(d, struct engine, drive);
}

void turn_now(struct engine *e)
{
	e->now = e->drive.now = clock_now_us();
}

static bool frames_wait(struct engine *e)
{
	struct iface *i;
	ifaces_for_each(e, i)
		if (link_rx_pending(i->link))
			return true;
	return false;
}

static void frames_in(struct engine *e)
{
	struct iface *i;
	exceptions_take_given(e);
	ifaces_for_each(e, i)
		if (link_rx_pending(i->link))
			link_drain(i->link, &i->rx_handler, TURN_RX_BUDGET);
	if (e->classifier)
		classifier_looked(e->classifier);
	exceptions_take_given(e); /* the process went on when the classifier had just decided */
}

void turn_frames(struct engine *e)
{
	turn_now(e);
	frames_in(e);
}

static int64_t begin(struct drive *d)
{
	struct engine *e = engine_of(d);
	e->now = clock_now_us();
	if (!e->up)
		return e->now;
	bool waited = e->net_polled;
	if (waited)
		e->net_looked_us = e->now;
	e->net_polled = false;
	/*
	 * what the classifier's taps noted is read anew when a frame came; else a verb would fetch that memory from
	 * their CPU each time
	 */
	if (waited || frames_wait(e))
		frames_in(e);
	if (e->own)
		own_tick(e);
	if (judged_pending(e))
		judged_drain(e);
	for (struct timer *t; (t = timers_first(&e->timers)) && t->at_us <= e->now;) {
		struct sock *s = container_of(t, struct sock, timer);
		timers_cancel(&e->timers, t);
		tcp_tick(&s->tcp, e->now);
		sock_process_events(e, s);
		sock_mark_dirty(e, s);
	}
	time_wait_expire(e);
	partings_sweep(e);
	defer_expire(e);
	exceptions_sweep(e);
	if (e->rejudge.on && e->now >= e->rejudge.look_us)
		rejudge_look(e);
	return e->now;
}

void sock_mark_dirty(struct engine *e, struct sock *s)
{
	if (s->queued)
		return;
	list_unlink(&s->dirty); /* from the stalled ones, too: dest_resolve decides anew */
	list_push_back(&e->dirty, &s->dirty);
	s->queued = true;
}

void sock_unqueue(struct sock *s)
{
	list_unlink(&s->dirty);
	s->queued = false;
}

void sock_notify(struct engine *e, struct sock *s)
{
	(void)e;
	s->ready_seq++;
	list_for_each (pos, tmp, &s->watches) {
		struct watch *w = container_of(pos, struct watch, node);
		w->notify(w, s);
	}
}

/* A last segment is not held: who sends it is gone afterwards. Nor is anything at the process's end. */
static bool must_hold(const struct engine *e, const struct sock *s)
{
	const struct iface *i = s->dest->iface;
	return i && i->link && link_tx_blocked(i->link) && !s->ending && !e->exiting;
}

void sock_shape_path(const struct sock *s, bool v6, struct ip_path *path)
{
	path->tos = s->ip.tos[v6];
	path->priority = options_frame_priority(s);
	if (s->ip.ttl[v6])
		path->ttl = s->ip.ttl[v6];
	path->dont_fragment = path->dont_fragment && !s->ip.may_fragment;
}

/* The destination's path, as the socket's options change it. */
static const struct ip_path *path_of(const struct sock *s, struct ip_path *own)
{
	bool v6 = !ip_addr_is_v4(&s->flow.key.raddr);
	if (!s->values && !s->ip.priority) /* no option that could */
		return &s->dest->path;
	*own = s->dest->path;
	sock_shape_path(s, v6, own);
	return own;
}

#define LABEL_STEP UINT32_C(0x9e3779b1)

/* As Linux: what timed out goes another way next, where routers choose by the flow label (RFC 6438). */
static uint32_t label_of(const struct sock *s, const struct tcp_conn *conn)
{
	return ip_addr_is_v4(&s->flow.key.raddr) ? 0 : s->flow.hash + tcp_rehashes(conn) * LABEL_STEP;
}

struct idents {
	uint32_t label; /* IPv6 */
	uint16_t *next, own;
};

/*
 * A SYN-ACK's IPv4 identification is 0, as Linux's, and those of TIME-WAIT's ACKs and of a RST that replies; a FIN's
 * identifies us to others who run finesse.
 */
static void special_idents(const struct engine *e, const struct sock *s, const struct tcp_segment *seg, uint16_t gso_size, struct idents *id)
{
	if (seg->flags & SEG_SYN) {
		if (s->listener || s->accepted)
			id->next = &id->own;
		return;
	}
	if (!e->peers.words)
		return;
	id->label = peers_mark(seg->seq + seg->payload_len);
	id->own = id->label - (ip_wire_segs(seg, gso_size) - 1);
	id->next = &id->own;
}

/* What a SYN that has no next hop would have said: an ICMP error quotes it. */
struct unreached {
	uint8_t header[TCP_HDR_MAX];
	uint32_t len;
};

static void emit_segment(struct tcp_emit *emit, struct tcp_conn *conn, const struct tcp_segment *seg, uint16_t gso_size)
{
	struct engine *e = container_of(emit, struct engine, emit);
	struct sock *s = container_of(conn, struct sock, tcp);
	const struct iface *i = s->dest->iface;
	if (!s->dest->resolved || !i || !i->link) { /* as if lost on the way: timers go on, and give up in the end */
		e->counters[SOCKC_NoNextHop]++;
		if (e->unreached && (seg->flags & SEG_SYN))
			e->unreached->len = (uint32_t)tcp_build(seg, e->unreached->header);
		return;
	}
	struct ip_path own;
	struct idents id = {.label = label_of(s, conn), .next = &s->dest->ip_id, .own = 0};
	if (seg->flags & (SEG_SYN | SEG_FIN))
		special_idents(e, s, seg, gso_size, &id);
	else if (tcp_is_closed_late(conn) || (seg->flags & (SEG_RST | SEG_ACK)) == SEG_RST || ((seg->flags & SEG_RST) && s->listener) || (s->fastopen_of && !seg->payload_len && tcp_state(conn) == TCPS_SYN_RECEIVED))
		id.next = &id.own;
	int err;
	if (s->stamps && seg->payload_len) {
		uint8_t hdr[LINK_HDR_MAX];
		struct link_tx tx;
		err = ip_build_tcp(hdr, &tx, path_of(s, &own), &s->flow.key, seg, gso_size, id.label, id.next);
		if (err >= 0) {
			err = link_send(i->link, &tx);
			stamps_left(e, s, seg, &tx);
		}
	} else {
		err = ip_send_tcp(i->link, path_of(s, &own), &s->flow.key, seg, gso_size, id.label, id.next);
	}
	if (err < 0)
		e->counters[SOCKC_EmitFailed]++;
	emit->full = must_hold(e, s);
}

void turn_init(struct engine *e)
{
	e->emit.segment = emit_segment;
}

/*
 * It is not that there is no way: the kernel could not be asked for it, for want of memory, room or time. Linux's
 * packets are lost then, and nobody says anything.
 */
static bool may_have_a_way(int err)
{
	return err == -ENOBUFS || err == -ENOMEM || err == -ETIMEDOUT || err == -EINTR;
}

/*
 * What is sent is lost. Where the next hop cannot be reached it is as if an ICMP unreachable had answered the oldest of
 * it.
 */
static void output_lost(struct engine *e, struct sock *s, int err)
{
	struct tcp_status st;
	struct unreached syn = {.len = 0};
	e->unreached = &syn;
	tcp_output(&s->tcp, e->now, &e->emit);
	e->unreached = NULL;
	if (may_have_a_way(err))
		return;
	tcp_get_status(&s->tcp, &st);
	if (err != -EHOSTUNREACH || !s->dest->iface) { /* a route that refuses: nobody says anything */
		tcp_on_unreachable(&s->tcp, e->now, -err, false, st.snd_una);
		return;
	}
	bool v4 = ip_addr_is_v4(&s->flow.key.raddr); /* this host says it to itself, as Linux's does */
	input_unreachable(e, s,
			  &(struct ip_icmp_error){
				  .key = s->flow.key,
				  .seq = st.snd_una,
				  .err = EHOSTUNREACH,
				  .type = v4 ? ICMP_DEST_UNREACH : ICMPV6_DEST_UNREACH,
				  .code = v4 ? ICMP_HOST_UNREACH : ICMPV6_ADDR_UNREACH,
				  .offender = s->flow.key.laddr,
				  .quote = syn.header,
				  .quote_len = syn.len,
			  });
}

static void arm_timer(struct engine *e, struct sock *s)
{
	int64_t at = s->live ? tcp_next_deadline(&s->tcp) : TIME_NEVER;
	if (at == TIME_NEVER)
		timers_cancel(&e->timers, &s->timer);
	else
		timers_set(&e->timers, &s->timer, at);
}

/* The last segment is out: what remains is TIME-WAIT, or nothing. */
static void end_protocol(struct engine *e, struct sock *s)
{
	s->ending = false;
	if (s->live && s->ends_in_time_wait)
		time_wait_add(e, s);
	sock_retire(e, s);
}

static void hold(struct engine *e, struct sock *s)
{
	list_push_back(&e->held, &s->dirty);
	timers_set(&e->timers, &s->timer, e->now + WAITING_TICK_US);
}

/* There is room: in the order in which they were held, before those of this turn. */
static void release_held(struct engine *e)
{
	struct list *before;
	for (struct list *last = e->held.prev; last != &e->held; last = before) {
		before = last->prev;
		if (must_hold(e, container_of(last, struct sock, dirty)))
			continue;
		list_unlink(last);
		list_push_front(&e->dirty, last);
		container_of(last, struct sock, dirty)->queued = true;
	}
}

static void output_one(struct engine *e, struct sock *s)
{
	if (s->live && must_hold(e, s)) {
		hold(e, s);
		return;
	}
	if (s->live) {
		int err = dest_resolve(e, s->dest);
		if ((err == -EAGAIN || (err == -EXDEV && s->dest->route.kernels)) && !s->ending) {
			list_push_back(&e->stalled, &s->dirty);
			timers_set(&e->timers, &s->timer, e->now + WAITING_TICK_US); /* … for the neighbour, or to become the kernel's */
			return;
		}
		e->emit.full = false;
		if (!err)
			sock_follow_path(e, s);
		if (err && !s->ending)
			output_lost(e, s, err);
		else if (!err)
			tcp_output(&s->tcp, e->now, &e->emit);
	}
	if (s->live)
		sock_process_events(e, s);
	sock_say_last_word(e, s);
	if (trace_on)
		trace_steps(s);
	if (s->live && e->emit.full && must_hold(e, s)) {
		hold(e, s);
		return;
	}
	if (s->ending)
		end_protocol(e, s);
	arm_timer(e, s);
}

bool turn_conclude(struct engine *e, struct sock *s)
{
	__atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
	sock_unqueue(s);
	output_one(e, s);
	bool over = !s->live;
	sock_put(e, s);
	return over;
}

static bool may_wait(const struct sock *s)
{
	return s->live && !s->ending && tcp_may_say_later(&s->tcp);
}

/*
 * In the order in which they first had something to say, however often they were marked since: peers see it. A client
 * whose handshakes end in one turn, and that sends requests on some of them, would else be accepted in another order
 * than it connected. A server with a process per connection then waits for one that says nothing.
 */
static void output_all(struct engine *e, bool urgent)
{
	struct list later; /* those that may wait: back to their places */
	list_init(&later);
	for (struct list *pos; (pos = list_first(&e->dirty));) {
		struct sock *s = container_of(pos, struct sock, dirty);
		list_unlink(pos);
		if (urgent && may_wait(s)) {
			list_push_back(&later, pos);
			continue;
		}
		s->queued = false;
		__atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED); /* output may retire it */
		output_one(e, s);
		sock_put(e, s);
	}
	for (struct list *last; (last = later.prev) != &later;) {
		list_unlink(last);
		list_push_front(&e->dirty, last);
	}
}

static bool tx_blocked(struct drive *d)
{
	struct iface *i;
	ifaces_for_each(engine_of(d), i)
		if (link_tx_blocked(i->link))
			return true;
	return false;
}

/* The interface's queue refused frames. The newest first, as tcp_bounced wants it. */
static void tell_bounced(struct engine *e, const struct link *l)
{
	uint32_t payload_len, seq;
	const uint8_t *hdr;
	unsigned n = 0;
	while (link_bounced(l, n, &payload_len))
		n++;
	while (n--) {
		struct flow_key key;
		hdr = link_bounced(l, n, &payload_len);
		if (!ip_read_built(hdr, link_info(l)->has_eth, &key, &seq))
			continue;
		struct flow *f = demux_find(&e->demux, &key);
		struct sock *s = f ? container_of(f, struct sock, flow) : NULL;
		if (!s || !s->live)
			continue;
		tcp_bounced(&s->tcp, e->now, seq, payload_len);
		if (!s->queued)
			arm_timer(e, s);
	}
}

static void flush(struct engine *e, bool only_blocked)
{
	struct iface *i;
	ifaces_for_each(e, i) {
		int err = only_blocked && !link_tx_blocked(i->link) ? 0 : link_flush(i->link);
		tell_bounced(e, i->link);
		if (err < 0 && err != -EAGAIN)
			log_debug("engine", "transmit on %s: error %d", iface_info(i)->ifname, -err);
	}
}

static void end_turn(struct engine *e, bool urgent)
{
	if (!e->up)
		return;
	if (tx_blocked(&e->drive))
		flush(e, true);
	release_held(e);
	output_all(e, urgent);
	listeners_drain(e);
	process_ops->turn_ends(e);
	output_all(e, urgent); /* what could not be given to others is reset */
	flush(e, false);
	if (!list_empty(&e->stamps_due))
		stamps_flushed(e);
	if (trace_on)
		trace_flush();
}

static void end(struct drive *d)
{
	end_turn(engine_of(d), false);
}

static void end_urgent(struct drive *d)
{
	end_turn(engine_of(d), true);
}

static bool owes(struct drive *d)
{
	const struct engine *e = engine_of(d);
	return !list_empty(&e->dirty);
}

/* Only who has waited the longest is asked: whoever has received much is mostly alone, and there may be thousands. */
static bool hurries(struct drive *d)
{
	const struct list *first = list_first(&engine_of(d)->dirty);
	return first && tcp_acks_much(&container_of(first, const struct sock, dirty)->tcp);
}

static int64_t look(struct drive *d)
{
	turn_now(engine_of(d));
	return d->now;
}

int64_t turn_deadline(struct engine *e)
{
	struct timer *t = timers_first(&e->timers);
	int64_t at = min_time(t ? t->at_us : TIME_NEVER, min_time(time_wait_deadline(e), trace_deadline()));
	at = min_time(at, e->claims_us);
	if (e->own)
		at = min_time(at, own_deadline(e));
	return e->up ? min_time(at, min_time(min_time(partings_deadline(e), defer_deadline(e)), exceptions_deadline(e))) : at;
}

static int64_t deadline(struct drive *d)
{
	return turn_deadline(engine_of(d));
}

/* ---- what the engine lives from ---- */

static unsigned fds(struct drive *d, struct pollfd *out)
{
	struct engine *e = engine_of(d);
	unsigned n = 0;
	struct iface *i;
	unseen_settle(e);
	out[n++] = (struct pollfd){.fd = netstate_fd(e->net), .events = POLLIN};
	ifaces_for_each(e, i) {
		out[n++] = (struct pollfd){.fd = link_rx_fd(i->link), .events = POLLIN};
		if (link_tx_blocked(i->link))
			out[n++] = (struct pollfd){.fd = link_tx_fd(i->link), .events = POLLOUT};
	}
	if (e->judge) {
		judge_settle(e->judge);
		out[n++] = (struct pollfd){.fd = judge_poll_fd(e->judge), .events = POLLIN};
	}
	return n;
}

/* An interface went down or away: the error stays readable, and every poll returns at once, until it is fetched. */
static void clear_error(const struct pollfd *p)
{
	int err;
	socklen_t len = sizeof err;
	if ((p->revents & POLLERR) && sys_getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err)
		log_info("engine", "an interface says: %s", strerror(err));
}

/* The transmit queue is flushed at the turn's end. */
static void ready(struct drive *d, const struct pollfd *polled, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		clear_error(&polled[i]);
	if (n && polled[0].revents)
		turn_net_changed(engine_of(d));
	engine_of(d)->net_polled = true;
}

static bool rx_pending(struct drive *d)
{
	return frames_wait(engine_of(d)) || judged_pending(engine_of(d));
}

const struct drive_ops turn_ops = {
	.begin = begin,
	.end = end,
	.end_urgent = end_urgent,
	.owes = owes,
	.hurries = hurries,
	.look = look,
	.deadline = deadline,
	.fds = fds,
	.ready = ready,
	.tx_blocked = tx_blocked,
	.rx_pending = rx_pending,
	.service_fds = service_fds,
	.service = service_run,
};
