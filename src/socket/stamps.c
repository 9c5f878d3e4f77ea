/*
 * Time stamps of a connection, in software: Linux's SO_TIMESTAMP, SO_TIMESTAMPNS and SO_TIMESTAMPING
 * (Documentation/networking/timestamping.rst).
 *
 * Received bytes. A segment's time is when the kernel had its frame, as the packet ring says; where no frame is behind
 * it, the clock's. Linux keeps the time with each buffer of the receive queue, joins a segment to the buffer before it
 * while that has not more than MAX_SKB_FRAGS pieces, and the later time holds for both. A mark here is such a buffer.
 * recvmsg tells the time of the last one that it has read of.
 *
 * Sent bytes. A call's stamps are of its last byte (struct err_owed): SCM_TSTAMP_SCHED when its segment goes into the
 * link's queue, SCM_TSTAMP_SND when that queue was given to the interface, SCM_TSTAMP_ACK when the peer has
 * acknowledged it. A retransmission is told again, as in Linux. Calls whose bytes are held back together in less than a
 * segment have one stamp, that of the last.
 *
 * Without OPT_TSONLY the times come with what was sent: the frame, and with SCM_TSTAMP_ACK its text. The copy is made
 * when the frame leaves, one for all calls that end in it.
 *
 * A connection that nobody asked this of has no struct stamps, and costs a look at that pointer per segment.
 */
#include "socket/engine.h"
#include "socket/stamps.h"

#include "base/sys.h"
#include "socket/errqueue.h"
#include "tcp/seq.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/net_tstamp.h>
#include <string.h>

/* Newer than many headers. */
#define OPT_ID_TCP    (1U << 16) /* SOF_TIMESTAMPING_OPT_ID_TCP */
#define OPT_RX_FILTER (1U << 17)
#define TX_COMPLETION (1U << 18) /* of devices that say when a frame is gone: none that we serve */

#define TX_RECORD (SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_TX_ACK)
/* What software alone does. */
#define CARRIED                                                                                                                                       \
	(TX_RECORD | SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_SYS_HARDWARE | SOF_TIMESTAMPING_OPT_ID |             \
	 SOF_TIMESTAMPING_OPT_CMSG | SOF_TIMESTAMPING_OPT_TSONLY | SOF_TIMESTAMPING_OPT_PKTINFO | SOF_TIMESTAMPING_OPT_TX_SWHW | OPT_ID_TCP |        \
	 OPT_RX_FILTER | TX_COMPLETION)

#define MARKS_FIRST   16
#define MARKS_MAX     1024  /* then the last one grows */
#define PIECES_MAX    17    /* Linux: MAX_SKB_FRAGS */
#define PIECE_BYTES   32768 /* … each at most so long, of a sender's buffers */
#define NOTICE_CHARGE 832   /* Linux 6.18: truesize of a buffer without bytes */
#define NSEC_PER_SEC  INT64_C(1000000000)

/* A buffer of Linux's receive queue. */
struct rx_mark {
	uint32_t start, end; /* sequence numbers: the first byte, and behind the last */
	uint32_t pieces;
	int64_t at_ns;
};

struct stamps {
	struct sock *sock;
	struct list due; /* engine.stamps_due: something was sent in this turn */
	uint32_t flags;  /* SO_TIMESTAMPING's */
	uint32_t key;    /* OPT_ID counts from this sequence number */
	bool told, ns;   /* SO_TIMESTAMP; SO_TIMESTAMPNS */
	bool wide;       /* the forms for 64 bits: the last call's */
	bool kept;       /* SO_TIMESTAMP was on once: Linux goes on to keep times */
	uint32_t n_marks, room;
	struct rx_mark *marks; /* by `end` */
};

static bool keeps_times(const struct stamps *st)
{
	return st->kept || (st->flags & SOF_TIMESTAMPING_RX_SOFTWARE);
}

static struct stamps *stamps_of(struct engine *e, struct sock *s)
{
	struct stamps *st = s->stamps;
	if (st)
		return st;
	st = engine_alloc(e, sizeof *st);
	if (!st)
		return NULL;
	st->sock = s;
	list_init(&st->due);
	s->stamps = st;
	return st;
}

static void forget_marks(struct engine *e, struct stamps *st)
{
	if (st->marks)
		engine_free(e, st->marks, st->room * sizeof *st->marks);
	st->marks = NULL;
	st->n_marks = st->room = 0;
}

void stamps_fini(struct engine *e, struct sock *s)
{
	struct stamps *st = s->stamps;
	if (!st)
		return;
	list_unlink(&st->due);
	forget_marks(e, st);
	engine_free(e, st, sizeof *st);
	s->stamps = NULL;
}

/* ---- what was asked for ---- */

static bool is_stamping(unsigned index)
{
	return index == OPTION_SO_TIMESTAMPING || index == OPTION_SO_TIMESTAMPING_NEW;
}

bool stamps_is_option(unsigned index)
{
	return is_stamping(index) || index == OPTION_SO_TIMESTAMP || index == OPTION_SO_TIMESTAMPNS || index == OPTION_SO_TIMESTAMP_NEW || index == OPTION_SO_TIMESTAMPNS_NEW;
}

static bool data_is_allowed(void)
{
	char first = '0';
	int fd = sys_openat(AT_FDCWD, "/proc/sys/net/core/tstamp_allow_data", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	ssize_t n = sys_read(fd, &first, 1);
	sys_close(fd);
	return n == 1 && first != '0';
}

/*
 * Without OPT_TSONLY the program gets what was sent, too. The kernel's it is where that is for the privileged alone,
 * and where OPT_CMSG tells of it.
 */
static bool stamps_may_carry(uint32_t flags)
{
	if (flags & ~CARRIED)
		return false;
	if (!(flags & TX_RECORD) || (flags & SOF_TIMESTAMPING_OPT_TSONLY))
		return true;
	return !(flags & SOF_TIMESTAMPING_OPT_CMSG) && data_is_allowed();
}

bool stamps_may_carry_message(const struct sock *s, uint32_t flags)
{
	return stamps_may_carry(((s->stamps ? s->stamps->flags : 0) & ~STAMPS_OF_MESSAGE) | flags);
}

static uint32_t flags_of(int kfd, int name)
{
	uint32_t value[2] = {0}; /* struct so_timestamping */
	socklen_t len = sizeof value;
	return sys_getsockopt(kfd, SOL_SOCKET, name, value, &len) ? 0 : value[0];
}

bool stamps_refused(int kfd)
{
	return !stamps_may_carry(flags_of(kfd, SO_TIMESTAMPING_OLD));
}

/* SOF_TIMESTAMPING_OPT_ID is of a connection: the running kernel says of a fresh socket whether the rest is right. */
static int judge_flags(const struct sock *s, uint32_t flags)
{
	flags &= ~(SOF_TIMESTAMPING_OPT_ID | OPT_ID_TCP);
	int fd = option_oracle(s->family, NULL);
	if (fd < 0)
		return -ENOMEM;
	int r = sys_setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING_OLD, &flags, sizeof flags);
	sys_close(fd);
	return r;
}

/* Linux's sock_set_timestamping. */
static int set_flags(struct sock *s, struct stamps *st, uint32_t flags)
{
	enum tcp_state state = tcp_state(&s->tcp);
	bool over = !s->live || state == TCPS_CLOSED || state == TCPS_TIME_WAIT;
	int err = judge_flags(s, flags);
	if (err)
		return err;
	if ((flags & OPT_ID_TCP) && !(flags & SOF_TIMESTAMPING_OPT_ID))
		return -EINVAL;
	if ((flags & SOF_TIMESTAMPING_OPT_ID) && !(st->flags & SOF_TIMESTAMPING_OPT_ID)) {
		struct tcp_status status;
		if (over)
			return -EINVAL;
		tcp_get_status(&s->tcp, &status);
		st->key = flags & OPT_ID_TCP ? tcp_send_end(&s->tcp) : status.snd_una;
	}
	if (!stamps_may_carry(flags) && !over) {
		if (state >= TCPS_ESTABLISHED)
			return SOCK_KERNEL;
		s->wants_kernel = true;
	}
	st->flags = flags;
	return 0;
}

int stamps_set(struct engine *e, struct sock *s, unsigned index, const void *val, socklen_t len)
{
	uint32_t v;
	if (len < sizeof v)
		return -EINVAL;
	memcpy(&v, val, sizeof v);
	struct stamps *st = stamps_of(e, s);
	if (!st)
		return -ENOMEM;
	bool wide = index == OPTION_SO_TIMESTAMP_NEW || index == OPTION_SO_TIMESTAMPNS_NEW || index == OPTION_SO_TIMESTAMPING_NEW;
	if (is_stamping(index)) {
		int r = set_flags(s, st, v);
		if (r)
			return r;
		st->wide = wide;
	} else {
		st->told = v != 0;
		st->ns = v && (index == OPTION_SO_TIMESTAMPNS || index == OPTION_SO_TIMESTAMPNS_NEW);
		st->kept |= st->told;
		if (v)
			st->wide = wide;
	}
	if (!keeps_times(st))
		forget_marks(e, st);
	return 0;
}

socklen_t stamps_get(const struct sock *s, unsigned index, uint32_t out[2])
{
	const struct stamps *st = s->stamps;
	out[0] = out[1] = 0;
	if (!st)
		return is_stamping(index) ? 2 * sizeof *out : sizeof *out;
	switch (index) {
	case OPTION_SO_TIMESTAMP:
		out[0] = st->told && !st->wide && !st->ns;
		break;
	case OPTION_SO_TIMESTAMPNS:
		out[0] = st->ns && !st->wide;
		break;
	case OPTION_SO_TIMESTAMP_NEW: /* Linux says so of nanoseconds, too */
		out[0] = st->told && st->wide;
		break;
	case OPTION_SO_TIMESTAMPNS_NEW:
		out[0] = st->ns && st->wide;
		break;
	default:
		out[0] = index == OPTION_SO_TIMESTAMPING || st->wide ? st->flags : 0;
		return 2 * sizeof *out;
	}
	return sizeof *out;
}

int stamps_take(struct engine *e, struct sock *s, int kfd)
{
	uint32_t flags = flags_of(kfd, SO_TIMESTAMPING_OLD);
	bool told_wide = kernel_int(kfd, SOL_SOCKET, SO_TIMESTAMP_NEW), ns_wide = kernel_int(kfd, SOL_SOCKET, SO_TIMESTAMPNS_NEW);
	bool ns = kernel_int(kfd, SOL_SOCKET, SO_TIMESTAMPNS_OLD) || ns_wide, told = kernel_int(kfd, SOL_SOCKET, SO_TIMESTAMP_OLD) || told_wide || ns;
	if (!flags && !told && !s->stamps)
		return 0;
	struct stamps *st = stamps_of(e, s);
	if (!st)
		return -ENOMEM;
	st->flags = flags;
	st->told = told;
	st->ns = ns;
	st->kept |= told;
	st->wide = told_wide || flags_of(kfd, SO_TIMESTAMPING_NEW);
	return 0;
}

int stamps_inherit(struct engine *e, struct sock *s, const struct sock *l)
{
	const struct stamps *of = l->stamps;
	if (!of || (!of->flags && !of->kept))
		return 0;
	struct stamps *st = stamps_of(e, s);
	if (!st)
		return -ENOMEM;
	st->flags = of->flags;
	st->told = of->told;
	st->ns = of->ns;
	st->wide = of->wide;
	st->kept = of->kept;
	return 0;
}

/* OPT_ID counts anew from here. */
void stamps_give(const struct sock *s, int kfd)
{
	const struct stamps *st = s->stamps;
	int on = 1;
	if (!st)
		return;
	if (st->flags)
		sys_setsockopt(kfd, SOL_SOCKET, st->wide ? SO_TIMESTAMPING_NEW : SO_TIMESTAMPING_OLD, &st->flags, sizeof st->flags);
	if (st->ns)
		sys_setsockopt(kfd, SOL_SOCKET, st->wide ? SO_TIMESTAMPNS_NEW : SO_TIMESTAMPNS_OLD, &on, sizeof on);
	else if (st->told)
		sys_setsockopt(kfd, SOL_SOCKET, st->wide ? SO_TIMESTAMP_NEW : SO_TIMESTAMP_OLD, &on, sizeof on);
}

/* ---- what is told ---- */

/* Of 64 bits, the old and the new forms are the same but for their names. */
static void put_told(const struct stamps *st, int64_t at_ns, struct cmsg_out *out)
{
	int64_t tv[2] = {at_ns / NSEC_PER_SEC, at_ns % NSEC_PER_SEC};
	if (!st->ns)
		tv[1] /= NSEC_PER_USEC;
	int type = st->ns ? (st->wide ? SO_TIMESTAMPNS_NEW : SO_TIMESTAMPNS_OLD) : (st->wide ? SO_TIMESTAMP_NEW : SO_TIMESTAMP_OLD);
	cmsg_put(out, SOL_SOCKET, type, tv, sizeof tv);
}

/* struct scm_timestamping: in software, nothing, in hardware. */
static void put_stamping(const struct stamps *st, int64_t at_ns, struct cmsg_out *out)
{
	int64_t ts[3][2] = {{at_ns / NSEC_PER_SEC, at_ns % NSEC_PER_SEC}};
	cmsg_put(out, SOL_SOCKET, st->wide ? SO_TIMESTAMPING_NEW : SO_TIMESTAMPING_OLD, ts, sizeof ts);
}

void stamps_tell_notice(const struct sock *s, const struct err_notice *n, struct cmsg_out *out)
{
	const struct stamps *st = s->stamps;
	if (!st)
		return;
	if (st->told)
		put_told(st, n->at_ns ? n->at_ns : clock_real_ns(), out);
	if (n->at_ns && (st->flags & SOF_TIMESTAMPING_SOFTWARE))
		put_stamping(st, n->at_ns, out);
}

/* ---- of what is received ---- */

static bool grow(struct engine *e, struct stamps *st)
{
	uint32_t room = st->room ? 2 * st->room : MARKS_FIRST;
	struct rx_mark *more = room <= MARKS_MAX ? engine_alloc(e, room * sizeof *more) : NULL;
	if (!more)
		return false;
	uint32_t n = st->n_marks;
	if (n)
		memcpy(more, st->marks, n * sizeof *more);
	forget_marks(e, st);
	st->marks = more;
	st->room = room;
	st->n_marks = n;
	return true;
}

static void remove_mark(struct stamps *st, uint32_t i)
{
	memmove(&st->marks[i], &st->marks[i + 1], (--st->n_marks - i) * sizeof *st->marks);
}

/* Linux's tcp_try_coalesce: mark i becomes a part of the next one, whose time it has from then on. */
static bool join_next(struct stamps *st, uint32_t i, uint32_t rcv_nxt)
{
	struct rx_mark *m = &st->marks[i];
	if (i + 1 >= st->n_marks || SEQ_GT(m[1].end, rcv_nxt) || SEQ_LT(m[0].end, m[1].start) || m[0].pieces + m[1].pieces > PIECES_MAX)
		return false;
	m[1].pieces += m[0].pieces;
	m[1].start = m[0].start;
	remove_mark(st, i);
	return true;
}

static void add_mark(struct engine *e, struct stamps *st, const struct rx_mark *m, uint32_t rcv_nxt)
{
	uint32_t i = st->n_marks;
	while (i && SEQ_GT(st->marks[i - 1].end, m->end))
		i--;
	if (i && st->marks[i - 1].end == m->end)
		return;
	if (st->n_marks == st->room && !grow(e, st)) {
		if (i && i == st->n_marks) {
			st->marks[i - 1].end = m->end;
			st->marks[i - 1].at_ns = m->at_ns;
		}
		return;
	}
	memmove(&st->marks[i + 1], &st->marks[i], (st->n_marks++ - i) * sizeof *m);
	st->marks[i] = *m;
	if (i && join_next(st, i - 1, rcv_nxt))
		i--;
	while (join_next(st, i, rcv_nxt))
		;
}

static int64_t time_of_frame(const struct engine *e)
{
	const struct link_rx *frame = e->frame;
	return frame && frame->at_sec ? frame->at_sec * NSEC_PER_SEC + frame->at_nsec : clock_real_ns();
}

/* Text as far as `end`, if it was taken: then the connection has more than before. */
static void note_time(struct engine *e, struct sock *s, uint32_t rcv_nxt, uint32_t ooo_bytes, uint32_t end, uint32_t len)
{
	struct tcp_status now;
	tcp_get_status(&s->tcp, &now);
	if (SEQ_LEQ(end, rcv_nxt) || (now.rcv_nxt == rcv_nxt && now.ooo_bytes == ooo_bytes))
		return;
	struct rx_mark m = {.start = end - len, .end = end, .pieces = 1 + len / PIECE_BYTES, .at_ns = time_of_frame(e)};
	add_mark(e, s->stamps, &m, now.rcv_nxt);
}

void stamps_input(struct engine *e, struct sock *s, const struct tcp_segment *seg)
{
	struct tcp_status before;
	tcp_get_status(&s->tcp, &before);
	tcp_input(&s->tcp, e->now, seg);
	if (seg->payload_len && keeps_times(s->stamps))
		note_time(e, s, before.rcv_nxt, before.ooo_bytes, seg->seq + seg->payload_len, seg->payload_len);
}

void stamps_on_syn(struct engine *e, struct sock *s, const struct tcp_segment *syn)
{
	if (syn->payload_len && keeps_times(s->stamps))
		note_time(e, s, syn->seq + 1, 0, syn->seq + 1 + syn->payload_len, syn->payload_len);
}

static const struct rx_mark *mark_of(const struct stamps *st, uint32_t seq)
{
	for (uint32_t i = 0; i < st->n_marks; i++)
		if (SEQ_GT(st->marks[i].end, seq))
			return SEQ_LEQ(st->marks[i].start, seq) ? &st->marks[i] : NULL; /* none: it was there before anybody asked */
	return NULL;
}

/* Linux's tcp_recv_timestamp. */
void stamps_tell_read(struct sock *s, uint32_t seq, uint32_t read, struct cmsg_out *out)
{
	struct stamps *st = s->stamps;
	const struct rx_mark *m = mark_of(st, seq);
	if (m && st->told)
		put_told(st, m->at_ns, out);
	if (m && (st->flags & SOF_TIMESTAMPING_SOFTWARE) && ((st->flags & SOF_TIMESTAMPING_RX_SOFTWARE) || !(st->flags & OPT_RX_FILTER)))
		put_stamping(st, m->at_ns, out);
	uint32_t gone = 0;
	while (gone < st->n_marks && SEQ_LEQ(st->marks[gone].end, read))
		gone++;
	st->n_marks -= gone;
	memmove(st->marks, st->marks + gone, st->n_marks * sizeof *st->marks);
}

/* ---- of what is sent ---- */

/*
 * Bytes that wait together for less than a segment are one buffer in Linux, with one stamp: the flags of all, the
 * number of the last.
 */
static uint32_t join_waiting(struct engine *e, struct sock *s)
{
	struct tcp_status st;
	struct list *pos = list_last(&s->err_owed);
	struct err_owed *o = pos ? container_of(pos, struct err_owed, node) : NULL;
	if (!o || o->zerocopy || o->sent || o->record)
		return 0;
	tcp_get_status(&s->tcp, &st);
	if (st.unsent_bytes > st.mss_snd)
		return 0;
	uint32_t flags = o->stamps;
	errqueue_settle(e, s, o);
	return flags;
}

void stamps_sent(struct engine *e, struct sock *s, const uint32_t *flags, bool record)
{
	uint32_t wanted = s->stamps ? s->stamps->flags : 0;
	if (flags)
		wanted = *flags;
	wanted &= TX_RECORD;
	if (!wanted || !stamps_of(e, s))
		return;
	wanted |= join_waiting(e, s);
	struct err_owed *o = errqueue_owe(e, s);
	if (!o)
		return;
	o->stamps = wanted;
	o->record = record;
}

/* A copy of what leaves: the frame from the link's header on, as Linux's devices see it. */
static struct err_frame *frame_of(struct engine *e, const struct link_tx *tx)
{
	uint32_t len = tx->hdr_len;
	for (int i = 0; i < tx->n_payload; i++)
		len += tx->payload[i].iov_len;
	struct err_frame *f = engine_alloc(e, sizeof *f + len);
	if (!f)
		return NULL;
	f->users = 1;
	f->headers = f->len = tx->hdr_len;
	memcpy(f->bytes, tx->hdr, tx->hdr_len);
	for (int i = 0; i < tx->n_payload; i++) {
		memcpy(f->bytes + f->len, tx->payload[i].iov_base, tx->payload[i].iov_len);
		f->len += tx->payload[i].iov_len;
	}
	return f;
}

/* Linux's __skb_tstamp_tx. */
static void tell(struct engine *e, struct sock *s, const struct err_owed *o, uint32_t what)
{
	bool bare = s->stamps->flags & SOF_TIMESTAMPING_OPT_TSONLY;
	struct err_frame *frame = bare ? NULL : o->frame;
	uint32_t skip = frame && what == SCM_TSTAMP_ACK ? frame->headers : 0; /* by then Linux has the text alone */
	if (!bare && !frame) /* without memory nobody is told, as by Linux */
		return;
	const struct stamps *st = s->stamps;
	struct err_notice n = {
		.ee = {.ee_errno = ENOMSG, .ee_origin = SO_EE_ORIGIN_TIMESTAMPING, .ee_info = what},
		.at_ns = clock_real_ns(),
		.charge = NOTICE_CHARGE + (frame ? frame->len - skip : 0),
		.frame = frame,
		.skip = skip,
	};
	if (st->flags & SOF_TIMESTAMPING_OPT_ID)
		n.ee.ee_data = o->end - 1 - st->key;
	errqueue_push(e, s, &n);
}

void stamps_left(struct engine *e, struct sock *s, const struct tcp_segment *seg, const struct link_tx *tx)
{
	struct err_frame *frame = NULL;
	bool any = false;
	list_for_each (pos, tmp, &s->err_owed) {
		struct err_owed *o = container_of(pos, struct err_owed, node);
		if (SEQ_LEQ(o->end, seg->seq) || o->zerocopy)
			continue;
		if (SEQ_GT(o->end, seg->seq + seg->payload_len))
			break;
		if (!any && !(s->stamps->flags & SOF_TIMESTAMPING_OPT_TSONLY))
			frame = frame_of(e, tx);
		o->sent = any = true;
		errqueue_unref(e, o->frame);
		o->frame = frame;
		if (frame)
			frame->users++;
		if (o->stamps & SOF_TIMESTAMPING_TX_SCHED)
			tell(e, s, o, SCM_TSTAMP_SCHED);
		o->due = o->stamps & SOF_TIMESTAMPING_TX_SOFTWARE;
	}
	errqueue_unref(e, frame);
	if (any && list_empty(&s->stamps->due))
		list_push_back(&e->stamps_due, &s->stamps->due);
}

void stamps_flushed(struct engine *e)
{
	list_for_each (pos, tmp, &e->stamps_due) {
		struct sock *s = container_of(pos, struct stamps, due)->sock;
		const struct iface *i = s->dest ? s->dest->iface : NULL;
		if (i && i->link && link_tx_blocked(i->link)) /* it is in the queue still */
			continue;
		list_unlink(pos);
		list_for_each (at, next, &s->err_owed) {
			struct err_owed *o = container_of(at, struct err_owed, node);
			if (!o->zerocopy && o->due)
				tell(e, s, o, SCM_TSTAMP_SND);
			o->due = false;
		}
		errqueue_notify(e, s);
	}
}

void stamps_acked(struct engine *e, struct sock *s, const struct err_owed *o)
{
	struct tcp_status st;
	tcp_get_status(&s->tcp, &st);
	if (SEQ_LT(st.snd_una, o->end)) /* the connection has ended instead */
		return;
	if (o->due)
		tell(e, s, o, SCM_TSTAMP_SND);
	if (o->stamps & SOF_TIMESTAMPING_TX_ACK)
		tell(e, s, o, SCM_TSTAMP_ACK);
}
