/* Bytes in and out, shutdown and close: Linux's tcp_sendmsg, tcp_recvmsg and their blocking rules over the core. */
#include "socket/engine.h"
#include "socket/errqueue.h"
#include "socket/leaving.h"
#include "socket/stamps.h"
#include "socket/unseen.h"
#include "socket/listener.h"
#include "socket/fastopen.h"

#include "base/sys.h"
#include "base/user.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define TCP_CM_INQ_NUMBER 36 /* TCP_CM_INQ of linux/tcp.h */
#ifndef MSG_ZEROCOPY
#define MSG_ZEROCOPY 0x4000000
#endif
#define PAGE_BYTES 4096
#define SLOW_BYTES 32
#define ZEROCOPY_FRAGS 17 /* pieces of a program's own memory in a segment of Linux's (MAX_SKB_FRAGS); what follows begins another, so that a peer sees it */

static bool would_block(const struct sock *s, int flags)
{
	return s->nonblock || (flags & MSG_DONTWAIT);
}

/* A verb on something that is not a connection of this process. */
static int kind_error(const struct sock *s)
{
	return s->kind == SOCK_KIND_CONN ? 0 : s->kind == SOCK_KIND_LISTENER ? -ENOTCONN : -EBADF;
}

static size_t iov_total(const struct msghdr *msg)
{
	size_t n = 0;
	for (size_t i = 0; i < msg->msg_iovlen; i++)
		n += msg->msg_iov[i].iov_len;
	return n;
}

/* Where a message stands: piece `i`, `off` bytes into it. */
struct iov_cursor {
	size_t i, off;
};

/* The next unfinished piece; false at the end. */
static bool cursor_piece(const struct msghdr *msg, struct iov_cursor *c, struct iovec *out)
{
	while (c->i < msg->msg_iovlen && c->off == msg->msg_iov[c->i].iov_len) {
		c->i++;
		c->off = 0;
	}
	if (c->i == msg->msg_iovlen)
		return false;
	out->iov_base = (char *)msg->msg_iov[c->i].iov_base + c->off;
	out->iov_len = msg->msg_iov[c->i].iov_len - c->off;
	return true;
}

static void cursor_skip(const struct msghdr *msg, struct iov_cursor *c, size_t bytes)
{
	struct iovec piece;
	while (bytes && cursor_piece(msg, c, &piece)) {
		size_t n = piece.iov_len < bytes ? piece.iov_len : bytes;
		c->off += n;
		bytes -= n;
	}
}

/* Is the program's memory good for the next `bytes` bytes? Asked before the core copies them. */
static bool cursor_may(const struct msghdr *msg, const struct iov_cursor *c, size_t bytes,
		       bool (*may)(const struct iovec *, size_t, size_t, size_t))
{
	return c->i >= msg->msg_iovlen || may(msg->msg_iov + c->i, msg->msg_iovlen - c->i, c->off, bytes);
}

static void *feed_in(void *reader, const void *bytes, size_t n)
{
	reader_in(reader, bytes, n);
	return reader;
}

static void *feed_out(void *reader, const void *bytes, size_t n)
{
	reader_out(reader, bytes, n);
	return reader;
}

/* The protocol reader of an accepted connection; it goes when it has nothing more to say. */
static void reader_feed(struct sock *s, bool in, const void *bytes, size_t n)
{
	if (!user_guarded(in ? feed_in : feed_out, &s->reader, bytes, n))
		reader_lost(&s->reader);
	if (reader_is_silent(&s->reader))
		s->read_protocol = false;
}

static void reader_tell(struct sock *s)
{
	tcp_set_reader(&s->tcp, reader_says(&s->reader));
}

/* One pass: as much as fits now. Bytes, or -errno when none. */
static ssize_t send_some(struct engine *e, struct sock *s, const struct msghdr *msg, struct iov_cursor *c, int flags, size_t left)
{
	size_t sent = 0;
	struct iovec piece;
	if (tcp_is_opening(&s->tcp))
		return -EAGAIN;
	ssize_t r = tcp_send(&s->tcp, e->now, NULL, 0, false, false); /* the error or the shutdown comes before the bytes, and without any */
	if (r >= 0 && msg->msg_controllen)
		r = cmsg_check(s, msg);
	if (r < 0 || !left)
		return r;
	if (!cursor_may(msg, c, tcp_send_space(&s->tcp, left < INT32_MAX ? left : INT32_MAX), user_iov_may_read))
		return -EFAULT;
	while (cursor_piece(msg, c, &piece)) {
		bool last = sent + piece.iov_len == left, full = (flags & MSG_ZEROCOPY) && c->i % ZEROCOPY_FRAGS == ZEROCOPY_FRAGS - 1;
		ssize_t n = tcp_send(&s->tcp, e->now, &piece, 1, !full && (!last || (flags & MSG_MORE)), last && (flags & MSG_OOB));
		if (n < 0)
			return sent ? (ssize_t)sent : n;
		if ((full || (last && (flags & MSG_EOR))) && (size_t)n == piece.iov_len)
			tcp_end_record(&s->tcp);
		if (s->read_protocol)
			reader_feed(s, false, piece.iov_base, n);
		c->off += n;
		sent += n;
		if ((size_t)n < piece.iov_len)
			break;
	}
	return sent;
}

/* EPIPE; or an error that was left behind when it became unconnected, and that its kernel socket has. */
static ssize_t listener_send(const struct sock *s, int flags)
{
	return sys_sendto(s->lst->kfd, NULL, 0, flags | MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
}

/*
 * What earlier calls sent and the engine put off would have left by now, so a call that could still hold it back or
 * undo it has it said first (drive/putoff.c).
 */
static void say_unsent(struct engine *e, const struct sock *s)
{
	if (tcp_unsent_bytes(&s->tcp))
		putoff_settle(&e->drive);
}

/* `done`: bytes that went before. */
static ssize_t send_all(struct engine *e, struct sock *s, const struct msghdr *msg, int flags, size_t done)
{
	size_t total = iov_total(msg);
	struct iov_cursor c = {0, 0};
	struct wait wait;
	cursor_skip(msg, &c, done);
	wait_begin(&wait, e, s->sndtimeo_us);
	if (flags & MSG_MORE) /* which holds back the bytes of this call, not those of calls before */
		say_unsent(e, s);
	for (;;) {
		if (done && tcp_error(&s->tcp))
			return done; /* the next call is told */
		int err = kind_error(s);
		if (err)
			return done ? (ssize_t)done : err == -ENOTCONN ? listener_send(s, flags) : err;
		ssize_t n = send_some(e, s, msg, &c, flags, total - done);
		if (n > 0) {
			done += n;
			sock_mark_dirty(e, s);
			drive_wait_moved(&wait);
		}
		if (done == total && n >= 0)
			return done;
		if (n < 0 && n != -EAGAIN)
			return done ? (ssize_t)done : n;
		if (would_block(s, flags))
			return done ? (ssize_t)done : -EAGAIN;
		err = sock_wait(e, s, &wait);
		if (err == -EPIPE) /* dissolved: whoever sent takes the error that it leaves */
			err = -ECONNRESET;
		if (err)
			return done ? (ssize_t)done : err == -ETIMEDOUT ? -EAGAIN : err;
	}
}

static ssize_t send_locked(struct engine *e, struct sock *s, const struct msghdr *msg, int flags, bool *dissolve)
{
	size_t taken = 0;
	bool notify = (flags & MSG_ZEROCOPY) && s->kind == SOCK_KIND_CONN && iov_total(msg) && zerocopy_is_on(s);
	ssize_t n = notify ? zerocopy_may_send(s) : 0;
	if (!notify)
		flags &= ~MSG_ZEROCOPY;
	if (!n && ((flags & MSG_FASTOPEN) || tcp_syn_waits(&s->tcp)))
		n = fastopen_send(e, s, msg, flags, &taken, dissolve);
	if (!n)
		n = send_all(e, s, msg, flags, taken);
	if (n <= 0 || s->kind != SOCK_KIND_CONN)
		return n;
	uint32_t stamps;
	bool asked = msg->msg_controllen && cmsg_stamps(msg, &stamps);
	if ((asked || s->stamps) && (size_t)n > taken) /* as Linux, which notes no stamp with a SYN */
		stamps_sent(e, s, asked ? &stamps : NULL, flags & MSG_EOR);
	if (notify)
		zerocopy_sent(e, s);
	return n;
}

ssize_t sock_sendmsg(struct sock *s, const struct msghdr *msg, int flags, bool *dissolve)
{
	struct engine *e = s->engine;
	turn_enter_verb(e);
	ssize_t n = send_locked(e, s, msg, flags, dissolve);
	if (s->stamps) /* it is to be told when that left, and not with the next call's */
		turn_leave(e);
	else
		turn_leave_verb(e);
	return n;
}

/* Nothing is to be told first, and nobody but the protocol's reader looks at the bytes. */
static bool may_fill(const struct sock *s)
{
	return s->kind == SOCK_KIND_CONN && s->live && !s->stamps && !tcp_is_opening(&s->tcp) && !tcp_syn_waits(&s->tcp) && !tcp_error(&s->tcp);
}

/* As base/ring.c: a copy to a place that is, modulo a page, a few bytes behind its source may be slow. */
static bool is_slow_place(const struct iovec *place, off_t at)
{
	return (((uintptr_t)place->iov_base - (uintptr_t)at - 1) & (PAGE_BYTES - 1)) < SLOW_BYTES - 1;
}

/* With the engine's lock held, so what a disk has yet to bring is not waited for. */
static ssize_t fill_from_file(struct engine *e, struct sock *s, int fd, off_t at, size_t n, off_t end)
{
	struct iovec place[2];
	int pieces;
	ssize_t room = tcp_send_room(&s->tcp, n, place, &pieces), got = 0;
	if (room <= 0)
		return room == -EAGAIN && s->nonblock ? -EAGAIN : 0;
	if (!is_slow_place(place, at))
		got = sys_call(SYS_preadv2, fd, place, pieces, at, 0, RWF_NOWAIT);
	if (got < 0)
		got = 0;
	size_t asked = got < room ? (size_t)got : n; /* what is not there is no lack of room */
	tcp_send_filled(&s->tcp, e->now, got, asked, at + (off_t)asked < end);
	for (size_t i = 0, left = got; left && s->read_protocol; left -= place[i++].iov_len) {
		if (place[i].iov_len > left)
			place[i].iov_len = left;
		reader_feed(s, false, place[i].iov_base, place[i].iov_len);
	}
	if (got)
		sock_mark_dirty(e, s);
	return got;
}

ssize_t sock_send_file(struct sock *s, int fd, off_t at, size_t n, off_t end)
{
	struct engine *e = s->engine;
	ssize_t r = 0;
	turn_enter_verb(e);
	if (may_fill(s)) {
		if (at + (off_t)n < end)
			say_unsent(e, s);
		r = fill_from_file(e, s, fd, at, n, end);
	}
	turn_leave_verb(e);
	return r;
}

/* ---- receive ---- */

static ssize_t recv_urgent(struct sock *s, const struct msghdr *msg, int flags, int *out_flags)
{
	uint8_t byte;
	int r = tcp_recv_urgent(&s->tcp, &byte, flags & MSG_PEEK);
	if (r <= 0)
		return r == -EAGAIN && s->shut_rd ? 0 : r;
	*out_flags |= MSG_OOB;
	if (!iov_total(msg)) {
		*out_flags |= MSG_TRUNC;
		return 0;
	}
	struct iov_cursor c = {0, 0};
	struct iovec piece;
	cursor_piece(msg, &c, &piece);
	return flags & MSG_TRUNC || (user_may_write(piece.iov_base, 1) && user_guarded(memcpy, piece.iov_base, &byte, 1)) ? 1 : -EFAULT;
}

/* One pass: what is there, up to the urgent mark. Bytes; else as tcp_recv. */
static ssize_t recv_some(struct engine *e, struct sock *s, const struct msghdr *msg, struct iov_cursor *c, int flags)
{
	size_t to_mark = tcp_readable_to_mark(&s->tcp); /* 0: at the mark, which is passed over */
	if (!(flags & MSG_TRUNC) && !cursor_may(msg, c, to_mark ? to_mark : tcp_readable_bytes(&s->tcp), user_iov_may_write))
		return -EFAULT;
	if (s->n_unseen && flags & (MSG_PEEK | MSG_TRUNC))
		unseen_settle_sock(e, s);
	if (flags & MSG_PEEK) /* from the start, over all pieces at once */
		return tcp_recv(&s->tcp, e->now, msg->msg_iov, msg->msg_iovlen, true, flags & MSG_TRUNC);
	size_t got = 0;
	struct iovec piece;
	while (cursor_piece(msg, c, &piece) && !(got && tcp_at_mark(&s->tcp))) {
		bool unseen = s->n_unseen;
		ssize_t n = 0;
		if (unseen)
			n = unseen_read(e, s, piece.iov_base, piece.iov_len);
		else if (!got || tcp_readable_bytes(&s->tcp))
			n = tcp_recv(&s->tcp, e->now, &piece, 1, false, flags & MSG_TRUNC);
		if (n < 0 && got && n != -EFAULT) /* the unseen text is lost: the next call is told */
			tcp_put_error(&s->tcp, -n);
		if (n < 0)
			return got ? (ssize_t)got : n;
		if (s->read_protocol && flags & MSG_TRUNC)
			reader_lost(&s->reader);
		else if (s->read_protocol)
			reader_feed(s, true, piece.iov_base, n);
		c->off += n;
		got += n;
		if ((size_t)n < piece.iov_len && !(unseen && n))
			break;
	}
	return got;
}

/* A call in progress. `done`: bytes that the program has got; with MSG_PEEK those that it was shown. */
struct recv_call {
	const struct msghdr *msg;
	struct iov_cursor at;
	size_t total, target, done;
	int flags;
};

/* As much as SO_RCVLOWAT says, all of it with MSG_WAITALL; at least one byte, also for a call that takes none. */
static void recv_begin(struct recv_call *c, const struct sock *s)
{
	c->total = iov_total(c->msg);
	c->target = c->flags & MSG_WAITALL || (size_t)s->lowat > c->total ? c->total : (size_t)s->lowat;
	if (!c->target)
		c->target = 1;
}

/*
 * Takes what is there. True: the call is over with *result. The order of the questions is that of Linux's
 * tcp_recvmsg_locked.
 */
static bool recv_step(struct engine *e, struct sock *s, struct recv_call *c, ssize_t *result)
{
	bool more = tcp_readable_bytes(&s->tcp) > (c->flags & MSG_PEEK ? c->done : 0);
	bool opening = tcp_is_opening(&s->tcp);
	if (more && !c->total) { /* there would be something */
		*result = 0;
		return true;
	}
	ssize_t n = -EAGAIN;
	if (more)
		n = recv_some(e, s, c->msg, &c->at, c->flags);
	else if (!opening && !c->done) /* why not? */
		n = tcp_recv(&s->tcp, e->now, NULL, 0, c->flags & MSG_PEEK, false);
	if (n > 0) {
		c->done = c->flags & MSG_PEEK ? (size_t)n : c->done + n;
		sock_mark_dirty(e, s); /* the window may open */
	}
	*result = c->done;
	if (c->done)
		return n == -EFAULT || c->done >= c->target || tcp_is_mark(&s->tcp, c->flags & MSG_PEEK ? c->done : 0) ||
		       (!opening && tcp_recv_ended(&s->tcp)) || tcp_error(&s->tcp) || s->shut_rd || would_block(s, c->flags);
	if (n != -EAGAIN)
		*result = n;
	else if (s->shut_rd && !opening)
		*result = 0;
	else if (would_block(s, c->flags))
		*result = -EAGAIN;
	else
		return false;
	return true;
}

static ssize_t recv_locked(struct engine *e, struct sock *s, struct msghdr *msg, int flags, int *out_flags)
{
	struct recv_call c = {.msg = msg, .flags = flags};
	struct wait wait;
	ssize_t result;
	recv_begin(&c, s);
	wait_begin(&wait, e, s->rcvtimeo_us);
	for (;;) {
		int err = kind_error(s);
		if (err)
			return c.done ? (ssize_t)c.done : err;
		if (flags & MSG_OOB)
			return recv_urgent(s, msg, flags, out_flags);
		if (recv_step(e, s, &c, &result)) {
			if (result > 0)
				drive_wait_moved(&wait); /* a call of several messages goes on */
			return result;
		}
		if (c.done)
			drive_wait_moved(&wait);
		err = sock_wait(e, s, &wait);
		if (err == -EPIPE) /* dissolved */
			return c.done ? (ssize_t)c.done : err;
		if (!c.total)
			return 0; /* it waits once, whatever ends the wait */
		if (err) { /* but what has come without waking it (SO_RCVLOWAT) is taken; an error is the next call's, if this one was interrupted */
			c.flags |= MSG_DONTWAIT;
			if (err == -ETIMEDOUT || (err != -ERESTART && (c.done || tcp_readable_bytes(&s->tcp))))
				recv_step(e, s, &c, &result);
			return result > 0 || err == -ETIMEDOUT ? result : err;
		}
	}
}

static ssize_t recv_notice(struct engine *e, struct sock *s, struct msghdr *msg, struct cmsg_out *out, int *out_flags)
{
	int err = kind_error(s);
	if (err)
		return err == -ENOTCONN ? -EAGAIN : err; /* a listener: nothing is ever queued there */
	return errqueue_read(e, s, msg, out, out_flags);
}

/* TCP_INQ: how much more there is; a FIN counts, so that the program reads on (Linux's tcp_inq_hint). */
static void tell_inq(const struct sock *s, struct cmsg_out *out)
{
	int inq = tcp_readable_bytes(&s->tcp) + tcp_peer_fin(&s->tcp);
	cmsg_put(out, IPPROTO_TCP, TCP_CM_INQ_NUMBER, &inq, sizeof inq);
}

/* The time of the last byte that was read, or shown, or of the next one where the call takes none. `n`: how many. */
static void tell_stamp(struct sock *s, const struct msghdr *msg, int flags, struct cmsg_out *out, ssize_t n)
{
	uint32_t next = tcp_recv_next(&s->tcp);
	if (!n && (iov_total(msg) || !tcp_readable_bytes(&s->tcp)))
		return;
	stamps_tell_read(s, !n ? next : flags & MSG_PEEK ? next + n - 1 : next - 1, next, out);
}

ssize_t sock_splice_stops(struct sock *s)
{
	turn_enter_verb(s->engine);
	ssize_t r = s->kind == SOCK_KIND_CONN ? tcp_splice_stops(&s->tcp) : 1;
	if (r == -EAGAIN && !s->nonblock)
		r = 0;
	turn_leave_verb(s->engine);
	return r;
}

ssize_t sock_recvmsg(struct sock *s, struct msghdr *msg, int flags)
{
	struct engine *e = s->engine;
	int out_flags = 0;
	struct cmsg_out out = {.at = msg->msg_control, .left = msg->msg_control ? msg->msg_controllen : 0};
	turn_enter_look(e);
	ssize_t n = flags & MSG_ERRQUEUE ? recv_notice(e, s, msg, &out, &out_flags) : recv_locked(e, s, msg, flags, &out_flags);
	if (n >= 0 && !(flags & (MSG_ERRQUEUE | MSG_OOB)) && s->stamps && s->kind == SOCK_KIND_CONN)
		tell_stamp(s, msg, flags, &out, n);
	if (n >= 0 && !(flags & (MSG_ERRQUEUE | MSG_OOB)) && s->values && option_values_number(s->values, OPTION_TCP_INQ))
		tell_inq(s, &out);
	if (n == -EAGAIN)
		turn_leave_empty(e);
	else
		turn_leave_verb(e);
	if (n >= 0) {
		if (!(flags & MSG_ERRQUEUE))
			msg->msg_namelen = 0; /* a connected stream gives no name */
		msg->msg_controllen = out.used;
		msg->msg_flags = out_flags | (out.truncated ? MSG_CTRUNC : 0);
	}
	return n;
}

/* ---- the end ---- */

/* Linux's inet_shutdown. */
static int conn_shutdown(struct engine *e, struct sock *s, int how)
{
	enum tcp_state state = tcp_state(&s->tcp);
	if (state == TCPS_SYN_SENT)
		return SOCK_DISCONNECT;
	bool over = state == TCPS_CLOSED || state == TCPS_TIME_WAIT; /* one state in Linux */
	if (!s->accepted && !s->reported) {
		s->disconnecting = over || state == TCPS_SYN_RECEIVED;
		s->reported = !s->disconnecting;
	}
	if (over) {
		sock_notify(e, s); /* Linux wakes who waits also then: an edge of EPOLLET */
		return -ENOTCONN;
	}
	if (how != SHUT_WR) {
		s->shut_rd = true;
		tcp_shutdown_receive(&s->tcp);
	}
	if (how != SHUT_RD) {
		reader_tell(s);
		tcp_shutdown(&s->tcp, e->now);
	}
	count_first_fin(e, s);
	sock_mark_dirty(e, s);
	sock_process_events(e, s);
	sock_notify(e, s);
	return 0;
}

int sock_shutdown(struct sock *s, int how)
{
	struct engine *e = s->engine;
	if (how < SHUT_RD || how > SHUT_RDWR)
		return -EINVAL;
	turn_enter_verb(e);
	int r = kind_error(s);
	if (s->kind == SOCK_KIND_LISTENER)
		r = how == SHUT_WR ? 0 : SOCK_DISCONNECT;
	else if (!r)
		r = conn_shutdown(e, s, how);
	turn_leave_verb(e);
	return r;
}

bool sock_lingers(const struct sock *s)
{
	return s->linger_on && s->linger_s != 0;
}

/*
 * The reference of a close that waits. A handler that jumps away leaves the connection to end by itself, as an
 * interrupted close does.
 */
struct linger_call {
	struct undo undo;
	struct sock *s;
};

static void linger_undo(struct undo *u)
{
	sock_unref(container_of(u, struct linger_call, undo)->s);
}

/*
 * SO_LINGER: close waits until all is acknowledged and the FIN, too, or the time is over. The program's thread does;
 * never the helper thread, which closes for children.
 */
static void linger_wait(struct engine *e, struct sock *s)
{
	struct linger_call c = {.s = s};
	struct wait wait;
	engine_call();
	wait_begin(&wait, e, s->linger_s > 0 ? s->linger_s * USEC_PER_SEC : 0); /* below zero: for ever */
	undo_push(&c.undo, linger_undo);
	while (s->live) {
		enum tcp_state state = tcp_state(&s->tcp);
		if (state != TCPS_FIN_WAIT_1 && state != TCPS_CLOSING && state != TCPS_LAST_ACK && !tcp_unacked_bytes(&s->tcp))
			break;
		if (sock_wait(e, s, &wait))
			break;
	}
	undo_pop(&c.undo);
}

void stream_close(struct engine *e, struct sock *s, bool exiting)
{
	if (!s->live)
		return;
	bool abort = s->linger_on && s->linger_s == 0;
	if (abort || tcp_has_unread(&s->tcp)) /* a RST, which unsent bytes would not outlive */
		say_unsent(e, s);
	reader_tell(s);
	connect_given_up(e, s);
	if (abort)
		tcp_abort(&s->tcp, e->now);
	else
		tcp_close(&s->tcp, e->now, sock_lingers(s), exiting);
	count_first_fin(e, s);
	sock_mark_dirty(e, s);
	sock_process_events(e, s);
}

int sock_close(struct sock *s)
{
	struct engine *e = s->engine;
	turn_enter_verb(e);
	s->closed = true;
	if (s->kind == SOCK_KIND_LISTENER) {
		listener_close(e, s, false);
	} else if (s->kind == SOCK_KIND_CONN && !s->child_refs) {
		stream_close(e, s, false);
		if (sock_lingers(s)) /* as Linux's inet_release, O_NONBLOCK or not */
			linger_wait(e, s);
	} else if (s->kind == SOCK_KIND_INHERITED) {
		inherited_close(e, s);
	}
	sock_put(e, s);
	turn_leave_verb(e);
	return 0;
}
