/*
 * Calls by threads whose stack is the least that pthreads allow: small_stack ADDRESS PORT
 *
 * An echo server is there. Each call is made by a thread of its own, so the engine comes up on such a stack, too.
 * Prints each result.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_in peer;
static int client = -1, listener = -1;

static int on_listen(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	listener = socket(AF_INET, SOCK_STREAM, 0);
	return bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 5);
}

static int on_connect(void)
{
	client = socket(AF_INET, SOCK_STREAM, 0);
	return connect(client, (struct sockaddr *)&peer, sizeof peer);
}

static int on_send(void)
{
	return (int)send(client, "three", 5, 0);
}

static int on_sendmsg(void)
{
	struct iovec two[] = {{"a", 1}, {"bc", 2}};
	struct msghdr m = {.msg_iov = two, .msg_iovlen = 2};
	return (int)sendmsg(client, &m, 0);
}

static int on_poll(void)
{
	struct pollfd p = {.fd = client, .events = POLLIN};
	return poll(&p, 1, -1);
}

static int on_select(void)
{
	fd_set in;
	FD_ZERO(&in);
	FD_SET(client, &in);
	return select(client + 1, &in, NULL, NULL, NULL);
}

static int on_epoll(void)
{
	int ep = epoll_create1(0);
	struct epoll_event e = {.events = EPOLLIN};
	int r = epoll_ctl(ep, EPOLL_CTL_ADD, client, &e) || epoll_wait(ep, &e, 1, -1) != 1;
	close(ep);
	return r;
}

static int on_recv(void)
{
	char b[8];
	return (int)recv(client, b, sizeof b, MSG_WAITALL);
}

static int on_options(void)
{
	struct tcp_info info;
	socklen_t n = sizeof info;
	int one = 1;
	return getsockopt(client, IPPROTO_TCP, TCP_INFO, &info, &n) || setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static int on_fork(void)
{
	int status = -1;
	pid_t pid = fork();
	if (pid == 0)
		_exit(3);
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

static int on_shutdown(void)
{
	char b;
	return shutdown(client, SHUT_WR) || recv(client, &b, 1, 0) != 0;
}

static int on_close(void)
{
	return close(client) || close(listener);
}

static const struct {
	const char *name;
	int (*call)(void);
} calls[] = {
    {"listen", on_listen}, {"connect", on_connect}, {"send", on_send}, {"sendmsg", on_sendmsg}, {"poll", on_poll},         {"select", on_select},
    {"epoll", on_epoll},   {"recv", on_recv},       {"options", on_options}, {"fork", on_fork},    {"shutdown", on_shutdown}, {"close", on_close},
};
#define CALLS (sizeof calls / sizeof calls[0])

static void *run(void *arg)
{
	size_t i = (size_t)arg;
	int r = calls[i].call();
	printf("%s: %d %s\n", calls[i].name, r, r < 0 ? strerror(errno) : "");
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_attr_t attr;
	setvbuf(stdout, NULL, _IONBF, 0);
	alarm(60);
	if (argc != 3 || !inet_pton(AF_INET, argv[1], &peer.sin_addr))
		return 2;
	peer.sin_family = AF_INET;
	peer.sin_port = htons((uint16_t)atoi(argv[2]));
	pthread_attr_init(&attr);
	if (pthread_attr_setstacksize(&attr, (size_t)sysconf(_SC_THREAD_STACK_MIN)))
		return 2;
	for (size_t i = 0; i < CALLS; i++) {
		pthread_t t;
		if (pthread_create(&t, &attr, run, (void *)i) || pthread_join(t, NULL))
			return 1;
	}
	return 0;
}
