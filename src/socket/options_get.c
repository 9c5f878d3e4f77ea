/*
 * getsockopt on engine sockets, in Linux's names and meanings.
 *
 * A listener is a kernel socket, too, and read there. Of a connection, the options of the data path are in the engine's
 * own state and answered here; all others are what a fresh kernel socket makes of the values that the program set
 * (options.h).
 */
#include "socket/engine.h"
#include "socket/options.h"
#include "socket/packet_seen.h"
#include "socket/saved_syn.h"
#include "socket/stamps.h"
#include "socket/tcp_info.h"

#include "base/sys.h"
#include "base/user.h"
#include "tcp/cc.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#define MEMINFO_VARS 9 /* SK_MEMINFO_VARS of linux/sock_diag.h */

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* since Linux 5.14 */
#endif

/* What getsockopt copies to the program, as far as it asked for. */
struct answer {
	union {
		int number;
		uint64_t rate;
		uint32_t stamps[2];
		uint32_t cc_info[TCP_CC_INFO_WORDS];
		struct timeval tv;
		struct linger linger;
		char name[CONGESTION_NAME_MAX];
		uint32_t meminfo[MEMINFO_VARS];
		struct tcp_info_linux info;
		struct sockaddr_storage addr;
		uint8_t bytes[512];
	};
};

static socklen_t tell_number(struct answer *a, int v)
{
	a->number = v;
	return sizeof a->number;
}

static socklen_t tell_timeout(struct answer *a, int64_t us)
{
	if (us == TIMEOUT_NOW_US)
		us = 0;
	a->tv = (struct timeval){.tv_sec = us / USEC_PER_SEC, .tv_usec = us % USEC_PER_SEC};
	return sizeof a->tv;
}

static socklen_t tell_meminfo(const struct tcp_status *st, struct answer *a)
{
	a->meminfo[0] = st->readable_bytes + st->ooo_bytes;
	a->meminfo[1] = st->rcvbuf_bytes;
	a->meminfo[3] = st->sndbuf_bytes;
	a->meminfo[5] = st->unsent_bytes + st->in_flight_bytes;
	return sizeof a->meminfo;
}

static socklen_t tell_congestion(struct answer *a, const char *name)
{
	strncpy(a->name, name, sizeof a->name - 1);
	return sizeof a->name;
}

/* A long, or an int where there is no room for one. */
static socklen_t tell_max_pacing_rate(struct answer *a, uint64_t rate, socklen_t wanted)
{
	rate = rate == TCP_PACING_RATE_ZERO ? 0 : rate ? rate : UINT64_MAX;
	if (wanted < sizeof a->rate)
		return tell_number(a, rate < UINT32_MAX ? (int)(uint32_t)rate : -1);
	a->rate = rate;
	return sizeof a->rate;
}

static int get_socket_level(struct sock *s, unsigned index, struct answer *a)
{
	const struct tcp_options *opt = tcp_get_options(&s->tcp);
	struct tcp_status st;
	tcp_get_status(&s->tcp, &st);
	switch (index) {
	case OPTION_SO_ERROR:
		return tell_number(a, tcp_take_any_error(&s->tcp));
	case OPTION_SO_TYPE:
		return tell_number(a, SOCK_STREAM);
	case OPTION_SO_PROTOCOL:
		return tell_number(a, IPPROTO_TCP);
	case OPTION_SO_DOMAIN:
		return tell_number(a, s->family);
	case OPTION_SO_ACCEPTCONN:
		return tell_number(a, 0);
	case OPTION_SO_KEEPALIVE:
		return tell_number(a, opt->keepalive);
	case OPTION_SO_REUSEADDR:
		return tell_number(a, s->reuseaddr);
	case OPTION_SO_OOBINLINE:
		return tell_number(a, s->oob_inline);
	case OPTION_SO_RCVLOWAT:
		return tell_number(a, s->lowat_told ? s->lowat_told : s->lowat);
	case OPTION_SO_RCVBUF:
		return tell_number(a, st.rcvbuf_bytes);
	case OPTION_SO_SNDBUF:
		return tell_number(a, st.sndbuf_bytes);
	case OPTION_SO_BUF_LOCK:
		return tell_number(a, (opt->user_sndbuf ? BUF_LOCK_SND : 0) | (opt->user_rcvbuf ? BUF_LOCK_RCV : 0));
	case OPTION_SO_INCOMING_CPU: {
		unsigned cpu = s->incoming_cpu;
		if (!s->incoming_cpu_set || s->incoming_cpu_segs != (uint32_t)st.segs_in)
			sys_call(SYS_getcpu, &cpu, NULL, NULL, 0, 0, 0);
		return tell_number(a, cpu);
	}
	case OPTION_SO_RCVTIMEO:
	case OPTION_SO_RCVTIMEO_NEW:
		return tell_timeout(a, s->rcvtimeo_us);
	case OPTION_SO_SNDTIMEO:
	case OPTION_SO_SNDTIMEO_NEW:
		return tell_timeout(a, s->sndtimeo_us);
	case OPTION_SO_LINGER:
		a->linger = (struct linger){.l_onoff = s->linger_on, .l_linger = s->linger_s};
		return sizeof a->linger;
	case OPTION_SO_MEMINFO:
		return tell_meminfo(&st, a);
	default:
		return -ENOPROTOOPT;
	}
}

static socklen_t tell_info(const struct engine *e, const struct sock *s, struct answer *a)
{
	socklen_t told = tcp_info_tell(e, s, &a->info);
	return told > sizeof a->bytes ? sizeof a->bytes : told;
}

static int get_tcp_level(const struct engine *e, const struct sock *s, unsigned index, struct answer *a)
{
	const struct tcp_options *opt = tcp_get_options(&s->tcp);
	struct tcp_status st;
	tcp_get_status(&s->tcp, &st);
	switch (index) {
	case OPTION_TCP_NODELAY:
		return tell_number(a, opt->nodelay);
	case OPTION_TCP_CORK:
		return tell_number(a, opt->cork);
	case OPTION_TCP_QUICKACK:
		return tell_number(a, st.quickack);
	case OPTION_TCP_KEEPIDLE:
		return tell_number(a, opt->keepidle_us / USEC_PER_SEC);
	case OPTION_TCP_KEEPINTVL:
		return tell_number(a, opt->keepintvl_us / USEC_PER_SEC);
	case OPTION_TCP_KEEPCNT:
		return tell_number(a, opt->keepcnt);
	case OPTION_TCP_SYNCNT:
		return tell_number(a, opt->syncnt ? opt->syncnt : e->tcp.config.syn_retries);
	case OPTION_TCP_USER_TIMEOUT:
		return tell_number(a, opt->user_timeout_us / USEC_PER_MSEC);
	case OPTION_TCP_LINGER2:
		if (opt->linger2_us < 0)
			return tell_number(a, -1);
		return tell_number(a, (opt->linger2_us ? opt->linger2_us : e->tcp.config.fin_timeout_us) / USEC_PER_SEC);
	case OPTION_TCP_WINDOW_CLAMP:
		return tell_number(a, tcp_window_clamp(&s->tcp));
	case OPTION_TCP_NOTSENT_LOWAT:
		return tell_number(a, opt->notsent_lowat);
	case OPTION_TCP_MAXSEG:
		return tell_number(a, !s->live && opt->maxseg ? opt->maxseg : st.mss_snd);
	case OPTION_TCP_CONGESTION:
		return tell_congestion(a, st.cc_name);
	case OPTION_TCP_CC_INFO:
		return tcp_cc_info(&s->tcp, a->cc_info);
	case OPTION_TCP_INFO:
		return tell_info(e, s, a);
	default:
		return -ENOPROTOOPT;
	}
}

/* SO_PEERNAME: a buffer that is too long is refused. */
static int get_peer_name(const struct sock *s, struct answer *a, socklen_t wanted)
{
	socklen_t len = sizeof a->addr;
	name_from_addr(s->engine, s->family, &s->flow.key.raddr, s->flow.key.rport, (struct sockaddr *)&a->addr, &len);
	return wanted > len ? -EINVAL : (int)len;
}

/* The length of the answer, or -errno. */
static int get_own(const struct engine *e, struct sock *s, unsigned index, struct answer *a, socklen_t wanted)
{
	switch (option_table[index].level) {
	case SOL_SOCKET:
		if (index == OPTION_SO_MAX_PACING_RATE)
			return tell_max_pacing_rate(a, tcp_get_options(&s->tcp)->max_pacing_rate, wanted);
		if (stamps_is_option(index))
			return stamps_get(s, index, a->stamps);
		return index == OPTION_SO_PEERNAME ? get_peer_name(s, a, wanted) : get_socket_level(s, index, a);
	case IPPROTO_TCP:
		return get_tcp_level(e, s, index, a);
	default:
		if (index == OPTION_IPV6_ADDRFORM)
			return sock_is_connected(s) ? (int)tell_number(a, s->family) : -ENOTCONN;
		if (index == OPTION_IP_PROTOCOL)
			return tell_number(a, s->live ? s->flow.key.lport : 0);
		return s->dest ? (int)tell_number(a, s->dest->path.mtu) : -ENOTCONN; /* IP_MTU, IPV6_MTU */
	}
}

/* As much as the program asked for. IPPROTO_IP gives a small number to a small buffer as one byte. */
static int give(unsigned index, const struct answer *a, socklen_t has, void *val, socklen_t *len)
{
	const struct option *o = &option_table[index];
	uint8_t byte = a->number;
	bool as_byte = o->level == IPPROTO_IP && o->type == OPTION_BYTE && *len > 0 && *len < sizeof(int) && a->number >= 0 && a->number <= 255;
	socklen_t n = as_byte ? 1 : *len < has ? *len : has;
	if (!user_may_write(val, n) || !user_may_write(len, sizeof *len))
		return -EFAULT;
	memcpy(val, as_byte ? &byte : (const void *)a, n);
	*len = n;
	return 0;
}

/* What no connection has in its own state is read from a fresh kernel socket that has the same values. */
static int get_judged(const struct sock *s, int level, int name, void *val, socklen_t *len)
{
	int fd = option_oracle(s->family, s->values);
	if (fd < 0)
		return -ENOMEM;
	int r = sys_getsockopt(fd, level, name, val, len);
	sys_close(fd);
	return r;
}

/*
 * The engine's namespace is the connection's. The asking thread may have moved to another one, and a fresh socket would
 * be of that.
 */
static int get_netns_cookie(const struct engine *e, const struct sock *s, void *val, socklen_t *len)
{
	int r = get_judged(s, SOL_SOCKET, SO_NETNS_COOKIE, val, len);
	if (!r)
		memcpy(val, &e->netns, sizeof e->netns);
	return r;
}

/* A number of the kernel's that no other socket has: of a socket that was made for it. */
static int get_cookie(struct sock *s, void *val, socklen_t *len)
{
	socklen_t size = sizeof s->cookie;
	if ((int)*len < (int)sizeof s->cookie)
		return -EINVAL;
	if (!s->cookie) {
		int fd = option_oracle(s->family, NULL);
		if (fd < 0)
			return -ENOMEM;
		sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &s->cookie, &size);
		sys_close(fd);
	}
	if (!user_may_write(val, sizeof s->cookie) || !user_may_write(len, sizeof *len))
		return -EFAULT;
	*len = sizeof s->cookie;
	memcpy(val, &s->cookie, sizeof s->cookie);
	return 0;
}

/* What Linux sets on a socket from the packets that it gets; later values are noted. False: nothing. */
static bool get_from_packet(const struct sock *s, unsigned index, struct answer *a)
{
	bool v4 = ip_addr_is_v4(&s->flow.key.raddr);
	if (index == OPTION_SO_PRIORITY)
		return tell_number(a, s->ip.priority);
	if (option_values_has(s->values, index))
		return false;
	if (index == OPTION_IPV6_MULTICAST_HOPS && s->family == AF_INET6 && s->seen.has_ttl)
		return tell_number(a, s->seen.ttl);
	if (index == OPTION_IPV6_MULTICAST_IF && s->family == AF_INET6 && s->seen.has_ifindex)
		return tell_number(a, s->seen.ifindex);
	if (!s->accepted)
		return false;
	if (index == OPTION_IP_MULTICAST_TTL && v4)
		return tell_number(a, s->seen.ttl);
	if (index == OPTION_IPV6_V6ONLY && !v4)
		return tell_number(a, s->v6only); /* the listener's */
	return false;
}

static int get_conn_option(struct engine *e, struct sock *s, int level, int name, void *val, socklen_t *len)
{
	unsigned index = option_find(level, name);
	enum option_source source = index == OPTION_UNKNOWN ? OPTION_NOTED : option_table[index].source;
	struct answer a = {0};
	bool judged = source != OPTION_OWN || (level == IPPROTO_IPV6 && s->family == AF_INET);
	if (!user_may_read(len, sizeof *len)) /* without a length, all that can be wrong is the option */
		return judged ? get_judged(s, level, name, val, len) : -EFAULT;
	if (index == OPTION_SO_COOKIE)
		return s->accepted ? get_cookie(s, val, len) : SOCK_ASK_FD;
	if (index == OPTION_SO_NETNS_COOKIE)
		return get_netns_cookie(e, s, val, len);
	if (source == OPTION_ASKED && sock_is_connected(s))
		return SOCK_KERNEL;
	if (index == OPTION_TCP_SAVED_SYN && s->saved_syn)
		return saved_syn_get(e, s, val, len);
	if (get_from_packet(s, index, &a))
		return level != IPPROTO_IPV6 && (int)*len < 0 ? -EINVAL : give(index, &a, sizeof a.number, val, len);
	if (judged) {
		int r = get_judged(s, level, name, val, len);
		if (!r && (index == OPTION_IP_PKTOPTIONS || index == OPTION_IPV6_2292PKTOPTIONS))
			packet_seen_tell(s, level, val, *len);
		return r;
	}
	if ((int)*len < 0 && level != IPPROTO_IPV6) /* which takes it for a great length */
		return -EINVAL;
	int has = get_own(e, s, index, &a, *len);
	return has < 0 ? has : give(index, &a, has, val, len);
}

/* What accepted connections will have: the kernel socket's is what they have only where the application chose. */
static int get_listener_congestion(const struct engine *e, const struct sock *s, void *val, socklen_t *len)
{
	struct answer a = {0};
	const struct tcp_cc_ops *cc = s->lst->options.cc ? s->lst->options.cc : e->default_cc;
	if (!user_may_read(len, sizeof *len))
		return -EFAULT;
	return (int)*len < 0 ? -EINVAL : give(OPTION_TCP_CONGESTION, &a, tell_congestion(&a, cc->name), val, len);
}

/* The kernel's, and who waits for accept here: tcpi_unacked is the queue's length. */
static int get_listener_info(const struct sock *s, void *val, socklen_t *len)
{
	struct tcp_info_linux info;
	socklen_t end = offsetof(struct tcp_info_linux, unacked) + sizeof info.unacked;
	int r = sys_getsockopt(s->lst->kfd, IPPROTO_TCP, TCP_INFO, val, len);
	if (r || *len < end)
		return r;
	uint8_t *at = (uint8_t *)val + offsetof(struct tcp_info_linux, unacked);
	memcpy(&info.unacked, at, sizeof info.unacked);
	info.unacked += s->lst->n_accept;
	memcpy(at, &info.unacked, sizeof info.unacked);
	return 0;
}

int sock_getsockopt(struct sock *s, int level, int name, void *val, socklen_t *len)
{
	struct engine *e = s->engine;
	int r;
	engine_lock(e);
	turn_begin(e);
	if (s->kind == SOCK_KIND_LISTENER && level == IPPROTO_TCP && name == TCP_CONGESTION)
		r = get_listener_congestion(e, s, val, len);
	else if (s->kind == SOCK_KIND_LISTENER && level == IPPROTO_TCP && name == TCP_INFO)
		r = get_listener_info(s, val, len);
	else if (s->kind == SOCK_KIND_LISTENER && s->lst->claimed && level == SOL_SOCKET && name == SO_GET_FILTER)
		r = get_judged(s, level, name, val, len); /* a filter that is there is ours (filter_is_programs) */
	else if (s->kind == SOCK_KIND_LISTENER)
		r = sys_getsockopt(s->lst->kfd, level, name, val, len);
	else if (s->kind == SOCK_KIND_CONN)
		r = get_conn_option(e, s, level, name, val, len);
	else
		r = -EBADF;
	turn_end(e);
	engine_unlock(e);
	return r;
}
