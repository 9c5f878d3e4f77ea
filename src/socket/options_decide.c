/*
 * Options at the ends of an engine socket's life: what was set on the kernel socket that connect or listen decides,
 * what an accepted socket has of its listener, and what the kernel socket gets that a connection is handed over to.
 */
#include "socket/engine.h"
#include "socket/options.h"
#include "socket/stamps.h"

#include "base/log.h"
#include "base/sys.h"
#include "tcp/cc.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

/* The defaults of a namespace can be changed (sysctl): asked anew after a while. */
#define DEFAULT_OPTIONS_US USEC_PER_SEC
#define KERNEL_MSS_UNSET   536 /* TCP_MSS_DEFAULT: what an unconnected socket says without TCP_MAXSEG */
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72 /* since Linux 5.14 */
#endif

static int kernel_value(int kfd, int level, int name, void *v, socklen_t len)
{
	return sys_getsockopt(kfd, level, name, v, &len);
}

static int kernel_number(int kfd, int level, int name, int otherwise)
{
	int v;
	return kernel_value(kfd, level, name, &v, sizeof v) ? otherwise : v;
}

bool options_may_be_set(const struct candidate *c, unsigned index)
{
	return c->shared || !c->family || option_set_has(&c->set, index);
}

/* ---- whose is it? ---- */

/* What the application chose by TCP_CONGESTION; false: nothing, as far as can be told from the default. */
static bool chosen_congestion(struct engine *e, int kfd, char name[CONGESTION_NAME_MAX])
{
	memset(name, 0, CONGESTION_NAME_MAX);
	return kernel_value(kfd, IPPROTO_TCP, TCP_CONGESTION, name, CONGESTION_NAME_MAX - 1) == 0 && strcmp(name, e->default_congestion) != 0;
}

/* Walks the options of a candidate that are not in the engine's own state. */
struct walk {
	struct engine *e;
	const struct candidate *c;
	int kfd, fresh; /* fresh: a kernel socket on which nothing was set, made when first needed; or -1 */
	int family;
	struct option_values *values; /* what differs from a fresh socket */
	struct sock_ip ip;
	unsigned refused; /* the option that is the kernel's; or OPTION_COUNT */
};

/* Did setting it change anything? */
static bool differs(struct walk *w, const struct option_value *v)
{
	struct option_value fresh;
	if (w->fresh < 0)
		w->fresh = option_oracle(w->family, NULL);
	return w->fresh < 0 || !option_read(w->fresh, v->index, &fresh) || !option_value_equal(v, &fresh);
}

static int walk_one(struct walk *w, unsigned index)
{
	struct option_value v;
	const struct option *o = &option_table[index];
	if (stamps_is_option(index) && stamps_refused(w->kfd)) {
		w->refused = index;
		return 0;
	}
	if (o->source == OPTION_OWN || o->class == OPTION_READ || index == OPTION_TCP_TIMESTAMP /* a clock; set only under TCP_REPAIR */)
		return 0;
	if (!option_read(w->kfd, index, &v)) {
		/* It cannot be read back: only that it was set is known. */
		if (o->class == OPTION_KERNELS && option_set_has(&w->c->set, index))
			w->refused = index;
		return 0;
	}
	if (!differs(w, &v))
		return 0;
	if (!option_carry(w->e, &w->ip, &v)) {
		w->refused = index;
		return 0;
	}
	return option_values_note(w->e, &w->values, &v);
}

/* 0, or -ENOMEM. The caller drops w->values. */
static int walk(struct walk *w, struct engine *e, int kfd, const struct candidate *c)
{
	int err = 0;
	*w = (struct walk){.e = e, .c = c, .kfd = kfd, .fresh = -1, .refused = OPTION_COUNT};
	w->family = c->family ? c->family : kernel_number(kfd, SOL_SOCKET, SO_DOMAIN, AF_INET);
	for (unsigned i = 0; i < OPTION_COUNT && !err && w->refused == OPTION_COUNT; i++)
		if (options_may_be_set(c, i))
			err = walk_one(w, i);
	if (w->ip.tos[0] && options_may_be_set(c, OPTION_SO_PRIORITY)) /* either sets the priority: the later */
		w->ip.priority = kernel_number(kfd, SOL_SOCKET, SO_PRIORITY, 0);
	if (w->fresh >= 0)
		sys_close(w->fresh);
	return err;
}

const char options_device_unserved[] = "SO_BINDTODEVICE or SO_BINDTOIFINDEX binds it to an interface that is not served";

int options_device(int kfd, const struct candidate *c)
{
	bool set = options_may_be_set(c, OPTION_SO_BINDTODEVICE) || options_may_be_set(c, OPTION_SO_BINDTOIFINDEX);
	return set ? kernel_number(kfd, SOL_SOCKET, SO_BINDTOIFINDEX, 0) : 0;
}

bool options_refused(struct engine *e, int kfd, const struct candidate *c, char *why, size_t why_len)
{
	char name[CONGESTION_NAME_MAX];
	struct walk w;
	if (candidate_untouched(c))
		return false;
	if (option_set_has(&c->set, OPTION_UNKNOWN)) {
		snprintf(why, why_len, "an option was set that finesse does not know");
		return true;
	}
	if (options_may_be_set(c, OPTION_TCP_CONGESTION) && chosen_congestion(e, kfd, name) && !tcp_cc_find(name)) {
		snprintf(why, why_len, "its congestion control is not the engine's");
		return true;
	}
	int err = walk(&w, e, kfd, c);
	option_values_unref(e, w.values);
	if (err)
		snprintf(why, why_len, "out of memory for its options");
	else if (w.refused != OPTION_COUNT)
		snprintf(why, why_len, "its option %s is not the engine's", option_table[w.refused].text);
	return err || w.refused != OPTION_COUNT;
}

/*
 * TCP_FASTOPEN_KEY stays on the kernel's socket, which listens for as long as ours does, and can be read from there:
 * fastopen.c.
 */
bool options_refused_listener(struct engine *e, int kfd, const struct candidate *c, char *why, size_t why_len)
{
	struct candidate without = *c;
	option_set_drop(&without.set, OPTION_TCP_FASTOPEN_KEY);
	return options_refused(e, kfd, &without, why, why_len);
}

/* ---- what was set is ours from now on ---- */

static int64_t timeval_us(const struct timeval *tv)
{
	return tv->tv_sec * USEC_PER_SEC + tv->tv_usec;
}

static void take_buffers(struct engine *e, int kfd, struct tcp_options *opt)
{
	uint32_t rcvbuf = kernel_number(kfd, SOL_SOCKET, SO_RCVBUF, 0);
	uint32_t sndbuf = kernel_number(kfd, SOL_SOCKET, SO_SNDBUF, 0);
	int locked = kernel_number(kfd, SOL_SOCKET, SO_BUF_LOCK, -1);
	opt->user_rcvbuf = locked >= 0 ? locked & BUF_LOCK_RCV : rcvbuf && rcvbuf != e->default_rcvbuf;
	opt->user_sndbuf = locked >= 0 ? locked & BUF_LOCK_SND : sndbuf && sndbuf != e->default_sndbuf;
	if (opt->user_rcvbuf)
		opt->rcvbuf_bytes = rcvbuf;
	if (opt->user_sndbuf)
		opt->sndbuf_bytes = sndbuf;
}

static void take_socket_level(struct engine *e, int kfd, const struct candidate *c, struct sock *s, struct tcp_options *opt)
{
	struct timeval tv;
	struct linger linger;
	if (options_may_be_set(c, OPTION_SO_KEEPALIVE))
		opt->keepalive = kernel_number(kfd, SOL_SOCKET, SO_KEEPALIVE, 0);
	if (options_may_be_set(c, OPTION_SO_RCVBUF) || options_may_be_set(c, OPTION_SO_SNDBUF) || options_may_be_set(c, OPTION_SO_RCVBUFFORCE) ||
	    options_may_be_set(c, OPTION_SO_SNDBUFFORCE) || options_may_be_set(c, OPTION_SO_BUF_LOCK))
		take_buffers(e, kfd, opt);
	if (options_may_be_set(c, OPTION_SO_MAX_PACING_RATE)) {
		uint64_t rate;
		if (kernel_value(kfd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof rate) == 0)
			opt->max_pacing_rate = ~rate ? rate ? rate : TCP_PACING_RATE_ZERO : 0;
	}
	if (options_may_be_set(c, OPTION_SO_RCVLOWAT))
		s->lowat = opt->rcvlowat_bytes = kernel_number(kfd, SOL_SOCKET, SO_RCVLOWAT, 1);
	if (options_may_be_set(c, OPTION_SO_OOBINLINE))
		s->oob_inline = opt->oobinline = kernel_number(kfd, SOL_SOCKET, SO_OOBINLINE, 0);
	if (options_may_be_set(c, OPTION_SO_REUSEADDR))
		s->reuseaddr = kernel_number(kfd, SOL_SOCKET, SO_REUSEADDR, 0);
	if ((options_may_be_set(c, OPTION_SO_RCVTIMEO) || options_may_be_set(c, OPTION_SO_RCVTIMEO_NEW)) &&
	    kernel_value(kfd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0)
		s->rcvtimeo_us = c->rcvtimeo_now ? TIMEOUT_NOW_US : timeval_us(&tv);
	if ((options_may_be_set(c, OPTION_SO_SNDTIMEO) || options_may_be_set(c, OPTION_SO_SNDTIMEO_NEW)) &&
	    kernel_value(kfd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) == 0)
		s->sndtimeo_us = c->sndtimeo_now ? TIMEOUT_NOW_US : timeval_us(&tv);
	if (options_may_be_set(c, OPTION_SO_LINGER) && kernel_value(kfd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0) {
		s->linger_on = linger.l_onoff;
		s->linger_s = linger.l_linger;
	}
}

static void take_tcp_level(struct engine *e, int kfd, const struct candidate *c, struct tcp_options *opt)
{
	char congestion[CONGESTION_NAME_MAX];
	if (options_may_be_set(c, OPTION_TCP_CONGESTION))
		opt->cc = chosen_congestion(e, kfd, congestion) ? tcp_cc_find(congestion) : NULL;
	if (options_may_be_set(c, OPTION_TCP_NODELAY))
		opt->nodelay = kernel_number(kfd, IPPROTO_TCP, TCP_NODELAY, 0);
	if (options_may_be_set(c, OPTION_TCP_QUICKACK))
		opt->conversing = !kernel_number(kfd, IPPROTO_TCP, TCP_QUICKACK, 1);
	if (options_may_be_set(c, OPTION_TCP_DEFER_ACCEPT))
		opt->ack_waits = kernel_number(kfd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0) != 0;
	if (options_may_be_set(c, OPTION_TCP_CORK))
		opt->cork = kernel_number(kfd, IPPROTO_TCP, TCP_CORK, 0);
	if (options_may_be_set(c, OPTION_TCP_KEEPIDLE))
		opt->keepidle_us = kernel_number(kfd, IPPROTO_TCP, TCP_KEEPIDLE, 7200) * USEC_PER_SEC;
	if (options_may_be_set(c, OPTION_TCP_KEEPINTVL))
		opt->keepintvl_us = kernel_number(kfd, IPPROTO_TCP, TCP_KEEPINTVL, 75) * USEC_PER_SEC;
	if (options_may_be_set(c, OPTION_TCP_KEEPCNT))
		opt->keepcnt = kernel_number(kfd, IPPROTO_TCP, TCP_KEEPCNT, 9);
	if (options_may_be_set(c, OPTION_TCP_USER_TIMEOUT))
		opt->user_timeout_us = kernel_number(kfd, IPPROTO_TCP, TCP_USER_TIMEOUT, 0) * USEC_PER_MSEC;
	if (options_may_be_set(c, OPTION_TCP_SYNCNT))
		opt->syncnt = kernel_number(kfd, IPPROTO_TCP, TCP_SYNCNT, 0);
	if (options_may_be_set(c, OPTION_TCP_LINGER2)) {
		int v = kernel_number(kfd, IPPROTO_TCP, TCP_LINGER2, 60);
		opt->linger2_us = v < 0 ? -1 : v * USEC_PER_SEC;
	}
	if (options_may_be_set(c, OPTION_TCP_WINDOW_CLAMP))
		opt->window_clamp = kernel_number(kfd, IPPROTO_TCP, TCP_WINDOW_CLAMP, 0);
	if (options_may_be_set(c, OPTION_TCP_NOTSENT_LOWAT))
		opt->notsent_lowat = kernel_number(kfd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0);
	if (options_may_be_set(c, OPTION_TCP_MAXSEG)) {
		int v = kernel_number(kfd, IPPROTO_TCP, TCP_MAXSEG, KERNEL_MSS_UNSET);
		opt->maxseg = v == KERNEL_MSS_UNSET && (c->maxseg_unset || !option_set_has(&c->set, OPTION_TCP_MAXSEG)) ? 0 : v;
	}
}

/* What the namespace and the kernel have as defaults and limits. */
static void read_kernel_defaults(struct engine *e, int fd)
{
	struct timeval tv = {.tv_usec = 1};
	uint8_t info[512];
	socklen_t len = sizeof info;
	sys_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	if (kernel_value(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0)
		e->tick_us = e->tcp.config.tick_us = timeval_us(&tv);
	e->default_ttl[0] = kernel_number(fd, IPPROTO_IP, IP_TTL, DEFAULT_TTL);
	int fd6 = option_oracle(AF_INET6, NULL);
	e->default_ttl[1] = kernel_number(fd6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, DEFAULT_TTL);
	if (fd6 >= 0)
		sys_close(fd6);
	int most = INT32_MAX;
	sys_setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &most, sizeof most);
	e->rcvlowat_max = kernel_number(fd, SOL_SOCKET, SO_RCVLOWAT, most);
	if (sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &len) == 0)
		e->tcp_info_bytes = len;
}

/* From a fresh socket, as if each of its options had been set. */
static void read_defaults(struct engine *e)
{
	const struct candidate all = {.shared = true};
	struct sock scratch;
	int fd = option_oracle(AF_INET, NULL);
	tcp_options_default(&e->default_options);
	if (fd < 0)
		return;
	take_socket_level(e, fd, &all, &scratch, &e->default_options);
	take_tcp_level(e, fd, &all, &e->default_options);
	e->default_options.cc = NULL; /* the kernel's default may have changed since we started; nobody chose it */
	read_kernel_defaults(e, fd);
	sys_close(fd);
	e->default_options_us = e->now;
}

static int take_stamps(struct engine *e, int kfd, const struct candidate *c, struct sock *s)
{
	bool any = false;
	for (unsigned i = 0; i < OPTION_COUNT && !any; i++)
		any = stamps_is_option(i) && options_may_be_set(c, i);
	return any ? stamps_take(e, s, kfd) : 0;
}

int options_take(struct engine *e, int kfd, const struct candidate *c, struct sock *s, struct tcp_options *opt)
{
	if (!e->default_options_us || e->now - e->default_options_us > DEFAULT_OPTIONS_US)
		read_defaults(e);
	*opt = e->default_options;
	if (candidate_untouched(c))
		return 0;
	struct walk w;
	int err = walk(&w, e, kfd, c);
	if (err) {
		option_values_unref(e, w.values);
		return err;
	}
	option_values_unref(e, s->values);
	s->values = w.values;
	s->ip = w.ip;
	take_socket_level(e, kfd, c, s, opt);
	take_tcp_level(e, kfd, c, opt);
	return take_stamps(e, kfd, c, s);
}

/* ---- accept: the listener's options ---- */

void options_inherit(struct sock *s, const struct sock *l)
{
	s->v6only = l->v6only;
	s->lowat = l->lowat;
	s->oob_inline = l->oob_inline;
	s->reuseaddr = l->reuseaddr;
	s->rcvtimeo_us = l->rcvtimeo_us;
	s->sndtimeo_us = l->sndtimeo_us;
	s->linger_on = l->linger_on;
	s->linger_s = l->linger_s;
	s->ip = l->ip;
	s->values = option_values_ref(l->lst->inherited);
}

/* What of a listener's values its accepted sockets get, and when. */
int options_for_accepted(struct sock *l)
{
	l->lst->defer_us = option_values_number(l->values, OPTION_TCP_DEFER_ACCEPT) * USEC_PER_SEC;
	struct option_values *values = NULL;
	for (unsigned i = 0; l->values && i < l->values->n; i++) {
		const struct option_value *v = &l->values->v[i];
		if (!option_table[v->index].inherited)
			continue;
		int err = option_values_note(l->engine, &values, v);
		if (err) {
			option_values_unref(l->engine, values);
			return err;
		}
	}
	option_values_unref(l->engine, l->lst->inherited);
	l->lst->inherited = values;
	return 0;
}

/* ---- handover: a kernel socket that goes on for one of ours ---- */

static void give(int fd, int level, int name, const void *v, socklen_t len)
{
	int err = sys_setsockopt(fd, level, name, v, len);
	if (err < 0)
		log_debug("options", "the kernel's socket does not take option %d:%d (errno %d)", level, name, -err);
}

static void give_number(int fd, int level, int name, int v, int otherwise)
{
	if (v != otherwise)
		give(fd, level, name, &v, sizeof v);
}

static void give_timeout(int fd, int name, int64_t us)
{
	struct timeval tv = {.tv_sec = us / USEC_PER_SEC, .tv_usec = us % USEC_PER_SEC};
	if (us == TIMEOUT_NOW_US)
		tv = (struct timeval){.tv_sec = -1};
	if (us)
		give(fd, SOL_SOCKET, name, &tv, sizeof tv);
}

/* The kernel doubles what it is told. */
static void give_buffer(int fd, int force, int name, uint32_t bytes)
{
	int half = bytes / 2;
	if (sys_setsockopt(fd, SOL_SOCKET, force, &half, sizeof half) < 0)
		give(fd, SOL_SOCKET, name, &half, sizeof half);
}

void options_to_kernel(struct engine *e, const struct sock *s, int fd)
{
	struct tcp_status st;
	const struct tcp_options *opt = tcp_get_options(&s->tcp), *was = &e->default_options;
	struct linger linger = {.l_onoff = s->linger_on, .l_linger = s->linger_s};
	give_number(fd, IPPROTO_TCP, TCP_NODELAY, opt->nodelay, 0);
	give_number(fd, IPPROTO_TCP, TCP_CORK, opt->cork, 0);
	give_number(fd, SOL_SOCKET, SO_KEEPALIVE, opt->keepalive, 0);
	give_number(fd, IPPROTO_TCP, TCP_KEEPIDLE, opt->keepidle_us / USEC_PER_SEC, was->keepidle_us / USEC_PER_SEC);
	give_number(fd, IPPROTO_TCP, TCP_KEEPINTVL, opt->keepintvl_us / USEC_PER_SEC, was->keepintvl_us / USEC_PER_SEC);
	give_number(fd, IPPROTO_TCP, TCP_KEEPCNT, opt->keepcnt, was->keepcnt);
	give_number(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, opt->user_timeout_us / USEC_PER_MSEC, 0);
	give_number(fd, IPPROTO_TCP, TCP_SYNCNT, opt->syncnt, was->syncnt);
	give_number(fd, IPPROTO_TCP, TCP_LINGER2, opt->linger2_us < 0 ? -1 : opt->linger2_us / USEC_PER_SEC, was->linger2_us / USEC_PER_SEC);
	give_number(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, opt->notsent_lowat, was->notsent_lowat);
	give_number(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, opt->window_clamp, was->window_clamp);
	if (opt->cc)
		give(fd, IPPROTO_TCP, TCP_CONGESTION, opt->cc->name, strlen(opt->cc->name));
	give_number(fd, SOL_SOCKET, SO_OOBINLINE, s->oob_inline, 0);
	give_timeout(fd, SO_RCVTIMEO, s->rcvtimeo_us);
	give_timeout(fd, SO_SNDTIMEO, s->sndtimeo_us);
	if (s->linger_on)
		give(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
	if (opt->user_rcvbuf)
		give_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, opt->rcvbuf_bytes);
	give_number(fd, SOL_SOCKET, SO_RCVLOWAT, s->lowat, 1);
	uint64_t rate = opt->max_pacing_rate == TCP_PACING_RATE_ZERO ? 0 : opt->max_pacing_rate;
	if (opt->max_pacing_rate)
		give(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof rate);
	option_values_set(s->values, fd);
	if (s->ip.tos[0] || option_values_has(s->values, OPTION_SO_PRIORITY)) /* IP_TOS has just set it */
		give_number(fd, SOL_SOCKET, SO_PRIORITY, s->ip.priority, -1);
	tcp_get_status(&s->tcp, &st);
	give_number(fd, IPPROTO_TCP, TCP_QUICKACK, st.quickack, 1);
	stamps_give(s, fd);
}

void options_sndbuf_to_kernel(const struct sock *s, int fd)
{
	const struct tcp_options *opt = tcp_get_options(&s->tcp);
	if (opt->user_sndbuf)
		give_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, opt->sndbuf_bytes);
}
