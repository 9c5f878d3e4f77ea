/* The states that a socket is brought into before the calls, and the options that are set before. */
#include "differential.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#define HANDSHAKE_MS 1000
#define CLOSED_PORT  9 /* nobody listens there */

static int new_socket(struct run *r)
{
	int fd = socket(r->family, SOCK_STREAM, 0);
	if (fd < 0)
		give_up(r, "socket");
	if (r->option) {
		int value[4] = {r->option->value, r->option->second};
		long pair[2] = {r->option->value, r->option->second};
		const void *v = r->option->length == sizeof pair ? (void *)pair : (void *)value;
		int result = setsockopt(fd, r->option->level, r->option->number, v, r->option->length);
		out(r, " set=%s", result < 0 ? strerrorname_np(errno) : "0");
	}
	return fd;
}

static void target(struct run *r, const char *v4, const char *v6, unsigned port)
{
	r->peer_port = port;
	r->address_length = address_of(v4, v6, r->family, port, &r->peer_address);
}

static int connect_now(struct run *r, int fd)
{
	return connect(fd, (struct sockaddr *)&r->peer_address, r->address_length);
}

static void set_nonblocking(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

static void bind_any_port(struct run *r, int fd)
{
	struct sockaddr_storage a;
	socklen_t n = address_of(own_v4, own_v6, r->family, 0, &a);
	if (bind(fd, (struct sockaddr *)&a, n) < 0)
		give_up(r, "bind");
	n = sizeof a;
	if (getsockname(fd, (struct sockaddr *)&a, &n) < 0)
		give_up(r, "getsockname");
	r->own_port = ntohs(((struct sockaddr_in *)&a)->sin_port);
}

enum unconnected { FRESH, HOLE, BOUND, REFUSED, REFUSED_ASKED, TIMED_OUT, CLOSED };

static void build_unconnected(struct run *r, int arg)
{
	struct timeval brief = {.tv_usec = 30000}, zero = {0};
	r->fd = new_socket(r);
	target(r, peer_v4, peer_v6, peer_does(r, PEER_HELLO, 0, 0).port);
	if (arg == HOLE)
		target(r, hole_v4, hole_v6, 80);
	if (arg == BOUND)
		bind_any_port(r, r->fd);
	if (arg == REFUSED || arg == REFUSED_ASKED) {
		target(r, peer_v4, peer_v6, CLOSED_PORT);
		if (connect_now(r, r->fd) == 0)
			give_up(r, "not refused");
		out(r, " connect=%s", strerrorname_np(errno));
		target(r, peer_v4, peer_v6, peer_does(r, PEER_HELLO, 0, 0).port);
	}
	if (arg == REFUSED_ASKED) {
		int e = 0;
		socklen_t n = sizeof e;
		getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &e, &n);
		out(r, " error=%d", e);
	}
	if (arg == TIMED_OUT) {
		target(r, hole_v4, hole_v6, 80);
		setsockopt(r->fd, SOL_SOCKET, SO_SNDTIMEO, &brief, sizeof brief);
		out(r, " connect=%d", connect_now(r, r->fd));
		out(r, " %s", strerrorname_np(errno));
		setsockopt(r->fd, SOL_SOCKET, SO_SNDTIMEO, &zero, sizeof zero);
	}
	if (arg == CLOSED)
		close(r->fd);
}

enum connecting { SYN_SENT, SYN_SENT_SHUT_RD, SYN_SENT_SHUT_WR, SYN_SENT_SHUT, SYN_SENT_UNSPEC, NB_REFUSED, NB_CONNECTED };

static void build_connecting(struct run *r, int arg)
{
	r->fd = new_socket(r);
	set_nonblocking(r->fd, true);
	if (arg == NB_REFUSED)
		target(r, peer_v4, peer_v6, CLOSED_PORT);
	else if (arg == NB_CONNECTED)
		target(r, peer_v4, peer_v6, peer_does(r, PEER_HELLO, 0, 0).port);
	else
		target(r, hole_v4, hole_v6, 80);
	int result = connect_now(r, r->fd);
	if (result == 0 || errno != EINPROGRESS)
		give_up(r, "connect");
	if (arg == NB_CONNECTED) {
		if (peer_does(r, PEER_ACCEPT, 0, 0).result < 0)
			give_up(r, "the peer did not accept");
		r->peer_has = true;
		settle();
	}
	if (arg == NB_REFUSED)
		settle(), settle();
	if (arg >= SYN_SENT_SHUT_RD && arg <= SYN_SENT_SHUT)
		out(r, " shutdown=%d", shutdown(r->fd, arg - SYN_SENT_SHUT_RD));
	if (arg == SYN_SENT_UNSPEC) {
		struct sockaddr none = {.sa_family = AF_UNSPEC};
		out(r, " unspec=%d", connect(r->fd, &none, sizeof none));
	}
	set_nonblocking(r->fd, false);
}

static int listening(struct run *r)
{
	int fd = new_socket(r);
	bind_any_port(r, fd);
	if (listen(fd, 8) < 0)
		give_up(r, "listen");
	return fd;
}

static void peer_connects(struct run *r)
{
	struct peer_reply a = peer_does(r, PEER_CONNECT, 0, r->own_port);
	if (a.result < 0)
		give_up(r, "the peer cannot connect");
	r->peer_port = a.port;
	r->peer_has = true;
}

/* Listeners that the cases of this process share, v4 and v6. */
static int shared[2] = {-1, -1};
static unsigned shared_port[2];

void leave_listeners(void)
{
	for (int i = 0; i < 2; i++)
		if (shared[i] >= 0)
			close(shared[i]);
}

static void accepted(struct run *r)
{
	int i = r->family == AF_INET6, l;
	struct sockaddr_storage a;
	if (r->option) {
		l = listening(r);
	} else {
		if (shared[i] < 0) {
			shared[i] = listening(r);
			fcntl(shared[i], F_SETFD, FD_CLOEXEC);
			shared_port[i] = r->own_port;
		}
		l = shared[i];
		r->own_port = shared_port[i];
	}
	peer_connects(r);
	for (;;) {
		socklen_t n = sizeof a;
		struct pollfd f = {l, POLLIN, 0};
		if (poll(&f, 1, HANDSHAKE_MS) != 1)
			give_up(r, "nothing to accept");
		r->fd = accept(l, (struct sockaddr *)&a, &n);
		if (r->fd >= 0 && ntohs(((struct sockaddr_in *)&a)->sin_port) == r->peer_port)
			break;
		if (r->fd >= 0)
			close(r->fd); /* left by an earlier case */
		else if (errno != ECONNABORTED)
			give_up(r, "accept");
	}
	if (r->option)
		close(l);
	r->peer_address = a;
	r->address_length = r->family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static void connected(struct run *r)
{
	r->fd = new_socket(r);
	target(r, peer_v4, peer_v6, peer_does(r, PEER_HELLO, 0, 0).port);
	if (connect_now(r, r->fd) < 0)
		give_up(r, "connect");
	if (peer_does(r, PEER_ACCEPT, 0, 0).result < 0)
		give_up(r, "the peer did not accept");
	r->peer_has = true;
}

/* Until not even a few bytes find room, and none is made for a while: acknowledgements may still come. */
static void fill(int fd)
{
	static char bytes[65536];
	memset(bytes, 'f', sizeof bytes);
	set_nonblocking(fd, true);
	for (int quiet = 0; quiet < 25; quiet++, usleep(2000)) { /* longer than an acknowledgement is delayed */
		while (send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) > 0)
			quiet = 0;
		while (send(fd, bytes, 10, MSG_NOSIGNAL) > 0)
			quiet = 0;
	}
	set_nonblocking(fd, false);
}

enum connection { CONNECTED, ACCEPTED, UNSPEC, KIND = 15, WITH_SHUT_RD = 16, WITH_SHUT_WR = 32, WITH_SHUT_RDWR = 64 };

static void build_connection(struct run *r, int arg)
{
	if ((arg & KIND) == ACCEPTED)
		accepted(r);
	else
		connected(r);
	note_carrier(r, r->fd);
	if (r->ending == END_FULL || r->ending == END_FULL_RST) {
		peer_does(r, PEER_END, END_FULL, 0);
		fill(r->fd);
	}
	if (arg >= WITH_SHUT_RD && shutdown(r->fd, arg / WITH_SHUT_WR) < 0)
		give_up(r, "shutdown");
	if (r->ending != END_NONE && r->ending != END_FULL)
		peer_does(r, PEER_END, r->ending, 0);
	if ((arg & KIND) == UNSPEC) {
		struct sockaddr none = {.sa_family = AF_UNSPEC};
		out(r, " unspec=%d", connect(r->fd, &none, sizeof none));
	}
	if (r->ending < END_DATA_LATER)
		settle();
}

enum listener { EMPTY, PENDING, LISTEN_AGAIN, LISTEN_UNSPEC, LISTEN_SHUT_RD, LISTEN_SHUT_WR, LISTEN_SHUT_RDWR, SHUT_LISTEN_AGAIN };

static void build_listener(struct run *r, int arg)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	r->fd = listening(r);
	target(r, peer_v4, peer_v6, peer_does(r, PEER_HELLO, 0, 0).port);
	if (arg == PENDING) {
		peer_connects(r);
		if (r->ending != END_NONE)
			peer_does(r, PEER_END, r->ending, 0);
		settle();
	}
	if (arg == LISTEN_AGAIN || arg == SHUT_LISTEN_AGAIN) {
		if (arg == SHUT_LISTEN_AGAIN)
			out(r, " shutdown=%d", shutdown(r->fd, SHUT_RD));
		out(r, " listen=%d", listen(r->fd, 4));
		peer_connects(r);
		settle();
	}
	if (arg == LISTEN_UNSPEC)
		out(r, " unspec=%d", connect(r->fd, &none, sizeof none));
	if (arg >= LISTEN_SHUT_RD && arg <= LISTEN_SHUT_RDWR)
		out(r, " shutdown=%d", shutdown(r->fd, arg - LISTEN_SHUT_RD));
}

const struct state states[] = {
	{"fresh", build_unconnected, FRESH, 0},
	{"hole", build_unconnected, HOLE, STATE_HOLE},
	{"bound", build_unconnected, BOUND, 0},
	{"refused", build_unconnected, REFUSED, 0},
	{"refused-asked", build_unconnected, REFUSED_ASKED, 0},
	{"timed-out", build_unconnected, TIMED_OUT, 0},
	{"closed", build_unconnected, CLOSED, 0},
	{"syn-sent", build_connecting, SYN_SENT, 0},
	{"syn-sent-rd", build_connecting, SYN_SENT_SHUT_RD, 0},
	{"syn-sent-wr", build_connecting, SYN_SENT_SHUT_WR, 0},
	{"syn-sent-rdwr", build_connecting, SYN_SENT_SHUT, 0},
	{"syn-sent-unspec", build_connecting, SYN_SENT_UNSPEC, 0},
	{"nb-refused", build_connecting, NB_REFUSED, 0},
	{"nb-connected", build_connecting, NB_CONNECTED, 0},
	{"unspec", build_connection, UNSPEC, STATE_PEER | STATE_SHUT},
	{"conn", build_connection, CONNECTED, STATE_PEER},
	{"conn-rd", build_connection, CONNECTED | WITH_SHUT_RD, STATE_PEER | STATE_SHUT},
	{"conn-wr", build_connection, CONNECTED | WITH_SHUT_WR, STATE_PEER | STATE_SHUT},
	{"conn-rdwr", build_connection, CONNECTED | WITH_SHUT_RDWR, STATE_PEER | STATE_SHUT},
	{"acc", build_connection, ACCEPTED, STATE_PEER},
	{"acc-rd", build_connection, ACCEPTED | WITH_SHUT_RD, STATE_PEER | STATE_SHUT},
	{"acc-wr", build_connection, ACCEPTED | WITH_SHUT_WR, STATE_PEER | STATE_SHUT},
	{"acc-rdwr", build_connection, ACCEPTED | WITH_SHUT_RDWR, STATE_PEER | STATE_SHUT},
	{"fresh6", build_unconnected, FRESH, STATE_V6},
	{"conn6", build_connection, CONNECTED, STATE_PEER | STATE_SHUT | STATE_V6},
	{"acc6", build_connection, ACCEPTED, STATE_PEER | STATE_SHUT | STATE_V6},
	{"listen6", build_listener, EMPTY, STATE_LISTEN | STATE_V6},
	{"listen", build_listener, EMPTY, STATE_LISTEN},
	{"pending", build_listener, PENDING, STATE_LISTEN | STATE_PEER},
	{"listen-again", build_listener, LISTEN_AGAIN, STATE_LISTEN},
	{"listen-unspec", build_listener, LISTEN_UNSPEC, STATE_LISTEN},
	{"listen-rd", build_listener, LISTEN_SHUT_RD, STATE_LISTEN},
	{"listen-wr", build_listener, LISTEN_SHUT_WR, STATE_LISTEN},
	{"listen-rdwr", build_listener, LISTEN_SHUT_RDWR, STATE_LISTEN},
	{"listen-rd-again", build_listener, SHUT_LISTEN_AGAIN, STATE_LISTEN},
};
const unsigned n_states = sizeof states / sizeof *states;

#define INT sizeof(int)
#define TIME sizeof(struct timeval)
const struct option options[] = {
	{"lowat", SOL_SOCKET, SO_RCVLOWAT, 8, 0, INT},
	{"rcvtimeo", SOL_SOCKET, SO_RCVTIMEO, 0, 30000, TIME},
	{"sndtimeo", SOL_SOCKET, SO_SNDTIMEO, 0, 30000, TIME},
	{"linger0", SOL_SOCKET, SO_LINGER, 1, 0, 2 * INT},
	{"linger1", SOL_SOCKET, SO_LINGER, 1, 1, 2 * INT},
	{"oobinline", SOL_SOCKET, SO_OOBINLINE, 1, 0, INT},
	{"keepalive", SOL_SOCKET, SO_KEEPALIVE, 1, 0, INT},
	{"reuseaddr", SOL_SOCKET, SO_REUSEADDR, 1, 0, INT},
	{"rcvbuf", SOL_SOCKET, SO_RCVBUF, 8192, 0, INT},
	{"sndbuf", SOL_SOCKET, SO_SNDBUF, 8192, 0, INT},
	{"priority", SOL_SOCKET, SO_PRIORITY, 3, 0, INT},
	{"mark", SOL_SOCKET, SO_MARK, 7, 0, INT},
	{"timestamp", SOL_SOCKET, SO_TIMESTAMP, 1, 0, INT},
	{"zerocopy", SOL_SOCKET, SO_ZEROCOPY, 1, 0, INT},
	{"busypoll", SOL_SOCKET, SO_BUSY_POLL, 10, 0, INT},
	{"dontroute", SOL_SOCKET, SO_DONTROUTE, 1, 0, INT},
	{"nodelay", IPPROTO_TCP, TCP_NODELAY, 1, 0, INT},
	{"cork", IPPROTO_TCP, TCP_CORK, 1, 0, INT},
	{"maxseg", IPPROTO_TCP, TCP_MAXSEG, 600, 0, INT},
	{"quickack0", IPPROTO_TCP, TCP_QUICKACK, 0, 0, INT},
	{"defer", IPPROTO_TCP, TCP_DEFER_ACCEPT, 1, 0, INT},
	{"user-timeout", IPPROTO_TCP, TCP_USER_TIMEOUT, 5000, 0, INT},
	{"syncnt", IPPROTO_TCP, TCP_SYNCNT, 2, 0, INT},
	{"linger2", IPPROTO_TCP, TCP_LINGER2, 3, 0, INT},
	{"keepidle", IPPROTO_TCP, TCP_KEEPIDLE, 9, 0, INT},
	{"notsent-lowat", IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4096, 0, INT},
	{"fastopen-connect", IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1, 0, INT},
	{"inq", IPPROTO_TCP, TCP_INQ, 1, 0, INT},
	{"window-clamp", IPPROTO_TCP, TCP_WINDOW_CLAMP, 4096, 0, INT},
	{"tos", IPPROTO_IP, IP_TOS, 0x10, 0, INT},
	{"ttl", IPPROTO_IP, IP_TTL, 33, 0, INT},
	{"recverr", IPPROTO_IP, IP_RECVERR, 1, 0, INT},
	{"freebind", IPPROTO_IP, IP_FREEBIND, 1, 0, INT},
	{"mtu-discover", IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT, 0, INT},
	{"pktinfo", IPPROTO_IP, IP_PKTINFO, 1, 0, INT},
	{"recvttl", IPPROTO_IP, IP_RECVTTL, 1, 0, INT},
	{"minttl", IPPROTO_IP, 21, 60, 0, INT},
	/* From here on not in sequences. */
	{"timestamping-tx", SOL_SOCKET, SO_TIMESTAMPING, 1 << 8 | 1 << 1 | 1 << 4 | 1 << 11 /* sent ones, alone */, 0, INT},
	{"save-syn", IPPROTO_TCP, TCP_SAVE_SYN, 1, 0, INT},
	{"save-syn-link", IPPROTO_TCP, TCP_SAVE_SYN, 2, 0, INT},
};
const unsigned n_options = sizeof options / sizeof *options;
