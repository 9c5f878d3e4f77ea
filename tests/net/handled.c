/*
 * A handler that interrupts a waiting call does something to the call's socket, and opens its port again: natively and
 * under finesse the same comes of it.
 *
 *     handled OWN_ADDRESS ADDRESS PORT SILENT_ADDRESS RESETTING_PORT
 *
 * Linux's call has let go of the socket before the handler runs. So a port is free again when the handler has closed
 * its socket; and a call that starts again (SA_RESTART) looks at the number anew. At ADDRESS somebody listens, who
 * neither says nor reads anything. Nobody answers at SILENT_ADDRESS. Who accepts at RESETTING_PORT resets the
 * connection on the first byte: what comes of the network while a handler runs is not lost.
 *
 * A parent sends the signal when the call is asleep. If it sleeps again, the parent sends another signal, whose handler
 * does nothing and has no SA_RESTART. Prints a line for each case: what the handler saw, what the call said, and
 * whether one signal was enough (a send may find room between two).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/task.h"

#define ASLEEP     20 /* looks, a millisecond apart */
#define OWN_PORT   21890
#define SMALL      4096
#define COUNT(a)   (sizeof(a) / sizeof *(a))

static struct shared {
	volatile int calls; /* that have begun */
	volatile bool waits;
} *shared;

static struct sockaddr_in own, peer, silent, resetting;
static int fd, signals;
static char saw[100];

enum what { LISTENER, CONNECTION, CONNECTING };

/* ---- the sockets ---- */

static int opened(enum what what)
{
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), size = SMALL;
	setsockopt(s, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
	setsockopt(s, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	const char *failed = bind(s, (void *)&own, sizeof own)						     ? "bind"
			     : what == LISTENER && listen(s, 5)						     ? "listen"
			     : what == CONNECTION && connect(s, (void *)&peer, sizeof peer) && errno != EINPROGRESS ? "connect"
															 : NULL;
	snprintf(saw, sizeof saw, failed ? "%s %s" : "free", failed, strerrorname_np(errno));
	return s;
}

/* ---- the calls ---- */

static long do_accept(void)
{
	return accept(fd, NULL, NULL);
}

static long do_recv(void)
{
	char c;
	return recv(fd, &c, 1, 0);
}

static long do_recv_timed(void)
{
	char c;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){100, 0}, sizeof(struct timeval));
	return recv(fd, &c, 1, 0);
}

static long do_read_all(void)
{
	char c[2];
	return recv(fd, c, sizeof c, MSG_WAITALL);
}

static long do_send(void)
{
	static char much[SMALL];
	while (send(fd, much, sizeof much, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
	long r;
	while ((r = send(fd, "x", 1, MSG_NOSIGNAL)) == 1)
		;
	return r;
}

static long do_connect(void)
{
	return connect(fd, (void *)&silent, sizeof silent);
}

static long do_poll(void)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, -1);
}

static long do_ppoll(void)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	sigset_t none;
	sigemptyset(&none);
	return ppoll(&p, 1, NULL, &none);
}

static long do_select(void)
{
	fd_set in;
	FD_ZERO(&in);
	FD_SET(fd, &in);
	return select(fd + 1, &in, NULL, NULL, NULL);
}

static long do_epoll(void)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int ep = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	long r = epoll_wait(ep, &ev, 1, -1);
	int error = errno;
	close(ep);
	errno = error;
	return r;
}

static const struct call {
	const char *name;
	enum what what;
	long (*act)(void);
} calls[] = {
	{"accept", LISTENER, do_accept}, {"poll", LISTENER, do_poll}, {"ppoll", LISTENER, do_ppoll}, {"select", LISTENER, do_select}, {"epoll_wait", LISTENER, do_epoll},
	{"recv", CONNECTION, do_recv}, {"recv with a time", CONNECTION, do_recv_timed}, {"recv of all", CONNECTION, do_read_all}, {"send", CONNECTION, do_send},
	{"poll of a connection", CONNECTION, do_poll}, {"select of a connection", CONNECTION, do_select}, {"epoll_wait for a connection", CONNECTION, do_epoll},
	{"connect", CONNECTING, do_connect},
};

/* ---- what the handler does ---- */

static enum what what_now;

static void do_nothing(void)
{
	int n = dup(STDIN_FILENO);
	snprintf(saw, sizeof saw, "the lowest number is %s", n == fd + 1 ? "the next one" : "another one");
	close(n);
}

static void do_close(void)
{
	close(fd);
}

static void do_anew(void)
{
	int before = fd;
	close(fd);
	fd = opened(what_now);
	if (fd != before)
		strcat(saw, ", another number");
}

static void do_over(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, fd);
	close(null);
	close(opened(what_now));
}

static void do_elsewhere(void)
{
	int s = dup(fd);
	close(fd);
	close(opened(what_now));
	close(s);
	snprintf(saw + strlen(saw), sizeof saw - strlen(saw), ", then ");
	size_t n = strlen(saw);
	char before[sizeof saw];
	memcpy(before, saw, n + 1);
	close(opened(what_now));
	char after[sizeof saw];
	strcpy(after, saw);
	snprintf(saw, sizeof saw, "%.40s%.40s", before, after);
}

static void do_shutdown(void)
{
	int r = shutdown(fd, SHUT_RDWR);
	snprintf(saw, sizeof saw, "%s", r ? strerrorname_np(errno) : "ok");
}

static void do_get_reset(void)
{
	struct tcp_info info = {0};
	socklen_t size = sizeof info;
	send(fd, "x", 1, MSG_NOSIGNAL);
	while (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state != TCP_CLOSE)
		usleep(1000);
	snprintf(saw, sizeof saw, "the reset");
}

static const struct deed {
	const char *name;
	void (*act)(void);
} deeds[] = {{"nothing", do_nothing}, {"close", do_close}, {"close and open", do_anew}, {"dup2 over it", do_over}, {"copy and close", do_elsewhere}, {"shutdown", do_shutdown}};

static const struct deed get_reset = {"have it reset", do_get_reset};
static const struct deed *deed;

static void on_first(int sig)
{
	int error = errno;
	(void)sig;
	signals++;
	deed->act();
	errno = error;
}

static void on_second(int sig)
{
	(void)sig;
	signals++;
}

/* ---- */

static void trial(const struct call *c, const struct deed *d, bool restart)
{
	sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_first, .sa_flags = restart ? SA_RESTART : 0}, NULL);
	deed = d;
	what_now = c->what;
	signals = 0;
	fd = opened(c->what);
	if (strcmp(saw, "free"))
		printf("not begun: %s\n", saw);
	saw[0] = 0;
	shared->calls++;
	shared->waits = true;
	long r = c->act();
	int error = errno;
	shared->waits = false;
	printf("%s, %s%s: the handler saw %s; %s after %s\n", c->name, d->name, restart ? ", SA_RESTART" : "", saw[0] ? saw : "nothing",
	       r < 0 ? strerrorname_np(error) : r ? "one" : "none", signals > 1 ? "more" : "a signal");
	if (d == &get_reset) {
		r = do_recv();
		printf("… and the next one: %s\n", r < 0 ? strerrorname_np(errno) : r ? "one" : "none");
	}
	if (r > 0 && c->act == do_accept)
		close(r);
	close(fd);
}

static void child(void)
{
	sigaction(SIGUSR2, &(struct sigaction){.sa_handler = on_second}, NULL);
	for (unsigned i = 0; i < COUNT(calls); i++)
		for (unsigned k = 0; k < COUNT(deeds); k++)
			for (int restart = 0; restart < 2; restart++)
				trial(&calls[i], &deeds[k], restart);
	peer = resetting;
	for (unsigned i = 0; i < COUNT(calls); i++)
		for (int restart = 0; restart < 2 && calls[i].what == CONNECTION && calls[i].act != do_send; restart++)
			trial(&calls[i], &get_reset, restart);
	printf("done\n");
	exit(0);
}

/* A signal whenever the child sleeps in a call. */
static int watch(pid_t pid)
{
	int status, of = 0;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		int call = shared->calls, looks = 0;
		while (looks < ASLEEP && shared->waits && shared->calls == call && task_state(pid, pid) == 'S') {
			looks++;
			usleep(1000);
		}
		if (looks < ASLEEP) {
			usleep(1000);
			continue;
		}
		kill(pid, of == call ? SIGUSR2 : SIGUSR1);
		of = call;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static struct sockaddr_in address(const char *ip, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

int main(int argc, char **argv)
{
	if (argc < 6)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	own = address(argv[1], OWN_PORT);
	peer = address(argv[2], atoi(argv[3]));
	silent = address(argv[4], atoi(argv[3]));
	resetting = address(argv[2], atoi(argv[5]));
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 2;
	pid_t pid = fork();
	if (pid == 0)
		child();
	return pid < 0 ? 2 : watch(pid);
}
