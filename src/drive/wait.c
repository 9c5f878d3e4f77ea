/*
 * Waiting: one thread leads, the others follow; who does what is sched.h's to say, this file blocks accordingly.
 *
 * The leader polls what the engine lives from (the packet ring, netlink, the transmit queue when it is full) with the
 * next deadline as its time-out, and keeps the seat until its call returns. A follower sleeps on a futex; one that
 * waits for kernel fds, or under a signal mask of its own, sleeps in ppoll with an eventfd that it borrows for the
 * time. So a thread costs no fd, but for those that wait for several things at once. Where no eventfd can be had, a
 * wait is cut into slices.
 *
 * Ways out of the blocked system call: it returns; a signal handler of the program interrupts it (drive_interrupted:
 * the thread leaves the scheduler before the handler runs, since that may take long); the handler jumps away, or the
 * thread is cancelled (wait_undone).
 */
#include "drive/drive.h"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "base/sys.h"
#include "drive/waiter.h"

#define POLL_ON_STACK 64
/* "For ever", as a timespec that a handler can zero. */
#define LONG_WAIT_US (INT64_C(86400) * USEC_PER_SEC)
/* Without an eventfd: what is late by that much goes unnoticed, and it is no load. */
#define SLICE_US (2 * USEC_PER_MSEC)

void drive_wait_begin(struct wait *wait, const struct drive *d, int64_t timeout_us)
{
	wait->deadline = timeout_us ? d->now + timeout_us : TIME_NEVER;
	wait->handlers = engine_handlers_at_call;
	wait->any_handler = wait->ends_at_stop = timeout_us != 0 || engine_handlers_at_call.moved;
	wait->drive = d;
	wait->stops = d->stops;
	wait->share = NULL;
}

void drive_wait_moved(struct wait *wait)
{
	if (engine_handlers_at_call.moved)
		return;
	engine_handlers_at_call.moved = true;
	engine_handlers_at_call.all = engine_handlers.all; /* handlers that ran before have restarted the call */
	if (!wait->any_handler) {
		wait->any_handler = true;
		wait->handlers = engine_handlers_at_call;
	}
	if (!wait->ends_at_stop) {
		wait->ends_at_stop = true;
		wait->stops = wait->drive->stops;
	}
}

int drive_wait_begin_timespec(struct wait *wait, const struct drive *d, const struct timespec *timeout)
{
	drive_wait_begin(wait, d, 0);
	wait->any_handler = true;
	wait->ends_at_stop = false;
	if (!timeout)
		return 0;
	if (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= 1000000000)
		return -EINVAL;
	if (timeout->tv_sec < LONG_WAIT_US / USEC_PER_SEC * 365)
		wait->deadline = d->now + timeout->tv_sec * USEC_PER_SEC + (timeout->tv_nsec + NSEC_PER_USEC - 1) / NSEC_PER_USEC;
	return 0;
}

int drive_wait_begin_epoll(struct wait *wait, const struct drive *d, const struct timespec *timeout)
{
	int r = drive_wait_begin_timespec(wait, d, timeout);
	wait->ends_at_stop = true;
	return r;
}

/* A handler took away what is waited for. */
static bool wait_lost(const struct wait *wait)
{
	return wait->handlers.lost != engine_handlers.lost;
}

static bool wait_interrupted(const struct wait *wait)
{
	if (wait->ends_at_stop && wait->stops != __atomic_load_n(&wait->drive->stops, __ATOMIC_RELAXED))
		return true;
	return wait->any_handler ? wait->handlers.all != engine_handlers.all : wait->handlers.norestart != engine_handlers.norestart;
}

/* ---- eventfds ---- */

static int efd_take(struct drive *d)
{
	return d->n_efds ? d->efds[--d->n_efds] : fd_move_high(sys_eventfd2(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

static void efd_give(struct drive *d, int fd)
{
	if (fd < 0)
		return;
	if (d->n_efds < sizeof d->efds / sizeof *d->efds)
		d->efds[d->n_efds++] = fd;
	else
		fd_close(fd);
}

int drive_seat_efd(struct drive *d)
{
	if (d->seat_efd < 0)
		d->seat_efd = fd_move_high(sys_eventfd2(0, EFD_CLOEXEC | EFD_NONBLOCK));
	return d->seat_efd;
}

static void efd_drain(int fd)
{
	uint64_t count;
	sys_read(fd, &count, sizeof count);
}

/* ---- one blocked system call ---- */

struct sleep {
	struct drive *d;
	struct waiter *w;
	const struct wait *wait;
	const sigset_t *mask;
	struct pollfd *fds; /* own wake-up, the engine's if it leads, the caller's */
	unsigned n, n_engine;
	enum waiter_blocked how;
	uint32_t futex;
	int efd;          /* borrowed */
	int64_t until;
	int64_t spin_until; /* 0: block at once */
	bool looks;         /* … by system calls, for bulk.h; not as the setting says */
	bool found;
	bool handled;  /* a handler ran */
	bool woken_before; /* … and before it did, something that is watched had changed */
	struct timespec ts;
	struct timespec *outer_timeout; /* of a wait that our thread's handler interrupted */
	struct list *outer_blocks;      /* … and the last memory that it has */
};

static ENGINE_THREAD struct list *blocks_floor; /* the interrupted wait's last block; NULL: there is none */

/* The sleep's frames are about to be gone. No lock held. */
static void wait_undone(void *arg)
{
	struct sleep *z = arg;
	struct drive *d = z->d;
	engine_wait_timeout = z->outer_timeout;
	blocks_floor = z->outer_blocks;
	drive_lock(d);
	z->w->blocked = BLOCKED_NOT;
	z->w->signalled = false;
	waiter_leave_share(z->w);
	drive_wake(d, sched_leave(&d->sched, &z->w->sched));
	efd_give(d, z->efd);
	waiter_free_after(z->w, z->outer_blocks ? z->outer_blocks : &z->w->blocks);
	drive_unlock(d);
}

/*
 * The shim's trampoline, before a handler of the program that interrupts a wait of this thread: others drive meanwhile.
 */
static bool drive_interrupted(void)
{
	struct waiter *w = waiter_of_thread();
	struct sleep *z = container_of(engine_wait_timeout, struct sleep, ts);
	if (!w || drive_ends_elsewhere(w->drive)) /* then the lock is another thread's for ever */
		return false;
	drive_lock(w->drive);
	if (!z->handled)
		z->woken_before = w->signalled;
	z->handled = true;
	w->blocked = BLOCKED_NOT;
	waiter_leave_share(w);
	drive_wake(w->drive, sched_leave(&w->drive->sched, &w->sched));
	drive_unlock(w->drive);
	return true;
}

void wait_init(void)
{
	engine_on_interrupt = drive_interrupted;
}

/*
 * The setting `spin`: the leader looks at the ring in memory for a while before it blocks. Kernel fds are looked at
 * when it is over, so they may be late by that time; so may be netlink.
 */
static void spin(struct sleep *z)
{
	struct drive *d = z->d;
	bool found = false;
	while (!found && !wait_interrupted(z->wait) && clock_now_us() < z->spin_until)
		found = d->ops->rx_pending(d) || __atomic_load_n(&z->w->signalled, __ATOMIC_RELAXED);
	if (found)
		z->ts = (struct timespec){0, 0};
}

static void relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

#define LOOK_PAUSES 16 /* between two looks: the kernel puts frames there under a lock that each look takes */

/*
 * bulk.h's look. By poll, which sees everything that the wait would; the ring in memory is another thread's to take
 * away with its interface. What was found, as poll says it.
 */
static int look(struct sleep *z)
{
	int r;
	do {
		struct timespec none = {0, 0};
		r = sys_call(SYS_ppoll, z->fds, z->n, &none, z->mask, 8 /* kernel sigset */, 0);
		for (int i = 0; !r && i < LOOK_PAUSES; i++)
			relax();
	} while (!r && !wait_interrupted(z->wait) && clock_now_us() < z->spin_until);
	z->found = r > 0;
	return r;
}

static int sleep_now(struct sleep *z)
{
	if (z->how == BLOCKED_FUTEX)
		return sys_call(SYS_futex, &z->w->futex, FUTEX_WAIT_PRIVATE, z->futex, &z->ts, NULL, 0);
	return sys_call(SYS_ppoll, z->fds, z->n, &z->ts, z->mask, 8 /* kernel sigset */, 0);
}

/*
 * Without the lock. A cancellation point: asynchronous just for the call, as libc does it, since no lock is held and
 * all is undone.
 */
static int sleep_cancellable(struct sleep *z)
{
	int type, r = -EINTR;
	unsigned handlers = engine_handlers.all, setxids = engine_setxids_begun;
	if (wait_interrupted(z->wait) || wait_lost(z->wait))
		return r;
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
	r = 0;
	if (z->looks)
		r = look(z);
	else if (z->spin_until)
		spin(z);
	if (!r)
		r = sleep_now(z);
	pthread_setcanceltype(type, NULL);
	/*
	 * A handler without a trampoline: libc's, when another thread sets users or groups. It has SA_RESTART. Who was
	 * woken at the same time sees no EINTR of it.
	 */
	if (handlers == engine_handlers.all && (r == -EINTR || setxids != engine_setxids_begun))
		engine_handlers.all++;
	return r;
}

static void none_ready(struct pollfd *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		fds[i].revents = 0;
}

static void sleep_blocked(struct sleep *z)
{
	struct unwind unwind;
	struct waiter *w = z->w;
	int64_t from = z->spin_until > z->d->now ? z->spin_until : z->d->now; /* a spin in vain is part of the wait */
	int64_t left = z->until == TIME_NEVER ? LONG_WAIT_US : z->until > from ? z->until - from : 0;
	z->ts = timespec_of(left);
	z->futex = w->futex;
	z->outer_timeout = engine_wait_timeout;
	z->outer_blocks = blocks_floor;
	w->blocked = z->how;
	w->woken = false;
	w->ends_at_stop = z->wait->ends_at_stop;
	w->efd = z->efd;
	engine_wait_timeout = &z->ts;
	blocks_floor = w->blocks.prev;
	unwind_begin(&unwind, wait_undone, z);
	drive_unlock(z->d); /* deferred handlers run here */
	int r = sleep_cancellable(z);
	drive_lock(z->d);
	unwind_end(&unwind);
	engine_wait_timeout = z->outer_timeout;
	blocks_floor = z->outer_blocks;
	w->blocked = BLOCKED_NOT;
	w->efd = -1;
	if (r < 0) /* no revents were written */
		none_ready(z->fds, z->n);
}

/*
 * Timers come and go with each request and its ACK. A leader that slept for longer would be woken for the next
 * request's timer; so it keeps the time that it slept until before, and wakes for nothing once per RTO at most.
 */
static int64_t leader_until(struct drive *d)
{
	int64_t deadline = d->ops->deadline(d);
	return d->seat_until > d->now ? min_time(deadline, d->seat_until) : deadline;
}

/* How this sleep is woken, and for how long it may be. */
static void sleep_as_leader(struct sleep *z)
{
	struct drive *d = z->d;
	z->how = drive_seat_efd(d) < 0 ? BLOCKED_SLICE : BLOCKED_LEADS;
	z->fds[0] = (struct pollfd){.fd = d->seat_efd, .events = POLLIN};
	if (!d->up)
		return;
	z->until = min_time(z->until, leader_until(d));
	z->n_engine = d->ops->fds(d, z->fds + 1);
	z->n += z->n_engine;
	if (z->w->signalled || d->ops->owes(d)) /* to prepare the sleep was an event itself */
		z->until = d->now;
	d->seat_until = z->until;
	d->seat_sees_tx = d->ops->tx_blocked(d);
}

static void sleep_as_follower(struct sleep *z, unsigned n_kfds)
{
	z->how = BLOCKED_FUTEX;
	if (!n_kfds && !z->mask)
		return;
	z->efd = efd_take(z->d);
	z->how = z->efd < 0 ? BLOCKED_SLICE : BLOCKED_FD;
	z->fds[0] = (struct pollfd){.fd = z->efd, .events = POLLIN};
}

static bool any_ready(const struct pollfd *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (fds[i].revents)
			return true;
	return false;
}

/* Whether this thread watches the fds of its wait. */
static bool watches_fds(struct drive *d, struct waiter *w, struct fd_share *share)
{
	if (!share)
		return true;
	if (share->epoch != d->epoch) {
		*share = (struct fd_share){.epoch = d->epoch};
		list_init(&share->others);
	}
	w->share = share;
	list_unlink(&w->share_node);
	if (!share->watcher)
		share->watcher = w;
	if (share->watcher != w)
		list_push_back(&share->others, &w->share_node);
	return share->watcher == w;
}

/* The leader's wait behind a large frame: bulk.h. */
static void look_first(struct sleep *z)
{
	int64_t us = bulk_look_us(&z->d->bulk, z->d->now);
	z->looks = us != 0;
	if (us)
		z->spin_until = min_time(z->until, clock_now_us() + us);
}

/* One sleep, and the turn after it. As drive_wait, or -EAGAIN: nothing of the caller's yet. */
static int wait_once(struct drive *d, struct waiter *w, struct pollfd *fds, struct pollfd *kfds, unsigned n_kfds, const struct wait *wait,
		     const sigset_t *mask)
{
	struct sleep z = {.d = d, .w = w, .wait = wait, .mask = mask, .fds = fds, .n = 1, .efd = -1, .until = wait->deadline};
	unsigned handlers = engine_handlers.all;
	if (!watches_fds(d, w, wait->share)) {
		none_ready(kfds, n_kfds);
		n_kfds = 0;
	}
	bool lead = sched_wait(&d->sched, &w->sched);
	if (lead)
		sleep_as_leader(&z);
	else
		sleep_as_follower(&z, n_kfds);
	/* With a mask, signals that only this wait lets in would not be seen: no spinning then. */
	if (lead && d->up && d->spin_us && !mask)
		z.spin_until = min_time(z.until, d->now + d->spin_us);
	else if (z.how == BLOCKED_LEADS && d->up && z.until > d->now)
		look_first(&z);
	if (z.how == BLOCKED_SLICE)
		z.until = min_time(z.until, d->now + SLICE_US);
	if (n_kfds)
		memcpy(fds + z.n, kfds, n_kfds * sizeof *kfds);
	z.n += n_kfds;
	sleep_blocked(&z);
	if (z.looks)
		bulk_looked(&d->bulk, z.found);
	/*
	 * What the handler has done to what is waited for comes after the call, which ended before. What came of the
	 * network is told, if it comes by now.
	 */
	bool by_handler = z.handled && !z.woken_before && w->signalled;
	if (n_kfds)
		memcpy(kfds, fds + 1 + z.n_engine, n_kfds * sizeof *kfds);
	if (z.how != BLOCKED_FUTEX && fds[0].revents)
		efd_drain(fds[0].fd);
	efd_give(d, z.efd);
	if (d->up && z.n_engine)
		d->ops->ready(d, fds + 1, z.n_engine);
	drive_begin(d);
	if (wait_lost(wait))
		return wait_interrupted(wait) ? -EINTR : -ERESTART;
	if ((any_ready(kfds, n_kfds) || w->signalled) && !(by_handler && wait_interrupted(wait)))
		return 0;
	if (wait_interrupted(wait))
		return -EINTR;
	if (handlers != engine_handlers.all) /* it may have used up what woke us */
		return 0;
	return d->now >= wait->deadline ? -ETIMEDOUT : -EAGAIN;
}

int drive_wait(struct drive *d, struct waiter *w, struct pollfd *kfds, unsigned n_kfds, const struct wait *wait, const sigset_t *mask)
{
	struct pollfd on_stack[POLL_ON_STACK], *fds = on_stack, *heap = NULL;
	size_t size = (n_kfds + 1 + DRIVE_FDS) * sizeof *fds;
	if (size > sizeof on_stack) {
		fds = heap = waiter_alloc(w, size);
		if (!heap)
			return -ENOMEM;
	}
	int r = -EAGAIN;
	putoff_note_wait(d);
	while (r == -EAGAIN) {
		drive_end(d);
		r = w->signalled ? 0 : wait_once(d, w, fds, kfds, n_kfds, wait, mask);
	}
	putoff_note_woken(d, w);
	waiter_leave_share(w);
	drive_wake(d, sched_leave(&d->sched, &w->sched));
	w->signalled = false;
	waiter_free(w, heap);
	return r;
}
