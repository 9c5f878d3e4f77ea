/*
 * `finesse stat`, the engine's side: an abstract AF_UNIX socket, finesse/stat/PID, in this network namespace. Who
 * connects and is root or our own user gets one JSON document and the end of file. The helper thread answers. Nobody
 * waits for a reader: the document of one that is slow is sent as he reads it, for at most READ_TIME_US, and of several
 * the oldest gives way. A long document is made in pieces, between which the lock is free.
 */
#include "socket/own.h"
#include "socket/fallback.h"
#include "socket/process_ops.h"

#include "finesse/stat.h"

#include "base/abstract.h"
#include "base/fd.h"
#include "base/sys.h"
#include "ip/host.h"
#include "kernel/procfile.h"
#include "tcp/cc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>

#define READ_TIME_US   (5 * USEC_PER_SEC)
#define READERS_MAX    8
#define CONNS_AT_ONCE  32 /* some 20 µs each */
#define STAT_BACKLOG   8

int stat_listen(void)
{
	struct sockaddr_un sun;
	socklen_t len = abstract_name(&sun, FINESSE_STAT_NAME, sys_getpid());
	int fd = fd_move_high(sys_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	if (fd < 0)
		return fd;
	int err = sys_bind(fd, &sun, len);
	if (!err)
		err = sys_listen(fd, STAT_BACKLOG);
	if (err) {
		fd_close(fd);
		return err;
	}
	return fd;
}

/* JSON text that grows. */
struct text {
	char *buf;
	size_t len, cap;
	bool failed;
};

static void put(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(struct text *t, const char *fmt, ...)
{
	va_list ap;
	for (;;) {
		va_start(ap, fmt);
		int n = vsnprintf(t->buf ? t->buf + t->len : NULL, t->cap - t->len, fmt, ap);
		va_end(ap);
		if (t->len + n < t->cap) {
			t->len += n;
			return;
		}
		size_t cap = (t->cap ? t->cap * 2 : 4096) + n;
		char *buf = realloc(t->buf, cap);
		if (!buf) {
			t->failed = true;
			return;
		}
		t->buf = buf;
		t->cap = cap;
	}
}

static void put_string(struct text *t, const char *s)
{
	put(t, "\"");
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			put(t, "\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			put(t, "\\u%04x", *s);
		else
			put(t, "%c", *s);
	}
	put(t, "\"");
}

/* Own-address mode: addresses, neighbours, what was answered. */
static void put_own(const struct engine *e, struct text *t)
{
	static const char *const states[] = {[HOST_ADDR_PROBING] = "probing", [HOST_ADDR_OURS] = "ours", [HOST_ADDR_LOST] = "lost"};
	char text[IP_ADDR_STRLEN];
	struct own_report r;
	own_report(e, &r);
	const struct host *h = r.host;
	put(t, ",\"own\":{\"mac\":\"%02x:%02x:%02x:%02x:%02x:%02x\",\"leads\":%s,\"followers\":%u,\"addresses\":[", h->mac[0], h->mac[1], h->mac[2], h->mac[3],
	    h->mac[4], h->mac[5], r.leads ? "true" : "false", r.followers);
	for (unsigned i = 0; i < h->n_addrs; i++)
		put(t, "%s{\"address\":\"%s\",\"prefix\":%u,\"state\":\"%s\"}", i ? "," : "", ip_addr_format(&h->addrs[i].addr, text), h->addrs[i].prefix_len,
		    states[h->addrs[i].state]);
	put(t, "],\"neighbours\":[");
	const char *sep = "";
	for (unsigned i = 0; i < HOST_NEIGH_SETS * HOST_NEIGH_WAYS; i++) {
		const struct neigh *n = &h->neighs[i];
		if (n->state == NEIGH_NONE)
			continue;
		put(t, "%s{\"address\":\"%s\",\"mac\":\"%02x:%02x:%02x:%02x:%02x:%02x\",\"state\":\"%s\"}", sep, ip_addr_format(&n->addr, text), n->mac[0], n->mac[1],
		    n->mac[2], n->mac[3], n->mac[4], n->mac[5], neigh_state_name(n->state));
		sep = ",";
	}
	put(t, "],\"counters\":{");
	for (unsigned i = 0; i < HOST_COUNTERS; i++)
		put(t, "%s\"%s\":%lu", i ? "," : "", host_counter_name(i), h->counters[i]);
	put(t, "}}");
}

static void put_head(struct engine *e, struct text *t)
{
	char comm[32] = "";
	int fd = sys_openat(AT_FDCWD, "/proc/self/comm", O_RDONLY | O_CLOEXEC, 0);
	ssize_t n = fd < 0 ? 0 : sys_read(fd, comm, sizeof comm - 1);
	sys_close(fd);
	comm[n > 0 ? n - 1 : 0] = 0;
	put(t, "{\"version\":\"%s\",\"pid\":%d,\"comm\":", FINESSE_VERSION, sys_getpid());
	put_string(t, comm);
	put(t, ",\"engine\":true");
	if (!e->up)
		return;
	const struct link_info *info = iface_info(iface_first(e));
	put(t, ",\"interface\":");
	put_string(t, info->ifname);
	put(t, ",\"classifier\":\"%s\",\"firewall\":\"%s\",\"tx\":\"%s\",\"interfaces\":[", classifier_backend(e->classifier), judged_how(e), info->tx_backend);
	const char *sep = "";
	struct iface *i;
	ifaces_for_each(e, i) {
		put(t, "%s", sep);
		put_string(t, iface_info(i)->ifname);
		sep = ",";
	}
	put(t, "]");
	if (e->own)
		put_own(e, t);
}

static void put_steering(struct text *t, const struct listener *lst, const char *policy)
{
	struct steer_counts c;
	steer_listener_counts(lst->policy, &c);
	put(t, "\"steering\":{\"policy\":\"%s\",\"closes\":%lu,\"client_first\":%lu,\"server_first\":{", policy, c.closes, c.client_first);
	const char *sep = "";
	for (int i = 0; i < CLOSE_REASON_COUNT; i++)
		if (c.server_first[i]) {
			put(t, "%s\"%s\":%lu", sep, close_reason_name(i), c.server_first[i]);
			sep = ",";
		}
	put(t, "},\"held\":%lu,\"held_now\":%lu,\"hold_client_fin\":%lu,\"hold_expired\":%lu,\"hold_reset\":%lu,\"hold_data\":%lu,", c.held,
	    c.held_now, c.hold_client_fin, c.hold_expired, c.hold_reset, c.hold_data);
	put(t, "\"asked\":%lu,\"answered\":%lu,\"time_waits\":%lu,\"time_waits_avoided\":%lu,\"delay_added_us\":{", c.asked, c.answered, c.time_waits, c.avoided);
	sep = "";
	for (int i = 0; i < STEER_DELAYS; i++)
		if (c.delays[i]) {
			put(t, "%s\"%s%d\":%lu", sep, i + 1 < STEER_DELAYS ? "<=" : ">", STEER_DELAY_FIRST_US << (i + 1 < STEER_DELAYS ? i : i - 1), c.delays[i]);
			sep = ",";
		}
	put(t, "},");
	put(t, "\"over_budget\":%lu,\"hold_us\":%ld,\"learned_off\":%s}", c.over_budget, c.hold_quantile_us, c.learned_off ? "true" : "false");
}

/* The processes that serve the port together. Nothing for a port that is this one's alone. */
static void put_group(struct text *t, const struct sock *l)
{
	struct classifier_member m;
	const char *sep = "";
	if (!process_ops->is_shared(l))
		return;
	put(t, ",\"group\":{\"engineless\":%s,\"members\":[", process_ops->has_engineless(l) ? "true" : "false");
	for (unsigned slot = 0; slot < CLASSIFIER_GROUP_SLOTS; slot++) {
		if (!process_ops->member(l, slot, &m))
			continue;
		put(t, "%s{\"pid\":%u,\"accepting\":%s,\"waiting\":%s,\"queue\":%u}", sep, m.pid, m.accepting ? "true" : "false", m.waiting ? "true" : "false", m.queue);
		sep = ",";
	}
	put(t, "]}");
}

static void put_listeners(struct engine *e, struct text *t)
{
	static const char *const policies[] = {
		[CLOSE_POLICY_OFF] = "off", [CLOSE_POLICY_HOLD] = "hold", [CLOSE_POLICY_ADAPTIVE] = "adaptive"};
	char addr[IP_ADDR_STRLEN];
	const char *sep = "";
	put(t, ",\"listeners\":[");
	list_for_each (pos, tmp, &e->listeners) {
		const struct listener *lst = container_of(pos, struct listener, node);
		put(t, "%s{\"carrier\":\"engine\",\"address\":\"%s\",\"port\":%u,\"backlog\":%d,\"accept_queue\":%u,\"syn_queue\":%u,", sep,
		    ip_addr_format(&lst->addr, addr), lst->port, lst->backlog, lst->n_accept, lst->n_embryonic);
		put_steering(t, lst, policies[e->settings.close_policy]);
		put_group(t, lst->owner);
		put(t, "}");
		sep = ",";
	}
	put(t, "]");
}

static void put_name(struct text *t, const char *key, const struct ip_addr *a, uint16_t port)
{
	char addr[IP_ADDR_STRLEN];
	ip_addr_format(a, addr);
	put(t, ip_addr_is_v4(a) ? "\"%s\":\"%s:%u\"," : "\"%s\":\"[%s]:%u\",", key, addr, port);
}

static void put_connection(struct text *t, struct sock *s)
{
	struct tcp_status st;
	tcp_get_status(&s->tcp, &st);
	int first = tcp_first_fin(&s->tcp);
	put(t, "{\"carrier\":\"engine\",");
	put_name(t, "local", &s->flow.key.laddr, s->flow.key.lport);
	put_name(t, "remote", &s->flow.key.raddr, s->flow.key.rport);
	put(t, "\"role\":\"%s\",\"state\":\"%s\",\"held\":%s,\"first_fin\":\"%s\",", s->policy ? "server" : "client",
	    tcp_state_name(st.state), tcp_is_held(&s->tcp) ? "true" : "false", first > 0 ? "us" : first < 0 ? "peer" : "none");
	if (tcp_send_closed(&s->tcp))
		put(t, "\"close_reason\":\"%s\",", close_reason_name(tcp_close_reason(&s->tcp)));
	put(t, "\"rtt_us\":%ld,\"rttvar_us\":%ld,\"min_rtt_us\":%ld,\"handshake_rtt_us\":%ld,\"rto_us\":%ld,", st.srtt_us, st.rttvar_us,
	    st.min_rtt_us, st.handshake_rtt_us, st.rto_us);
	put(t, "\"cwnd_bytes\":%u,\"ssthresh_bytes\":%u,\"mss\":%u,\"iss\":%u,\"irs\":%u,\"snd_wnd\":%u,\"rcv_wnd\":%u,", st.cwnd_bytes,
	    st.ssthresh_bytes, st.mss_snd, st.iss, st.irs, st.snd_wnd, st.rcv_wnd);
	put(t, "\"bytes_in\":%lu,\"bytes_out\":%lu,\"retrans\":%u,\"unread_bytes\":%u,\"unsent_bytes\":%u,\"in_flight_bytes\":%u,", st.bytes_in,
	    st.bytes_out, st.total_retrans, st.readable_bytes, st.unsent_bytes, st.in_flight_bytes);
	put(t, "\"cc\":\"%s\",\"fd_refs\":%d}", st.cc_name, s->refs - 1);
}

static void put_connections(struct engine *e, struct text *t)
{
	const char *sep = "";
	put(t, ",\"connections\":[");
	unsigned n = 0;
	for (struct list *pos = e->socks.next; pos != &e->socks;) {
		struct sock *s = container_of(pos, struct sock, node);
		sock_ref(s); /* it stays on the list as long as we have this */
		if (s->kind == SOCK_KIND_CONN && s->live) {
			put(t, "%s", sep);
			put_connection(t, s);
			sep = ",";
			n++;
		}
		if (n == CONNS_AT_ONCE) {
			n = 0;
			engine_unlock(e);
			engine_lock(e);
		}
		pos = pos->next;
		sock_put(e, s);
	}
	put(t, "]");
}

static uint64_t count_of_links(struct engine *e, enum link_counter counter)
{
	uint64_t sum = 0;
	struct iface *i;
	ifaces_for_each(e, i)
		sum += link_counters(i->link)[counter];
	return sum;
}

static void put_counters(struct engine *e, struct text *t)
{
	put(t, ",\"counters\":{\"tcp\":{");
	for (int i = 0; i < TCPC_COUNT; i++)
		put(t, "%s\"%s\":%lu", i ? "," : "", tcp_counter_name(i), e->tcp.counters[i]);
	put(t, "},\"socket\":{");
	static const char *const names[] = {
#define SOCK_COUNTER(name, text) #name,
#include "socket/sock_counter.def"
#undef SOCK_COUNTER
	};
	for (int i = 0; i < SOCKC_COUNT; i++)
		put(t, "%s\"%s\":%lu", i ? "," : "", names[i], e->counters[i]);
	put(t, "},\"ip\":{");
	for (int i = 0; i < IP_FATE_COUNT; i++)
		put(t, "%s\"%s\":%lu", i ? "," : "", ip_fate_name(i), e->ip_fates[i]);
	put(t, "},\"link\":{");
	for (int i = 0; i < LINKC_COUNT; i++)
		put(t, "%s\"%s\":%lu", i ? "," : "", link_counter_name(i), count_of_links(e, i));
	put(t, "}}");
}

/* The namespace's settings that a kernel socket would obey, and the engine does not: those that are not the default. */
static void put_unheeded(struct engine *e, struct text *t)
{
	struct sysctl_unheeded u;
	const char *sep = "";
	put(t, ",\"congestion\":\"%s\",\"unheeded\":[", e->default_cc ? e->default_cc->name : "");
	for (unsigned i = 0; i < SYSCTL_COUNT; i++) {
		if (!sysctls_unheeded(&e->sysctls, i, &u))
			continue;
		put(t, "%s{\"setting\":\"%s\",\"value\":%ld,\"why\":\"%s\"}", sep, u.name, (long)u.value, u.why);
		sep = ",";
	}
	if (e->cc_is_not_ours)
		put(t, "%s{\"setting\":\"tcp_congestion_control\",\"value\":\"%s\",\"why\":\"the engine lacks it\"}", sep, e->default_congestion);
	put(t, "]");
}

static void put_fallbacks(struct text *t)
{
	put(t, ",\"fallbacks\":[");
	for (unsigned i = 0; fallback_at(i); i++) {
		put(t, "%s{\"what\":", i ? "," : "");
		put_string(t, fallback_at(i)->what);
		put(t, ",\"why\":");
		put_string(t, fallback_at(i)->why);
		put(t, ",\"count\":%u}", fallback_at(i)->count);
	}
	put(t, "]");
}

/* The latest. Why is also counted among the fall-backs. */
static void put_handed_over(struct text *t)
{
	put(t, ",\"handed_over\":[");
	for (unsigned i = 0; handed_over_at(i); i++) {
		const struct handed_over *h = handed_over_at(i);
		put(t, "%s{", i ? "," : "");
		put_name(t, "local", &h->key.laddr, h->key.lport);
		put_name(t, "remote", &h->key.raddr, h->key.rport);
		put(t, "\"why\":");
		put_string(t, h->why);
		put(t, "}");
	}
	put(t, "]");
}

/* The pool, class by class, and what the whole process has in memory. */
static void put_memory(struct engine *e, struct text *t)
{
	char *statm;
	unsigned long rss_pages = 0;
	if (procfile_read("/proc/self/statm", &statm) == 0) {
		sscanf(statm, "%*u %lu", &rss_pages);
		free(statm);
	}
	put(t, ",\"memory\":{\"in_use_bytes\":%zu,\"limit_bytes\":%zu,\"pressure\":%s,\"mapped_bytes\":%zu,\"idle_bytes\":%zu,\"failures\":%lu,\"rss_bytes\":%lu,",
	    e->pool.in_use_bytes, e->pool.share_bytes, e->pool.memory.pressure ? "true" : "false", e->pool.mapped_bytes, e->pool.idle_bytes, e->pool.failures, rss_pages * sysconf(_SC_PAGESIZE));
	put(t, "\"time_wait_bytes\":%zu,\"objects\":{", e->time_waits.bytes);
	const char *sep = "";
	for (int shift = POOL_MIN_SHIFT; shift <= POOL_MAX_SHIFT; shift++)
		if (pool_in_use(&e->pool, (size_t)1 << shift)) {
			put(t, "%s\"%zu\":%u", sep, (size_t)1 << shift, pool_in_use(&e->pool, (size_t)1 << shift));
			sep = ",";
		}
	put(t, "}}");
}

static void put_document(struct engine *e, struct text *t)
{
	put_head(e, t);
	put_listeners(e, t);
	put_connections(e, t);
	put(t, ",\"time_wait\":%u", e->time_waits.n);
	put_memory(e, t);
	put(t, ",\"totals\":{\"connections_opened\":%lu,\"connections_accepted\":%lu,\"first_fin_us\":%lu,\"first_fin_peer\":%lu,\"fallbacks\":%u,\"handed_over\":%lu}",
	    e->counters[SOCKC_Opened], e->counters[SOCKC_Accepted], e->counters[SOCKC_FirstFinUs], e->counters[SOCKC_FirstFinPeer],
	    fallback_count(), e->counters[SOCKC_HandedOver]);
	put_fallbacks(t);
	put_handed_over(t);
	if (e->up)
		put_unheeded(e, t);
	if (e->up)
		put_counters(e, t);
	put(t, "}\n");
}

/* ---- readers ---- */

struct stat_reader {
	struct list node; /* readers */
	struct control control;
	char *buf;
	size_t len, sent;
	int64_t until_us;
};

static struct list readers = {&readers, &readers}; /* the oldest first */

static void reader_free(struct stat_reader *r)
{
	list_unlink(&r->node);
	fd_close(r->control.fd);
	free(r->buf);
	free(r);
}

/* True: nothing is left to be sent, or nobody to send it to. */
static bool reader_send(struct stat_reader *r)
{
	while (r->sent < r->len) {
		ssize_t n = sys_sendto(r->control.fd, r->buf + r->sent, r->len - r->sent, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
		if (n <= 0)
			return n != -EAGAIN;
		r->sent += n;
	}
	return true;
}

static void on_writable(struct engine *e, struct control *c)
{
	struct stat_reader *r = container_of(c, struct stat_reader, control);
	if (!reader_send(r) && clock_now_us() < r->until_us)
		return;
	control_del(e, c);
	reader_free(r);
}

/* Those whose time is over, and the oldest if there are too many. */
static void drop_old_readers(struct engine *e)
{
	int64_t now = clock_now_us();
	unsigned n = 0;
	list_for_each (pos, tmp, &readers)
		n++;
	list_for_each (pos, tmp, &readers) {
		struct stat_reader *r = container_of(pos, struct stat_reader, node);
		if (n < READERS_MAX && now < r->until_us)
			break;
		control_del(e, &r->control);
		reader_free(r);
		n--;
	}
}

/* `fd` and the text are the reader's from now on. */
static void reader_start(struct engine *e, int fd, struct text *t)
{
	struct stat_reader *r = calloc(1, sizeof *r);
	if (!r) {
		fd_close(fd);
		free(t->buf);
		return;
	}
	r->control.ready = on_writable;
	r->control.fd = fd;
	r->buf = t->buf;
	r->len = t->len;
	r->until_us = clock_now_us() + READ_TIME_US;
	list_push_back(&readers, &r->node);
	if (reader_send(r) || control_add(e, &r->control, fd, POLLOUT))
		reader_free(r);
}

void stat_serve(struct engine *e, int fd)
{
	int client = fd_move_high(sys_accept4(fd, NULL, NULL, SOCK_CLOEXEC));
	if (client < 0)
		return;
	struct text t = {0};
	drop_old_readers(e);
	if (abstract_peer_is_trusted(client))
		put_document(e, &t);
	if (t.failed)
		t.len = 0;
	reader_start(e, client, &t);
}

/*
 * The parent's readers are the parent's to answer; a copy of their socket would keep them waiting for the end of file.
 */
void stat_after_fork(void)
{
	list_for_each (pos, tmp, &readers)
		fd_close(container_of(pos, struct stat_reader, node)->control.fd);
	list_init(&readers); /* their memory stays: after a clone by number malloc's lock may be another thread's for ever */
}
