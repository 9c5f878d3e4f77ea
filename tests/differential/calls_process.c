/*
 * Two processes: a child of fork, or what it executes, does something with the socket that it inherited; then the
 * parent looks. With ".alone" the parent has closed its own number before, with ".late" the peer acts between the two.
 */
#include "differential.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_S 3	 /* the child is ended by then */
#define CHILD_TEXT 1000

enum deed {
	NOTHING,
	READS,
	PEEKS,
	WRITES,
	CLOSES,
	SHUTS_RD,
	SHUTS_WR,
	SHUTS,
	POLLS,
	EPOLLS,
	LOOKS,
	DUPS,
	DISSOLVES,
	LINGERS,
	SETS,
	NONBLOCKS,
	ACCEPTS,
	PASSES,
	PASSES_READ, /* the parent's end of it is read by the parent */
	FORKS,
	EXECS,
	SPAWNS_READER,
	ASKS_QUEUE,
	READS_ALL,
	N_DEEDS
};
static const char *const deed_names[N_DEEDS] = {"nothing", "recv",   "peek",   "send",	"close",  "shut.rd", "shut.wr", "shut.rdwr",   "poll", "epoll", "look",     "dup",
						"unspec",  "linger", "nodelay", "nonblock", "accept", "pass",    "passed",  "fork", "exec", "reader", "fionread", "recv.twice"};

/* As the parent's, written to a pipe. */
static void say_bytes(struct run *r, long n, const char *b)
{
	if (n > 0)
		out_bytes(r, b, n);
}

static void reads(struct run *r, int flags)
{
	char b[8];
	say_bytes(r, CALL(r, "recv", recv(r->fd, b, 3, flags | MSG_DONTWAIT)), b);
}

static void looks(struct run *r)
{
	struct sockaddr_storage a;
	socklen_t n = sizeof a;
	int e = -1, v = 0;
	CALL(r, "getpeername", getpeername(r->fd, (struct sockaddr *)&a, &n));
	n = sizeof e;
	CALL(r, "error", getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &e, &n));
	n = sizeof v;
	CALL(r, "nodelay", getsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &v, &n));
	out(r, " %d %d fl=%x", e, !!v, fcntl(r->fd, F_GETFL));
}

static void polls(struct run *r)
{
	struct pollfd p = {r->fd, POLLIN | POLLOUT | POLLRDHUP, 0};
	CALL(r, "poll", poll(&p, 1, 0));
	out(r, " %04x", (unsigned)(unsigned short)p.revents);
}

static void epolls(struct run *r)
{
	struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP}, got = {0};
	int ep = epoll_create1(EPOLL_CLOEXEC);
	CALL(r, "add", epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &e));
	CALL(r, "epoll", epoll_wait(ep, &got, 1, 0));
	out(r, " %04x", got.events);
	close(ep);
}

static void passes(struct run *r, int channel)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {"f", 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	control.h = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(&control.h), &r->fd, sizeof(int));
	CALL(r, "sendmsg", sendmsg(channel, &m, 0));
}

static int passed(int channel)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	char b;
	struct iovec iov = {&b, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	int fd = -1;
	if (recvmsg(channel, &m, MSG_DONTWAIT) == 1 && m.msg_controllen >= CMSG_LEN(sizeof fd))
		memcpy(&fd, CMSG_DATA(&control.h), sizeof fd);
	return fd;
}

static void executes(struct run *r, const char *script)
{
	char command[80];
	snprintf(command, sizeof command, script, r->fd, r->fd);
	fcntl(r->fd, F_SETFD, 0);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
}

static void child_does(struct run *r, enum deed deed, int channel)
{
	struct linger now = {1, 0};
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	int one = 1, fd, queued = -1;
	switch (deed) {
	case READS_ALL:
		reads(r, 0);
		/* fall through */
	case READS:
		reads(r, 0);
		break;
	case PEEKS:
		reads(r, MSG_PEEK);
		break;
	case WRITES:
		CALL(r, "send", send(r->fd, "child", 5, MSG_DONTWAIT | MSG_NOSIGNAL));
		break;
	case CLOSES:
		CALL(r, "close", close(r->fd));
		break;
	case SHUTS_RD:
	case SHUTS_WR:
	case SHUTS:
		CALL(r, "shutdown", shutdown(r->fd, deed - SHUTS_RD));
		break;
	case POLLS:
		polls(r);
		break;
	case EPOLLS:
		epolls(r);
		break;
	case LOOKS:
		looks(r);
		break;
	case DUPS:
		fd = dup(r->fd);
		close(r->fd);
		r->fd = fd;
		reads(r, 0);
		break;
	case DISSOLVES:
		CALL(r, "unspec", connect(r->fd, &none, sizeof none));
		break;
	case LINGERS:
		CALL(r, "linger", setsockopt(r->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
		CALL(r, "close", close(r->fd));
		break;
	case SETS:
		CALL(r, "nodelay", setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
		break;
	case NONBLOCKS:
		CALL(r, "nonblock", fcntl(r->fd, F_SETFL, fcntl(r->fd, F_GETFL) ^ O_NONBLOCK));
		break;
	case ACCEPTS:
		fcntl(r->fd, F_SETFL, fcntl(r->fd, F_GETFL) | O_NONBLOCK);
		fd = FD_CALL(r, "accept", accept(r->fd, NULL, NULL));
		if (fd >= 0)
			CALL(r, "send", send(fd, "welcome", 7, MSG_NOSIGNAL));
		break;
	case PASSES:
	case PASSES_READ:
		passes(r, channel);
		break;
	case FORKS:
		if (fork() == 0) {
			send(r->fd, "grandchild", 10, MSG_DONTWAIT | MSG_NOSIGNAL);
			_exit(0);
		}
		wait(NULL);
		reads(r, 0);
		break;
	case EXECS:
		executes(r, "echo executed >&%d");
		break;
	case SPAWNS_READER:
		if (fork() == 0)
			executes(r, "head -c 3 <&%d >/dev/null");
		wait(NULL);
		break;
	case ASKS_QUEUE:
		CALL(r, "fionread", ioctl(r->fd, FIONREAD, &queued));
		out(r, " %d", queued);
		break;
	default:
		break;
	}
}

_Noreturn static void be_child(struct run *r, enum deed deed, int report, int channel)
{
	static char text[TEXT_MAX];
	struct run own = *r;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	calls_are_untimed = true; /* it may have an engine to bring up */
	own.text = text;
	own.used = 0;
	leave_listeners();
	if (deed == EXECS || deed == SPAWNS_READER)
		fcntl(own.fd, F_SETFL, fcntl(own.fd, F_GETFL) | O_NONBLOCK); /* never for ever */
	child_does(&own, deed, channel);
	if (write(report, text, own.used) < 0)
		_exit(1);
	_exit(0);
}

/* What the child wrote; it is over by then, or is ended. */
static void await_child(struct run *r, pid_t child, int report)
{
	char text[CHILD_TEXT];
	int status = 0;
	struct pollfd p = {report, POLLIN, 0};
	bool over = poll(&p, 1, CHILD_S * 1000) == 1;
	ssize_t n = over ? read(report, text, sizeof text) : 0;
	if (!over)
		kill(child, SIGKILL);
	waitpid(child, &status, 0);
	out(r, " | {%.*s }", (int)(n > 0 ? n : 0), text);
	if (!over)
		out(r, " HANGS");
	else if (status)
		out(r, " status %x", status);
}

enum { ALONE = 1, LATE = 2 };

static void parent_looks(struct run *r)
{
	reads(r, 0);
	polls(r);
	looks(r);
	CALL(r, "send", send(r->fd, "parent", 6, MSG_DONTWAIT | MSG_NOSIGNAL));
}

static void call_process(struct run *r, long deed, long how)
{
	int report[2], channel[2], fd;
	if (pipe2(report, O_CLOEXEC) < 0 || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, channel) < 0)
		give_up(r, "pipe");
	pid_t child = fork();
	if (child == 0) {
		if (how == ALONE)
			settle(), settle();
		close(report[0]);
		be_child(r, deed, report[1], channel[1]);
	}
	close(report[1]);
	if (how == ALONE)
		CALL(r, "close", close(r->fd));
	await_child(r, child, report[0]);
	if (how == LATE && r->peer_has)
		peer_does(r, PEER_END, END_DATA, 0), settle();
	fd = deed == PASSES_READ ? passed(channel[0]) : -1;
	if (fd >= 0) {
		if (how == ALONE)
			r->fd = fd;
		else
			close(fd);
	} else if (how == ALONE) {
		r->fd = -1;
	}
	if (r->fd >= 0)
		parent_looks(r);
	close(report[0]), close(channel[0]), close(channel[1]);
}

struct call_table process_calls;

__attribute__((constructor)) static void make_calls(void)
{
	static const char *const hows[] = {"", ".alone", ".late"};
	struct call *calls = calloc(3 * N_DEEDS, sizeof *calls);
	unsigned n = 0;
	for (int d = 0; d < N_DEEDS; d++)
		for (int how = 0; how <= LATE; how++) {
			char *name;
			if (asprintf(&name, "child.%s%s", deed_names[d], hows[how]) < 0)
				exit(99);
			calls[n++] = (struct call){name, call_process, d, how, CALL_PROCESS};
		}
	process_calls = (struct call_table){calls, n};
}
