/*
 * dup2 of a connection over a kernel socket that lingers: the number is the connection's at once, for every other
 * thread, and the caller alone waits for the old socket's close.
 *
 *     replaced ADDRESS
 *
 * Nobody answers at ADDRESS. The old socket is a connection by loopback whose peer reads nothing until another thread
 * has seen the number changed. So who must wait for the close first waits for ever, and the alarm ends the program. A
 * child that is forked meanwhile has no part in the old socket: its peer reads end of file while the child lives.
 * Connections that begin meanwhile bring descriptors that are not the program's: it closes every number that it does
 * not know, as daemons do, and finds none.
 *
 * Prints a line for each of these: the same natively and under finesse.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BOUND_S     60
#define OTHERS      8
#define OWN_NUMBERS 64 /* are enough for it */
#define NUMBERS     2048

static int fresh, number; /* the connection, and what it is copied to */
static volatile long said;

static void *copies(void *arg)
{
	(void)arg;
	said = dup2(fresh, number);
	return NULL;
}

static int state_of(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof info;
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) ? -errno : info.tcpi_state;
}

/* A connection by loopback that lingers for hours, with more unsent than its peer takes. The peer's end. */
static int lingering(int *fd)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof at;
	char some[4096] = "";
	int l = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(l, (void *)&at, sizeof at) || listen(l, 1) || getsockname(l, (void *)&at, &len))
		return -1;
	*fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(*fd, (void *)&at, sizeof at) || setsockopt(*fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 10000}, sizeof(struct linger)))
		return -1;
	while (send(*fd, some, sizeof some, MSG_DONTWAIT) > 0)
		;
	int peer = accept(l, NULL, NULL);
	close(l);
	return peer;
}

static int connecting(const struct sockaddr_in *silent)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	return connect(fd, (const void *)silent, sizeof *silent) == 0 || errno != EINPROGRESS ? -1 : fd;
}

/* Numbers beyond the program's own at which it finds something to close. */
static unsigned strays(void)
{
	unsigned n = 0;
	for (int fd = OWN_NUMBERS; fd < NUMBERS; fd++)
		n += close(fd) == 0;
	return n;
}

static void replace(const struct sockaddr_in *silent)
{
	pthread_t thread;
	char some[65536];
	int others[OTHERS], peer = lingering(&number);
	if (peer < 0 || (fresh = connecting(silent)) < 0) {
		perror("replaced");
		return;
	}
	pthread_create(&thread, NULL, copies, NULL);
	while (state_of(number) != TCP_SYN_SENT)
		sched_yield();
	printf("another thread finds the connection at the number\n");
	for (int i = 0; i < OTHERS; i++)
		others[i] = connecting(silent);
	pid_t child = fork();
	if (child == 0)
		for (;;)
			pause();
	long n;
	while ((n = read(peer, some, sizeof some)) > 0)
		;
	printf("the peer reads %s, a child lives\n", n ? strerrorname_np(errno) : "end of file");
	pthread_join(thread, NULL);
	printf("dup2 %s, state %d\n", said == number ? "ok" : "failed", state_of(number));
	printf("%u numbers were not its own\n", strays());
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	for (int i = 0; i < OTHERS; i++)
		close(others[i]);
	close(peer);
	close(fresh);
	close(number);
}

int main(int argc, char **argv)
{
	struct sockaddr_in silent = {.sin_family = AF_INET, .sin_port = htons(7499)};
	if (argc != 2 || inet_pton(AF_INET, argv[1], &silent.sin_addr) != 1)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(BOUND_S);
	replace(&silent);
	printf("done\n");
	return 0;
}
