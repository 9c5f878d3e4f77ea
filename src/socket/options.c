/* Socket options and ioctls in Linux's names and meanings. */
#include "socket/engine.h"

#include "base/sys.h"
#include "tcp/cc.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

/* Linux stores twice what setsockopt asks for, and says so (socket(7)). */
#define SNDBUF_MIN_BYTES 4608
#define RCVBUF_MIN_BYTES 2304

static int64_t timeval_us(const struct timeval *tv)
{
	return tv->tv_sec * USEC_PER_SEC + tv->tv_usec;
}

static int kernel_value(int kfd, int level, int name, void *v, socklen_t len)
{
	return sys_getsockopt(kfd, level, name, v, &len);
}

static int kernel_number(int kfd, int level, int name, int otherwise)
{
	int v;
	return kernel_value(kfd, level, name, &v, sizeof v) ? otherwise : v;
}

/* What the application chose by TCP_CONGESTION; false: nothing, as far as can be told from the default. */
static bool chosen_congestion(const struct engine *e, int kfd, char name[CONGESTION_NAME_MAX])
{
	memset(name, 0, CONGESTION_NAME_MAX);
	return kernel_value(kfd, IPPROTO_TCP, TCP_CONGESTION, name, CONGESTION_NAME_MAX - 1) == 0 && strcmp(name, e->default_congestion) != 0;
}

const char *options_refused(const struct engine *e, int kfd)
{
	char name[CONGESTION_NAME_MAX];
	return chosen_congestion(e, kfd, name) && !tcp_cc_find(name) ? "its congestion control is not the engine's" : NULL;
}

/* Everything that was set on the kernel socket before it was decided for us. */
void options_from_kernel(struct engine *e, int kfd, struct sock *s, struct tcp_options *opt)
{
	struct timeval tv;
	struct linger linger;
	char congestion[CONGESTION_NAME_MAX];
	tcp_options_default(opt);
	opt->cc = chosen_congestion(e, kfd, congestion) ? tcp_cc_find(congestion) : NULL;
	opt->nodelay = kernel_number(kfd, IPPROTO_TCP, TCP_NODELAY, 0);
	opt->cork = kernel_number(kfd, IPPROTO_TCP, TCP_CORK, 0);
	opt->keepalive = kernel_number(kfd, SOL_SOCKET, SO_KEEPALIVE, 0);
	opt->keepidle_us = kernel_number(kfd, IPPROTO_TCP, TCP_KEEPIDLE, 7200) * USEC_PER_SEC;
	opt->keepintvl_us = kernel_number(kfd, IPPROTO_TCP, TCP_KEEPINTVL, 75) * USEC_PER_SEC;
	opt->keepcnt = kernel_number(kfd, IPPROTO_TCP, TCP_KEEPCNT, 9);
	opt->user_timeout_us = kernel_number(kfd, IPPROTO_TCP, TCP_USER_TIMEOUT, 0) * USEC_PER_MSEC;
	opt->syncnt = kernel_number(kfd, IPPROTO_TCP, TCP_SYNCNT, 0);
	opt->notsent_lowat = kernel_number(kfd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0);
	uint32_t rcvbuf = kernel_number(kfd, SOL_SOCKET, SO_RCVBUF, 0);
	uint32_t sndbuf = kernel_number(kfd, SOL_SOCKET, SO_SNDBUF, 0);
	opt->user_rcvbuf = rcvbuf && rcvbuf != e->default_rcvbuf;
	opt->user_sndbuf = sndbuf && sndbuf != e->default_sndbuf;
	if (opt->user_rcvbuf)
		opt->rcvbuf_bytes = rcvbuf;
	if (opt->user_sndbuf)
		opt->sndbuf_bytes = sndbuf;
	s->lowat = kernel_number(kfd, SOL_SOCKET, SO_RCVLOWAT, 1);
	s->oob_inline = opt->oobinline = kernel_number(kfd, SOL_SOCKET, SO_OOBINLINE, 0);
	s->reuseaddr = kernel_number(kfd, SOL_SOCKET, SO_REUSEADDR, 0);
	s->tos = kernel_number(kfd, IPPROTO_IP, IP_TOS, 0);
	if (kernel_value(kfd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0)
		s->rcvtimeo_us = timeval_us(&tv);
	if (kernel_value(kfd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) == 0)
		s->sndtimeo_us = timeval_us(&tv);
	if (kernel_value(kfd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0) {
		s->linger_on = linger.l_onoff;
		s->linger_s = linger.l_linger;
	}
}

/* The defaults of a namespace can be changed (sysctl): asked anew after a while. */
#define DEFAULT_OPTIONS_US USEC_PER_SEC

void options_untouched(struct engine *e, int kfd, struct sock *s, struct tcp_options *opt)
{
	if (!e->default_options_us || e->now - e->default_options_us > DEFAULT_OPTIONS_US) {
		options_from_kernel(e, kfd, s, &e->default_options);
		e->default_options.cc = NULL; /* the kernel's default may have changed since we started; nobody chose it */
		e->default_options_us = e->now;
	}
	*opt = e->default_options;
}

/* ---- reading ---- */

static int give(void *val, socklen_t *len, const void *from, socklen_t size)
{
	if (*len > size)
		*len = size;
	memcpy(val, from, *len);
	return 0;
}

static int give_int(void *val, socklen_t *len, int v)
{
	return give(val, len, &v, sizeof v);
}

static int give_congestion(void *val, socklen_t *len, const char *name)
{
	char cc[CONGESTION_NAME_MAX] = {0};
	snprintf(cc, sizeof cc, "%s", name);
	return give(val, len, cc, sizeof cc);
}

static int give_timeval(void *val, socklen_t *len, int64_t us)
{
	struct timeval tv = {.tv_sec = us / USEC_PER_SEC, .tv_usec = us % USEC_PER_SEC};
	return give(val, len, &tv, sizeof tv);
}

static int get_socket_level(struct sock *s, const struct tcp_options *opt, int name, void *val, socklen_t *len)
{
	struct tcp_status st;
	struct linger linger = {.l_onoff = s->linger_on, .l_linger = s->linger_s};
	switch (name) {
	case SO_ERROR:
		return give_int(val, len, tcp_take_error(&s->tcp));
	case SO_TYPE:
		return give_int(val, len, SOCK_STREAM);
	case SO_PROTOCOL:
		return give_int(val, len, IPPROTO_TCP);
	case SO_DOMAIN:
		return give_int(val, len, s->family);
	case SO_ACCEPTCONN:
		return give_int(val, len, 0);
	case SO_KEEPALIVE:
		return give_int(val, len, opt->keepalive);
	case SO_REUSEADDR:
		return give_int(val, len, s->reuseaddr);
	case SO_REUSEPORT:
	case SO_BROADCAST:
	case SO_DONTROUTE:
	case SO_DEBUG:
	case SO_PRIORITY:
	case SO_TIMESTAMP:
	case SO_ZEROCOPY:
		return give_int(val, len, 0);
	case SO_MARK:
		return give_int(val, len, s->mark);
	case SO_OOBINLINE:
		return give_int(val, len, s->oob_inline);
	case SO_RCVLOWAT:
		return give_int(val, len, s->lowat);
	case SO_SNDLOWAT:
		return give_int(val, len, 1);
	case SO_RCVBUF:
	case SO_SNDBUF:
		tcp_get_status(&s->tcp, &st);
		return give_int(val, len, name == SO_RCVBUF ? st.rcvbuf_bytes : st.sndbuf_bytes);
	case SO_RCVTIMEO:
		return give_timeval(val, len, s->rcvtimeo_us);
	case SO_SNDTIMEO:
		return give_timeval(val, len, s->sndtimeo_us);
	case SO_LINGER:
		return give(val, len, &linger, sizeof linger);
	default:
		return -ENOPROTOOPT;
	}
}

/* Linux's struct tcp_info from ours; what we do not have stays zero. */
static int give_tcp_info(struct engine *e, struct sock *s, void *val, socklen_t *len)
{
	static const uint8_t linux_state[] = {
		[TCPS_CLOSED] = TCP_CLOSE,	     [TCPS_LISTEN] = TCP_LISTEN,
		[TCPS_SYN_SENT] = TCP_SYN_SENT,	     [TCPS_SYN_RECEIVED] = TCP_SYN_RECV,
		[TCPS_ESTABLISHED] = TCP_ESTABLISHED, [TCPS_FIN_WAIT_1] = TCP_FIN_WAIT1,
		[TCPS_FIN_WAIT_2] = TCP_FIN_WAIT2,   [TCPS_CLOSE_WAIT] = TCP_CLOSE_WAIT,
		[TCPS_CLOSING] = TCP_CLOSING,	     [TCPS_LAST_ACK] = TCP_LAST_ACK,
		[TCPS_TIME_WAIT] = TCP_TIME_WAIT,
	};
	struct tcp_status st;
	struct tcp_info ti;
	tcp_get_status(&s->tcp, &st);
	memset(&ti, 0, sizeof ti);
	uint32_t mss = st.mss_snd ? st.mss_snd : 1;
	/* A close request is an end of file without a FIN: programs that look are to find what they know. */
	bool asked = st.state == TCPS_ESTABLISHED && tcp_peer_fin(&s->tcp);
	ti.tcpi_state = linux_state[asked ? TCPS_CLOSE_WAIT : st.state];
	ti.tcpi_options = (st.timestamps ? TCPI_OPT_TIMESTAMPS : 0) | (st.sack ? TCPI_OPT_SACK : 0) |
			  (st.wscale ? TCPI_OPT_WSCALE : 0);
	ti.tcpi_snd_wscale = st.snd_wscale;
	ti.tcpi_rcv_wscale = st.rcv_wscale;
	ti.tcpi_rto = st.rto_us;
	ti.tcpi_snd_mss = st.mss_snd;
	ti.tcpi_rcv_mss = st.mss_advertised;
	ti.tcpi_advmss = st.mss_advertised;
	ti.tcpi_unacked = (st.in_flight_bytes + mss - 1) / mss;
	ti.tcpi_backoff = st.backoff;
	ti.tcpi_rtt = st.srtt_us;
	ti.tcpi_rttvar = st.rttvar_us;
	ti.tcpi_snd_ssthresh = st.ssthresh_bytes / mss;
	ti.tcpi_snd_cwnd = st.cwnd_bytes / mss;
	ti.tcpi_total_retrans = st.total_retrans;
	ti.tcpi_rcv_space = st.rcv_wnd;
	ti.tcpi_pmtu = s->dest ? s->dest->path.mtu : 0;
	ti.tcpi_last_data_sent = st.last_data_sent_us ? (e->now - st.last_data_sent_us) / USEC_PER_MSEC : 0;
	ti.tcpi_last_data_recv = st.last_data_rcvd_us ? (e->now - st.last_data_rcvd_us) / USEC_PER_MSEC : 0;
	ti.tcpi_last_ack_recv = st.last_ack_rcvd_us ? (e->now - st.last_ack_rcvd_us) / USEC_PER_MSEC : 0;
	return give(val, len, &ti, sizeof ti);
}

static int get_tcp_level(struct engine *e, struct sock *s, const struct tcp_options *opt, int name, void *val, socklen_t *len)
{
	struct tcp_status st;
	switch (name) {
	case TCP_NODELAY:
		return give_int(val, len, opt->nodelay);
	case TCP_CORK:
		return give_int(val, len, opt->cork);
	case TCP_QUICKACK:
		return give_int(val, len, opt->quickack);
	case TCP_KEEPIDLE:
		return give_int(val, len, opt->keepidle_us / USEC_PER_SEC);
	case TCP_KEEPINTVL:
		return give_int(val, len, opt->keepintvl_us / USEC_PER_SEC);
	case TCP_KEEPCNT:
		return give_int(val, len, opt->keepcnt);
	case TCP_SYNCNT:
		return give_int(val, len, opt->syncnt ? opt->syncnt : e->tcp.config.syn_retries);
	case TCP_USER_TIMEOUT:
		return give_int(val, len, opt->user_timeout_us / USEC_PER_MSEC);
	case TCP_LINGER2:
		return give_int(val, len, (opt->linger2_us ? opt->linger2_us : e->tcp.config.fin_timeout_us) / USEC_PER_SEC);
	case TCP_WINDOW_CLAMP:
		return give_int(val, len, opt->window_clamp);
	case TCP_NOTSENT_LOWAT:
		return give_int(val, len, opt->notsent_lowat);
	case TCP_DEFER_ACCEPT:
	case TCP_FASTOPEN:
	case TCP_INQ:
		return give_int(val, len, 0);
	case TCP_MAXSEG:
		tcp_get_status(&s->tcp, &st);
		return give_int(val, len, st.mss_snd);
	case TCP_CONGESTION:
		tcp_get_status(&s->tcp, &st);
		return give_congestion(val, len, st.cc_name);
	case TCP_INFO:
		return give_tcp_info(e, s, val, len);
	default:
		return -ENOPROTOOPT;
	}
}

static int get_conn_option(struct engine *e, struct sock *s, int level, int name, void *val, socklen_t *len)
{
	const struct tcp_options *opt = tcp_get_options(&s->tcp);
	if ((int)*len < 0)
		return -EINVAL;
	if (level == SOL_SOCKET)
		return get_socket_level(s, opt, name, val, len);
	if (level == IPPROTO_TCP)
		return get_tcp_level(e, s, opt, name, val, len);
	if (level == IPPROTO_IP && name == IP_TOS)
		return give_int(val, len, s->tos);
	if (level == IPPROTO_IP && name == IP_TTL)
		return give_int(val, len, s->dest ? s->dest->path.ttl : 64);
	if (level == IPPROTO_IP && name == IP_MTU)
		return give_int(val, len, s->dest ? s->dest->path.mtu : 1500);
	if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY)
		return give_int(val, len, s->v6only);
	return level == IPPROTO_IP || level == IPPROTO_IPV6 ? -ENOPROTOOPT : -EOPNOTSUPP;
}

/* What accepted connections will have: the kernel socket's is what they have only where the application chose. */
static int get_listener_congestion(const struct engine *e, const struct sock *s, void *val, socklen_t *len)
{
	const struct tcp_cc_ops *cc = s->lst->options.cc ? s->lst->options.cc : tcp_cc_find(e->settings.congestion);
	return (int)*len < 0 ? -EINVAL : give_congestion(val, len, cc->name);
}

int sock_getsockopt(struct sock *s, int level, int name, void *val, socklen_t *len)
{
	int r;
	engine_lock();
	turn_begin(&engine);
	if (s->kind == SOCK_KIND_LISTENER && level == IPPROTO_TCP && name == TCP_CONGESTION)
		r = get_listener_congestion(&engine, s, val, len);
	else if (s->kind == SOCK_KIND_LISTENER)
		r = sys_getsockopt(s->lst->kfd, level, name, val, len);
	else if (s->kind == SOCK_KIND_CONN)
		r = get_conn_option(&engine, s, level, name, val, len);
	else
		r = -EBADF;
	turn_end(&engine);
	engine_unlock();
	return r;
}

/* ---- setting ---- */

static uint32_t doubled(int v, uint32_t min, uint32_t max)
{
	uint64_t bytes = v < 0 ? 0 : 2 * (uint64_t)v;
	return bytes < min ? min : bytes > max ? max : bytes;
}

static int set_socket_level(struct engine *e, struct sock *s, struct tcp_options *opt, int name, int v)
{
	switch (name) {
	case SO_KEEPALIVE:
		opt->keepalive = v;
		return 0;
	case SO_SNDBUF:
		opt->user_sndbuf = true;
		opt->sndbuf_bytes = doubled(v, SNDBUF_MIN_BYTES, e->tcp.config.sndbuf_max_bytes);
		return 0;
	case SO_RCVBUF:
		opt->user_rcvbuf = true;
		opt->rcvbuf_bytes = doubled(v, RCVBUF_MIN_BYTES, e->tcp.config.rcvbuf_max_bytes);
		return 0;
	case SO_RCVLOWAT:
		s->lowat = v > 0 ? v : 1;
		opt->rcvlowat_bytes = s->lowat;
		return 0;
	case SO_OOBINLINE:
		s->oob_inline = opt->oobinline = v;
		return 0;
	case SO_REUSEADDR:
		s->reuseaddr = v;
		return 0;
	case SO_MARK:
		s->mark = v;
		return 0;
	case SO_PRIORITY: /* accepted and without effect: there is no queueing of ours between */
	case SO_DEBUG:
	case SO_DONTROUTE:
	case SO_BROADCAST:
	case SO_TIMESTAMP:
	case SO_BUSY_POLL:
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

static int set_tcp_level(struct tcp_options *opt, int name, int v)
{
	switch (name) {
	case TCP_NODELAY:
		opt->nodelay = v;
		return 0;
	case TCP_CORK:
		opt->cork = v;
		return 0;
	case TCP_QUICKACK:
		opt->quickack = v;
		return 0;
	case TCP_KEEPIDLE:
		return set_seconds(&opt->keepidle_us, v, 32767); /* Linux: MAX_TCP_KEEPIDLE */
	case TCP_KEEPINTVL:
		return set_seconds(&opt->keepintvl_us, v, 32767);
	case TCP_KEEPCNT:
		if (v < 1 || v > 127)
			return -EINVAL;
		opt->keepcnt = v;
		return 0;
	case TCP_SYNCNT:
		if (v < 1 || v > 127)
			return -EINVAL;
		opt->syncnt = v;
		return 0;
	case TCP_USER_TIMEOUT:
		if (v < 0)
			return -EINVAL;
		opt->user_timeout_us = v * USEC_PER_MSEC;
		return 0;
	case TCP_LINGER2:
		opt->linger2_us = v < 0 ? 1 : v * USEC_PER_SEC; /* negative: no FIN-WAIT-2 for orphans */
		return 0;
	case TCP_WINDOW_CLAMP:
		opt->window_clamp = v;
		return 0;
	case TCP_NOTSENT_LOWAT:
		opt->notsent_lowat = v;
		return 0;
	case TCP_MAXSEG:
		if (v < 88 || v > 32767) /* Linux: TCP_MIN_MSS, MAX_TCP_WINDOW */
			return -EINVAL;
		opt->maxseg = v;
		return 0;
	case TCP_DEFER_ACCEPT:
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

static int set_timeout(int64_t *out, const void *val, socklen_t len)
{
	const struct timeval *tv = val;
	if (len < sizeof *tv)
		return -EINVAL;
	if (tv->tv_usec < 0 || tv->tv_usec >= USEC_PER_SEC)
		return -EDOM;
	*out = tv->tv_sec < 0 ? 1 : timeval_us(tv); /* negative: Linux gives up at once */
	return 0;
}

static int set_congestion(struct tcp_options *opt, const char *val, socklen_t len)
{
	char name[CONGESTION_NAME_MAX] = {0}; /* longer ones are cut, as in Linux */
	if ((int)len < 1)
		return -EINVAL;
	memcpy(name, val, len < sizeof name - 1 ? len : sizeof name - 1);
	const struct tcp_cc_ops *cc = tcp_cc_find(name);
	if (!cc)
		return -ENOENT;
	opt->cc = cc;
	return 0;
}

static int set_conn_option(struct engine *e, struct sock *s, struct tcp_options *opt, int level, int name, const void *val, socklen_t len)
{
	if (level == SOL_SOCKET && name == SO_RCVTIMEO)
		return set_timeout(&s->rcvtimeo_us, val, len);
	if (level == SOL_SOCKET && name == SO_SNDTIMEO)
		return set_timeout(&s->sndtimeo_us, val, len);
	if (level == SOL_SOCKET && name == SO_LINGER) {
		const struct linger *l = val;
		if (len < sizeof *l)
			return -EINVAL;
		s->linger_on = l->l_onoff;
		s->linger_s = l->l_linger;
		return 0;
	}
	if (level == IPPROTO_TCP && name == TCP_CONGESTION)
		return set_congestion(opt, val, len);
	if (len < sizeof(int))
		return -EINVAL;
	int v;
	memcpy(&v, val, sizeof v);
	if (level == SOL_SOCKET)
		return set_socket_level(e, s, opt, name, v);
	if (level == IPPROTO_TCP)
		return set_tcp_level(opt, name, v);
	if ((level == IPPROTO_IP && name == IP_TOS) || (level == IPPROTO_IPV6 && name == IPV6_TCLASS)) {
		s->tos = v;
		return 0;
	}
	if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY)
		return -EINVAL; /* bound already */
	return level == IPPROTO_IP || level == IPPROTO_IPV6 ? -ENOPROTOOPT : -EOPNOTSUPP;
}

int sock_setsockopt(struct sock *s, int level, int name, const void *val, socklen_t len)
{
	struct engine *e = &engine;
	int r;
	turn_enter();
	if (s->kind == SOCK_KIND_LISTENER) {
		r = sys_setsockopt(s->lst->kfd, level, name, val, len);
		if (!r) /* accepted sockets inherit */
			options_from_kernel(e, s->lst->kfd, s, &s->lst->options);
	} else if (s->kind == SOCK_KIND_CONN) {
		struct tcp_options opt = *tcp_get_options(&s->tcp);
		r = set_conn_option(e, s, &opt, level, name, val, len);
		if (!r) {
			tcp_set_options(&s->tcp, e->now, &opt);
			if (s->live)
				sock_mark_dirty(e, s);
		}
	} else {
		r = -EBADF;
	}
	turn_leave();
	return r;
}

/* ---- ioctl, O_NONBLOCK, names ---- */

static int conn_ioctl(struct sock *s, unsigned long request, int *arg)
{
	switch (request) {
	case FIONREAD:
		*arg = tcp_readable_bytes(&s->tcp);
		return 0;
	case SIOCATMARK:
		*arg = tcp_at_mark(&s->tcp);
		return 0;
	case SIOCOUTQ:
		*arg = tcp_unacked_bytes(&s->tcp);
		return 0;
	case SIOCOUTQNSD:
		*arg = tcp_unsent_bytes(&s->tcp);
		return 0;
	default:
		return -ENOTTY;
	}
}

int sock_ioctl(struct sock *s, unsigned long request, void *arg)
{
	int r;
	if (request == FIONBIO) {
		sock_set_nonblock(s, *(int *)arg);
		return 0;
	}
	turn_enter();
	if (s->kind == SOCK_KIND_LISTENER)
		r = request == FIONREAD ? -EINVAL : sys_ioctl(s->lst->kfd, request, arg);
	else
		r = s->kind == SOCK_KIND_CONN ? conn_ioctl(s, request, arg) : -EBADF;
	turn_leave();
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
	int r = 0;
	engine_lock();
	if (s->kind == SOCK_KIND_LISTENER)
		r = sys_getsockname(s->lst->kfd, addr, len);
	else if (s->kind == SOCK_KIND_CONN)
		name_from_addr(s->family, &s->flow.key.laddr, s->flow.key.lport, addr, len);
	else
		r = -EBADF;
	engine_unlock();
	return r;
}

int sock_getpeername(struct sock *s, struct sockaddr *addr, socklen_t *len)
{
	int r = 0;
	engine_lock();
	if (s->kind != SOCK_KIND_CONN)
		r = s->kind == SOCK_KIND_LISTENER ? -ENOTCONN : -EBADF;
	else if (!s->accepted && (tcp_state(&s->tcp) == TCPS_SYN_SENT || tcp_state(&s->tcp) == TCPS_CLOSED))
		r = -ENOTCONN;
	else
		name_from_addr(s->family, &s->flow.key.raddr, s->flow.key.rport, addr, len);
	engine_unlock();
	return r;
}
