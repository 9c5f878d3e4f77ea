/*
 * What a program has told libc before there was a TCP socket, and what children have of a call that waits.
 *
 * callbacks OWN_ADDRESS ADDRESS PORT: prints what the calls gave. The peer accepts, and for each line "PORT\n" that it
 * reads it connects to that port of ours.
 *
 * - Handlers set before any library's constructor has run (.preinit_array) interrupt calls.
 * - A handler of fork's, registered in main, waits for a lock whose holder is about to send. Others are registered
 *   before any constructor, as an allocator's are.
 * - The number that a blocked accept has taken is free in a child, and is closed by exec.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BOUND_S 100
#define LOOK_US 2000

static struct sockaddr_in own, peer;
static int conn, listener;
static volatile sig_atomic_t handled;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t held;
static _Atomic bool preparing, over;

/* ---- handlers of signals ---- */

static void on_signal(int sig)
{
	handled = sig;
}

static void *signals(void *arg)
{
	int sig = *(int *)arg;
	while (!over) {
		kill(getpid(), sig); /* other threads block it */
		usleep(LOOK_US);
	}
	return NULL;
}

static void interrupted(int sig)
{
	pthread_t t;
	sigset_t set, old;
	char b;
	sigemptyset(&set);
	sigaddset(&set, sig);
	handled = 0;
	over = false;
	pthread_sigmask(SIG_BLOCK, &set, &old);
	pthread_create(&t, NULL, signals, &sig);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	ssize_t r = recv(conn, &b, 1, 0);
	printf("recv %zd %s, ", r, strerrorname_np(errno));
	r = accept(listener, NULL, NULL);
	printf("accept %zd %s, %s\n", r, strerrorname_np(errno), handled == sig ? "handled" : "not handled");
	over = true;
	pthread_join(t, NULL);
}

static void of_signals(void)
{
	struct sigaction now;
	interrupted(SIGUSR1);
	interrupted(SIGWINCH);
	sigaction(SIGUSR1, NULL, &now);
	printf("as set: %d, flags %#x\n", now.sa_handler == on_signal, now.sa_flags & ~0x04000000);
}

/* ---- handlers of fork ---- */

static char said[200]; /* by the handlers, in their order */

static void say(const char *what)
{
	strncat(said, what, sizeof said - 1 - strlen(said));
}

static void prepare_first(void) { say("prepare 1, "); }
static void parent_first(void) { say("parent 1, "); }
static void child_first(void) { say("child 1, "); }

static void prepare(void)
{
	preparing = true;
	pthread_mutex_lock(&mutex);
	say("prepare 2, ");
}

static void parent(void)
{
	say("parent 2, ");
	pthread_mutex_unlock(&mutex);
}

static void child(void)
{
	say("child 2, ");
	pthread_mutex_unlock(&mutex);
}

/* Sends with the lock held, once the fork is about to wait for it. */
static void *sends(void *arg)
{
	pthread_mutex_lock(&mutex);
	sem_post(&held);
	while (!preparing)
		usleep(LOOK_US);
	say(send(conn, "0\n", 2, 0) == 2 ? "sent, " : "not sent, ");
	pthread_mutex_unlock(&mutex);
	return arg;
}

static void of_fork(void)
{
	pthread_t t;
	int status = -1;
	preparing = false;
	said[0] = 0;
	pthread_create(&t, NULL, sends, NULL);
	sem_wait(&held);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		printf("%ssent %zd\n", said, send(conn, "0\n", 2, 0));
		fflush(stdout);
		_exit(7);
	}
	waitpid(pid, &status, 0);
	pthread_join(t, NULL);
	printf("%sended %#x, sent %zd\n", said, status, send(conn, "0\n", 2, 0));
	pid = _Fork();
	if (pid == 0)
		_exit(0);
	printf("_Fork: %d\n", waitpid(pid, NULL, 0) == pid);
}

/* ---- a number of accept's ---- */

static int lowest(void)
{
	int fd = dup(0);
	close(fd);
	return fd;
}

static void *accepts(void *arg)
{
	return (void *)(long)accept4(listener, NULL, NULL, *(int *)arg);
}

static void number(int flags)
{
	pthread_t t;
	char line[100];
	void *got;
	int n = lowest(), status;
	pthread_create(&t, NULL, accepts, &flags);
	while (lowest() == n)
		usleep(LOOK_US);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		_exit(lowest() == n ? 0 : 1);
	waitpid(pid, &status, 0);
	printf("in a child: %s\n", status ? "taken" : "free");
	fflush(stdout);
	snprintf(line, sizeof line, "[ -e /proc/self/fd/%d ] && echo open || echo closed", n);
	if (system(line))
		printf("no shell\n");
	snprintf(line, sizeof line, "%d\n", ntohs(own.sin_port));
	send(conn, line, strlen(line), 0);
	pthread_join(t, &got);
	printf("accept4: %s, FD_CLOEXEC %d\n", (int)(long)got == n ? "the number" : "another number", fcntl((int)(long)got, F_GETFD));
	pid = fork();
	if (pid == 0)
		_exit(lowest() == n ? 0 : 1);
	waitpid(pid, &status, 0);
	printf("in a child, later: %s\n", status ? "taken" : "free");
	close((int)(long)got);
}

static void of_accept(void)
{
	number(0);
	number(SOCK_CLOEXEC);
}

/* ---- */

static void before_all(void)
{
	struct sigaction act = {.sa_handler = on_signal};
	sigaction(SIGUSR1, &act, NULL);
	sigaction(SIGWINCH, &act, NULL);
	pthread_atfork(prepare_first, parent_first, child_first);
}
__attribute__((section(".preinit_array"), used)) static void (*const first)(void) = before_all;

static struct sockaddr_in address(const char *ip, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	socklen_t len = sizeof own;
	own = address(argv[1], 0);
	peer = address(argv[2], atoi(argv[3]));
	setvbuf(stdout, NULL, _IOLBF, 0);
	sem_init(&held, 0, 0);
	alarm(BOUND_S);
	pthread_atfork(prepare, parent, child);
	conn = socket(AF_INET, SOCK_STREAM, 0);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(conn, (struct sockaddr *)&peer, sizeof peer) || bind(listener, (struct sockaddr *)&own, sizeof own) || listen(listener, 5) ||
	    getsockname(listener, (struct sockaddr *)&own, &len)) {
		perror("connect");
		return 1;
	}
	of_signals();
	of_accept();
	of_fork();
	return 0;
}
