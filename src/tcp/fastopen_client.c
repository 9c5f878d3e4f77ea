/*
 * TCP Fast Open (RFC 7413) of a client: text in the SYN, and what becomes of it.
 *
 * tcp_fastopen_begin lets a SYN go that waits: it asks for a cookie, or has one and text. Text of the SYN lies in the
 * send buffer and in the log of what is in flight, as any. SND.UNA is the SYN's number until the SYN-ACK: no text goes
 * again before that, and a SYN that does has neither text nor option. What the SYN-ACK does not acknowledge of the text
 * leaves at once, without congestion: the peer did not want it, or an ordinary SYN was what arrived.
 *
 * Where such segments are not answered again and again, something on the way may swallow them: TCP_EV_BLACK_HOLE, by
 * Linux's rule.
 */
#include "tcp/tcp_int.h"

#include <string.h>

#define COOKIE_ALONE    12 /* bytes; beside a longer one there is no room for the offer of close requests */
#define SYN_OPTION_ROOM 40 /* Linux leaves room for all options that a header can have: something on the way may add some */
#define HOLE_TIMEOUTS   2  /* as many went before */

bool tcp_syn_waits(const struct tcp_conn *c)
{
	return c->syn_waits;
}

/* Until the SYN-ACK tells, the peer's MSS is what it was the last time, or as ours. */
static uint16_t expected_mss(const struct tcp_conn *c, const struct tcp_fastopen *f)
{
	return f->mss_peer ? f->mss_peer : c->mss_advertised;
}

uint32_t tcp_fastopen_room(const struct tcp_conn *c, const struct tcp_fastopen *f)
{
	return f->text ? negotiate_room(c, expected_mss(c, f)) - SYN_OPTION_ROOM : 0; /* no segment is smaller than TCP_MSS_MIN */
}

/* 0 without memory, or where the program's is bad. */
static uint32_t take_text(struct tcp_conn *c, const struct iovec *iov, uint32_t n)
{
	if (!n || chunks_reserve(&c->snd, c->stack->memory, n) < 0)
		return 0;
	return send_put(c, iov, n);
}

uint32_t tcp_fastopen_begin(struct tcp_conn *c, const struct tcp_fastopen *f, const struct iovec *iov, int iovcnt)
{
	uint64_t there = send_bytes(iov, iovcnt);
	uint32_t room = tcp_fastopen_room(c, f), wanted = there < room ? there : room;
	c->mss_peer = expected_mss(c, f);
	negotiate_mss(c);
	c->syn_waits = false;
	c->syn_due = true;
	TCP_COUNT(c, ActiveOpens);
	c->cookie = f->cookie;
	if (!f->text && f->cookie.there)
		c->fastopen_fail = TCP_FASTOPEN_NO_COOKIE_YET;
	uint32_t n = take_text(c, iov, wanted);
	if (wanted && !n)
		c->cookie.len = 0;
	if (c->cookie.len > COOKIE_ALONE)
		c->cr_on = false;
	c->syn_option = c->cookie.there;
	c->syn_option_old = c->cookie.old;
	c->syn_text = n != 0;
	c->options.ack_waits |= f->waits && n && n < there;
	c->snd_push = snd_end(c);
	c->last_bytes_ours = n != 0;
	return n;
}

uint32_t fastopen_syn_text(const struct tcp_conn *c)
{
	return min_u32(c->snd.len, negotiate_room(c, c->mss_peer) - SYN_OPTION_ROOM);
}

/* Not account_new of output.c: it is the SYN that is timed, and Nagle's rule does not know of this segment. */
void fastopen_syn_sent(struct tcp_conn *c, int64_t now, uint32_t len)
{
	struct sent_mark mark = rate_mark(c, now, true);
	mark.short_end = mark.push = true;
	c->snd_nxt += len;
	sent_append(&c->sent, c->stack->memory, c->snd_nxt, now, 0, &mark);
	c->bytes_out += len;
	c->data_segs_out++;
	c->last_data_sent_us = now;
}

/* What was given, for the next time. As Linux, which does not believe in cookies that were not asked for. */
static void take_cookie(struct tcp_conn *c, const struct tcp_segment *seg)
{
	c->syn_answered = seg->has & (SEG_HAS_FASTOPEN | SEG_HAS_FASTOPEN_OLD);
	c->cookie = (struct fastopen_cookie){.there = c->syn_option && c->syn_answered && seg->cookie_len, .old = seg->has & SEG_HAS_FASTOPEN_OLD};
	if (!c->cookie.there)
		return;
	c->cookie.len = seg->cookie_len;
	memcpy(c->cookie.val, seg->cookie, seg->cookie_len);
}

bool fastopen_on_syn_ack(struct tcp_conn *c, int64_t now, const struct tcp_segment *seg)
{
	take_cookie(c, seg);
	if (SEQ_GT(seg->ack, c->snd_una)) {
		rate_begin(c);
		c->delivered += seg->ack - c->snd_una; /* with the SYN, as one segment: figures_established has counted it */
		input_acked(c, now, seg);
		timer_stop_rtx(c);
		if (snd_flight(c))
			timer_start_rtx(c, now);
	}
	if (!snd_flight(c)) {
		c->syn_data = c->syn_text;
		c->stack->counters[TCPC_FastOpenActive] += c->syn_data;
		return false;
	}
	c->rate.app_limited = 0; /* the path decides how fast this goes, not the program */
	c->fastopen_fail = c->total_retrans ? TCP_FASTOPEN_SYN_AGAIN : TCP_FASTOPEN_NOT_ACKED;
	TCP_COUNT(c, FastOpenActiveFail);
	recovery_resegment(c);
	return true;
}

bool tcp_fastopen_news(const struct tcp_conn *c, struct tcp_fastopen_news *out)
{
	if (c->passive || !fastopen_asked(c))
		return false;
	*out = (struct tcp_fastopen_news){
		.cookie = c->cookie,
		.mss_peer = c->mss_peer,
		.unanswered = c->syn_option && !c->syn_answered && !c->total_retrans && !c->syn_text,
		.asked_old = c->syn_option_old,
	};
	return true;
}

bool tcp_fastopen_heard_text(const struct tcp_conn *c)
{
	return c->syn_option && c->data_segs_in;
}

void fastopen_look_for_hole(struct tcp_conn *c, bool over)
{
	if (!fastopen_asked(c) && !c->syn_data)
		return;
	if (c->rtx_count == HOLE_TIMEOUTS || (c->rtx_count < HOLE_TIMEOUTS && over))
		c->events |= TCP_EV_BLACK_HOLE;
}

/* A FIN that stands behind something that never came is all that was heard of the peer. */
void fastopen_closed(struct tcp_conn *c)
{
	if (c->syn_option && !c->data_segs_in && c->fin_ahead)
		c->events |= TCP_EV_BLACK_HOLE;
}
