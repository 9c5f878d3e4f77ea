/*
 * Walks the table of socket options: sets and reads each of them in every way on sockets in every state, and prints
 * what the calls gave. Run natively and under finesse, the output must be the same (options_test.sh).
 *
 *   options_walk peer                     holds the other ends of connections; ends with its standard input
 *   options_walk walk OWN PEER DEAD       addresses: of this host, of the peer's, and one that nobody has
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum type { INT, BYTE, TIMEVAL, LINGER, NAME, WIDE, BULK };

static const struct option {
	const char *text;
	int level, number;
	enum type type;
} options[] = {
#define OPTION(level, name, number, type, class, source, heritage) {#name, level, number, type},
#include "socket/options.def"
#undef OPTION
};
#define OPTIONS (sizeof options / sizeof options[0])

#define PORT_COMMANDS 7000
#define PORT_HOLD     7001 /* the peer keeps what it accepts here */
#define PORT_CLOSE    7002 /* the peer closes what it accepts here */
#define PORT_LISTEN   7100 /* … and above: listeners of the walk */
#define WAIT_MS       5000

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static socklen_t address(const char *text, int port, struct sockaddr_storage *out)
{
	struct sockaddr_in *v4 = (void *)out;
	struct sockaddr_in6 *v6 = (void *)out;
	memset(out, 0, sizeof *out);
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof *v4;
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1)
		die(text);
	return sizeof *v6;
}

static int socket_for(const char *text)
{
	return socket(strchr(text, ':') ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
}

static int listener(const char *text, int port)
{
	struct sockaddr_storage a;
	socklen_t len = address(text, port, &a);
	int fd = socket_for(text), on = 1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) || bind(fd, (void *)&a, len) || listen(fd, 64))
		die("listen");
	return fd;
}

/* -1: nobody answers, or refuses. */
static int try_connect(const char *text, int port)
{
	struct sockaddr_storage a;
	struct timeval bound = {.tv_sec = WAIT_MS / 1000};
	socklen_t len = address(text, port, &a);
	int fd = socket_for(text);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof bound);
	if (connect(fd, (void *)&a, len) == 0)
		return fd;
	close(fd);
	return -1;
}

static int connected(const char *text, int port)
{
	struct sockaddr_storage a;
	socklen_t len = address(text, port, &a);
	int fd = socket_for(text);
	if (connect(fd, (void *)&a, len))
		die("connect");
	return fd;
}

static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, WAIT_MS) == 1;
}

/* ---- the peer ---- */

struct command {
	char address[64];
	int port; /* 0: close all that is held */
};

static int held[4096], n_held;

static void hold(int fd)
{
	if (fd < 0 || n_held == 4096)
		die("hold");
	held[n_held++] = fd;
}

static void obey(int fd)
{
	struct command c;
	char answer = 'y';
	if (recv(fd, &c, sizeof c, MSG_WAITALL) != sizeof c)
		exit(0);
	if (c.port) {
		int to = try_connect(c.address, c.port);
		if (to < 0)
			answer = 'n';
		else if (send(to, "x", 1, 0) == 1)
			hold(to);
	} else {
		while (n_held)
			close(held[--n_held]);
	}
	if (send(fd, &answer, 1, 0) != 1)
		exit(0);
}

static int peer(void)
{
	struct pollfd p[5] = {{.fd = listener("::", PORT_COMMANDS)}, {.fd = listener("::", PORT_HOLD)}, {.fd = listener("::", PORT_CLOSE)}, {.fd = 0}, {.fd = -1}};
	for (int i = 0; i < 5; i++)
		p[i].events = POLLIN;
	puts("ready");
	fflush(stdout);
	for (;;) {
		if (poll(p, 5, -1) < 0)
			die("poll");
		if (p[0].revents) {
			close(p[4].fd);
			p[4].fd = accept(p[0].fd, NULL, NULL);
			continue;
		}
		if (p[1].revents)
			hold(accept(p[1].fd, NULL, NULL));
		if (p[2].revents)
			close(accept(p[2].fd, NULL, NULL));
		if (p[3].revents)
			return 0;
		if (p[4].revents)
			obey(p[4].fd);
	}
}

/* ---- the walk ---- */

static const char *own, *other, *dead;
static int commands, accepting;
static const char *state;

static bool command(int port)
{
	struct command c = {.port = port};
	char answer;
	strncpy(c.address, own, sizeof c.address - 1);
	if (send(commands, &c, sizeof c, 0) != sizeof c || recv(commands, &answer, 1, 0) != 1)
		die("the peer");
	return answer == 'y';
}

static int accepted_from(int lfd, int port)
{
	if (!command(port) || !readable(lfd))
		return -1;
	int fd = accept(lfd, NULL, NULL);
	if (fd < 0)
		die("accept");
	return fd;
}

static int connecting(void)
{
	struct sockaddr_storage a;
	socklen_t len = address(dead, PORT_HOLD, &a);
	int fd = socket_for(dead);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (!connect(fd, (void *)&a, len) || errno != EINPROGRESS)
		die("connect to nobody");
	return fd;
}

/* Both ends have closed, the fd is still open. */
static int closed(void)
{
	int fd = connected(other, PORT_CLOSE);
	char byte;
	if (!readable(fd) || recv(fd, &byte, 1, 0) != 0 || shutdown(fd, SHUT_WR))
		die("the peer's end of file");
	for (int i = 0; i < WAIT_MS; i++) {
		struct tcp_info info;
		socklen_t len = sizeof info;
		getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
		if (info.tcpi_state == TCP_CLOSE)
			return fd;
		poll(NULL, 0, 1);
	}
	die("never closed");
	return -1;
}

/* Values that are never the same twice, or tell of time, memory and processors: only that there is one is compared. */
static bool varies(const struct option *o)
{
	static const char *const names[] = {"SO_COOKIE", "SO_INCOMING_CPU", "SO_MEMINFO", "TCP_INFO", "TCP_TIMESTAMP", "SO_INCOMING_NAPI_ID", "SO_NETNS_COOKIE", "SO_PEERNAME", "IP_PROTOCOL"};
	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
		if (!strcmp(o->text, names[i]))
			return true;
	return false;
}

static void get(int fd, const struct option *o, int len)
{
	unsigned char value[512];
	memset(value, 0xee, sizeof value);
	socklen_t l = len;
	errno = 0;
	int r = getsockopt(fd, o->level, o->number, value, &l);
	printf("%s %s get %d: %s len %d", state, o->text, len, r ? strerrorname_np(errno) : "ok", (int)l);
	for (unsigned i = 0; !r && !varies(o) && i < l && i < 24; i++)
		printf("%s%02x", i % 4 ? "" : " ", value[i]);
	puts("");
}

static void set(int fd, const struct option *o, const void *value, int len, const char *text)
{
	errno = 0;
	int r = setsockopt(fd, o->level, o->number, value, len);
	printf("%s %s set %s len %d: %s\n", state, o->text, text, len, r ? strerrorname_np(errno) : "ok");
	get(fd, o, 16);
}

static void set_number(int fd, const struct option *o, int v, int len)
{
	int wide[8] = {v};
	char text[16];
	snprintf(text, sizeof text, "%d", v);
	set(fd, o, wide, len, text);
}

static void set_times(int fd, const struct option *o)
{
	static const struct timeval tv[] = {{1, 500000}, {0, 1}, {-1, 0}, {0, 1000000}, {0, 0}, {3, 7777}};
	for (unsigned i = 0; i < sizeof tv / sizeof tv[0]; i++)
		set(fd, o, &tv[i], sizeof tv[i], "a time");
	set(fd, o, &tv[0], 8, "a short time");
}

static void set_names(int fd, const struct option *o)
{
	static const char *const names[] = {"reno", "nosuch", "lo", ""};
	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
		set(fd, o, names[i], strlen(names[i]), names[i]);
}

static void set_all(int fd, const struct option *o)
{
	static const int numbers[] = {1, 0, -1, 2, 40, 200, 1000, 40000, 0x7fffffff};
	if (o->type == TIMEVAL)
		set_times(fd, o);
	if (o->type == NAME)
		set_names(fd, o);
	for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		set_number(fd, o, numbers[i], 4);
	if (o->type == LINGER)
		for (int i = 0; i < 4; i++) {
			static const struct linger lingers[] = {{0, 0}, {1, -5}, {1, 5}, {0, 10}};
			set(fd, o, &lingers[i], sizeof lingers[i], "a linger");
		}
	set_number(fd, o, 12, 1);
	set_number(fd, o, 13, 3);
	set_number(fd, o, 0, 0);
	set_number(fd, o, 1, -1);
	set_number(fd, o, 0, 16);
}

static void visit(int fd, const struct option *o)
{
	static const int lengths[] = {256, 4, 3, 1, 0, -1};
	for (unsigned i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
		get(fd, o, lengths[i]);
	if (strcmp(o->text, "TCP_REPAIR")) /* a socket in repair mode is nobody's */
		set_all(fd, o);
	close(fd);
}

/* One valid value, by type: 0 or -1 of setsockopt. */
static int set_one(int fd, const struct option *o, int v)
{
	switch (o->type) {
	case TIMEVAL:
		return setsockopt(fd, o->level, o->number, &(struct timeval){v, 0}, sizeof(struct timeval));
	case NAME:
		return setsockopt(fd, o->level, o->number, "reno", 4);
	case LINGER:
		return setsockopt(fd, o->level, o->number, &(struct linger){1, v}, sizeof(struct linger));
	case BULK:
		return -1;
	default:
		return setsockopt(fd, o->level, o->number, &v, sizeof v);
	}
}

/* What was set on a connection, it has when an option of the kernel's has made it the kernel's. */
static void handed_over(const struct option *o)
{
	static const int numbers[] = {1, 40, 4000};
	for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		int fd = i & 1 ? connected(other, PORT_HOLD) : accepted_from(accepting, PORT_LISTEN), mark = 0x77;
		if (set_one(fd, o, numbers[i]) == 0) {
			setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark);
			get(fd, o, 16);
		}
		close(fd);
	}
}

/* What a listener was told, its accepted sockets have. */
static void inherited(const struct option *o, int port)
{
	static const int numbers[] = {1, 40, 1000};
	for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		int lfd = listener(own, port);
		if (set_one(lfd, o, numbers[i]) == 0) {
			int fd = accepted_from(lfd, port);
			if (fd < 0)
				printf("%s %s %d: nobody came\n", state, o->text, numbers[i]);
			else
				get(fd, o, 16);
			close(fd);
		}
		close(lfd);
	}
}

static void never_waits(int fd)
{
	struct timeval below = {-1, 0};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &below, sizeof below);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &below, sizeof below);
}

static void say_wait(const char *what, long r)
{
	printf("time-outs below zero, %s: %s\n", what, r < 0 ? strerrorname_np(errno) : "ok");
}

/*
 * A time-out below zero, set before anything else: no call waits. It reads back as zero, which is for ever, so only the
 * calls tell.
 */
static void below_zero(void)
{
	struct sockaddr_storage a;
	socklen_t len = address(other, PORT_HOLD, &a);
	struct pollfd made = {.fd = socket_for(other), .events = POLLOUT};
	int lfd = socket_for(own), mark = 0x77;
	char c;
	alarm(WAIT_MS / 1000); /* what waits for ever */
	never_waits(made.fd);
	connect(made.fd, (void *)&a, len); /* who is quick may answer meanwhile */
	say_wait("poll", poll(&made, 1, -1));
	say_wait("recv", recv(made.fd, &c, 1, 0));
	len = address(own, PORT_LISTEN - 1, &a);
	setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &mark, sizeof mark);
	never_waits(lfd);
	say_wait("listen", bind(lfd, (void *)&a, len) || listen(lfd, 5) ? -1 : 0);
	say_wait("accept", accept(lfd, NULL, NULL));
	setsockopt(lfd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){WAIT_MS / 1000, 0}, sizeof(struct timeval));
	int fd = accepted_from(lfd, PORT_LISTEN - 1);
	never_waits(fd);
	say_wait("poll of an accepted one", readable(fd));
	say_wait("recv", recv(fd, &c, 1, 0));
	say_wait("recv of nothing", recv(fd, &c, 1, 0));
	setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark);
	say_wait("recv of one that is handed over", recv(fd, &c, 1, 0));
	close(fd);
	fd = socket_for(dead);
	len = address(dead, PORT_HOLD, &a);
	never_waits(fd);
	say_wait("connect to nobody", connect(fd, (void *)&a, len));
	say_wait("connect to nobody again", connect(fd, (void *)&a, len));
	alarm(0);
	close(fd);
	close(lfd);
	close(made.fd);
}

static int walk(void)
{
	commands = connected(other, PORT_COMMANDS);
	accepting = listener(own, PORT_LISTEN);
	for (unsigned i = 0; i < OPTIONS; i++) {
		const struct option *o = &options[i];
		state = "candidate";
		visit(socket_for(own), o);
		state = "listener";
		visit(listener(own, PORT_LISTEN + 1), o);
		state = "connecting";
		visit(connecting(), o);
		state = "connected";
		visit(connected(other, PORT_HOLD), o);
		state = "accepted";
		visit(accepted_from(accepting, PORT_LISTEN), o);
		state = "closed";
		visit(closed(), o);
		state = "handed-over";
		if (strcmp(o->text, "TCP_REPAIR"))
			handed_over(o);
		state = "inherited";
		if (o->type != BULK && strcmp(o->text, "TCP_REPAIR"))
			inherited(o, PORT_LISTEN + 2 + i);
		command(0);
	}
	below_zero();
	puts("end");
	return 0;
}

int main(int argc, char **argv)
{
	struct rlimit files = {4096, 4096};
	setrlimit(RLIMIT_NOFILE, &files);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 2 && !strcmp(argv[1], "peer"))
		return peer();
	if (argc != 5)
		return 2;
	own = argv[2];
	other = argv[3];
	dead = argv[4];
	return walk();
}
