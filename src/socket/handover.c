/*
 * Handover: a connection of ours becomes the kernel's, in the order of kernel/handover.h: the kernel has it, then the
 * classifier lets the flow's frames through and we forget it, then what is unsent leaves. So the peer's segments always
 * meet somebody.
 */
#include "socket/own.h"
#include "socket/fallback.h"
#include "socket/leaving.h"
#include "socket/process_ops.h"
#include "socket/trace.h"
#include "socket/unseen.h"
#include "socket/listener.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "kernel/ended.h"
#include "kernel/handover.h"
#include "tcp/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>

/*
 * Unsent data that the kernel could not take is sent by ourselves when the process ends, as long as the peer answers.
 * One that is busy elsewhere and keeps its window shut gets everything from the kernel however long that takes; here,
 * within a minute. Who was told to end by a signal, or executes another program, waits for less.
 */
#define EXIT_SILENT_US (2 * USEC_PER_SEC)
#define EXIT_DRAIN_US  (60 * USEC_PER_SEC)
/*
 * An orderly end waits so long for the peer's part in it, where the kernel cannot finish it: own addresses, and a
 * classifier that goes with the process.
 */
#define EXIT_ENDS_US (300 * USEC_PER_MSEC)
#define EXIT_HANDSHAKES_US USEC_PER_SEC /* of clients that others will accept, for one that is far away, or whose first answer is lost and said again */
#define HANDSHAKE_WAIT_US (10 * USEC_PER_SEC) /* then the connection is lost for whoever was to get it */
#define EXIT_DRAIN_STEP_US (5 * USEC_PER_MSEC) /* … looking this often whether it is acknowledged */

static void flow_becomes_kernels(struct engine *e, struct sock *s)
{
	if (!s->policy)
		ports_handed_over(e->ports, s->flow.key.lport);
	sock_becomes_kernels(e, s);
}

static int take_snapshot(struct engine *e, struct sock *s, struct tcp_snapshot *snap)
{
	unseen_settle_sock(e, s);
	int err = s->live ? tcp_snapshot(&s->tcp, e->now, snap) : -ENOTCONN; /* its peer has reset it */
	snap->held = e->rejudge.holds;
	return err;
}

static int begin(struct engine *e, struct sock *s, struct tcp_snapshot *snap)
{
	int err = take_snapshot(e, s, snap);
	return err ? err : handover_begin(snap, s->family, iface_scope(e, &s->flow.key.laddr));
}

/*
 * What came while the kernel's socket was made is in the ring. The socket that has it, too; or -errno, and there is
 * none.
 */
static int follow(struct engine *e, struct sock *s, int fd, struct tcp_snapshot *snap)
{
	const struct tcp_snapshot then = *snap;
	turn_frames(e);
	int err = take_snapshot(e, s, snap);
	if (!err)
		err = handover_follow(fd, &then, snap, iface_scope(e, &s->flow.key.laddr));
	snap->snd_nxt = then.snd_nxt; /* nothing was sent meanwhile */
	if (!err)
		return fd;
	sys_close(fd); /* in repair mode: silent */
	return err == -EAGAIN || err == -ENETDOWN ? begin(e, s, snap) : err; /* the FIN was not taken: anew, where the window is open for it */
}

/* A connection in an earlier or later state would be another socket after what comes, or none. */
static bool may_follow(const struct sock *s)
{
	return tcp_state(&s->tcp) == TCPS_ESTABLISHED && (!s->closed || s->child_refs) && !s->listener && !s->ending;
}

/* The kernel's new socket does not know what is not acknowledged yet, and would have the peer send it again. */
static void say_ack(struct engine *e, struct sock *s)
{
	if (!tcp_hurry_ack(&s->tcp) || dest_resolve(e, s->dest) != 0)
		return;
	e->emit.full = false;
	tcp_output(&s->tcp, e->now, &e->emit);
}

static int hand_over(struct engine *e, struct sock *s, const char *why, bool follows)
{
	struct tcp_snapshot snap;
	if (!s->live)
		return -ENOTCONN;
	if (e->own) /* the kernel has no such address */
		return -EOPNOTSUPP;
	say_ack(e, s);
	int err, fd = begin(e, s, &snap);
	if (fd >= 0 && follows)
		fd = follow(e, s, fd, &snap);
	if (fd < 0) {
		e->counters[SOCKC_HandoverFailed]++;
		log_debug("handover", "a connection in %s could not be handed over (errno %d)", tcp_state_name(tcp_state(&s->tcp)), -fd);
		return fd;
	}
	options_to_kernel(e, s, fd); /* before anything leaves */
	rejudge_tell_conntrack(e, s);
	flow_becomes_kernels(e, s);
	e->counters[SOCKC_HandedOver]++;
	if (why)
		handover_note(&s->flow.key, why);
	s->kind = SOCK_KIND_DEAD;
	sock_ref(s); /* its buffers hold the snapshot's data */
	sock_notify(e, s); /* who waits looks again, and sees that it is gone */
	sock_retire(e, s);
	err = handover_finish(fd, &snap);
	if (!err)
		options_sndbuf_to_kernel(s, fd);
	if (!err && !s->reuseaddr)
		sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){0}, sizeof(int));
	if (!err && s->shut_rd)
		sys_shutdown(fd, SHUT_RD);
	sock_put(e, s);
	if (!err)
		return fd;
	e->counters[SOCKC_HandoverFailed]++;
	return err; /* the kernel gave up: so did the connection */
}

int conn_handover(struct engine *e, struct sock *s, const char *why)
{
	return hand_over(e, s, why, false);
}

int conn_handover_alone(struct engine *e, struct sock *s, const char *why)
{
	bool follows = s->live && !e->own && may_follow(s);
	int fd = hand_over(e, s, why, follows);
	if (follows)
		turn_end(e); /* what came was not this connection's alone */
	return fd;
}

/* Of Fast Open: text is under way, and the handshake is not complete. */
static bool is_early(const struct sock *s)
{
	return s->kind == SOCK_KIND_CONN && (s->fastopen_of || (s->live && tcp_state(&s->tcp) == TCPS_SYN_SENT && tcp_unacked_bytes(&s->tcp)));
}

/* The kernel takes a connection after its handshake only. The program's thread waits: for a round trip, mostly. */
static void handshake_wait(struct engine *e, struct sock *s)
{
	struct wait wait;
	engine_call();
	wait_begin(&wait, e, HANDSHAKE_WAIT_US);
	while (is_early(s))
		if (sock_wait(e, s, &wait))
			return;
}

/* What conn_handover could not do; no turn has come in between, in which a handshake could be over. */
static int end_instead(struct engine *e, struct sock *s, const char *why)
{
	int fd = conn_end(e, s);
	if (fd >= 0)
		leaving_note("a connection that could not be handed over", why);
	return fd;
}

int sock_handover(struct sock *s, const char *why, enum handover_how how)
{
	struct engine *e = s->engine;
	int r = -EBADF;
	turn_enter(e);
	if (is_early(s))
		handshake_wait(e, s);
	turn_end(e); /* what is due goes out before the snapshot */
	if (s->kind == SOCK_KIND_LISTENER) {
		listener_release(e, s);
		s->lst->requeues = true; /* its close follows */
		leaving_note("a listener", why);
		r = 0;
	} else if (s->kind == SOCK_KIND_CONN) {
		r = conn_handover_alone(e, s, why);
	}
	if (r < 0 && (how == HANDOVER_SURELY || (how == HANDOVER_OR_REFUSE && r != -ETOOMANYREFS)))
		r = end_instead(e, s, why);
	if (r < 0 && how == HANDOVER_OR_REFUSE) /* not even for its end was there a descriptor: nothing has happened to it */
		r = -ETOOMANYREFS;
	turn_leave(e);
	return r;
}

/* ---- what cannot be handed over ---- */

/* connect(2) was not answered yet: the kernel begins anew, from the port that the program chose, if it did. */
static int opening_to_kernel(const struct sock *s)
{
	struct sockaddr_storage to;
	socklen_t len = sizeof to;
	int fd = s->was_bound ? fd_dup(s->port_fd)
				 : fd_socket(s->family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	if (fd < 0)
		return fd;
	sys_fcntl(fd, F_SETFL, sys_fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
	option_values_set(s->values, fd);
	name_from_addr(s->engine, s->family, &s->flow.key.raddr, s->flow.key.rport, (struct sockaddr *)&to, &len);
	int err = sys_connect(fd, &to, len);
	if (!err || err == -EINPROGRESS)
		return fd;
	sys_close(fd);
	return err;
}

static int end_to_kernel(const struct sock *s)
{
	struct iovec unread[2];
	enum tcp_state state = tcp_state(&s->tcp);
	tcp_unread(&s->tcp, unread);
	/* In orderly ends nothing is left but what is unread; one that we break off here is a reset. */
	bool over = state == TCPS_CLOSED || state == TCPS_TIME_WAIT;
	int error = tcp_error(&s->tcp);
	return ended_socket(s->family, unread, error ? error : !over || s->kind == SOCK_KIND_DEAD ? ECONNRESET : 0);
}

int conn_end(struct engine *e, struct sock *s)
{
	unseen_settle_sock(e, s);
	bool opening = s->live && tcp_state(&s->tcp) == TCPS_SYN_SENT;
	int fd = opening ? opening_to_kernel(s) : -1;
	if (fd < 0)
		fd = end_to_kernel(s);
	if (fd < 0)
		return fd;
	if (s->live && tcp_state(&s->tcp) != TCPS_TIME_WAIT) {
		connect_given_up(e, s);
		tcp_abort(&s->tcp, e->now);
		sock_mark_dirty(e, s);
		sock_process_events(e, s);
	}
	s->kind = SOCK_KIND_DEAD;
	sock_notify(e, s);
	return fd;
}

/* ---- the process's end ---- */

static bool needs_kernel(const struct sock *s)
{
	return s->kind == SOCK_KIND_CONN && s->live && !s->listener && tcp_state(&s->tcp) != TCPS_TIME_WAIT;
}

/* The kernel closes for us: its FIN, its retransmissions, its TIME-WAIT. */
static void exit_one(struct engine *e, struct sock *s)
{
	bool abort_it = s->linger_on && s->linger_s == 0;
	if (!s->closed && (abort_it || tcp_readable_bytes(&s->tcp))) { /* what Linux's close would do: RST */
		stream_close(e, s, true);
		return;
	}
	int fd = conn_handover(e, s, NULL);
	if (fd >= 0)
		sys_close(fd);
	else
		stream_close(e, s, true);
}

/* Something is left to send; `answered`: to a peer that is there to take it. */
static bool anything_unacked(struct engine *e, bool answered)
{
	list_for_each (pos, tmp, &e->socks) {
		struct sock *s = container_of(pos, struct sock, node);
		if (needs_kernel(s) && tcp_unacked_bytes(&s->tcp) && (!answered || tcp_peer_answers(&s->tcp, e->now, EXIT_SILENT_US)))
			return true;
	}
	return false;
}

/* The kernel has no part in these: their ends are ours to see to, or it would answer the peer's FIN with RST. */
static bool ends_are_open(struct engine *e)
{
	list_for_each (pos, tmp, &e->socks) {
		struct sock *s = container_of(pos, struct sock, node);
		enum tcp_state state = needs_kernel(s) ? tcp_state(&s->tcp) : TCPS_CLOSED;
		if (state == TCPS_FIN_WAIT_1 || state == TCPS_FIN_WAIT_2 || state == TCPS_CLOSING || state == TCPS_LAST_ACK)
			return true;
	}
	return false;
}

/*
 * Of a wait until then. Those are answered meanwhile who join a group that this process is in still, or share its own
 * address: perhaps nobody else is there who could.
 */
static void exit_step(struct engine *e, int64_t end)
{
	struct wait step;
	engine_call();
	wait_begin(&step, e, min_time(EXIT_DRAIN_STEP_US, end - e->now));
	engine_wait(e, waiter_self(e), NULL, 0, &step, NULL);
	control_serve(e);
}

static void exit_drain(struct engine *e, int64_t most_us)
{
	bool waits = e->own || classifier_holds_ports(e->classifier);
	int64_t end = e->now + most_us, silent_end = e->now + EXIT_SILENT_US, ends_end = e->now + EXIT_ENDS_US;
	death_drains(e);
	while (e->now < end && (anything_unacked(e, e->now >= silent_end) || (waits && e->now < ends_end && ends_are_open(e))))
		exit_step(e, end);
}

static bool embryos_for_others(struct engine *e)
{
	list_for_each (pos, tmp, &e->listeners) {
		const struct listener *lst = container_of(pos, struct listener, node);
		if (defer_has_others(lst) && process_ops->has_others(lst->owner))
			return true;
	}
	list_for_each (pos, tmp, &e->draining)
		if (defer_has_others(container_of(pos, struct listener, node)))
			return true;
	return false;
}

/*
 * A listener that stood down for its children (process/claim.c) is none of the engine's any more, but clients from
 * before may wait there: for others, or for a reset.
 */
static void exit_asleep(struct engine *e)
{
	for (struct list *pos = e->socks.next; pos != &e->socks;) {
		struct sock *s = container_of(pos, struct sock, node);
		sock_ref(s);
		if (s->kind == SOCK_KIND_LISTENER && s->lst->asleep && (s->lst->n_accept || s->lst->n_embryonic))
			listener_close(e, s, false);
		pos = pos->next;
		sock_put(e, s);
	}
}

/* Others accept from the same sockets: handshakes that are under way are finished for them. */
static void exit_handshakes(struct engine *e)
{
	int64_t end = e->now + EXIT_HANDSHAKES_US;
	process_ops->leaving(e);
	exit_asleep(e);
	turn_begin(e); /* SYNs that were ours to answer when they came */
	turn_end(e);
	while (embryos_for_others(e) && e->now < end)
		exit_step(e, end);
}

/* Who accepts without an engine holds what TCP_DEFER_ACCEPT keeps from accept, too. */
static void leaves_without_engine(struct engine *e)
{
	if (!e->pool.memory.alloc)
		return;
	engine_lock(e);
	process_ops->leaving(e);
	engine_unlock(e);
}

void engine_on_exit(bool for_good, bool hurries)
{
	struct engine *e = engine_of_process();
	if (engine_inside) /* a crash inside the engine: nothing in it can be trusted */
		return;
	if (!e->up) {
		leaves_without_engine(e);
		trace_drain();
		return;
	}
	engine_lock(e);
	exit_locked(e, for_good, hurries ? EXIT_DRAIN_SHORT_US : EXIT_DRAIN_US);
	engine_unlock(e);
}

void engine_after_failed_exec(void)
{
	struct engine *e = engine_of_process();
	if (engine_inside || !e->up)
		return;
	engine_lock(e);
	if (e->exiting && !e->kept_out) {
		e->exiting = false;
		helper_start(e);
	}
	engine_unlock(e);
}

void engine_main_leaves(bool (*last)(void))
{
	drive_main_leaves(&engine_of_process()->drive, last);
}

const char exit_kept_out[] = "the process ends";

void exit_locked(struct engine *e, bool for_good, int64_t drain_us)
{
	if (e->exiting && (!for_good || e->drive.last))
		return;
	e->exiting = true; /* it may be already, before an exec that another thread is about */
	if (for_good) {
		drive_end_of_process(&e->drive);
		helper_leave(e);
	} else {
		helper_stop(e);
	}
	turn_begin(e);
	turn_end(e);
	fork_give_all(e);
	exit_handshakes(e);
	list_for_each (pos, tmp, &e->listeners) {
		struct listener *lst = container_of(pos, struct listener, node);
		listener_close(e, lst->owner, false);
	}
	turn_end(e);
	for (struct list *pos = e->socks.next; pos != &e->socks;) {
		struct sock *s = container_of(pos, struct sock, node);
		sock_ref(s);
		if (needs_kernel(s))
			exit_one(e, s);
		pos = pos->next;
		sock_put(e, s);
	}
	turn_end(e);
	exit_drain(e, drain_us);
	turn_end(e);
	trace_drain();
	if (for_good) {
		e->kept_out = exit_kept_out;
		ifaces_retire(e);
		death_is_over(e);
	}
}
