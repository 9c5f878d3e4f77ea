/*
 * A program that connects while it does something else: natively and under finesse each connect succeeds, and what is written then arrives.
 *
 *     connecting given_up ADDRESS PORT    connects that are given up at once, between others
 *     connecting spawn ADDRESS PORT       another thread starts programs
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
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define GIVEN_UP 150 /* more than a block of the engine's ports */
#define SPAWNS   40

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

int main(int argc, char **argv)
{
	if (argc != 4)
		return EXIT_FAILURE;
	signal(SIGPIPE, SIG_IGN);
	peer = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
	inet_pton(AF_INET, argv[2], &peer.sin_addr);
	strcmp(argv[1], "spawn") == 0 ? spawn() : given_up();
	printf("done %u\n", made);
	return 0;
}
