/*
 * Numbers of a connection that appear while, or are named before, it goes to the kernel.
 *
 * moved_numbers ADDRESS PORT: prints what the calls gave. The peer prints what it reads from each connection.
 *
 * - A thread duplicates the connection's number in all ways while another one gives the connection to somebody else
 *   (SCM_RIGHTS): all numbers lead to
 *   the connection afterwards.
 * - posix_spawn duplicates a number that was named when there was no connection yet; the connection is close-on-exec.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS  60
#define NUMBERS 600
#define OVER    500 /* dup2 begins there; above what dup gives */

extern char **environ;
static struct sockaddr_in peer;
static _Atomic bool stop;
static _Atomic int made;
static int conn, numbers[NUMBERS];

static int connected(int type)
{
	int fd = socket(AF_INET, SOCK_STREAM | type, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&peer, sizeof peer))
		exit(2);
	return fd;
}

/* ---- duplicates while it goes ---- */

static void *duplicates(void *arg)
{
	(void)arg;
	while (!stop && made + 3 <= NUMBERS) {
		numbers[made++] = dup(conn);
		numbers[made++] = fcntl(conn, F_DUPFD_CLOEXEC, 10);
		numbers[made++] = dup2(conn, OVER + made / 3);
	}
	return NULL;
}

static void give_away(int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	char byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int pair[2];
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || sendmsg(pair[0], &msg, 0) != 1)
		exit(2);
	close(pair[0]);
	close(pair[1]);
}

static bool is_connection(int fd)
{
	struct sockaddr_in name;
	socklen_t len = sizeof name;
	return getpeername(fd, (struct sockaddr *)&name, &len) == 0 && name.sin_port == peer.sin_port && send(fd, "x", 1, MSG_NOSIGNAL) == 1;
}

static int lost_in_a_round(void)
{
	pthread_t t;
	int lost = 0;
	conn = connected(0);
	stop = false;
	made = 0;
	pthread_create(&t, NULL, duplicates, NULL);
	while (!made)
		;
	give_away(conn);
	stop = true;
	pthread_join(t, NULL);
	for (int i = 0; i < made; i++) {
		lost += !is_connection(numbers[i]);
		close(numbers[i]);
	}
	lost += !is_connection(conn);
	close(conn);
	return lost;
}

/* ---- posix_spawn ---- */

static void spawns(void)
{
	char *argv[] = {"sh", "-c", "echo from the child", NULL};
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int status = -1, named = open("/dev/null", O_RDONLY);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, named, STDOUT_FILENO);
	int fd = connected(SOCK_CLOEXEC);
	dup3(fd, named, O_CLOEXEC);
	close(fd);
	int err = posix_spawn(&pid, "/bin/sh", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (!err)
		waitpid(pid, &status, 0);
	printf("posix_spawn %d, status %d\n", err, status);
	send(named, "from the parent", 15, 0);
	close(named);
}

int main(int argc, char **argv)
{
	int lost = 0;
	if (argc != 3)
		return 2;
	peer = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
	inet_pton(AF_INET, argv[1], &peer.sin_addr);
	spawns();
	for (int i = 0; i < ROUNDS; i++)
		lost += lost_in_a_round();
	printf("%d numbers were lost\n", lost);
	return 0;
}
