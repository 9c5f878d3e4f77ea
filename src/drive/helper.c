/*
 * The helper thread: driver of last resort, and the one who answers `finesse stat` and fork children.
 *
 * While threads of the program wait or call, they drive the engine themselves and this thread must cost them nothing.
 * What it does until it looks again is sched.h's to say:
 *   - the program drove within the grace time: it ticks, that is, sleeps until the grace time is over, and looks at one
 *     number without the lock;
 *   - a thread leads: it sleeps until somebody wakes it. Who leaves the seat to nobody does (once per tick at most,
 *     since only a leader that has waited
 *     for all of a tick lets it sleep);
 *   - nobody drove and nobody waits: all threads compute, or wait for something else. It leads, until one of them comes
 *     back, by a wait or a call: a busy
 *     server whose epoll_wait always finds something never waits, and two that drive would fight for the lock. But who
 *     makes a call and then reads from a pipe has not come back for long: so after it led the grace time is short, and
 *     each tick in which the program drove doubles it.
 * So frames and deadlines wait for at most the grace time, 1 ms, whatever the program does; and so does what its verbs
 * put off (putoff.c).
 *
 * A program that is calm, whose threads always went back to their waits at once, has a longer one, 4 ms: a timer's tick
 * of a kernel with HZ=250. Each tick wakes this thread on the CPU that a server's thread slept on, and a frame that
 * comes in these microseconds finds that CPU busy: the kernel then puts the server's thread behind the one that sent
 * the frame, and where that one spins, until the next tick of the scheduler. With 10,000 requests a second and two CPUs
 * that was one answer in 100. And the ticks go on between requests that are more than 1 ms apart, instead of a sleep
 * that each request ends by a wake-up. The first time that the program stays away ends it.
 *
 * All signals are blocked in it. It exists from the first socket that was decided, or fell back, to the process's end;
 * not in fork children.
 */
#include "drive/drive.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "base/sys.h"
#include "base/thread.h"

#define GRACE_FIRST_US 100 /* after it led */
#define LAZY_TICKS     16  /* then what it polls is collected anew */
#define LAST_LOOK_US   (20 * USEC_PER_MSEC) /* once main has ended: whether the program's last thread has, too */

struct helper_fds {
	struct pollfd fds[1 + DRIVE_SERVICE_FDS + DRIVE_FDS];
	unsigned n, first_engine;
	bool stopped; /* the process was, during the sleep */
};

static void collect_fds(struct drive *d, struct helper_fds *h, bool lead)
{
	h->fds[0] = (struct pollfd){.fd = d->helper_efd, .events = POLLIN};
	h->n = 1 + d->ops->service_fds(d, h->fds + 1, DRIVE_SERVICE_FDS);
	h->first_engine = h->n;
	if (lead)
		h->n += d->ops->fds(d, h->fds + h->n);
}

/* TIME_NEVER: until something is there. */
static int sleep_until(struct drive *d, struct helper_fds *h, int64_t until)
{
	int r = stopped_poll(d, h->fds, h->n, until == TIME_NEVER ? TIME_NEVER : until - clock_now_us());
	h->stopped = r == -EINTR;
	if (r < 0)
		for (unsigned i = 0; i < h->n; i++)
			h->fds[i].revents = 0;
	return r;
}

/*
 * Ticks, without the lock, which a busy program would have to hand over twice, as long as the program drives and
 * nothing else is to be done. `most`: its grace time, once it has grown.
 */
static void tick(struct drive *d, struct helper_fds *h, int64_t until, int64_t most)
{
	int64_t seen = __atomic_load_n(&d->driven_us, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < LAZY_TICKS; i++) {
		if (sleep_until(d, h, until))
			return;
		int64_t driven = __atomic_load_n(&d->driven_us, __ATOMIC_RELAXED);
		if (driven == seen || (most > DRIVE_GRACE_US && __atomic_load_n(&d->away, __ATOMIC_RELAXED)))
			return;
		seen = driven;
		d->grace_us = min_time(2 * d->grace_us, most);
		until = driven + d->grace_us;
	}
}

static void serve(struct drive *d, struct helper_fds *h)
{
	uint64_t count;
	if (h->fds[0].revents)
		sys_read(h->fds[0].fd, &count, sizeof count);
	d->ops->service(d, h->fds + 1, h->first_engine - 1);
}

/* What the program may count on to come back by itself. */
static int64_t grace_most(struct drive *d)
{
	int64_t now = clock_now_us();
	if (__atomic_exchange_n(&d->away, false, __ATOMIC_RELAXED) || (!d->sched.seat && now - d->left_us > DRIVE_AWAY_US))
		d->calm_us = now;
	return now - d->calm_us > DRIVE_CALM_US ? DRIVE_GRACE_CALM_US : DRIVE_GRACE_US;
}

/*
 * While a thread leads, nothing is gained by a short one; and a helper that falls asleep between the answers of a fast
 * peer would be woken for each, and fight for the lock.
 */
static int64_t grace(const struct drive *d, int64_t most)
{
	return d->sched.seat ? most : min_time(d->grace_us, most);
}

static void helper_round(struct drive *d)
{
	struct helper_fds h;
	int64_t until = TIME_NEVER, driven = d->driven_us;
	enum sched_helper role = HELPER_SLEEPS;
	int64_t most = grace_most(d);
	if (d->up)
		role = sched_helper_look(&d->sched, clock_now_us(), driven, grace(d, most), d->ops->deadline(d), &until);
	else
		d->sched.helper = role;
	d->helper_sees_tx = d->up && d->ops->tx_blocked(d);
	collect_fds(d, &h, role == HELPER_LEADS);
	if (role == HELPER_LEADS && d->ops->owes(d)) /* to prepare the sleep was an event itself */
		until = d->now;
	if (d->main_left)
		until = min_time(until, d->main_look_us);
	drive_unlock(d);
	if (role == HELPER_TICKS)
		tick(d, &h, until, most);
	else
		sleep_until(d, &h, until);
	drive_lock_only(d);
	putoff_settle_late(d);
	sched_helper_awake(&d->sched);
	if (h.stopped)
		stopped_seen(d);
	if (role == HELPER_LEADS && d->up && !d->sched.seat) {
		d->ops->ready(d, h.fds + h.first_engine, h.n - h.first_engine);
		d->now = d->ops->begin(d); /* our own turn does not count as the program's */
	}
	if (role == HELPER_LEADS && d->driven_us != driven) {
		d->grace_us = GRACE_FIRST_US;
		sched_helper_found_back(&d->sched, clock_now_us());
	}
	serve(d, &h);
	drive_end(d);
}

static bool (*on_last_thread)(void);

static void end_if_last(struct drive *d)
{
	int64_t now;
	if (!d->main_left || (now = clock_now_us()) < d->main_look_us)
		return;
	d->main_look_us = now + LAST_LOOK_US;
	if (d->main_stat < 0)
		d->main_stat = fd_move_high(sys_openat(AT_FDCWD, "/proc/self/stat", O_RDONLY | O_CLOEXEC, 0));
	if (d->main_stat < 0 || !thread_only_ours(d->main_stat))
		return;
	drive_unlock(d);
	bool ends = on_last_thread();
	drive_lock(d);
	d->main_left = !ends;
}

void drive_main_leaves(struct drive *d, bool (*last)(void))
{
	drive_lock(d);
	on_last_thread = last;
	d->main_left = true;
	drive_helper_wake(d);
	drive_unlock(d);
}

static void *helper_main(void *arg)
{
	struct drive *d = arg;
	drive_lock(d);
	sched_helper_awake(&d->sched);
	while (!d->helper_stop) {
		helper_round(d);
		end_if_last(d);
	}
	d->sched.helper = HELPER_NONE;
	drive_unlock(d);
	return NULL;
}

int drive_helper_start(struct drive *d)
{
	if (d->helper_runs) { /* it may sleep without an engine to look after */
		drive_helper_wake(d);
		return 0;
	}
	if (d->last) /* the process ends */
		return -ESRCH;
	int fd = fd_move_high(sys_eventfd2(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (fd < 0)
		return fd;
	d->helper_efd = fd;
	d->helper_stop = false;
	int err = thread_start(&d->helper, helper_main, d);
	if (err) {
		fd_close(fd);
		d->helper_efd = -1;
		return err;
	}
	pthread_setname_np(d->helper, "finesse");
	d->helper_runs = true;
	d->sched.helper = HELPER_AWAKE;
	return 0;
}

void drive_helper_wake(struct drive *d)
{
	uint64_t one = 1;
	if (!d->helper_runs)
		return;
	if (d->sched.helper == HELPER_SLEEPS)
		d->sched.helper = HELPER_AWAKE;
	sys_write(d->helper_efd, &one, sizeof one);
}

void drive_helper_nudge(const struct drive *d)
{
	uint64_t one = 1;
	int fd = __atomic_load_n(&d->helper_efd, __ATOMIC_RELAXED);
	if (fd >= 0)
		sys_write(fd, &one, sizeof one);
}

static void helper_join(struct drive *d)
{
	int cancel_state;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	drive_unlock(d);
	pthread_join(d->helper, NULL);
	drive_lock(d);
	pthread_setcancelstate(cancel_state, NULL);
}

void drive_helper_stop(struct drive *d)
{
	if (!d->helper_runs)
		return;
	d->helper_stop = true;
	drive_helper_wake(d);
	d->helper_runs = false;
	if (!pthread_equal(d->helper, pthread_self())) /* the helper itself ends the engine of a process that dies */
		helper_join(d);
	fd_close(d->helper_efd);
	d->helper_efd = -1;
	d->sched.helper = HELPER_NONE;
}

/* Its descriptors stay open: it may sleep in them. */
void drive_helper_leave(struct drive *d)
{
	if (!d->helper_runs)
		return;
	pthread_detach(d->helper); /* nobody joins it */
	d->helper_stop = true;
	d->helper_runs = false;
	d->sched.helper = HELPER_NONE;
}
