/* SEND (RFC 9293 §3.10.2): from the application into the send buffer. */
#include "tcp/tcp_int.h"

#include <errno.h>

#define BUFFER_MOST  65215 /* bytes of text in one, whatever the device takes */
#define BUFFER_BYTES 832 /* what Linux takes for a buffer of its send queue, beside the text */
#define LITTLE_SEGS  4

/*
 * What Linux puts into one buffer of its send queue (tcp_send_mss): whole segments, and no more than half the peer's
 * greatest window.
 */
static uint32_t size_goal(const struct tcp_conn *c)
{
	uint32_t most = min_u32(BUFFER_MOST, c->max_snd_wnd / 2);
	return max_u32(most - most % c->mss, c->mss);
}

/* Whole segments that may leave at once, before more is taken. */
static uint32_t may_leave(const struct tcp_conn *c)
{
	uint32_t pipe = recovery_pipe(c), edge = c->snd_una + c->snd_wnd;
	uint32_t wnd = SEQ_GT(edge, c->snd_nxt) ? edge - c->snd_nxt : 0;
	uint32_t most = min_u32(c->cwnd > pipe ? c->cwnd - pipe : 0, wnd);
	return most - most % c->mss;
}

/* Linux's tcp_cwnd_test: no burst is more, so that two are on the way. */
static uint32_t half_of_cwnd(const struct tcp_conn *c)
{
	return max_u32(c->cwnd / 2 / c->mss, 1) * c->mss;
}

/*
 * SO_SNDBUF counts buffers with all that belongs to them (sk_wmem_queued): what left, or would, is one for each
 * super-segment, what waits is one for size_goal().
 */
static uint64_t queued(const struct tcp_conn *c, uint32_t more, uint32_t leaves)
{
	uint64_t goal = size_goal(c), super = tso_bytes(c, c->mss), unsent = (uint64_t)snd_unsent(c) + more, left = c->snd.len - snd_unsent(c) + min_u32(unsent, leaves);
	unsent -= min_u32(unsent, leaves);
	return left + unsent + ((left + super - 1) / super + (unsent + goal - 1) / goal) * BUFFER_BYTES;
}

/* TCP_NOTSENT_LOWAT, the socket's or the namespace's: so much may wait unsent before more is taken. */
static uint32_t notsent_lowat(const struct tcp_conn *c)
{
	return c->options.notsent_lowat ? c->options.notsent_lowat : c->stack->config.notsent_lowat;
}

/*
 * With `more`, so little is in the buffer that it is far below every limit, however it is cut: seen without the
 * divisions of what follows, as it is for most requests and answers. No buffer but the last of each kind has less than
 * a segment.
 */
static bool is_little(const struct tcp_conn *c, uint32_t more)
{
	uint64_t n = (uint64_t)c->snd.len + more, most = n + (LITTLE_SEGS + 2) * BUFFER_BYTES;
	return n <= LITTLE_SEGS * (uint64_t)c->mss && 2 * n < notsent_lowat(c) && 2 * most <= c->sndbuf_limit;
}

static bool may_send(const struct tcp_conn *c)
{
	switch (c->state) {
	case TCPS_SYN_SENT: /* "Queue the data for transmission after entering ESTABLISHED state" */
	case TCPS_SYN_RECEIVED:
	case TCPS_ESTABLISHED:
	case TCPS_CLOSE_WAIT:
		return !c->fin_wanted;
	default:
		return false;
	}
}

/* To be worth a wake-up it must be less than half of that; as Linux's tcp_stream_memory_free. */
static bool below_lowat(const struct tcp_conn *c)
{
	return 2 * (uint64_t)snd_unsent(c) < notsent_lowat(c);
}

/*
 * Linux looks at its limits (SO_SNDBUF, TCP_NOTSENT_LOWAT) when it begins a buffer, and fills the last one in any case.
 * A full buffer that nothing waits before sends one super-segment (tcp_push_one): what is left of the buffer takes
 * more, whatever the limits are by then.
 */
uint32_t tcp_send_space(const struct tcp_conn *c, uint32_t want)
{
	if (is_little(c, want))
		return want;
	uint32_t lowat = notsent_lowat(c), goal = size_goal(c), may = may_leave(c), super = min_u32(tso_bytes(c, c->mss), half_of_cwnd(c)), left = 0, take = 0;
	while (take < want) {
		uint32_t unsent = snd_unsent(c) + take - left;
		if (unsent % goal == 0 && ((unsent && unsent >= lowat) || queued(c, take, left) >= c->sndbuf_limit))
			return take;
		take += goal - unsent % goal;
		if (snd_unsent(c) + take - left == goal)
			left += min_u32(min_u32(super, goal), may - left);
	}
	return want;
}

/* Linux's sk_stream_is_writeable(): free space at least half of what is queued. */
bool tcp_is_writable(const struct tcp_conn *c)
{
	if (tcp_is_opening(c))
		return false;
	if (c->no_memory && c->snd.len)
		return false;
	if (is_little(c, 0))
		return true;
	uint64_t used = queued(c, 0, 0);
	return used < c->sndbuf_limit && c->sndbuf_limit - used >= used / 2 && below_lowat(c);
}

void send_wake(struct tcp_conn *c)
{
	if (c->nospace && tcp_is_writable(c)) {
		c->nospace = false;
		c->events |= TCP_EV_WRITABLE;
	}
}

/*
 * What leaves takes other buffers than what waits, so a sender that was woken may find no room again. It is woken once
 * more, then: as Linux's tcp_poll.
 */
bool tcp_ask_writable(struct tcp_conn *c)
{
	bool writable = tcp_is_writable(c);
	if (!writable)
		c->nospace = true;
	return writable;
}

uint64_t send_bytes(const struct iovec *iov, int iovcnt)
{
	uint64_t total = 0;
	for (int i = 0; i < iovcnt; i++)
		total += iov[i].iov_len;
	return total;
}

uint32_t send_put(struct tcp_conn *c, const struct iovec *iov, uint32_t n)
{
	uint32_t done = 0;
	for (int i = 0; done < n; i++) {
		uint32_t left = n - done, piece = iov[i].iov_len < left ? iov[i].iov_len : left, put = chunks_append(&c->snd, iov[i].iov_base, piece);
		done += put;
		if (put < piece)
			break;
	}
	return done;
}

#define SEND_OWED_BYTES 4096 /* Linux: tcp_wmem[0] */

/*
 * Who has nothing on its way would not be told that there is memory again: so much it has in any case, unless the
 * kernel has none.
 */
static uint32_t reserve_owed(struct tcp_conn *c, uint32_t want)
{
	struct tcp_memory *m = c->stack->memory;
	uint32_t n = want < SEND_OWED_BYTES ? want : SEND_OWED_BYTES;
	m->owed = true;
	int err = chunks_reserve(&c->snd, m, n);
	m->owed = false;
	return err ? 0 : n;
}

/* Room for `want` more, or for less of it. */
static uint32_t reserve(struct tcp_conn *c, uint32_t want)
{
	uint32_t asked = want;
	while (want && chunks_reserve(&c->snd, c->stack->memory, c->snd.len + want) < 0)
		want /= 2;
	return want || c->snd.len ? want : reserve_owed(c, asked);
}

/* So many bytes more are too much for the last buffer that waits, or none waits. */
static bool begins_buffer(const struct tcp_conn *c, uint32_t n)
{
	uint32_t goal = size_goal(c), filled = snd_unsent(c) % goal;
	return !filled || n > goal - filled;
}

/* How many of `wanted` bytes may come in now; they have room. */
static ssize_t take(struct tcp_conn *c, uint64_t wanted)
{
	if (c->error)
		return -tcp_take_error(c);
	if (!may_send(c))
		return -EPIPE;
	if (!wanted)
		return 0;
	rate_check_app_limited(c);
	uint32_t asked = tcp_send_space(c, wanted < INT32_MAX ? (uint32_t)wanted : INT32_MAX), n = reserve(c, asked);
	c->no_memory = n < asked;
	if (!asked) {
		c->nospace = true;
		return -EAGAIN;
	}
	if (!n) {
		c->nospace = true;
		return c->snd.len ? -EAGAIN : -ENOMEM;
	}
	return n;
}

/* So many come. */
static void note_idle(struct tcp_conn *c, int64_t now, uint32_t n)
{
	if (c->last_data_sent_us && !snd_flight(c) && begins_buffer(c, n))
		cwnd_after_idle(c, now);
}

/* `n` of `wanted` bytes have come in. */
static void note_taken(struct tcp_conn *c, uint32_t n, uint64_t wanted, bool more)
{
	c->tso_waits = false;
	c->just_written = true;
	c->bounced_waits = false;
	c->last_bytes_ours = true;
	c->msg_more = more;
	if (!more || snd_end(c) - c->snd_push > c->max_snd_wnd / 2) /* so much waits for nothing more */
		c->snd_push = snd_end(c);
	if (n < wanted) /* a buffer that is just full is no shortage: as Linux's SOCK_NOSPACE, it is one when somebody asks (tcp_ask_writable) */
		c->nospace = true;
}

ssize_t tcp_send(struct tcp_conn *c, int64_t now, const struct iovec *iov, int iovcnt, bool more,
		 bool urgent)
{
	uint64_t wanted = send_bytes(iov, iovcnt);
	ssize_t n = take(c, wanted);
	if (n <= 0)
		return n;
	note_idle(c, now, n);
	n = send_put(c, iov, n);
	if (!n)
		return -EFAULT;
	note_taken(c, n, wanted, more);
	if (urgent && (uint64_t)n == wanted)
		c->snd_up = snd_end(c); /* MUST-62: the pointer moves to the newest urgent byte */
	return n;
}

ssize_t tcp_send_room(struct tcp_conn *c, uint32_t want, struct iovec place[2], int *pieces)
{
	ssize_t n = take(c, min_u32(want, CHUNK_BYTES));
	*pieces = n > 0 ? chunks_room(&c->snd, n, place) : 0;
	return n;
}

void tcp_send_filled(struct tcp_conn *c, int64_t now, uint32_t n, uint32_t want, bool more)
{
	if (!n) {
		if (!c->snd.len)
			chunks_free(&c->snd, c->stack->memory);
		return;
	}
	note_idle(c, now, n);
	chunks_commit(&c->snd, n);
	note_taken(c, n, want, more);
}

/* Beyond the set's bound, or without memory, records go together: that costs a peer nothing but the sight of them. */
void tcp_end_record(struct tcp_conn *c)
{
	if (c->snd.len && !c->fin_wanted)
		ranges_add(&c->eor, c->stack->memory, snd_end(c) - 1, snd_end(c));
}
