/*
 * TCP Fast Open of a listener (RFC 7413; tcp/fastopen.h has the cookies).
 *
 * The program's options are on the kernel's listening socket, and so are their errors and what is read back; here is
 * what they mean. A SYN with a good cookie becomes a connection that goes into the accept queue at once, as soon as it
 * is an embryo. Until its handshake is complete it counts (`pending`), and over TCP_FASTOPEN's number handshakes are
 * ordinary ones: that bounds what forged SYNs can make us send (RFC 7413 §5.1). One that its peer resets after it was
 * accepted keeps its place for a minute, as in Linux: who replays another's cookie gets RSTs from there. Each process
 * of a group counts for itself.
 *
 * Keys: the listener's own (TCP_FASTOPEN_KEY), or the namespace's, which only root may read: where they cannot be, the
 * listener is the kernel's. A process that has given up its privilege goes on with the keys that it has read.
 */
#include "socket/engine.h"
#include "socket/listener.h"
#include "socket/fastopen.h"

#include "base/sys.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

/* Bits of net.ipv4.tcp_fastopen. */
#define SERVER         0x2
#define SERVER_ANY     0x200 /* without a cookie */
#define SERVER_ALL     0x400 /* every listener: the kernel sets TCP_FASTOPEN in listen(2) */
#define KEYS_AGE_US    USEC_PER_SEC
#define RESET_PLACE_US (60 * USEC_PER_SEC) /* as Linux */
#define RESETS_FIRST   8 /* places that memory is taken for at first */

static bool namespace_has(const struct engine *e, int bits)
{
	return (sysctls_number(&e->sysctls, SYSCTL_tcp_fastopen) & bits) == bits;
}

static bool read_keys(struct engine *e, struct fastopen_keys *keys)
{
	char text[128];
	struct fastopen_keys found;
	if (!sysctls_text(&e->sysctls, "tcp_fastopen_key", text, sizeof text) || !fastopen_keys_parse(text, &found))
		return false;
	*keys = found;
	return true;
}

bool fastopen_may_serve(struct engine *e)
{
	struct fastopen_keys keys;
	return !namespace_has(e, SERVER) || read_keys(e, &keys);
}

static int number_of(int kfd, int name)
{
	int v = 0;
	socklen_t len = sizeof v;
	return sys_getsockopt(kfd, IPPROTO_TCP, name, &v, &len) ? 0 : v;
}

void fastopen_listen(struct engine *e, struct sock *l, int kfd)
{
	struct fastopen *f = &l->lst->fastopen;
	const struct candidate *c = &l->lst->candidate;
	if (candidate_untouched(c) && !namespace_has(e, SERVER | SERVER_ALL) && !f->most)
		return;
	f->most = number_of(kfd, TCP_FASTOPEN);
	f->no_cookie = number_of(kfd, TCP_FASTOPEN_NO_COOKIE);
	uint8_t bytes[FASTOPEN_KEYS_MAX * FASTOPEN_KEY_BYTES];
	socklen_t len = sizeof bytes;
	f->keys_us = 0;
	if (!f->most || sys_getsockopt(kfd, IPPROTO_TCP, TCP_FASTOPEN_KEY, bytes, &len) || !len)
		return;
	f->keys_us = TIME_NEVER;
	f->keys.n = len / FASTOPEN_KEY_BYTES;
	memcpy(f->keys.key, bytes, len);
}

/* ---- places ---- */

void fastopen_forget(struct engine *e, struct fastopen *f)
{
	if (f->resets)
		engine_free(e, f->resets, f->room * sizeof *f->resets);
	f->resets = NULL;
	f->room = f->first = f->n_resets = 0;
}

/* As Linux: one whose minute is over makes room when room is needed. */
static bool has_place(struct engine *e, struct fastopen *f)
{
	if (f->pending + f->n_resets < f->most)
		return true;
	if (!f->n_resets || f->resets[f->first] >= e->now)
		return false;
	f->first = (f->first + 1) % f->room;
	f->n_resets--;
	return true;
}

static bool grow_resets(struct engine *e, struct fastopen *f)
{
	unsigned room = f->room ? 2 * f->room : RESETS_FIRST;
	int64_t *more = engine_alloc(e, room * sizeof *more);
	if (!more)
		return false;
	for (unsigned i = 0; i < f->n_resets; i++)
		more[i] = f->resets[(f->first + i) % f->room];
	unsigned n = f->n_resets;
	fastopen_forget(e, f);
	f->resets = more;
	f->room = room;
	f->n_resets = n;
	return true;
}

/* No more than there were pending: TCP_FASTOPEN bounds them. Without memory the place is free at once. */
static void keep_place(struct engine *e, struct fastopen *f)
{
	if (f->n_resets == f->room && !grow_resets(e, f))
		return;
	f->resets[(f->first + f->n_resets++) % f->room] = e->now + RESET_PLACE_US;
}

/* ---- what arrives ---- */

/* A setting's new key holds within a second. */
static void refresh_keys(struct engine *e, struct fastopen *f)
{
	if (f->keys_us == TIME_NEVER || (f->keys_us && e->now - f->keys_us < KEYS_AGE_US))
		return;
	read_keys(e, &f->keys);
	f->keys_us = e->now;
}

enum fastopen_fate fastopen_on_syn(struct engine *e, struct sock *l, const struct ip_input *in, struct fastopen_cookie *cookie)
{
	const struct tcp_segment *syn = &in->seg;
	struct fastopen *f = &l->lst->fastopen;
	bool option = syn->has & (SEG_HAS_FASTOPEN | SEG_HAS_FASTOPEN_OLD);
	if (!f->most || (!option && !syn->payload_len) || !namespace_has(e, SERVER))
		return FASTOPEN_NONE;
	e->counters[SOCKC_FastopenCookieReqd] += option && !syn->cookie_len;
	if (!has_place(e, f)) {
		e->counters[SOCKC_FastopenListenOverflow]++;
		return FASTOPEN_NONE;
	}
	refresh_keys(e, f);
	enum fastopen_fate fate = fastopen_judge(&f->keys, &in->key, syn, f->no_cookie || namespace_has(e, SERVER_ANY), cookie);
	e->counters[SOCKC_FastopenPassiveFail] += fate == FASTOPEN_REFUSED;
	return fate;
}

void fastopen_began(struct engine *e, struct sock *l, struct sock *s)
{
	e->counters[SOCKC_FastopenPassive]++;
	l->lst->fastopen.pending++;
	s->fastopen_of = sock_ref(l);
	listener_give_to_accept(e, s);
}

void fastopen_ended(struct engine *e, struct sock *s)
{
	struct sock *l = s->fastopen_of;
	struct tcp_status st;
	s->fastopen_of = NULL;
	if (l->lst && l->lst->fastopen.pending) {
		l->lst->fastopen.pending--;
		tcp_get_status(&s->tcp, &st);
		if (st.reset < 0 && !s->listener && l->kind == SOCK_KIND_LISTENER)
			keep_place(e, &l->lst->fastopen);
	}
	sock_put(e, l);
	if (s->child_refs)
		fork_not_early(e, s);
}
