/*
 * The rules' reader: one thread for one job after another, which is gone when nobody else may be there. The kernel and
 * the broker are not asked.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/time.h"
#include "kernel/firewall.h"
#include "kernel/privileged.h"
#include "socket/rules_reader.h"
#include "unit.h"

static long seen_by; /* the thread that looked last */
static int read_fails;

void firewall_see(struct firewall_sight *s, struct firewall_look *look)
{
	seen_by = syscall(SYS_gettid);
	s->untold = look->route_fd;
}

int firewall_read(struct firewall **out, char *why, size_t why_len)
{
	seen_by = syscall(SYS_gettid);
	snprintf(why, why_len, "read");
	*out = read_fails ? NULL : malloc(1);
	return read_fails;
}

void firewall_free(struct firewall *f)
{
	free(f);
}

int privileged_look(int fd, uint32_t *generation)
{
	(void)fd;
	(void)generation;
	return 0;
}

void privileged_look_cut(void)
{
}

static int timer_fd;

static void setup(void)
{
	timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	ck_assert_int_ge(timer_fd, 0);
}

static void teardown(void)
{
	close(timer_fd);
}

/* As the engine does: the timer tells that something may be done. */
static void until_done(struct rules_reader *r)
{
	uint64_t count;
	while (!rules_reader_is_done(r))
		ck_assert_int_eq(read(timer_fd, &count, sizeof count), sizeof count);
}

static void until_gone(long thread)
{
	while (syscall(SYS_tgkill, getpid(), thread, 0) == 0)
		;
}

/* Returns the thread that looked. */
static long look_once(struct rules_reader **r, int answer)
{
	struct firewall_sight sight = {.n = 0};
	struct firewall_look look = {.route_fd = answer};
	struct firewall *none;
	char why[16];
	uint32_t generation;
	*r = rules_reader_begin_look(*r, timer_fd, &sight, &look, -1, 7);
	ck_assert_ptr_nonnull(*r);
	until_done(*r);
	ck_assert_int_eq(rules_reader_saw(*r, &generation)->untold, answer);
	ck_assert_uint_eq(generation, 7);
	ck_assert_int_eq(rules_reader_take(*r, &none, why, sizeof why), 0);
	ck_assert_ptr_null(none);
	return seen_by;
}

START_TEST(one_thread_for_all_looks)
{
	struct rules_reader *r = NULL;
	int64_t before = clock_now_us();
	long first = look_once(&r, 1);
	for (int i = 2; i < 200; i++) {
		long by = look_once(&r, i);
		int64_t now = clock_now_us();
		if (now - before > USEC_PER_SEC) /* the machine stopped us: it need not have rested for so long */
			first = by;
		ck_assert_int_eq(by, first);
		before = now;
	}
	rules_reader_end(r);
}
END_TEST

START_TEST(reads_and_looks_in_turn)
{
	struct rules_reader *r = NULL;
	struct firewall *f;
	char why[16];
	uint32_t generation;
	look_once(&r, 1);
	for (int i = 0; i < 100; i++) {
		read_fails = i % 2 ? -EPERM : 0;
		r = rules_reader_begin(r, timer_fd);
		until_done(r);
		ck_assert_ptr_null(rules_reader_saw(r, &generation));
		ck_assert_int_eq(rules_reader_take(r, &f, why, sizeof why), read_fails);
		ck_assert_str_eq(why, "read");
		ck_assert_int_eq(f == NULL, read_fails != 0);
		firewall_free(f);
		look_once(&r, i);
	}
	rules_reader_end(r);
}
END_TEST

/* A look that is begun is done when nobody is there any more, and the next one has a thread again. */
START_TEST(no_thread_is_left)
{
	struct rules_reader *r = NULL;
	for (int i = 0; i < 200; i++) {
		struct firewall_sight sight = {.n = 0};
		struct firewall_look look = {.route_fd = i};
		struct firewall *none;
		char why[16];
		uint32_t generation;
		r = rules_reader_begin_look(r, timer_fd, &sight, &look, -1, 0);
		rules_reader_join(r);
		ck_assert(rules_reader_is_done(r));
		ck_assert_int_eq(rules_reader_saw(r, &generation)->untold, i);
		rules_reader_take(r, &none, why, sizeof why);
		until_gone(seen_by);
		look_once(&r, i);
		rules_reader_join(r);
		until_gone(seen_by);
	}
	rules_reader_end(r);
}
END_TEST

/* It ends by itself, where nobody wants it for long. */
START_TEST(rests_not_for_ever)
{
	struct rules_reader *r = NULL;
	long first = look_once(&r, 1);
	const struct itimerspec often = {.it_value.tv_nsec = 10000000, .it_interval.tv_nsec = 10000000};
	uint64_t count;
	timerfd_settime(timer_fd, 0, &often, NULL);
	while (syscall(SYS_tgkill, getpid(), first, 0) == 0)
		ck_assert_int_eq(read(timer_fd, &count, sizeof count), sizeof count);
	look_once(&r, 2);
	rules_reader_end(r);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rules_reader");
	TCase *c = tcase_create("rules_reader");
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 60);
	tcase_add_test(c, one_thread_for_all_looks);
	tcase_add_test(c, reads_and_looks_in_turn);
	tcase_add_test(c, no_thread_is_left);
	tcase_add_test(c, rests_not_for_ever);
	suite_add_tcase(suite, c);
	return suite_main(suite);
}
