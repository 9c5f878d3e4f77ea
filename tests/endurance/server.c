/* The server; see load.h. A connection's state lives in a table by fd. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_MAX 65536

struct served {
	bool open;
	uint8_t request[REQUEST_BYTES], answer[ANSWER_BYTES];
	uint32_t have; /* of the request */
	uint32_t left; /* of the answer */
	bool close_after;
};

static struct served *table[FDS_MAX]; /* kept for the next connection of that fd */
static int ep;
static int highest;

static void end(int fd)
{
	table[fd]->open = false;
	close(fd);
}

static void begin(int fd)
{
	if (fd >= FDS_MAX || (!table[fd] && !(table[fd] = malloc(sizeof **table)))) {
		fprintf(stderr, "server: fd %d: no room\n", fd);
		exit(1);
	}
	*table[fd] = (struct served){.open = true};
	highest = fd > highest ? fd : highest;
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0) {
		perror("server: epoll_ctl");
		exit(1);
	}
}

/* False: the connection has ended. */
static bool write_answer(int fd)
{
	struct served *s = table[fd];
	while (s->left) {
		ssize_t n = write(fd, s->answer + ANSWER_BYTES - s->left, s->left);
		if (n < 0 && errno == EAGAIN) {
			struct epoll_event ev = {.events = EPOLLOUT, .data.fd = fd};
			epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev);
			return true;
		}
		if (n < 0) {
			end(fd);
			return false;
		}
		s->left -= (uint32_t)n;
	}
	if (s->close_after) {
		end(fd);
		return false;
	}
	return true;
}

static bool on_request(int fd)
{
	struct served *s = table[fd];
	uint64_t number;
	enum then then;
	if (!request_check(s->request, &number, &then)) {
		fprintf(stderr, "server: a damaged request\n");
		exit(1);
	}
	s->have = 0;
	s->close_after = then == THEN_SERVER_CLOSES;
	s->left = ANSWER_BYTES;
	answer_make(s->answer, number);
	return write_answer(fd);
}

static void on_readable(int fd)
{
	struct served *s = table[fd];
	while (!s->left) {
		ssize_t n = read(fd, s->request + s->have, REQUEST_BYTES - s->have);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			end(fd);
			return;
		}
		s->have += (uint32_t)n;
		if (s->have == REQUEST_BYTES && !on_request(fd))
			return;
	}
}

/* Steady: what comes is not looked at; every tick sends. */
static void drain(int fd)
{
	static uint8_t sink[65536];
	ssize_t n;
	while ((n = read(fd, sink, sizeof sink)) > 0)
		;
	if (n == 0 || errno != EAGAIN)
		end(fd);
}

static void push_all(void)
{
	static const uint8_t block[ANSWER_BYTES];
	for (int fd = 0; fd <= highest; fd++)
		if (table[fd] && table[fd]->open && write(fd, block, sizeof block) < 0 && errno != EAGAIN)
			end(fd);
}

static void accept_all(int listener)
{
	int fd;
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		begin(fd);
	if (errno != EAGAIN && errno != ECONNABORTED) {
		perror("server: accept");
		exit(1);
	}
}

static int listen_on(const struct sockaddr_in *addr)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
	if (fd < 0 || bind(fd, (const struct sockaddr *)addr, sizeof *addr) < 0 || listen(fd, 4096) < 0 ||
	    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0) {
		perror("server: listen");
		exit(1);
	}
	return fd;
}

int serve(const struct load_options *o)
{
	struct epoll_event events[EVENTS_MAX];
	int64_t next = load_now_ms() + o->steady_ms;
	ep = epoll_create1(EPOLL_CLOEXEC);
	int listener = listen_on(&o->server);
	printf("ready\n");
	fflush(stdout);
	while (!load_ended) {
		int64_t wait = next - load_now_ms();
		int n = epoll_wait(ep, events, EVENTS_MAX, !o->steady_ms ? -1 : wait > 0 ? (int)wait : 0);
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			if (fd == listener) {
				accept_all(listener);
			} else if (o->steady_ms) {
				drain(fd);
			} else if (events[i].events & EPOLLOUT) {
				struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
				epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev);
				if (write_answer(fd))
					on_readable(fd);
			} else {
				on_readable(fd);
			}
		}
		if (o->steady_ms && load_now_ms() >= next) {
			push_all();
			next += o->steady_ms;
		}
	}
	return 0;
}
