/*
 * TCP Fast Open of clients (RFC 7413; tcp/fastopen_client.c has the SYN): MSG_FASTOPEN, TCP_FASTOPEN_CONNECT,
 * TCP_FASTOPEN_NO_COOKIE, cookies, black holes. As Linux.
 *
 * sendmsg with MSG_FASTOPEN begins the connection and hands its text over with the SYN, where there is a cookie of this
 * server, or none is needed. Else the SYN asks for one, and it is a connect. TCP_FASTOPEN_CONNECT has connect say at
 * once that it is done where a cookie is there, and the SYN waits for what is sent first. So both are one thing here: a
 * SYN that waits (tcp_syn_waits) until fastopen_send lets it go.
 *
 * Black holes: while something on the way seems to swallow such SYNs, no client of the namespace sends any, for
 * net.ipv4.tcp_fastopen_blackhole_timeout_sec (0: for no time), twice as long each time, 64 times at most. Whoever gets
 * text by Fast Open afterwards ends the suspicion. When it began stands in the cache of cookies, at no address, so that
 * all processes know.
 */
#include "socket/engine.h"
#include "socket/fastopen.h"

#include "base/user.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* Bits of net.ipv4.tcp_fastopen. */
#define CLIENT           0x1
#define CLIENT_NO_COOKIE 0x4
#define HOLE_DOUBLINGS   6
#define ASKED_OLD_NEXT   1 /* struct fastopen_memo: the option was not answered */

static bool namespace_has(const struct engine *e, int bits)
{
	return (sysctls_number(&e->sysctls, SYSCTL_tcp_fastopen) & bits) == bits;
}

bool fastopen_may_call(const struct engine *e)
{
	return namespace_has(e, CLIENT);
}

bool fastopen_wants_connect(const struct sock *s)
{
	return s->values && option_values_number(s->values, OPTION_TCP_FASTOPEN_CONNECT);
}

static struct fastopen_cache *cache_of(struct engine *e)
{
	if (!e->fastopen_cache.words) /* without memory for it every server stays unknown */
		fastopen_cache_open(&e->fastopen_cache, NULL, e->tcp.ts_secret, e->netns);
	return &e->fastopen_cache;
}

/* ---- black holes ---- */

struct hole {
	int64_t since_us;
	uint32_t times; /* 0: none is suspected */
};
_Static_assert(sizeof(struct hole) <= FASTOPEN_MEMO_BYTES, "it stands in a cookie's place");
static const struct ip_addr nowhere;

static struct hole hole_read(struct engine *e)
{
	struct fastopen_memo memo;
	struct hole h = {0};
	if (fastopen_cache_get(cache_of(e), &nowhere, &nowhere, &memo))
		memcpy(&h, memo.val, sizeof h);
	return h;
}

static void hole_write(struct engine *e, const struct hole *h)
{
	struct fastopen_memo memo = {0};
	memcpy(memo.val, h, sizeof *h);
	fastopen_cache_put(cache_of(e), &nowhere, &nowhere, &memo);
}

static int64_t hole_timeout_us(const struct engine *e)
{
	return sysctls_number(&e->sysctls, SYSCTL_tcp_fastopen_blackhole_timeout_sec) * USEC_PER_SEC;
}

void fastopen_hole(struct engine *e)
{
	if (!hole_timeout_us(e))
		return;
	struct hole h = hole_read(e);
	h.since_us = e->now;
	h.times++;
	hole_write(e, &h);
	e->counters[SOCKC_FastopenBlackhole]++;
}

static bool hole_is_suspected(struct engine *e, struct sock *s)
{
	int64_t timeout = hole_timeout_us(e);
	struct hole h = timeout ? hole_read(e) : (struct hole){0};
	if (!h.times)
		return false;
	unsigned doublings = h.times - 1 < HOLE_DOUBLINGS ? h.times - 1 : HOLE_DOUBLINGS;
	if (e->now < h.since_us + (timeout << doublings))
		return true;
	s->fastopen_hole_over = true;
	return false;
}

void fastopen_client_ended(struct engine *e, const struct sock *s)
{
	if (s->fastopen_hole_over && tcp_fastopen_heard_text(&s->tcp))
		hole_write(e, &(struct hole){0});
}

/* ---- cookies ---- */

static bool needs_no_cookie(const struct engine *e, const struct sock *s)
{
	return namespace_has(e, CLIENT_NO_COOKIE) || s->dest->route.metrics.fastopen_no_cookie ||
	       (s->values && option_values_number(s->values, OPTION_TCP_FASTOPEN_NO_COOKIE));
}

/* What its SYN has with it, now. Linux's tcp_fastopen_cookie_check. */
static struct tcp_fastopen look(struct engine *e, struct sock *s)
{
	struct fastopen_memo memo;
	fastopen_cache_get(cache_of(e), &s->flow.key.laddr, &s->flow.key.raddr, &memo);
	struct tcp_fastopen f = {.mss_peer = memo.mss};
	if (hole_is_suspected(e, s))
		return f;
	f.text = memo.len || needs_no_cookie(e, s);
	if (needs_no_cookie(e, s))
		return f;
	f.cookie = (struct fastopen_cookie){.there = true, .old = memo.len ? memo.old : memo.asked == ASKED_OLD_NEXT, .len = memo.len};
	memcpy(f.cookie.val, memo.val, memo.len);
	return f;
}

/*
 * Linux's tcp_fastopen_cache_set: a server that does not answer the option is asked by the experimental one the next
 * time, once.
 */
void fastopen_learn(struct engine *e, const struct sock *s)
{
	struct tcp_fastopen_news news;
	struct fastopen_memo memo, before;
	if (!tcp_fastopen_news(&s->tcp, &news))
		return;
	fastopen_cache_get(cache_of(e), &s->flow.key.laddr, &s->flow.key.raddr, &before);
	memo = before;
	memo.mss = news.mss_peer;
	if (news.cookie.there) {
		memo.len = news.cookie.len;
		memo.old = news.cookie.old;
		memcpy(memo.val, news.cookie.val, memo.len);
	} else if (news.unanswered && !memo.len && memo.asked < ASKED_OLD_NEXT + news.asked_old) {
		memo.asked = ASKED_OLD_NEXT + news.asked_old;
	}
	if (memcmp(&memo, &before, sizeof memo))
		fastopen_cache_put(cache_of(e), &s->flow.key.laddr, &s->flow.key.raddr, &memo);
}

/* ---- calls ---- */

void fastopen_connect(struct engine *e, struct sock *s)
{
	struct tcp_fastopen f = look(e, s);
	if (f.text)
		return;
	tcp_fastopen_begin(&s->tcp, &f, NULL, 0);
	s->fastopen_calls++;
}

/* The SYN goes, with what it takes of the message. */
static size_t begin(struct engine *e, struct sock *s, const struct msghdr *msg, bool nonblock)
{
	struct tcp_fastopen f = look(e, s);
	f.waits = !nonblock;
	if (!user_iov_may_read(msg->msg_iov, msg->msg_iovlen, 0, tcp_fastopen_room(&s->tcp, &f))) { /* as Linux where it finds nothing to copy */
		f.text = false;
		f.cookie.len = 0;
	}
	size_t taken = tcp_fastopen_begin(&s->tcp, &f, msg->msg_iov, msg->msg_iovlen);
	sock_mark_dirty(e, s);
	sock_notify(e, s); /* it was writable until now */
	return taken;
}

ssize_t fastopen_send(struct engine *e, struct sock *s, const struct msghdr *msg, int flags, size_t *taken, bool *dissolve)
{
	const struct sockaddr *addr = msg->msg_name;
	bool nonblock = s->nonblock || (flags & MSG_DONTWAIT);
	bool named = addr && msg->msg_namelen >= sizeof addr->sa_family, waits = s->kind == SOCK_KIND_CONN && tcp_syn_waits(&s->tcp);
	if (!fastopen_may_call(e) || (named && addr->sa_family == AF_UNSPEC))
		return -EOPNOTSUPP;
	if (s->fastopen_calls)
		return -EALREADY;
	if (addr && !named)
		return -EINVAL;
	if (waits)
		*taken = begin(e, s, msg, nonblock);
	int r = connect_call(e, s, addr, waits, nonblock, true, dissolve);
	return r == -EINPROGRESS && *taken ? (ssize_t)*taken : r;
}
