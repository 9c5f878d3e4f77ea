/*
 * Each thread's record of its waits, and how it is woken.
 *
 * Owns: one struct waiter per thread that ever waited, in thread-local storage; the memory that its waits took. A
 * thread's end gives that back. Waits nest: a signal handler that interrupts one may begin another. The interrupted
 * wait has left the scheduler by then (wait.c), so both use one record.
 */
#include "drive/drive.h"

#include <linux/futex.h>
#include <string.h>

#include "base/fd.h"
#include "base/sys.h"
#include "base/thread.h"
#include "drive/waiter.h"

static ENGINE_THREAD struct waiter self;
static ENGINE_THREAD bool self_made;
static pthread_key_t self_key;
static pthread_once_t self_once = PTHREAD_ONCE_INIT;

/* What a wait took. The memory behind it is the caller's. */
struct block {
	struct list node; /* waiter.blocks */
	size_t size;
	unsigned n_watches; /* it begins with so many */
	max_align_t memory[];
};

static void block_end(struct waiter *w, struct block *b)
{
	struct watch *watches = (void *)b->memory;
	for (unsigned i = 0; i < b->n_watches; i++)
		list_unlink(&watches[i].node);
	list_unlink(&b->node);
	pool_free(w->drive->pool, b, b->size);
}

void waiter_free_after(struct waiter *w, const struct list *last)
{
	while (w->blocks.prev != last && !list_empty(&w->blocks))
		block_end(w, container_of(w->blocks.prev, struct block, node));
}

static void thread_end(void *arg)
{
	struct waiter *w = arg;
	drive_lock(w->drive);
	drive_wake(w->drive, sched_leave(&w->drive->sched, &w->sched));
	waiter_free_after(w, &w->blocks);
	drive_unlock(w->drive);
	self_made = false;
}

static void make_key(void)
{
	pthread_key_create(&self_key, thread_end);
}

struct waiter *drive_waiter(struct drive *d)
{
	if (self_made)
		return &self;
	self = (struct waiter){.efd = -1, .drive = d};
	sched_thread_init(&self.sched);
	list_init(&self.blocks);
	list_init(&self.share_node);
	pthread_once(&self_once, make_key);
	pthread_setspecific(self_key, &self);
	self_made = true;
	return &self;
}

struct waiter *waiter_of_thread(void)
{
	return self_made ? &self : NULL;
}

void *waiter_alloc(struct waiter *w, size_t size)
{
	struct block *b = pool_alloc(w->drive->pool, sizeof *b + size);
	if (!b)
		return NULL;
	memset(b, 0, sizeof *b + size);
	b->size = sizeof *b + size;
	list_push_back(&w->blocks, &b->node);
	return b->memory;
}

void waiter_free(struct waiter *w, void *p)
{
	if (p)
		block_end(w, container_of(p, struct block, memory));
}

struct watch *waiter_watches(struct waiter *w, unsigned n)
{
	struct watch *watches = waiter_alloc(w, n * sizeof *watches);
	if (!watches)
		return NULL;
	container_of((void *)watches, struct block, memory)->n_watches = n;
	for (unsigned i = 0; i < n; i++)
		watch_init(&watches[i], w);
	return watches;
}

/* ---- waking ---- */

static void futex_wake(uint32_t *futex)
{
	sys_call(SYS_futex, futex, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void wake_after_unlock(struct waiter *w)
{
	struct drive *d = w->drive;
	if (d->n_wakes < sizeof d->wakes / sizeof *d->wakes)
		d->wakes[d->n_wakes++] = &w->futex;
	else
		futex_wake(&w->futex);
}

/*
 * A woken thread's first step is to take the lock. The word was changed under the lock, so that a thread that is not
 * asleep yet does not fall asleep; the thread may have ended since, then nobody is woken.
 */
void waiter_unlock(struct drive *d)
{
	uint32_t *wakes[sizeof d->wakes / sizeof *d->wakes];
	unsigned n = d->n_wakes;
	memcpy(wakes, d->wakes, n * sizeof *wakes);
	d->n_wakes = 0;
	pthread_mutex_unlock(&d->lock);
	for (unsigned i = 0; i < n; i++)
		futex_wake(wakes[i]);
}

static void wake_blocked(struct waiter *w)
{
	uint64_t one = 1;
	if (w->woken)
		return;
	w->woken = true;
	switch (w->blocked) {
	case BLOCKED_LEADS:
		sys_write(w->drive->seat_efd, &one, sizeof one);
		break;
	case BLOCKED_FD:
		sys_write(w->efd, &one, sizeof one);
		break;
	case BLOCKED_FUTEX:
		__atomic_add_fetch(&w->futex, 1, __ATOMIC_SEQ_CST);
		wake_after_unlock(w);
		break;
	case BLOCKED_NOT:   /* it runs, and looks before it blocks */
	case BLOCKED_SLICE: /* no fd was left to wake it by: it looks soon */
		break;
	}
}

void waiter_wake(struct waiter *w)
{
	w->signalled = true;
	if (sched_signal(&w->drive->sched, &w->sched))
		wake_blocked(w);
}

void drive_wake(struct drive *d, struct sched_wake wake)
{
	if (wake.thread)
		wake_blocked(container_of(wake.thread, struct waiter, sched));
	if (wake.helper)
		drive_helper_wake(d);
}

void drive_check_deadline(struct drive *d)
{
	if (!d->up)
		return;
	int64_t deadline = d->ops->deadline(d);
	bool tx = d->ops->tx_blocked(d);
	if (d->sched.seat) {
		struct waiter *w = container_of(d->sched.seat, struct waiter, sched);
		if (w->blocked != BLOCKED_LEADS || (deadline >= d->seat_until && (!tx || d->seat_sees_tx)))
			return;
		d->seat_until = deadline; /* so that later turns do not wake the leader again */
		d->seat_sees_tx = true;
		wake_blocked(w);
	} else if (sched_helper_is_late(&d->sched, deadline) || (d->sched.helper == HELPER_LEADS && tx && !d->helper_sees_tx)) {
		sched_helper_awake(&d->sched);
		drive_helper_wake(d);
	}
}

void drive_came_up(struct drive *d)
{
	d->up = true;
	d->calm_us = clock_now_us();
	drive_seat_efd(d); /* now: later a program may have a single number left, and need it */
	if (d->sched.seat) /* it leads already, and waits for nothing of the engine's yet */
		wake_blocked(container_of(d->sched.seat, struct waiter, sched));
}

/* ---- shared fds ---- */

void waiter_leave_share(struct waiter *w)
{
	struct fd_share *share = w->share;
	if (!share)
		return;
	w->share = NULL;
	list_unlink(&w->share_node);
	if (share->watcher == w)
		share->watcher = NULL;
	struct list *next = list_first(&share->others);
	if (share->watcher || !next)
		return;
	list_unlink(next);
	wake_blocked(container_of(next, struct waiter, share_node)); /* it looks anew, and watches */
}

void fd_share_end(struct fd_share *share)
{
	if (share->watcher)
		share->watcher->share = NULL;
	share->watcher = NULL;
	for (struct list *pos; share->others.next && (pos = list_first(&share->others));) {
		container_of(pos, struct waiter, share_node)->share = NULL;
		list_unlink(pos);
	}
}

/* ---- watches ---- */

static void notify_waiter(struct watch *w, struct sock *s)
{
	(void)s;
	if (w->waiter && !w->waiter->signalled)
		waiter_wake(w->waiter);
}

void watch_init(struct watch *w, struct waiter *waiter)
{
	list_init(&w->node);
	w->notify = notify_waiter;
	w->waiter = waiter;
}

void watches_clear(struct list *watches)
{
	for (struct list *pos; (pos = list_first(watches));)
		list_unlink(pos);
}

/* ---- fork ---- */

void drive_after_fork(struct drive *d)
{
	for (struct list *pos; (pos = list_first(&d->sched.followers));)
		list_unlink(pos);
	sched_init(&d->sched);
	putoff_forget(d); /* the parent's */
	d->up = false;
	d->epoch++;
	d->n_wakes = 0;
	/* The parent's: an eventfd is shared with it, not copied. */
	while (d->n_efds)
		fd_close(d->efds[--d->n_efds]);
	fd_close(d->seat_efd);
	d->seat_efd = -1;
	fd_close(d->helper_efd); /* -1: none */
	d->helper_efd = -1;
	d->helper_runs = d->main_left = false;
	thread_after_fork();
	fd_close(d->main_stat); /* -1: none */
	d->main_stat = -1;
	d->last = NULL; /* the parent's end is not the child's */
	stopped_after_fork(d);
	if (self_made) {
		sched_thread_init(&self.sched);
		self.blocked = BLOCKED_NOT;
		self.share = NULL;
		list_init(&self.share_node);
	}
}
