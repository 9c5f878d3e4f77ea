/*
 * Waiting with real threads, over an engine that is a pipe: each byte in it is an event for the thread of that number.
 * Built with ThreadSanitizer, too (.ci/run).
 *
 * Nothing here is decided by time; every wait has a bound, which a lost wake-up or an empty seat would run into
 * (CK_DEFAULT_TIMEOUT ends the test then).
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "pipe_engine.h"
#include "unit.h"

/* Whoever asks again and again would keep the lock from the helper: a mutex is not fair. */
static void let_others(void)
{
	drive_unlock(&e.drive);
	sched_yield();
}

static unsigned arrived(int who)
{
	drive_lock(&e.drive);
	unsigned n = e.items[who].arrived;
	let_others();
	return n;
}

/* ---- the program's threads compute: the helper drives ---- */

START_TEST(nobody_waits)
{
	for (unsigned i = 1; i <= 100; i++) {
		arrive(0);
		while (arrived(0) != i) /* seen without a turn of ours */
			;
		if (i % 10 == 0)
			ck_assert_int_eq(take(0, 0, -1), 0);
	}
	drive_enter(&e.drive);
	e.deadline = clock_now_us() + 3000;
	drive_leave(&e.drive);
	for (unsigned ticks = 0; !ticks;) {
		drive_lock(&e.drive);
		ticks = e.ticks;
		let_others();
	}
}
END_TEST

/* ---- three wait, two have something in one batch, the third's comes later ---- */

static void *take_one(void *arg)
{
	long who = (long)arg;
	ck_assert_int_eq(take(who, 0, -1), 0);
	return NULL;
}

static void until_followers(unsigned n)
{
	for (unsigned seen = 0; seen != n;) {
		seen = 0;
		drive_lock(&e.drive);
		list_for_each (pos, tmp, &e.drive.sched.followers)
			seen++;
		drive_unlock(&e.drive);
	}
}

START_TEST(two_of_three)
{
	for (int round = 0; round < 200; round++) {
		pthread_t t[3];
		for (long i = 0; i < 3; i++)
			ck_assert_int_eq(pthread_create(&t[i], NULL, take_one, (void *)i), 0);
		until_followers(2);
		uint8_t both[2] = {round % 3, (round + 1) % 3}, last = (round + 2) % 3;
		ck_assert_int_eq(write(e.ring[1], both, 2), 2);
		pthread_join(t[both[0]], NULL);
		pthread_join(t[both[1]], NULL);
		arrive(last);
		pthread_join(t[last], NULL);
	}
}
END_TEST

/* ---- a handler jumps out of a wait; a thread is cancelled in it ---- */

static sigjmp_buf out;
static _Atomic int undone;
static _Atomic bool jumped;

/* What the shim's trampoline does around a handler that interrupts a wait. */
static void on_signal(int sig)
{
	struct unwind unwind;
	if (engine_inside || !engine_wait_timeout)
		return;
	engine_handlers.all++;
	engine_handlers.norestart++;
	*engine_wait_timeout = (struct timespec){0, 0};
	engine_on_interrupt();
	unwind_begin(&unwind, NULL, NULL);
	jumped = true;
	siglongjmp(out, 1);
}

static void count_undo(struct undo *u)
{
	undone++;
}

/* In a function of its own: its frame is gone after the jump. */
static __attribute__((noinline)) int take_undoable(int who, int kfd)
{
	struct undo u;
	undo_push(&u, count_undo);
	int r = take(who, 0, kfd);
	undo_pop(&u);
	return r;
}

/*
 * Until it has jumped: the shim would keep a signal for later that finds its thread still on the way out of the lock;
 * on_signal does not.
 */
static void *signaller(void *arg)
{
	pthread_t *who = arg;
	while (!jumped) {
		drive_lock(&e.drive);
		bool blocked = e.drive.sched.seat;
		let_others();
		if (blocked)
			pthread_kill(*who, SIGUSR1);
	}
	return NULL;
}

START_TEST(jump_out)
{
	struct sigaction sa = {.sa_handler = on_signal};
	pthread_t me = pthread_self(), t;
	sigaction(SIGUSR1, &sa, NULL);
	for (volatile int i = 0; i < 50; i++) {
		undone = 0;
		jumped = false;
		ck_assert_int_eq(pthread_create(&t, NULL, signaller, &me), 0);
		if (!sigsetjmp(out, 1)) {
			take_undoable(0, i % 2 ? e.ring[1] : -1);
			ck_abort_msg("returned");
		}
		pthread_join(t, NULL);
		ck_assert_int_eq(undone, 1);
		ck_assert_ptr_null(engine_undos);
		/* The helper drives at once, without us. */
		unsigned n = arrived(1);
		arrive(1);
		while (arrived(1) == n)
			;
		arrive(0);
		ck_assert_int_eq(take(0, 0, -1), 0);
	}
}
END_TEST

static void *take_undoable_thread(void *arg)
{
	take_undoable((long)arg, -1);
	return NULL;
}

START_TEST(cancelled)
{
	for (long round = 0; round < 100; round++) {
		pthread_t t[3];
		void *result;
		for (long i = 0; i < 3; i++)
			ck_assert_int_eq(pthread_create(&t[i], NULL, take_undoable_thread, (void *)i), 0);
		if (round % 2)
			until_followers(2);
		for (int i = 0; i < 3; i++)
			if (i != round % 3)
				pthread_cancel(t[i]);
		for (int i = 0; i < 3; i++)
			if (i != round % 3) {
				pthread_join(t[i], &result);
				ck_assert_ptr_eq(result, PTHREAD_CANCELED);
			}
		arrive(round % 3);
		pthread_join(t[round % 3], NULL);
	}
}
END_TEST

/* ---- what verbs put off ---- */

static void speak(void)
{
	drive_enter_verb(&e.drive);
	e.owed = true;
	drive_leave_verb(&e.drive);
}

/* A verb that finds nothing, and does not block. */
static void look_in_vain(void)
{
	drive_enter_verb(&e.drive);
	drive_leave_empty(&e.drive);
}

/*
 * An event loop: until its thread is trusted, however often the machine stops it meanwhile. Returns with something put
 * off.
 */
static void until_put_off(void)
{
	while (speak(), !e.owed) {
		arrive(0);
		drive_enter_wait(&e.drive);
		drive_leave(&e.drive);
		ck_assert_int_eq(e.owed, false);
		ck_assert_int_eq(take(0, 0, -1), 0);
	}
}

/* Verbs one after the other, until all is said. */
static void speak_on(void)
{
	while (e.owed) {
		drive_enter_verb(&e.drive);
		drive_leave_verb(&e.drive);
	}
}

/*
 * What grows old is said by the next verb, but what is not urgent: that waits longer. (The helper may have come by
 * before: then once more.)
 */
START_TEST(put_off_longer)
{
	do {
		until_put_off();
		speak_on();
	} while (!e.urgent);
	e.little = true;
	do {
		e.urgent = 0;
		until_put_off();
		speak_on();
	} while (e.urgent < 2);
}
END_TEST

/*
 * What a peer waits for is said by the verb itself. (The helper may have come by, or may lead: so the verb before it
 * and the one behind put off.)
 */
START_TEST(put_off_by_nobody_who_has_much)
{
	for (int i = 0; i < 100; i++) {
		until_put_off();
		e.much = true;
		speak();
		e.much = false;
		ck_assert(!e.owed);
	}
}
END_TEST

/* Whether anything is unsaid behind a wait that blocks. */
static bool owed_after_wait_of(int64_t us)
{
	struct wait wait;
	engine_call();
	drive_enter_wait(&e.drive);
	drive_wait_begin(&wait, &e.drive, us);
	int r = drive_wait(&e.drive, drive_waiter(&e.drive), NULL, 0, &wait, NULL);
	bool owed = e.owed;
	drive_leave_verb(&e.drive);
	ck_assert_int_eq(r, -ETIMEDOUT);
	return owed;
}

static bool owed_after_wait(void)
{
	return owed_after_wait_of(1);
}

START_TEST(put_off)
{
	/* A wait that finds nothing says it, whether it blocks or not. */
	until_put_off();
	ck_assert(!owed_after_wait());
	until_put_off();
	drive_enter_wait(&e.drive);
	drive_leave(&e.drive);
	ck_assert(!e.owed);
	/*
	 * One verb that finds nothing ends a round of an event loop; the second in a row is a thread that waits by
	 * asking. (The helper may have come by, or its age: then once more.)
	 */
	do {
		until_put_off();
		look_in_vain();
		speak();
		look_in_vain();
	} while (!e.owed);
	look_in_vain();
	ck_assert(!e.owed);
	/* So does whoever takes the lock for anything else. */
	until_put_off();
	drive_lock(&e.drive);
	bool owed = e.owed;
	drive_unlock(&e.drive);
	ck_assert(!owed);
	/*
	 * The thread computes: the helper does, and trusts the thread no more. (It may have come by early, for
	 * something else: then once more.)
	 */
	do {
		until_put_off();
		while (e.owed)
			;
		speak();
	} while (e.owed);
	/*
	 * Another thread leads, and sleeps on; the helper, asleep as well, is woken by the thread that is trusted, and
	 * says what its verbs leave behind.
	 */
	pthread_t t;
	ck_assert_int_eq(pthread_create(&t, NULL, take_one, (void *)1), 0);
	for (bool asleep = false; !asleep;) {
		drive_lock(&e.drive);
		asleep = e.drive.sched.seat && e.drive.sched.helper == HELPER_SLEEPS;
		bool both = e.drive.sched.seat && e.drive.sched.helper == HELPER_LEADS;
		let_others();
		if (both) /* it led before, and finds that with the next event */
			arrive(2);
	}
	while (speak(), !e.owed) {
		drive_enter_wait(&e.drive);
		drive_leave(&e.drive);
	}
	while (e.owed)
		;
	arrive(1);
	pthread_join(t, NULL);
}
END_TEST

#define SAID_AT_ONCE 10000
#define LONGER_US    150 /* a thread that is not busy leaves nothing for so long */

/*
 * A thread that always has something to do, in small verbs, may leave its output for longer. (Until the machine lets it
 * run for so long. When it stopped the thread the helper leads, and nothing is put off until something arrives.)
 */
START_TEST(put_off_while_busy)
{
	until_put_off();
	ck_assert(!owed_after_wait());
	for (unsigned said = 0; !e.owed || e.drive.now - e.drive.put_off_us < LONGER_US;) {
		speak();
		drive_enter_wait(&e.drive);
		drive_leave_verb(&e.drive);
		said = e.owed ? 0 : said + 1;
		if (said == SAID_AT_ONCE) {
			until_put_off();
			said = 0;
		}
	}
}
END_TEST

/*
 * A millisecond of small verbs behind a wait, whose thread ran and slept for so long until then. True: something was
 * put off for longer.
 */
static bool longer_behind_wait(int64_t ran_us, int64_t slept_us)
{
	struct waiter *w = drive_waiter(&e.drive);
	bool longer = false;
	until_put_off();
	ck_assert(!owed_after_wait());
	w->ran_us = ran_us;
	w->slept_us = slept_us;
	do {
		speak();
		drive_enter_wait(&e.drive);
		drive_leave_verb(&e.drive);
		bool late = e.drive.now - w->woken_us > 1000; /* as if it had not waited at all */
		longer |= !late && e.owed && e.drive.now - e.drive.put_off_us >= LONGER_US;
	} while (e.drive.now - w->woken_us < 1000);
	return longer;
}

/*
 * So may one that waits often, but not for long: its pauses are short beside what it does between them. One that waits
 * for as long as it runs may not.
 */
START_TEST(put_off_while_nearly_busy)
{
	while (!longer_behind_wait(1000, 900))
		;
	for (int i = 0; i < 20; i++)
		ck_assert(!longer_behind_wait(1000, 1000));
}
END_TEST

/* Nor may one beside a thread that waits: the program has no more to do than it gets done. */
START_TEST(put_off_beside_idle_thread)
{
	struct waiter *w = drive_waiter(&e.drive);
	pthread_t t;
	until_put_off();
	ck_assert(!owed_after_wait());
	ck_assert_int_eq(pthread_create(&t, NULL, take_one, (void *)1), 0);
	for (bool leads = false; !leads;) {
		drive_lock(&e.drive);
		leads = e.drive.sched.seat;
		let_others();
	}
	for (int i = 0; i < 20; i++) {
		while (speak(), !e.owed) {
			drive_enter_wait(&e.drive);
			/* since the machine had stopped this thread: it would sleep on, for nothing arrives here */
			if (e.drive.sched.helper == HELPER_LEADS)
				drive_helper_wake(&e.drive);
			drive_leave(&e.drive);
		}
		w->ran_us = 1000;
		w->slept_us = 0;
		w->woken_us = e.drive.now;
		do {
			speak();
			drive_enter_wait(&e.drive);
			drive_leave_verb(&e.drive);
			ck_assert(!e.owed || e.drive.now - e.drive.put_off_us < LONGER_US);
		} while (e.drive.now - w->woken_us < 1000);
	}
	arrive(1);
	pthread_join(t, NULL);
}
END_TEST

/* What it ran and slept is told by its waits, and the last ones count most. */
START_TEST(runs_and_sleeps)
{
	const struct waiter *w = drive_waiter(&e.drive);
	int64_t ran = 0, slept = 0, woken = 0;
	ck_assert(!owed_after_wait());
	ck_assert_int_eq(w->ran_us, 0);
	for (int i = 0; i < 50; i++) {
		slept = w->slept_us, ran = w->ran_us, woken = w->woken_us;
		ck_assert(!owed_after_wait());
		ck_assert_int_gt(w->woken_us, w->waited_us);
		ck_assert_int_eq(w->ran_us, ran - ran / 8 + min_time(w->waited_us - woken, 2000));
		ck_assert_int_eq(w->slept_us, slept - slept / 8 + min_time(w->woken_us - w->waited_us, 2000));
	}
}
END_TEST

/* The wait itself is no time in which there was something to do: behind a long one nothing is left for longer. */
START_TEST(put_off_behind_long_wait)
{
	for (int seen = 0; seen < 20;) {
		until_put_off();
		ck_assert(!owed_after_wait_of(3000));
		drive_waiter(&e.drive)->ran_us = 0; /* however often the machine stopped it before */
		int64_t woken = e.drive.now;
		do {
			speak();
			drive_enter_wait(&e.drive);
			drive_leave_verb(&e.drive);
			bool soon = e.drive.now - woken < 2000;
			ck_assert(!soon || !e.owed || e.drive.now - e.drive.put_off_us <= 100);
			seen += soon && e.owed;
		} while (e.drive.now - woken < 1000);
	}
}
END_TEST

/*
 * A thread that sends and sends, and looks for input no more, says each at once before long; and never begins to put
 * off by sending alone.
 */
START_TEST(put_off_by_no_sender)
{
	until_put_off();
	for (int at_once = 0; at_once < 1000; at_once++) {
		speak();
		if (e.owed)
			at_once = 0;
	}
}
END_TEST

/* ---- streams ---- */

/* bulk.h: behind a large frame a wait looks, each time while that finds another. */
START_TEST(looks_behind_large_frames)
{
	struct bulk b = {0};
	ck_assert_int_eq(bulk_look_us(&b, 1000), 0); /* none came */
	bulk_note_frame(&b, 1000, BULK_LEAST - 1);
	ck_assert_int_eq(bulk_look_us(&b, 1001), 0);
	for (int64_t now = 1000; now < 2000; now += 10) {
		bulk_note_frame(&b, now, BULK_LEAST);
		ck_assert_int_eq(bulk_look_us(&b, now + BULK_FRESH_US), BULK_LOOK_US);
		bulk_looked(&b, true);
		ck_assert_int_eq(bulk_look_us(&b, now + BULK_FRESH_US + 1), 0);
	}
}
END_TEST

static unsigned looks_of(struct bulk *b, unsigned waits, bool found)
{
	unsigned looks = 0;
	for (unsigned i = 0; i < waits; i++) {
		bulk_note_frame(b, 5, BULK_LEAST);
		if (!bulk_look_us(b, 5))
			continue;
		looks++;
		bulk_looked(b, found);
	}
	return looks;
}

/* … and seldom while it does not: a program whose peer sends one large frame at a time, or has the same processor. */
START_TEST(looks_in_vain_are_seldom)
{
	struct bulk b = {0};
	ck_assert_uint_le(looks_of(&b, 100 * BULK_EVERY_MAX, false), 100 + 8);
	ck_assert_uint_ge(looks_of(&b, 100 * BULK_EVERY_MAX, false), 100 - 1);
	looks_of(&b, 2 * BULK_EVERY_MAX, true); /* the peer's stream begins */
	ck_assert_uint_eq(looks_of(&b, 100, true), 100);
}
END_TEST

/* ---- no fd is left: waits on kernel fds go on in slices ---- */

static void *take_with_fd(void *arg)
{
	ck_assert_int_eq(take((long)arg, 0, 0), 0); /* standard input: never ready here */
	return NULL;
}

START_TEST(no_fd_left)
{
	struct rlimit before, now;
	pthread_t t[2];
	int quiet[2];
	ck_assert_int_eq(pipe(quiet), 0);
	dup2(quiet[0], 0);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	now = before;
	now.rlim_cur = 0;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &now), 0);
	for (long i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, take_with_fd, (void *)i), 0);
	arrive(0);
	arrive(1);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	setrlimit(RLIMIT_NOFILE, &before);
	close(quiet[0]);
	close(quiet[1]);
}
END_TEST

/* ---- everything at once ---- */

struct worker {
	int who;
	unsigned want;
	uint64_t random;
};

static uint64_t next_random(uint64_t *r)
{
	*r ^= *r << 13;
	*r ^= *r >> 7;
	*r ^= *r << 17;
	return *r;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	for (unsigned got = 0; got < w->want;) {
		uint64_t r = next_random(&w->random);
		int result = take(w->who, r % 4 ? 0 : 1 + r % 500, r % 3 ? -1 : e.ring[1]);
		if (result == 0)
			got++;
		else
			ck_assert_int_eq(result, -ETIMEDOUT);
		for (volatile unsigned compute = r >> 8 & 0xfff; compute; compute--)
			;
	}
	return NULL;
}

#define EVENTS 3000

START_TEST(stress)
{
	pthread_t t[THREADS];
	struct worker w[THREADS];
	for (int i = 0; i < THREADS; i++) {
		w[i] = (struct worker){.who = i, .want = EVENTS, .random = 88172645463325252u + i};
		ck_assert_int_eq(pthread_create(&t[i], NULL, work, &w[i]), 0);
	}
	uint64_t random = 42;
	unsigned left[THREADS];
	for (int i = 0; i < THREADS; i++)
		left[i] = EVENTS;
	for (unsigned n = THREADS * EVENTS; n;) {
		int who = next_random(&random) % THREADS;
		if (!left[who])
			continue;
		left[who]--;
		n--;
		arrive(who);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("drive");
	TCase *c = tcase_create("drive");
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 60);
	tcase_add_test(c, nobody_waits);
	tcase_add_test(c, two_of_three);
	tcase_add_test(c, jump_out);
	tcase_add_test(c, cancelled);
	tcase_add_test(c, put_off);
#ifndef __SANITIZE_THREAD__ /* who is to be trusted comes back within 50 us, several times in a row: with the sanitizer that is luck, and took 1 to 70 s */
	tcase_add_test(c, put_off_longer);
	tcase_add_test(c, put_off_by_nobody_who_has_much);
	tcase_add_test(c, put_off_while_busy);
	tcase_add_test(c, put_off_while_nearly_busy);
	tcase_add_test(c, put_off_beside_idle_thread);
	tcase_add_test(c, put_off_behind_long_wait);
#else
	(void)put_off_longer;
	(void)put_off_by_nobody_who_has_much;
	(void)put_off_while_busy;
	(void)put_off_while_nearly_busy;
	(void)put_off_beside_idle_thread;
	(void)put_off_behind_long_wait;
#endif
	tcase_add_test(c, runs_and_sleeps);
	tcase_add_test(c, put_off_by_no_sender);
	tcase_add_test(c, looks_behind_large_frames);
	tcase_add_test(c, looks_in_vain_are_seldom);
	tcase_add_test(c, no_fd_left);
	tcase_add_test(c, stress);
	suite_add_tcase(suite, c);
	return suite_main(suite);
}
