/*
 * Sequences: a number makes some calls of the other tables, one after the other on one socket, with options set between
 * them and endings of the peer's. They come to states that nobody thought of. The same number makes the same sequence
 * in each state, as far as the state does not choose.
 */
#include "differential.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#define STEPS	   12
#define SEQUENCES  500
#define ENDING_IN  5  /* one step in so many is the peer's */
#define OPTION_IN  12 /* … is a setsockopt */

/* Calls besides those that are worth a pair. */
static const char *const more[] = {"dup", "dup3", "listen.0", "bind.any", "bind.same", "bind.low", "send.oob", "recv.oob.0", "accept.twice", "getsockname.5",
				   "epoll.dup", "epoll.nested", "epoll.recv.et", "sendmsg.name", "sendto.fastopen", "recvmsg.peek", "recvmmsg.second-bad",
				   "ioctl.SIOCOUTQ", "fcntl.GETFL", "close_range.cloexec", "connect.self", "connect.unspec.short", "poll.rdhup"};

/* Blocking again, each call would have to be interrupted; "full" takes long. */
static const char *const fewer[] = {"fcntl.SETFL.0", "send.big", "recv.waitall"};

static bool is_among(const char *name, const char *const *names, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* Those that a sequence is made of. */
static const struct call *const *candidates(unsigned *n)
{
	static const struct call *chosen[256];
	static unsigned count;
	for (unsigned i = 0; !count || i; i++) {
		const struct call *c = call_at(i);
		if (!c)
			break;
		bool pairs = c->flags & (CALL_FIRST | CALL_SECOND) && !(c->flags & CALL_STEPS);
		if ((pairs && !is_among(c->name, fewer, sizeof fewer / sizeof *fewer)) || is_among(c->name, more, sizeof more / sizeof *more))
			chosen[count++] = c;
	}
	*n = count;
	return chosen;
}

static unsigned pick(uint64_t *state, unsigned n)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return (z ^ z >> 31) % n;
}

static void step_ending(struct run *r, uint64_t *state)
{
	static const enum ending endings[] = {END_DATA, END_DATA, END_OOB, END_OOB_DATA, END_FIN, END_DATA_FIN, END_RST, END_BIG};
	enum ending e = endings[pick(state, sizeof endings / sizeof *endings)];
	out(r, " | <%s>", ending_names[e]);
	if (r->peer_has)
		peer_does(r, PEER_END, e, 0);
	settle();
}

static void step_option(struct run *r, uint64_t *state)
{
	const struct option *o = &options[pick(state, OPTIONS_IN_SEQUENCES)];
	int value[4] = {o->value, o->second};
	long pair[2] = {o->value, o->second};
	out(r, " | <%s>", o->name);
	CALL(r, "set", setsockopt(r->fd, o->level, o->number, o->length == sizeof pair ? (void *)pair : (void *)value, o->length));
}

static void call_steps(struct run *r, long seed, long unused)
{
	unsigned n;
	const struct call *const *calls = candidates(&n);
	uint64_t state = seed * 1000003;
	/* When the peer acknowledges must not decide what has come when it is asked. */
	setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	for (int i = 0; i < STEPS && r->fd >= 0; i++) {
		if (pick(&state, ENDING_IN) == 0) {
			step_ending(r, &state);
			continue;
		}
		if (pick(&state, OPTION_IN) == 0) {
			step_option(r, &state);
			continue;
		}
		const struct call *c = calls[pick(&state, n)];
		out(r, " | <%s>", c->name);
		/* A listener that became a connection, or the other way round, may block. */
		fcntl(r->fd, F_SETFL, fcntl(r->fd, F_GETFL) | O_NONBLOCK);
		c->make(r, c->a, c->b);
		if (strstr(c->name, "connect"))
			settle(), settle();
	}
}

struct call_table steps_calls;

__attribute__((constructor)) static void make_calls(void)
{
	struct call *calls = calloc(SEQUENCES, sizeof *calls);
	for (int i = 0; i < SEQUENCES; i++) {
		char *name;
		if (asprintf(&name, "steps.%d", i) < 0)
			exit(99);
		calls[i] = (struct call){name, call_steps, i, 0, CALL_STEPS};
	}
	steps_calls = (struct call_table){calls, SEQUENCES};
}
