#include "base/thread.h"

#include "base/sys.h"
#include "base/time.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define PLENTY 1024 /* of RLIMIT_NPROC: nobody is near it */

/*
 * Births: threads that libc has on its list, but that have not run yet. A copy of the process that libc does not know of (clone by number) keeps such a one for ever, and
 * libc's setuid and its kin wait there for its first step. So whoever makes a copy waits for the births before.
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

static unsigned living; /* atomic: ours, which run or have run and are about to be gone */

static void *born(void *arg)
{
	struct birth b = *(struct birth *)arg;
	__atomic_add_fetch(&living, 1, __ATOMIC_RELAXED); /* not before it is in /proc: who counts must not take one of the program's for it */
	birth_ends(arg);
	void *result = b.main(b.arg);
	__atomic_sub_fetch(&living, 1, __ATOMIC_RELAXED);
	return result;
}

void thread_after_fork(void)
{
	__atomic_store_n(&living, 0, __ATOMIC_RELAXED);
}

int thread_start(pthread_t *out, void *(*main)(void *arg), void *arg)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	struct birth *b = birth_begin();
	b->main = main;
	b->arg = arg;
	int err = pthread_create(out, NULL, born, b);
	if (err)
		birth_ends(b);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -err;
}

#define TASKS_BYTES 2048 /* of /proc/self/task: beyond, there are many, and some are the program's */

struct dirent64_head {
	uint64_t ino, off;
	uint16_t len;
	uint8_t type;
	char name[];
};

/* A task that is neither over nor a worker of an io_uring, of /proc/self/task/NAME. */
static bool task_lives(int dir, const char *name)
{
	char path[32], stat[128] = "";
	snprintf(path, sizeof path, "%s/stat", name);
	int fd = sys_openat(dir, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false; /* it went meanwhile */
	ssize_t n = sys_read(fd, stat, sizeof stat - 1);
	sys_close(fd);
	const char *comm = strchr(stat, '('), *state = strrchr(stat, ')');
	if (n <= 0 || !comm || !state)
		return true;
	return state[2] != 'Z' && state[2] != 'X' && strncmp(comm + 1, "iou-", 4) != 0;
}

static bool only_ours_in(int dir)
{
	_Alignas(uint64_t) char buf[TASKS_BYTES];
	unsigned n = 0;
	long len = sys_call(SYS_getdents64, dir, buf, sizeof buf, 0, 0, 0), more;
	for (long at = 0; at < len;) {
		const struct dirent64_head *d = (const void *)(buf + at);
		n += d->name[0] != '.' && task_lives(dir, d->name);
		at += d->len;
	}
	more = len > 0 ? sys_call(SYS_getdents64, dir, buf, sizeof buf, 0, 0, 0) : -1;
	return more == 0 && n <= __atomic_load_n(&living, __ATOMIC_RELAXED);
}

bool thread_only_ours(void)
{
	int dir = sys_openat(AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (dir < 0)
		return false;
	bool ours = only_ours_in(dir);
	sys_close(dir);
	return ours;
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
	struct timespec until;
	int cancel_state;
	clock_get(CLOCK_MONOTONIC, &until);
	us += until.tv_nsec / NSEC_PER_USEC;
	until.tv_sec += us / USEC_PER_SEC;
	until.tv_nsec = us % USEC_PER_SEC * NSEC_PER_USEC;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	int err = pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until);
	pthread_setcancelstate(cancel_state, NULL);
	return err == 0;
}

bool thread_try_join(pthread_t thread)
{
	return pthread_tryjoin_np(thread, NULL) == 0;
}
