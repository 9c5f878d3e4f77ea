/*
 * epoll_wait over the engine's sockets and the kernel's fds.
 *
 * A wait goes to the kernel while the set has no engine socket, and costs nothing then. A thread that sleeps there when
 * the first one comes is woken by the mark: it counts itself in kernel_waiters *before* it looks whether there are
 * engine sockets, and who adds one looks at the count
 * *after* adding, so one of the two sees the other. The mark is there for as long as threads are counted, and whoever
 * looks at the kernel's epoll finds it readable all that time. So a thread that is not in the kernel's wait is not
 * counted: one that runs a handler, was cancelled, or whose handler jumped away.
 *
 * Otherwise it looks at both, and blocks until either has something. Linux has one list of what is ready, and whoever
 * did not fit comes before those that were told. There are two lists here: so when not all fits, the one that is asked
 * first keeps its place for a round, and then it is the other's turn.
 */
#include "ready/internal.h"

#include "base/sys.h"
#include "base/user.h"

#include <errno.h>
#include <string.h>

#define NOT_ASKED 0
/* Waits that find something of the engine's before the kernel's queues of listeners are looked at. */
#define QUEUES_PASSED_MAX 8
/* How often the kernel's queues are looked at when no fd was left for watching them. */
#define QUEUES_LOOK_US (10 * USEC_PER_MSEC)

/* False: the program has no memory there, or none any more. */
static bool give(struct epoll_event *to, uint32_t mask, epoll_data_t data)
{
	const struct epoll_event ev = {.events = mask, .data = data};
	return (!user_fault_is_fatal() || user_may_write(to, sizeof ev)) && user_guarded(memcpy, to, &ev, sizeof ev);
}

/* Tells what is ready of the engine's. Level-triggered items go to the list's end, so that all get their turn. */
static int collect_engine(struct engine *e, struct epset *set, struct epoll_event *evs, int max)
{
	int n = 0;
	bool bad = false;
	struct list again;
	list_init(&again);
	for (struct list *pos; n < max && !bad && (pos = list_first(&set->ready));) {
		struct ep_item *it = container_of(pos, struct ep_item, ready);
		uint32_t mask = item_mask(e, it);
		ready_remove(set, it);
		if (!mask)
			continue;
		bad = !give(&evs[n], mask, it->event.data);
		n += !bad;
		if (bad) {
			list_push_back(&again, pos);
		} else if (it->event.events & EPOLLONESHOT) {
			it->disabled = true;
			queue_show(it);
			if (!list_empty(&it->listener_node))
				queue_count(it);
		} else if (!(it->event.events & EPOLLET)) {
			list_push_back(&again, pos);
		}
	}
	for (struct list *pos; (pos = list_first(&again));) {
		list_unlink(pos);
		ready_push(set, container_of(pos, struct ep_item, ready));
	}
	return bad && !n ? -EFAULT : n;
}

/* What the kernel told into the program's memory. */
struct told {
	bool marked;
	size_t kept;
};

/* The mark is ours alone, and what bears it. The program's memory: as user_work. */
static void *without_mark(void *to, const void *from, size_t n)
{
	struct told *told = to;
	struct epoll_event *evs = (struct epoll_event *)from;
	for (size_t i = 0; i < n; i++) {
		if (evs[i].data.ptr == &epset_mark)
			told->marked = true;
		else
			evs[told->kept++] = evs[i];
	}
	return to;
}

static int drop_mark(struct epoll_event *evs, int n, bool *marked)
{
	struct told told = {0};
	if (n <= 0)
		return n;
	bool whole = user_guarded(without_mark, &told, evs, n);
	*marked |= told.marked;
	return whole ? (int)told.kept : -EFAULT;
}

static int collect_kernel(struct epset *set, struct epoll_event *evs, int max)
{
	bool marked = false;
	int n = drop_mark(evs, sys_epoll_pwait(set->epfd, evs, max, 0, NULL), &marked);
	if (marked)
		queues_shown(set);
	return n;
}

/* `first` of `n` events are of the one that was asked first. */
static void note_turn(struct epset *set, int first, int n, int max)
{
	unsigned round = set->kernel_first ? __atomic_load_n(&set->n_kernel, __ATOMIC_RELAXED) : set->n_ready;
	if (n < max) { /* all were told */
		set->kernel_first = false;
		set->told = 0;
	} else if (first < max) {
		set->kernel_first = !set->kernel_first;
		set->told = n - first;
	} else if ((set->told += first) >= round) {
		set->kernel_first = !set->kernel_first;
		set->told = 0;
	}
}

static int collect(struct engine *e, struct epset *set, struct epoll_event *evs, int max, bool ask_kernel, bool ask_queues)
{
	if (set->n_listeners && ask_queues)
		queues_look(e);
	if (!ask_kernel)
		return collect_engine(e, set, evs, max);
	int first = set->kernel_first ? collect_kernel(set, evs, max) : collect_engine(e, set, evs, max);
	if (first < 0)
		return first;
	int second = 0;
	if (first < max)
		second = set->kernel_first ? collect_engine(e, set, evs + first, max - first) : collect_kernel(set, evs + first, max - first);
	if (second < 0)
		return first ? first : second;
	note_turn(set, first, first + second, max);
	return first + second;
}

/* What stays ready is the next thread's, as in Linux. */
static void pass_on(struct epset *set)
{
	if (!list_empty(&set->ready))
		epset_wake_one(set);
}

/* A wait that may be left by longjmp or cancellation: the wake-up that its thread may have got is the next one's. */
struct left_wait {
	struct undo undo;
	struct epset *set;
};

static void left_wait_undo(struct undo *u)
{
	struct epset *set = container_of(u, struct left_wait, undo)->set;
	engine_lock_only(set->engine);
	queues_wait(set, -1);
	pass_on(set);
	engine_unlock(set->engine);
}

static bool kernel_may_have(const struct epset *set)
{
	return __atomic_load_n(&set->n_kernel, __ATOMIC_RELAXED) != 0;
}

/*
 * A level-triggered item stays in the list when it was told, and leaves it when it is not ready any more: that is
 * looked at here.
 */
static bool engine_has(struct engine *e, struct epset *set)
{
	for (struct list *pos; (pos = list_first(&set->ready));) {
		struct ep_item *it = container_of(pos, struct ep_item, ready);
		if (item_mask(e, it))
			return true;
		ready_remove(set, it);
	}
	return false;
}

/*
 * Without blocking. When the engine has nothing, the wait that follows asks the kernel for all in one call. When it
 * has, the kernel's fds are asked, too, as Linux tells both; the kernel's queues of listeners, which only clients from
 * elsewhere come by, every so often.
 */
static int collect_now(struct engine *e, struct epset *set, struct epoll_event *evs, int max, bool at_once)
{
	bool has = engine_has(e, set);
	bool queues = has && ++set->queues_passed >= QUEUES_PASSED_MAX;
	if (!has && !at_once)
		return 0;
	if (queues || at_once)
		set->queues_passed = 0;
	return collect(e, set, evs, max, kernel_may_have(set) || at_once, queues || at_once);
}

static int wait_loop(struct engine *e, struct epset *set, struct epoll_event *evs, int max, const struct wait *wait, const sigset_t *mask)
{
	int n = collect_now(e, set, evs, max, e->now >= wait->deadline);
	if (n || e->now >= wait->deadline) {
		pass_on(set);
		return n;
	}
	struct waiter *w = waiter_self(e);
	struct watch *me = waiter_watches(w, 1); /* the thread's: a handler may jump out of this call */
	struct left_wait left = {.set = set};
	if (!me)
		return -ENOMEM;
	list_push_front(&set->waiters, &me->node); /* the last to come is warm */
	undo_push(&left.undo, left_wait_undo);
	queues_wait(set, 1);
	int r = 0;
	while (!n && !r) {
		struct pollfd kernel[2] = {{.fd = set->epfd, .events = POLLIN}, {.fd = queues_fd(), .events = POLLIN}};
		struct wait slice = *wait;
		slice.share = &set->share;
		if (set->n_listeners && queues_fd() < 0)
			slice.deadline = min_time(wait->deadline, e->now + QUEUES_LOOK_US);
		r = engine_wait(e, w, kernel, set->n_listeners ? 2 : 1, &slice, mask);
		if (r == -EINTR) /* to the program a handler runs after the call: what it has done is not told */
			break;
		if (r == -ETIMEDOUT && e->now < wait->deadline)
			r = 0;
		n = collect(e, set, evs, max, kernel[0].revents != 0, kernel[1].revents || queues_fd() < 0);
		if (!n && !r && e->now >= wait->deadline) /* the kernel had something, and it was another thread's, or the mark */
			r = -ETIMEDOUT;
	}
	undo_pop(&left.undo);
	queues_wait(set, -1);
	waiter_free(w, me);
	pass_on(set);
	return n || r == -ETIMEDOUT ? n : r;
}

static int engine_side(struct epset *set, struct epoll_event *evs, int max, const struct timespec *timeout, const sigset_t *mask)
{
	struct engine *e = set->engine;
	struct wait wait;
	turn_enter_wait(e);
	int r = wait_begin_epoll(&wait, e, timeout);
	if (!r)
		r = wait_loop(e, set, evs, max, &wait, mask);
	if (r > 0) /* the program answers, and its answers carry the ACKs */
		turn_leave_verb(e);
	else
		turn_leave(e);
	return r;
}

static void unmark(struct epset *set)
{
	struct engine *e = set->engine;
	engine_lock_only(e);
	mark_update(set);
	engine_unlock(e);
}

/* A thread in the kernel's wait. */
struct kernel_wait {
	struct undo undo;
	struct epset *set;
	bool counted;
};

static ENGINE_THREAD struct kernel_wait *own_kernel_wait; /* this thread's, while no handler runs in it */

static void kernel_wait_count(struct kernel_wait *w)
{
	w->counted = true;
	own_kernel_wait = w;
	__atomic_fetch_add(&w->set->kernel_waiters, 1, __ATOMIC_SEQ_CST);
}

static void kernel_wait_uncount(struct kernel_wait *w)
{
	w->counted = false;
	own_kernel_wait = NULL;
	__atomic_fetch_sub(&w->set->kernel_waiters, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&w->set->marked, __ATOMIC_SEQ_CST))
		unmark(w->set);
}

static void kernel_wait_undo(struct undo *u)
{
	struct kernel_wait *w = container_of(u, struct kernel_wait, undo);
	engine_enter();
	if (w->counted)
		kernel_wait_uncount(w);
	engine_leave();
}

/* No handler runs, and so none jumps away, between the count and its undo; the same of their end. */
static void kernel_wait_begin(struct kernel_wait *w, struct epset *set)
{
	w->set = set;
	engine_enter();
	kernel_wait_count(w);
	undo_push(&w->undo, kernel_wait_undo);
	engine_leave();
}

static void kernel_wait_end(struct kernel_wait *w)
{
	engine_enter();
	undo_pop(&w->undo);
	kernel_wait_uncount(w);
	engine_leave();
}

struct kernel_wait *epset_handler_begins(void)
{
	struct kernel_wait *w = own_kernel_wait;
	if (!w || engine_inside)
		return NULL;
	engine_enter();
	kernel_wait_uncount(w);
	engine_leave();
	return w;
}

/*
 * The thread may have been on its way into the kernel's wait, and goes on: the mark is there if the set has an engine
 * socket by now.
 */
void epset_handler_ends(struct kernel_wait *w)
{
	if (!w)
		return;
	engine_lock_only(w->set->engine);
	kernel_wait_count(w);
	mark_kick(w->set);
	engine_unlock(w->set->engine);
}

static int wait_once(struct epset *set, int epfd, struct epoll_event *evs, int max, const struct timespec *timeout, const sigset_t *mask,
		     epset_kernel_wait *kernel_wait, bool *marked)
{
	if (epset_has_engine(set))
		return engine_side(set, evs, max, timeout, mask);
	struct unwind unwind; /* a cancellation's: libc's own wait is left by it */
	struct kernel_wait w;
	kernel_wait_begin(&w, set);
	unwind_begin(&unwind, NULL, NULL);
	bool engine_came = epset_has_engine(set);
	int r = engine_came ? NOT_ASKED : drop_mark(evs, kernel_wait(epfd, evs, max, timeout, mask), marked);
	unwind_end(&unwind);
	kernel_wait_end(&w);
	return engine_came ? engine_side(set, evs, max, timeout, mask) : r;
}

static int64_t timespec_us(const struct timespec *ts)
{
	const int64_t ever_us = INT64_MAX / 4;
	return ts->tv_sec > ever_us / USEC_PER_SEC ? ever_us : ts->tv_sec * USEC_PER_SEC + (ts->tv_nsec + NSEC_PER_USEC - 1) / NSEC_PER_USEC;
}

int epset_wait(struct epset *set, int epfd, struct epoll_event *evs, int max, const struct timespec *timeout, const sigset_t *mask,
	       epset_kernel_wait *kernel_wait)
{
	bool bounded = timeout && (timeout->tv_sec || timeout->tv_nsec);
	int64_t end = bounded ? clock_now_us() + timespec_us(timeout) : 0;
	struct timespec left;
	for (;;) {
		bool marked = false;
		int r = wait_once(set, epfd, evs, max, timeout, mask, kernel_wait, &marked);
		if (r != 0 || !marked)
			return r;
		if (bounded) {
			int64_t us = end - clock_now_us();
			us = us > 0 ? us : 0;
			left = timespec_of(us);
			timeout = &left;
		}
	}
}
