/*
 * setsockopt on engine sockets, in Linux's names and meanings. options_get.c reads.
 *
 * A listener is a kernel socket, too: it is set there, and what its accepted sockets inherit is read from it. Of a
 * connection, the options of the data path are the engine's own state; all others are judged by a fresh kernel socket
 * (options.h).
 */
#include "socket/engine.h"
#include "socket/errqueue.h"
#include "socket/options.h"
#include "socket/stamps.h"
#include "socket/listener.h"
#include "socket/fastopen.h"

#include "base/sockopt.h"
#include "base/sys.h"
#include "base/user.h"
#include "tcp/cc.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#define LINGER2_MAX_S    120  /* Linux: TCP_FIN_TIMEOUT_MAX */
#define WINDOW_CLAMP_MIN  1152 /* Linux: SOCK_MIN_RCVBUF / 2 */
#define LINUX_ERESTARTSYS 512 /* what an interrupted wait without an end is, inside: Linux lets it out here */

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
 * The kernel has to do it. A connection in its handshake goes to the kernel when that is over (sock_wants_kernel); of
 * one that has ended, the value is only something to read.
 */
static int set_kernels(struct sock *s, const struct judged *j)
{
	if (sock_is_connected(s))
		return SOCK_KERNEL;
	if (!j->readable)
		return s->live ? -ENOPROTOOPT : 0;
	s->wants_kernel = s->live;
	if (j->after.index == OPTION_SO_PRIORITY)
		memcpy(&s->ip.priority, j->after.bytes, sizeof s->ip.priority);
	return option_values_note(s->engine, &s->values, &j->after);
}

bool sock_wants_kernel(const struct sock *s)
{
	return s->wants_kernel && s->kind == SOCK_KIND_CONN && sock_is_connected(s);
}

/* 0, SOCK_KERNEL or -errno. */
static int set_judged(struct engine *e, struct sock *s, int level, int name, const void *val, socklen_t len)
{
	struct judged j = {0};
	unsigned index = option_find(level, name);
	int r = judge(s, index, level, name, val, len, &j);
	if (sock_is_connected(s) && r == -ENOTCONN)
		return SOCK_KERNEL; /* only a connection of the kernel's can tell */
	if (r || index == OPTION_UNKNOWN)
		return r ? r : set_kernels(s, &j);
	if (!j.readable)
		return option_table[index].class == OPTION_KERNELS ? set_kernels(s, &j) : 0;
	if ((index == OPTION_IP_RECVERR || index == OPTION_IPV6_RECVERR) && !j.after.bytes[0]) /* 0 or 1 */
		errqueue_drop_icmp(e, s);
	/* Of a priority only s->ip knows what it was: IP_TOS sets it, too, and the noted values have no order. */
	if (index != OPTION_SO_PRIORITY && option_value_equal(&j.before, &j.after))
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

static int at_most(int v, int most)
{
	return v > most ? most : v;
}

/*
 * Half the buffer at most, or it could never be reached. Where autotuning decides the size, the kernel's and the
 * engine's greatest buffers may differ: the program is told the kernel's value.
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
	if ((int)tcp_unread_bytes(&s->tcp) >= s->lowat || peer_has_ended(s, &st))
		sock_notify_events(e, s, SOCK_WAKES_READERS);
	return 0;
}

/* It is told until the next segment says anew which it is. */
static int set_incoming_cpu(struct sock *s, int v)
{
	struct tcp_status st;
	tcp_get_status(&s->tcp, &st);
	s->incoming_cpu = v;
	s->incoming_cpu_segs = st.segs_in;
	s->incoming_cpu_set = true;
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
	case OPTION_SO_INCOMING_CPU:
		return set_incoming_cpu(s, v);
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

/*
 * Which there are, and which the caller may have (tcp_allowed_congestion_control), says the kernel. One that we lack is
 * the kernel's to do.
 */
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
		return sock_is_connected(s) ? SOCK_KERNEL : -ENOENT;
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

/* Newer kernels have it no more (seen: 6.18.44). */
static bool kernel_has_addrform(void)
{
	int fd = option_oracle(AF_INET6, NULL);
	if (fd < 0)
		return true;
	int r = sockopt_set_int(fd, IPPROTO_IPV6, IPV6_ADDRFORM, AF_INET);
	sys_close(fd);
	return r != -ENOPROTOOPT;
}

/* IPV6_ADDRFORM on a connection to an IPv4 peer: from now on it is an AF_INET socket. */
static int set_addrform(struct sock *s, const void *val, socklen_t len)
{
	int v;
	if (s->family != AF_INET6 || !kernel_has_addrform())
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

/*
 * Options that mean something else, or nothing, once a socket is connected: where a fresh socket would judge wrongly.
 * 1: it judges right.
 */
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

/*
 * A socket has one filter, and ours may be there: the program finds none, and has its own, or the lock that keeps it
 * without one, on the kernel's listener.
 */
static void filter_is_programs(struct engine *e, struct sock *l, unsigned index)
{
	int none = 0;
	bool locks = index == OPTION_SO_LOCK_FILTER;
	if (!l->lst->claimed || (!locks && index != OPTION_SO_ATTACH_FILTER && index != OPTION_SO_ATTACH_BPF))
		return;
	if (classifier_holds_ports(e->classifier) || (locks && e->judged))
		listener_to_kernel(e, l, "the program has a filter of its own");
	if (locks && e->judged) /* the judge's */
		sys_setsockopt(l->lst->kfd, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof none);
}

/* The kernel's socket has it already; what accepted sockets inherit is read from there. */
static int set_listener_option(struct engine *e, struct sock *s, int level, int name, const void *val, socklen_t len)
{
	char why[160];
	struct listener *lst = s->lst;
	unsigned index = option_find(level, name);
	filter_is_programs(e, s, index);
	if (index == OPTION_SO_DETACH_FILTER && lst->claimed) /* of one that is served the filter is ours */
		return set_judged(e, s, level, name, val, len);
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

/*
 * TCP_NODELAY pushes what is queued, TCP_QUICKACK begins or ends quick ACKs, and TCP_WINDOW_CLAMP holds anew, each time
 * that it is set, not only at a change.
 */
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

/* What a dissolved connection left there, its listener still has. */
static int take_listeners_error(const struct listener *lst)
{
	int err = 0;
	socklen_t len = sizeof err;
	if (lst->kfd >= 0)
		sys_getsockopt(lst->kfd, SOL_SOCKET, SO_ERROR, &err, &len);
	return err;
}

int sock_take_error(struct sock *s)
{
	struct engine *e = s->engine;
	turn_enter(e);
	int err = s->kind == SOCK_KIND_CONN ? tcp_take_error(&s->tcp) : s->kind == SOCK_KIND_LISTENER ? take_listeners_error(s->lst) : 0;
	turn_leave(e);
	return err;
}
