/*
 * Two threads: one is blocked in a call on the socket while the other one does something to it, or the peer does. Every
 * blocking call × everything that may end it or must not. What does not end within OVER_MS is "blocked", and is then
 * ended by a signal; what it says then counts, too.
 */
#include "differential.h"
#include "tests/task.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#define OVER_MS	 40
#define ASLEEP_MS 50 /* until it sleeps in its call */

enum way {
	RECV,
	RECV_WAITALL,
	RECV_PEEK,
	RECV_PEEK_WAITALL,
	READV,
	RECVMMSG,
	SPLICE,
	SEND,
	WRITE,
	SENDFILE,
	SENDMMSG,
	ACCEPT,
	CONNECT,
	POLL,
	POLL_HANGUP,
	SELECT,
	EPOLL,
	EPOLL_ET,
	N_WAYS
};
static const char *const way_names[N_WAYS] = {"recv",  "recv.waitall", "recv.peek", "recv.peek.waitall", "readv", "recvmmsg", "splice",
					      "send",  "write",        "sendfile",  "sendmmsg",          "accept", "connect", "poll",
					      "poll.hup", "select",   "epoll",     "epoll.et"};

enum act {
	CLOSE,
	CLOSE_DATA, /* … and then the peer sends */
	DUP_CLOSE_DATA,
	DUP2_OVER,
	DUP2_OVER_DATA,
	SHUT_RD_,
	SHUT_WR_,
	SHUT_RDWR_,
	DISSOLVE,
	NONBLOCK,
	TIMEOUT,
	LOWAT,
	LINGER_CLOSE,
	SIGNAL,
	SIGNAL_RESTART,
	DATA_SIGNAL_RESTART, /* the peer sends, and then */
	CANCEL,
	CANCEL_DATA,
	LISTEN_,
	BIND_,
	CONNECT_AGAIN,
	SEND_,
	TAKE, /* the peer sends, and the other thread, too, receives: not blocking, after the blocked one */
	PEER_DATA,
	PEER_FIN,
	PEER_RST,
	PEER_DATA_FIN,
	PEER_DATA_RST,
	PEER_OOB,
	PEER_CLIENT, /* the peer connects */
	PEER_TWO,
	N_ACTS
};
static const char *const act_names[N_ACTS] = {
    "close",  "close-data",	"dup-close-data", "dup2",   "dup2-data", "shut.rd",      "shut.wr", "shut.rdwr", "unspec",   "nonblock",
    "rcvtimeo", "lowat",	"linger-close",   "signal", "signal.sa", "data-signal.sa", "cancel",       "cancel-data", "listen", "bind",     "connect",
    "send",   "take",	"data",		  "fin",    "rst",	 "data+fin",     "data+rst", "oob",      "client",   "client2",
};

struct blocked {
	struct run *r;
	enum way way;
	int fd, ep, pipe[2], file;
	volatile pid_t tid;
	volatile bool over;
	long result;
	int error;
	char bytes[64]; /* what came */
	unsigned events;
};

static void on_signal(int number)
{
}

static long blocks(struct blocked *b)
{
	static char big[8 << 20];
	struct pollfd p = {b->fd, b->way == POLL_HANGUP ? POLLRDHUP : POLLIN | POLLRDHUP, 0};
	struct iovec iov[2] = {{b->bytes, 3}, {b->bytes + 3, 5}};
	struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = iov, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = iov + 1, .msg_iovlen = 1}}};
	struct iovec most = {big, sizeof big};
	struct mmsghdr bigs[2] = {{.msg_hdr = {.msg_iov = &most, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = &most, .msg_iovlen = 1}}};
	struct epoll_event e = {0};
	fd_set in;
	long n;
	switch (b->way) {
	case RECV:
		return recv(b->fd, b->bytes, 8, 0);
	case RECV_WAITALL:
		return recv(b->fd, b->bytes, 8, MSG_WAITALL);
	case RECV_PEEK:
		return recv(b->fd, b->bytes, 8, MSG_PEEK);
	case RECV_PEEK_WAITALL:
		return recv(b->fd, b->bytes, 8, MSG_PEEK | MSG_WAITALL);
	case READV:
		return readv(b->fd, iov, 2);
	case RECVMMSG:
		return recvmmsg(b->fd, m, 2, 0, NULL);
	case SPLICE:
		return splice(b->fd, NULL, b->pipe[1], NULL, 8, 0);
	case SEND:
		n = send(b->fd, big, sizeof big, MSG_NOSIGNAL);
		return n > 0 ? 1 : n; /* how much found room depends on buffers */
	case WRITE:
		n = write(b->fd, big, sizeof big);
		return n > 0 ? 1 : n;
	case SENDFILE:
		n = sendfile(b->fd, b->file, NULL, sizeof big);
		return n > 0 ? 1 : n;
	case SENDMMSG:
		n = sendmmsg(b->fd, bigs, 2, MSG_NOSIGNAL);
		return n > 0 ? 1 : n;
	case ACCEPT:
		n = accept(b->fd, NULL, NULL);
		if (n >= 0)
			close(n);
		return n < 0 ? n : 0;
	case CONNECT:
		return connect(b->fd, (struct sockaddr *)&b->r->peer_address, b->r->address_length);
	case POLL:
	case POLL_HANGUP:
		n = poll(&p, 1, -1);
		b->events = (unsigned short)p.revents;
		return n;
	case SELECT:
		FD_ZERO(&in);
		FD_SET(b->fd, &in);
		n = select(b->fd + 1, &in, NULL, NULL, NULL);
		b->events = n > 0 && FD_ISSET(b->fd, &in);
		return n;
	case EPOLL:
	case EPOLL_ET:
		n = epoll_wait(b->ep, &e, 1, -1);
		b->events = e.events;
		return n;
	default:
		return 0;
	}
}

static void *blocked_thread(void *arg)
{
	struct blocked *b = arg;
	b->tid = syscall(SYS_gettid);
	errno = 0;
	long n = blocks(b);
	b->error = errno;
	b->result = n;
	b->over = true;
	return NULL;
}

/* It sleeps: in its call, most likely. */
static void await_asleep(struct blocked *b)
{
	for (int i = 0; i < ASLEEP_MS && !b->over; i++) {
		usleep(1000);
		if (i && b->tid && task_state(getpid(), b->tid) == 'S')
			return;
	}
}

static bool await_over(struct blocked *b)
{
	for (int i = 0; i < OVER_MS && !b->over; i++)
		usleep(1000);
	return b->over;
}

static void peer_ends(struct run *r, enum ending e)
{
	if (r->peer_has)
		peer_does(r, PEER_END, e, 0);
}

static void client(struct run *r)
{
	if (r->own_port && !r->peer_port)
		peer_does(r, PEER_CONNECT, 0, r->own_port);
}

static void signalled(pthread_t t, int flags)
{
	struct sigaction a = {.sa_handler = on_signal, .sa_flags = flags};
	sigaction(SIGUSR1, &a, NULL);
	pthread_kill(t, SIGUSR1);
}

static void close_it(struct run *r)
{
	CALL(r, "close", close(r->fd));
	r->fd = -1;
}

static void over_it(struct run *r)
{
	CALL(r, "dup2", dup2(STDIN_FILENO, r->fd) == r->fd ? 0 : -1);
}

static int dissolves(int fd)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	return connect(fd, &none, sizeof none);
}

static void does_to_file(struct run *r, enum act act)
{
	struct linger now = {1, 0};
	int copy;
	switch (act) {
	case CLOSE:
		close_it(r);
		break;
	case CLOSE_DATA:
		close_it(r);
		peer_ends(r, END_DATA);
		client(r);
		break;
	case DUP_CLOSE_DATA:
		copy = dup(r->fd);
		close_it(r);
		r->fd = copy;
		peer_ends(r, END_DATA);
		client(r);
		break;
	case DUP2_OVER:
		over_it(r);
		break;
	case DUP2_OVER_DATA:
		over_it(r);
		peer_ends(r, END_DATA);
		client(r);
		break;
	case LINGER_CLOSE:
		CALL(r, "linger", setsockopt(r->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
		close_it(r);
		break;
	default:
		break;
	}
}

static void does_to_socket(struct run *r, enum act act)
{
	struct timeval brief = {.tv_usec = 10000};
	struct sockaddr_storage any;
	socklen_t n = address_of("0.0.0.0", "::", r->family, 0, &any);
	int three = 3;
	switch (act) {
	case SHUT_RD_:
	case SHUT_WR_:
	case SHUT_RDWR_:
		CALL(r, "shutdown", shutdown(r->fd, act - SHUT_RD_));
		break;
	case DISSOLVE:
		CALL(r, "unspec", dissolves(r->fd));
		break;
	case NONBLOCK:
		CALL(r, "nonblock", fcntl(r->fd, F_SETFL, fcntl(r->fd, F_GETFL) | O_NONBLOCK));
		break;
	case TIMEOUT:
		CALL(r, "rcvtimeo", setsockopt(r->fd, SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief));
		CALL(r, "sndtimeo", setsockopt(r->fd, SOL_SOCKET, SO_SNDTIMEO, &brief, sizeof brief));
		break;
	case LOWAT:
		CALL(r, "lowat", setsockopt(r->fd, SOL_SOCKET, SO_RCVLOWAT, &three, sizeof three));
		peer_ends(r, END_DATA);
		break;
	case LISTEN_:
		CALL(r, "listen", listen(r->fd, 4));
		break;
	case BIND_:
		CALL(r, "bind", bind(r->fd, (struct sockaddr *)&any, n));
		break;
	case CONNECT_AGAIN:
		fcntl(r->fd, F_SETFL, fcntl(r->fd, F_GETFL) | O_NONBLOCK);
		CALL(r, "connect", connect(r->fd, (struct sockaddr *)&r->peer_address, r->address_length));
		break;
	case SEND_:
		CALL(r, "send", send(r->fd, "s", 1, MSG_DONTWAIT | MSG_NOSIGNAL));
		break;
	default:
		break;
	}
}

/*
 * A wait tells what is ready when its thread runs: the data alone, or the end that comes some microseconds after it as
 * well. Which of the two, the machine decides, not the TCP. So the end waits here until the wait has been answered. The
 * calls that move data say the same either way, and get both in one go.
 */
static void peer_ends_after_data(struct run *r, struct blocked *b, enum ending both, enum ending end)
{
	if (b->way < POLL) {
		peer_ends(r, both);
		return;
	}
	peer_ends(r, END_DATA);
	await_over(b);
	peer_ends(r, end);
}

static void peer_acts(struct run *r, struct blocked *b, enum act act)
{
	static const enum ending endings[] = {[PEER_DATA] = END_DATA, [PEER_FIN] = END_FIN, [PEER_RST] = END_RST, [PEER_OOB] = END_OOB};
	if (act == TAKE)
		peer_ends(r, END_DATA);
	else if (act == PEER_DATA_FIN)
		peer_ends_after_data(r, b, END_DATA_FIN, END_FIN);
	else if (act == PEER_DATA_RST)
		peer_ends_after_data(r, b, END_DATA_RST, END_RST);
	else if (act >= PEER_DATA && act <= PEER_OOB)
		peer_ends(r, endings[act]);
	else if (act == PEER_CLIENT || act == PEER_TWO)
		client(r);
	if (act == PEER_TWO)
		client(r);
}

static void acts(struct run *r, struct blocked *b, pthread_t t, enum act act)
{
	if (act == SIGNAL || act == SIGNAL_RESTART)
		signalled(t, act == SIGNAL ? 0 : SA_RESTART);
	else if (act == CANCEL || act == CANCEL_DATA)
		pthread_cancel(t);
	if (act == CANCEL_DATA || act == DATA_SIGNAL_RESTART)
		peer_ends(r, END_DATA);
	if (act == DATA_SIGNAL_RESTART) {
		usleep(20000); /* it has taken what came */
		signalled(t, SA_RESTART);
	}
	does_to_file(r, act);
	does_to_socket(r, act);
	peer_acts(r, b, act);
}

/* What the blocked call said. */
static void tell(struct run *r, struct blocked *b, const char *when)
{
	char piped[16];
	out(r, " | %s %s=%ld", when, way_names[b->way], b->result);
	if (b->result < 0)
		out(r, " %s", strerrorname_np(b->error));
	else if (b->way <= RECVMMSG && b->result > 0)
		out_bytes(r, b->bytes, b->way == RECVMMSG ? 8 : b->result);
	else if (b->way == SPLICE && b->result > 0)
		out_bytes(r, piped, read(b->pipe[0], piped, sizeof piped));
	else if (b->way >= POLL)
		out(r, " %04x", b->events);
}

/* The blocked thread's end, one way or the other. */
static void end_thread(struct run *r, struct blocked *b, pthread_t t, enum act act)
{
	void *how = NULL;
	bool over = act == CANCEL || act == CANCEL_DATA || await_over(b);
	for (int i = 0; !over && !b->over && i < 500; i++) {
		signalled(t, 0);
		usleep(1000);
	}
	pthread_join(t, &how);
	if (how == PTHREAD_CANCELED)
		out(r, " | cancelled");
	else
		tell(r, b, over ? "" : "blocked, then");
}

static void show(struct run *r)
{
	char bytes[16];
	struct pollfd p = {r->fd, POLLIN | POLLOUT | POLLRDHUP, 0};
	if (r->fd < 0)
		return;
	CALL(r, "poll", poll(&p, 1, 0));
	out(r, " %04x", (unsigned)(unsigned short)p.revents);
	long n = CALL(r, "recv", recv(r->fd, bytes, sizeof bytes, MSG_DONTWAIT));
	out_bytes(r, bytes, n);
}

static void call_threads(struct run *r, long way, long act)
{
	struct blocked b = {.r = r, .way = way, .fd = r->fd, .ep = epoll_create1(EPOLL_CLOEXEC), .file = memfd_create("zeros", MFD_CLOEXEC)};
	struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | (way == EPOLL_ET ? EPOLLET : 0)};
	pthread_t t;
	sigset_t alarm, before;
	if (pipe2(b.pipe, O_CLOEXEC) < 0 || ftruncate(b.file, 8 << 20) < 0 || (way >= EPOLL && epoll_ctl(b.ep, EPOLL_CTL_ADD, r->fd, &e) < 0))
		return;
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM); /* the watchdog is for the other thread */
	pthread_sigmask(SIG_BLOCK, &alarm, &before);
	if (pthread_create(&t, NULL, blocked_thread, &b) != 0)
		give_up(r, "pthread_create");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	await_asleep(&b);
	acts(r, &b, t, act);
	end_thread(r, &b, t, act);
	show(r);
	close(b.ep), close(b.file), close(b.pipe[0]), close(b.pipe[1]);
}

struct call_table threads_calls;

__attribute__((constructor)) static void make_calls(void)
{
	struct call *calls = calloc(N_WAYS * N_ACTS, sizeof *calls);
	unsigned n = 0;
	for (int w = 0; w < N_WAYS; w++)
		for (int a = 0; a < N_ACTS; a++) {
			char *name;
			if (w == SENDFILE && (a == CANCEL || a == CANCEL_DATA))
				continue; /* glibc's sendfile is no cancellation point: it would block for ever */
			if (asprintf(&name, "thread.%s+%s", way_names[w], act_names[a]) < 0)
				exit(99);
			calls[n++] = (struct call){name, call_threads, w, a, CALL_THREADS};
		}
	threads_calls = (struct call_table){calls, n};
}
