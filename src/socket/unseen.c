/*
 * Text that stays in the kernel until it is read.
 *
 * A super-segment of 64 KiB came by recv into memory of the link, went from there into the connection's buffer, and
 * from there to the program: three copies, of which each costs as much as all the rest of TCP does. The kernel's own
 * TCP makes one. So does this: the engine takes such a segment by its header, which is in the ring's slot
 * (tcp/unseen.c), and leaves the frame in the packet socket's queue. A read that begins there has it copied from the
 * queue to where the program wants it. A read that is shorter leaves the rest in the connection's buffer.
 *
 * The frames are a queue, for each interface, in the order in which they came. So who wants one fetches those before
 * it, too, into their connections' buffers (settles them); and so does the link before it reads another frame.
 *
 * What is in the packet socket's queue makes poll return at once. So all is settled before a thread sleeps on it: a
 * program that reads what it is told of does so before. And before anything but a read looks at a connection's bytes: a
 * look (MSG_PEEK), a handover, its end.
 *
 * Limits: UNSEEN_MAX frames, and a part of the receive buffer (link/packet_rx.c). Only for plain segments, in order, of
 * connections of which nobody but the program looks at the bytes; and of UNSEEN_LEAST bytes or more, since less is
 * copied in the time that a system call takes. But behind others a small one is left, too: to read it would settle them
 * all.
 */
#include "socket/unseen.h"

#include "tcp/seq.h"

#define UNSEEN_LEAST 8192

static struct unseen *nth(struct unseen_queue *q, uint32_t k)
{
	return &q->at[(q->first + k) % UNSEEN_MAX];
}

static void text_lost(struct engine *e, struct sock *s)
{
	if (!s)
		return;
	tcp_unseen_lost(&s->tcp, e->now);
	sock_mark_dirty(e, s);
	sock_process_events(e, s);
}

/* The link has emptied its queue: after a frame that failed nobody knows which one is next. */
static void lose_all(struct iface *i)
{
	while (i->unseen.n) {
		struct sock *s = nth(&i->unseen, 0)->s;
		i->unseen.first++;
		i->unseen.n--;
		if (s)
			s->n_unseen--;
		text_lost(i->engine, s);
	}
}

/* The oldest frame, `pieces` of what is left of its text. */
static void fetch(struct iface *i, const struct iovec *pieces, int n)
{
	struct unseen u = *nth(&i->unseen, 0);
	i->unseen.first++;
	i->unseen.n--;
	if (u.s)
		u.s->n_unseen--;
	if (link_fetch(i->link, u.wire_len, u.skip, pieces, n, false)) {
		text_lost(i->engine, u.s);
		lose_all(i);
	}
}

static void settle_first(struct iface *i)
{
	const struct unseen *u = nth(&i->unseen, 0);
	struct iovec place[2];
	fetch(i, place, u->s ? tcp_unseen_place(&u->s->tcp, u->seq, u->len, place) : 0);
}

static bool is_fit(const struct engine *e, const struct sock *s)
{
	return s->live && s->kind == SOCK_KIND_CONN && !e->own && !s->stamps && !s->read_protocol && !(s->listener && !s->accepted) && !s->fastopen_of && !s->ip.oif && !s->ip.min_ttl[0] &&
	       !s->ip.min_ttl[1];
}

bool unseen_take(struct iface *i, const struct link_rx *rx)
{
	struct engine *e = i->engine;
	struct ip_input in;
	bulk_note_frame(&e->drive.bulk, e->now, rx->wire_len);
	if ((rx->wire_len < UNSEEN_LEAST && !i->unseen.n) || e->own)
		return false;
	ip_input_parse(rx, iface_info(i)->has_eth, &in);
	if (in.kind != IP_INPUT_TCP || !in.cut || in.cut_fin)
		return false;
	struct flow *f = demux_find(&e->demux, &in.key);
	struct sock *s = f ? container_of(f, struct sock, flow) : NULL;
	uint32_t skip = (const uint8_t *)in.seg.payload[0].iov_base - rx->data;
	in.seg.payload_len += in.cut;
	in.seg.payload[0] = (struct iovec){NULL, in.seg.payload_len};
	in.seg.gso_size = rx->gso_size < in.seg.payload_len ? rx->gso_size : 0; /* it was judged by what is here */
	if (!s || !is_fit(e, s) || !tcp_may_take_unseen(&s->tcp, &in.seg))
		return false;
	if (i->unseen.n == UNSEEN_MAX)
		settle_first(i);
	e->arrived = i;
	e->ip_fates[in.fate]++;
	bool taken = tcp_input_unseen(&s->tcp, e->now, &in.seg);
	*nth(&i->unseen, i->unseen.n++) = (struct unseen){taken ? s : NULL, in.seg.seq, in.seg.payload_len, rx->wire_len, skip, false};
	s->n_unseen += taken;
	sock_mark_dirty(e, s);
	sock_process_events(e, s);
	return true;
}

void unseen_settle_iface(struct iface *i)
{
	while (i->unseen.n)
		settle_first(i);
}

void unseen_settle(struct engine *e)
{
	struct iface *i;
	ifaces_for_each(e, i)
		unseen_settle_iface(i);
}

void unseen_settle_sock(struct engine *e, struct sock *s)
{
	struct iface *i;
	ifaces_for_each(e, i)
		while (s->n_unseen && i->unseen.n)
			settle_first(i);
}

/* The connection's first. Another interface's queue may have some, too: the route moved. */
static struct unseen *first_of(struct engine *e, const struct sock *s, struct iface **where, uint32_t *before)
{
	struct unseen *found = NULL;
	struct iface *i;
	ifaces_for_each(e, i)
		for (uint32_t k = 0; k < i->unseen.n; k++) {
			struct unseen *u = nth(&i->unseen, k);
			if (u->s != s)
				continue;
			if (!found || SEQ_LT(u->seq, found->seq)) {
				found = u;
				*where = i;
				*before = k;
			}
			break;
		}
	return found;
}

/*
 * Less than half of the text is wanted: that is copied and the frame stays, since to pass over it the next time is
 * cheaper than to copy the rest twice. But only once, or a program that reads in small pieces would have all of it
 * passed over for each. False: that is not so, or it could not be looked at.
 */
static bool read_part(struct iface *i, struct unseen *u, const struct iovec *piece)
{
	if (u->begun || piece->iov_len >= u->len / 2 || link_fetch(i->link, u->wire_len, u->skip, piece, 1, true))
		return false;
	u->seq += piece->iov_len;
	u->len -= piece->iov_len;
	u->skip += piece->iov_len;
	u->begun = true;
	return true;
}

/*
 * The text that is next, from the kernel to the program; what it does not want now, if that is little, to the
 * connection's buffer.
 */
static ssize_t read_first(struct engine *e, struct iface *i, struct sock *s, void *to, size_t most)
{
	struct unseen *u = nth(&i->unseen, 0);
	uint32_t len = u->len, now = most < len ? most : len;
	struct iovec pieces[3] = {{to, now}}, place[2];
	if (!read_part(i, u, pieces)) {
		int rest = tcp_unseen_place(&s->tcp, u->seq + now, len - now, place);
		for (int k = 0; k < rest; k++)
			pieces[1 + k] = place[k];
		fetch(i, pieces, 1 + rest);
	}
	return tcp_recv(&s->tcp, e->now, pieces, 1, false, true);
}

ssize_t unseen_read(struct engine *e, struct sock *s, void *to, size_t most)
{
	struct iface *i = NULL;
	uint32_t before = 0;
	const struct unseen *u = first_of(e, s, &i, &before);
	uint32_t ready = u ? u->seq - tcp_recv_next(&s->tcp) : 0;
	if (!ready && u) {
		while (before-- && i->unseen.n)
			settle_first(i);
		if (i->unseen.n)
			return read_first(e, i, s, to, most);
		u = NULL; /* it is lost with one before it */
	}
	struct iovec piece = {to, u && ready < most ? ready : most};
	return tcp_recv(&s->tcp, e->now, &piece, 1, false, false);
}
