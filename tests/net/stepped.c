/*
 * A thread's call is stopped among its first instructions, and before and after each of its system calls. There another
 * thread makes a whole call on the same descriptor.
 *
 *     stepped ADDRESS
 *
 * To Linux one of the two calls came first. So what both are told, and how the socket is afterwards, is what one of the
 * two orders gives: these are tried first. They are printed, a line each: they are the same natively and under finesse.
 * Then comes a line that says in how many of the places the answer was neither.
 *
 * A parent traces the thread (ptrace), and asks no clock. Where the other thread's call has to wait for the stopped
 * one, the latter goes on. Nobody answers at ADDRESS. Nothing here blocks, but for such waits.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/task.h"

#define INSTRUCTIONS 200
#define STRIDE       3 /* beside each whole call another third of the instructions: a stop costs so many stops before it that all of them beside all would take minutes */
#define SYSTEM_CALLS 100 /* twice: before and after */
#define THE_END      10000000
#define ASLEEP       20  /* looks that find a thread asleep: it waits for the stopped one. Found so too early, it comes second in the end, or first: both are orders */
#define LOOK_US      100 /* between two of them: so many places make the thread wait that a millisecond would cost the test a minute */

struct deed {
	const char *name;
	long (*act)(void);
	bool connecting; /* what it is done to has begun to connect */
};

/* What the tracer and the traced share. */
static struct shared {
	int stepped, whole; /* deeds */
	pid_t whole_thread;
	volatile bool returned;    /* the stepped call */
	volatile bool begun, done; /* the whole call */
	char stepped_said[64], whole_said[64], state[160];
} *shared;

static struct sockaddr_in silent;
static int fd, go[2], epoll_fd, other_fd; /* other_fd: a pipe's */

/* ---- the calls ---- */

static long do_connect(void)
{
	return connect(fd, (void *)&silent, sizeof silent);
}

static long do_listen(void)
{
	return listen(fd, 5);
}

static long do_bind(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	return bind(fd, (void *)&any, sizeof any);
}

static long do_option(void)
{
	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

static long do_linger(void)
{
	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 7}, sizeof(struct linger));
}

static long do_flags(void)
{
	return fcntl(fd, F_SETFL, O_NONBLOCK | O_APPEND);
}

static long do_async(void)
{
	return fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC);
}

static long do_nonblock(void)
{
	return ioctl(fd, FIONBIO, &(int){1});
}

static long do_shutdown(void)
{
	return shutdown(fd, SHUT_RDWR);
}

static long do_error(void)
{
	int value = -1;
	socklen_t len = sizeof value;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &len) ? -1 : value;
}

static long do_send(void)
{
	return sendto(fd, "x", 1, MSG_NOSIGNAL | MSG_FASTOPEN, (void *)&silent, sizeof silent);
}

static long do_dissolve(void)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	return connect(fd, &none, sizeof none);
}

static long do_close(void)
{
	return close(fd);
}

static long do_close_epoll(void)
{
	return close(epoll_fd);
}

static long do_delete(void)
{
	return epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static long do_lose(void)
{
	return dup2(other_fd, fd) < 0 ? -1 : 0;
}

static long do_copy(void)
{
	return dup2(fd, other_fd) < 0 ? -1 : 0;
}

#define DEED(what, how)       {.name = what, .act = how}
#define CONNECTING(what, how) {.name = what, .act = how, .connecting = true}
static const struct deed stepped[] = {
	DEED("connect", do_connect), DEED("listen", do_listen), DEED("bind", do_bind), DEED("TCP_NODELAY", do_option), DEED("SO_LINGER", do_linger),
	DEED("F_SETFL", do_flags), DEED("O_ASYNC", do_async), DEED("FIONBIO", do_nonblock), DEED("shutdown", do_shutdown), DEED("SO_ERROR", do_error),
	DEED("MSG_FASTOPEN", do_send), CONNECTING("dissolve", do_dissolve), CONNECTING("shutdown of a connection", do_shutdown), CONNECTING("O_ASYNC of a connection", do_async),
#define LEAVING 14 /* from here on a number leaves a connection or an epoll */
	CONNECTING("close of a connection", do_close), CONNECTING("dup2 over a connection", do_lose), CONNECTING("dup2 of a connection", do_copy),
	CONNECTING("close of its epoll", do_close_epoll),
};
static const struct deed whole[] = {DEED("connect", do_connect), DEED("listen", do_listen), DEED("close", do_close), DEED("EPOLL_CTL_DEL", do_delete), DEED("dup2 of it", do_copy)};
#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Which calls are made beside which. */
static bool is_asked(unsigned a, unsigned b)
{
	if (stepped[a].act == do_close_epoll || whole[b].act == do_delete)
		return stepped[a].act == do_close_epoll && whole[b].act == do_delete;
	return a >= LEAVING ? whole[b].act != do_listen : whole[b].act != do_copy;
}

static void act(const struct deed *d, char said[64], volatile bool *returned)
{
	long r = d->act();
	*returned = true;
	snprintf(said, 64, "%s %s", d->name, r < 0 ? strerrorname_np(errno) : r ? strerrorname_np(r) : "ok");
}

/* ---- the traced ---- */

static int option(int level, int number)
{
	int value = -1;
	socklen_t len = sizeof value;
	return getsockopt(fd, level, number, &value, &len) ? -errno : value;
}

static void describe(void)
{
	struct sockaddr_in peer, own = {0};
	struct linger linger = {0};
	struct tcp_info info = {0};
	socklen_t peer_len = sizeof peer, own_len = sizeof own, linger_len = sizeof linger, info_len = sizeof info;
	getsockname(fd, (void *)&own, &own_len);
	getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &linger_len);
	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_len);
	int n = snprintf(shared->state, sizeof shared->state, "state %d, %s, port %s, NODELAY %d, linger %d, flags %#x, listens %d, error %d", info.tcpi_state,
		 getpeername(fd, (void *)&peer, &peer_len) ? strerrorname_np(errno) : "a peer", own.sin_port ? "known" : "none", option(IPPROTO_TCP, TCP_NODELAY), linger.l_linger,
		 fcntl(fd, F_GETFL), option(SOL_SOCKET, SO_ACCEPTCONN), option(SOL_SOCKET, SO_ERROR));
	if (stepped[shared->stepped].act != do_copy && whole[shared->whole].act != do_copy)
		return;
	long again = connect(other_fd, (void *)&silent, sizeof silent);
	snprintf(shared->state + n, sizeof shared->state - n, "; the copy %s", again ? strerrorname_np(errno) : "ok");
}

/* A pair of calls may have closed what the next one needs. */
static void prepare(void)
{
	int unused[2];
	close(epoll_fd);
	close(other_fd);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (pipe2(unused, O_CLOEXEC))
		exit(2);
	other_fd = unused[0];
	close(unused[1]);
}

static void *other(void *arg)
{
	char c;
	bool returned;
	shared->whole_thread = syscall(SYS_gettid);
	while (read(go[0], &c, 1) == 1) {
		shared->begun = true;
		act(&whole[shared->whole], shared->whole_said, &returned);
		shared->done = true;
	}
	return arg;
}

/* To the tracer. */
static void stop(void)
{
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGSTOP);
}

static void traced(void)
{
	pthread_t thread;
	epoll_fd = other_fd = -1;
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	pthread_create(&thread, NULL, other, NULL);
	while (!shared->whole_thread)
		usleep(1000);
	for (;;) {
		stop();
		prepare();
		fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLPRI});
		if (stepped[shared->stepped].connecting)
			do_connect();
		stop();
		act(&stepped[shared->stepped], shared->stepped_said, &shared->returned);
		stop();
		describe();
		close(fd);
	}
}

/* ---- the tracer ---- */

static pid_t child;

/* The signal it stopped for; it gets none but its own. */
static int goes(int request)
{
	int status, pass = 0;
	for (;;) {
		ptrace(request, child, NULL, (void *)(long)pass);
		if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) {
			printf("the traced process ended: %#x\n", status);
			exit(1);
		}
		pass = WSTOPSIG(status);
		if (pass == SIGSTOP || (pass == SIGTRAP && request != PTRACE_CONT))
			return pass;
	}
}

/* The other thread's call, to its end; or until it waits for the stopped one. */
static void make_whole_call(void)
{
	shared->begun = shared->done = false;
	if (write(go[1], "x", 1) != 1)
		exit(1);
	while (!shared->begun)
		usleep(100);
	for (int looks = 0; !shared->done && looks < ASLEEP; looks++) {
		if (task_state(child, shared->whole_thread) != 'S')
			looks = -1;
		usleep(shared->done ? 0 : LOOK_US);
	}
}

/* The stepped call takes `n` steps of a kind, then comes the whole one. False: it was over before. */
static bool trial(int kind, long n, char said[320])
{
	shared->returned = false;
	goes(PTRACE_CONT); /* it has a socket */
	for (long i = 0; i < n && !shared->returned; i++)
		goes(kind);
	bool inside = !shared->returned;
	make_whole_call();
	goes(PTRACE_CONT);
	while (!shared->done)
		usleep(100);
	goes(PTRACE_CONT);
	snprintf(said, 320, "%s, %s; %s", shared->stepped_said, shared->whole_said, shared->state);
	return inside;
}

static bool pair(int a, int b)
{
	const struct {
		int kind;
		const char *name;
		long first, most, stride;
	} steps[] = {{PTRACE_SINGLESTEP, "instructions", 1 + b % STRIDE, INSTRUCTIONS, STRIDE}, {PTRACE_SYSCALL, "halves of system calls", 1, 2 * SYSTEM_CALLS, 1}};
	char before[320], after[320], said[320];
	int wrong = 0;
	shared->stepped = a;
	shared->whole = b;
	trial(PTRACE_SYSCALL, 0, before);
	trial(PTRACE_SYSCALL, THE_END, after);
	printf("%s beside %s\n  %s\n  %s\n", stepped[a].name, whole[b].name, before, after);
	for (unsigned i = 0; i < COUNT(steps); i++)
		for (long n = steps[i].first; n <= steps[i].most && trial(steps[i].kind, n, said); n += steps[i].stride) {
			if (!strcmp(said, before) || !strcmp(said, after))
				continue;
			if (wrong++ < 3)
				printf("  WRONG after %ld %s: %s\n", n, steps[i].name, said);
		}
	printf("  %d wrong\n", wrong);
	return !wrong;
}

int main(int argc, char **argv)
{
	int status, good = 1;
	if (argc < 2)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	silent = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(7410)};
	inet_pton(AF_INET, argv[1], &silent.sin_addr);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || pipe2(go, O_CLOEXEC))
		return 2;
	child = fork();
	if (child == 0)
		traced();
	if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
		return 2;
	ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(long)PTRACE_O_EXITKILL);
	for (unsigned b = 0; b < COUNT(whole); b++)
		for (unsigned a = 0; a < COUNT(stepped); a++) {
			if (!is_asked(a, b))
				continue;
			if (argc > 2 && (strcmp(argv[2], stepped[a].name) || strcmp(argv[3], whole[b].name)))
				continue;
			good &= pair(a, b);
		}
	printf("done\n");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return !good;
}
