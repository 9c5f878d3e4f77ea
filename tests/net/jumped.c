/*
 * A signal's handler leaves a call by siglongjmp, at each of its steps; then the program closes the connection.
 * Whatever the call held must be gone with it: the connection ends.
 *
 *     jumped OWN_ADDRESS ADDRESS PORT
 *
 * A parent traces the thread (ptrace) and sends the signal: after each eighth of the first instructions of the call,
 * and before and after each of its system calls. The connection is bound to a port, and its close resets it (SO_LINGER
 * 0). So the port is free then. If something still had the connection, bind would say EADDRINUSE.
 *
 * Prints a line for each call: in how many places something was left.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define INSTRUCTIONS 1200
#define STRIDE       8 /* a reference is held for some twenty instructions before it is noted */
#define SYSTEM_CALLS 100
#define OWN_PORT     21777
#define FIXED        99 /* a number */
#define SIGNAL       SIGUSR1

extern char **environ;
static struct shared {
	int deed;
	volatile bool returned; /* the call has, or was left */
	char left[64];          /* what bind said, if it was not free */
} *shared;
static struct sockaddr_in own, peer;
static int fd, epoll_fd;
static sigjmp_buf away;

/* ---- the calls ---- */

static void do_ctl(void)
{
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLPRI});
}

static void do_ctl_undecided(void)
{
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s, &(struct epoll_event){.events = EPOLLPRI});
	close(s);
}

static void do_option(void)
{
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
}

static void do_dup(void)
{
	dup2(fd, FIXED);
	close(FIXED);
}

static void do_close(void)
{
	close(fd);
}

static void do_dissolve(void)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	connect(fd, &none, sizeof none);
}

static void do_poll(void)
{
	struct pollfd p[] = {{.fd = fd, .events = POLLPRI}, {.fd = epoll_fd, .events = POLLIN}};
	poll(p, 2, 0);
}

static void do_spawn(void)
{
	char *argv[] = {"true", NULL};
	pid_t pid;
	if (!posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ))
		waitpid(pid, NULL, 0);
}

static void do_spawn_with(void)
{
	fcntl(fd, F_SETFD, 0);
	do_spawn();
}

static const struct deed {
	const char *name;
	void (*act)(void);
} deeds[] = {{"epoll_ctl", do_ctl}, {"epoll_ctl of an undecided one", do_ctl_undecided}, {"setsockopt", do_option}, {"dup2", do_dup}, {"close", do_close}, {"dissolve", do_dissolve},
	     {"poll", do_poll}, {"posix_spawn", do_spawn}, {"posix_spawn that inherits", do_spawn_with}};
#define COUNT(a) (sizeof(a) / sizeof *(a))

/* ---- the traced ---- */

static void on_signal(int sig)
{
	(void)sig;
	if (!shared->returned)
		siglongjmp(away, 1);
}

static void stop(void)
{
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGSTOP);
}

static int connected(void)
{
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(s, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
	if (bind(s, (void *)&own, sizeof own) || connect(s, (void *)&peer, sizeof peer)) {
		printf("no connection: %s\n", strerrorname_np(errno));
		exit(1);
	}
	return s;
}

static void traced(void)
{
	struct sigaction act = {.sa_handler = on_signal};
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	sigaction(SIGNAL, &act, NULL);
	for (;;) {
		stop();
		epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		fd = connected();
		shared->returned = false;
		if (!sigsetjmp(away, 1)) {
			stop();
			deeds[shared->deed].act();
		}
		shared->returned = true;
		close(fd);
		close(FIXED);
		close(epoll_fd);
		while (waitpid(-1, NULL, 0) > 0) /* of a call that was left; it had the connection until it executed */
			;
		int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		shared->left[0] = 0;
		if (bind(s, (void *)&own, sizeof own)) {
			snprintf(shared->left, sizeof shared->left, "%s", strerrorname_np(errno));
			own.sin_port = htons(ntohs(own.sin_port) + 1); /* for the next ones */
		}
		close(s);
	}
}

/* ---- the tracer ---- */

static pid_t child;

static void goes(int request, int signal)
{
	int status;
	for (;;) {
		ptrace(request, child, NULL, (void *)(long)signal);
		if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) {
			printf("the traced process ended: %#x\n", status);
			exit(1);
		}
		signal = WSTOPSIG(status);
		if (signal == SIGSTOP || (signal == SIGTRAP && request != PTRACE_CONT))
			return;
		if (signal == SIGCHLD)
			signal = 0;
	}
}

/* False: the call was over before it had taken `n` steps. */
static bool trial(int kind, long n)
{
	goes(PTRACE_CONT, 0); /* it is connected */
	for (long i = 0; i < n && !shared->returned; i++)
		goes(kind, 0);
	bool inside = !shared->returned;
	if (inside)
		syscall(SYS_tgkill, child, child, SIGNAL);
	goes(PTRACE_CONT, 0);
	return inside;
}

static bool leave(unsigned deed)
{
	static const struct {
		int kind;
		const char *name;
		long most, stride;
	} steps[] = {{PTRACE_SINGLESTEP, "instructions", INSTRUCTIONS, STRIDE}, {PTRACE_SYSCALL, "halves of system calls", 2 * SYSTEM_CALLS, 1}};
	int wrong = 0, places = 0;
	shared->deed = deed;
	for (unsigned i = 0; i < COUNT(steps); i++)
		for (long n = 1; n <= steps[i].most && trial(steps[i].kind, n); n += steps[i].stride, places++)
			if (shared->left[0] && wrong++ < 3)
				printf("  left after %ld %s: %s\n", n, steps[i].name, shared->left);
	printf("%s: %d left\n", deeds[deed].name, wrong);
	fprintf(stderr, "%s: %d places\n", deeds[deed].name, places);
	return !wrong;
}

static struct sockaddr_in address(const char *ip, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

int main(int argc, char **argv)
{
	int status;
	bool good = true;
	if (argc < 4)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	own = address(argv[1], OWN_PORT);
	peer = address(argv[2], atoi(argv[3]));
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 2;
	child = fork();
	if (child == 0)
		traced();
	if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
		return 2;
	ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(long)PTRACE_O_EXITKILL);
	for (unsigned i = 0; i < COUNT(deeds); i++)
		if (argc < 5 || !strcmp(argv[4], deeds[i].name))
			good &= leave(i);
	printf("done\n");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return !good;
}
