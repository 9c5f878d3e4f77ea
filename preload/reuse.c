/*
 * Kernel sockets of client connections, used again.
 *
 * Behind the number of a client's connection is the kernel socket that the program made, and nothing has happened to
 * it: the engine has the connection. To make and to free such a socket costs the kernel more than the engine's whole
 * handshake. So a program that opens connection after connection gets the same few again: a second, internal descriptor
 * keeps each alive (its keeper), and socket(2) is a dup of that one. Nobody can
 * tell: what is given out again was never named, bound, connected, or told an option, and nobody else has it.
 *
 * Bounds:
 *   - only a socket that the engine served, and that no call has changed (candidate), comes home when its file ends.
 *     Every other one's keeper is closed with the
 *     file, or as soon as the socket becomes the kernel's: file_release;
 *   - what a socket has of its maker (network namespace, user, cgroup, label) it keeps. So it goes to the thread that
 *     made it, alone; what the shim sees change makes all that
 *     there are worthless (reuse_forget); and none is older than REUSE_AGE_US, for what changes it from outside;
 *   - where a cgroup program sees each socket being made, none is used again. That is asked once;
 *   - a program that ends few connections has none, and no descriptor for them: REUSE_BEGIN.
 */
#include "shim.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>

#include "base/fd.h"
#include "base/time.h"

#define REUSE_MAX    64 /* keepers */
#define REUSE_BEGIN  8  /* connections that ended clean before the first keeper is made */
#define REUSE_AGE_US (100 * USEC_PER_MSEC)
#define FEW_NUMBERS  1024 /* internal descriptors are put below this if need be (base/fd.c) */

struct kept {
	int keeper; /* 0: none here */
	int family;
	bool out, nonblock;
	uint32_t generation;
	uint64_t maker; /* thread */
	int64_t made_us;
};

static struct kept kept[REUSE_MAX]; /* the table's lock */
static unsigned n_kept;             /* … all that have a keeper are among the first so many */
static _Atomic uint32_t generation;
static _Atomic bool may_begin, stopped;
static _Atomic uint64_t n_makers;
static ENGINE_THREAD uint64_t me; /* 0: none yet. No address: a later thread may get the same, and have another user or namespace */

static uint64_t maker(void)
{
	if (!me)
		me = atomic_fetch_add(&n_makers, 1) + 1;
	return me;
}

/* Lock held. */
static void end(struct kept *k)
{
	fd_close(k->keeper);
	k->keeper = 0;
	while (n_kept && !kept[n_kept - 1].keeper)
		n_kept--;
}

void reuse_forget(void)
{
	atomic_fetch_add(&generation, 1);
}

static bool is_fresh(const struct kept *k, int64_t now)
{
	return k->generation == generation && now - k->made_us < REUSE_AGE_US;
}

/* Lock held. One that is at home and may go out to this thread; what is too old ends. */
static struct kept *find_home(int family, int64_t now)
{
	for (struct kept *k = kept; k < kept + n_kept; k++) {
		if (!k->keeper || k->out)
			continue;
		if (!is_fresh(k, now))
			end(k);
		else if (k->family == family && k->maker == maker())
			return k;
	}
	return NULL;
}

/* A program with few numbers, beyond which the limit keeps us from going, needs them for other files, too. */
static bool is_programs_own(int number)
{
	struct rlimit64 limit;
	return number < FEW_NUMBERS && sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit, 0, 0) == 0 && limit.rlim_cur <= FEW_NUMBERS &&
	       number < (int)limit.rlim_cur;
}

static struct kept *find_place(void)
{
	for (struct kept *k = kept; k < kept + REUSE_MAX; k++)
		if (!k->keeper)
			return k;
	return NULL;
}

/* A number for one that is at home. -EAGAIN: there is none. */
static int take_locked(int family, int type, uint8_t *place, bool *nonblock)
{
	struct kept *k = find_home(family, clock_now_us());
	if (!k)
		return -EAGAIN;
	int fd = sys_fcntl(k->keeper, type & SOCK_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
	if (fd < 0)
		return fd;
	*nonblock = k->nonblock;
	k->out = true;
	*place = k - kept + 1;
	return fd;
}

bool reuse_may_begin(void)
{
	return may_begin;
}

int reuse_take(int family, int type, uint8_t *place, bool *nonblock)
{
	if (!may_begin)
		return -EAGAIN;
	fdtable_lock();
	int fd = take_locked(family, type, place, nonblock);
	fdtable_unlock();
	return fd;
}

uint8_t reuse_keep(int fd, int family)
{
	if (!may_begin)
		return 0;
	fdtable_lock();
	struct kept *k = find_place();
	int keeper = k ? fd_copy_high(fd) : -1;
	if (keeper > 0 && is_programs_own(keeper)) {
		fd_close(keeper);
		keeper = -1;
		may_begin = false;
	}
	if (keeper > 0 && k == kept + n_kept)
		n_kept++;
	if (keeper > 0)
		*k = (struct kept){.keeper = keeper, .family = family, .out = true, .generation = generation, .maker = maker(), .made_us = clock_now_us()};
	fdtable_unlock();
	return keeper > 0 ? k - kept + 1 : 0;
}

static bool all_put_off(const struct file *f)
{
	struct option_set set = f->candidate.set;
	for (unsigned i = 0; i < f->late.n; i++)
		option_set_drop(&set, f->late.index[i]);
	return option_set_empty(&set);
}

/*
 * Nothing ever happened to the kernel's socket, but that it may have been bound without a port, and nobody else has it.
 * Options that were put off did not reach it.
 */
static bool is_clean(const struct file *f)
{
	const struct candidate *c = &f->candidate;
	return f->kind == FILE_SOCK && !f->listener && c->family && !c->shared && !c->adopted && !c->port_chosen && !c->had_port && !c->used && c->nonblock_known &&
	       all_put_off(f);
}

void reuse_drop(uint8_t place)
{
	if (!place)
		return;
	fdtable_lock();
	end(&kept[place - 1]);
	fdtable_unlock();
}

static void count_clean(void)
{
	static _Atomic uint32_t n;
	if (atomic_fetch_add(&n, 1) == REUSE_BEGIN - 1 && !stopped && !engine_sockets_are_watched())
		may_begin = true;
}

void reuse_end(struct file *f)
{
	bool clean = is_clean(f);
	uint8_t place = f->kept;
	f->kept = 0;
	if (clean && !may_begin)
		count_clean();
	if (!clean || f->candidate.bound) {
		reuse_drop(place);
		return;
	}
	if (!place)
		return;
	fdtable_lock();
	kept[place - 1].out = false;
	kept[place - 1].nonblock = f->candidate.kernel_nonblock;
	fdtable_unlock();
}

/* Lock held. False: there were none. */
static bool end_all_home(void)
{
	bool any = false;
	for (struct kept *k = kept; k < kept + n_kept; k++)
		if (k->keeper && !k->out) {
			end(k);
			any = true;
		}
	return any;
}

bool reuse_give_up(void)
{
	fdtable_lock();
	bool any = end_all_home();
	fdtable_unlock();
	return any;
}

void reuse_stop(void)
{
	stopped = true;
	may_begin = false;
	reuse_forget();
	reuse_give_up();
}

void reuse_after_fork(void)
{
	end_all_home();
	reuse_forget();
}
