/*
 * Readiness by generated steps: a seed makes a sequence of epoll_ctl, waits, poll, select, traffic, shutdown, dup and
 * close over connections to another host, a listener, pipes and epolls in epolls; each step prints what the calls said.
 * Run natively and under finesse, the output must be the same.
 *
 *   ready_steps peer PATH SERVER-IP      the other host: does what the program says over the Unix socket PATH, in a network namespace of its own
 *   ready_steps run PATH PEER-IP SEED [STEPS]
 *   ready_steps calls PATH PEER-IP       the calls of ready_calls.c instead
 *
 * Deterministic: before the next step the program waits, with a bound, until what the peer did has arrived (FIONREAD,
 * poll), so that only states are compared.
 */
#include "ready_steps.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/sockios.h>

#define SERVER_PORT 7101
#define PEER_PORT   7102
#define CLOSED_PORT 7103
#define CONNS       6
#define BOUND_MS    15000

static void die(const char *what)
{
	perror(what);
	exit(99);
}

static struct sockaddr_in address(const char *ip, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

static int listener(int port, int flags)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | flags, 0);
	struct sockaddr_in a = address("0.0.0.0", port);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 16) < 0)
		die("listen");
	return fd;
}

static struct sockaddr_un control_address(const char *path)
{
	struct sockaddr_un u = {.sun_family = AF_UNIX};
	snprintf(u.sun_path, sizeof u.sun_path, "%s", path);
	return u;
}

/*
 * Buffers of one size: how they grow is not the question. A sender's is far larger than its receiver's, so that one
 * that is full does not become writable by what the receiver takes late.
 */
static void fix_buffers(int fd)
{
	int send_bytes = 200000, receive_bytes = 16384;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof send_bytes);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
}

/* ---- the peer ---- */

struct command {
	char op;
	int k, n;
};

static int peer_fd[CONNS];

static void peer_reset(int k)
{
	struct linger l = {1, 0};
	if (peer_fd[k] < 0)
		return;
	setsockopt(peer_fd[k], SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(peer_fd[k]);
	peer_fd[k] = -1;
}

static bool peer_read(int fd, int n)
{
	static char buf[1 << 20];
	while (n > 0) {
		struct pollfd p = {fd, POLLIN, 0};
		if (poll(&p, 1, BOUND_MS) != 1)
			return false;
		ssize_t got = recv(fd, buf, n < (int)sizeof buf ? n : (int)sizeof buf, 0);
		if (got <= 0)
			return false;
		n -= got;
	}
	return true;
}

static bool peer_does(const struct command *c, int lfd, const char *server)
{
	static const char bytes[65536];
	struct sockaddr_in a = address(server, SERVER_PORT);
	int *fd = &peer_fd[c->k];
	switch (c->op) {
	case 'c':
		peer_reset(c->k);
		*fd = socket(AF_INET, SOCK_STREAM, 0);
		fix_buffers(*fd);
		return connect(*fd, (struct sockaddr *)&a, sizeof a) == 0;
	case 'a':
		peer_reset(c->k);
		*fd = accept(lfd, NULL, NULL);
		fix_buffers(*fd);
		return *fd >= 0;
	case 's':
		return send(*fd, bytes, c->n, MSG_NOSIGNAL) == c->n;
	case 'o':
		return send(*fd, bytes, 1, MSG_NOSIGNAL | MSG_OOB) == 1;
	case 'f':
		return shutdown(*fd, SHUT_WR) == 0;
	case 'r':
		peer_reset(c->k);
		return true;
	case 'd':
		return peer_read(*fd, c->n);
	}
	return false;
}

static void peer_main(const char *path, const char *server)
{
	struct sockaddr_un u = control_address(path);
	int lfd = listener(PEER_PORT, 0), ufd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(ufd, (struct sockaddr *)&u, sizeof u) < 0 || listen(ufd, 1) < 0)
		die("control");
	for (int k = 0; k < CONNS; k++)
		peer_fd[k] = -1;
	for (;;) {
		struct command c;
		int fd = accept(ufd, NULL, NULL);
		while (recv(fd, &c, sizeof c, MSG_WAITALL) == sizeof c) {
			char ok = peer_does(&c, lfd, server) ? 'y' : 'n';
			send(fd, &ok, 1, MSG_NOSIGNAL);
		}
		close(fd);
		for (int k = 0; k < CONNS; k++)
			peer_reset(k);
	}
}

/* ---- the program ---- */

enum kind { NONE, CONN, PIPE_R, PIPE_W, LISTENER, EPOLL };
static const char *const kind_name[] = {"none", "conn", "pipe-r", "pipe-w", "listener", "epoll"};

#define TARGETS 24

/* A number of the program. Several may lead to one connection. */
struct target {
	enum kind kind;
	int fd, k; /* k: which connection, pipe or epoll */
};

struct conn {
	int fd;     /* one that leads to it; -1: closed */
	int unread; /* what the peer sent and nobody took */
	int sent;   /* what we sent and the peer did not take */
	bool peer_gone, peer_fin, shut_wr, urgent;
	bool no_more; /* we read no more: data would be answered by RST, or not be taken */
};

static struct target targets[TARGETS];
static struct conn conns[CONNS];
static int control, veth_conns, loopback_conns, step_no;
static const char *peer_ip;
static uint64_t random_state;

static unsigned pick(unsigned n)
{
	uint64_t z = (random_state += 0x9e3779b97f4a7c15ULL);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return (z ^ z >> 31) % n;
}

static void peer(char op, int k, int n)
{
	struct command c = {op, k, n};
	char ok = 0;
	if (send(control, &c, sizeof c, MSG_NOSIGNAL) != sizeof c || recv(control, &ok, 1, 0) != 1 || ok != 'y')
		printf("the peer could not: %c %d %d\n", op, k, n);
}

/* Until poll says one of `events`; a bound that is reached is a difference, unless it is so natively, too. */
static void until(int fd, short events)
{
	struct pollfd p = {fd, events, 0};
	if (poll(&p, 1, BOUND_MS) != 1)
		printf("late: %x\n", events);
}

static void until_count(int fd, unsigned long request, int n)
{
	int have = -1, tries = BOUND_MS;
	while (tries-- && ioctl(fd, request, &have) == 0 && have != n)
		usleep(1000);
	if (have != n)
		printf("late: %d of %d\n", have, n);
}

static int tcp_state_of(int fd)
{
	struct tcp_info ti = {0};
	socklen_t len = sizeof ti;
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) < 0 ? -1 : ti.tcpi_state;
}

static void until_fin_is_acked(int fd)
{
	int tries = BOUND_MS;
	while (tries--) {
		int st = tcp_state_of(fd);
		if (st != TCP_FIN_WAIT1 && st != TCP_LAST_ACK && st != TCP_CLOSING)
			return;
		usleep(1000);
	}
	printf("late: FIN\n");
}

static int target_new(enum kind kind, int fd, int k)
{
	for (int i = 0; i < TARGETS; i++)
		if (targets[i].kind == NONE) {
			targets[i] = (struct target){kind, fd, k};
			return i;
		}
	return -1;
}

/* A random one of these kinds (a bit each), or -1. */
static int target_of(unsigned kinds)
{
	int found[TARGETS], n = 0;
	for (int i = 0; i < TARGETS; i++)
		if (targets[i].kind != NONE && kinds >> targets[i].kind & 1)
			found[n++] = i;
	return n ? found[pick(n)] : -1;
}

#define ANY    (1u << CONN | 1u << PIPE_R | 1u << PIPE_W | 1u << LISTENER)
#define ONLY(k) (1u << (k))

static const char *said(int r)
{
	static char text[32];
	if (r < 0)
		return strerrorname_np(errno);
	snprintf(text, sizeof text, "%d", r);
	return text;
}

/* ---- steps ---- */

static int by_data(const void *a, const void *b)
{
	const struct epoll_event *x = a, *y = b;
	return x->data.u64 != y->data.u64 ? (x->data.u64 < y->data.u64 ? -1 : 1) : x->events != y->events ? (x->events < y->events ? -1 : 1) : 0;
}

static void print_events(struct epoll_event *ev, int n)
{
	qsort(ev, n, sizeof *ev, by_data);
	for (int i = 0; i < n; i++)
		printf(" %u:%x", (unsigned)ev[i].data.u64, ev[i].events);
	putchar('\n');
}

static void wait_and_print(int ep)
{
	struct epoll_event ev[64];
	int n = epoll_wait(ep, ev, 64, 0);
	printf("%s", said(n));
	print_events(ev, n > 0 ? n : 0);
}

static bool room(int n)
{
	for (int i = 0; i < TARGETS; i++)
		n -= targets[i].kind == NONE;
	return n <= 0;
}

static int conn_free(void)
{
	for (int k = 0; k < CONNS; k++)
		if (conns[k].fd < 0)
			return k;
	return -1;
}

static int the(enum kind kind)
{
	for (int i = 0; i < TARGETS; i++)
		if (targets[i].kind == kind)
			return targets[i].fd;
	return -1;
}

static void step_accept(void)
{
	int k = conn_free(), l = the(LISTENER);
	if (k < 0 || l < 0 || !room(1))
		return;
	peer('c', k, 0);
	until(l, POLLIN);
	veth_conns++;
	if (pick(3) == 0) /* the listener is ready for a while */
		for (int i = 0; i < TARGETS; i++)
			if (targets[i].kind == EPOLL) {
				printf("  before accept: ");
				wait_and_print(targets[i].fd);
			}
	int fd = accept4(l, NULL, NULL, SOCK_NONBLOCK);
	fix_buffers(fd);
	conns[k] = (struct conn){.fd = fd};
	printf("accept %d: target %d\n", k, target_new(CONN, fd, k));
}

static void add_random(int ep, int fd);

/* Sometimes in an epoll before it is decided. */
static void step_connect(void)
{
	int k = conn_free(), e = target_of(ONLY(EPOLL));
	bool refused = pick(5) == 0;
	if (k < 0 || !room(1))
		return;
	struct sockaddr_in a = address(peer_ip, refused ? CLOSED_PORT : PEER_PORT);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	fix_buffers(fd);
	if (e >= 0 && pick(2))
		add_random(targets[e].fd, fd);
	int r = connect(fd, (struct sockaddr *)&a, sizeof a);
	printf("connect %d%s: %s", k, refused ? " refused" : "", said(r));
	until(fd, POLLOUT);
	if (!refused)
		peer('a', k, 0);
	conns[k] = (struct conn){.fd = fd, .peer_gone = refused};
	veth_conns++;
	printf(" target %d\n", target_new(CONN, fd, k));
}

/* By loopback: the client waits in the kernel's queue. */
static void step_loopback(void)
{
	int l = the(LISTENER);
	if (l < 0)
		return;
	struct sockaddr_in a = address("127.0.0.1", SERVER_PORT);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	int r = connect(c, (struct sockaddr *)&a, sizeof a);
	loopback_conns++;
	printf("loopback: %s\n", said(r));
	for (int i = 0; i < TARGETS; i++)
		if (targets[i].kind == EPOLL) {
			printf("  before accept: ");
			wait_and_print(targets[i].fd);
		}
	int s = accept4(l, NULL, NULL, SOCK_NONBLOCK);
	printf("  accept: %s\n", s < 0 ? said(s) : "ok");
	close(s);
	close(c);
}

static void step_peer(void)
{
	int t = target_of(ONLY(CONN));
	if (t < 0)
		return;
	int k = targets[t].k, fd = targets[t].fd, n = 1 + pick(300);
	struct conn *c = &conns[k];
	if (c->peer_gone || c->urgent)
		return;
	bool mute = c->peer_fin || c->no_more;
	switch (pick(8)) {
	default:
		if (mute)
			return;
		peer('s', k, n);
		c->unread += n;
		until_count(fd, FIONREAD, c->unread);
		printf("peer sends %d on %d\n", n, k);
		return;
	case 5:
		if (c->peer_fin)
			return;
		peer('f', k, 0);
		c->peer_fin = true;
		until(fd, POLLRDHUP);
		if (c->shut_wr)
			until(fd, POLLHUP);
		printf("peer FIN on %d\n", k);
		return;
	case 6:
		peer('r', k, 0);
		c->peer_gone = true;
		if (!(c->peer_fin && c->shut_wr)) /* else it is over already */
			until(fd, POLLHUP);
		printf("peer RST on %d\n", k);
		return;
	case 7:
		if (mute || c->shut_wr)
			return;
		peer('o', k, 0);
		c->urgent = true;
		until(fd, POLLPRI);
		printf("peer urgent on %d\n", k);
	}
}

static void step_read(void)
{
	char buf[1000];
	int t = target_of(ONLY(CONN));
	if (t < 0 || conns[targets[t].k].urgent || conns[targets[t].k].peer_gone)
		return;
	ssize_t n = recv(targets[t].fd, buf, 1 + pick(400), MSG_DONTWAIT);
	if (n > 0)
		conns[targets[t].k].unread -= n;
	printf("read target %d: %s\n", t, said(n));
}

static void step_fill(void)
{
	static const char buf[65536];
	int t = target_of(ONLY(CONN));
	if (t < 0)
		return;
	struct conn *c = &conns[targets[t].k];
	if (c->peer_gone || c->urgent || c->shut_wr)
		return;
	if (c->sent) { /* what a peer does that reads it all */
		peer('d', targets[t].k, c->sent);
		c->sent = 0;
		until_count(targets[t].fd, SIOCOUTQ, 0);
		until(targets[t].fd, POLLOUT);
		printf("peer drains target %d\n", t);
		return;
	}
	ssize_t n;
	int quiet = 0, before = -1, left;
	while (quiet < 20) { /* full, and stays so: the peer's window is used up, too */
		while ((n = send(targets[t].fd, buf, sizeof buf, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0) {
			c->sent += n;
			quiet = 0;
		}
		usleep(2000);
		ioctl(targets[t].fd, SIOCOUTQ, &left);
		quiet = left == before ? quiet + 1 : 0;
		before = left;
	}
	printf("fill target %d: %s\n", t, said(n));
}

static void step_shutdown(void)
{
	int t = target_of(ONLY(CONN)), how = pick(3);
	if (t < 0)
		return;
	struct conn *c = &conns[targets[t].k];
	if (c->sent || c->peer_gone || c->urgent || (c->peer_fin && c->shut_wr))
		return;
	int r = shutdown(targets[t].fd, how);
	if (r == 0 && how != SHUT_RD && !c->shut_wr) {
		c->shut_wr = true;
		until_fin_is_acked(targets[t].fd);
	}
	c->no_more |= r == 0 && how != SHUT_WR;
	printf("shutdown %d target %d: %s\n", how, t, said(r));
}

static void step_pipe(void)
{
	char buf[16] = {0};
	int t = target_of(ONLY(PIPE_W) | ONLY(PIPE_R));
	if (t < 0)
		return;
	if (targets[t].kind == PIPE_W)
		printf("write pipe %d: %s\n", t, said(write(targets[t].fd, buf, 1 + pick(16))));
	else
		printf("read pipe %d: %s\n", t, said(read(targets[t].fd, buf, 1 + pick(16))));
}

static void step_new_pipe(void)
{
	int fds[2];
	if (!room(2) || pipe2(fds, O_NONBLOCK) < 0)
		return;
	printf("pipe: targets %d", target_new(PIPE_R, fds[0], 0));
	printf(" %d\n", target_new(PIPE_W, fds[1], 0));
}

static void step_dup(void)
{
	int t = target_of(ANY | ONLY(EPOLL));
	if (t < 0 || !room(6))
		return;
	int fd = dup(targets[t].fd);
	printf("dup target %d: target %d\n", t, target_new(targets[t].kind, fd, targets[t].k));
}

static void step_close(void)
{
	int t = target_of(ANY | ONLY(EPOLL));
	if (t < 0)
		return;
	struct target gone = targets[t];
	int others = -1, same_kind = 0;
	for (int i = 0; i < TARGETS; i++)
		if (i != t && targets[i].kind == gone.kind) {
			same_kind++;
			if (targets[i].k == gone.k)
				others = i;
		}
	if ((gone.kind == LISTENER || gone.kind == EPOLL) && same_kind < (gone.kind == EPOLL ? 3 : 1))
		return;
	targets[t].kind = NONE;
	if (gone.kind == CONN)
		conns[gone.k].fd = others >= 0 ? targets[others].fd : -1;
	printf("close target %d (%s%s): %s\n", t, kind_name[gone.kind], others >= 0 ? ", has others" : "", said(close(gone.fd)));
	if (gone.kind == CONN && others < 0)
		peer('r', gone.k, 0);
}

static void step_new_epoll(void)
{
	static int epolls;
	if (!room(8))
		return;
	printf("epoll: target %d\n", target_new(EPOLL, epoll_create1(0), epolls++));
}

static uint32_t random_events(void)
{
	static const uint32_t some[] = {EPOLLIN,  EPOLLIN | EPOLLOUT, EPOLLOUT, EPOLLIN | EPOLLRDHUP, EPOLLPRI, EPOLLIN | EPOLLPRI | EPOLLRDHUP,
					EPOLLHUP, EPOLLRDNORM,	      0,	EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM};
	static const uint32_t how[] = {0, 0, 0, EPOLLET, EPOLLET, EPOLLONESHOT, EPOLLET | EPOLLONESHOT, EPOLLEXCLUSIVE};
	return some[pick(10)] | how[pick(8)];
}

static int ctl(int ep, int op, int fd)
{
	struct epoll_event ev = {.events = random_events(), .data.u64 = pick(5)};
	printf("[%x %u] ", ev.events, (unsigned)ev.data.u64);
	return epoll_ctl(ep, op, fd, &ev);
}

static void add_random(int ep, int fd)
{
	printf("early add: %s\n", said(ctl(ep, EPOLL_CTL_ADD, fd)));
}

static void step_ctl(void)
{
	static const int ops[] = {EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_MOD, EPOLL_CTL_DEL};
	int e = target_of(ONLY(EPOLL)), t = target_of(pick(5) ? ANY : ANY | ONLY(EPOLL)), op = ops[pick(6)];
	if (e < 0 || t < 0)
		return;
	printf("ctl %d on %d of %d ", op, e, t);
	printf("%s\n", said(ctl(targets[e].fd, op, targets[t].fd)));
}

static void step_wait(void)
{
	int e = target_of(ONLY(EPOLL));
	if (e < 0)
		return;
	printf("wait %d: ", e);
	wait_and_print(targets[e].fd);
}

/*
 * A few at a time: everybody is told within as many waits as there are, twice over. Each different event is printed
 * once.
 */
static void step_wait_narrow(void)
{
	struct epoll_event seen[2 * TARGETS * 2], ev[2];
	int e = target_of(ONLY(EPOLL)), n = 0, max = 1 + pick(2), r = 1;
	if (e < 0)
		return;
	for (int i = 0; i < 2 * TARGETS && r > 0; i++) {
		r = epoll_wait(targets[e].fd, ev, max, 0);
		for (int j = 0; j < r; j++) {
			int at = 0;
			while (at < n && by_data(&seen[at], &ev[j]))
				at++;
			seen[at] = ev[j];
			n += at == n;
		}
	}
	printf("waits of %d on %d:", max, e);
	print_events(seen, n);
}

static void step_poll(void)
{
	static const short some[] = {POLLIN, POLLOUT, POLLIN | POLLOUT, POLLPRI, POLLRDHUP, 0, POLLIN | POLLRDNORM | POLLRDHUP | POLLPRI};
	struct pollfd p[TARGETS + 4];
	int n = 0, of[TARGETS + 4];
	for (int i = 0; i < TARGETS; i++)
		if (targets[i].kind != NONE && pick(3))
			of[n] = i, p[n++] = (struct pollfd){targets[i].fd, some[pick(7)], 0x55};
	if (n && pick(2)) {
		of[n] = of[0], p[n] = p[0];
		p[n++].events = some[pick(7)];
	}
	if (pick(2))
		of[n] = -1, p[n++] = (struct pollfd){-1 - (int)pick(4), POLLIN, 0x55};
	if (pick(2))
		of[n] = 900, p[n++] = (struct pollfd){900, POLLIN, 0x55};
	printf("poll: %s", said(poll(p, n, 0)));
	for (int i = 0; i < n; i++)
		printf(" %d:%x", of[i], p[i].revents);
	putchar('\n');
}

static void step_select(void)
{
	fd_set in, out, ex;
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_ZERO(&ex);
	int max = 0;
	for (int i = 0; i < TARGETS; i++) {
		if (targets[i].kind == NONE)
			continue;
		int fd = targets[i].fd;
		if (pick(2))
			FD_SET(fd, &in);
		if (pick(2))
			FD_SET(fd, &out);
		if (pick(2))
			FD_SET(fd, &ex);
		max = fd > max ? fd : max;
	}
	if (pick(8) == 0)
		FD_SET(901, &in), max = 901;
	struct timeval none = {0, 0};
	printf("select: %s", said(select(max + 1, &in, &out, &ex, &none)));
	for (int i = 0; i < TARGETS; i++)
		if (targets[i].kind != NONE)
			printf(" %d:%d%d%d", i, !!FD_ISSET(targets[i].fd, &in), !!FD_ISSET(targets[i].fd, &out), !!FD_ISSET(targets[i].fd, &ex));
	putchar('\n');
}

static void step_option(void)
{
	int t = target_of(ONLY(CONN)), v = 1 + pick(200), err = 0;
	socklen_t len = sizeof err;
	if (t < 0)
		return;
	if (pick(2)) {
		printf("lowat %d of %d: %s\n", v, t, said(setsockopt(targets[t].fd, SOL_SOCKET, SO_RCVLOWAT, &v, sizeof v)));
	} else {
		int r = getsockopt(targets[t].fd, SOL_SOCKET, SO_ERROR, &err, &len);
		printf("error of %d: %s %d\n", t, said(r), err);
	}
}

static void (*const steps[])(void) = {step_accept, step_accept, step_connect, step_loopback, step_peer, step_peer, step_peer, step_peer,
				      step_read, step_read, step_fill, step_shutdown, step_pipe, step_pipe, step_new_pipe, step_dup, step_close,
				      step_new_epoll, step_ctl, step_ctl, step_ctl, step_ctl, step_ctl, step_ctl, step_wait, step_wait, step_wait,
				      step_wait, step_wait_narrow, step_poll, step_select, step_option};

static int run_main(const char *path, const char *ip, uint64_t seed, int n_steps)
{
	struct sockaddr_un u = control_address(path);
	peer_ip = ip;
	random_state = seed;
	control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(control, (struct sockaddr *)&u, sizeof u) < 0)
		die(path);
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	for (int k = 0; k < CONNS; k++)
		conns[k].fd = -1;
	target_new(LISTENER, listener(SERVER_PORT, SOCK_NONBLOCK), 0);
	step_new_epoll();
	step_new_epoll();
	step_new_pipe();
	for (step_no = 0; step_no < n_steps; step_no++) {
		printf("%d ", step_no);
		steps[pick(sizeof steps / sizeof *steps)]();
	}
	printf("# end\n");
	fprintf(stderr, "veth %d loopback %d\n", veth_conns, loopback_conns);
	return 0;
}

/* ---- other calls: ready_calls.c ---- */

void peer_sends(int s, int n)
{
	int before = 0;
	ioctl(s, FIONREAD, &before);
	peer('s', 0, n);
	until_count(s, FIONREAD, before + n);
}

static int calls_main(const char *path, const char *ip)
{
	struct sockaddr_un u = control_address(path);
	peer_ip = ip;
	control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(control, (struct sockaddr *)&u, sizeof u) < 0)
		die(path);
	int l = listener(SERVER_PORT, SOCK_NONBLOCK);
	peer('c', 0, 0);
	until(l, POLLIN);
	ready_calls(l, accept4(l, NULL, NULL, SOCK_NONBLOCK));
	fprintf(stderr, "veth 1 loopback 0\n");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "peer") == 0)
		peer_main(argv[2], argv[3]);
	if (argc >= 5 && strcmp(argv[1], "run") == 0)
		return run_main(argv[2], argv[3], strtoull(argv[4], NULL, 0), argc > 5 ? atoi(argv[5]) : 400);
	if (argc == 4 && strcmp(argv[1], "calls") == 0)
		return calls_main(argv[2], argv[3]);
	fprintf(stderr, "usage: ready_steps peer PATH SERVER-IP | run PATH PEER-IP SEED [STEPS]\n");
	return 2;
}
