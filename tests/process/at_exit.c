/*
 * The last moments of a program, as its other threads, its peer and its own last handlers see them.
 *
 * at_exit HOW ADDRESS PORT: connects, says "hello", ends with status 0 in the way HOW. The peer prints what it reads.
 *
 * - exit, _exit, quick, exec: other threads wait in calls meanwhile. Linux lets none of them return: one that does says
 *   so, and ends the program with status 3.
 *   Handlers that were registered before any library's constructor ran (.preinit_array) run last, and what they send
 *   arrives.
 * - thread: main ends by pthread_exit. The end of the last thread is the process's.
 * - stream: streams that write by functions of the program have something left. A thread waits in a read of another
 *   one, and has it locked.
 * - full: what libc writes after the last handler finds a full pipe. A handler of SIGTERM runs in that, and ends the
 *   program with status 5.
 *   full@worker: another thread than main ends the program, and main, which the signal finds, waits in a call.
 * - shared: a child that has our memory (CLONE_VM) ends before, by _exit: the connection is not its own.
 * - _exit@handler, exec@handler, close@handler, poll@handler: in a handler of a signal that may have interrupted
 *   malloc. So malloc is not called
 *   there, nor by another thread that has to go on meanwhile: its lock may be held.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
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

#define THREADS 5
#define MANY 300

static int conn = -1, second = -1, listener, epoll;
static sem_t begun;
static _Atomic pid_t threads[THREADS];

/* ---- malloc, watched ---- */

static _Atomic bool forbidden;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void __libc_free(void *p);

static void note(const char *text)
{
	if (write(STDOUT_FILENO, text, strlen(text)) < 0)
		_exit(4);
}

#define SEEN __attribute__((visibility("default")))

static void look(const char *text)
{
	if (forbidden)
		syscall(SYS_write, STDOUT_FILENO, text, strlen(text));
}

SEEN void *malloc(size_t size)
{
	look("malloc\n");
	return __libc_malloc(size);
}

SEEN void *calloc(size_t n, size_t size)
{
	look("calloc\n");
	return __libc_calloc(n, size);
}

SEEN void *realloc(void *p, size_t size)
{
	look("realloc\n");
	return __libc_realloc(p, size);
}

SEEN void free(void *p)
{
	if (p)
		look("free\n");
	__libc_free(p);
}

/* ---- last handlers ---- */

static void say(const char *text)
{
	if (send(conn, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
		note("send failed\n");
}

static void last_at_exit(void)
{
	if (conn >= 0)
		say(" last");
}

static void register_early(void)
{
	atexit(last_at_exit);
	at_quick_exit(last_at_exit);
}
__attribute__((section(".preinit_array"), used)) static void (*const early)(void) = register_early;

__attribute__((destructor)) static void at_end(void)
{
	if (conn >= 0)
		say(" destructor");
}

/* ---- threads that wait ---- */

static void *waits(void *arg)
{
	int n = (int)(long)arg;
	char byte;
	struct pollfd p = {.fd = conn, .events = POLLIN};
	struct epoll_event ev;
	fd_set set;
	FD_ZERO(&set);
	FD_SET(conn, &set);
	threads[n] = syscall(SYS_gettid);
	sem_post(&begun);
	switch (n) {
	case 0:
		accept(listener, NULL, NULL);
		break;
	case 1:
		recv(conn, &byte, 1, 0);
		break;
	case 2:
		poll(&p, 1, -1);
		break;
	case 3:
		epoll_wait(epoll, &ev, 1, -1);
		break;
	case 4:
		select(conn + 1, &set, NULL, NULL, NULL);
		break;
	}
	note("a thread's call returned\n");
	_exit(3);
}

static void start_threads(void)
{
	pthread_t t;
	for (long i = 0; i < THREADS; i++)
		pthread_create(&t, NULL, waits, (void *)i);
	for (int i = 0; i < THREADS; i++)
		while (sem_wait(&begun))
			;
	for (int i = 0; i < THREADS; i++)
		while (task_state(getpid(), threads[i]) != 'S')
			usleep(1000);
}

/* ---- the last thread ---- */

static void *last_thread(void *arg)
{
	while (task_state(getpid(), getpid()) != 'Z') /* main's */
		;
	say(" thread");
	return arg;
}

static void main_ends(void)
{
	pthread_t t;
	pthread_create(&t, NULL, last_thread, NULL);
	pthread_detach(t);
	pthread_exit(NULL);
}

/* ---- streams of the program's own ---- */

static ssize_t stream_write(void *cookie, const char *text, size_t n)
{
	(void)cookie;
	return send(conn, text, n, MSG_NOSIGNAL);
}

static ssize_t stream_read(void *cookie, char *to, size_t n)
{
	(void)cookie;
	return recv(conn, to, n, 0);
}

static FILE *stream(const char *mode)
{
	return fopencookie(NULL, mode, (cookie_io_functions_t){.read = stream_read, .write = stream_write});
}

static void *reads_stream(void *f)
{
	threads[0] = syscall(SYS_gettid);
	sem_post(&begun);
	fgetc(f);
	note("a thread's call returned\n");
	_exit(3);
}

static void leave_in_streams(void)
{
	pthread_t t;
	FILE *locked = stream("r+");
	fprintf(stream("w"), " stream");
	pthread_create(&t, NULL, reads_stream, locked);
	while (sem_wait(&begun))
		;
	while (task_state(getpid(), threads[0]) != 'S')
		usleep(1000);
}

/* ---- a pipe that is full ---- */

/* One of its threads does. */
static bool writes(pid_t pid)
{
	char path[64];
	long nr = -1;
	snprintf(path, sizeof path, "/proc/%d/task", pid);
	DIR *tasks = opendir(path);
	for (struct dirent *d; tasks && nr != SYS_write && (d = readdir(tasks));)
		nr = task_call(pid, atoi(d->d_name));
	if (tasks)
		closedir(tasks);
	return nr == SYS_write;
}

static void *exits(void *arg)
{
	(void)arg;
	while (task_state(getpid(), getpid()) != 'S') /* main waits in its call */
		usleep(1000);
	exit(0);
}

static void be_ended_by_worker(void)
{
	pthread_t t;
	char byte;
	pthread_create(&t, NULL, exits, NULL);
	recv(conn, &byte, 1, 0);
}

static void ends_with_5(int sig)
{
	(void)sig;
	_exit(5);
}

/* A child of before sends us SIGTERM, once we write and wait for that. */
static void be_ended_in_write(void)
{
	static char block[4096];
	int p[2];
	pid_t us = getpid();
	signal(SIGTERM, ends_with_5);
	if (pipe(p))
		_exit(2);
	while (write(p[1], block, 1) == 1 && fcntl(p[1], F_SETFL, O_NONBLOCK) == 0)
		;
	fcntl(p[1], F_SETFL, 0);
	if (fork() == 0) {
		close(STDOUT_FILENO);
		close(STDERR_FILENO);
		while (getppid() == us && !writes(us))
			usleep(1000);
		kill(us, SIGTERM);
		_exit(0);
	}
	dup2(p[1], STDOUT_FILENO);
	printf("never read");
}

/* ---- a child with our memory ---- */

static int ends(void *arg)
{
	(void)arg;
	_exit(0);
}

static void child_ends(void)
{
	static _Alignas(16) char stack[65536];
	int status = -1;
	waitpid(clone(ends, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL), &status, 0);
	say(status ? " status" : " after");
}

/* ---- handlers of signals ---- */

static const char *how;

static void on_signal(int sig)
{
	static struct pollfd many[MANY];
	(void)sig;
	forbidden = true;
	if (!strcmp(how, "_exit@handler"))
		_exit(0);
	if (!strcmp(how, "exec@handler"))
		execl("/bin/true", "true", (char *)NULL);
	for (int i = 0; i < MANY; i++)
		many[i] = (struct pollfd){.fd = i % 2 ? listener : conn, .events = POLLIN};
	if (!strcmp(how, "poll@handler"))
		poll(many, MANY, 0);
	if (!strcmp(how, "close@handler")) {
		close(listener);
		close(second);
		close(conn);
	}
	forbidden = false;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
	struct epoll_event ev = {.events = EPOLLIN};
	how = argv[1];
	if (!strncmp(how, "full", 4))
		be_ended_in_write();
	inet_pton(AF_INET, argv[2], &peer.sin_addr);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	epoll = epoll_create1(0);
	second = socket(AF_INET, SOCK_STREAM, 0);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	if (listen(listener, 8) || connect(second, (struct sockaddr *)&peer, sizeof peer) || connect(c, (struct sockaddr *)&peer, sizeof peer) ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, c, &ev))
		return 2;
	conn = c;
	say("hello");
	signal(SIGUSR1, on_signal);
	if (strstr(how, "handler")) {
		raise(SIGUSR1);
		conn = -1;
		return 0;
	}
	if (!strcmp(how, "full@worker"))
		be_ended_by_worker();
	if (!strncmp(how, "full", 4))
		return 0;
	if (!strcmp(how, "thread"))
		main_ends();
	if (!strcmp(how, "shared")) {
		child_ends();
		return 0;
	}
	if (!strcmp(how, "stream")) {
		leave_in_streams();
		return 0;
	}
	start_threads();
	if (!strcmp(how, "_exit"))
		_exit(0);
	if (!strcmp(how, "exec"))
		execl("/bin/true", "true", (char *)NULL);
	if (!strcmp(how, "quick"))
		quick_exit(0);
	return 0;
}
