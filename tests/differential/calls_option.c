/*
 * getsockopt and setsockopt of every number of every level, with good and bad lengths and pointers. The calls are made
 * by rule: "get.TCP.5" and "set.TCP.5". What a value is cannot be compared where it measures (buffers, times, cookies):
 * those numbers say only that there is an answer, and how long.
 */
#include "differential.h"

#include <netinet/tcp.h>
#include <stdlib.h>

#define INERT 0xee

struct level {
	const char *name;
	int number, last; /* options 0…last */
};

static const struct level levels[] = {
	{"SOCKET", SOL_SOCKET, 84}, {"IP", IPPROTO_IP, 52}, {"IPV6", IPPROTO_IPV6, 80}, {"TCP", IPPROTO_TCP, 46},
	{"UDP", IPPROTO_UDP, 2},    {"RAW", IPPROTO_RAW, 1}, {"MPTCP", 284, 2},	       {"XDP", 283, 1},
	{"bogus", 4711, 1},	    {"negative", -1, 1},
};
#define N_LEVELS (sizeof levels / sizeof *levels)

/*
 * Values that measure, or differ by design: TCP_INFO and its like; cookies; CPUs; queues; buffers that grow by
 * themselves.
 */
static bool is_measure(int level, int number)
{
	static const struct {
		int level, number;
	} measures[] = {
		{SOL_SOCKET, 49 /* SO_INCOMING_CPU */}, {SOL_SOCKET, 55 /* SO_MEMINFO */}, {SOL_SOCKET, 56 /* SO_INCOMING_NAPI_ID */},
		{SOL_SOCKET, 57 /* SO_COOKIE */},	{SOL_SOCKET, 71 /* SO_NETNS_COOKIE */}, {SOL_SOCKET, SO_RCVBUF}, {SOL_SOCKET, SO_SNDBUF},
		{IPPROTO_IP, 52 /* IP_PROTOCOL; 6.18 answers with the port */}, {SOL_SOCKET, SO_PEERNAME},		{SOL_SOCKET, 81 /* SO_INQ */}, {IPPROTO_TCP, TCP_INFO},
		{IPPROTO_TCP, TCP_CC_INFO},		{IPPROTO_TCP, TCP_TIMESTAMP}, {IPPROTO_TCP, TCP_WINDOW_CLAMP},
		{IPPROTO_TCP, TCP_QUEUE_SEQ},		{IPPROTO_TCP, TCP_CONGESTION}, {IPPROTO_TCP, TCP_SAVED_SYN},
		{IPPROTO_TCP, TCP_REPAIR_WINDOW},	{IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE}, {IPPROTO_TCP, 45 /* TCP_RTO_MIN_US */},
	};
	for (unsigned i = 0; i < sizeof measures / sizeof *measures; i++)
		if (measures[i].level == level && measures[i].number == number)
			return true;
	return false;
}

static void get(struct run *r, long level, long number, int room)
{
	unsigned char value[512];
	socklen_t n = room;
	memset(value, INERT, sizeof value);
	char name[16];
	snprintf(name, sizeof name, "get/%d", room);
	if (CALL(r, name, getsockopt(r->fd, level, number, value, &n)) < 0)
		return;
	out(r, " length=%d ", (int)n);
	if (is_measure(level, number))
		return;
	/* One byte beyond what was asked for must be as it was. */
	for (int i = 0; i < 16 && i < (room > 0 ? room : 0) + 1; i++)
		out(r, "%02x", value[i]);
}

static void call_get(struct run *r, long level, long number)
{
	static const int rooms[] = {4, 0, 1, 2, 8, 16, 256, -1};
	socklen_t n = 4;
	int value;
	for (unsigned i = 0; i < sizeof rooms / sizeof *rooms; i++)
		get(r, level, number, rooms[i]);
	CALL(r, "get/value-bad", getsockopt(r->fd, level, number, unmapped, &n));
	CALL(r, "get/length-null", getsockopt(r->fd, level, number, &value, NULL));
	CALL(r, "get/length-bad", getsockopt(r->fd, level, number, &value, unmapped));
}

static void call_set(struct run *r, long level, long number)
{
	static const int lengths[] = {0, 1, 2, 4, 8, 16, 100, -1};
	unsigned char value[128] = {0};
	char name[16];
	memcpy(value, &(int){1}, sizeof(int));
	for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		snprintf(name, sizeof name, "set/%d", lengths[i]);
		CALL(r, name, setsockopt(r->fd, level, number, value, lengths[i]));
	}
	get(r, level, number, 4);
	memset(value, 0xff, sizeof(int));
	CALL(r, "set=-1", setsockopt(r->fd, level, number, value, 4));
	memcpy(value, &(int){300}, sizeof(int));
	CALL(r, "set=300", setsockopt(r->fd, level, number, value, 4));
	get(r, level, number, 4);
	memset(value, 0, sizeof value);
	CALL(r, "set=0", setsockopt(r->fd, level, number, value, 4));
	get(r, level, number, 4);
	CALL(r, "set/bad", setsockopt(r->fd, level, number, unmapped, 4));
	CALL(r, "set/null", setsockopt(r->fd, level, number, NULL, 4));
}

/* Does the connection still carry data after that? */
static void call_set_and_use(struct run *r, long level, long number)
{
	char buffer[8];
	CALL(r, "set=1", setsockopt(r->fd, level, number, &(int){1}, sizeof(int)));
	CALL(r, "send", send(r->fd, "after", 5, MSG_NOSIGNAL | MSG_DONTWAIT));
	long n = CALL(r, "recv", recv(r->fd, buffer, sizeof buffer, MSG_DONTWAIT));
	if (n > 0)
		out_bytes(r, buffer, n);
}

static void call_error_twice(struct run *r, long unused, long unused2)
{
	get(r, SOL_SOCKET, SO_ERROR, 4);
	get(r, SOL_SOCKET, SO_ERROR, 4);
}

static void call_state(struct run *r, long unused, long unused2)
{
	struct tcp_info i;
	socklen_t n = sizeof i;
	if (CALL(r, "info", getsockopt(r->fd, IPPROTO_TCP, TCP_INFO, &i, &n)) == 0)
		out(r, " state=%d", i.tcpi_state);
}

/* What is waited for must fit in, and what was said of the CPU is told until something comes. */
static void call_large_lowat(struct run *r, long unused, long unused2)
{
	int bytes = 0, cpu = 0;
	socklen_t n = sizeof bytes, m = sizeof cpu;
	CALL(r, "lowat", setsockopt(r->fd, SOL_SOCKET, SO_RCVLOWAT, &(int){300000}, sizeof(int)));
	CALL(r, "rcvbuf", getsockopt(r->fd, SOL_SOCKET, SO_RCVBUF, &bytes, &n));
	out(r, " fits=%d", bytes >= 300000);
	CALL(r, "cpu", setsockopt(r->fd, SOL_SOCKET, SO_INCOMING_CPU, &(int){9}, sizeof(int)));
	CALL(r, "cpu", getsockopt(r->fd, SOL_SOCKET, SO_INCOMING_CPU, &cpu, &m));
	out(r, " told=%d", cpu == 9);
}

struct call_table option_calls;

__attribute__((constructor)) static void make_calls(void)
{
	unsigned n = 0, room = 4;
	for (unsigned i = 0; i < N_LEVELS; i++)
		room += 3 * (levels[i].last + 1);
	struct call *calls = calloc(room, sizeof *calls);
	calls[n++] = (struct call){"error", call_error_twice, 0, 0, CALL_FIRST | CALL_SECOND};
	calls[n++] = (struct call){"lowat.large", call_large_lowat, 0, 0, 0};
	calls[n++] = (struct call){"state", call_state, 0, 0, CALL_SECOND};
	for (unsigned i = 0; i < N_LEVELS; i++)
		for (int number = 0; number <= levels[i].last; number++) {
			char *names[3];
			static const char *const verbs[3] = {"get", "set", "use"};
			for (int k = 0; k < 3; k++)
				if (asprintf(&names[k], "%s.%s.%d", verbs[k], levels[i].name, number) < 0)
					exit(99);
			calls[n++] = (struct call){names[0], call_get, levels[i].number, number, CALL_OPTION};
			calls[n++] = (struct call){names[1], call_set, levels[i].number, number, CALL_OPTION};
			calls[n++] = (struct call){names[2], call_set_and_use, levels[i].number, number, CALL_OPTION};
		}
	option_calls = (struct call_table){calls, n};
}
