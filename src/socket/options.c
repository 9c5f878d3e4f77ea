/*
 * setsockopt, getsockopt and ioctls on engine sockets, in Linux's names and meanings.
 *
 * A listener is a kernel socket, too: it is set and read there, and what its accepted sockets inherit is read from it. Of a connection, the
 * options of the data path are in the engine's own state and answered here; all others are judged by a fresh kernel socket (options.h).
 */
#include "socket/engine.h"
#include "socket/errqueue.h"
#include "socket/options.h"
#include "socket/saved_syn.h"
#include "socket/stamps.h"
#include "socket/tcp_info.h"

#include "base/sys.h"
#include "base/user.h"
#include "tcp/cc.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>

#define LINGER2_MAX_S    120  /* Linux: TCP_FIN_TIMEOUT_MAX */
#define WINDOW_CLAMP_MIN 1152 /* Linux: SOCK_MIN_RCVBUF / 2 */
#define TIMEOUT_NOW_US   1    /* SO_RCVTIMEO and SO_SNDTIMEO below zero: give up at once */
#define LINUX_ERESTARTSYS 512 /* what an interrupted wait without an end is, inside: Linux lets it out here */
#define MEMINFO_VARS     9    /* SK_MEMINFO_VARS of linux/sock_diag.h */

static bool is_connected(const struct sock *s)
{
	return s->live && tcp_state(&s->tcp) >= TCPS_ESTABLISHED;
}

/* ---- reading ---- */

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

static int at_most(int v, int most)
{
	return v > most ? most : v;
}

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
		unsigned cpu = 0;
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
		return at_most(tcp_info_tell(e, s, &a->info), sizeof a->bytes);
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
			return is_connected(s) ? (int)tell_number(a, s->family) : -ENOTCONN;
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

/* What Linux sets on an accepted socket from the packet that opened it; later values are noted. False: nothing. */
static bool get_from_syn(const struct engine *e, const struct sock *s, unsigned index, struct answer *a)
{
	bool v4 = ip_addr_is_v4(&s->flow.key.raddr);
	if (!s->accepted || option_values_has(s->values, index))
		return false;
	if (index == OPTION_SO_PRIORITY)
		return tell_number(a, s->ip.priority);
	if (index == (v4 ? OPTION_IP_MULTICAST_TTL : OPTION_IPV6_MULTICAST_HOPS))
		return tell_number(a, s->peer_ttl);
	if (index == OPTION_IPV6_MULTICAST_IF && !v4)
		return tell_number(a, iface_scope(e, &s->flow.key.laddr));
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
	if (source == OPTION_ASKED && is_connected(s))
		return SOCK_KERNEL;
	if (index == OPTION_TCP_SAVED_SYN && s->saved_syn)
		return saved_syn_get(e, s, val, len);
	if (get_from_syn(e, s, index, &a))
		return level != IPPROTO_IPV6 && (int)*len < 0 ? -EINVAL : give(index, &a, sizeof a.number, val, len);
	if (judged)
		return get_judged(s, level, name, val, len);
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

/* ---- setting ---- */

/* What the fresh kernel socket made of it. */
struct judged {
	struct option_value before, after;
	bool readable;
};

/* 0, or the kernel's -errno. */
static int judge(const struct sock *s, unsigned index, int level, int name, const void *val, socklen_t len, struct judged *j)
{
	int fd = option_oracle(s->family, s->values);
	if (fd < 0)
		return -ENOMEM;
	j->readable = index != OPTION_UNKNOWN && option_read(fd, index, &j->before);
	int r = sys_setsockopt(fd, level, name, val, len);
	if (!r && j->readable)
		j->readable = option_read(fd, index, &j->after);
	sys_close(fd);
	return r;
}

/*
 * The kernel has to do it. A connection in its handshake goes to the kernel when that is over (sock_wants_kernel); of one that has ended, the value is
 * only something to read.
 */
static int set_kernels(struct sock *s, const struct judged *j)
{
	if (is_connected(s))
		return SOCK_KERNEL;
	if (!j->readable)
		return s->live ? -ENOPROTOOPT : 0;
	s->wants_kernel = s->live;
	return option_values_note(s->engine, &s->values, &j->after);
}

bool sock_wants_kernel(const struct sock *s)
{
	return s->wants_kernel && s->kind == SOCK_KIND_CONN && is_connected(s);
}

/* 0, SOCK_KERNEL or -errno. */
static int set_judged(struct engine *e, struct sock *s, int level, int name, const void *val, socklen_t len)
{
	struct judged j = {0};
	unsigned index = option_find(level, name);
	int r = judge(s, index, level, name, val, len, &j);
	if (is_connected(s) && r == -ENOTCONN)
		return SOCK_KERNEL; /* only a connection of the kernel's can tell */
	if (r || index == OPTION_UNKNOWN)
		return r ? r : set_kernels(s, &j);
	if (!j.readable)
		return option_table[index].class == OPTION_KERNELS ? set_kernels(s, &j) : 0;
	if ((index == OPTION_IP_RECVERR || index == OPTION_IPV6_RECVERR) && !j.after.bytes[0]) /* 0 or 1 */
		errqueue_drop_icmp(e, s);
	if (option_value_equal(&j.before, &j.after))
		return 0;
	struct sock_ip ip = s->ip;
	if (!option_carry(e, &ip, &j.after))
		return set_kernels(s, &j);
	r = option_values_note(e, &s->values, &j.after);
	if (!r)
		s->ip = ip;
	return r;
}

/* The kernel clamps the sizes, by its limits and the caller's privilege. */
static int set_buffer(const struct sock *s, struct tcp_options *opt, unsigned index, const void *val, socklen_t len)
{
	const struct option *o = &option_table[index];
	bool receive = index == OPTION_SO_RCVBUF || index == OPTION_SO_RCVBUFFORCE;
	int bytes = 0;
	socklen_t bytes_len = sizeof bytes;
	int fd = option_oracle(s->family, s->values);
	if (fd < 0)
		return -ENOMEM;
	int r = sys_setsockopt(fd, SOL_SOCKET, o->number, val, len);
	if (!r)
		r = sys_getsockopt(fd, SOL_SOCKET, receive ? SO_RCVBUF : SO_SNDBUF, &bytes, &bytes_len);
	sys_close(fd);
	if (r)
		return r;
	if (receive) {
		opt->user_rcvbuf = true;
		opt->rcvbuf_bytes = bytes;
	} else {
		opt->user_sndbuf = true;
		opt->sndbuf_bytes = bytes;
	}
	return 0;
}

static int set_buf_lock(struct tcp_options *opt, int v)
{
	if (v & ~(BUF_LOCK_SND | BUF_LOCK_RCV))
		return -EINVAL;
	opt->user_sndbuf = v & BUF_LOCK_SND;
	opt->user_rcvbuf = v & BUF_LOCK_RCV;
	return 0;
}

/* Linux's SOCK_DONE. */
static bool peer_has_ended(const struct sock *s, const struct tcp_status *st)
{
	return tcp_peer_fin(&s->tcp) || ((st->state == TCPS_CLOSED || st->state == TCPS_TIME_WAIT) && !st->reset);
}

/*
 * Half the buffer at most, or it could never be reached. Where autotuning decides the size, the kernel's and the engine's greatest buffers may differ:
 * the program is told the kernel's value.
 */
static int set_lowat(struct engine *e, struct sock *s, struct tcp_options *opt, int v)
{
	struct tcp_status st;
	tcp_get_status(&s->tcp, &st);
	int half = (opt->user_rcvbuf ? st.rcvbuf_bytes : e->tcp.config.rcvbuf_max_bytes) / 2;
	if (v < 0)
		v = INT32_MAX;
	s->lowat = opt->rcvlowat_bytes = at_most(v ? v : 1, half);
	s->lowat_told = at_most(v ? v : 1, opt->user_rcvbuf ? half : e->rcvlowat_max);
	/* What is there may be enough now; and Linux wakes who watches a socket whose peer has ended. */
	if ((int)st.readable_bytes >= s->lowat || peer_has_ended(s, &st))
		sock_notify_events(e, s, SOCK_WAKES_READERS);
	return 0;
}

static int set_socket_number(struct engine *e, struct sock *s, struct tcp_options *opt, unsigned index, int v)
{
	switch (index) {
	case OPTION_SO_KEEPALIVE:
		opt->keepalive = v != 0;
		return 0;
	case OPTION_SO_RCVLOWAT:
		return set_lowat(e, s, opt, v);
	case OPTION_SO_OOBINLINE:
		s->oob_inline = opt->oobinline = v != 0;
		return 0;
	case OPTION_SO_REUSEADDR:
		s->reuseaddr = v != 0;
		return 0;
	case OPTION_SO_BUF_LOCK:
		return set_buf_lock(opt, v);
	case OPTION_SO_INCOMING_CPU: /* the next segment says anew which it is */
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

static int set_seconds(int64_t *out, int v, int max)
{
	if (v < 1 || v > max)
		return -EINVAL;
	*out = v * USEC_PER_SEC;
	return 0;
}

static int set_window_clamp(const struct sock *s, struct tcp_options *opt, int v)
{
	if (!v && s->live)
		return -EINVAL;
	opt->window_clamp = v && v < WINDOW_CLAMP_MIN ? WINDOW_CLAMP_MIN : v;
	return 0;
}

static int set_linger2(struct tcp_options *opt, int v)
{
	int seconds = v > LINGER2_MAX_S ? LINGER2_MAX_S : v;
	opt->linger2_us = v < 0 ? -1 : seconds * USEC_PER_SEC; /* below zero: no FIN-WAIT-2 for orphans */
	return 0;
}

static int set_tcp_number(const struct sock *s, struct tcp_options *opt, unsigned index, int v)
{
	switch (index) {
	case OPTION_TCP_NODELAY:
		opt->nodelay = v != 0;
		return 0;
	case OPTION_TCP_CORK:
		opt->cork = v != 0;
		return 0;
	case OPTION_TCP_QUICKACK:
		opt->quickack = v != 0;
		return 0;
	case OPTION_TCP_KEEPIDLE:
		return set_seconds(&opt->keepidle_us, v, 32767); /* Linux: MAX_TCP_KEEPIDLE */
	case OPTION_TCP_KEEPINTVL:
		return set_seconds(&opt->keepintvl_us, v, 32767);
	case OPTION_TCP_KEEPCNT:
		if (v < 1 || v > 127)
			return -EINVAL;
		opt->keepcnt = v;
		return 0;
	case OPTION_TCP_SYNCNT:
		if (v < 1 || v > 127)
			return -EINVAL;
		opt->syncnt = v;
		return 0;
	case OPTION_TCP_USER_TIMEOUT:
		if (v < 0)
			return -EINVAL;
		opt->user_timeout_us = v * USEC_PER_MSEC;
		return 0;
	case OPTION_TCP_LINGER2:
		return set_linger2(opt, v);
	case OPTION_TCP_WINDOW_CLAMP:
		return set_window_clamp(s, opt, v);
	case OPTION_TCP_NOTSENT_LOWAT:
		opt->notsent_lowat = v;
		return 0;
	case OPTION_TCP_MAXSEG:
		if (v && (v < 88 || v > 32767)) /* Linux: TCP_MIN_MSS, MAX_TCP_WINDOW */
			return -EINVAL;
		if (!s->live) /* else it is too late: the SYN told it */
			opt->maxseg = v;
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

/* In the kernel's ticks, as it would keep it. */
static int set_timeout(const struct engine *e, int64_t *out, const void *val, socklen_t len)
{
	struct timeval tv;
	if (len < sizeof tv)
		return -EINVAL;
	memcpy(&tv, val, sizeof tv);
	if (tv.tv_usec < 0 || tv.tv_usec >= USEC_PER_SEC)
		return -EDOM;
	int64_t tick = e->tick_us ? e->tick_us : 1;
	if (tv.tv_sec < 0)
		*out = TIMEOUT_NOW_US;
	else if (tv.tv_sec >= INT64_MAX / USEC_PER_SEC / 2)
		*out = 0; /* for ever */
	else
		*out = (tv.tv_sec * USEC_PER_SEC + tv.tv_usec + tick - 1) / tick * tick;
	return 0;
}

/* Below zero is for ever, and reads back as the kernel's longest time in its ticks, cut to an int. */
static int linger_told(const struct sock *s, struct linger l)
{
	int fd = option_oracle(s->family, NULL);
	socklen_t len = sizeof l;
	if (fd < 0)
		return l.l_linger;
	sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	sys_getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &len);
	sys_close(fd);
	return l.l_linger;
}

static int set_linger(struct sock *s, const void *val, socklen_t len)
{
	struct linger l;
	if (len < sizeof l)
		return -EINVAL;
	memcpy(&l, val, sizeof l);
	s->linger_on = l.l_onoff != 0;
	if (s->linger_on)
		s->linger_s = l.l_linger < 0 ? linger_told(s, l) : l.l_linger;
	return 0;
}

/* A long, or an int, of which -1 is no bound. */
static int set_max_pacing_rate(struct tcp_options *opt, const void *val, socklen_t len)
{
	uint32_t narrow;
	uint64_t rate;
	if (len < sizeof narrow)
		return -EINVAL;
	memcpy(&narrow, val, sizeof narrow);
	rate = narrow == UINT32_MAX ? UINT64_MAX : narrow;
	if (len >= sizeof rate) {
		if (!user_may_read(val, sizeof rate))
			return -EFAULT;
		memcpy(&rate, val, sizeof rate);
	}
	opt->max_pacing_rate = rate == UINT64_MAX ? 0 : rate ? rate : TCP_PACING_RATE_ZERO;
	return 0;
}

/* Which there are, and which the caller may have (tcp_allowed_congestion_control), says the kernel. One that we lack is the kernel's to do. */
static int set_congestion(const struct sock *s, struct tcp_options *opt, const char *val, socklen_t len)
{
	char name[CONGESTION_NAME_MAX] = {0}; /* longer ones are cut, as in Linux */
	int fd = option_oracle(s->family, s->values);
	if (fd < 0)
		return -ENOMEM;
	int r = sys_setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, val, len);
	sys_close(fd);
	if (r < 0)
		return r;
	memcpy(name, val, len < sizeof name - 1 ? len : sizeof name - 1);
	const struct tcp_cc_ops *cc = tcp_cc_find(name);
	if (!cc)
		return is_connected(s) ? SOCK_KERNEL : -ENOENT;
	opt->cc = cc;
	return 0;
}

/* The kernel copies what the type needs, and no more, if the length says that there is as much. */
static bool may_not_read(unsigned index, const void *val, socklen_t len)
{
	static const uint8_t needs[] = {
		[OPTION_INT] = sizeof(int), [OPTION_TIMEVAL] = sizeof(struct timeval), [OPTION_LINGER] = sizeof(struct linger), [OPTION_NAME] = CONGESTION_NAME_MAX - 1, [OPTION_WIDE] = sizeof(int)};
	enum option_type type = option_table[index].type;
	if (type != OPTION_NAME && len < sizeof(int))
		return false;
	return !user_may_read(val, len < needs[type] ? len : needs[type]);
}

static int set_own(struct engine *e, struct sock *s, struct tcp_options *opt, unsigned index, const void *val, socklen_t len)
{
	int v;
	if (may_not_read(index, val, len))
		return -EFAULT;
	switch (index) {
	case OPTION_SO_RCVTIMEO:
	case OPTION_SO_RCVTIMEO_NEW:
		return set_timeout(e, &s->rcvtimeo_us, val, len);
	case OPTION_SO_SNDTIMEO:
	case OPTION_SO_SNDTIMEO_NEW:
		return set_timeout(e, &s->sndtimeo_us, val, len);
	case OPTION_SO_MAX_PACING_RATE:
		return set_max_pacing_rate(opt, val, len);
	case OPTION_TCP_CONGESTION:
		return set_congestion(s, opt, val, len);
	}
	if (stamps_is_option(index))
		return stamps_set(e, s, index, val, len);
	if (len < sizeof v)
		return -EINVAL;
	if (index == OPTION_SO_LINGER)
		return set_linger(s, val, len);
	memcpy(&v, val, sizeof v);
	return option_table[index].level == SOL_SOCKET ? set_socket_number(e, s, opt, index, v) : set_tcp_number(s, opt, index, v);
}

/* IPV6_ADDRFORM on a connection to an IPv4 peer: from now on it is an AF_INET socket. */
static int set_addrform(struct sock *s, const void *val, socklen_t len)
{
	int v;
	if (s->family != AF_INET6)
		return -ENOPROTOOPT;
	if (len < sizeof v)
		return -EINVAL;
	memcpy(&v, val, sizeof v);
	if (v != AF_INET)
		return -EINVAL;
	if (tcp_state(&s->tcp) != TCPS_ESTABLISHED)
		return -ENOTCONN;
	if (s->v6only || !ip_addr_is_v4(&s->flow.key.raddr))
		return -EADDRNOTAVAIL;
	s->family = AF_INET;
	return 0;
}

/* Options that mean something else, or nothing, once a socket is connected: where a fresh socket would judge wrongly. 1: it judges right. */
static int set_by_state(struct sock *s, unsigned index, const void *val, socklen_t len)
{
	bool closed = tcp_state(&s->tcp) == TCPS_CLOSED || tcp_state(&s->tcp) == TCPS_TIME_WAIT; /* one state in Linux */
	if (!user_may_read(val, len < sizeof(int) ? len : sizeof(int)))
		return 1;
	if (index == OPTION_IPV6_ADDRFORM)
		return set_addrform(s, val, len);
	if (index == OPTION_IPV6_V6ONLY && s->family == AF_INET6 && s->live && len >= sizeof(int))
		return -EINVAL; /* it has a port */
	if (closed || len < sizeof(int))
		return 1;
	switch (index) {
	case OPTION_TCP_FASTOPEN_CONNECT:
		return fastopen_may_call(s->engine) ? -EINVAL : 1;
	case OPTION_TCP_FASTOPEN:
	case OPTION_TCP_FASTOPEN_NO_COOKIE:
		return -EINVAL;
	case OPTION_TCP_QUEUE_SEQ:
		return -EPERM;
	default:
		return 1;
	}
}

static int set_conn_option(struct engine *e, struct sock *s, struct tcp_options *opt, int level, int name, const void *val, socklen_t len)
{
	unsigned index = option_find(level, name);
	if (index == OPTION_UNKNOWN)
		return set_judged(e, s, level, name, val, len);
	if (index == OPTION_SO_RCVBUF || index == OPTION_SO_SNDBUF || index == OPTION_SO_RCVBUFFORCE || index == OPTION_SO_SNDBUFFORCE)
		return set_buffer(s, opt, index, val, len);
	const struct option *o = &option_table[index];
	if (o->source == OPTION_OWN && o->class != OPTION_READ && o->class != OPTION_KERNELS)
		return set_own(e, s, opt, index, val, len);
	int r = set_by_state(s, index, val, len);
	return r == 1 ? set_judged(e, s, level, name, val, len) : r;
}

/* A socket has one filter, and ours may be there: the program finds none. */
static void filter_is_programs(struct engine *e, struct sock *l, unsigned index)
{
	bool filter = index == OPTION_SO_ATTACH_FILTER || index == OPTION_SO_ATTACH_BPF || index == OPTION_SO_DETACH_FILTER || index == OPTION_SO_LOCK_FILTER;
	if (filter && l->lst->claimed && classifier_holds_ports(e->classifier))
		listener_to_kernel(e, l, "the program has a filter of its own");
}

/* The kernel's socket has it already; what accepted sockets inherit is read from there. */
static int set_listener_option(struct engine *e, struct sock *s, int level, int name, const void *val, socklen_t len)
{
	char why[160];
	struct listener *lst = s->lst;
	unsigned index = option_find(level, name);
	filter_is_programs(e, s, index);
	int r = sys_setsockopt(lst->kfd, level, name, val, len);
	if (r)
		return r;
	candidate_note(&lst->candidate, index, val, len);
	if (!lst->kernels && options_refused_listener(e, lst->kfd, &lst->candidate, why, sizeof why)) {
		listener_to_kernel(e, s, why);
		siblings_follow(e, lst->kfd, why);
	}
	fastopen_listen(e, s, lst->kfd);
	r = options_take(e, lst->kfd, &lst->candidate, s, &lst->options);
	return r ? r : options_for_accepted(s);
}

/* TCP_NODELAY pushes what is queued, TCP_QUICKACK begins or ends quick ACKs, and TCP_WINDOW_CLAMP holds anew, each time that it is set, not only at a change. */
static void acts_again(struct sock *s, int name, const struct tcp_options *opt)
{
	struct tcp_options other = *tcp_get_options(&s->tcp);
	if (name == TCP_QUICKACK)
		tcp_set_quickack(&s->tcp, opt->quickack);
	if (name == TCP_WINDOW_CLAMP)
		tcp_set_window_clamp(&s->tcp, opt->window_clamp);
	if (name != TCP_NODELAY || !opt->nodelay)
		return;
	other.nodelay = false;
	tcp_set_options(&s->tcp, s->engine->now, &other);
}

int sock_setsockopt(struct sock *s, int level, int name, const void *val, socklen_t len)
{
	struct engine *e = s->engine;
	int r;
	if ((int)len < 0)
		return -EINVAL;
	turn_enter_verb(e);
	if (s->kind == SOCK_KIND_LISTENER) {
		r = set_listener_option(e, s, level, name, val, len);
	} else if (s->kind == SOCK_KIND_CONN) {
		struct tcp_options opt = *tcp_get_options(&s->tcp);
		r = set_conn_option(e, s, &opt, level, name, val, len);
		if (!r) {
			if (level == IPPROTO_TCP)
				acts_again(s, name, &opt);
			tcp_set_options(&s->tcp, e->now, &opt);
			if (s->live)
				sock_mark_dirty(e, s);
		}
	} else {
		r = -EBADF;
	}
	turn_leave_verb(e);
	return r;
}

void sock_put_error(struct sock *s, int error)
{
	struct engine *e = s->engine;
	turn_enter(e);
	if (s->kind == SOCK_KIND_CONN)
		tcp_put_error(&s->tcp, error == EINTR && !s->rcvtimeo_us ? LINUX_ERESTARTSYS : error);
	turn_leave(e);
}

int sock_take_error(struct sock *s)
{
	struct engine *e = s->engine;
	turn_enter(e);
	int err = s->kind == SOCK_KIND_CONN ? tcp_take_error(&s->tcp) : 0;
	turn_leave(e);
	return err;
}

/* ---- ioctl, O_NONBLOCK, names ---- */

static int conn_ioctl(struct sock *s, unsigned long request, int *arg)
{
	enum tcp_state state = tcp_state(&s->tcp);
	bool opening = state == TCPS_SYN_SENT || state == TCPS_SYN_RECEIVED; /* Linux counts nothing yet, also of Fast Open */
	switch (request) {
	case FIONREAD:
		*arg = opening ? 0 : tcp_readable_to_mark(&s->tcp);
		return 0;
	case SIOCATMARK:
		*arg = tcp_at_mark(&s->tcp);
		return 0;
	case SIOCOUTQ:
		*arg = opening ? 0 : tcp_outq(&s->tcp);
		return 0;
	case SIOCOUTQNSD:
		*arg = opening ? 0 : tcp_outq_unsent(&s->tcp);
		return 0;
	default:
		return -ENOTTY;
	}
}

int sock_ioctl(struct sock *s, unsigned long request, void *arg)
{
	struct engine *e = s->engine;
	int r;
	if (request == FIONBIO) {
		sock_set_nonblock(s, *(int *)arg);
		return 0;
	}
	turn_enter(e);
	if (s->kind == SOCK_KIND_LISTENER)
		r = request == FIONREAD ? -EINVAL : sys_ioctl(s->lst->kfd, request, arg);
	else
		r = s->kind == SOCK_KIND_CONN ? conn_ioctl(s, request, arg) : -EBADF;
	turn_leave(e);
	return r;
}

bool sock_get_nonblock(const struct sock *s)
{
	return s->nonblock;
}

void sock_set_nonblock(struct sock *s, bool on)
{
	s->nonblock = on;
}

bool sock_is_listener(const struct sock *s)
{
	return s->kind == SOCK_KIND_LISTENER || (s->kind == SOCK_KIND_INHERITED && s->lst);
}

int sock_getsockname(struct sock *s, struct sockaddr *addr, socklen_t *len)
{
	struct engine *e = s->engine;
	int r = 0;
	engine_lock(e);
	if (s->kind == SOCK_KIND_LISTENER)
		r = sys_getsockname(s->lst->kfd, addr, len);
	else if (s->kind == SOCK_KIND_CONN && s->bound_again)
		r = sys_getsockname(s->port_fd, addr, len);
	else if (s->kind == SOCK_KIND_CONN)
		name_from_addr(s->engine, s->family, &s->flow.key.laddr, s->flow.key.lport, addr, len);
	else
		r = -EBADF;
	engine_unlock(e);
	return r;
}

uint16_t sock_own_port(struct sock *s)
{
	return s->flow.key.lport; /* does not change */
}

/* Linux's inet_getname. A reset that has arrived counts, so what is there is taken first. */
int sock_getpeername(struct sock *s, struct sockaddr *addr, socklen_t *len)
{
	struct engine *e = s->engine;
	int r = 0;
	turn_enter(e);
	enum tcp_state state = tcp_state(&s->tcp);
	if (s->kind != SOCK_KIND_CONN)
		r = s->kind == SOCK_KIND_LISTENER ? -ENOTCONN : -EBADF;
	else if (state == TCPS_SYN_SENT || state == TCPS_CLOSED || state == TCPS_TIME_WAIT)
		r = -ENOTCONN;
	else
		name_from_addr(s->engine, s->family, &s->flow.key.raddr, s->flow.key.rport, addr, len);
	turn_leave(e);
	return r;
}
