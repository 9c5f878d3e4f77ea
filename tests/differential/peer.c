/*
 * The peer: kernel TCP, obeys one subject over each control connection. Its own waits have bounds; what it sees is told
 * when nothing has come for QUIET_MS.
 */
#include "differential.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define QUIET_MS   5
#define SEE_MS     60  /* for all that it sees */
#define ACKED_MS   80  /* until what it sent is acknowledged */
#define CONNECT_S  2
#define APART_US   4000 /* who waits sees the one before the other comes */

const char *const ending_names[END_COUNT] = {"none", "data", "data+fin", "fin", "rst", "data+rst", "fin+rst", "oob", "oob+data", "big", "big+fin",
					     "full", "full+rst", "~data", "~fin", "~rst", "~data+fin"};

struct peer {
	int control, listener[2], conn; /* conn -1: none, or reset */
	bool reset, reading;
};

static const char *addresses[2], *subjects[2]; /* v4, v6 */

int address_of(const char *v4, const char *v6, int family, unsigned port, struct sockaddr_storage *a)
{
	memset(a, 0, sizeof *a);
	if (family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)a;
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		inet_pton(AF_INET, v4, &in->sin_addr);
		return sizeof *in;
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)a;
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(port);
	inet_pton(AF_INET6, v6, &in6->sin6_addr);
	return sizeof *in6;
}

static unsigned port_of(const struct sockaddr_storage *a)
{
	return ntohs(a->ss_family == AF_INET ? ((const struct sockaddr_in *)a)->sin_port : ((const struct sockaddr_in6 *)a)->sin6_port);
}

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void bounds(int fd)
{
	struct timeval t = {.tv_sec = CONNECT_S};
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
}

/* Both families on one port, so that one number names the peer. */
static int listen_on(int i, unsigned *port)
{
	struct sockaddr_storage a;
	int family = i ? AF_INET6 : AF_INET, fd = socket(family, SOCK_STREAM, 0);
	socklen_t n = address_of(addresses[0], addresses[1], family, *port, &a);
	bounds(fd);
	if (bind(fd, (struct sockaddr *)&a, n) < 0 || listen(fd, 64) < 0 || getsockname(fd, (struct sockaddr *)&a, &n) < 0) {
		close(fd);
		return -1;
	}
	*port = port_of(&a);
	return fd;
}

static void listen_both(struct peer *p, unsigned *port)
{
	for (int tries = 0; tries < 100; tries++) {
		*port = 0;
		p->listener[0] = listen_on(0, port);
		p->listener[1] = p->listener[0] < 0 ? -1 : listen_on(1, port);
		if (p->listener[1] >= 0)
			return;
		close(p->listener[0]);
	}
	fprintf(stderr, "peer: no port is free in both families\n");
	_exit(1);
}

static void drop(struct peer *p)
{
	struct linger now = {1, 0};
	if (p->conn < 0)
		return;
	setsockopt(p->conn, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(p->conn);
	p->conn = -1;
}

static void fresh(struct peer *p, int conn)
{
	int one = 1;
	drop(p);
	p->conn = conn;
	p->reset = false;
	p->reading = true;
	setsockopt(conn, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	bounds(conn);
}

static int waiting(struct peer *p, int bound_ms);

/* Nothing of this case is left for the next. */
static void clear(struct peer *p)
{
	do
		drop(p);
	while ((p->conn = waiting(p, 0)) >= 0);
	p->reset = false;
}

static int accept_one(struct peer *p, int family, unsigned *port)
{
	struct sockaddr_storage a;
	socklen_t n = sizeof a;
	int fd = accept(p->listener[family == AF_INET6], (struct sockaddr *)&a, &n);
	if (fd < 0)
		return -errno;
	fresh(p, fd);
	*port = port_of(&a);
	return 0;
}

static int connect_to(struct peer *p, int family, unsigned *port)
{
	struct sockaddr_storage a;
	int fd = socket(family, SOCK_STREAM, 0);
	socklen_t n = address_of(subjects[0], subjects[1], family, *port, &a);
	bounds(fd);
	if (connect(fd, (struct sockaddr *)&a, n) < 0) {
		int e = errno;
		close(fd);
		return -e;
	}
	n = sizeof a;
	getsockname(fd, (struct sockaddr *)&a, &n);
	fresh(p, fd);
	*port = port_of(&a);
	return 0;
}

static void say(struct peer *p, const void *bytes, size_t n, int flags)
{
	if (send(p->conn, bytes, n, MSG_NOSIGNAL | flags) < 0)
		(void)0; /* the subject may have shut down or reset: that is what it asked for */
}

/* What was sent has arrived: in the subject's buffers, not only on its way. */
static void await_acked(struct peer *p)
{
	int64_t end = now_ms() + ACKED_MS;
	while (p->conn >= 0 && now_ms() < end) {
		struct tcp_info i;
		socklen_t n = sizeof i;
		if (getsockopt(p->conn, IPPROTO_TCP, TCP_INFO, &i, &n) < 0 || i.tcpi_unacked == 0 || i.tcpi_state == TCP_CLOSE)
			return;
		usleep(300);
	}
}

static void end_now(struct peer *p, enum ending e)
{
	static char big[BIG_BYTES];
	bool fin = e == END_DATA_FIN || e == END_FIN || e == END_FIN_RST || e == END_BIG_FIN || e == END_FIN_LATER || e == END_DATA_FIN_LATER;
	for (unsigned i = 0; i < sizeof big; i++)
		big[i] = 'A' + i % 26;
	if (e == END_DATA || e == END_DATA_FIN || e == END_DATA_RST || e == END_DATA_LATER || e == END_DATA_FIN_LATER)
		say(p, "hello", 5, 0);
	if (e == END_OOB || e == END_OOB_DATA)
		say(p, "abc", 3, MSG_OOB);
	if (e == END_OOB_DATA)
		say(p, "de", 2, 0);
	if (e == END_BIG || e == END_BIG_FIN)
		say(p, big, sizeof big, 0);
	if (e == END_DATA_FIN_LATER)
		usleep(APART_US);
	if (fin)
		shutdown(p->conn, SHUT_WR);
	await_acked(p);
	if (e == END_RST || e == END_DATA_RST || e == END_FIN_RST || e == END_RST_LATER || e == END_FULL_RST) {
		drop(p);
		p->reset = true;
	}
	if (e == END_FULL)
		p->reading = false;
}

static void see_connection(struct peer *p, char *text, size_t room)
{
	unsigned hash = 2166136261u, n = 0, urgent = 0;
	const char *last = "open";
	int64_t end = now_ms() + SEE_MS;
	if (p->conn < 0) {
		snprintf(text, room, "%s", p->reset ? "gone" : "none");
		return;
	}
	struct pollfd f = {p->conn, p->reading ? POLLIN | POLLPRI : 0, 0};
	while (poll(&f, 1, QUIET_MS) > 0 && now_ms() < end) {
		unsigned char buffer[65536], c;
		if (!p->reading) {
			last = f.revents & (POLLERR | POLLHUP) ? "rst" : "open";
			break;
		}
		if (f.revents & POLLPRI && recv(p->conn, &c, 1, MSG_OOB | MSG_DONTWAIT) == 1)
			urgent++;
		ssize_t got = recv(p->conn, buffer, sizeof buffer, MSG_DONTWAIT);
		for (ssize_t i = 0; i < got; i++)
			hash = (hash ^ buffer[i]) * 16777619u;
		n += got > 0 ? got : 0;
		if (got > 0 || (got < 0 && errno == EAGAIN))
			continue;
		last = got == 0 ? "eof" : errno == ECONNRESET ? "rst" : strerrorname_np(errno);
		break;
	}
	snprintf(text, room, "%u:%08x%s %s", n, n ? hash : 0, urgent ? "!" : "", last);
}

static int waiting(struct peer *p, int bound_ms)
{
	struct pollfd f[2] = {{p->listener[0], POLLIN, 0}, {p->listener[1], POLLIN, 0}};
	if (poll(f, 2, bound_ms) < 1)
		return -1;
	return accept(f[0].revents ? f[0].fd : f[1].fd, NULL, NULL);
}

/* The connection, and one more if a call made it: within `bound_ms`. */
static void see(struct peer *p, int bound_ms, char *text, size_t room)
{
	see_connection(p, text, room);
	int fd = waiting(p, bound_ms);
	if (fd < 0)
		return;
	fresh(p, fd);
	size_t n = strlen(text);
	n += snprintf(text + n, room - n, ", new: ");
	see_connection(p, text + n, room - n);
}

static void serve(struct peer *p)
{
	struct peer_request q;
	unsigned port = 0;
	listen_both(p, &port);
	while (recv(p->control, &q, sizeof q, 0) == sizeof q) {
		struct peer_reply a = {.port = q.op == PEER_HELLO ? port : q.port};
		bool later = q.op == PEER_END && q.arg >= END_DATA_LATER;
		if (q.op == PEER_ACCEPT)
			a.result = accept_one(p, q.family, &a.port);
		else if (q.op == PEER_CONNECT)
			a.result = connect_to(p, q.family, &a.port);
		else if (q.op == PEER_END && !later && p->conn >= 0)
			end_now(p, q.arg);
		else if (q.op == PEER_SEE)
			see(p, q.arg, a.text, sizeof a.text);
		else if (q.op == PEER_DROP)
			clear(p);
		if (send(p->control, &a, sizeof a, MSG_NOSIGNAL) < 0)
			return;
		if (later && p->conn >= 0) {
			usleep(LATER_US);
			end_now(p, q.arg);
		}
	}
}

/* A process for each control connection; it ends with the connection. */
int peer_main(const char *path, const char *v4, const char *v6, const char *subject_v4, const char *subject_v6)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int l = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
	addresses[0] = v4, addresses[1] = v6, subjects[0] = subject_v4, subjects[1] = subject_v6;
	signal(SIGCHLD, SIG_IGN);
	if (l < 0 || bind(l, (struct sockaddr *)&un, sizeof un) < 0 || listen(l, 256) < 0) {
		perror("peer: control");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct peer p = {.conn = -1, .control = accept(l, NULL, NULL)};
		pid_t child = p.control < 0 ? 1 : fork();
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(l);
			serve(&p);
			_exit(0);
		}
		close(p.control);
	}
}
