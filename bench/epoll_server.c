/*
 * The plainest server with an event loop, for `bench.py`'s rows of the server alone: an answer of 1 KiB to each request.
 *
 *   epoll_server ADDRESS PORT [--close]
 *
 * --close: it closes after the answer, as an HTTP server without keep-alive does.
 */
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODY_BYTES 1024
#define EVENTS     256

static char answer[BODY_BYTES + 64];
static int answer_len, epoll, listener;
static bool closes;

static void must(bool right, const char *what)
{
	if (right)
		return;
	perror(what);
	exit(1);
}

static void follow(int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
	must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) == 0, "epoll_ctl");
}

static void accept_all(void)
{
	int fd;
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
		follow(fd);
}

static void serve(int fd)
{
	char request[2048];
	ssize_t n = read(fd, request, sizeof request);
	if (n > 0 && write(fd, answer, (size_t)answer_len) == answer_len && !closes)
		return;
	close(fd);
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	struct epoll_event events[EVENTS];
	int on = 1;
	if (argc < 3 || !inet_aton(argv[1], &a.sin_addr))
		return 2;
	a.sin_port = htons((uint16_t)atoi(argv[2]));
	closes = argc > 3 && strcmp(argv[3], "--close") == 0;
	answer_len = sprintf(answer, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BODY_BYTES);
	memset(answer + answer_len, 'x', BODY_BYTES);
	answer_len += BODY_BYTES;
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	must(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 4096) == 0, "listen");
	epoll = epoll_create1(0);
	follow(listener);
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listener)
				accept_all();
			else
				serve(events[i].data.fd);
		}
	}
}
