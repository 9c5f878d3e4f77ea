/*
 * A signal that comes while a child's first wait on its parent's listener is being prepared: on Linux the wait ends with EINTR, whenever in the call the
 * handler ran. Under finesse a child brings its engine up in that call, which takes milliseconds.
 *
 * interrupted PORT: prints how many of the waits ended with EINTR, of how many: "N of M". A wait that goes on is killed after five seconds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define DELAYS 14
#define FIRST_DELAY_US 60 /* each is one and a half times as long as the one before */
#define BOUND_S 5

static volatile sig_atomic_t alarms;

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
}

static int by_accept(int listener)
{
	return accept(listener, NULL, NULL);
}

static int by_poll(int listener)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};
	return poll(&p, 1, -1);
}

static int by_select(int listener)
{
	fd_set set;
	FD_ZERO(&set);
	FD_SET(listener, &set);
	return select(listener + 1, &set, NULL, NULL, NULL);
}

static int by_epoll(int listener)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int epoll = epoll_create1(0);
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev))
		return 0;
	if (alarms) /* it rang before the wait, and is the program's to see to */
		return errno = EINTR, -1;
	return epoll_wait(epoll, &ev, 1, -1);
}

/* The child's whole life; 0: the wait ended with EINTR. */
static int wait_once(int listener, int (*wait)(int), long delay_us)
{
	struct sigaction act = {.sa_handler = on_alarm}; /* no SA_RESTART */
	struct itimerval once = {.it_value = {.tv_usec = delay_us}};
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &once, NULL);
	if (alarms)
		return 0; /* it rang before the call */
	return wait(listener) < 0 && errno == EINTR ? 0 : 1;
}

static int ended_well(pid_t child)
{
	struct timespec bound = {.tv_sec = BOUND_S};
	sigset_t chld;
	int status;
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	while (waitpid(child, &status, WNOHANG) == 0) {
		if (sigtimedwait(&chld, NULL, &bound) < 0 && errno == EAGAIN) {
			kill(child, SIGKILL);
			waitpid(child, &status, 0);
			return 0;
		}
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
	static int (*const ways[])(int) = {by_accept, by_poll, by_select, by_epoll};
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
	for (unsigned way = 0; way < sizeof ways / sizeof *ways; way++) {
		long delay_us = FIRST_DELAY_US;
		for (int i = 0; i < DELAYS; i++, delay_us += delay_us / 2) {
			pid_t child = fork();
			if (child == 0)
				_exit(wait_once(listener, ways[way], delay_us));
			int well = ended_well(child);
			if (!well)
				fprintf(stderr, "interrupted: way %u, after %ld us: the wait went on\n", way, delay_us);
			right += well;
			tried++;
		}
	}
	printf("%d of %d\n", right, tried);
	return 0;
}
