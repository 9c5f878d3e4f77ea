/* The fd table: numbers, references, type-stable files, readers without a lock. */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>

#include "preload/fdtable.h"
#include "socket/sock.h"
#include "tests/suite.h"

static _Atomic int released;

/* The table only stores it in the set of an epoll. */
struct engine *engine_of_process(void)
{
	return NULL;
}

static int on_release(struct file *f)
{
	released++;
	file_free(f);
	return -7;
}

static void setup(void)
{
	fdtable_on_release = on_release;
	released = 0;
}

static struct file *put_at(int fd, enum file_kind kind)
{
	bool ok;
	struct file *f = file_new(kind);
	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_null(fdtable_swap(fd, f, &ok));
	ck_assert(ok);
	return f;
}

START_TEST(nothing_at_unknown_numbers)
{
	ck_assert_ptr_null(fdtable_peek(-1));
	ck_assert_ptr_null(fdtable_peek(0));
	ck_assert_ptr_null(fdtable_peek(1 << 29));
	ck_assert_ptr_null(fdtable_get(INT32_MAX));
	ck_assert_ptr_null(fdtable_swap(-1, NULL, NULL));
	ck_assert_ptr_null(fdtable_swap(5, NULL, NULL));
	ck_assert_int_eq(fdtable_next(0), -1);
	ck_assert(!fdtable_used);
}
END_TEST

START_TEST(a_number_holds_its_file)
{
	struct file *f = put_at(7, FILE_CANDIDATE);
	ck_assert(fdtable_used);
	ck_assert_ptr_eq(fdtable_peek(7), f);
	ck_assert_int_eq(f->kind, FILE_CANDIDATE);
	ck_assert_uint_eq(f->refs, 1);
	ck_assert_uint_eq(f->numbers, 1);
	ck_assert_int_eq(f->fd, 7);
	ck_assert_int_eq(fdtable_next(0), 7);
	ck_assert_int_eq(fdtable_next(8), -1);

	ck_assert_ptr_eq(fdtable_swap(7, NULL, NULL), f);
	ck_assert_ptr_null(fdtable_peek(7));
	ck_assert_int_eq(released, 0);
	ck_assert_int_eq(file_put(f), -7);
	ck_assert_int_eq(released, 1);
}
END_TEST

START_TEST(the_highest_number_of_the_kernel_fits)
{
	int highest = 0x3fffffc0 - 1;
	struct file *low = put_at(3, FILE_CANDIDATE);
	struct file *high = put_at(highest, FILE_CANDIDATE);
	ck_assert_ptr_eq(fdtable_peek(highest), high);
	ck_assert_int_eq(fdtable_next(0), 3);
	ck_assert_int_eq(fdtable_next(4), highest);
	file_put(fdtable_swap(highest, NULL, NULL));
	file_put(fdtable_swap(3, NULL, NULL));
	ck_assert_int_eq(released, 2);
	(void)low;
}
END_TEST

START_TEST(a_call_in_progress_keeps_the_file)
{
	struct file *f = put_at(7, FILE_SOCK);
	ck_assert_ptr_eq(fdtable_get(7), f);
	ck_assert_uint_eq(f->refs, 2);
	ck_assert_int_eq(file_put(fdtable_swap(7, NULL, NULL)), 0); /* close, meanwhile */
	ck_assert_int_eq(released, 0);
	ck_assert_int_eq(f->kind, FILE_SOCK);
	ck_assert_int_eq(file_put(f), -7);
	ck_assert_int_eq(released, 1);
}
END_TEST

START_TEST(dups_share_a_file_and_its_number_follows)
{
	struct file *f = put_at(7, FILE_SOCK);
	ck_assert_ptr_null(fdtable_swap(9, fdtable_get(7), NULL));
	ck_assert_uint_eq(f->numbers, 2);
	ck_assert_int_eq(f->fd, 7);
	ck_assert_int_eq(file_put(fdtable_swap(7, NULL, NULL)), 0);
	ck_assert_int_eq(f->fd, 9);
	ck_assert_uint_eq(f->numbers, 1);
	ck_assert_int_eq(released, 0);
	ck_assert_int_eq(file_put(fdtable_swap(9, NULL, NULL)), -7);
	ck_assert_int_eq(released, 1);
}
END_TEST

START_TEST(a_new_file_at_a_number_returns_the_old)
{
	bool ok;
	struct file *old = put_at(7, FILE_SOCK);
	struct file *f = file_new(FILE_CANDIDATE);
	ck_assert_ptr_eq(fdtable_swap(7, f, &ok), old);
	ck_assert(ok);
	ck_assert_uint_eq(old->numbers, 0);
	ck_assert_int_eq(old->fd, -1);
	file_put(old);
	ck_assert_int_eq(released, 1);
	ck_assert_ptr_eq(fdtable_peek(7), f);
	file_put(fdtable_swap(7, NULL, NULL));
}
END_TEST

START_TEST(files_are_reused_clean)
{
	struct file *f = put_at(7, FILE_SOCK);
	f->sock = (struct sock *)f;
	f->parked_fd = 5;
	f->seized = 1;
	file_put(fdtable_swap(7, NULL, NULL));
	struct file *again = put_at(8, FILE_CANDIDATE);
	ck_assert_ptr_eq(again, f); /* the pool is a stack */
	ck_assert_ptr_null(again->sock);
	ck_assert_int_eq(again->parked_fd, -1);
	ck_assert(!again->seized);
	file_put(fdtable_swap(8, NULL, NULL));
}
END_TEST

START_TEST(more_files_than_a_chunk)
{
	enum { MANY = 10000 };
	for (int i = 0; i < MANY; i++)
		put_at(i, FILE_CANDIDATE);
	for (int i = 0; i < MANY; i++)
		ck_assert_int_eq(fdtable_peek(i)->fd, i);
	for (int i = 0; i < MANY; i++)
		file_put(fdtable_swap(i, NULL, NULL));
	ck_assert_int_eq(released, MANY);
	ck_assert_int_eq(fdtable_next(0), -1);
}
END_TEST

START_TEST(a_fork_child_forgets_calls_of_others)
{
	struct file *f = put_at(7, FILE_SOCK);
	fdtable_get(7); /* another thread is in recv */
	fdtable_lock();
	fdtable_forget_calls();
	fdtable_unlock();
	ck_assert_uint_eq(f->refs, 1);
	ck_assert_int_eq(file_put(fdtable_swap(7, NULL, NULL)), -7);
	ck_assert_int_eq(released, 1);
}
END_TEST

/* Readers take and give references while a writer closes and reopens the number; a file is never
 * seen free, none is lost. */
enum { ROUNDS = 20000, READERS = 3, NUMBER = 42 };
static _Atomic bool stop;
static _Atomic long reads, bad;

static void *reader(void *arg)
{
	while (!stop) {
		struct file *f = fdtable_get(NUMBER);
		if (!f)
			continue;
		if (f->kind != FILE_SOCK || f->refs == 0)
			bad++;
		reads++;
		file_put(f);
	}
	return NULL;
}

START_TEST(readers_race_with_close)
{
	pthread_t threads[READERS];
	stop = false;
	for (int i = 0; i < READERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, reader, NULL), 0);
	int made = 0;
	while (made < ROUNDS || reads < ROUNDS) {
		put_at(NUMBER, FILE_SOCK);
		made++;
		file_put(fdtable_swap(NUMBER, NULL, NULL));
	}
	stop = true;
	for (int i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(bad, 0);
	ck_assert_int_eq(released, made);
}
END_TEST

/* One thread at a time has seized a file, who waits for that is woken, and the seizures are inside. */
static long seizures; /* who has seized the file */
static struct file *contested;

static void *seizer(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		file_seize(contested);
		if (!engine_inside || contested->seized == 0)
			bad++;
		seizures++;
		file_unseize(contested);
		file_await(contested);
		if (engine_inside)
			bad++;
	}
	return arg;
}

START_TEST(one_thread_at_a_time_has_seized_a_file)
{
	pthread_t threads[READERS];
	contested = put_at(7, FILE_CANDIDATE);
	bad = seizures = 0;
	for (int i = 0; i < READERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, seizer, NULL), 0);
	for (int i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(bad, 0);
	ck_assert_int_eq(seizures, READERS * ROUNDS);
	ck_assert_int_eq(contested->seized, 0);
	file_put(fdtable_swap(7, NULL, NULL));
}
END_TEST

START_TEST(a_fork_sees_seizures_and_its_child_ends_them)
{
	struct file *f = put_at(7, FILE_CANDIDATE);
	file_seize(f);
	fdtable_lock();
	ck_assert(fdtable_is_busy());
	fdtable_forget_calls(); /* as in a child that was not waited for */
	ck_assert(!fdtable_is_busy());
	fdtable_unlock();
	engine_leave();
	file_await(f);
	file_put(fdtable_swap(7, NULL, NULL));
}
END_TEST

static void *looks(void *arg)
{
	(void)arg;
	return fdtable_peek(7); /* waits while 7 is on its way out */
}

START_TEST(a_number_on_its_way_out_is_waited_for_outside)
{
	pthread_t thread;
	void *found;
	struct file *f = put_at(7, FILE_CANDIDATE), *copied, *g = file_new(FILE_CANDIDATE);
	uintptr_t mark, closing;
	engine_enter();
	ck_assert_ptr_eq(fdtable_take(7, false, &closing, &copied), f);
	ck_assert_uint_eq(f->numbers, 0);
	ck_assert(fdtable_is_leaving(7));
	ck_assert_ptr_null(fdtable_peek(7)); /* inside */
	ck_assert_ptr_null(fdtable_get(7));
	ck_assert_int_eq(fdtable_next(0), -1);
	ck_assert_ptr_null(fdtable_take(7, true, &mark, &copied)); /* another thread's close */
	ck_assert(fdtable_is_mark(copied));
	ck_assert_ptr_null(fdtable_swap(7, NULL, NULL));
	ck_assert(fdtable_is_leaving(7));
	fdtable_left(7, mark); /* it has none */
	ck_assert(fdtable_is_leaving(7));
	ck_assert_int_eq(pthread_create(&thread, NULL, looks, NULL), 0);
	fdtable_left(7, closing);
	pthread_join(thread, &found);
	ck_assert_ptr_null(found);
	ck_assert_ptr_null(fdtable_take(7, true, &mark, &copied)); /* dup2 over a number that is nothing of ours */
	ck_assert_int_eq(pthread_create(&thread, NULL, looks, NULL), 0);
	ck_assert_ptr_null(fdtable_swap(7, g, NULL));
	pthread_join(thread, &found);
	ck_assert_ptr_eq(found, g);
	fdtable_left(7, mark); /* too late: it is g's */
	ck_assert_ptr_eq(fdtable_peek(7), g);
	engine_leave();
	file_put(fdtable_swap(7, NULL, NULL));
	file_put(f);
}
END_TEST

/*
 * The kernel has freed the number, and another thread has it, and closes it, before the first one says that it is gone.
 */
START_TEST(who_closed_a_number_ends_no_later_close_of_it)
{
	struct file *f = put_at(7, FILE_SOCK), *g = file_new(FILE_SOCK), *busy;
	uintptr_t first, later;
	ck_assert_ptr_eq(fdtable_take(7, false, &first, &busy), f);
	ck_assert_ptr_null(fdtable_swap(7, g, NULL));
	ck_assert_ptr_eq(fdtable_take(7, false, &later, &busy), g);
	fdtable_left(7, first);
	ck_assert(fdtable_is_leaving(7));
	fdtable_lock();
	ck_assert(fdtable_is_busy());
	fdtable_unlock();
	fdtable_left(7, later);
	ck_assert(!fdtable_is_leaving(7));
	file_put(f);
	file_put(g);
}
END_TEST

static sigjmp_buf out;

static void jumps(int sig)
{
	(void)sig;
	siglongjmp(out, 1);
}

static void *waits_until_it_jumps(void *arg)
{
	(void)arg;
	return sigsetjmp(out, 1) ? NULL : fdtable_peek(7);
}

START_TEST(a_wait_that_a_handler_left_is_forgotten)
{
	struct file *f = put_at(7, FILE_SOCK), *busy;
	pthread_t thread;
	uintptr_t mark;
	signal(SIGUSR1, jumps);
	engine_enter();
	ck_assert_ptr_eq(fdtable_take(7, false, &mark, &busy), f);
	ck_assert_int_eq(pthread_create(&thread, NULL, waits_until_it_jumps, NULL), 0);
	while (!fdtable_is_awaited())
		sched_yield();
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	fdtable_left(7, mark);
	ck_assert(!fdtable_is_awaited()); /* or each later close would wake nobody, by a system call */
	engine_leave();
	file_put(f);
}
END_TEST

START_TEST(a_file_that_is_copied_keeps_its_numbers)
{
	struct file *f = put_at(7, FILE_SOCK), *copied;
	uintptr_t mark;
	file_seize_to_copy(f);
	ck_assert_ptr_null(fdtable_take(7, false, &mark, &copied));
	ck_assert_ptr_eq(copied, f);
	ck_assert_ptr_eq(fdtable_peek(7), f);
	file_unseize(f);
	file_seize(f); /* for another reason */
	ck_assert_ptr_eq(fdtable_take(7, false, &mark, &copied), f);
	ck_assert_ptr_null(copied);
	fdtable_left(7, mark);
	file_unseize(f);
	file_put(f);
}
END_TEST

START_TEST(a_fork_sees_numbers_on_their_way_and_its_child_ends_them)
{
	struct file *f = put_at(7, FILE_CANDIDATE), *copied;
	uintptr_t mark;
	fdtable_take(7, false, &mark, &copied);
	fdtable_lock();
	ck_assert(fdtable_is_busy());
	fdtable_forget_calls();
	ck_assert(!fdtable_is_busy());
	fdtable_unlock();
	ck_assert_ptr_null(fdtable_peek(7));
	file_put(f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fdtable");
	TCase *t = tcase_create("fdtable");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, nothing_at_unknown_numbers);
	tcase_add_test(t, a_number_holds_its_file);
	tcase_add_test(t, the_highest_number_of_the_kernel_fits);
	tcase_add_test(t, a_call_in_progress_keeps_the_file);
	tcase_add_test(t, dups_share_a_file_and_its_number_follows);
	tcase_add_test(t, a_new_file_at_a_number_returns_the_old);
	tcase_add_test(t, files_are_reused_clean);
	tcase_add_test(t, more_files_than_a_chunk);
	tcase_add_test(t, a_fork_child_forgets_calls_of_others);
	tcase_add_test(t, readers_race_with_close);
	tcase_add_test(t, one_thread_at_a_time_has_seized_a_file);
	tcase_add_test(t, a_fork_sees_seizures_and_its_child_ends_them);
	tcase_add_test(t, a_number_on_its_way_out_is_waited_for_outside);
	tcase_add_test(t, who_closed_a_number_ends_no_later_close_of_it);
	tcase_add_test(t, a_wait_that_a_handler_left_is_forgotten);
	tcase_add_test(t, a_file_that_is_copied_keeps_its_numbers);
	tcase_add_test(t, a_fork_sees_numbers_on_their_way_and_its_child_ends_them);
	suite_add_tcase(s, t);
	return suite_main(s);
}
