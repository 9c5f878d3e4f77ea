/*
 * The tables multiplied. Rules keep the number in bounds:
 *   - every call in every state, blocking and not, with every ending that the state takes;
 *   - two calls one after the other, for those that change something and those that show it, in connections and
 *     unconnected sockets;
 *   - each option set before, with calls that show whether the connection lives;
 *   - the tables of all options only where the set of options may differ;
 *   - sequences (calls_steps.c) in the states that lead on;
 *   - a thread that is blocked in a call (calls_threads.c) where the call blocks;
 *   - a child that has inherited the socket (calls_process.c) where that is one of the main states;
 *   - of pairs, options and variants of connections one in a few, by a hash of the name.
 */
#include "differential.h"

#include <stdlib.h>

#define ONE_PAIR_IN    4
#define ONE_OPTION_IN  2
#define ONE_VARIANT_IN 2
#define ONE_MASKED_IN  8 /* of 72 ways to wait under a mask */

static const struct call_table *const tables[N_CALL_TABLES] = {&receive_calls, &send_calls, &wait_calls, &name_calls, &file_calls, &option_calls,
								&steps_calls, &threads_calls, &process_calls, &masked_calls};

const struct call *call_at(unsigned i)
{
	for (unsigned t = 0; t < N_CALL_TABLES; t++) {
		if (i < tables[t]->n)
			return &tables[t]->calls[i];
		i -= tables[t]->n;
	}
	return NULL;
}

unsigned n_calls(void)
{
	unsigned n = 0;
	for (unsigned t = 0; t < N_CALL_TABLES; t++)
		n += tables[t]->n;
	return n;
}

static struct test_case *cases;
static unsigned n_cases, room;

/* One in `n`, always the same ones. */
static bool is_sampled(const struct test_case *c, unsigned n)
{
	char name[NAME_MAX_];
	unsigned hash = 2166136261u;
	case_name(c, name);
	for (const char *p = name; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	return (hash >> 8) % n == 0;
}

static void add(struct test_case c)
{
	unsigned one_in = strncmp(c.first->name, "masked.", 7) == 0 ? ONE_MASKED_IN : c.second ? ONE_PAIR_IN : c.option ? ONE_OPTION_IN : c.state->flags & STATE_SHUT ? ONE_VARIANT_IN : 1;
	if (!is_sampled(&c, one_in))
		return;
	if (n_cases == room) {
		room = room ? 2 * room : 4096;
		cases = realloc(cases, room * sizeof *cases);
	}
	cases[n_cases++] = c;
}

static bool is(const struct state *s, const char *name)
{
	return strcmp(s->name, name) == 0;
}

/* For a state that is a variant of another, and for pairs of calls. */
static bool is_main_ending(enum ending e)
{
	return e == END_NONE || e == END_DATA || e == END_DATA_FIN || e == END_FIN || e == END_RST || e == END_DATA_RST;
}

static bool takes(const struct state *s, enum ending e, const struct call *c)
{
	if (!(s->flags & STATE_PEER))
		return e == END_NONE;
	if (e >= END_DATA_LATER)
		return c->flags & CALL_WAITS && !(s->flags & STATE_LISTEN);
	if (s->flags & STATE_LISTEN)
		return e == END_NONE || e == END_DATA || e == END_FIN || e == END_RST;
	if (s->flags & STATE_SHUT)
		return is_main_ending(e);
	return true;
}

/* Sequences begin in states that lead on. */
static bool takes_steps(const struct state *s)
{
	static const char *const from[] = {"fresh", "bound", "refused", "syn-sent", "nb-connected", "nb-refused", "conn", "acc", "fresh6", "conn6", "acc6", "listen", "pending", "unspec"};
	for (unsigned i = 0; i < sizeof from / sizeof *from; i++)
		if (is(s, from[i]))
			return true;
	return false;
}

/* Where the call of a thread of its own blocks. */
static void in_thread(const struct state *s, const struct call *c)
{
	const char *way = c->name + strlen("thread.");
	bool sends = strncmp(way, "send", 4) == 0 || strncmp(way, "write", 5) == 0;
	bool polls = strncmp(way, "poll", 4) == 0 || strncmp(way, "select", 6) == 0 || strncmp(way, "epoll", 5) == 0;
	bool accepts = strncmp(way, "accept", 6) == 0, connects = strncmp(way, "connect", 7) == 0;
	if (is(s, "listen") ? accepts || polls : is(s, "fresh") ? polls : is(s, "syn-sent") ? polls : is(s, "hole") ? connects : false)
		add((struct test_case){s, c, NULL, NULL, END_NONE, false});
	if ((is(s, "conn") || is(s, "acc")) && !accepts && !connects)
		add((struct test_case){s, c, NULL, NULL, sends ? END_FULL : END_NONE, false});
}

static void in_child(const struct state *s, const struct call *c)
{
	static const char *const in[] = {"fresh", "nb-refused", "conn", "conn-wr", "acc", "acc-rd", "conn6", "listen", "pending", "unspec"};
	for (unsigned i = 0; i < sizeof in / sizeof *in; i++)
		for (int e = 0; is(s, in[i]) && e < END_COUNT; e++)
			if (takes(s, e, c) && is_main_ending(e))
				add((struct test_case){s, c, NULL, NULL, e, true});
}

static void one_call(const struct state *s, const struct call *c)
{
	if (c->flags & CALL_THREADS) {
		in_thread(s, c);
		return;
	}
	if (s->flags & STATE_HOLE)
		return;
	if (c->flags & CALL_PROCESS) {
		in_child(s, c);
		return;
	}
	if (c->flags & CALL_STEPS) {
		if (takes_steps(s))
			add((struct test_case){s, c, NULL, NULL, END_NONE, true});
		return;
	}
	if (c->flags & CALL_OPTION) {
		bool use = strncmp(c->name, "use.", 4) == 0;
		if (use ? is(s, "conn") || is(s, "acc") : is(s, "fresh") || is(s, "conn") || is(s, "acc") || is(s, "listen") || is(s, "fresh6") || is(s, "conn6"))
			add((struct test_case){s, c, NULL, NULL, use ? END_DATA : END_NONE, true});
		return;
	}
	for (int e = 0; e < END_COUNT; e++)
		for (int nonblocking = 0; nonblocking < 2; nonblocking++)
			if (takes(s, e, c) && !(nonblocking && e >= END_DATA_LATER && strncmp(c->name, "re", 2) == 0))
				add((struct test_case){s, c, NULL, NULL, e, nonblocking});
}

static void two_calls(const struct state *s, const struct call *a, const struct call *b)
{
	bool changing = strncmp(s->name, "conn-", 5) == 0 || strncmp(s->name, "acc", 3) == 0;
	if (s->flags & (STATE_V6 | STATE_HOLE) || changing || is(s, "closed"))
		return;
	for (int e = 0; e < END_DATA_LATER; e++)
		if (e == END_FIN_RST || e == END_OOB || (is_main_ending(e) && e != END_NONE) || !(s->flags & STATE_PEER))
			if (takes(s, e, a))
				add((struct test_case){s, a, b, NULL, e, true});
}

static void with_option(const struct state *s, const struct option *o, const struct call *c)
{
	/* With TCP_DEFER_ACCEPT there is nothing to accept until data comes. */
	bool defer = strcmp(o->name, "defer") == 0;
	if (!is(s, "conn") && !is(s, defer ? "pending" : "acc") && !is(s, "listen") && !is(s, "nb-refused"))
		return;
	if (c->flags & CALL_OPTION || !(c->flags & CALL_SECOND))
		return;
	for (int e = 0; e < END_COUNT; e++)
		if (takes(s, e, c) && (e == END_NONE || e == END_DATA || e == END_DATA_FIN || e == END_RST || e == END_OOB || e == END_DATA_LATER))
			add((struct test_case){s, c, NULL, o, e, false});
}

struct test_case *cases_make(unsigned *n)
{
	unsigned calls = n_calls();
	for (unsigned s = 0; s < n_states; s++) {
		for (unsigned i = 0; i < calls; i++)
			one_call(&states[s], call_at(i));
		for (unsigned i = 0; i < calls; i++)
			for (unsigned k = 0; call_at(i)->flags & CALL_FIRST && k < calls; k++)
				if (call_at(k)->flags & CALL_SECOND)
					two_calls(&states[s], call_at(i), call_at(k));
		for (unsigned o = 0; o < n_options; o++)
			for (unsigned i = 0; i < calls; i++)
				with_option(&states[s], &options[o], call_at(i));
	}
	*n = n_cases;
	return cases;
}

void case_name(const struct test_case *c, char name[NAME_MAX_])
{
	snprintf(name, NAME_MAX_, "%s/%s/%s/%s%s%s%s%s", c->state->name, ending_names[c->ending], c->nonblocking ? "nb" : "b", c->first->name,
		 c->second ? "," : "", c->second ? c->second->name : "", c->option ? "@" : "", c->option ? c->option->name : "");
}
