/* An engine that is a pipe, for tests of what drives it: each byte in it is an event for the thread of that number. */
#ifndef FINESSE_TESTS_PIPE_ENGINE_H
#define FINESSE_TESTS_PIPE_ENGINE_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"
#include "drive/drive.h"

#define THREADS 8

/* One per thread: what a socket is. Lock. */
struct item {
	struct list watches;
	unsigned arrived, taken;
};

static struct engine {
	struct drive drive;
	struct pool pool;
	int ring[2];
	struct item items[THREADS];
	int64_t deadline;
	unsigned ticks; /* deadlines met */
	_Atomic bool owed; /* as a connection that has something to say */
	bool little;       /* … which is not urgent. Lock */
	_Atomic unsigned urgent; /* turns that left it */
	bool much;         /* … or for which a peer waits. Lock */
} e;

static int64_t begin(struct drive *d)
{
	uint8_t frames[64];
	ssize_t n;
	int64_t now = clock_now_us();
	while ((n = sys_read(e.ring[0], frames, sizeof frames)) > 0)
		for (ssize_t i = 0; i < n; i++) {
			struct item *it = &e.items[frames[i]];
			it->arrived++;
			list_for_each (pos, tmp, &it->watches) {
				struct watch *w = container_of(pos, struct watch, node);
				w->notify(w, NULL);
			}
		}
	if (now >= e.deadline) {
		e.ticks++;
		e.deadline = TIME_NEVER;
	}
	return now;
}

static void end(struct drive *d)
{
	e.owed = false;
}

static void end_urgent(struct drive *d)
{
	e.urgent++;
	if (!e.little)
		e.owed = false;
}

static bool owes(struct drive *d)
{
	return e.owed;
}

static bool hurries(struct drive *d)
{
	return e.much;
}

static int64_t look(struct drive *d)
{
	return clock_now_us();
}

static int64_t deadline(struct drive *d)
{
	return e.deadline;
}

static unsigned fds(struct drive *d, struct pollfd *out)
{
	*out = (struct pollfd){.fd = e.ring[0], .events = POLLIN};
	return 1;
}

static void ready(struct drive *d, const struct pollfd *polled, unsigned n)
{
}

static bool no(struct drive *d)
{
	return false;
}

static unsigned no_fds(struct drive *d, struct pollfd *out, unsigned max)
{
	return 0;
}

static const struct drive_ops ops = {
	.begin = begin,
	.end = end,
	.end_urgent = end_urgent,
	.owes = owes,
	.hurries = hurries,
	.look = look,
	.deadline = deadline,
	.fds = fds,
	.ready = ready,
	.tx_blocked = no,
	.rx_pending = no,
	.service_fds = no_fds,
	.service = ready,
};

static void setup(void)
{
	memset(&e, 0, sizeof e);
	ck_assert_int_eq(pipe2(e.ring, O_NONBLOCK | O_CLOEXEC), 0);
	e.drive = (struct drive)DRIVE_BEFORE_INIT(&ops);
	e.deadline = TIME_NEVER;
	pool_init(&e.pool, 0);
	drive_lock(&e.drive);
	drive_init(&e.drive, &e.pool);
	for (int i = 0; i < THREADS; i++)
		list_init(&e.items[i].watches);
	ck_assert_int_eq(drive_helper_start(&e.drive), 0);
	drive_came_up(&e.drive);
	drive_unlock(&e.drive);
}

static void teardown(void)
{
	drive_lock(&e.drive);
	drive_helper_stop(&e.drive);
	for (int i = 0; i < THREADS; i++)
		ck_assert(list_empty(&e.items[i].watches));
	ck_assert(list_empty(&e.drive.sched.followers));
	ck_assert_ptr_null(e.drive.sched.seat);
	drive_unlock(&e.drive);
	ck_assert(pool_is_empty(&e.pool));
	pool_fini(&e.pool);
	close(e.ring[0]);
	close(e.ring[1]);
}

static inline void arrive(int who)
{
	uint8_t byte = who;
	while (write(e.ring[1], &byte, 1) != 1)
		;
}

/* As a verb: wait until something is there, take one. 0, or why not. kfd: a kernel fd that is watched, too, or -1. */
static int take(int who, int64_t timeout_us, int kfd)
{
	struct item *it = &e.items[who];
	struct wait wait;
	int r = 0;
	engine_call();
	drive_enter(&e.drive);
	drive_wait_begin(&wait, &e.drive, timeout_us);
	while (it->taken == it->arrived && !r) {
		struct waiter *w = drive_waiter(&e.drive);
		struct pollfd k = {.fd = kfd, .events = POLLIN};
		struct watch *watch = waiter_watches(w, 1);
		if (!watch) /* check's own assertions are cancellation points: none under the lock */
			abort();
		list_push_back(&it->watches, &watch->node);
		r = drive_wait(&e.drive, w, &k, kfd >= 0, &wait, NULL);
		waiter_free(w, watch);
	}
	if (!r)
		it->taken++;
	drive_leave(&e.drive);
	return r;
}

#endif
