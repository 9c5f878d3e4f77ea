/*
 * A program that connects while it does something else: natively and under finesse each connect succeeds, and what is
 * written then arrives.
 *
 *     connecting given_up ADDRESS PORT    connects that are given up at once, between others
 *     connecting spawn ADDRESS PORT       another thread starts programs
 *     connecting order ADDRESS PORT       connects that do not block, several at once, as ab does; most of them send something. Prints their ports, in order
 *
 * connecting_test.sh runs it. Prints what failed, then "done N", N the connections that were made.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define GIVEN_UP 150 /* more than a block of the engine's ports */
#define SPAWNS   40
#define ROUNDS   200
#define AT_ONCE  8
#define SILENT   3 /* of those at once, the last ones */

extern char **environ;
static struct sockaddr_in peer;
static unsigned made;

static int connected(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&peer, sizeof peer) < 0)
		printf("connect: %s\n", strerror(errno));
	else if (write(fd, "x", 1) != 1)
		printf("write: %s\n", strerror(errno));
	else
		made++;
	return fd;
}

/* The peer may have half of a connection by then. */
static void give_up_one(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (connect(fd, (struct sockaddr *)&peer, sizeof peer) == 0 || errno != EINPROGRESS)
		printf("connect that is given up: %s\n", strerror(errno));
	close(fd);
}

static void given_up(void)
{
	int kept[GIVEN_UP];
	for (int i = 0; i < GIVEN_UP; i++) {
		give_up_one();
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); /* the close is heard of; the peer's answer has not come */
		kept[i] = connected();
	}
	for (int i = 0; i < GIVEN_UP; i++)
		close(kept[i]);
}

static pthread_barrier_t both;

static void *spawner(void *arg)
{
	char *argv[] = {"none", NULL};
	for (int i = 0; i < SPAWNS; i++) {
		pid_t pid;
		pthread_barrier_wait(&both);
		nanosleep(&(struct timespec){.tv_nsec = i % 20 * 1000000L}, NULL); /* in all stages of the handshake */
		if (posix_spawn(&pid, "/none", NULL, NULL, argv, environ) != ENOENT)
			printf("a program was started\n");
	}
	return arg;
}

/* The sockets are not close-on-exec: the program that is started would have them. */
static void spawn(void)
{
	pthread_t thread;
	pthread_barrier_init(&both, NULL, 2);
	pthread_create(&thread, NULL, spawner, NULL);
	for (int i = 0; i < SPAWNS; i++) {
		pthread_barrier_wait(&both);
		close(connected());
	}
	pthread_join(thread, NULL);
}

static int ports[ROUNDS][AT_ONCE];

static uint16_t port_of(int fd)
{
	struct sockaddr_in name;
	getsockname(fd, (struct sockaddr *)&name, &(socklen_t){sizeof name});
	return ntohs(name.sin_port);
}

/* In each round the peer accepts all, and ends them. The first wait finds all of them connected, as a rule. */
static void one_round(int ep, int *port)
{
	int fds[AT_ONCE], left = AT_ONCE;
	for (int i = 0; i < AT_ONCE; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (connect(fds[i], (struct sockaddr *)&peer, sizeof peer) < 0 && errno != EINPROGRESS)
			printf("connect: %s\n", strerror(errno));
		epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &(struct epoll_event){.events = EPOLLOUT, .data.u32 = (uint32_t)i});
	}
	struct epoll_event evs[AT_ONCE];
	while (left) {
		int n = epoll_wait(ep, evs, AT_ONCE, -1);
		for (int k = 0; k < n; k++) {
			uint32_t i = evs[k].data.u32;
			char c;
			if (evs[k].events & EPOLLOUT) {
				made++;
				epoll_ctl(ep, EPOLL_CTL_MOD, fds[i], &(struct epoll_event){.events = EPOLLIN, .data.u32 = i});
				if (i < AT_ONCE - SILENT && write(fds[i], "x", 1) != 1)
					printf("write: %s\n", strerror(errno));
			} else if (read(fds[i], &c, 1) <= 0) {
				port[i] = port_of(fds[i]);
				close(fds[i]);
				left--;
			}
		}
	}
}

static void order(void)
{
	int ep = epoll_create1(0);
	for (int i = 0; i < ROUNDS; i++)
		one_round(ep, ports[i]);
	for (int i = 0; i < ROUNDS * AT_ONCE; i++)
		printf("%d\n", ports[i / AT_ONCE][i % AT_ONCE]);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return EXIT_FAILURE;
	signal(SIGPIPE, SIG_IGN);
	peer = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
	inet_pton(AF_INET, argv[2], &peer.sin_addr);
	errno = 0;
	close(socket(AF_INET, SOCK_STREAM, 0)); /* the program's first one */
	if (errno)
		printf("errno, though a socket was made: %s\n", strerror(errno));
	strcmp(argv[1], "spawn") == 0 ? spawn() : strcmp(argv[1], "order") == 0 ? order() : given_up();
	printf("done %u\n", made);
	return 0;
}
