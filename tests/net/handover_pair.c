#include "tests/net/handover_pair.h"
#include "tests/net/netns_test.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>

#define PORT 8080

static int ns_a = -1, ns_b = -1;

static int own_namespace(void)
{
	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	sh("ip link set lo up");
	return open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
}

static void two_hosts(void)
{
	ns_b = own_namespace();
	ns_a = own_namespace();
	sh("ip link add va type veth peer name vb netns /proc/%d/fd/%d", getpid(), ns_b);
	sh("ip link set va up; ip addr add 10.8.0.1/24 dev va; ip addr add fd08::1/64 dev va "
	   "nodad");
	ck_assert_int_eq(setns(ns_b, CLONE_NEWNET), 0);
	sh("ip link set vb up; ip addr add 10.8.0.2/24 dev vb; ip addr add fd08::2/64 dev vb "
	   "nodad");
	ck_assert_int_eq(setns(ns_a, CLONE_NEWNET), 0);
}

const struct setup setups[] = {
    {AF_INET, false, false, NULL},       {AF_INET, false, true, NULL},
    {AF_INET6, false, false, NULL},      {AF_INET6, false, true, NULL},
    {AF_INET6, true, false, NULL},       {AF_INET, false, false, "tcp_timestamps"},
    {AF_INET, false, false, "tcp_sack"}, {AF_INET, false, false, "tcp_window_scaling"},
};
_Static_assert(sizeof setups / sizeof *setups == N_SETUPS, "each is tried");

int a, b, listener;

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

void open_connection(const struct setup *u)
{
	two_hosts();
	if (u->no)
		sh("sysctl -qw net.ipv4.%s=0", u->no);
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

uint8_t pattern(uint32_t i, uint8_t salt)
{
	return salt + i * 31 + (i >> 8) * 7 + (i >> 16);
}

struct stream a_to_b = {.salt = 1}, b_to_a = {.salt = 101};

/* As much as fits, up to `max`. */
void write_some(int fd, struct stream *s, uint32_t max)
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
void read_until(int fd, struct stream *s, uint32_t until)
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
void deafen(int fd)
{
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog prog = {.len = 1, .filter = code};
	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog), 0);
}

/* … until here. */
void hear(int fd)
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

struct tcp_info info_of(int fd)
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

void addr_port(int fd, bool peer, struct ip_addr *addr, uint16_t *port)
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

struct chunks chunks_of(const uint8_t *bytes, uint32_t len)
{
	static struct tcp_memory memory = {.alloc = memory_alloc, .free = memory_free};
	static struct chunks c;
	chunks_free(&c, &memory);
	ck_assert_int_eq(chunks_reserve(&c, &memory, len), 0);
	chunks_append(&c, bytes, len);
	return c;
}

/* Reads a, and lets it vanish. */
struct tcp_snapshot take(bool fin_peer, bool fin_ours)
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

void check_same(int fd, const struct tcp_snapshot *s)
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

void import(const struct tcp_snapshot *s)
{
	a = handover_import(s, if_nametoindex("va"));
	ck_assert_msg(a >= 0, "handover_import: %s", strerror(-a));
	check_same(a, s);
}

/* Both streams go on, and end in order; `fin_*`: that end's FIN is under way already. */
void go_on(bool fin_a, bool fin_b)
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
void peer_closes(void)
{
	shutdown(b, SHUT_WR);
	for (int ms = 0; info_of(b).tcpi_state != TCP_FIN_WAIT2; ms++) {
		ck_assert_int_lt(ms, WAIT_MS);
		poll(NULL, 0, 1);
	}
}
void wait_until_acknowledged(int fd)
{
	int outq = 1;
	for (int i = 0; outq && i < WAIT_MS; i++) {
		poll(NULL, 0, 1);
		ck_assert_int_eq(ioctl(fd, SIOCOUTQ, &outq), 0);
	}
	ck_assert_int_eq(outq, 0);
}
