/*
 * Ends: what every call says after a reset, a refusal, a time-out, a shutdown, a dissolved connection. ends_test.sh
 * runs it natively and under finesse over a veth and compares what it prints, which depends on neither time nor ports.
 *
 *     ends_walk peer SOCKET              the other host: the kernel's TCP, told what to do over a Unix socket
 *     ends_walk GROUP SOCKET PEER HOLE   the calls; HOLE is a neighbour that never answers
 */
#include "tests/net/ends_walk.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SETTLE_US   30000
#define HANG_S      20

const char *peer_ip, *hole_ip;
int slower = 1;
static FILE *peer;

struct sockaddr_in address(const char *ip, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

/* ---- calls, and what they say ---- */

void say(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	fflush(stdout);
}

static char bytes[64]; /* what was received */

void said(const char *what, long r)
{
	const char *e = r < 0 ? strerrorname_np(errno) : "";
	say("  %s: %ld %s\n", what, r, e);
}

static void hangs(int sig)
{
	static const char text[] = "  HANGS\n";
	(void)sig;
	if (write(1, text, sizeof text - 1) < 0)
		_exit(2);
	_exit(1);
}

/* The peer's segments come, a thread gets into its call. */
void settle(int times)
{
	usleep(times * slower * SETTLE_US);
}

void section(const char *name)
{
	alarm(HANG_S + 3 * slower);
	say("%s\n", name);
}

void tell(const char *format, ...)
{
	char line[128];
	va_list ap;
	va_start(ap, format);
	vsnprintf(line, sizeof line, format, ap);
	va_end(ap);
	fprintf(peer, "%s\n", line);
	if (!fgets(line, sizeof line, peer))
		_exit(3);
	if (strcmp(line, "ok\n"))
		say("  peer: %s", line);
	settle(1);
}

long receive(int fd, size_t n, int flags)
{
	memset(bytes, 0, sizeof bytes);
	long r = recv(fd, bytes, n, flags);
	if (r > 0)
		say("  '%s' ", bytes);
	return r;
}

int events(int fd)
{
	struct pollfd p = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
	poll(&p, 1, 0);
	return p.revents;
}

int error_of(int fd)
{
	int e = -1;
	socklen_t n = sizeof e;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n))
		return -1;
	return e;
}

int number(int fd, int level, int name)
{
	int v = -1;
	socklen_t n = sizeof v;
	return getsockopt(fd, level, name, &v, &n) ? -1 : v;
}

int connect_to(int fd, const char *ip, int port)
{
	struct sockaddr_in a = address(ip, port);
	return connect(fd, (struct sockaddr *)&a, sizeof a);
}

void set_blocking(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, on ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

int connected(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect_to(fd, peer_ip, PEER_PORT))
		said("connect", -1);
	tell("accept");
	return fd;
}

int listening(void)
{
	struct sockaddr_in a = address("0.0.0.0", OWN_PORT);
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 8))
		said("listen", -1);
	return fd;
}

/* ---- after a reset ---- */

static long by_receive(int fd)
{
	return receive(fd, 1, 0);
}

long by_send(int fd)
{
	return send(fd, "y", 1, MSG_NOSIGNAL);
}

static long by_nothing_sent(int fd)
{
	return write(fd, "", 0);
}

static long by_receiving_nothing(int fd)
{
	return receive(fd, 0, 0);
}

static long by_recvmmsg(int fd)
{
	struct iovec iov = {bytes, 4};
	struct mmsghdr m = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};
	return recvmmsg(fd, &m, 1, 0, NULL);
}

static long by_option(int fd)
{
	return error_of(fd);
}

static long by_peek(int fd)
{
	return receive(fd, 1, MSG_PEEK);
}

static long by_read(int fd)
{
	return read(fd, bytes, 1);
}

static long by_readv(int fd)
{
	struct iovec iov = {bytes, 4};
	return readv(fd, &iov, 1);
}

static long by_writev(int fd)
{
	struct iovec iov = {bytes, 4};
	return writev(fd, &iov, 1);
}

/* With every way to learn of it, each other way comes second, blocking and not. */
static void after_reset(const char *what, int (*make)(void))
{
	static long (*const ways[])(int) = {by_receive, by_send, by_nothing_sent, by_receiving_nothing, by_recvmmsg, by_option, by_peek};
	for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
		section(what);
		say("  way %u\n", i);
		int fd = make();
		SAY(events(fd));
		SAY(ways[i](fd));
		SAY(events(fd));
		for (int blocking = 0; blocking < 2; blocking++) {
			set_blocking(fd, blocking);
			SAY(by_receive(fd));
			SAY(by_receive(fd));
			SAY(by_peek(fd));
			SAY(receive(fd, 10, MSG_WAITALL));
			SAY(by_receiving_nothing(fd));
			SAY(by_send(fd));
			SAY(by_nothing_sent(fd));
			SAY(receive(fd, 1, MSG_OOB));
			SAY(error_of(fd));
			SAY(events(fd));
		}
		SAY(shutdown(fd, SHUT_WR));
		SAY(shutdown(fd, SHUT_RD));
		SAY(events(fd));
		SAY(by_receive(fd));
		close(fd);
	}
}

static int reset_quiet(void)
{
	int fd = connected();
	tell("reset");
	return fd;
}

static int reset_unread(void)
{
	int fd = connected();
	tell("send hello");
	tell("reset");
	return fd;
}

static int reset_after_fin(void)
{
	int fd = connected();
	tell("send hello");
	tell("fin");
	tell("reset");
	return fd;
}

static int reset_shut(void)
{
	int fd = connected();
	shutdown(fd, SHUT_WR);
	tell("reset");
	return fd;
}

/* Both directions are shut down, and the peer goes on sending: Linux resets. */
static int reset_by_data(void)
{
	int fd = connected();
	shutdown(fd, SHUT_RDWR);
	tell("send hello");
	tell("receive");
	tell("receive");
	return fd;
}

int refused(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	SAY(connect_to(fd, peer_ip, CLOSED_PORT));
	settle(1);
	set_blocking(fd, true);
	return fd;
}

static void resets(void)
{
	after_reset("reset", reset_quiet);
	after_reset("reset, data unread", reset_unread);
	after_reset("reset after a FIN", reset_after_fin);
	after_reset("reset after shutdown", reset_shut);
	after_reset("reset by data after shutdown", reset_by_data);
	after_reset("refused", refused);
}

/* ---- receiving what there is ---- */

static void *later(void *command)
{
	settle(2);
	tell("%s", (char *)command);
	return NULL;
}

/* `command` for the peer while the call blocks. */
static void receive_while(int fd, const char *command, size_t n, int flags)
{
	pthread_t t;
	alarm(HANG_S + 3 * slower);
	say(" %s, then recv(%zu, %#x)\n", command, n, flags);
	pthread_create(&t, NULL, later, (void *)command);
	long r = receive(fd, n, flags);
	int e = errno;
	pthread_join(t, NULL);
	errno = e;
	said("recv", r);
}

static void partial(void)
{
	static const int ways[] = {MSG_WAITALL, MSG_PEEK | MSG_WAITALL, MSG_TRUNC | MSG_WAITALL, MSG_PEEK, 0};
	static const char *const news[] = {"send worldworld", "fin", "reset"}; /* at least SO_RCVLOWAT: Linux wakes nobody for less */
	struct timeval brief = {.tv_usec = 100000}, never = {0};
	int lowat = 8;
	for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++)
		for (unsigned j = 0; j < 3; j++) {
			section("some is there");
			int fd = connected();
			tell("send hello");
			if (!(ways[i] & MSG_WAITALL))
				SAY(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof lowat));
			receive_while(fd, news[j], 10, ways[i]);
			setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief);
			SAY(receive(fd, 20, ways[i]));
			SAY(receive(fd, 20, MSG_DONTWAIT));
			SAY(receive(fd, 20, MSG_WAITALL));
			setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never);
			close(fd);
		}
	for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
		section("a FIN is behind it");
		int fd = connected();
		tell("send hello");
		tell("fin");
		SAY(receive(fd, 10, ways[i]));
		SAY(receive(fd, 10, ways[i]));
		close(fd);
	}
}

/* Linux's splice does not heed SO_RCVLOWAT, blocking or not. */
static void spliced(void)
{
	char b[5];
	int lowat = 8, pipe_fds[2];
	for (int blocking = 0; blocking < 2; blocking++) {
		section("splice of less than SO_RCVLOWAT");
		int fd = connected();
		SAY(pipe(pipe_fds));
		tell("send hello");
		SAY(recv(fd, b, 5, MSG_PEEK | MSG_WAITALL));
		SAY(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof lowat));
		set_blocking(fd, blocking);
		SAY(splice(fd, NULL, pipe_fds[1], NULL, 100, 0));
		SAY(read(pipe_fds[0], b, 5));
		close(fd);
		close(pipe_fds[0]);
		close(pipe_fds[1]);
	}
}

static void urgent(void)
{
	static const int ways[] = {0, MSG_PEEK, MSG_WAITALL, MSG_PEEK | MSG_WAITALL, MSG_TRUNC, MSG_OOB, MSG_OOB | MSG_PEEK};
	int one = 1;
	for (int in_line = 0; in_line < 2; in_line++)
		for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
			section(in_line ? "urgent, in line" : "urgent");
			say("  flags %#x\n", ways[i]);
			int fd = connected(), mark = 0;
			if (in_line)
				setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one);
			tell("send ab");
			tell("urgent c");
			tell("send de");
			set_blocking(fd, false);
			for (int j = 0; j < 4; j++) {
				SAY(receive(fd, 4, ways[i]));
				SAY(ioctl(fd, SIOCATMARK, &mark));
				SAY(mark);
				SAY(events(fd));
			}
			SAY(receive(fd, 1, MSG_OOB));
			SAY(receive(fd, 9, 0));
			SAY(receive(fd, 9, 0));
			SAY(receive(fd, 1, MSG_OOB));
			close(fd);
			tell("receive");
		}
	section("urgent alone");
	int fd = connected();
	tell("urgent c");
	set_blocking(fd, false);
	SAY(receive(fd, 4, 0));
	SAY(receive(fd, 1, MSG_OOB));
	close(fd);
	tell("receive");
	fd = connected();
	tell("urgent c");
	close(fd);
	tell("receive");
}

static void receives(void)
{
	partial();
	spliced();
	urgent();
}

/* ---- names ---- */

int peer_name(int fd)
{
	struct sockaddr_in a;
	socklen_t n = sizeof a;
	return getpeername(fd, (struct sockaddr *)&a, &n);
}

static int own_address(int fd)
{
	struct sockaddr_in a = {0};
	socklen_t n = sizeof a;
	char text[INET_ADDRSTRLEN];
	int r = getsockname(fd, (struct sockaddr *)&a, &n);
	say("  %s%s", inet_ntop(AF_INET, &a.sin_addr, text, sizeof text), ntohs(a.sin_port) == OWN_PORT ? " own port" : "");
	return r;
}

void describe(int fd)
{
	SAY(events(fd));
	SAY(number(fd, SOL_SOCKET, SO_ACCEPTCONN));
	SAY(peer_name(fd));
	SAY(own_address(fd));
	SAY(error_of(fd));
	SAY(events(fd));
}

int accepted(int l, const char *then)
{
	tell("connect %s %d", "10.78.0.2", OWN_PORT);
	if (then)
		tell("%s", then);
	return accept(l, NULL, NULL);
}

static void names(void)
{
	static const char *const news[] = {NULL, "send hello", "fin", "reset"};
	for (unsigned i = 0; i < 4; i++) {
		section(news[i] ? news[i] : "nothing");
		int l = listening(), fd = accepted(l, news[i]);
		describe(fd);
		close(fd);
		fd = accepted(l, NULL);
		SAY(peer_name(fd));
		if (news[i])
			tell("%s", news[i]);
		describe(fd);
		SAY(shutdown(fd, SHUT_RDWR));
		tell("fin");
		describe(fd); /* in TIME-WAIT, or over */
		close(fd);
		close(l);
		fd = connected();
		if (news[i])
			tell("%s", news[i]);
		SAY(peer_name(fd));
		close(fd);
	}
}

/* ---- listeners ---- */

static void *accepts(void *arg)
{
	int fd = *(int *)arg;
	int r = accept(fd, NULL, NULL);
	return (void *)(long)(r < 0 ? -errno : r);
}

int unspecified(int fd)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	return connect(fd, &none, sizeof none);
}

long end_listening(int l, int how)
{
	return how > SHUT_RDWR ? unspecified(l) : shutdown(l, how);
}

static void listener(int how, bool blocking)
{
	pthread_t t[2];
	struct epoll_event ev = {.events = EPOLLIN}, got = {0};
	int l = listening(), ep = epoll_create1(0), copy = dup(l);
	set_blocking(l, blocking);
	epoll_ctl(ep, EPOLL_CTL_ADD, copy, &ev);
	int waiting = how == SHUT_WR || !blocking ? 0 : how > SHUT_RDWR ? 1 : 2; /* dissolving wakes one only, in Linux */
	for (int i = 0; i < waiting; i++)
		pthread_create(&t[i], NULL, accepts, &l);
	settle(1);
	SAY(end_listening(l, how));
	for (int i = 0; i < waiting; i++) {
		void *r;
		pthread_join(t[i], &r);
		say("  accept: %s\n", (long)r < 0 ? strerrorname_np(-(long)r) : "a connection");
	}
	SAY(epoll_wait(ep, &got, 1, 0));
	SAY(got.events);
	describe(l);
	if (how != SHUT_WR)
		SAY(accept(copy, NULL, NULL));
	SAY(receive(l, 1, 0));
	SAY(by_send(l));
	tell("connect %s %d", "10.78.0.2", OWN_PORT);
	if (how == SHUT_WR || (how == SHUT_RDWR && blocking)) /* twice: then it stays with the kernel */
		SAY(shutdown(l, SHUT_RD));
	SAY(listen(l, 4));
	SAY(number(copy, SOL_SOCKET, SO_ACCEPTCONN));
	SAY(events(copy));
	int fd = accepted(copy, "send again");
	SAY(receive(fd, 9, 0));
	got.events = 0;
	tell("connect %s %d", "10.78.0.2", OWN_PORT);
	SAY(epoll_wait(ep, &got, 1, 1000));
	SAY(got.events);
	close(copy);
	close(l);
	tell("connect %s %d", "10.78.0.2", OWN_PORT);
	close(fd);
	close(ep);
}

static void listeners(void)
{
	for (int how = SHUT_RD; how <= SHUT_RDWR + 1; how++)
		for (int blocking = 0; blocking < 2; blocking++) {
			section("listener");
			say("  way %d, %s\n", how, blocking ? "blocking" : "not blocking");
			listener(how, blocking);
		}
}

/* ---- after a time-out ---- */

/* What nobody asked for before the connection was dissolved is told after it: once, by whoever asks first. */
static void expired(void)
{
	static long (*const ask[])(int) = {by_option, by_receive, by_receiving_nothing, by_peek, by_recvmmsg, by_send, by_nothing_sent, by_read, by_readv, by_writev};
	enum { WAYS = sizeof ask / sizeof *ask };
	struct pollfd p[WAYS + 1];
	int once = 1, over = 0;
	for (int i = 0; i <= WAYS; i++) {
		p[i] = (struct pollfd){connecting(), POLLHUP, 0};
		setsockopt(p[i].fd, IPPROTO_TCP, TCP_SYNCNT, &once, sizeof once);
		connect_to(p[i].fd, hole_ip, 80);
	}
	alarm(2 * (HANG_S + 3 * slower));
	for (; over <= WAYS; over++)
		poll(&p[over], 1, -1);
	for (int i = 0; i < WAYS; i++) {
		section("timed out, and dissolved");
		say("  way %d\n", i);
		SAY(unspecified(p[i].fd));
		SAY(events(p[i].fd));
		SAY(ask[i](p[i].fd));
		SAY(events(p[i].fd));
		SAY(error_of(p[i].fd));
		SAY(by_send(p[i].fd));
		close(p[i].fd);
	}
	section("timed out, dissolved, connected anew");
	SAY(unspecified(p[WAYS].fd));
	set_blocking(p[WAYS].fd, true);
	SAY(connect_to(p[WAYS].fd, peer_ip, PEER_PORT));
	tell("accept");
	SAY(error_of(p[WAYS].fd));
	tell("reset");
	SAY(by_receive(p[WAYS].fd));
	close(p[WAYS].fd);
}

/* ---- closing by several processes ---- */

static void wait_for_child(pid_t pid, const char *who)
{
	int status = -1;
	waitpid(pid, &status, 0);
	say("  %s: %s\n", who, WIFEXITED(status) && !WEXITSTATUS(status) ? "done" : "failed");
}

/*
 * A child is the last to close what lingers; another one uses a connection that it inherited, and must not wait for
 * that.
 */
static void last_closed_by_a_child(void)
{
	static char block[65536];
	struct linger on = {1, 10 + 2 * slower};
	struct timespec from, to;
	int lingering = connected();
	tell("keep");
	set_blocking(lingering, false);
	for (int quiet = 0; quiet < 3; quiet++, settle(1))
		while (send(lingering, block, sizeof block, 0) > 0)
			quiet = 0;
	set_blocking(lingering, true);
	SAY(setsockopt(lingering, SOL_SOCKET, SO_LINGER, &on, sizeof on));
	int used = connected();
	pid_t closes = fork();
	if (!closes) {
		settle(2);
		close(lingering);
		_exit(0);
	}
	pid_t uses = fork();
	if (!uses) {
		close(lingering);
		settle(5);
		clock_gettime(CLOCK_MONOTONIC, &from);
		ssize_t n = send(used, "y", 1, MSG_NOSIGNAL);
		clock_gettime(CLOCK_MONOTONIC, &to);
		_exit(n != 1 || (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000 > (5 + slower) * 1000);
	}
	SAY(close(lingering));
	wait_for_child(uses, "the child that sends");
	tell("receive");
	kill(closes, SIGKILL);
	waitpid(closes, NULL, 0);
	close(used);
}

static void closes(void)
{
	section("the last close is a child's");
	last_closed_by_a_child();
}

static const struct {
	const char *name;
	void (*run)(void);
} groups[] = {
	{"resets", resets},
	{"receives", receives},
	{"names", names},
	{"listeners", listeners},
	{"connects", connects_ended},
	{"expired", expired},
	{"reconnects", reconnects},
	{"closes", closes},
};

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "peer"))
		return be_peer(argv[2]);
	if (argc != 5)
		return 2;
	signal(SIGALRM, hangs);
	signal(SIGPIPE, SIG_IGN);
	peer_ip = argv[3];
	hole_ip = argv[4];
	struct sockaddr_un name = socket_name(argv[2]);
	int control = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(control, (struct sockaddr *)&name, sizeof name))
		return perror("control"), 2;
	peer = fdopen(control, "r+");
	setbuf(peer, NULL);
	if (getenv("ENDS_SLOWER"))
		slower = atoi(getenv("ENDS_SLOWER"));
	tell("slower %d", slower);
	for (unsigned i = 0; i < sizeof groups / sizeof *groups; i++)
		if (!strcmp(groups[i].name, argv[1])) {
			groups[i].run();
			say("end\n");
			return 0;
		}
	return 2;
}
