#include "base/thread.h"

#include "base/sys.h"
#include "base/time.h"

#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define LIBC_SIGNALS (UINT64_C(3) << 31) /* 32 and 33, by which libc cancels a thread and changes the users of all: each thread answers, or setuid waits for ever */
#define PLENTY 1024 /* of RLIMIT_NPROC: nobody is near it */

/*
 * Births: threads that libc has on its list, but that have not run yet. A copy of the process that libc does not know
 * of (clone by number) keeps such a one for ever, and libc's setuid and its kin wait there for its first step. So
 * whoever makes a copy waits for the births before.
 */
#define BIRTHS_MAX 8 /* at a time */

static struct birth {
	unsigned state; /* 0: none; or twice the process, for a copy that did not wait has its parent's; and 1: somebody waits */
	void *(*main)(void *arg);
	void *arg;
} births[BIRTHS_MAX];

static void birth_ends(struct birth *b)
{
	if (__atomic_exchange_n(&b->state, 0, __ATOMIC_ACQ_REL) & 1)
		sys_call(SYS_futex, &b->state, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void birth_await(struct birth *b)
{
	unsigned state;
	while ((state = __atomic_load_n(&b->state, __ATOMIC_ACQUIRE))) {
		if (state >> 1 != (unsigned)sys_getpid())
			birth_ends(b);
		else if (state & 1 || __atomic_compare_exchange_n(&b->state, &state, state | 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			sys_call(SYS_futex, &b->state, FUTEX_WAIT_PRIVATE, state | 1, NULL, NULL, 0);
	}
}

void thread_await_births(void)
{
	for (unsigned i = 0; i < BIRTHS_MAX; i++)
		birth_await(&births[i]);
}

static struct birth *birth_begin(void)
{
	for (;; thread_await_births())
		for (unsigned i = 0; i < BIRTHS_MAX; i++) {
			unsigned none = 0;
			if (__atomic_compare_exchange_n(&births[i].state, &none, (unsigned)sys_getpid() << 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
				return &births[i];
		}
}

static unsigned births_ever, deaths_ever; /* atomic: of threads of ours */

static void *born(void *arg)
{
	struct birth b = *(struct birth *)arg;
	__atomic_add_fetch(&births_ever, 1, __ATOMIC_SEQ_CST);
	birth_ends(arg);
	void *result = b.main(b.arg);
	__atomic_add_fetch(&deaths_ever, 1, __ATOMIC_SEQ_CST);
	return result;
}

void thread_after_fork(void)
{
	__atomic_store_n(&deaths_ever, births_ever, __ATOMIC_SEQ_CST);
}

int thread_start(pthread_t *out, void *(*main)(void *arg), void *arg)
{
	const uint64_t all = ~LIBC_SIGNALS;
	uint64_t before = 0;
	sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof before, 0, 0);
	struct birth *b = birth_begin();
	b->main = main;
	b->arg = arg;
	int err = pthread_create(out, NULL, born, b);
	if (err)
		birth_ends(b);
	sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before, 0, 0);
	return -err;
}

/*
 * Of /proc/self/stat: the first thread's state, and how many threads there are, read by the kernel at one time. All but
 * the first and ours are the program's. A thread of ours is counted after it has come to be, and no more before it is
 * gone, so ours are never taken to be more than they are, if none began or ended between the two looks at the count.
 */
bool thread_only_ours(int proc_stat)
{
	char text[512];
	unsigned born = __atomic_load_n(&births_ever, __ATOMIC_SEQ_CST), died = __atomic_load_n(&deaths_ever, __ATOMIC_SEQ_CST);
	ssize_t n = sys_call(SYS_pread64, proc_stat, text, sizeof text - 1, 0, 0, 0);
	text[n > 0 ? n : 0] = 0;
	const char *end = strrchr(text, ')');
	char state;
	unsigned threads;
	if (!end || sscanf(end, ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %u", &state, &threads) != 2 || state != 'Z')
		return false;
	bool still = born == __atomic_load_n(&births_ever, __ATOMIC_SEQ_CST) && died == __atomic_load_n(&deaths_ever, __ATOMIC_SEQ_CST);
	return still && threads == 1 + born - died;
}

static void *nothing(void *arg)
{
	return arg;
}

int thread_try(void)
{
	struct rlimit64 limit;
	pthread_t thread;
	if (sys_call(SYS_prlimit64, 0, RLIMIT_NPROC, 0, (long)&limit, 0, 0) < 0 || limit.rlim_cur >= PLENTY)
		return 0;
	int err = thread_start(&thread, nothing, NULL);
	if (!err)
		thread_join(thread);
	return err;
}

void thread_join(pthread_t thread)
{
	int cancel_state;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	pthread_join(thread, NULL);
	pthread_setcancelstate(cancel_state, NULL);
}

bool thread_join_within(pthread_t thread, int64_t us)
{
	const struct timespec until = timespec_of(clock_now_us() + us);
	int cancel_state;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	int err = pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until);
	pthread_setcancelstate(cancel_state, NULL);
	return err == 0;
}

bool thread_try_join(pthread_t thread)
{
	return pthread_tryjoin_np(thread, NULL) == 0;
}
