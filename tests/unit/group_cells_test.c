/*
 * Members of a group that decide in shared memory: of every frame exactly one says that it is its own, in whatever
 * order they ask, and however members come and go.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/time.h"
#include "kernel/classifier_group_internal.h"
#include "tests/suite.h"

#define MEMBERS 4
#define FLOWS   4000
#define START   (1000 * USEC_PER_SEC)

static const struct classifier_ops ops = {.name = "cells", .groups_in_memory = true};
static struct classifier classifiers[MEMBERS];
static struct classifier_group *member[MEMBERS];

static struct flow_key key(unsigned n)
{
	uint8_t here[4] = {10, 0, 0, 1}, there[4] = {10, 1, n >> 16, n >> 8};
	return (struct flow_key){.laddr = ip_addr_from_v4(here), .raddr = ip_addr_from_v4(there), .lport = 80, .rport = 1024 + n};
}

static void enter(unsigned m)
{
	int fds[CLASSIFIER_GROUP_FDS];
	classifiers[m].ops = &ops;
	if (m == 0) {
		ck_assert_int_eq(classifier_group_new(&classifiers[0], &member[0]), 0);
	} else {
		ck_assert_uint_eq(classifier_group_fds(member[0], fds), 1);
		int copy = dup(fds[0]);
		ck_assert_int_eq(classifier_group_open(&classifiers[m], &copy, 1, &member[m]), 0);
	}
	ck_assert_int_eq(classifier_group_take_slot(member[m], m), 0);
	classifier_group_set_serving(member[m], true);
	classifier_group_set_accepting(member[m], true);
}

static void setup(void)
{
	for (unsigned m = 0; m < MEMBERS; m++)
		enter(m);
}

static void teardown(void)
{
	for (unsigned m = 0; m < MEMBERS; m++)
		classifier_group_free(member[m]);
}

/* Whose it is. All are asked, beginning with `first`; members[out] have no say. */
static int owner(unsigned n, bool syn, int64_t now, unsigned first, int out)
{
	struct flow_key k = key(n);
	int found = -1;
	for (unsigned i = 0; i < MEMBERS; i++) {
		int m = (first + i) % MEMBERS;
		if (m == out || classifier_group_is_others(member[m], &k, syn, now))
			continue;
		ck_assert_msg(found < 0, "flow %u is %d's and %d's", n, found, m);
		found = m;
	}
	return found;
}

START_TEST(one_member_gets_a_syn_and_what_follows)
{
	unsigned got[MEMBERS] = {0};
	for (unsigned n = 0; n < FLOWS; n++) {
		int m = owner(n, true, START, n, -1);
		ck_assert_int_ge(m, 0);
		got[m]++;
		struct flow_key k = key(n);
		ck_assert_int_eq(classifier_group_add_flow(member[m], &k), 0);
		ck_assert_int_eq(owner(n, true, START, n + 1, -1), m);
		ck_assert_int_eq(owner(n, false, START + 100 * USEC_PER_SEC, n + 2, -1), m); /* for as long as it lives */
	}
	for (unsigned m = 0; m < MEMBERS; m++)
		ck_assert_uint_gt(got[m], FLOWS / MEMBERS / 2);
}
END_TEST

/* … and whoever was chosen lets it go, so that no other flow is found in its cell. */
static int owner_once(unsigned n)
{
	struct flow_key k = key(n);
	int m = owner(n, true, START, n, -1);
	ck_assert_int_ge(m, 0);
	ck_assert_int_eq(classifier_group_del_flow(member[m], &k), -ENOENT);
	return m;
}

START_TEST(who_waits_comes_first_then_the_shorter_queue)
{
	classifier_group_set_waiting(member[2], true);
	for (unsigned n = 0; n < 100; n++)
		ck_assert_int_eq(owner_once(n), 2);
	classifier_group_set_waiting(member[3], true);
	classifier_group_set_queue(member[2], 7);
	for (unsigned n = 100; n < 200; n++)
		ck_assert_int_eq(owner_once(n), 3);
	for (unsigned m = 0; m < MEMBERS; m++) /* nobody accepts: it is somebody's all the same */
		classifier_group_set_accepting(member[m], false);
	classifier_group_set_serving(member[0], false); /* but of one with a listener */
	for (unsigned n = 200; n < 300; n++)
		ck_assert_int_ge(owner_once(n), 1);
}
END_TEST

START_TEST(what_nobody_has_is_answered_by_one)
{
	for (unsigned n = 0; n < FLOWS; n++)
		ck_assert_int_ge(owner(n, false, START, n, -1), 0);
	for (unsigned m = 0; m < MEMBERS; m++)
		classifier_group_set_serving(member[m], false);
	for (unsigned n = 0; n < FLOWS; n++)
		ck_assert_int_ge(owner(n, false, START, n, -1), 0);
	for (unsigned n = 0; n < FLOWS; n++) /* nor does a SYN stay unanswered where all listeners are closed */
		ck_assert_int_eq(owner(n, true, START, n, -1), owner(n, false, START, n, -1));
}
END_TEST

START_TEST(the_flows_of_who_leaves_are_free)
{
	for (unsigned n = 0; n < FLOWS; n++) {
		struct flow_key k = key(n);
		ck_assert_int_eq(classifier_group_add_flow(member[owner(n, true, START, 0, -1)], &k), 0);
	}
	classifier_group_reap_slot(member[0], 3); /* it died */
	for (unsigned n = 0; n < FLOWS; n++) {
		int one = owner(n, false, START, n, 3), two = owner(n, true, START, n, 3);
		ck_assert_int_ge(one, 0);
		ck_assert_int_ge(two, 0);
	}
	classifier_group_leave_slot(member[3]);
	ck_assert_int_eq(classifier_group_take_slot(member[3], 3), 0); /* a new owner of the slot has none of it */
	for (unsigned n = 0; n < FLOWS; n++)
		ck_assert_int_ne(owner(n, true, START, n, -1), 3);
}
END_TEST

START_TEST(a_choice_is_kept_for_seconds_or_until_it_is_let_go)
{
	struct flow_key k = key(5);
	int first = owner(5, true, START, 0, -1), other = (first + 1) % MEMBERS;
	for (int m = 0; m < MEMBERS; m++)
		classifier_group_set_waiting(member[m], m == other);
	ck_assert_int_eq(owner(5, true, START + 2 * USEC_PER_SEC, 1, -1), first);
	ck_assert_int_eq(classifier_group_del_flow(member[other], &k), -ENOENT); /* not its to let go */
	ck_assert_int_eq(owner(5, true, START + 2 * USEC_PER_SEC, 1, -1), first);
	ck_assert_int_eq(owner(5, true, START + 5 * USEC_PER_SEC, 1, -1), other); /* a late one may be anybody's */
	ck_assert_int_eq(classifier_group_del_flow(member[other], &k), -ENOENT);
	classifier_group_set_waiting(member[other], false);
	classifier_group_set_waiting(member[first], true);
	ck_assert_int_eq(owner(5, true, START + 5 * USEC_PER_SEC, 1, -1), first);
}
END_TEST

START_TEST(flows_are_counted_once)
{
	struct flow_key k = key(9);
	int m = owner(9, true, START, 0, -1), other = (m + 1) % MEMBERS;
	int64_t later = START + 100 * USEC_PER_SEC;
	ck_assert_int_eq(classifier_group_add_flow(member[m], &k), 0);
	ck_assert_int_eq(classifier_group_add_flow(member[m], &k), 0);
	ck_assert_int_eq(classifier_group_add_flow(member[other], &k), -EEXIST);
	ck_assert_int_eq(classifier_group_del_flow(member[other], &k), -ENOENT);
	ck_assert_int_eq(owner(9, false, later, 0, -1), m);
	ck_assert_int_eq(classifier_group_del_flow(member[m], &k), 0);
	ck_assert_int_eq(classifier_group_del_flow(member[m], &k), -ENOENT);
	for (int i = 0; i < MEMBERS; i++)
		classifier_group_set_waiting(member[i], i == other);
	ck_assert_int_eq(owner(9, true, later, 0, -1), other);
}
END_TEST

/*
 * Adding and taking away at random, beside a plain list of who has what: the table of what was told must not lose one
 * when it grows and shrinks.
 */
START_TEST(many_flows_come_and_go)
{
	static bool has[FLOWS];
	uint32_t random = 12345;
	for (unsigned i = 0; i < 40 * FLOWS; i++) {
		random = random * 1664525 + 1013904223;
		unsigned n = (random >> 8) % FLOWS;
		struct flow_key k = key(n);
		ck_assert_int_eq(classifier_group_add_flow(member[0], &k), 0);
		has[n] = true;
		random = random * 1664525 + 1013904223;
		n = (random >> 8) % FLOWS;
		k = key(n);
		ck_assert_int_eq(classifier_group_del_flow(member[0], &k), has[n] ? 0 : -ENOENT);
		has[n] = false;
	}
	for (unsigned n = 0; n < FLOWS; n++) {
		struct flow_key k = key(n);
		if (has[n])
			ck_assert_int_eq(owner(n, true, START, 1, -1), 0);
		ck_assert_int_eq(classifier_group_del_flow(member[0], &k), has[n] ? 0 : -ENOENT);
	}
	uint32_t used = 0;
	for (uint32_t i = 0; i < member[0]->told.cap; i++)
		used += member[0]->told.at[i] != 0;
	ck_assert_uint_eq(used, 0);
	ck_assert_uint_eq(member[0]->told.n, 0);
}
END_TEST

START_TEST(cookies_leave_nothing_behind)
{
	classifier_group_note_cookies(member[1], START + USEC_PER_SEC);
	for (unsigned n = 0; n < FLOWS; n++)
		ck_assert_int_eq(owner(n, true, START, n, -1), owner(n, false, START, n + 1, -1)); /* the ACK comes to who sent the cookie */
	classifier_group_set_waiting(member[0], true);
	for (unsigned n = 0; n < FLOWS; n++) /* and no choice was stored */
		ck_assert_int_eq(owner(n, true, START + 2 * USEC_PER_SEC, n, -1), 0);
}
END_TEST

static pthread_barrier_t barrier;
static unsigned char taken[MEMBERS][FLOWS];

static void *asks(void *arg)
{
	unsigned m = (uintptr_t)arg;
	pthread_barrier_wait(&barrier);
	for (unsigned n = 0; n < FLOWS; n++) {
		struct flow_key k = key(n);
		classifier_group_set_waiting(member[m], n & 1);
		taken[m][n] = !classifier_group_is_others(member[m], &k, true, START);
		if (taken[m][n])
			taken[m][n] += classifier_group_add_flow(member[m], &k) == 0;
	}
	return NULL;
}

START_TEST(all_at_once)
{
	pthread_t threads[MEMBERS];
	pthread_barrier_init(&barrier, NULL, MEMBERS);
	for (uintptr_t m = 0; m < MEMBERS; m++)
		ck_assert_int_eq(pthread_create(&threads[m], NULL, asks, (void *)m), 0);
	for (unsigned m = 0; m < MEMBERS; m++)
		pthread_join(threads[m], NULL);
	for (unsigned n = 0; n < FLOWS; n++) {
		unsigned owners = 0;
		for (unsigned m = 0; m < MEMBERS; m++)
			owners += taken[m][n] == 2;
		ck_assert_uint_eq(owners, 1);
	}
}
END_TEST

/* The others have left its SYN to the dead one, and do not see it again. */
START_TEST(who_finds_a_dead_one_takes_its_syn)
{
	for (unsigned n = 0; n < FLOWS; n++) {
		struct flow_key k = key(n);
		int dead = owner(n, true, START, n, -1), finder = (dead + 1 + n % (MEMBERS - 1)) % MEMBERS;
		classifier_group_leave_slot(member[dead]); /* as when it is reaped */
		ck_assert(!classifier_group_is_others(member[finder], &k, true, START));
		ck_assert_int_eq(owner(n, true, START, n, dead), finder);
		ck_assert_int_eq(classifier_group_del_flow(member[finder], &k), -ENOENT);
		ck_assert_int_eq(classifier_group_take_slot(member[dead], dead), 0);
		classifier_group_set_serving(member[dead], true);
		classifier_group_set_accepting(member[dead], true);
	}
}
END_TEST

/* Who has no listener left, but a connection, leaves it to the others. */
START_TEST(who_does_not_serve_takes_no_syn_of_a_dead_one)
{
	classifier_group_set_accepting(member[0], false);
	classifier_group_set_serving(member[0], false);
	for (unsigned n = 0; n < 100; n++) {
		struct flow_key k = key(n);
		int dead = owner(n, true, START, n, -1);
		classifier_group_leave_slot(member[dead]);
		int m = owner(n, true, START, 0, dead);
		ck_assert_int_ge(m, 1);
		classifier_group_del_flow(member[m], &k);
		ck_assert_int_eq(classifier_group_take_slot(member[dead], dead), 0);
		classifier_group_set_serving(member[dead], true);
		classifier_group_set_accepting(member[dead], true);
	}
}
END_TEST

START_TEST(foreign_memory_is_refused)
{
	struct classifier c = {.ops = &ops};
	struct classifier_group *g;
	int fd = memfd_create("test", MFD_CLOEXEC); /* who has it could make it shorter under us */
	ck_assert_int_eq(ftruncate(fd, 64 << 20), 0);
	ck_assert_int_eq(classifier_group_open(&c, &fd, 1, &g), -EINVAL);
	int fds[CLASSIFIER_GROUP_FDS];
	classifier_group_fds(member[0], fds);
	ck_assert_int_eq(ftruncate(fds[0], 4096), -1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("group_cells");
	TCase *t = tcase_create("all");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, one_member_gets_a_syn_and_what_follows);
	tcase_add_test(t, who_waits_comes_first_then_the_shorter_queue);
	tcase_add_test(t, what_nobody_has_is_answered_by_one);
	tcase_add_test(t, the_flows_of_who_leaves_are_free);
	tcase_add_test(t, a_choice_is_kept_for_seconds_or_until_it_is_let_go);
	tcase_add_test(t, flows_are_counted_once);
	tcase_add_test(t, many_flows_come_and_go);
	tcase_add_test(t, cookies_leave_nothing_behind);
	tcase_add_test(t, all_at_once);
	tcase_add_test(t, who_finds_a_dead_one_takes_its_syn);
	tcase_add_test(t, who_does_not_serve_takes_no_syn_of_a_dead_one);
	tcase_add_test(t, foreign_memory_is_refused);
	suite_add_tcase(s, t);
	return suite_main(s);
}
