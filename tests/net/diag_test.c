/* diag.h against real kernel sockets of every kind that it must find, in a network namespace of its own. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frames.h"
#include "kernel/diag.h"
#include "tests/suite.h"

#define PORT      5000
#define SEEN_MAX  16
#define DUMPS_MAX 10000 /* some 0.1 s: for what the loopback's softirq may still have to do */

struct collect {
	struct diag_visit v; /* first: the callback casts back */
	struct diag_socket s[SEEN_MAX];
	int n;
};

static void on_socket(struct diag_visit *v, const struct diag_socket *s)
{
	struct collect *c = (struct collect *)v;
	ck_assert_int_lt(c->n, SEEN_MAX);
	c->s[c->n++] = *s;
}

static struct collect dump(uint16_t port)
{
	struct collect c = {.v = {on_socket}};
	ck_assert_int_eq(diag_dump_port(port, &c.v), 0);
	return c;
}

static struct flow_key key(const char *l, uint16_t lport, const char *r, uint16_t rport)
{
	struct flow_key k = {.lport = lport, .rport = rport};
	ck_assert_int_eq(ip_addr_parse(l, &k.laddr) | ip_addr_parse(r, &k.raddr), 0);
	return k;
}

static int server(const char *text)
{
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	bool v6 = strchr(text, ':');
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);

	ck_assert_int_eq(inet_pton(v6 ? AF_INET6 : AF_INET, text,
				   v6 ? (void *)&sin6.sin6_addr : (void *)&sin.sin_addr), 1);
	ck_assert_int_eq(bind(fd, v6 ? (void *)&sin6 : (void *)&sin, v6 ? sizeof sin6 : sizeof sin), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	return fd;
}

/* A client of `to`:PORT; *port is its own. */
static int client(const char *to, uint16_t *port)
{
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	bool v6 = strchr(to, ':');
	socklen_t len = v6 ? sizeof sin6 : sizeof sin;
	void *sa = v6 ? (void *)&sin6 : (void *)&sin;
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);

	ck_assert_int_eq(inet_pton(v6 ? AF_INET6 : AF_INET, to,
				   v6 ? (void *)&sin6.sin6_addr : (void *)&sin.sin_addr), 1);
	ck_assert_int_eq(connect(fd, sa, len), 0);
	ck_assert_int_eq(getsockname(fd, sa, &len), 0);
	*port = ntohs(v6 ? sin6.sin6_port : sin.sin_port);
	return fd;
}

static void setup(void)
{
	ck_assert_int_eq(net_enter(), 0);
}

START_TEST(listeners_are_not_connections)
{
	server("0.0.0.0");
	ck_assert_int_eq(dump(PORT).n, 0);
	struct flow_key k = key("127.0.0.1", PORT, "127.0.0.1", 1234);
	ck_assert_int_eq(diag_owns(&k), 0); /* the kernel's lookup finds the listener: not this 4-tuple */
}
END_TEST

START_TEST(established_v4)
{
	uint16_t port;
	int s = server("0.0.0.0"), c = client("127.0.0.1", &port), a = accept(s, NULL, NULL);
	struct flow_key k = key("127.0.0.1", PORT, "127.0.0.1", port);
	struct collect got = dump(PORT);

	ck_assert_int_ge(a, 0);
	ck_assert_int_eq(got.n, 1); /* the server's end only: the client's local port is another */
	ck_assert(flow_key_equal(&got.s[0].key, &k));
	ck_assert_int_eq(got.s[0].state, TCP_ESTABLISHED);
	ck_assert_int_eq(diag_owns(&k), 1);
	k.rport ^= 1;
	ck_assert_int_eq(diag_owns(&k), 0);
	ck_assert_int_eq(dump(PORT + 1).n, 0);
	close(c);
}
END_TEST

START_TEST(established_mapped_and_v6)
{
	uint16_t port4, port6;
	int s = server("::");
	client("127.0.0.1", &port4);
	client("::1", &port6);
	ck_assert_int_ge(accept(s, NULL, NULL), 0); /* the second stays in the backlog */
	struct flow_key k4 = key("127.0.0.1", PORT, "127.0.0.1", port4);
	struct flow_key k6 = key("::1", PORT, "::1", port6);
	struct collect got = dump(PORT);

	ck_assert_int_eq(got.n, 2);
	int first = flow_key_equal(&got.s[0].key, &k4) ? 0 : 1;
	ck_assert(flow_key_equal(&got.s[first].key, &k4));
	ck_assert(flow_key_equal(&got.s[!first].key, &k6));
	ck_assert_int_eq(diag_owns(&k4), 1);
	ck_assert_int_eq(diag_owns(&k6), 1);
}
END_TEST

START_TEST(time_wait_and_orphans)
{
	uint16_t port;
	int s = server("0.0.0.0"), c = client("127.0.0.1", &port), a = accept(s, NULL, NULL);
	struct flow_key k = key("127.0.0.1", PORT, "127.0.0.1", port);

	close(a); /* the server closes first: an orphan in FIN-WAIT-1 or, once acknowledged, FIN-WAIT-2 … */
	struct collect got = {0};
	/* While the kernel turns the orphan into its compact FIN-WAIT-2, one dump may see neither. */
	for (int i = 0; i < DUMPS_MAX && got.n == 0; i++)
		got = dump(PORT);
	ck_assert_int_eq(got.n, 1);
	ck_assert(got.s[0].state == TCP_FIN_WAIT1 || got.s[0].state == TCP_FIN_WAIT2);
	ck_assert_int_eq(diag_owns(&k), 1);
	close(c); /* … then TIME-WAIT, as soon as the FIN has come around */
	for (int i = 0; i < DUMPS_MAX; i++) {
		got = dump(PORT);
		if (got.n == 1 && got.s[0].state == TCP_TIME_WAIT)
			break;
	}
	ck_assert_int_eq(got.n, 1);
	ck_assert_int_eq(got.s[0].state, TCP_TIME_WAIT);
	ck_assert(flow_key_equal(&got.s[0].key, &k));
	ck_assert_int_eq(diag_owns(&k), 1);
}
END_TEST

/* The kernel's TIME-WAIT ends when we say so; once, and nothing else by its cookie. */
START_TEST(time_wait_is_ended)
{
	uint16_t port, live_port;
	int s = server("0.0.0.0"), c = client("127.0.0.1", &port), a = accept(s, NULL, NULL);
	struct flow_key k = key("127.0.0.1", PORT, "127.0.0.1", port), live = k, none = k;
	struct collect got;

	close(a);
	close(c);
	for (int i = 0; i < DUMPS_MAX; i++) {
		got = dump(PORT);
		if (got.n == 1 && got.s[0].state == TCP_TIME_WAIT)
			break;
	}
	const uint32_t *cookie = got.s[0].cookie;
	int fd = diag_open();
	ck_assert_int_ge(fd, 0);
	client("127.0.0.1", &live_port);
	ck_assert_int_ge(accept(s, NULL, NULL), 0);
	live.rport = live_port;
	none.rport = 1;
	ck_assert_int_eq(diag_end(fd, &live, cookie, 0), 0);
	ck_assert_int_eq(diag_owns(&live), 1);
	ck_assert_int_eq(diag_end(fd, &none, cookie, 0), 0); /* the lookup finds the listener */
	ck_assert_int_eq(diag_owns(&k), 1);
	ck_assert_int_eq(diag_end(fd, &k, cookie, 0), 1);
	ck_assert_int_eq(diag_owns(&k), 0);
	ck_assert_int_eq(diag_end(fd, &k, cookie, 0), 0);
	client("127.0.0.1", &live_port); /* the listener is still there */
	ck_assert_int_ge(accept(s, NULL, NULL), 0);
}
END_TEST

START_TEST(range_of_ports)
{
	uint16_t port;
	int s = server("0.0.0.0"), c = client("127.0.0.1", &port), a = accept(s, NULL, NULL);
	struct collect got = {.v = {on_socket}};

	ck_assert(a >= 0 && c >= 0 && port > PORT + 1);
	ck_assert_int_eq(diag_dump_ports(PORT, PORT + 1, &got.v), 0);
	ck_assert_int_eq(got.n, 1);
	ck_assert_uint_eq(got.s[0].key.lport, PORT);
	ck_assert_int_eq(diag_dump_ports(PORT - 1, PORT, &got.v), 0);
	ck_assert_int_eq(got.n, 2);
	ck_assert_int_eq(diag_dump_ports(PORT + 1, port - 1, &got.v), 0);
	ck_assert_int_eq(diag_dump_ports(port + 1, 65535, &got.v), 0);
	ck_assert_int_eq(got.n, 2);
	ck_assert_int_eq(diag_dump_ports(0, 65535, &got.v), 0);
	ck_assert_int_eq(got.n, 4);
}
END_TEST

START_TEST(half_open)
{
	struct spec syn = {.sport = 40000, .dport = PORT, .flags = TCPF_SYN};
	struct flow_key k = key(OUR_V4, PORT, PEER_V4, 40000);
	struct frame f;
	uint8_t b[2048];
	struct tcp_seen t;
	int peer = packet_open("b");

	server("0.0.0.0");
	frame_build(&f, &syn);
	ck_assert_int_eq(write(peer, f.b, f.len), f.len);
	do /* until the kernel's SYN-ACK says that it has the connection */
		ck_assert(readable_within(peer, 2000));
	while (!frame_parse_tcp(b, read(peer, b, sizeof b), true, &t));
	struct collect got = dump(PORT);
	ck_assert_int_eq(got.n, 1);
	ck_assert_int_eq(got.s[0].state, TCP_SYN_RECV);
	ck_assert(flow_key_equal(&got.s[0].key, &k));
	ck_assert_int_eq(diag_owns(&k), 1);
}
END_TEST

/* A socket that is bound to an interface is found by who asks for that interface. */
START_TEST(bound_to_an_interface)
{
	uint16_t port;
	int s = server("0.0.0.0"), c = client("127.0.0.1", &port), a = accept(s, NULL, NULL);
	struct flow_key k = key("127.0.0.1", PORT, "127.0.0.1", port);

	ck_assert_int_eq(setsockopt(a, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), 0);
	ck_assert_int_eq(dump(PORT).n, 1);
	ck_assert_int_eq(diag_owns_on(&k, 1 /* lo */), 1);
	close(c);
}
END_TEST

struct count {
	struct diag_visit v; /* first: the callback casts back */
	int n;
};

static void on_counted(struct diag_visit *v, const struct diag_socket *s)
{
	((struct count *)v)->n++;
}

/* More sockets than one datagram of the dump holds. */
START_TEST(many)
{
	int s = server("0.0.0.0");
	struct count c = {.v = {on_counted}};
	uint16_t port;

	for (int i = 0; i < 300; i++) {
		client("127.0.0.1", &port);
		ck_assert_int_ge(accept(s, NULL, NULL), 0);
	}
	struct flow_key k = key("127.0.0.1", PORT, "127.0.0.1", port);
	ck_assert_int_eq(diag_owns(&k), 1);
	ck_assert_int_eq(diag_dump_port(PORT, &c.v), 0);
	ck_assert_int_eq(c.n, 300);
}
END_TEST

int main(void)
{
	pid_t pid = fork(); /* is a namespace to be had at all? */
	if (pid == 0)
		_exit(net_enter());
	int status;
	if (waitpid(pid, &status, 0) != pid || status != 0)
		return WIFEXITED(status) ? WEXITSTATUS(status) : 1;

	Suite *s = suite_create("diag");
	TCase *tc = tcase_create("diag");
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, listeners_are_not_connections);
	tcase_add_test(tc, established_v4);
	tcase_add_test(tc, established_mapped_and_v6);
	tcase_add_test(tc, time_wait_and_orphans);
	tcase_add_test(tc, time_wait_is_ended);
	tcase_add_test(tc, range_of_ports);
	tcase_add_test(tc, half_open);
	tcase_add_test(tc, bound_to_an_interface);
	tcase_add_test(tc, many);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
