/* The client; see load.h. `parallel` slots, each one connection after another. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct slot {
	int fd; /* -1: idle */
	bool connected, parked, to_eof;
	uint64_t number;
	uint32_t round, have; /* bytes of the answer */
	uint8_t answer[ANSWER_BYTES];
};

enum failure { FAILED_CONNECT, FAILED_EARLY, FAILED_WRONG, FAILED_RESET, N_FAILURES };
static const char *const failure_names[N_FAILURES] = {"connect", "ended_early", "damaged", "reset"};

static struct {
	const struct load_options *o;
	int ep;
	struct slot *slots;
	uint64_t opened, done, parked, failed, answers;
	uint64_t failures[N_FAILURES];
	int first_errno;
} client;

static void fail(struct slot *s, enum failure why, int err)
{
	if (!client.failed++)
		client.first_errno = err;
	client.failures[why]++;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

static void finish(struct slot *s)
{
	close(s->fd);
	s->fd = -1;
	client.done++;
}

/* The last request of a connection says who closes; together, that comes when all are there. */
static enum then what_then(const struct slot *s)
{
	bool last = s->round + 1 == client.o->rounds || s->parked;
	if (!last || (client.o->together && !s->parked))
		return THEN_MORE;
	return client.o->server_first ? THEN_SERVER_CLOSES : THEN_CLIENT_CLOSES;
}

static void ask(struct slot *s)
{
	uint8_t request[REQUEST_BYTES];
	enum then then = what_then(s);
	request_make(request, s->number, then);
	s->have = 0;
	s->to_eof = then == THEN_SERVER_CLOSES;
	/* Nothing else is in the send buffer: it fits. */
	if (write(s->fd, request, sizeof request) != sizeof request)
		fail(s, FAILED_RESET, errno);
}

static void bind_local(int fd, uint64_t number)
{
	int one = 1;
	struct sockaddr_in local = {.sin_family = AF_INET};
	if (!client.o->n_locals)
		return;
	local.sin_addr.s_addr = htonl(client.o->first_local + (uint32_t)(number % client.o->n_locals));
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&local, sizeof local) < 0) {
		perror("client: bind");
		exit(1);
	}
}

static void open_one(struct slot *s)
{
	*s = (struct slot){.number = client.opened++};
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0) {
		perror("client: socket");
		exit(1);
	}
	bind_local(s->fd, s->number);
	if (connect(s->fd, (const struct sockaddr *)&client.o->server, sizeof client.o->server) < 0 && errno != EINPROGRESS) {
		fail(s, FAILED_CONNECT, errno);
		return;
	}
	struct epoll_event ev = {.events = EPOLLOUT, .data.ptr = s};
	epoll_ctl(client.ep, EPOLL_CTL_ADD, s->fd, &ev);
}

static void on_connected(struct slot *s)
{
	int err = 0;
	socklen_t len = sizeof err;
	getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	if (err) {
		fail(s, FAILED_CONNECT, err);
		return;
	}
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = s};
	epoll_ctl(client.ep, EPOLL_CTL_MOD, s->fd, &ev);
	s->connected = true;
	if (!client.o->steady_ms)
		ask(s);
}

/* An answer is whole. */
static void on_answer(struct slot *s)
{
	uint8_t want[ANSWER_BYTES];
	answer_make(want, s->number);
	if (memcmp(s->answer, want, sizeof want) != 0) {
		fail(s, FAILED_WRONG, 0);
		return;
	}
	client.answers++;
	if (s->to_eof && !client.o->eager)
		return;
	if (s->parked) {
		finish(s);
	} else if (++s->round < client.o->rounds) {
		ask(s);
	} else if (client.o->together) {
		s->parked = true;
		client.parked++;
	} else {
		finish(s);
	}
}

static void on_readable(struct slot *s)
{
	while (s->fd >= 0) {
		uint8_t more;
		bool whole = s->have == ANSWER_BYTES;
		ssize_t n = whole ? read(s->fd, &more, 1) : read(s->fd, s->answer + s->have, ANSWER_BYTES - s->have);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n == 0 && whole && s->to_eof) {
			finish(s);
		} else if (n <= 0) {
			fail(s, n < 0 ? FAILED_RESET : FAILED_EARLY, n < 0 ? errno : 0);
		} else if (whole) {
			fail(s, FAILED_WRONG, 0);
		} else {
			s->have += (uint32_t)n;
			if (s->have == ANSWER_BYTES)
				on_answer(s);
		}
	}
}

/* Steady: until the other end goes. */
static void drain(struct slot *s)
{
	static uint8_t sink[65536];
	ssize_t n;
	while ((n = read(s->fd, sink, sizeof sink)) > 0)
		;
	if (n == 0 || errno != EAGAIN)
		finish(s);
}

static void push_all(void)
{
	static const uint8_t block[REQUEST_BYTES];
	for (uint32_t i = 0; i < client.o->parallel; i++) {
		struct slot *s = &client.slots[i];
		if (s->fd >= 0 && s->connected && write(s->fd, block, sizeof block) < 0 && errno != EAGAIN)
			finish(s);
	}
}

static bool is_over(void)
{
	return client.done + client.failed >= client.o->count;
}

static void refill(void)
{
	for (uint32_t i = 0; i < client.o->parallel && client.opened < client.o->count; i++)
		if (client.slots[i].fd < 0)
			open_one(&client.slots[i]);
}

static void close_together(void)
{
	if (!client.parked || client.parked + client.failed < client.o->count)
		return;
	client.parked = 0;
	for (uint32_t i = 0; i < client.o->parallel; i++)
		if (client.slots[i].fd >= 0)
			ask(&client.slots[i]);
}

static void tell(int64_t ms)
{
	printf("{\"connections\":%lu,\"answers\":%lu,\"failed\":%lu,\"first_errno\":%d,\"seconds\":%.3f", (unsigned long)client.done,
	       (unsigned long)client.answers, (unsigned long)client.failed, client.first_errno, (double)ms / 1000);
	for (int i = 0; i < N_FAILURES; i++)
		printf(",\"%s\":%lu", failure_names[i], (unsigned long)client.failures[i]);
	printf("}\n");
}

static void on_event(struct slot *s)
{
	if (s->fd < 0)
		return;
	if (!s->connected)
		on_connected(s);
	else if (client.o->steady_ms)
		drain(s);
	else
		on_readable(s);
	if (s->fd < 0 && client.opened < client.o->count)
		open_one(s);
}

/* Opens `count` connections and sees them to their end. */
static bool run(const struct load_options *o)
{
	struct epoll_event events[EVENTS_MAX];
	int64_t start = load_now_ms(), next = start + o->steady_ms;
	client.o = o;
	client.opened = client.done = client.failed = client.parked = client.answers = 0;
	memset(client.failures, 0, sizeof client.failures);
	refill();
	while (!load_ended && !is_over()) {
		int64_t wait = next - load_now_ms();
		int n = epoll_wait(client.ep, events, EVENTS_MAX, !o->steady_ms ? 1000 : wait > 0 ? (int)wait : 0);
		for (int i = 0; i < n; i++)
			on_event(events[i].data.ptr);
		if (!n)
			refill(); /* a slot whose connect failed at once */
		if (o->together)
			close_together();
		if (o->steady_ms && load_now_ms() >= next) {
			push_all();
			next += o->steady_ms;
		}
	}
	tell(load_now_ms() - start);
	fflush(stdout);
	return client.failed == 0;
}

int load(const struct load_options *o)
{
	struct load_options again = *o;
	char newline;
	client.ep = epoll_create1(EPOLL_CLOEXEC);
	client.slots = calloc(o->parallel, sizeof *client.slots);
	if (client.ep < 0 || !client.slots)
		return 1;
	for (uint32_t i = 0; i < o->parallel; i++)
		client.slots[i].fd = -1;
	bool good = run(o);
	again.count = o->again;
	again.parallel = (o->parallel + 1) / 2;
	if (again.count && read(STDIN_FILENO, &newline, 1) == 1) {
		good &= run(&again);
		while (read(STDIN_FILENO, &newline, 1) > 0) /* stays, so that it can be looked at */
			;
	}
	return good ? 0 : 1;
}
