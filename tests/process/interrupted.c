/*
 * A signal that comes while a child's first wait on its parent's listener is being prepared: on Linux the wait ends
 * with EINTR, whenever in the call the handler ran. Under finesse a child brings its engine up in that call, by some
 * hundred system calls.
 *
 * interrupted PORT: prints in how many of the tries the wait ended with EINTR, of how many: "N of M". In each the
 * parent counts the child's steps from the wait's beginning, where a step is a system call's beginning or its end, and
 * sends the signal at one of them: clock and scheduler have no say in where. The first try of each way to wait sends it
 * when the child takes no step any more. A wait that goes on is killed after BOUND_S, and after WRONG_MAX of them
 * nothing more is tried.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRIES   20 /* of each way to wait, among all of its steps */
#define STEPS   100000
#define IDLE_S  1 /* no step for so long: the child waits. On a slow machine the try is one at an earlier step */
#define BOUND_S 20

#define WRONG_MAX 3

static volatile sig_atomic_t handled;

static void on_signal(int sig)
{
	(void)sig;
	handled++;
}

static int by_accept(int listener, int epoll)
{
	(void)epoll;
	return accept(listener, NULL, NULL);
}

static int by_poll(int listener, int epoll)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};
	(void)epoll;
	return poll(&p, 1, -1);
}

static int by_select(int listener, int epoll)
{
	fd_set set;
	(void)epoll;
	FD_ZERO(&set);
	FD_SET(listener, &set);
	return select(listener + 1, &set, NULL, NULL, NULL);
}

static int by_epoll(int listener, int epoll)
{
	struct epoll_event ev;
	(void)listener;
	return epoll_wait(epoll, &ev, 1, -1);
}

typedef int wait_by(int listener, int epoll);

/* The child's whole life; 0: the wait ended with EINTR. */
static int wait_once(int listener, wait_by *wait)
{
	struct sigaction act = {.sa_handler = on_signal}; /* no SA_RESTART */
	struct epoll_event ev = {.events = EPOLLIN};
	int epoll = -1;
	sigaction(SIGALRM, &act, NULL);
	if (wait == by_epoll && ((epoll = epoll_create1(0)) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev)))
		return 2;
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		return 2;
	kill(getpid(), SIGSTOP); /* the steps are counted from here on */
	return wait(listener, epoll) < 0 && errno == EINTR && handled == 1 ? 0 : 1;
}

/* Something new of the child, within `seconds`. */
static int has_news(pid_t child, int *status, int seconds)
{
	struct timespec bound = {.tv_sec = seconds};
	sigset_t chld;
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	while (waitpid(child, status, WNOHANG) == 0)
		if (sigtimedwait(&chld, NULL, &bound) < 0 && errno == EAGAIN)
			return 0;
	return 1;
}

/* The child goes until its n-th step: how many it took before it waits. -1: it ended. */
static long go_steps(pid_t child, long n)
{
	int status;
	for (long i = 0; i < n; i++) {
		ptrace(PTRACE_SYSCALL, child, NULL, NULL);
		if (!has_news(child, &status, IDLE_S))
			return i;
		if (!WIFSTOPPED(status))
			return -1;
	}
	return n;
}

static int ended_well(pid_t child)
{
	int status;
	if (!has_news(child, &status, BOUND_S)) {
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
		return 0;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* 1: it ended with EINTR. *n: the step, and how many there were where there were fewer. */
static int try_at(int listener, wait_by *wait, long *n)
{
	int status;
	pid_t child = fork();
	if (child == 0)
		_exit(wait_once(listener, wait));
	if (!has_news(child, &status, BOUND_S) || !WIFSTOPPED(status)) {
		fprintf(stderr, "interrupted: no stop: %x\n", status);
		exit(1);
	}
	ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(long)PTRACE_O_EXITKILL);
	long taken = go_steps(child, *n);
	kill(child, SIGALRM);
	if (taken < *n && taken >= 0 && !has_news(child, &status, BOUND_S)) { /* it waits, and stops for the signal */
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
		taken = -1;
	}
	*n = taken;
	if (taken < 0)
		return 0;
	ptrace(PTRACE_DETACH, child, NULL, (void *)(long)(WIFSTOPPED(status) && WSTOPSIG(status) == SIGALRM ? SIGALRM : 0));
	return ended_well(child);
}

int main(int argc, char **argv)
{
	static wait_by *const ways[] = {by_accept, by_poll, by_select, by_epoll};
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 0)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), right = 0, tried = 0;
	sigset_t chld;
	if (bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 16)) {
		perror("listen");
		return 1;
	}
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	for (unsigned way = 0; way < sizeof ways / sizeof *ways && tried - right < WRONG_MAX; way++) {
		long steps = STEPS;
		right += try_at(listener, ways[way], &steps);
		tried++;
		long tries = steps < TRIES ? steps : TRIES;
		for (long i = 0; i < tries && tried - right < WRONG_MAX; i++) {
			long n = 1 + i * steps / tries, step = n;
			int well = try_at(listener, ways[way], &n);
			if (!well)
				fprintf(stderr, "interrupted: way %u, at step %ld of %ld: the wait went on\n", way, step, steps);
			right += well;
			tried++;
		}
	}
	printf("%d of %d\n", right, tried);
	return 0;
}
