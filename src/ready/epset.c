/*
 * epoll over engine sockets: what the kernel's epoll is for the kernel's fds, this is for ours, behind the same epfd.
 *
 * An item is one registration (fd, socket, events). Readiness events of the socket put it on the ready list; epset_wait evaluates the items there
 * against the socket's mask: level-triggered items stay while they are ready, edge-triggered ones leave when reported, one-shot ones are
 * disabled. The kernel's own epoll keeps the kernel's fds, and the kernel queues of our listeners; it is asked when nothing of ours is ready,
 * and every so often when there is.
 */
#include "socket/engine.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

/* Waits that may find engine events before the kernel's epoll is looked at again. */
#define KERNEL_STARVE_MAX 8
#define EPOLL_INPUT_FLAGS (EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP)

struct ep_item {
	struct watch watch;
	struct list ready; /* epset.ready, while it may be ready */
	struct epset *set;
	struct sock *sock;
	int fd;
	uint32_t events; /* as registered */
	epoll_data_t data;
	bool disabled; /* one-shot, fired */
};

struct epset {
	int epfd;
	struct ep_item **items; /* by fd */
	unsigned n_slots, count;
	struct list ready;
	struct list waiters; /* watch.node: threads in epset_wait */
	unsigned skipped_kernel; /* waits since the kernel's epoll was asked */
	int poll_fd;             /* eventfd in the kernel's epoll while it is polled or nested, or -1 */
	bool poll_fd_set;
};

int epset_new(int epfd, struct epset **out)
{
	engine_lock();
	engine_init_tables(&engine);
	struct epset *set = engine_alloc(sizeof *set);
	engine_unlock();
	if (!set)
		return -ENOMEM;
	set->epfd = epfd;
	set->poll_fd = -1;
	list_init(&set->ready);
	list_init(&set->waiters);
	*out = set;
	return 0;
}

void epset_set_epfd(struct epset *set, int epfd)
{
	set->epfd = epfd;
}

bool epset_empty(const struct epset *set)
{
	return __atomic_load_n(&set->count, __ATOMIC_RELAXED) == 0;
}

static struct ep_item *item_find(struct epset *set, int fd)
{
	return fd >= 0 && (unsigned)fd < set->n_slots ? set->items[fd] : NULL;
}

static int slots_grow(struct epset *set, int fd)
{
	unsigned n = set->n_slots ? set->n_slots : 64;
	while (n <= (unsigned)fd)
		n *= 2;
	if (n == set->n_slots)
		return 0;
	struct ep_item **items = engine_alloc(n * sizeof *items);
	if (!items)
		return -ENOMEM;
	if (set->items) {
		memcpy(items, set->items, set->n_slots * sizeof *items);
		engine_free(set->items, set->n_slots * sizeof *items);
	}
	set->items = items;
	set->n_slots = n;
	return 0;
}

static uint32_t item_mask(struct engine *e, const struct ep_item *it)
{
	if (it->disabled)
		return 0;
	return (uint16_t)sock_mask(e, it->sock) & ((it->events & ~EPOLL_INPUT_FLAGS) | EPOLLERR | EPOLLHUP);
}

/* Somebody polls the epfd itself: make it readable, or not, in the kernel's eyes. */
static void poll_fd_update(struct epset *set)
{
	bool want = !list_empty(&set->ready);
	uint64_t v = 1;
	if (set->poll_fd < 0 || want == set->poll_fd_set)
		return;
	if (want)
		sys_write(set->poll_fd, &v, sizeof v);
	else
		sys_read(set->poll_fd, &v, sizeof v);
	set->poll_fd_set = want;
}

static void item_becomes_ready(struct ep_item *it)
{
	struct epset *set = it->set;
	if (it->disabled)
		return;
	if (list_empty(&it->ready))
		list_push_back(&set->ready, &it->ready);
	poll_fd_update(set);
	struct list *first = list_first(&set->waiters);
	if (!first)
		return;
	struct watch *w = container_of(first, struct watch, node);
	if (!w->waiter->signalled)
		waiter_wake(w->waiter);
	list_unlink(first); /* the next event wakes another thread */
	list_push_back(&set->waiters, first);
}

static void item_notify(struct watch *w, struct sock *s)
{
	struct ep_item *it = container_of(w, struct ep_item, watch);
	if (item_mask(&engine, it))
		item_becomes_ready(it);
	(void)s;
}

static void item_free(struct ep_item *it)
{
	struct epset *set = it->set;
	watch_remove(&it->watch);
	list_unlink(&it->ready);
	set->items[it->fd] = NULL;
	set->count--;
	engine_free(it, sizeof *it);
	poll_fd_update(set);
}

static int item_add(struct engine *e, struct epset *set, int fd, struct sock *s, const struct epoll_event *ev)
{
	if (item_find(set, fd))
		return -EEXIST;
	int err = slots_grow(set, fd);
	struct ep_item *it = err ? NULL : engine_alloc(sizeof *it);
	if (!it)
		return -ENOMEM;
	it->set = set;
	it->sock = s;
	it->fd = fd;
	it->events = ev->events;
	it->data = ev->data;
	list_init(&it->ready);
	watch_init(&it->watch, NULL);
	it->watch.notify = item_notify;
	watch_add(&it->watch, s);
	set->items[fd] = it;
	set->count++;
	if (item_mask(e, it))
		item_becomes_ready(it);
	return 0;
}

static int item_modify(struct engine *e, struct ep_item *it, const struct epoll_event *ev)
{
	if ((it->events | ev->events) & EPOLLEXCLUSIVE)
		return -EINVAL; /* epoll_ctl(2) */
	it->events = ev->events;
	it->data = ev->data;
	it->disabled = false;
	if (item_mask(e, it))
		item_becomes_ready(it);
	else
		list_unlink(&it->ready);
	return 0;
}

/* A listener is registered in the kernel's epoll, too: for who comes by another way. */
static int mirror_listener(struct epset *set, int op, int fd, struct sock *s, struct epoll_event *ev)
{
	if (s->kind != SOCK_KIND_LISTENER)
		return 0;
	int err = sys_epoll_ctl(set->epfd, op, fd, ev);
	if (op == EPOLL_CTL_ADD && err == -EEXIST) /* it was there before it became ours */
		err = sys_epoll_ctl(set->epfd, EPOLL_CTL_MOD, fd, ev);
	if (op == EPOLL_CTL_DEL && err == -ENOENT)
		err = 0;
	return err;
}

int epset_ctl(struct epset *set, int op, int fd, struct sock *s, struct epoll_event *ev)
{
	struct engine *e = &engine;
	int r;
	turn_enter();
	struct ep_item *it = item_find(set, fd);
	if (it && it->sock != s) { /* the number was used anew */
		item_free(it);
		it = NULL;
	}
	if (op != EPOLL_CTL_ADD && !it)
		r = -ENOENT;
	else if (op == EPOLL_CTL_ADD)
		r = item_add(e, set, fd, s, ev);
	else if (op == EPOLL_CTL_MOD)
		r = item_modify(e, it, ev);
	else if (op == EPOLL_CTL_DEL) {
		item_free(it);
		r = 0;
	} else
		r = -EINVAL;
	if (!r)
		r = mirror_listener(set, op, fd, s, ev);
	turn_leave();
	return r;
}

int epset_forget(struct epset *set, int fd, struct sock *s, struct epoll_event *ev)
{
	int found = 0;
	engine_lock();
	struct ep_item *it = item_find(set, fd);
	if (it && it->sock == s) {
		if (ev) {
			ev->events = it->events;
			ev->data = it->data;
		}
		item_free(it);
		found = 1;
	}
	engine_unlock();
	return found;
}

void epset_free(struct epset *set)
{
	engine_lock();
	for (unsigned i = 0; i < set->n_slots; i++)
		if (set->items[i])
			item_free(set->items[i]);
	fd_close(set->poll_fd);
	if (set->items)
		engine_free(set->items, set->n_slots * sizeof *set->items);
	engine_free(set, sizeof *set);
	engine_unlock();
}

int epset_pollable(struct epset *set)
{
	int err = 0;
	engine_lock();
	if (set->poll_fd < 0) {
		int fd = fd_move_high(sys_eventfd2(0, EFD_CLOEXEC | EFD_NONBLOCK));
		struct epoll_event ev = {.events = EPOLLIN, .data.ptr = set};
		err = fd < 0 ? fd : sys_epoll_ctl(set->epfd, EPOLL_CTL_ADD, fd, &ev);
		if (err)
			fd_close(fd);
		else
			set->poll_fd = fd;
		poll_fd_update(set);
	}
	engine_unlock();
	return err;
}

/* ---- waiting ---- */

/* Reports what is ready of ours. Level-triggered items go to the list's end, so that all get their turn. */
static int collect_ours(struct engine *e, struct epset *set, struct epoll_event *evs, int max)
{
	int n = 0;
	struct list again;
	list_init(&again);
	for (struct list *pos; n < max && (pos = list_first(&set->ready));) {
		struct ep_item *it = container_of(pos, struct ep_item, ready);
		uint32_t mask = item_mask(e, it);
		list_unlink(pos);
		if (!mask)
			continue;
		evs[n].events = mask;
		evs[n++].data = it->data;
		if (it->events & EPOLLONESHOT)
			it->disabled = true;
		else if (!(it->events & EPOLLET))
			list_push_back(&again, pos);
	}
	for (struct list *pos; (pos = list_first(&again));) {
		list_unlink(pos);
		list_push_back(&set->ready, pos);
	}
	poll_fd_update(set);
	return n;
}

static bool reported(const struct epoll_event *evs, int n, const struct epoll_event *ev)
{
	for (int i = 0; i < n; i++)
		if (evs[i].data.u64 == ev->data.u64)
			return true;
	return false;
}

/* The kernel's events behind ours; a listener that both report is told once, our own wake-up fd never. */
static int collect_kernel(struct epset *set, struct epoll_event *evs, int ours, int max)
{
	set->skipped_kernel = 0;
	int r = ours < max ? sys_epoll_pwait(set->epfd, evs + ours, max - ours, 0, NULL) : 0;
	int n = ours;
	for (int i = ours; i < ours + (r > 0 ? r : 0); i++) {
		bool own = set->poll_fd >= 0 && evs[i].data.ptr == set;
		if (!own && !reported(evs, ours, &evs[i]))
			evs[n++] = evs[i];
	}
	return r < 0 && !ours ? r : n;
}

static int collect(struct engine *e, struct epset *set, struct epoll_event *evs, int max, bool ask_kernel)
{
	int n = collect_ours(e, set, evs, max);
	if (n && !ask_kernel && ++set->skipped_kernel < KERNEL_STARVE_MAX)
		return n;
	return n || ask_kernel ? collect_kernel(set, evs, n, max) : 0;
}

static int wait_loop(struct engine *e, struct epset *set, struct epoll_event *evs, int max, const struct wait *wait, const sigset_t *mask)
{
	struct waiter *w = waiter_self();
	int n = collect(e, set, evs, max, e->now >= wait->deadline);
	if (n || e->now >= wait->deadline)
		return n;
	struct watch *me = waiter_watches(w, 1); /* the thread's: a handler may jump out of this call */
	if (!me)
		return -ENOMEM;
	list_push_front(&set->waiters, &me->node); /* the last to come is warm */
	int r = 0;
	while (!n && !r) {
		struct pollfd kernel = {.fd = set->epfd, .events = POLLIN};
		r = engine_wait(e, w, &kernel, 1, wait, mask);
		n = collect(e, set, evs, max, kernel.revents != 0);
	}
	waiter_free(w, me);
	return n || r == -ETIMEDOUT ? n : r;
}

int epset_wait(struct epset *set, struct epoll_event *evs, int max, const struct timespec *timeout, const sigset_t *mask)
{
	struct wait wait;
	if (max <= 0)
		return -EINVAL;
	turn_enter();
	int r = wait_begin_timespec(&wait, &engine, timeout);
	if (!r)
		r = wait_loop(&engine, set, evs, max, &wait, mask);
	turn_leave();
	return r;
}
