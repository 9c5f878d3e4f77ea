/*
 * A process that is stopped and goes on (SIGSTOP, SIGCONT) has run no handler, and some calls end with EINTR all the same: man 7 signal, "Interruption of system
 * calls and library functions by stop signals".
 *
 * stopped ADDRESS PORT: each call in a child of its own, which is stopped and continued while it waits. Prints what the call gave, or "goes on". The peer accepts,
 * sends one byte, and reads nothing. Nobody answers at SILENT. A call of which `calls` says otherwise has UNLIKE at the end of its line.
 *
 * The child is stopped when all of its threads sleep and none has run for SETTLED_MS. A call that is to end is waited for as long as BOUND_S.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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
	bool ends, with_byte;
};

static const struct call calls[] = {
	{"recv", NULL, by_recv, false, false},
	{"recv, SO_RCVTIMEO", NULL, by_recv_timeout, true, false},
	{"read, SO_RCVTIMEO", NULL, by_read_timeout, true, false},
	{"recv of MSG_PEEK, SO_RCVTIMEO", NULL, by_peek_timeout, true, false},
	{"recv of MSG_WAITALL with a part", NULL, by_part, true, true},
	{"recvmmsg with a time", NULL, by_recvmmsg, false, false},
	{"send with a part", NULL, by_send, true, false},
	{"send", fill_up, by_send_one, false, false},
	{"send, SO_SNDTIMEO", fill_up, by_send_timeout, true, false},
	{"writev, SO_SNDTIMEO", fill_up, by_writev_timeout, true, false},
	{"accept", NULL, by_accept, false, false},
	{"accept, SO_RCVTIMEO", NULL, by_accept_timeout, true, false},
	{"connect", NULL, by_connect, false, false},
	{"connect, SO_SNDTIMEO", NULL, by_connect_timeout, true, false},
	{"close, SO_LINGER", fill_up, by_linger, true, false},
	{"poll", NULL, by_poll, false, false},
	{"poll for ever", NULL, by_poll_ever, false, false},
	{"ppoll", NULL, by_ppoll, false, false},
	{"select", NULL, by_select, false, false},
	{"epoll_wait for ever", NULL, by_epoll_ever, true, false},
	{"epoll_wait", NULL, by_epoll, true, false},
	{"epoll_pwait", NULL, by_epoll_pwait, true, false},
	{"epoll_pwait2", NULL, by_epoll_pwait2, true, false},
	{"epoll_wait with a kernel socket", NULL, by_epoll_and_kernel, true, false},
	{"poll of an epoll", NULL, by_poll_of_epoll, false, false},
	{"epoll_wait beside another wait", led, by_epoll_ever, true, false},
	{"recv beside another wait", led, by_recv, false, false},
	{"accept, SO_RCVTIMEO, beside another wait", led, by_accept_timeout, true, false},
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

static void in_child(const struct call *c, int began, int said)
{
	char line[100];
	prepare(c);
	if (c->before)
		c->before();
	if (write(began, "", 1) != 1)
		_exit(1);
	ssize_t r = c->call();
	int error = errno;
	snprintf(line, sizeof line, "%zd", r);
	if (r < 0)
		snprintf(line, sizeof line, "%s", strerrorname_np(error));
	_exit(write(said, line, strlen(line)) < 0);
}

static void try_call(const struct call *c)
{
	int said[2], began[2], status;
	char line[100] = "";
	if (pipe(said) || pipe(began))
		return;
	pid_t child = fork();
	if (child == 0)
		in_child(c, began[1], said[1]);
	close(said[1]);
	close(began[1]);
	struct pollfd ended = {.fd = said[0], .events = POLLIN};
	if (read(began[0], line, 1) == 1) {
		bool waits = wait_settled(child, &ended);
		kill(child, SIGSTOP);
		waitpid(child, &status, WUNTRACED);
		kill(child, SIGCONT);
		if (!waits)
			strcpy(line, "did not wait");
		else if (poll(&ended, 1, c->ends ? BOUND_S * 1000 : GOES_ON_MS) <= 0)
			strcpy(line, GOES_ON);
		else
			line[read(said[0], line, sizeof line - 1)] = 0;
	}
	printf("%s: %s%s\n", c->name, line, c->ends == (strcmp(line, GOES_ON) != 0) ? "" : UNLIKE);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	close(said[0]);
	close(began[0]);
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
	for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++)
		if (argc < 4 || strcmp(argv[3], calls[i].name) == 0)
			try_call(&calls[i]);
	return 0;
}
