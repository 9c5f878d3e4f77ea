/*
 * A connection between two kernel sockets (a at 10.8.0.1, b at 10.8.0.2 in a second namespace); a
 * is read through TCP_REPAIR into a snapshot, closed without a word, and imported. b must not
 * notice, and every byte must be there. Needs root; skipped (77) without. Every wait is a poll with
 * a bound.
 */
#include "kernel/handover.h"
#include "kernel/privileged.h"
#include "kernel/requeue.h"
#include "tests/untested.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 10000
#define PORT    8080
#define BIG     (3 << 20)

static int ns_a = -1, ns_b = -1;

static void sh(const char *cmd)
{
	int rc = system(cmd);
	ck_assert_msg(rc == 0, "%s: %d", cmd, rc);
}

static int own_namespace(void)
{
	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	sh("ip link set lo up");
	return open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
}

static void two_hosts(void)
{
	char cmd[200];
	ns_b = own_namespace();
	ns_a = own_namespace();
	snprintf(cmd, sizeof cmd, "ip link add va type veth peer name vb netns /proc/%d/fd/%d",
		 getpid(), ns_b);
	sh(cmd);
	sh("ip link set va up; ip addr add 10.8.0.1/24 dev va; ip addr add fd08::1/64 dev va "
	   "nodad");
	ck_assert_int_eq(setns(ns_b, CLONE_NEWNET), 0);
	sh("ip link set vb up; ip addr add 10.8.0.2/24 dev vb; ip addr add fd08::2/64 dev vb "
	   "nodad");
	ck_assert_int_eq(setns(ns_a, CLONE_NEWNET), 0);
}

/* How a test's connection comes to be. */
struct setup {
	int family;  /* of a's socket */
	bool mapped; /* an AF_INET6 socket with IPv4 */
	bool a_is_client;
	const char *no; /* a sysctl of a's host that is off: an option not agreed */
};

static const struct setup setups[] = {
    {AF_INET, false, false, NULL},       {AF_INET, false, true, NULL},
    {AF_INET6, false, false, NULL},      {AF_INET6, false, true, NULL},
    {AF_INET6, true, false, NULL},       {AF_INET, false, false, "tcp_timestamps"},
    {AF_INET, false, false, "tcp_sack"}, {AF_INET, false, false, "tcp_window_scaling"},
};
#define N_SETUPS ((int)(sizeof setups / sizeof *setups))

static int a, b, listener;

static socklen_t fill(struct sockaddr_storage *ss, const struct setup *u, bool of_a, int port)
{
	memset(ss, 0, sizeof *ss);
	if (u->family == AF_INET || u->mapped) {
		struct sockaddr_in *v4 = (struct sockaddr_in *)ss;
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		v4->sin_addr.s_addr = inet_addr(of_a ? "10.8.0.1" : "10.8.0.2");
		return sizeof *v4;
	}
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ss;
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	inet_pton(AF_INET6, of_a ? "fd08::1" : "fd08::2", &v6->sin6_addr);
	return sizeof *v6;
}

static int listen_on(const struct setup *u, bool of_a)
{
	struct sockaddr_storage ss;
	int fd, one = 1;
	if (u->mapped) {
		struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
		fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		ck_assert_int_eq(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
	} else {
		socklen_t len = fill(&ss, u, of_a, PORT);
		fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		ck_assert_int_eq(bind(fd, (struct sockaddr *)&ss, len), 0);
	}
	ck_assert_int_eq(listen(fd, 10), 0);
	return fd;
}

static int connect_to(const struct setup *u, bool to_a)
{
	struct sockaddr_storage ss;
	socklen_t len = fill(&ss, u, to_a, PORT);
	int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_msg(connect(fd, (struct sockaddr *)&ss, len) == 0, "connect: %s",
		      strerror(errno));
	return fd;
}

static void open_connection(const struct setup *u)
{
	two_hosts();
	if (u->no) {
		char cmd[100];
		snprintf(cmd, sizeof cmd, "sysctl -qw net.ipv4.%s=0", u->no);
		sh(cmd);
	}
	if (u->a_is_client)
		setns(ns_b, CLONE_NEWNET);
	listener = listen_on(u, !u->a_is_client);
	setns(u->a_is_client ? ns_a : ns_b, CLONE_NEWNET);
	int client = connect_to(u, !u->a_is_client);
	setns(ns_a, CLONE_NEWNET);
	int server = accept(listener, NULL, NULL);
	a = u->a_is_client ? client : server;
	b = u->a_is_client ? server : client;
}

static uint8_t pattern(uint32_t i, uint8_t salt)
{
	return salt + i * 31 + (i >> 8) * 7 + (i >> 16);
}

/* The two streams, and how far each got. */
struct stream {
	uint8_t salt;
	uint32_t written, read;
};
static struct stream a_to_b = {.salt = 1}, b_to_a = {.salt = 101};

/* As much as fits, up to `max`. */
static void write_some(int fd, struct stream *s, uint32_t max)
{
	static uint8_t buf[65536];
	while (max) {
		uint32_t n = max < sizeof buf ? max : sizeof buf;
		for (uint32_t i = 0; i < n; i++)
			buf[i] = pattern(s->written + i, s->salt);
		ssize_t w = send(fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (w < 0) {
			ck_assert_msg(errno == EAGAIN, "send: %s", strerror(errno));
			return;
		}
		s->written += w;
		max -= w;
	}
}

/* Reads until s->read is `until`; checks every byte. */
static void read_until(int fd, struct stream *s, uint32_t until)
{
	static uint8_t buf[65536];
	while (s->read < until) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ck_assert_msg(poll(&p, 1, WAIT_MS) == 1, "%u of %u bytes", s->read, until);
		ssize_t n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
		ck_assert_msg(n > 0, "recv: %zd %s after %u", n, strerror(errno), s->read);
		for (ssize_t i = 0; i < n; i++)
			if (buf[i] != pattern(s->read + i, s->salt))
				ck_abort_msg("byte %u", s->read + (uint32_t)i);
		s->read += n;
	}
}

static void read_eof(int fd)
{
	char c;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
	ck_assert_int_eq(recv(fd, &c, 1, 0), 0);
}

/* From here on fd sees nothing of the peer … */
static void deafen(int fd)
{
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog prog = {.len = 1, .filter = code};
	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog), 0);
}

/* … until here. */
static void hear(int fd)
{
	int dummy = 0;
	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &dummy, sizeof dummy), 0);
}

static uint32_t get_u32(int fd, int option)
{
	uint32_t v = 0;
	socklen_t len = sizeof v;
	ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, option, &v, &len), 0);
	return v;
}

static void set_int(int fd, int option, int v)
{
	ck_assert_msg(setsockopt(fd, IPPROTO_TCP, option, &v, sizeof v) == 0, "option %d: %s",
		      option, strerror(errno));
}

static struct tcp_info info_of(int fd)
{
	struct tcp_info i = {0};
	socklen_t len = sizeof i;
	ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len), 0);
	return i;
}

static uint32_t ts_of(int fd)
{
	set_int(fd, TCP_REPAIR, TCP_REPAIR_ON);
	uint32_t ts = get_u32(fd, TCP_TIMESTAMP);
	set_int(fd, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
	return ts;
}

static void addr_port(int fd, bool peer, struct ip_addr *addr, uint16_t *port)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	ck_assert_int_eq((peer ? getpeername : getsockname)(fd, (struct sockaddr *)&ss, &len), 0);
	if (ss.ss_family == AF_INET)
		*addr = ip_addr_from_v4(&((struct sockaddr_in *)&ss)->sin_addr);
	else
		*addr = ip_addr_from_v6(&((struct sockaddr_in6 *)&ss)->sin6_addr);
	*port = ntohs(((struct sockaddr_in *)&ss)->sin_port);
}

static uint32_t peek_queue(int fd, int queue, uint8_t *buf, uint32_t len, struct iovec iov[2])
{
	set_int(fd, TCP_REPAIR_QUEUE, queue);
	ssize_t n = recv(fd, buf, len, MSG_PEEK | MSG_DONTWAIT);
	ck_assert_msg(n >= 0 || errno == EAGAIN, "peek: %s", strerror(errno));
	if (n < 0)
		n = 0;
	/* in two pieces, as from a ring */
	iov[0] = (struct iovec){buf, n / 3};
	iov[1] = (struct iovec){buf + n / 3, n - n / 3};
	return n;
}

static uint8_t snd_bytes[BIG * 2], rcv_bytes[BIG * 2];

static void *memory_alloc(struct tcp_memory *m, size_t size)
{
	return malloc(size);
}

static void memory_free(struct tcp_memory *m, void *p, size_t size)
{
	free(p);
}

/* Until the next one. */
static struct chunks chunks_of(const uint8_t *bytes, uint32_t len)
{
	static struct tcp_memory memory = {.alloc = memory_alloc, .free = memory_free};
	static struct chunks c;
	chunks_free(&c, &memory);
	ck_assert_int_eq(chunks_reserve(&c, &memory, len), 0);
	chunks_append(&c, bytes, len);
	return c;
}

/* Reads a, and lets it vanish. */
static struct tcp_snapshot take(bool fin_peer, bool fin_ours)
{
	struct tcp_snapshot s = {.fin_peer = fin_peer, .fin_ours = fin_ours, .ts_recent = ts_of(b)};
	struct tcp_info i = info_of(a);
	struct tcp_repair_window w;
	socklen_t len = sizeof w;
	int outq, unsent;
	addr_port(a, false, &s.key.laddr, &s.key.lport);
	addr_port(a, true, &s.key.raddr, &s.key.rport);
	ck_assert_int_eq(ioctl(a, SIOCOUTQ, &outq), 0);
	ck_assert_int_eq(ioctl(a, SIOCOUTQNSD, &unsent), 0);
	deafen(a);
	set_int(a, TCP_REPAIR, TCP_REPAIR_ON);
	ck_assert_int_eq(getsockopt(a, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, &len), 0);
	s.snd_wl1 = w.snd_wl1;
	s.snd_wnd = w.snd_wnd;
	s.max_window = w.max_window;
	s.rcv_wnd = w.rcv_wnd;
	s.rcv_wup = w.rcv_wup;
	struct iovec unacked[2];
	s.snd_data_len = peek_queue(a, TCP_SEND_QUEUE, snd_bytes, sizeof snd_bytes, unacked);
	s.snd_data = chunks_of(snd_bytes, s.snd_data_len);
	uint32_t write_seq = get_u32(a, TCP_QUEUE_SEQ);
	s.snd_una = write_seq - outq;
	s.snd_nxt = write_seq - unsent;
	s.rcv_data_len = peek_queue(a, TCP_RECV_QUEUE, rcv_bytes, sizeof rcv_bytes, s.rcv_data);
	s.rcv_nxt = get_u32(a, TCP_QUEUE_SEQ) - fin_peer;
	s.mss_clamp = get_u32(b, TCP_MAXSEG) + 12; /* both ends of a veth are alike */
	s.wscale = i.tcpi_options & TCPI_OPT_WSCALE;
	s.snd_wscale = i.tcpi_snd_wscale;
	s.rcv_wscale = i.tcpi_rcv_wscale;
	s.sack = i.tcpi_options & TCPI_OPT_SACK;
	s.timestamps = i.tcpi_options & TCPI_OPT_TIMESTAMPS;
	if (!s.timestamps)
		s.mss_clamp -= 12;
	s.ts_now = get_u32(a, TCP_TIMESTAMP);
	close(a);
	a = -1;
	return s;
}

static void check_same(int fd, const struct tcp_snapshot *s)
{
	struct tcp_info i = info_of(fd);
	struct ip_addr addr;
	uint16_t port;
	addr_port(fd, false, &addr, &port);
	ck_assert(ip_addr_equal(&addr, &s->key.laddr) && port == s->key.lport);
	addr_port(fd, true, &addr, &port);
	ck_assert(ip_addr_equal(&addr, &s->key.raddr) && port == s->key.rport);
	ck_assert_int_eq(!!(i.tcpi_options & TCPI_OPT_SACK), s->sack);
	ck_assert_int_eq(!!(i.tcpi_options & TCPI_OPT_TIMESTAMPS), s->timestamps);
	ck_assert_uint_eq(i.tcpi_snd_wscale, s->wscale ? s->snd_wscale : 0);
	ck_assert_uint_eq(i.tcpi_rcv_wscale, s->wscale ? s->rcv_wscale : 0);
	ck_assert_uint_ge(i.tcpi_snd_mss, s->mss_clamp - 12u);
	ck_assert_uint_le(i.tcpi_snd_mss, s->mss_clamp);
	ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	int reuse = 0;
	socklen_t len = sizeof reuse;
	getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, &len);
	ck_assert_int_eq(reuse, 1);
}

static void import(const struct tcp_snapshot *s)
{
	a = handover_import(s, if_nametoindex("va"));
	ck_assert_msg(a >= 0, "handover_import: %s", strerror(-a));
	check_same(a, s);
}

/* Both streams go on, and end in order; `fin_*`: that end's FIN is under way already. */
static void go_on(bool fin_a, bool fin_b)
{
	if (!fin_a)
		write_some(a, &a_to_b, 100000);
	if (!fin_b)
		write_some(b, &b_to_a, 100000);
	read_until(b, &a_to_b, a_to_b.written);
	read_until(a, &b_to_a, b_to_a.written);
	if (!fin_b)
		shutdown(b, SHUT_WR);
	read_eof(a);
	if (!fin_a)
		shutdown(a, SHUT_WR);
	read_eof(b);
	struct pollfd p = {.fd = a, .events = POLLHUP};
	ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
	ck_assert_int_eq(p.revents & POLLERR, 0);
	close(a);
	close(b);
	close(listener);
}

/* Also until a has acknowledged the FIN: b would send it again, and meet nobody. */
static void peer_closes(void)
{
	shutdown(b, SHUT_WR);
	for (int ms = 0; info_of(b).tcpi_state != TCP_FIN_WAIT2; ms++) {
		ck_assert_int_lt(ms, WAIT_MS);
		poll(NULL, 0, 1);
	}
}

START_TEST(an_idle_connection)
{
	open_connection(&setups[_i]);
	write_some(a, &a_to_b, 1000);
	write_some(b, &b_to_a, 1000);
	read_until(b, &a_to_b, 1000);
	read_until(a, &b_to_a, 1000);
	struct tcp_snapshot s = take(false, false);
	ck_assert_uint_eq(s.snd_data_len + s.rcv_data_len, 0);
	import(&s);
	go_on(false, false);
}
END_TEST

/* What b sent and nobody read, what b has not heard of, and what never left: all at once. */
START_TEST(unread_unacked_and_unsent_data)
{
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, 50000);
	struct pollfd p = {.fd = a, .events = POLLIN};
	ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
	deafen(b);
	write_some(a, &a_to_b, 200000);
	struct tcp_snapshot s = take(false, false);
	ck_assert_uint_gt(s.rcv_data_len, 0);
	ck_assert_uint_gt(s.snd_nxt - s.snd_una, 0);
	ck_assert_uint_gt(s.snd_data_len, s.snd_nxt - s.snd_una);
	hear(b);
	import(&s);
	go_on(false, false);
}
END_TEST

static void wait_until_acknowledged(int fd)
{
	int outq = 1;
	for (int i = 0; outq && i < WAIT_MS; i++) {
		poll(NULL, 0, 1);
		ck_assert_int_eq(ioctl(fd, SIOCOUTQ, &outq), 0);
	}
	ck_assert_int_eq(outq, 0);
}

/* With more unread and unsent than a default buffer holds. False: a user namespace, where nobody has larger ones. */
static bool take_large(const struct setup *u, struct tcp_snapshot *s)
{
	int size = BIG;
	open_connection(u);
	if (setsockopt(a, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
		return false;
	setsockopt(a, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	setsockopt(b, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	write_some(b, &b_to_a, BIG / 2);
	wait_until_acknowledged(b); /* then it is unread at a */
	deafen(b);
	write_some(a, &a_to_b, BIG / 2);
	*s = take(false, false);
	hear(b);
	return true;
}

START_TEST(more_than_a_default_buffer)
{
	struct tcp_snapshot s;
	if (!take_large(&setups[_i], &s))
		return untested("the right to large buffers");
	ck_assert_uint_gt(s.rcv_data_len, 1000000);
	ck_assert_uint_gt(s.snd_data_len, 1000000);
	import(&s);
	go_on(false, false);
}
END_TEST

START_TEST(the_peer_has_closed)
{
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, 5000);
	peer_closes();
	deafen(b);
	write_some(a, &a_to_b, 150000);
	struct tcp_snapshot s = take(true, false);
	hear(b);
	import(&s);
	ck_assert_uint_eq(info_of(a).tcpi_state, TCP_CLOSE_WAIT);
	go_on(false, true);
}
END_TEST

START_TEST(the_peer_has_closed_behind_a_closed_window)
{
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, 5000);
	peer_closes();
	struct tcp_snapshot s = take(true, false);
	s.rcv_wnd = 0;
	s.rcv_wup = s.rcv_nxt + 1;
	import(&s);
	ck_assert_uint_eq(info_of(a).tcpi_state, TCP_CLOSE_WAIT);
	go_on(false, true);
}
END_TEST

START_TEST(our_fin_is_due)
{
	open_connection(&setups[_i]);
	deafen(b);
	write_some(a, &a_to_b, 150000);
	struct tcp_snapshot s = take(false, true);
	hear(b);
	import(&s);
	go_on(true, false);
}
END_TEST

START_TEST(our_fin_was_sent)
{
	open_connection(&setups[_i]);
	deafen(b);
	write_some(a, &a_to_b, 3000);
	shutdown(a, SHUT_WR);
	struct tcp_snapshot s = take(false, true);
	ck_assert_uint_eq(s.snd_nxt - s.snd_una, s.snd_data_len + 1);
	hear(b);
	import(&s);
	go_on(true, false);
}
END_TEST

START_TEST(both_have_closed)
{
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, 3000);
	peer_closes();
	deafen(b);
	write_some(a, &a_to_b, 3000);
	struct tcp_snapshot s = take(true, true);
	hear(b);
	a = handover_import(&s, if_nametoindex("va"));
	ck_assert_int_ge(a, 0);
	go_on(true, true);
}
END_TEST

/* Between the two steps nothing leaves, and what arrives is kept. */
START_TEST(two_steps)
{
	open_connection(&setups[_i]);
	deafen(b);
	write_some(a, &a_to_b, 100000);
	struct tcp_snapshot s = take(false, false);
	a = handover_begin(&s, AF_UNSPEC, if_nametoindex("va"));
	ck_assert_int_ge(a, 0);
	hear(b);
	write_some(b, &b_to_a, 10000);
	struct pollfd p = {.fd = a, .events = POLLIN}; /* read(2) is not for sockets in repair */
	ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
	p.fd = b;
	ck_assert_int_eq(poll(&p, 1, 0), 0);
	ck_assert_int_eq(handover_finish(a, &s), 0);
	check_same(a, &s);
	go_on(false, false);
}
END_TEST

/* What the peer says while the socket is made comes to who had the connection: it is put in place behind what is there. */
START_TEST(what_comes_between_the_steps)
{
	static uint8_t unread[40000];
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, 5000);
	wait_until_acknowledged(b);
	struct tcp_snapshot s = take(false, false), now;
	a = handover_begin(&s, AF_UNSPEC, if_nametoindex("va"));
	ck_assert_int_ge(a, 0);
	deafen(a); /* as the classifier does it */
	write_some(b, &b_to_a, 10000);
	uint32_t came = b_to_a.written - s.rcv_data_len;
	ck_assert_uint_gt(came, 0);
	ck_assert_uint_le(s.rcv_data_len + came, sizeof unread);
	now = s;
	now.rcv_nxt += came;
	now.rcv_data_len += came;
	for (uint32_t i = 0; i < now.rcv_data_len; i++)
		unread[i] = pattern(i, b_to_a.salt);
	now.rcv_data[0] = (struct iovec){unread, now.rcv_data_len};
	now.rcv_data[1] = (struct iovec){NULL, 0};
	ck_assert_int_eq(handover_follow(a, &s, &now, if_nametoindex("va")), 0);
	int readable = 0;
	ck_assert_int_eq(ioctl(a, SIOCINQ, &readable), 0);
	ck_assert_uint_eq(readable, now.rcv_data_len);
	hear(a);
	ck_assert_int_eq(handover_finish(a, &now), 0);
	go_on(false, false);
}
END_TEST

START_TEST(the_peer_closes_between_the_steps)
{
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, 5000);
	struct tcp_snapshot s = take(false, false), now;
	a = handover_begin(&s, AF_UNSPEC, if_nametoindex("va"));
	ck_assert_int_ge(a, 0);
	deafen(a);
	shutdown(b, SHUT_WR);
	hear(a);
	now = s;
	now.fin_peer = true;
	ck_assert_int_eq(handover_follow(a, &s, &now, if_nametoindex("va")), 0);
	ck_assert_uint_eq(info_of(a).tcpi_state, TCP_CLOSE_WAIT);
	ck_assert_int_eq(handover_finish(a, &now), 0);
	go_on(false, true);
}
END_TEST

START_TEST(a_tuple_that_is_taken)
{
	open_connection(&setups[_i]);
	int keep = dup(a);
	struct tcp_snapshot s = {0};
	addr_port(a, false, &s.key.laddr, &s.key.lport);
	addr_port(a, true, &s.key.raddr, &s.key.rport);
	s.mss_clamp = 1460;
	ck_assert_int_eq(handover_import(&s, 0), -EADDRINUSE);
	write_some(keep, &a_to_b, 100); /* nobody was disturbed */
	read_until(b, &a_to_b, 100);
}
END_TEST

START_TEST(without_loopback_no_close_wait_and_no_trace)
{
	open_connection(&setups[_i]);
	peer_closes();
	struct tcp_snapshot s = take(true, false);
	sh("ip link set lo down");
	int err = handover_import(&s, if_nametoindex("va"));
	ck_assert_msg(err < 0, "%d", err);
	sh("ip link set lo up");
	import(&s); /* the failure left nothing, and b heard nothing */
	go_on(false, true);
}
END_TEST

#define DEAF_WAIT_MS 100 /* five times 20 ms, when nothing is known of the loopback yet */

/* The engine's lock is held meanwhile: a process that ends with many such connections must not stand still for each. */
START_TEST(a_deaf_loopback_is_waited_for_once)
{
	open_connection(&setups[_i]);
	peer_closes();
	struct tcp_snapshot s = take(true, false);
	sh("tc qdisc add dev lo root blackhole");
	int shorter = 0; /* than the whole wait takes at the very least, which a busy machine makes longer, and never shorter */
	for (int i = 0; i < 20; i++) {
		struct timespec begun, ended;
		clock_gettime(CLOCK_MONOTONIC, &begun);
		ck_assert_int_lt(handover_import(&s, if_nametoindex("va")), 0);
		clock_gettime(CLOCK_MONOTONIC, &ended);
		shorter += (ended.tv_sec - begun.tv_sec) * 1000 + (ended.tv_nsec - begun.tv_nsec) / 1000000 < DEAF_WAIT_MS;
	}
	ck_assert_int_ge(shorter, 5);
}
END_TEST

/* ---- into the listener's queue ---- */

static struct requeue *requeue(void)
{
	struct requeue *q = NULL;
	int err = requeue_open(&q);
	if (err == -EOPNOTSUPP)
		exit(0); /* before Linux 6.8: this one test is done */
	ck_assert_msg(!err, "requeue_open: %s", strerror(-err));
	return q;
}

/* a comes back from accept, as if the kernel had made the handshake: what b said is there to be read, and both go on. */
static void give_to_queue(const struct tcp_snapshot *s)
{
	struct requeue *q = requeue();
	int err = requeue_give(q, s);
	ck_assert_msg(!err, "requeue_give: %s", strerror(-err));
	requeue_close(q);
	struct pollfd p = {.fd = listener, .events = POLLIN};
	ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
	a = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(a, 0);
	check_same(a, s);
}

START_TEST(unaccepted_and_silent)
{
	if (setups[_i].a_is_client)
		return;
	open_connection(&setups[_i]);
	struct tcp_snapshot s = take(false, false);
	give_to_queue(&s);
	go_on(false, false);
}
END_TEST

START_TEST(unaccepted_and_unread)
{
	if (setups[_i].a_is_client)
		return;
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, 50000);
	wait_until_acknowledged(b);
	struct tcp_snapshot s = take(false, false);
	ck_assert_uint_eq(s.rcv_data_len, b_to_a.written);
	give_to_queue(&s);
	go_on(false, false);
}
END_TEST

START_TEST(unaccepted_and_closed_by_the_peer)
{
	if (setups[_i].a_is_client)
		return;
	open_connection(&setups[_i]);
	write_some(b, &b_to_a, _i % 2 ? 0 : 20000);
	peer_closes();
	struct tcp_snapshot s = take(true, false);
	give_to_queue(&s);
	ck_assert_uint_eq(info_of(a).tcpi_state, TCP_CLOSE_WAIT);
	go_on(false, true);
}
END_TEST

/* A child that was forked meanwhile forgets what it has of it, and the parent goes on. */
START_TEST(unaccepted_when_the_parent_forked)
{
	open_connection(&setups[0]);
	struct tcp_snapshot s = take(false, false);
	struct requeue *q = requeue();
	int status;
	pid_t child = fork();
	if (child == 0) {
		requeue_forget(q);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	int err = requeue_give(q, &s);
	ck_assert_msg(!err, "requeue_give: %s", strerror(-err));
	requeue_close(q);
	struct pollfd p = {.fd = listener, .events = POLLIN};
	ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
}
END_TEST

START_TEST(a_queue_takes_no_connection_that_was_answered)
{
	open_connection(&setups[0]);
	deafen(b);
	write_some(a, &a_to_b, 1000);
	struct tcp_snapshot s = take(false, false);
	struct requeue *q = requeue();
	ck_assert_int_eq(requeue_give(q, &s), -EINVAL);
	requeue_close(q);
}
END_TEST

START_TEST(nobody_listens_any_more)
{
	open_connection(&setups[_i]);
	struct tcp_snapshot s = take(false, false);
	close(listener);
	struct requeue *q = requeue();
	ck_assert_int_eq(requeue_give(q, &s), -ENOBUFS);
	requeue_close(q);
}
END_TEST

START_TEST(without_privilege)
{
	open_connection(&setups[_i]);
	struct tcp_snapshot s = take(false, false);
	if (setresuid(65534, 65534, 65534) < 0)
		return untested("another user");
	ck_assert_int_eq(handover_import(&s, 0), -EPERM);
}
END_TEST

/* Who does what this process may not: itself, with the privilege that it laid down. */
static int asked;

static int superuser_repairs(int fd, const struct privileged_repair *r)
{
	asked++;
	ck_assert_int_eq(seteuid(0), 0);
	int err = setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &r->value, sizeof r->value) ? -errno : 0;
	if (!err && r->rcvbuf)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &r->rcvbuf, sizeof r->rcvbuf);
	if (!err && r->sndbuf)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &r->sndbuf, sizeof r->sndbuf);
	if (!err && r->addr)
		err = bind(fd, r->addr, r->addr_len) ? -errno : 0;
	ck_assert_int_eq(seteuid(65534), 0);
	return err;
}

/* Once to enter repair mode, with the buffers and the address, and once to leave it: a server that ends does it for each connection. */
START_TEST(somebody_is_asked_twice)
{
	static const struct privileged_ops ops = {.repair = superuser_repairs};
	struct tcp_snapshot s;
	if (!take_large(&setups[_i], &s))
		return untested("the right to large buffers");
	ck_assert_int_eq(seteuid(65534), 0);
	privileged_ops = &ops;
	int fd = handover_import(&s, if_nametoindex("va"));
	privileged_ops = NULL;
	ck_assert_int_eq(seteuid(0), 0);
	ck_assert_msg(fd >= 0, "handover_import: %s", strerror(-fd));
	a = fd;
	ck_assert_int_eq(asked, 2);
	check_same(a, &s);
	go_on(false, false);
}
END_TEST

static bool may_run(void)
{
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(geteuid() != 0 || unshare(CLONE_NEWNET) != 0);
	waitpid(pid, &status, 0);
	return status == 0;
}

int main(void)
{
	if (!may_run())
		return 77;
	Suite *s = suite_create("handover");
	TCase *t = tcase_create("import");
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, an_idle_connection, 0, N_SETUPS);
	tcase_add_loop_test(t, unread_unacked_and_unsent_data, 0, N_SETUPS);
	tcase_add_loop_test(t, more_than_a_default_buffer, 0, 1);
	tcase_add_loop_test(t, the_peer_has_closed, 0, N_SETUPS);
	tcase_add_loop_test(t, the_peer_has_closed_behind_a_closed_window, 0, 3);
	tcase_add_loop_test(t, our_fin_is_due, 0, 3);
	tcase_add_loop_test(t, our_fin_was_sent, 0, 3);
	tcase_add_loop_test(t, both_have_closed, 0, 3);
	tcase_add_loop_test(t, two_steps, 0, 3);
	tcase_add_loop_test(t, what_comes_between_the_steps, 0, 3);
	tcase_add_loop_test(t, the_peer_closes_between_the_steps, 0, 3);
	tcase_add_loop_test(t, a_tuple_that_is_taken, 0, 3);
	tcase_add_loop_test(t, without_loopback_no_close_wait_and_no_trace, 0, 3);
	tcase_add_loop_test(t, a_deaf_loopback_is_waited_for_once, 0, 1);
	tcase_add_loop_test(t, unaccepted_and_silent, 0, N_SETUPS);
	tcase_add_loop_test(t, unaccepted_and_unread, 0, N_SETUPS);
	tcase_add_loop_test(t, unaccepted_and_closed_by_the_peer, 0, N_SETUPS);
	tcase_add_test(t, a_queue_takes_no_connection_that_was_answered);
	tcase_add_loop_test(t, unaccepted_when_the_parent_forked, 0, 1);
	tcase_add_loop_test(t, nobody_listens_any_more, 0, 1);
	tcase_add_loop_test(t, without_privilege, 0, 1);
	tcase_add_loop_test(t, somebody_is_asked_twice, 0, 1);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
