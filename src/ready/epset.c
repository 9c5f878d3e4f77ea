/*
 * Epoll sets: registrations of engine sockets, and of sockets that may become the engine's.
 *
 * Why: the kernel's epoll cannot see an engine socket. The kernel's epoll stays behind the same number and keeps the
 * kernel's fds; the sockets that are the engine's have an item here, and epset_wait (epwait.c) merges the two.
 *
 * Owns: the items. An item is one registration, named as the kernel names it by epoll, file and number, and it has one
 * reporter. While a socket is undecided, that is the kernel's epoll, where it is registered as well. Deciding makes it
 * the engine's, for a listener too (queue.c has its clients in the kernel's queue); handover makes it the kernel's
 * again, and the item ends. Events: the socket's notify puts the item on the ready list. There it is looked at by a
 * wait, which tells the socket's mask of that moment, as Linux does: level-triggered items stay while they are ready,
 * edge-triggered ones leave when told, one-shot ones are disabled. Lock: the engine's, for everything here.
 */
#include "ready/internal.h"
#include "socket/process_ops.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"

#include <errno.h>
#include <string.h>

#define EPOLL_FLAGS (EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP)
/* Linux: EPOLLEXCLUSIVE_OK_BITS */
#define EXCLUSIVE_MAY (EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE)

static struct list sets; /* epset.node */

void epset_set_epfd(struct epset *set, int epfd)
{
	struct engine *e = set->engine;
	engine_lock_only(e);
	set->epfd = epfd;
	if (set->share.watcher) /* it sleeps on the number, or is about to, and the kernel may give that to another file */
		waiter_wake(set->share.watcher);
	engine_unlock(e);
}

void epset_note_kernel(struct epset *set)
{
	__atomic_fetch_add(&set->n_kernel, 1, __ATOMIC_RELAXED);
}

/* ---- the ready list ---- */

void ready_push(struct epset *set, struct ep_item *it)
{
	if (!list_empty(&it->ready))
		return;
	list_push_back(&set->ready, &it->ready);
	set->n_ready++;
}

void ready_remove(struct epset *set, struct ep_item *it)
{
	if (list_empty(&it->ready))
		return;
	list_unlink(&it->ready);
	set->n_ready--;
}

uint32_t item_mask(struct engine *e, struct ep_item *it)
{
	if (it->disabled || !it->sock)
		return 0;
	uint32_t mask = (uint16_t)sock_mask(e, it->sock);
	if (!mask && it->kernel_queue && queue_is_ready(it))
		mask = EPOLLIN | EPOLLRDNORM;
	return mask & it->event.events & ~EPOLL_FLAGS;
}

/* The next event wakes another thread. False: all that wait were woken already. */
static struct watch *whom_to_wake(struct epset *set)
{
	struct watch *watcher = NULL;
	list_for_each (pos, tmp, &set->waiters) {
		struct watch *w = container_of(pos, struct watch, node);
		if (w->waiter->signalled)
			continue;
		if (w->waiter != set->share.watcher)
			return w;
		watcher = w; /* another would have to take its place */
	}
	return watcher;
}

static bool wake_one(struct epset *set)
{
	struct watch *w = whom_to_wake(set);
	if (!w)
		return false;
	waiter_wake(w->waiter);
	list_unlink(&w->node);
	list_push_back(&set->waiters, &w->node);
	return true;
}

void epset_wake_one(struct epset *set)
{
	wake_one(set);
}

/*
 * Linux's ep_poll_callback. What woke the socket's watchers may be none of this item's business (notify_events; 0: it
 * concerns all). Of the exclusive items of a socket, one whose epoll has somebody waiting takes the event away from
 * those behind it. Linux asks nobody whether the item is ready now; who waits finds out. That shows only where the
 * epoll is nested: its outer one has an edge, and tells it if anything else in the epoll is ready.
 */
void item_event(struct ep_item *it, bool shown)
{
	struct sock *s = it->sock;
	bool exclusive = it->event.events & EPOLLEXCLUSIVE;
	if (it->disabled || (s->notify_events && !(s->notify_events & it->event.events)))
		return;
	if (exclusive && s->exclusive_told == s->ready_seq)
		return;
	bool ready = item_mask(it->set->engine, it);
	if (!shown)
		(ready ? mark_event : mark_edge)(it->set);
	if (!ready)
		return;
	ready_push(it->set, it);
	if (wake_one(it->set) && exclusive)
		s->exclusive_told = s->ready_seq;
}

static void item_notify(struct watch *w, struct sock *s)
{
	(void)s;
	item_event(container_of(w, struct ep_item, watch), false);
}

/* ---- items ---- */

static struct ep_item *item_find(struct epset *set, struct list *file, int fd)
{
	list_for_each (pos, tmp, file) {
		struct ep_item *it = container_of(pos, struct ep_item, in_file);
		if (it->set == set && it->fd == fd)
			return it;
	}
	return NULL;
}

static struct ep_item *item_new(struct epset *set, struct list *file, int fd, const struct epoll_event *ev)
{
	struct ep_item *it = engine_alloc(set->engine, sizeof *it);
	if (!it)
		return NULL;
	it->set = set;
	it->file = file;
	it->fd = fd;
	it->shown_fd = -1;
	it->event = *ev;
	it->event.events |= EPOLLERR | EPOLLHUP;
	list_init(&it->ready);
	list_init(&it->listener_node);
	watch_init(&it->watch, NULL);
	it->watch.notify = item_notify;
	list_push_back(&set->items, &it->in_set);
	list_push_back(file, &it->in_file);
	if (!sets.next)
		list_init(&sets);
	if (list_empty(&set->node))
		list_push_back(&sets, &set->node);
	return it;
}

static void set_count(unsigned *count, int by)
{
	__atomic_fetch_add(count, by, __ATOMIC_SEQ_CST);
}

/* Linux's add_wait_queue: who registered last is told first, and exclusive ones come after all others. */
static void item_watch(struct ep_item *it)
{
	if (it->event.events & EPOLLEXCLUSIVE)
		list_push_back(&it->sock->watches, &it->watch.node);
	else
		list_push_front(&it->sock->watches, &it->watch.node);
}

/* From now on the engine reports it. */
static void item_to_engine(struct ep_item *it, struct sock *s)
{
	struct epset *set = it->set;
	it->sock = s;
	item_watch(it);
	set_count(&set->n_engine, 1);
	if (sock_is_listener(s)) {
		set->n_listeners++;
		queues_add(it);
	}
	if (item_mask(s->engine, it)) {
		ready_push(set, it);
		mark_event(set);
		wake_one(set);
	}
	queue_show(it);
	mark_kick(set);
}

static void item_leaves_engine(struct ep_item *it)
{
	if (!it->sock)
		return;
	watch_remove(&it->watch);
	ready_remove(it->set, it);
	if (it->counted)
		process_ops->waits(it->sock->engine, it->sock, -1);
	it->counted = false;
	if (!list_empty(&it->listener_node)) {
		list_unlink(&it->listener_node);
		it->set->n_listeners--;
	}
	it->sock = NULL;
	queue_show(it);
	set_count(&it->set->n_engine, -1);
	mark_update(it->set);
}

static void item_free(struct ep_item *it)
{
	item_leaves_engine(it);
	list_unlink(&it->in_set);
	list_unlink(&it->in_file);
	engine_free(it->set->engine, it, sizeof *it);
}

/* ---- epoll_ctl ---- */

static int item_add(struct epset *set, int fd, struct list *file, struct sock *s, struct epoll_event *ev)
{
	struct ep_item *it = item_new(set, file, fd, ev);
	int err = 0;
	if (!it)
		return -ENOMEM;
	if (s) {
		item_to_engine(it, s);
		return 0;
	}
	err = sys_epoll_ctl(set->epfd, EPOLL_CTL_ADD, fd, ev);
	if (err) {
		item_free(it);
		return err;
	}
	it->in_kernel = true;
	epset_note_kernel(set);
	return 0;
}

static int item_modify(struct ep_item *it, struct epoll_event *ev)
{
	struct epset *set = it->set;
	if (it->event.events & EPOLLEXCLUSIVE)
		return -EINVAL;
	int err = it->in_kernel ? sys_epoll_ctl(set->epfd, EPOLL_CTL_MOD, it->fd, ev) : 0;
	if (err)
		return err;
	it->event = *ev;
	it->event.events |= EPOLLERR | EPOLLHUP;
	it->disabled = false;
	if (item_mask(it->set->engine, it) && list_empty(&it->ready)) {
		ready_push(set, it);
		mark_event(set);
		wake_one(set);
	}
	queue_show(it);
	if (!list_empty(&it->listener_node))
		queue_count(it);
	mark_update(set); /* what was ready may not be any more */
	return 0;
}

static int item_delete(struct ep_item *it)
{
	int err = it->in_kernel ? sys_epoll_ctl(it->set->epfd, EPOLL_CTL_DEL, it->fd, NULL) : 0;
	item_free(it);
	return err;
}

static int ctl_locked(struct epset *set, int op, int fd, struct list *file, struct sock *s, struct epoll_event *ev)
{
	struct ep_item *it = item_find(set, file, fd);
	if (it)
		it->number_gone = false;
	switch (op) {
	case EPOLL_CTL_ADD:
		return it ? -EEXIST : item_add(set, fd, file, s, ev);
	case EPOLL_CTL_MOD:
		if (it)
			return item_modify(it, ev);
		break;
	case EPOLL_CTL_DEL:
		if (it)
			return item_delete(it);
		break;
	default:
		return -EINVAL;
	}
	/* The kernel may have one that we did not see being made. */
	return s ? -ENOENT : sys_epoll_ctl(set->epfd, op, fd, ev);
}

int epset_ctl(struct epset *set, int op, int fd, struct list *file, struct sock *s, struct epoll_event *ev)
{
	struct engine *e = set->engine;
	if (op == EPOLL_CTL_MOD && (ev->events & EPOLLEXCLUSIVE))
		return -EINVAL;
	if (op == EPOLL_CTL_ADD && (ev->events & EPOLLEXCLUSIVE) && (ev->events & ~EXCLUSIVE_MAY))
		return -EINVAL;
	engine_lock_only(e);
	engine_init_tables(e);
	set->parents = false;
	int r = ctl_locked(set, op, fd, file, s, ev);
	engine_unlock(e);
	return r;
}

/* ---- what happens to the file ---- */

#define EACH_OF(file, it)                                                                                                                  \
	list_for_each (pos_, tmp_, file)                                                                                                   \
		for (struct ep_item *it = container_of(pos_, struct ep_item, in_file); it; it = NULL)

bool registrations_are_stuck(struct list *file)
{
	struct engine *e = engine_of_process();
	bool stuck = false;
	if (list_empty(file))
		return false;
	engine_lock_only(e);
	EACH_OF (file, it)
		stuck |= it->in_kernel && it->number_gone;
	engine_unlock(e);
	return stuck;
}

static void kernel_forgets(struct ep_item *it)
{
	if (it->in_kernel)
		sys_epoll_ctl(it->set->epfd, EPOLL_CTL_DEL, it->fd, NULL);
	it->in_kernel = false;
}

/*
 * It was registered by a number that was closed since, and the number that the file still has is registered, too. A
 * number that is closed at once is as good, and as with the number that was closed, nobody can take the registration
 * out any more. Nor can that number serve the set's next item of this file: `passed` of them had one.
 */
static int kernel_gets_by_passing(struct ep_item *it, int fd, struct epoll_event *ev, unsigned passed)
{
	int passing = fd_dup(fd);
	int err = passing;
	if (passing >= 0)
		err = passed ? kernel_gets_by_passing(it, fd, ev, passed - 1) : sys_epoll_ctl(it->set->epfd, EPOLL_CTL_ADD, passing, ev);
	fd_close(passing);
	return err;
}

static void kernel_gets(struct ep_item *it, int fd)
{
	struct epoll_event ev = it->event;
	if (it->disabled) { /* the kernel's would tell an error or a hang-up once more: then it tells the mark */
		ev.events &= EPOLL_FLAGS;
		ev.data.ptr = (void *)&epset_mark;
	}
	/* EBADF: its last number was closed meanwhile, and what is closed is in no epoll. */
	int err = fd < 0 ? -EBADF : sys_epoll_ctl(it->set->epfd, EPOLL_CTL_ADD, fd, &ev);
	if (!err && it->number_gone) {
		it->fd = fd;
		it->number_gone = false;
	}
	if (err == -EEXIST && it->number_gone)
		err = kernel_gets_by_passing(it, fd, &ev, it->set->numbers_passed++);
	if (err == -EEXIST) /* another process of a fork has the same set and the same socket, and has told the kernel already */
		err = 0;
	if (err && err != -EBADF)
		log_error("ready", "fd %d lost its epoll registration (errno %d)", fd, -err);
	it->in_kernel = !err;
	epset_note_kernel(it->set);
}

void registrations_to_engine(struct list *file, struct sock *s)
{
	struct engine *e = s->engine;
	if (list_empty(file))
		return;
	engine_lock_only(e);
	EACH_OF (file, it) {
		kernel_forgets(it);
		if (!it->sock)
			item_to_engine(it, s);
	}
	engine_unlock(e);
}

/*
 * Before the kernel gets a file's items. Those that are registered by a number that it still has come first: they need
 * that number. Then who registered last, who is told first.
 */
static void gone_last(struct list *file)
{
	struct list gone;
	list_init(&gone);
	EACH_OF (file, it) {
		it->set->numbers_passed = 0;
		if (!it->number_gone)
			continue;
		list_unlink(&it->in_file);
		list_push_front(&gone, &it->in_file);
	}
	EACH_OF (&gone, it) {
		list_unlink(&it->in_file);
		list_push_back(file, &it->in_file);
	}
}

static void to_kernel(struct list *file, int fd, bool passes)
{
	struct engine *e = engine_of_process();
	if (list_empty(file))
		return;
	engine_lock_only(e);
	gone_last(file);
	EACH_OF (file, it) {
		if (it->sock && !(passes && it->set->parents))
			kernel_gets(it, it->number_gone ? fd : it->fd);
		item_free(it);
	}
	engine_unlock(e);
}

void registrations_to_kernel(struct list *file, int fd)
{
	to_kernel(file, fd, false);
}

void registrations_pass(struct list *file, int fd)
{
	to_kernel(file, fd, true);
}

void registrations_to_undecided(struct list *file, struct list *to, int fd)
{
	struct engine *e = engine_of_process();
	if (list_empty(file))
		return;
	engine_lock_only(e);
	gone_last(file);
	EACH_OF (file, it) {
		item_leaves_engine(it);
		list_unlink(&it->in_file);
		list_push_back(to, &it->in_file);
		it->file = to;
		kernel_gets(it, it->number_gone ? fd : it->fd);
	}
	engine_unlock(e);
}

void registrations_number_moves(struct list *file, int fd, bool gone)
{
	struct engine *e = engine_of_process();
	if (list_empty(file))
		return;
	engine_lock_only(e);
	EACH_OF (file, it) {
		if (it->fd != fd)
			continue;
		it->number_gone = gone;
		queue_show(it); /* while it can be taken out */
	}
	engine_unlock(e);
}

void registrations_drop(struct list *file)
{
	struct engine *e = engine_of_process();
	if (list_empty(file))
		return;
	engine_lock_only(e);
	EACH_OF (file, it)
		item_free(it);
	engine_unlock(e);
}

void epset_free(struct epset *set)
{
	struct engine *e = set->engine;
	engine_lock_only(e);
	list_for_each (pos, tmp, &set->items)
		item_free(container_of(pos, struct ep_item, in_set));
	mark_forget(set);
	fd_share_end(&set->share);
	list_unlink(&set->node);
	engine_unlock(e);
}

/* ---- fork ---- */

void ready_after_fork(void)
{
	queues_after_fork();
	if (!sets.next)
		return;
	list_for_each (pos, tmp, &sets) {
		struct epset *set = container_of(pos, struct epset, node);
		list_init(&set->waiters);
		set->parents = true;
		set->kernel_waiters = set->n_waiting = 0;
		set->share = (struct fd_share){0};
		list_for_each (at, next, &set->items) {
			struct ep_item *it = container_of(at, struct ep_item, in_set);
			it->counted = false;
			list_init(&it->watch.node); /* the sockets' lists were emptied: they named threads, too */
			if (it->sock)
				item_watch(it);
		}
	}
}

struct list *epset_inherited(struct epset *set)
{
	struct engine *e = set->engine;
	struct list *file = NULL;
	engine_lock_only(e);
	list_for_each (pos, tmp, &set->items) {
		struct ep_item *it = container_of(pos, struct ep_item, in_set);
		if (it->sock && it->sock->kind == SOCK_KIND_INHERITED)
			file = it->file;
	}
	engine_unlock(e);
	return file;
}
