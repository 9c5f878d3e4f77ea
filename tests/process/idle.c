/*
 * Connections that are left alone until the other side is gone.
 *
 *   idle server PORT N        N connections are accepted
 *   idle client IP PORT N     … opened
 * Prints "held" then, and when all of them have ended, how many and in how many milliseconds since its standard input
 * ended: "N ended, M ms, K by reset". After WAIT_MS: how many until then.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 30000
#define MAX     20000

static struct pollfd held[MAX];
static int resets;

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static long now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void serve(struct sockaddr_in *a, int n)
{
	int one = 1, l = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	must(bind(l, (struct sockaddr *)a, sizeof *a) == 0 && listen(l, 1024) == 0, "listen");
	for (int i = 0; i < n; i++)
		must((held[i].fd = accept(l, NULL, NULL)) >= 0, "accept");
}

static void reach(struct sockaddr_in *a, int n)
{
	for (int i = 0; i < n; i++) {
		held[i].fd = socket(AF_INET, SOCK_STREAM, 0);
		must(connect(held[i].fd, (struct sockaddr *)a, sizeof *a) == 0, "connect");
	}
}

/* How many of the connections say that they are over. */
static int count_ends(int n)
{
	int ended = 0;
	for (int i = 0; i < n; i++) {
		char byte;
		ssize_t got;
		if (held[i].fd >= 0 && held[i].revents && (got = read(held[i].fd, &byte, 1)) <= 0) {
			resets += got < 0;
			close(held[i].fd);
			held[i].fd = -1;
		}
		ended += held[i].fd < 0;
	}
	return ended;
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	struct rlimit files = {2 * MAX, 2 * MAX};
	char byte;
	int server = argc == 4 && strcmp(argv[1], "server") == 0;
	if (!server && argc != 5)
		return 2;
	alarm(600);
	setrlimit(RLIMIT_NOFILE, &files);
	int n = atoi(argv[argc - 1]);
	must(n <= MAX, "N");
	a.sin_port = htons(atoi(argv[argc - 2]));
	if (server)
		serve(&a, n);
	else
		inet_pton(AF_INET, argv[2], &a.sin_addr), reach(&a, n);
	for (int i = 0; i < n; i++)
		held[i].events = POLLIN;
	puts("held");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	long began = now_ms(), ms = 0;
	int ended = 0;
	while (ended < n && ms < WAIT_MS) {
		poll(held, n, WAIT_MS - ms);
		ended = count_ends(n);
		ms = now_ms() - began;
	}
	printf("%d ended, %ld ms, %d by reset\n", ended, ms, resets);
	return 0;
}
