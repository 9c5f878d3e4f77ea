/*
 * Threads that sleep in the kernel's epoll_wait, and are not there any more without a return: a handler jumped away
 * (siglongjmp), the thread was cancelled, a handler takes long. Then the epoll gets its first TCP connection, an idle
 * one, and is waited for and polled: there is nothing to tell.
 *
 * And calls that need not sleep, with a cancellation pending: they act on it.
 *
 * left_waits ADDRESS PORT: prints what the calls gave. The peer accepts, and is silent. A wait that does not end is
 * ended by SIGALRM.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/task.h"

#define BOUND_S 20
#define LOOK_US 2000

static struct sockaddr_in peer;
static int epoll, pipe_fds[2];
static _Atomic pid_t waiter; /* thread */
static sigjmp_buf away;
static sem_t entered, may_go;

static void on_jump(int sig)
{
	(void)sig;
	siglongjmp(away, 1);
}

static void on_slow(int sig)
{
	(void)sig;
	sem_post(&entered);
	while (sem_wait(&may_go))
		;
}

/* Until the thread sleeps in a wait for an epoll. */
static void await_asleep(void)
{
	long call;
	do {
		usleep(LOOK_US);
		call = waiter ? task_call(getpid(), waiter) : -1;
	} while (call != SYS_epoll_pwait && call != SYS_epoll_pwait2
#ifdef SYS_epoll_wait
		 && call != SYS_epoll_wait
#endif
	);
}

static int wait_for_ever(void)
{
	struct epoll_event ev;
	waiter = syscall(SYS_gettid);
	return epoll_wait(epoll, &ev, 1, -1);
}

static void *jumps(void *arg)
{
	if (sigsetjmp(away, 1))
		printf("jumped\n");
	else
		printf("epoll_wait returned %d\n", wait_for_ever());
	return arg;
}

static void *waits(void *arg)
{
	int r = wait_for_ever();
	printf("the other wait: %d %s\n", r, r < 0 ? strerrorname_np(errno) : "");
	return arg;
}

static void say(void)
{
	struct epoll_event ev;
	struct pollfd p = {epoll, POLLIN, 0};
	printf("poll %d, ", poll(&p, 1, 0));
	printf("epoll_wait %d\n", epoll_wait(epoll, &ev, 1, 100));
	fflush(stdout);
}

static int add_connection(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct epoll_event ev = {.events = EPOLLIN};
	if (connect(fd, (struct sockaddr *)&peer, sizeof peer) || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev)) {
		perror("connect");
		exit(1);
	}
	return fd;
}

static void left(void *(*thread)(void *), void (*leave)(pthread_t))
{
	pthread_t t;
	void *result;
	pthread_create(&t, NULL, thread, NULL);
	await_asleep();
	leave(t);
	pthread_join(t, &result);
	printf("%s\n", result == PTHREAD_CANCELED ? "cancelled" : "ended");
	add_connection();
	say();
}

static void send_signal(pthread_t t) { pthread_kill(t, SIGUSR1); }
static void cancel(pthread_t t) { pthread_cancel(t); }
static void jump(void) { left(jumps, send_signal); }
static void cancellation(void) { left(waits, cancel); }

static void slow_handler(void)
{
	pthread_t t;
	pthread_create(&t, NULL, waits, NULL);
	await_asleep();
	pthread_kill(t, SIGUSR2);
	sem_wait(&entered);
	add_connection();
	say();
	sem_post(&may_go);
	pthread_join(t, NULL);
	say();
}

/* The connection comes while another thread sleeps there, which goes on, and has what comes next. */
static void sleeps_on(void)
{
	pthread_t t;
	pthread_create(&t, NULL, waits, NULL);
	await_asleep();
	add_connection();
	if (write(pipe_fds[1], "x", 1) == 1)
		pthread_join(t, NULL);
}

static int conn;

static void call(const char *name)
{
	struct pollfd p = {conn, POLLOUT, 0};
	struct timeval no_time = {0};
	struct timespec no_ts = {0};
	struct epoll_event ev;
	fd_set out;
	FD_ZERO(&out);
	FD_SET(conn, &out);
	pthread_cancel(pthread_self());
#define IF(call) if (strcmp(name, #call) == 0)
	IF(poll) poll(&p, 1, -1);
	IF(ppoll) ppoll(&p, 1, &no_ts, NULL);
	IF(select) select(conn + 1, NULL, &out, NULL, &no_time);
	IF(pselect) pselect(conn + 1, NULL, &out, NULL, NULL, NULL);
	IF(epoll_wait) epoll_wait(epoll, &ev, 1, 0);
	IF(epoll_pwait) epoll_pwait(epoll, &ev, 1, 0, NULL);
	IF(epoll_pwait2) epoll_pwait2(epoll, &ev, 1, &no_ts, NULL);
#undef IF
}

static void *calls(void *arg)
{
	call(arg);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	return NULL;
}

static void pending(void)
{
	char *const names[] = {"poll", "ppoll", "select", "pselect", "epoll_wait", "epoll_pwait", "epoll_pwait2"};
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		pthread_t t;
		void *result;
		pthread_create(&t, NULL, calls, names[i]);
		pthread_join(t, &result);
		printf("%s: %s\n", names[i], result == PTHREAD_CANCELED ? "cancelled" : "returned");
	}
}

static void pending_cancellation(void)
{
	conn = add_connection();
	pending();
}

static const struct {
	const char *name;
	void (*act)(void);
} acts[] = {{"a handler that jumps away", jump}, {"a cancellation", cancellation}, {"a handler that takes long", slow_handler}, {"neither", sleeps_on}, {"a pending cancellation", pending_cancellation}};

static void act(unsigned i)
{
	struct epoll_event ev = {.events = EPOLLIN};
	alarm(BOUND_S);
	epoll = epoll_create1(0);
	if (pipe(pipe_fds) || epoll_ctl(epoll, EPOLL_CTL_ADD, pipe_fds[0], &ev))
		exit(1);
	acts[i].act();
	fflush(stdout);
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	peer = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
	inet_pton(AF_INET, argv[1], &peer.sin_addr);
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGUSR1, on_jump);
	signal(SIGUSR2, on_slow);
	sem_init(&entered, 0, 0), sem_init(&may_go, 0, 0);
	for (unsigned i = 0; i < sizeof acts / sizeof *acts; i++) {
		int status;
		printf("%s:\n", acts[i].name);
		fflush(stdout);
		pid_t child = fork();
		if (child == 0)
			act(i);
		waitpid(child, &status, 0);
		printf("%s: ended %#x\n", acts[i].name, status);
	}
	return 0;
}
