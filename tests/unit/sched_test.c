/*
 * Who drives, over all interleavings: three threads and the helper, each step of each in every order.
 *
 * The model's threads do what src/drive/wait.c does with the scheduler's answers: wait, block, wake when a wake-up was
 * posted, look at their event, leave. At any moment a thread may get an event, time out, be interrupted by a handler
 * (which may never come back: longjmp, cancellation) or end. A state is what the scheduler knows and where everybody
 * is; the search visits every state that can be reached, and asserts in each of them:
 *   - the invariant (sched_is_sound);
 *   - somebody will look: the seat's thread is blocked as the leader, or has a wake-up posted, or runs; the helper
 *     likewise;
 *   - a blocked thread with an event has a wake-up posted (none is lost), and who was told to lead has one, too;
 *   - a follower is never one that has an event.
 */
#include <stdio.h>
#include <string.h>

#include "drive/sched.h"
#include "base/time.h"
#include "unit.h"

#define THREADS 3

enum place { RUNS, BLOCKED, WOKEN, GONE };

/* Everything that matters, by value, so that states compare by bytes. */
struct state {
	uint8_t place[THREADS], role[THREADS], event[THREADS], posted[THREADS];
	uint8_t order[THREADS]; /* followers, first to last; THREADS: none */
	uint8_t seat;           /* THREADS: the helper's */
	uint8_t helper, helper_posted, helper_blocked;
};

static struct sched s;
static struct sched_thread t[THREADS];

static void load(const struct state *m)
{
	sched_init(&s);
	for (int i = 0; i < THREADS; i++) {
		sched_thread_init(&t[i]);
		t[i].role = m->role[i];
	}
	for (int i = 0; i < THREADS && m->order[i] < THREADS; i++)
		list_push_back(&s.followers, &t[m->order[i]].node);
	s.seat = m->seat < THREADS ? &t[m->seat] : NULL;
	s.helper = m->helper;
}

static void save(struct state *m)
{
	int n = 0;
	for (int i = 0; i < THREADS; i++)
		m->role[i] = t[i].role;
	memset(m->order, THREADS, sizeof m->order);
	list_for_each (pos, tmp, &s.followers)
		m->order[n++] = container_of(pos, struct sched_thread, node) - t;
	m->seat = s.seat ? s.seat - t : THREADS;
	m->helper = s.helper;
}

static void post(struct state *m, struct sched_wake wake)
{
	if (wake.thread)
		m->posted[wake.thread - t] = 1;
	if (wake.helper)
		m->helper_posted = 1;
}

/* The steps; false: not possible here. Odd numbers of parameters are spelled out in step(). */
enum action { WAIT, EVENT, WAKE, TIME_OUT, INTERRUPT, COME_BACK, END, ACTIONS };

/* As drive_wait: the event that is there ends it; else the thread blocks (again). */
static void look_or_block(struct state *m, int i)
{
	if (m->event[i]) {
		m->event[i] = 0;
		m->place[i] = RUNS;
		post(m, sched_leave(&s, &t[i]));
		return;
	}
	sched_wait(&s, &t[i]);
	m->place[i] = BLOCKED;
	m->posted[i] = 0; /* what woke it for something else is drained */
}

static bool step_thread(struct state *m, enum action a, int i)
{
	switch (a) {
	case WAIT:
		if (m->place[i] != RUNS)
			return false;
		look_or_block(m, i);
		return true;
	case EVENT: /* noticed by whoever runs a turn */
		if (m->event[i] || m->place[i] == GONE)
			return false;
		m->event[i] = 1;
		if (sched_signal(&s, &t[i]) && m->place[i] == BLOCKED)
			m->posted[i] = 1;
		return true;
	case WAKE: /* its system call returns */
		if (m->place[i] != BLOCKED || !m->posted[i])
			return false;
		look_or_block(m, i);
		return true;
	case TIME_OUT:
		if (m->place[i] != BLOCKED)
			return false;
		m->place[i] = RUNS;
		m->event[i] = m->posted[i] = 0;
		post(m, sched_leave(&s, &t[i]));
		return true;
	case INTERRUPT: /* a handler runs; it may be over at once, or never */
		if (m->place[i] != BLOCKED)
			return false;
		m->place[i] = WOKEN;
		m->posted[i] = 0;
		post(m, sched_leave(&s, &t[i]));
		return true;
	case COME_BACK:
		if (m->place[i] != WOKEN)
			return false;
		look_or_block(m, i);
		return true;
	case END:
		if (m->place[i] == GONE)
			return false;
		m->place[i] = GONE;
		m->event[i] = m->posted[i] = 0;
		post(m, sched_leave(&s, &t[i]));
		return true;
	case ACTIONS:
		break;
	}
	return false;
}

/*
 * The helper looks (in or out of the grace time), sleeps, and wakes: by a post, an event of the engine's while it
 * leads, its tick.
 */
enum { HELPER_LOOK_SOON, HELPER_LOOK_LATE, HELPER_WAKE, HELPER_STEPS };

static bool step_helper(struct state *m, int a)
{
	int64_t until;
	if (a == HELPER_WAKE) {
		if (!m->helper_blocked || (m->helper == HELPER_SLEEPS && !m->helper_posted))
			return false;
		m->helper_blocked = m->helper_posted = 0;
		sched_helper_awake(&s);
		return true;
	}
	if (m->helper_blocked)
		return false;
	sched_helper_look(&s, 1000, a == HELPER_LOOK_SOON ? 900 : 0, 200, TIME_NEVER, &until);
	m->helper_blocked = 1;
	return true;
}

/* A program that ends a thread ends it: the model keeps two alive in most states, or the search would be trivial. */
static void check(const struct state *m)
{
	ck_assert(sched_is_sound(&s));
	if (m->seat < THREADS) {
		int i = m->seat;
		ck_assert(m->place[i] == BLOCKED);
		if (m->role[i] == SCHED_PROMOTED)
			ck_assert(m->posted[i]);
	} else {
		ck_assert(!m->helper_blocked || m->helper_posted || m->helper == HELPER_TICKS || m->helper == HELPER_LEADS);
	}
	for (int i = 0; i < THREADS; i++) {
		if (m->place[i] == BLOCKED && m->event[i])
			ck_assert(m->posted[i]);
		if (m->role[i] == SCHED_FOLLOWS)
			ck_assert(m->place[i] == BLOCKED && !m->event[i]);
		if (m->place[i] != BLOCKED)
			ck_assert_int_eq(m->role[i], SCHED_OUT);
		/* Out of the scheduler and blocked: it was signalled, and will wake. */
		if (m->place[i] == BLOCKED && m->role[i] == SCHED_OUT)
			ck_assert(m->posted[i]);
	}
}

#define STATES_MAX 200000
#define TABLE      (1 << 20)
static struct state states[STATES_MAX];
static uint32_t table[TABLE]; /* index + 1 */
static uint32_t n_states;
static uint64_t transitions;

static void visit(const struct state *m)
{
	uint64_t h = 1469598103934665603u;
	for (size_t i = 0; i < sizeof *m; i++)
		h = (h ^ ((const uint8_t *)m)[i]) * 1099511628211u;
	uint32_t at = (h ^ h >> 32) & (TABLE - 1);
	for (; table[at]; at = (at + 1) & (TABLE - 1))
		if (!memcmp(&states[table[at] - 1], m, sizeof *m))
			return;
	ck_assert_uint_lt(n_states, STATES_MAX);
	states[n_states] = *m;
	table[at] = ++n_states;
}

START_TEST(every_interleaving)
{
	struct state first;
	memset(&first, 0, sizeof first);
	memset(first.order, THREADS, sizeof first.order);
	first.seat = THREADS;
	first.helper = HELPER_AWAKE;
	visit(&first);
	for (uint32_t at = 0; at < n_states; at++)
		for (int a = 0; a < ACTIONS * THREADS + HELPER_STEPS; a++) {
			struct state m = states[at];
			load(&m);
			bool possible = a < ACTIONS * THREADS ? step_thread(&m, a / THREADS, a % THREADS)
							       : step_helper(&m, a - ACTIONS * THREADS);
			if (!possible)
				continue;
			save(&m);
			check(&m);
			transitions++;
			visit(&m);
		}
	printf("%u states, %lu transitions\n", n_states, transitions);
	ck_assert_uint_gt(n_states, 1000);
}
END_TEST

/* The landed fault: the first follower had its own event already, was woken as the next leader, and went. */
START_TEST(who_has_an_event_is_not_promoted)
{
	sched_init(&s);
	s.helper = HELPER_SLEEPS;
	for (int i = 0; i < THREADS; i++)
		sched_thread_init(&t[i]);
	ck_assert(sched_wait(&s, &t[0]));
	ck_assert(!sched_wait(&s, &t[1]));
	ck_assert(!sched_wait(&s, &t[2]));
	ck_assert(sched_signal(&s, &t[0]));
	ck_assert(sched_signal(&s, &t[1]));
	struct sched_wake wake = sched_leave(&s, &t[0]);
	ck_assert_ptr_eq(wake.thread, &t[2]);
	ck_assert(!wake.helper);
	ck_assert_int_eq(t[2].role, SCHED_PROMOTED);
	/* Promoted, and then an event of its own before it came: the seat goes on, to the helper, which slept. */
	ck_assert(!sched_signal(&s, &t[2]));
	wake = sched_leave(&s, &t[2]);
	ck_assert_ptr_null(wake.thread);
	ck_assert(wake.helper);
	ck_assert(sched_is_sound(&s));
}
END_TEST

START_TEST(the_helper_looks)
{
	int64_t until;
	sched_init(&s);
	sched_thread_init(&t[0]);
	/* The program drove just now: a tick, whoever has the seat. */
	ck_assert_int_eq(sched_helper_look(&s, 1000, 900, 200, 5000, &until), HELPER_TICKS);
	ck_assert_int_eq(until, 1100);
	/* Nobody drives: the helper leads, until the deadline. */
	ck_assert_int_eq(sched_helper_look(&s, 1100, 900, 200, 5000, &until), HELPER_LEADS);
	ck_assert_int_eq(until, 5000);
	ck_assert(!sched_helper_is_late(&s, 5000));
	ck_assert(sched_helper_is_late(&s, 4999));
	/*
	 * A thread takes the seat: no business of the helper's; and gives it back: the helper's poll still covers all.
	 */
	ck_assert(sched_wait(&s, &t[0]));
	ck_assert(!sched_helper_is_late(&s, 4999));
	struct sched_wake wake = sched_leave(&s, &t[0]);
	ck_assert(!wake.helper && !wake.thread);
	ck_assert(sched_helper_is_late(&s, 4999));
	/* A thread leads for long: the helper sleeps, and is woken when the seat becomes free. */
	ck_assert(sched_wait(&s, &t[0]));
	ck_assert_int_eq(sched_helper_look(&s, 9000, 900, 200, 5000, &until), HELPER_SLEEPS);
	ck_assert_int_eq(until, TIME_NEVER);
	wake = sched_leave(&s, &t[0]);
	ck_assert(wake.helper);
	/*
	 * It leads, and finds the program back, whose call is longer ago than the short grace time of 100: a tick all
	 * the same, and no second driver.
	 */
	sched_helper_awake(&s);
	ck_assert_int_eq(sched_helper_look(&s, 20000, 900, 1000, 30000, &until), HELPER_LEADS);
	sched_helper_awake(&s);
	sched_helper_found_back(&s, 20500);
	ck_assert_int_eq(sched_helper_look(&s, 20500, 20300, 100, 30000, &until), HELPER_TICKS);
	ck_assert_int_eq(until, 20600);
	/* It made one call and is gone: the helper leads again. */
	ck_assert_int_eq(sched_helper_look(&s, 20600, 20300, 100, 30000, &until), HELPER_LEADS);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sched");
	TCase *c = tcase_create("sched");
	tcase_set_timeout(c, 60); /* the machine may be busy with other things */
	tcase_add_test(c, every_interleaving);
	tcase_add_test(c, who_has_an_event_is_not_promoted);
	tcase_add_test(c, the_helper_looks);
	suite_add_tcase(suite, c);
	return suite_main(suite);
}
