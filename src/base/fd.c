#include "base/fd.h"

#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>

#define FD_TABLE_SIZE 65536 /* numbers; 8 KiB of bits. A descriptor beyond it cannot be internal   \
			     */
#define FD_HIGH_END 1024    /* FD_SETSIZE: a program that uses select() looks no higher */
#define FD_HIGH_ROOM 128    /* numbers, more than an engine keeps when little goes on */
#define FD_LOW_KEPT  64 /* with a tiny RLIMIT_NOFILE, do not fight for the program's first ones */

#define FD_LIMIT_LEAST (FD_LOW_KEPT + 32) /* an engine needs some 25 */

#define FD_WORD_BITS 64
static _Atomic uint64_t fd_table[FD_TABLE_SIZE / FD_WORD_BITS];

static _Atomic bool any_internal;

static void fd_mark(int fd)
{
	any_internal = true;
	atomic_fetch_or_explicit(&fd_table[fd / FD_WORD_BITS], UINT64_C(1) << fd % FD_WORD_BITS,
				 memory_order_relaxed);
}

void fd_unmark(int fd)
{
	if (fd >= 0 && fd < FD_TABLE_SIZE)
		atomic_fetch_and_explicit(&fd_table[fd / FD_WORD_BITS],
					  ~(UINT64_C(1) << fd % FD_WORD_BITS),
					  memory_order_relaxed);
}

bool fd_any_internal(void)
{
	return any_internal;
}

bool fd_is_internal(int fd)
{
	if (fd < 0 || fd >= FD_TABLE_SIZE)
		return false;
	uint64_t word = atomic_load_explicit(&fd_table[fd / FD_WORD_BITS], memory_order_relaxed);
	return word >> fd % FD_WORD_BITS & 1;
}

/* ---- beyond the limit ---- */

#define MOVER_TRIES 10000 /* a second. A child by a raw clone may have got the flag from a thread that it does not have */
#define MOVER_PAUSE_NS 100000 /* mostly the other needs some µs; the first one beyond the table's end waits for an RCU grace period */

static atomic_flag somebody_moves = ATOMIC_FLAG_INIT;
static struct rlimit64 limit_before, limit_raised; /* the raised one is 0 while it is not raised */

static int set_limit(const struct rlimit64 *to, struct rlimit64 *was)
{
	return sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, to, was, 0, 0);
}

static bool mover_begin(void)
{
	const struct timespec pause = {.tv_nsec = MOVER_PAUSE_NS};
	for (unsigned i = 0; atomic_flag_test_and_set(&somebody_moves); i++) {
		if (i == MOVER_TRIES)
			return false;
		sys_call(SYS_nanosleep, &pause, NULL, 0, 0, 0, 0);
	}
	return true;
}

static void limit_restore(void)
{
	struct rlimit64 seen;
	if (set_limit(&limit_before, &seen) == 0 && (seen.rlim_cur != limit_raised.rlim_cur || seen.rlim_max != limit_raised.rlim_max))
		set_limit(&seen, NULL); /* the program's own, meanwhile */
	limit_raised.rlim_cur = 0;
}

/*
 * Numbers that the program cannot have: RLIMIT_NOFILE bounds the numbers that are given out, not those that are there.
 * So the limit is raised for the moment of one call, without signals, since a handler could see it. Another thread
 * would need to look, or be out of numbers, in that microsecond. -errno where the limit cannot be raised: the hard
 * limit is no higher, and there is no privilege. `make` NULL: just tries that, and says 0.
 */
static long beyond(const struct rlimit64 *limit, fd_maker *make, void *arg)
{
	uint64_t all = UINT64_MAX, mask;
	limit_raised = (struct rlimit64){.rlim_cur = limit->rlim_cur + FD_HIGH_ROOM, .rlim_max = limit->rlim_max};
	if (limit_raised.rlim_max < limit_raised.rlim_cur)
		limit_raised.rlim_max = limit_raised.rlim_cur;
	sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &all, &mask, sizeof mask, 0, 0);
	long r = set_limit(&limit_raised, &limit_before);
	if (r == 0) {
		if (make)
			r = make(arg);
		limit_restore();
	}
	limit_raised.rlim_cur = 0;
	sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask, 0, 0);
	return r;
}

struct dup_beyond {
	int fd, from;
};

static long make_dup(void *arg)
{
	const struct dup_beyond *d = arg;
	return sys_fcntl(d->fd, F_DUPFD_CLOEXEC, d->from);
}

static int fd_dup_beyond(int fd, const struct rlimit64 *limit)
{
	struct dup_beyond d = {fd, limit->rlim_cur};
	return beyond(limit, make_dup, &d);
}

long fd_make(fd_maker *make, void *arg)
{
	struct rlimit64 limit;
	long r = make(arg);
	if (r != -EMFILE || !mover_begin())
		return r;
	if (set_limit(NULL, &limit) == 0) {
		long second = beyond(&limit, make, arg);
		r = second == -EPERM ? r : second;
	}
	atomic_flag_clear(&somebody_moves);
	return r;
}

int fd_dup(int fd)
{
	struct dup_beyond d = {fd, 0};
	return fd_make(make_dup, &d);
}

struct socket_args {
	int family, type, protocol;
};

static long make_socket(void *arg)
{
	const struct socket_args *a = arg;
	return sys_socket(a->family, a->type, a->protocol);
}

int fd_socket(int family, int type, int protocol)
{
	struct socket_args a = {family, type, protocol};
	return fd_make(make_socket, &a);
}

void fd_after_fork(void)
{
	if (limit_raised.rlim_cur)
		limit_restore();
	atomic_flag_clear(&somebody_moves);
}

/* ---- below it ---- */

/*
 * Where the limit is larger than FD_HIGH_END, or cannot be raised. One system call: the lowest free number from just
 * below the end on, or beyond it, out of the program's way even more. -errno. Not beyond before there is need: with
 * several threads the kernel lets who makes its table larger than the end wait for an RCU grace period, 10 ms.
 */
static int fd_dup_below(int fd, int end)
{
	int low = end - FD_HIGH_ROOM > FD_LOW_KEPT ? end - FD_HIGH_ROOM : FD_LOW_KEPT;
	if (fd >= low) /* is there */
		return -EMFILE;
	return sys_fcntl(fd, F_DUPFD_CLOEXEC, low);
}

/*
 * The limit was larger than FD_HIGH_END when somebody looked, so many copies ago at most: one may be made without
 * looking. A limit that has been lowered to less than its number since, the call itself tells; one a little larger
 * costs the program no more than these numbers.
 */
#define LIMIT_LOOK_EVERY 16
static unsigned copies_unlooked = LIMIT_LOOK_EVERY; /* mover */

static int fd_dup_within(int fd)
{
	struct rlimit64 limit;
	int end = FD_HIGH_END;
	if (copies_unlooked < LIMIT_LOOK_EVERY) {
		int high = fd_dup_below(fd, end);
		copies_unlooked++;
		if (high >= 0)
			return high;
	}
	copies_unlooked = LIMIT_LOOK_EVERY;
	if (set_limit(NULL, &limit) == 0 && limit.rlim_cur <= FD_HIGH_END) {
		end = limit.rlim_cur;
		if (fd >= end) /* is there */
			return -EMFILE;
		int high = fd_dup_beyond(fd, &limit);
		if (high >= 0)
			return high;
	} else {
		copies_unlooked = 0;
	}
	return fd_dup_below(fd, end);
}

static int fd_dup_high(int fd)
{
	if (!mover_begin())
		return -EMFILE;
	int high = fd_dup_within(fd);
	atomic_flag_clear(&somebody_moves);
	if (high < FD_TABLE_SIZE)
		return high;
	sys_close(high);
	return -EMFILE;
}

bool fd_has_room(void)
{
	struct rlimit64 limit;
	if (!mover_begin())
		return true;
	bool room = set_limit(NULL, &limit) < 0 || limit.rlim_cur >= FD_LIMIT_LEAST || beyond(&limit, NULL, NULL) == 0;
	atomic_flag_clear(&somebody_moves);
	return room;
}

int fd_move_high(int fd)
{
	if (fd < 0)
		return fd;
	int high = fd_dup_high(fd);
	if (high >= 0) {
		sys_close(fd);
		fd = high;
	} else if (fd >= FD_TABLE_SIZE) {
		sys_close(fd);
		return -EMFILE;
	} else {
		sys_fcntl(fd, F_SETFD, FD_CLOEXEC);
	}
	fd_mark(fd);
	return fd;
}

int fd_copy_high(int fd)
{
	int high = fd_dup_high(fd);
	if (high < 0)
		return fd_move_high(sys_fcntl(fd, F_DUPFD_CLOEXEC, 0));
	fd_mark(high);
	return high;
}

void fd_close(int fd)
{
	if (fd < 0)
		return;
	fd_unmark(fd);
	sys_close(fd);
}
