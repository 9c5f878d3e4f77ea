/* The lock and the bracket of a turn: see drive.h. */
#include "drive/drive.h"

#include <assert.h>

#include "base/sys.h"
#include "drive/waiter.h"

void drive_init(struct drive *d, struct pool *pool)
{
	d->pool = pool;
	d->grace_us = DRIVE_GRACE_US;
	d->epoch = 1;
	sched_init(&d->sched);
	wait_init();
}

void drive_end_of_process(struct drive *d)
{
	d->last = &engine_inside;
}

/* Its wait is over for the scheduler: the last thread may have to lead. */
static void sleep_until_the_end(struct drive *d)
{
	struct waiter *w = waiter_of_thread();
	if (w) {
		w->blocked = BLOCKED_NOT;
		waiter_leave_share(w);
		drive_wake(d, sched_leave(&d->sched, &w->sched));
	}
	waiter_unlock(d);
	engine_inside = 1;
	engine_leave(); /* a signal that finds this thread is handled as ever */
	for (;;)
		sys_ppoll(NULL, 0, NULL, NULL);
}

bool drive_ends_elsewhere(const struct drive *d)
{
	const void *last = __atomic_load_n(&d->last, __ATOMIC_ACQUIRE);
	return last && last != &engine_inside;
}

void drive_lock_only(struct drive *d)
{
	engine_enter();
	pthread_mutex_lock(&d->lock);
	if (__builtin_expect(drive_ends_elsewhere(d), 0))
		sleep_until_the_end(d);
}

void drive_lock(struct drive *d)
{
	drive_lock_only(d);
	putoff_settle(d);
}

void (*drive_before_unlock)(void);

void drive_unlock(struct drive *d)
{
	if (drive_before_unlock)
		drive_before_unlock();
	assert(!d->up || (sched_is_sound(&d->sched) && putoff_is_sound(d)));
	waiter_unlock(d);
	engine_leave();
}

void drive_begin(struct drive *d)
{
	d->now = d->ops->begin(d);
	__atomic_store_n(&d->driven_us, d->now, __ATOMIC_RELAXED);
}

void drive_end(struct drive *d)
{
	d->ops->end(d);
	if (d->put_off_us)
		putoff_forget(d);
	drive_check_deadline(d);
}

void drive_enter(struct drive *d)
{
	drive_lock(d);
	drive_begin(d);
}

void drive_leave(struct drive *d)
{
	drive_end(d);
	drive_unlock(d);
}
