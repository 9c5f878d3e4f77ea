/*
 * A process that is stopped and goes on (SIGSTOP, SIGCONT) has run no handler, and some calls end with EINTR all the
 * same: man 7 signal, "Interruption of system calls and library functions by stop signals". And one whose users or
 * groups are set, by another thread: libc has each thread do it in a handler of its own, with SA_RESTART.
 *
 * stopped ADDRESS PORT: each call in a child of its own, to which either happens while it waits. Prints what the call
 * gave, or "goes on". The peer accepts, sends one byte, and reads nothing. Nobody answers at SILENT. A call of which
 * `calls` says otherwise has UNLIKE at the end of its line.
 *
 * It happens when all of the child's threads sleep and none has run for SETTLED_MS. A call that is to end is waited for
 * as long as BOUND_S.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define SILENT       "10.77.0.9"
#define SETTLED_MS   20
#define QUIET_ROUNDS 30 /* nothing was taken: in three times as long as TCP waits at least before it sends again */
#define QUIET_US     20000
#define GOES_ON_MS   300 /* a call that is to go on has not ended by then */
#define BOUND_S      20
#define LONG_S       60
#define GOES_ON      "goes on"
#define UNLIKE       ", unlike the table"
#define SET_AND_WAITS 100

static struct sockaddr_in peer, silent;
static int conn, listener, fresh, epoll, pair[2];
static char buf[1 << 22];

static void timeout(int fd, int name)
{
	struct timeval tv = {.tv_sec = LONG_S};
	setsockopt(fd, SOL_SOCKET, name, &tv, sizeof tv);
}

static ssize_t by_recv(void) { return recv(conn, buf, 1, 0); }
static ssize_t by_recv_timeout(void) { timeout(conn, SO_RCVTIMEO); return recv(conn, buf, 1, 0); }
static ssize_t by_read_timeout(void) { timeout(conn, SO_RCVTIMEO); return read(conn, buf, 1); }
static ssize_t by_peek_timeout(void) { timeout(conn, SO_RCVTIMEO); return recv(conn, buf, 1, MSG_PEEK); }

static ssize_t by_recvmmsg(void)
{
	struct iovec iov = {.iov_base = buf, .iov_len = 1};
	struct mmsghdr m = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};
	struct timespec ts = {.tv_sec = LONG_S};
	return recvmmsg(conn, &m, 1, 0, &ts);
}

static ssize_t by_send(void) { return send(conn, buf, sizeof buf, 0) > 0; }

/* The queues of both ends are full and stay so. */
static void fill_up(void)
{
	for (int quiet = 0; quiet < QUIET_ROUNDS; quiet++) {
		while (send(conn, buf, sizeof buf, MSG_DONTWAIT) > 0)
			quiet = 0;
		usleep(QUIET_US);
	}
}

static ssize_t by_send_one(void) { return send(conn, buf, 1, 0); }
static ssize_t by_send_timeout(void) { timeout(conn, SO_SNDTIMEO); return by_send_one(); }
static ssize_t by_writev_timeout(void)
{
	struct iovec iov = {.iov_base = buf, .iov_len = 1};
	timeout(conn, SO_SNDTIMEO);
	return writev(conn, &iov, 1);
}
static ssize_t by_accept(void) { return accept(listener, NULL, NULL); }
static ssize_t by_accept_timeout(void) { timeout(listener, SO_RCVTIMEO); return accept(listener, NULL, NULL); }
static ssize_t by_connect(void) { return connect(fresh, (struct sockaddr *)&silent, sizeof silent); }
static ssize_t by_connect_timeout(void) { timeout(fresh, SO_SNDTIMEO); return by_connect(); }

static ssize_t by_linger(void)
{
	struct linger l = {.l_onoff = 1, .l_linger = LONG_S};
	setsockopt(conn, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	return close(conn);
}

static ssize_t by_poll(void)
{
	struct pollfd p = {.fd = conn, .events = POLLIN};
	return poll(&p, 1, LONG_S * 1000);
}

static ssize_t by_poll_ever(void)
{
	struct pollfd p = {.fd = conn, .events = POLLIN};
	return poll(&p, 1, -1);
}

static ssize_t by_ppoll(void)
{
	struct pollfd p = {.fd = conn, .events = POLLIN};
	struct timespec ts = {.tv_sec = LONG_S};
	sigset_t none;
	sigemptyset(&none);
	return ppoll(&p, 1, &ts, &none);
}

static ssize_t by_select(void)
{
	struct timeval tv = {.tv_sec = LONG_S};
	fd_set set;
	FD_ZERO(&set);
	FD_SET(conn, &set);
	return select(conn + 1, &set, NULL, NULL, &tv);
}

static ssize_t by_epoll_ever(void)
{
	struct epoll_event ev;
	return epoll_wait(epoll, &ev, 1, -1);
}

static ssize_t by_epoll(void)
{
	struct epoll_event ev;
	return epoll_wait(epoll, &ev, 1, LONG_S * 1000);
}

static ssize_t by_epoll_pwait(void)
{
	struct epoll_event ev;
	sigset_t none;
	sigemptyset(&none);
	return epoll_pwait(epoll, &ev, 1, -1, &none);
}

static ssize_t by_epoll_pwait2(void)
{
	struct epoll_event ev;
	struct timespec ts = {.tv_sec = LONG_S};
	return epoll_pwait2(epoll, &ev, 1, &ts, NULL);
}

static ssize_t by_epoll_and_kernel(void)
{
	struct epoll_event ev = {.events = EPOLLIN};
	epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &ev);
	return by_epoll_ever();
}

static ssize_t by_poll_of_epoll(void)
{
	struct pollfd p = {.fd = epoll, .events = POLLIN};
	return poll(&p, 1, -1);
}

static void *lead(void *arg)
{
	by_recv();
	return arg;
}

/* Another thread waits already, and is asleep before this one calls: under finesse it leads. */
static void led(void)
{
	pthread_t t;
	pthread_create(&t, NULL, lead, NULL);
	usleep(50000);
}

static ssize_t by_part(void) /* the peer's byte is there, and three more are wanted */
{
	return recv(conn, buf, 4, MSG_WAITALL);
}

struct call {
	const char *name;
	void (*before)(void); /* or NULL */
	ssize_t (*call)(void);
	enum { NEVER, AT_HANDLER, AT_BOTH } ends; /* AT_HANDLER: at one with SA_RESTART, and at no stop */
	bool with_byte;
};

/* What happens to the process while the call waits. */
enum event { STOP, SETXID, EVENTS };
static const char *const events[] = {"stopped", "groups set"};

static const struct call calls[] = {
	{"recv", NULL, by_recv, NEVER, false},
	{"recv, SO_RCVTIMEO", NULL, by_recv_timeout, AT_BOTH, false},
	{"read, SO_RCVTIMEO", NULL, by_read_timeout, AT_BOTH, false},
	{"recv of MSG_PEEK, SO_RCVTIMEO", NULL, by_peek_timeout, AT_BOTH, false},
	{"recv of MSG_WAITALL with a part", NULL, by_part, AT_BOTH, true},
	{"recvmmsg with a time", NULL, by_recvmmsg, NEVER, false},
	{"send with a part", NULL, by_send, AT_BOTH, false},
	{"send", fill_up, by_send_one, NEVER, false},
	{"send, SO_SNDTIMEO", fill_up, by_send_timeout, AT_BOTH, false},
	{"writev, SO_SNDTIMEO", fill_up, by_writev_timeout, AT_BOTH, false},
	{"accept", NULL, by_accept, NEVER, false},
	{"accept, SO_RCVTIMEO", NULL, by_accept_timeout, AT_BOTH, false},
	{"connect", NULL, by_connect, NEVER, false},
	{"connect, SO_SNDTIMEO", NULL, by_connect_timeout, AT_BOTH, false},
	{"close, SO_LINGER", fill_up, by_linger, AT_BOTH, false},
	{"poll", NULL, by_poll, AT_HANDLER, false},
	{"poll for ever", NULL, by_poll_ever, AT_HANDLER, false},
	{"ppoll", NULL, by_ppoll, AT_HANDLER, false},
	{"select", NULL, by_select, AT_HANDLER, false},
	{"epoll_wait for ever", NULL, by_epoll_ever, AT_BOTH, false},
	{"epoll_wait", NULL, by_epoll, AT_BOTH, false},
	{"epoll_pwait", NULL, by_epoll_pwait, AT_BOTH, false},
	{"epoll_pwait2", NULL, by_epoll_pwait2, AT_BOTH, false},
	{"epoll_wait with a kernel socket", NULL, by_epoll_and_kernel, AT_BOTH, false},
	{"poll of an epoll", NULL, by_poll_of_epoll, AT_HANDLER, false},
	{"epoll_wait beside another wait", led, by_epoll_ever, AT_BOTH, false},
	{"recv beside another wait", led, by_recv, NEVER, false},
	{"accept, SO_RCVTIMEO, beside another wait", led, by_accept_timeout, AT_BOTH, false},
};

static void prepare(const struct call *c)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	struct epoll_event ev = {.events = EPOLLIN};
	const int buffer = 64 * 1024; /* fixed: it does not grow while it is filled */
	conn = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(conn, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	fresh = socket(AF_INET, SOCK_STREAM, 0);
	epoll = epoll_create1(0);
	if (connect(conn, (struct sockaddr *)&peer, sizeof peer) || recv(conn, buf, 1, MSG_PEEK) != 1) {
		perror("connect");
		_exit(1);
	}
	if (!c->with_byte)
		recv(conn, buf, 1, 0);
	if (bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 5) || epoll_ctl(epoll, EPOLL_CTL_ADD, conn, &ev) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) {
		perror("prepare");
		_exit(1);
	}
}

/* How often the child's threads have run, or -1: one is not asleep. */
static long asleep(pid_t child)
{
	char path[300], line[200];
	long switches = 0;
	snprintf(path, sizeof path, "/proc/%d/task", child);
	DIR *tasks = opendir(path);
	if (!tasks)
		return -1;
	for (struct dirent *d; switches >= 0 && (d = readdir(tasks));) {
		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "/proc/%d/task/%s/status", child, d->d_name);
		FILE *f = fopen(path, "r");
		char state = 0;
		unsigned long n;
		while (f && fgets(line, sizeof line, f)) {
			sscanf(line, "State: %c", &state);
			if (sscanf(line, "voluntary_ctxt_switches: %lu", &n) == 1 || sscanf(line, "nonvoluntary_ctxt_switches: %lu", &n) == 1)
				switches += (long)n;
		}
		if (f)
			fclose(f);
		if (state != 'S')
			switches = -1;
	}
	closedir(tasks);
	return switches;
}

/* False: the call has ended. */
static bool wait_settled(pid_t child, struct pollfd *ended)
{
	long before = -1;
	while (poll(ended, 1, SETTLED_MS) == 0) {
		long now = asleep(child);
		if (now >= 0 && now == before)
			return true;
		before = now;
	}
	return false;
}

/* libc tells each other thread by a signal, whose handler is its own. */
static void *set_groups(void *go)
{
	char byte;
	if (read(*(int *)go, &byte, 1) == 1 && setgid(getgid()))
		perror("setgid");
	return NULL;
}

static void in_child(const struct call *c, int began, int said, int go)
{
	char line[100];
	pthread_t t;
	prepare(c);
	if (c->before)
		c->before();
	pthread_create(&t, NULL, set_groups, &go);
	if (write(began, "", 1) != 1)
		_exit(1);
	ssize_t r = c->call();
	int error = errno;
	snprintf(line, sizeof line, "%zd", r);
	if (r < 0)
		snprintf(line, sizeof line, "%s", strerrorname_np(error));
	_exit(write(said, line, strlen(line)) < 0);
}

static void cause(enum event event, pid_t child, int go)
{
	int status;
	if (event == SETXID) {
		if (write(go, "", 1) != 1)
			perror("write");
		return;
	}
	kill(child, SIGSTOP);
	waitpid(child, &status, WUNTRACED);
	kill(child, SIGCONT);
}

static void try_call(const struct call *c, enum event event)
{
	int said[2], began[2], go[2], status;
	bool ends = c->ends == AT_BOTH || (c->ends == AT_HANDLER && event == SETXID);
	char line[100] = "";
	if (pipe(said) || pipe(began) || pipe(go))
		return;
	pid_t child = fork();
	if (child == 0)
		in_child(c, began[1], said[1], go[0]);
	close(said[1]);
	close(began[1]);
	struct pollfd ended = {.fd = said[0], .events = POLLIN};
	if (read(began[0], line, 1) == 1) {
		bool waits = wait_settled(child, &ended);
		cause(event, child, go[1]);
		if (!waits)
			strcpy(line, "did not wait");
		else if (poll(&ended, 1, ends ? BOUND_S * 1000 : GOES_ON_MS) <= 0)
			strcpy(line, GOES_ON);
		else
			line[read(said[0], line, sizeof line - 1)] = 0;
	}
	printf("%s, %s: %s%s\n", c->name, events[event], line, ends == (strcmp(line, GOES_ON) != 0) ? "" : UNLIKE);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	close(said[0]);
	close(began[0]);
	close(go[0]);
	close(go[1]);
}

/* A thread that sets its groups, to what they are, and then waits: the signals were the others'. */
static void set_and_wait(void)
{
	struct timeval tv = {.tv_usec = 2000};
	prepare(&calls[0]);
	setsockopt(conn, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	int ended = 0;
	for (int i = 0; i < SET_AND_WAITS; i++) {
		if (setgid(getgid()) || setgroups(0, NULL) || seteuid(geteuid()))
			perror("setgid");
		ended += recv(conn, buf, 1, 0) == -1 && errno == EAGAIN;
	}
	printf("groups set, then recv, SO_RCVTIMEO: %d of %d ended by it\n", ended, SET_AND_WAITS);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	peer = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
	inet_pton(AF_INET, argv[1], &peer.sin_addr);
	silent = peer;
	inet_pton(AF_INET, SILENT, &silent.sin_addr);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < EVENTS * sizeof calls / sizeof *calls; i++)
		if (argc < 4 || strcmp(argv[3], calls[i / EVENTS].name) == 0)
			try_call(&calls[i / EVENTS], i % EVENTS);
	set_and_wait();
	return 0;
}
