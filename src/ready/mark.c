/*
 * The mark: a registration of ours in the program's kernel epoll, of an fd that is always readable.
 *
 * It is there
 *  - while threads sleep in the kernel's epoll_wait of a set that got its first engine socket: they wake, find the mark
 *    among the events, and go on in
 *    epset_wait;
 *  - while a set that is polled, or nested in another epoll, has something to report: so the kernel shows its fd as
 *    readable, level-exact. The hook at the
 *    engine's unlock looks whether that is still so, since recv or accept may have taken what was ready.
 * Adding it anew makes an edge for whoever watches the epoll edge-triggered, which is why it is taken out and added
 * instead of modified. One fd serves all sets of the process, so that a set needs none of its own.
 */
#include "ready/internal.h"

#include "base/fd.h"
#include "base/sys.h"

#include <errno.h>
#include <sys/eventfd.h>

const char epset_mark;

static int mark_fd = -1; /* an eventfd that nobody reads */
static struct list polled; /* epset.polled_node */

/* -errno: no fd left for it. */
static int mark_get(void)
{
	if (mark_fd < 0)
		mark_fd = fd_move_high(sys_eventfd2(1, EFD_CLOEXEC | EFD_NONBLOCK));
	return mark_fd;
}

int epset_probe(int epfd)
{
	struct engine *e = engine_of_process();
	engine_lock_only(e);
	int fd = mark_get();
	int r = fd < 0 ? fd : sys_epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL);
	engine_unlock(e);
	return r == -ENOENT ? 0 : r == 0 ? -EINVAL : r; /* only an epoll says ENOENT */
}

static void mark_remove(struct epset *set)
{
	if (!set->marked)
		return;
	sys_epoll_ctl(set->epfd, EPOLL_CTL_DEL, mark_fd, NULL);
	set->marked = false;
}

/*
 * `marked` is set before the kernel has the mark. A thread that the mark wakes leaves the kernel's wait at once and
 * looks at `marked` without the lock (epwait.c). If it saw none there, nobody would take the mark out, and every wait
 * of the set would find its epoll readable, for nothing.
 */
static void mark_add(struct epset *set)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = (void *)&epset_mark};
	int fd = mark_get();
	__atomic_store_n(&set->marked, fd >= 0, __ATOMIC_SEQ_CST);
	if (fd >= 0 && sys_epoll_ctl(set->epfd, EPOLL_CTL_ADD, fd, &ev) != 0)
		set->marked = false;
}

void mark_event(struct epset *set)
{
	if (!set->polled)
		return;
	mark_remove(set);
	mark_add(set);
}

void mark_edge(struct epset *set)
{
	struct timespec now = {0, 0};
	struct pollfd p = {.fd = set->epfd, .events = POLLIN};
	if (set->polled && sys_ppoll(&p, 1, &now, NULL) > 0) /* else nobody must see the mark, not even for a moment */
		mark_event(set);
}

static bool is_kicked(const struct epset *set)
{
	return set->n_engine && __atomic_load_n(&set->kernel_waiters, __ATOMIC_SEQ_CST);
}

/*
 * Is there anything to report? What turns out not to be ready leaves the list, as in the kernel when an epoll is
 * polled.
 */
static bool has_ready(struct epset *set)
{
	list_for_each (pos, tmp, &set->ready) {
		struct ep_item *it = container_of(pos, struct ep_item, ready);
		if (item_mask(set->engine, it))
			return true;
		ready_remove(set, it);
	}
	return false;
}

void mark_update(struct epset *set)
{
	if (!set->marked)
		return;
	if (!is_kicked(set) && !(set->polled && has_ready(set)))
		mark_remove(set);
}

void mark_kick(struct epset *set)
{
	if (set->marked || !is_kicked(set))
		return;
	mark_add(set);
	mark_update(set); /* the last of them may have left by itself meanwhile, and have seen no mark */
}

static void update_all(void)
{
	list_for_each (pos, tmp, &polled)
		mark_update(container_of(pos, struct epset, polled_node));
}

void epset_note_polled(struct epset *set)
{
	struct engine *e = set->engine;
	if (__atomic_load_n(&set->polled, __ATOMIC_RELAXED))
		return;
	engine_lock_only(e);
	if (!set->polled) {
		if (!polled.next)
			list_init(&polled);
		__atomic_store_n(&set->polled, true, __ATOMIC_RELAXED);
		list_push_back(&polled, &set->polled_node);
		drive_before_unlock = update_all;
		list_for_each (pos, tmp, &set->items)
			queue_show(container_of(pos, struct ep_item, in_set));
		if (!set->marked && has_ready(set))
			mark_add(set);
	}
	engine_unlock(e);
}

void mark_forget(struct epset *set)
{
	set->marked = false; /* the kernel's epoll ends with the file */
	list_unlink(&set->polled_node);
	if (polled.next && list_empty(&polled))
		drive_before_unlock = NULL;
}
