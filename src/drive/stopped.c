/*
 * A process that was stopped and goes on (SIGSTOP and SIGCONT, a debugger, the freezer).
 *
 * No handler runs, and still Linux ends some waits with EINTR then: epoll_wait, calls with SO_RCVTIMEO or SO_SNDTIMEO,
 * calls that have moved a part (man 7 signal). The calls that our threads sleep in are started again by the kernel, and
 * see nothing of the stop. So the helper is the witness: a stop is one of all threads, the helper sleeps while another
 * thread waits, and no signal is for it.
 *
 * ppoll is started again as well, unless the kernel cannot write the time that is left: then it ends with EINTR
 * (fs/select.c, poll_select_finish). So the helper's time-out lies in a page that it writes by one mapping, and gives
 * to the kernel by another one, which is read-only. Without that page stops go unseen. So does one that meets the
 * helper awake.
 */
#include "drive/drive.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/sys.h"

#define PAGE_BYTES (64 * 1024) /* the largest page of any machine */
/* "For ever": with no time-out there is nothing to write, and the call is started again. */
#define LONG_SLEEP_US (INT64_C(86400) * USEC_PER_SEC)

static void map_timeout(struct drive *d)
{
	void *ours = sys_mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sys_is_error(ours))
		return;
	void *kernels = sys_mremap(ours, 0, PAGE_BYTES, MREMAP_MAYMOVE); /* the same memory once more */
	if (sys_is_error(kernels)) {
		sys_munmap(ours, PAGE_BYTES);
		return;
	}
	mprotect(kernels, PAGE_BYTES, PROT_READ);
	d->helper_timeout = ours;
	d->helper_timeout_read = kernels;
}

void stopped_after_fork(struct drive *d)
{
	engine_setxids_ended = engine_setxids_begun; /* those of the parent's other threads */
	if (!d->helper_timeout)
		return;
	sys_munmap(d->helper_timeout, PAGE_BYTES);
	sys_munmap((void *)d->helper_timeout_read, PAGE_BYTES);
	d->helper_timeout = NULL;
}

/*
 * libc changes the users and groups of all threads by a signal to each (setuid, setgroups …), which ends the helper's
 * sleep as well, and waits until each thread has answered it. So such a call is under way when the helper falls asleep,
 * or begins during the sleep. The users themselves tell
 * nothing: a call may set what they are.
 */
struct setxids {
	unsigned begun;
	bool under_way;
};

static struct setxids setxids_now(void)
{
	unsigned ended = engine_setxids_ended, begun = engine_setxids_begun;
	return (struct setxids){begun, begun != ended};
}

int stopped_poll(struct drive *d, struct pollfd *fds, unsigned n, int64_t us)
{
	if (!d->helper_timeout)
		map_timeout(d);
	us = us == TIME_NEVER ? LONG_SLEEP_US : us < 0 ? 0 : us;
	const struct timespec here = timespec_of(us), *to_read = &here;
	if (d->helper_timeout) {
		*d->helper_timeout = here;
		to_read = d->helper_timeout_read;
	}
	struct setxids before = setxids_now();
	int r = sys_call(SYS_ppoll, fds, n, to_read, NULL, 8 /* kernel sigset */, 0);
	if (r != -EINTR || (!before.under_way && before.begun == engine_setxids_begun))
		return r;
	for (unsigned i = 0; i < n; i++)
		fds[i].revents = 0;
	return 0;
}

static void wake_if_it_ends(struct sched_thread *t)
{
	struct waiter *w = container_of(t, struct waiter, sched);
	if (w->ends_at_stop)
		waiter_wake(w);
}

void stopped_seen(struct drive *d)
{
	struct list *head = &d->sched.followers;
	__atomic_add_fetch(&d->stops, 1, __ATOMIC_RELAXED);
	if (d->sched.seat)
		wake_if_it_ends(d->sched.seat);
	for (struct list *pos = head->next, *next; pos != head; pos = next) {
		next = pos->next;
		wake_if_it_ends(container_of(pos, struct sched_thread, node));
	}
}
