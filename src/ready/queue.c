/*
 * The kernel's queues of our listeners.
 *
 * A listener's clients arrive in two places: at the engine, and, by loopback or another interface, in the queue of the
 * kernel's listening socket. An epoll of our own watches the kernel's queues, edge-triggered, and each edge becomes an
 * event of the listener's items: so an item has one reporter, the engine, and a listener is told once, whatever other
 * registrations have the same `data`. It is one per process, made with the first listener that is put into an epoll.
 * Sockets are named by id there: a registration of a queue whose number was closed cannot be taken out, and its id is
 * nobody's then.
 *
 * An epoll that is polled, or nested in another, must show a client in the kernel's queue before anybody of this
 * process has looked. There the program's epoll gets the queue as well (queue_show), with the events of the item, and
 * with the mark's data, so that no wait tells it.
 */
#include "ready/internal.h"
#include "socket/process_ops.h"
#include "socket/listener.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"

#include <errno.h>

#define QUEUE_EVENTS 16

static int queues = -1;
static struct list listeners; /* ep_item.listener_node */

int queues_fd(void)
{
	return queues;
}

static void watch_queue(struct sock *s)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = s->id};
	int err = sys_epoll_ctl(queues, EPOLL_CTL_ADD, listener_queue(s->lst), &ev);
	if (err == -EEXIST) /* another registration's, or a listener's before this on the same fd */
		err = sys_epoll_ctl(queues, EPOLL_CTL_MOD, listener_queue(s->lst), &ev);
	if (err)
		log_error("ready", "the kernel's queue of a listener cannot be watched (errno %d)", -err);
}

/* -1 again when there is no fd for it. */
static void queues_make(void)
{
	if (queues >= 0 || !listeners.next || list_empty(&listeners))
		return;
	queues = fd_move_high(sys_epoll_create1(EPOLL_CLOEXEC));
	if (queues < 0) {
		queues = -1;
		return;
	}
	list_for_each (pos, tmp, &listeners) {
		struct ep_item *it = container_of(pos, struct ep_item, listener_node);
		if (it->sock->lst)
			watch_queue(it->sock);
	}
}

static void queue_changed(struct sock *l)
{
	if (queues >= 0)
		watch_queue(l);
	list_for_each (pos, tmp, &listeners) {
		struct ep_item *it = container_of(pos, struct ep_item, listener_node);
		if (it->sock == l)
			queue_show(it);
	}
}

void queues_add(struct ep_item *it)
{
	if (!listeners.next)
		list_init(&listeners);
	engine_on_queue_changed = queue_changed;
	bool there = queues >= 0;
	list_push_back(&listeners, &it->listener_node);
	queues_make();
	if (there)
		watch_queue(it->sock);
	it->kernel_queue = true; /* look, the first time */
	if (it->set->share.watcher) /* it sleeps without the queues, perhaps */
		waiter_wake(it->set->share.watcher);
	process_ops->comes_by(it->sock->engine, it->sock);
	queue_count(it);
}

void queue_count(struct ep_item *it)
{
	bool waits = it->set->n_waiting && !it->disabled && it->sock && it->sock->kind == SOCK_KIND_LISTENER &&
		     (it->event.events & (EPOLLIN | EPOLLRDNORM));
	if (waits == it->counted)
		return;
	it->counted = waits;
	process_ops->waits(it->sock->engine, it->sock, waits ? 1 : -1);
}

void queues_wait(struct epset *set, int by)
{
	set->n_waiting += by;
	if (!set->n_listeners)
		return;
	list_for_each (pos, tmp, &listeners) {
		struct ep_item *it = container_of(pos, struct ep_item, listener_node);
		if (it->set == set)
			queue_count(it);
	}
}

bool queue_is_ready(struct ep_item *it)
{
	struct timespec now = {0, 0};
	if (!it->kernel_queue || !it->sock->lst)
		return false;
	struct pollfd p = {.fd = listener_queue(it->sock->lst), .events = POLLIN};
	it->kernel_queue = sys_ppoll(&p, 1, &now, NULL) > 0 && (p.revents & POLLIN); /* one that is shut down just now is no client */
	return it->kernel_queue;
}

/* A client makes no queue ready for EPOLLPRI or EPOLLRDBAND, but wakes who asks for them (item_event). */
static uint32_t shown_events(const struct ep_item *it)
{
	uint32_t in = it->event.events & SOCK_WAKES_READERS;
	if (!it->set->polled || !it->sock || it->sock->kind != SOCK_KIND_LISTENER || it->disabled || !in)
		return 0;
	return in | (it->event.events & EPOLLET);
}

void queue_show(struct ep_item *it)
{
	struct epoll_event ev = {.events = shown_events(it), .data.ptr = (void *)&epset_mark};
	if (it->shown_fd >= 0)
		sys_epoll_ctl(it->set->epfd, EPOLL_CTL_DEL, it->shown_fd, NULL);
	it->shown_fd = -1;
	if (!ev.events)
		return;
	int fd = listener_queue(it->sock->lst);
	if (sys_epoll_ctl(it->set->epfd, EPOLL_CTL_ADD, fd, &ev) == 0)
		it->shown_fd = fd;
}

void queues_shown(struct epset *set)
{
	list_for_each (pos, tmp, &set->items) {
		struct ep_item *it = container_of(pos, struct ep_item, in_set);
		if (it->shown_fd < 0)
			continue;
		it->kernel_queue = true;
		if (!shown_events(it))
			queue_show(it); /* it listens no more */
		else if (!(it->event.events & EPOLLET) && item_mask(set->engine, it))
			ready_push(set, it);
	}
}

static void arrived(uint64_t id)
{
	bool counted = false;
	list_for_each (pos, tmp, &listeners) {
		struct ep_item *it = container_of(pos, struct ep_item, listener_node);
		if (it->sock->id != id)
			continue;
		if (!counted)
			it->sock->ready_seq++; /* as sock_notify_events: one event */
		counted = true;
		it->kernel_queue = true;
		it->sock->notify_events = SOCK_WAKES_READERS;
		item_event(it, it->shown_fd >= 0);
		it->sock->notify_events = 0;
	}
}

/*
 * Without an epoll of our own each queue is looked at: it is then told as often as it is ready, as if level-triggered.
 */
static void look_at_each(void)
{
	list_for_each (pos, tmp, &listeners) {
		struct ep_item *it = container_of(pos, struct ep_item, listener_node);
		it->kernel_queue = true;
		if (queue_is_ready(it))
			item_event(it, it->shown_fd >= 0);
	}
}

void queues_look(struct engine *e)
{
	struct epoll_event evs[QUEUE_EVENTS];
	(void)e;
	if (!listeners.next || list_empty(&listeners))
		return;
	queues_make();
	if (queues < 0) {
		look_at_each();
		return;
	}
	int n;
	do {
		n = sys_epoll_pwait(queues, evs, QUEUE_EVENTS, 0, NULL);
		for (int i = 0; i < n; i++)
			arrived(evs[i].data.u64);
	} while (n == QUEUE_EVENTS);
}

void queues_after_fork(void)
{
	fd_close(queues); /* the epoll is the parent's */
	queues = -1;
}
