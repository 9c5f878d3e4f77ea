/*
 * Waiting: leader and followers.
 *
 * One waiting thread is the leader: it polls what the engine lives from (the packet ring, netlink, the transmit queue when it is full) with
 * the next deadline as its timeout. The others wait on their own eventfd, which a watch's notify or the leader's leaving makes ready. Each
 * waits for its caller's kernel fds in the same call, with the caller's signal mask applied by that call.
 *
 * The timeout that the kernel gets is a struct of this frame at which engine_wait_timeout points, so that a handler that runs between the last look at
 * the counters and the system call can zero it (sock.h).
 */
#include "socket/engine.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#define POLL_ON_STACK 64
/* "For ever", as a timespec that a handler can zero. */
#define LONG_WAIT_US (INT64_C(86400) * USEC_PER_SEC)

static ENGINE_THREAD struct waiter self;
static ENGINE_THREAD bool self_made;
static pthread_key_t self_key;
static pthread_once_t self_once = PTHREAD_ONCE_INIT;

static void waiter_end(void *w)
{
	fd_close(((struct waiter *)w)->efd);
	self_made = false;
}

static void make_key(void)
{
	pthread_key_create(&self_key, waiter_end);
}

struct waiter *waiter_self(void)
{
	if (self_made)
		return &self;
	int fd = fd_move_high(sys_eventfd2(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (fd < 0)
		return NULL;
	self.efd = fd;
	self.signalled = false;
	list_init(&self.node);
	pthread_once(&self_once, make_key);
	pthread_setspecific(self_key, &self);
	self_made = true;
	return &self;
}

void wait_after_fork(void)
{
	if (self_made)
		fd_close(self.efd);
	self_made = false;
}

void wait_begin(struct wait *wait, struct engine *e, int64_t timeout_us)
{
	wait->deadline = timeout_us ? e->now + timeout_us : TIME_NEVER;
	wait->run = engine_handlers_run;
	wait->norestart = engine_handlers_norestart;
	wait->any_handler = timeout_us != 0;
}

int wait_begin_timespec(struct wait *wait, struct engine *e, const struct timespec *timeout)
{
	wait_begin(wait, e, 0);
	wait->any_handler = true;
	if (!timeout)
		return 0;
	if (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= 1000000000)
		return -EINVAL;
	if (timeout->tv_sec < LONG_WAIT_US / USEC_PER_SEC * 365)
		wait->deadline = e->now + timeout->tv_sec * USEC_PER_SEC + (timeout->tv_nsec + NSEC_PER_USEC - 1) / NSEC_PER_USEC;
	return 0;
}

static bool wait_interrupted(const struct wait *wait)
{
	return wait->any_handler ? wait->run != engine_handlers_run : wait->norestart != engine_handlers_norestart;
}

void waiter_wake(struct waiter *w)
{
	uint64_t one = 1;
	w->signalled = true;
	sys_write(w->efd, &one, sizeof one);
}

static void notify_waiter(struct watch *w, struct sock *s)
{
	(void)s;
	if (!w->waiter->signalled)
		waiter_wake(w->waiter);
}

void watch_init(struct watch *w, struct waiter *waiter)
{
	list_init(&w->node);
	w->notify = notify_waiter;
	w->waiter = waiter;
}

void watch_add(struct watch *w, struct sock *s)
{
	list_push_back(&s->watches, &w->node);
}

void watch_remove(struct watch *w)
{
	list_unlink(&w->node);
}

/* ---- driving ---- */

unsigned engine_poll_fds(struct engine *e, struct pollfd *out)
{
	unsigned n = 0;
	if (!e->up)
		return 0;
	out[n++] = (struct pollfd){.fd = link_rx_fd(e->link), .events = POLLIN};
	out[n++] = (struct pollfd){.fd = netstate_fd(e->net), .events = POLLIN};
	if (link_tx_blocked(e->link))
		out[n++] = (struct pollfd){.fd = link_tx_fd(e->link), .events = POLLOUT};
	return n;
}

/* The interface went down or away: the error stays readable, and every poll returns at once, until it is fetched. */
static void clear_error(const struct pollfd *p)
{
	int err;
	socklen_t len = sizeof err;
	if ((p->revents & POLLERR) && sys_getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err)
		log_info("engine", "the interface says: %s", strerror(err));
}

void engine_on_poll(struct engine *e, const struct pollfd *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		clear_error(&fds[i]);
	if (n >= 2 && fds[1].revents)
		turn_net_changed(e);
	turn_begin(e); /* the transmit queue is flushed at the turn's end */
}

void wait_check_leader(struct engine *e)
{
	if (!e->leader || !e->up)
		return;
	int64_t deadline = turn_deadline(e);
	bool tx = link_tx_blocked(e->link) && !e->leader_sees_tx;
	if (deadline >= e->leader_until && !tx)
		return;
	e->leader_until = deadline; /* once is enough */
	e->leader_sees_tx = true;
	uint64_t one = 1;
	sys_write(e->leader->efd, &one, sizeof one);
}

static void become_leader(struct engine *e, struct waiter *w, int64_t until)
{
	e->leader = w;
	e->leader_until = until;
	e->leader_sees_tx = e->up && link_tx_blocked(e->link);
}

static void leave_leader(struct engine *e, struct waiter *w)
{
	if (e->leader != w)
		return;
	e->leader = NULL;
	struct list *next = list_first(&e->waiters);
	uint64_t one = 1;
	if (next) {
		struct waiter *follower = container_of(next, struct waiter, node);
		sys_write(follower->efd, &one, sizeof one);
	} else if (e->helper_deep) { /* from now on nobody waits: the helper looks after the engine */
		e->helper_deep = false;
		sys_write(e->helper_waiter.efd, &one, sizeof one);
	}
}

static struct timespec timespec_until(struct engine *e, int64_t until)
{
	int64_t left = until == TIME_NEVER ? LONG_WAIT_US : until - e->now;
	if (left < 0)
		left = 0;
	return (struct timespec){.tv_sec = left / USEC_PER_SEC, .tv_nsec = left % USEC_PER_SEC * NSEC_PER_USEC};
}

/* The system call, without the lock. `ts` is ours: a handler may zero it. -EINTR only when a handler of the application ran. */
static int blocked_poll(struct pollfd *fds, unsigned n, struct timespec *ts, const struct wait *wait, const sigset_t *mask)
{
	engine_wait_timeout = ts;
	engine_unlock(); /* deferred handlers run here */
	int r = wait_interrupted(wait) ? -EINTR : (int)sys_call(SYS_ppoll, fds, n, ts, mask, 8, 0);
	engine_lock();
	engine_wait_timeout = NULL;
	if (r < 0) /* no revents were written */
		for (unsigned i = 0; i < n; i++)
			fds[i].revents = 0;
	return r;
}

/*
 * The setting `spin`: the leader looks at the ring in memory for a while before it blocks. Kernel fds are looked at when it is over, so they may be
 * late by that time; so may be netlink.
 */
static bool spin_finds(struct engine *e, struct waiter *w, int64_t until, const struct wait *wait)
{
	int64_t end = e->now + e->settings.spin_us;
	bool found = false;
	if (end > until)
		end = until;
	engine_unlock();
	while (!found && !wait_interrupted(wait) && clock_now_us() < end)
		found = link_rx_pending(e->link) || __atomic_load_n(&w->signalled, __ATOMIC_RELAXED);
	engine_lock();
	return found;
}

static void drain_eventfd(int fd)
{
	uint64_t count;
	sys_read(fd, &count, sizeof count);
}

static int wait_once(struct engine *e, struct waiter *w, struct pollfd *fds, struct pollfd *kfds, unsigned n_kfds, const struct wait *wait,
		     const sigset_t *mask)
{
	unsigned n = 0;
	bool lead = !e->leader || e->leader == &e->helper_waiter;
	int64_t until = wait->deadline;
	fds[n++] = (struct pollfd){.fd = w->efd, .events = POLLIN};
	if (lead) {
		int64_t next = turn_deadline(e);
		until = next < until ? next : until;
		n += engine_poll_fds(e, fds + n);
		become_leader(e, w, until);
	} else {
		list_push_back(&e->waiters, &w->node);
	}
	unsigned engine_fds = n;
	memcpy(fds + n, kfds, n_kfds * sizeof *kfds);
	n += n_kfds;
	/* With a mask, signals that only this wait lets in would not be seen: no spinning then. */
	if (lead && e->up && e->settings.spin_us && !mask && spin_finds(e, w, until, wait))
		until = e->now;
	struct timespec ts = timespec_until(e, until);
	blocked_poll(fds, n, &ts, wait, mask);
	list_unlink(&w->node);
	memcpy(kfds, fds + engine_fds, n_kfds * sizeof *kfds);
	if (fds[0].revents)
		drain_eventfd(w->efd);
	engine_on_poll(e, fds + 1, lead ? engine_fds - 1 : 0);
	leave_leader(e, w);
	for (unsigned i = 0; i < n_kfds; i++)
		if (kfds[i].revents)
			return 0;
	if (w->signalled)
		return 0;
	if (wait_interrupted(wait))
		return -EINTR;
	return e->now >= wait->deadline ? -ETIMEDOUT : -EAGAIN;
}

int engine_wait(struct engine *e, struct waiter *w, struct pollfd *kfds, unsigned n_kfds, const struct wait *wait, const sigset_t *mask)
{
	struct pollfd on_stack[POLL_ON_STACK], *fds = on_stack;
	size_t size = (n_kfds + 1 + ENGINE_POLL_FDS) * sizeof *fds;
	if (size > sizeof on_stack) {
		fds = engine_alloc(size);
		if (!fds)
			return -ENOMEM;
	}
	int r = -EAGAIN;
	while (r == -EAGAIN) {
		turn_end(e);
		r = w->signalled ? 0 : wait_once(e, w, fds, kfds, n_kfds, wait, mask);
	}
	w->signalled = false;
	if (fds != on_stack)
		engine_free(fds, size);
	return r;
}

int sock_wait(struct engine *e, struct sock *s, const struct wait *wait)
{
	struct waiter *w = waiter_self();
	struct watch watch;
	struct pollfd kernel_queue = {.fd = -1};
	unsigned n_kfds = 0;
	if (!w)
		return -EMFILE;
	if (s->kind == SOCK_KIND_LISTENER) {
		kernel_queue = (struct pollfd){.fd = s->lst->kfd, .events = POLLIN};
		n_kfds = 1;
	}
	watch_init(&watch, w);
	watch_add(&watch, s);
	int r = engine_wait(e, w, &kernel_queue, n_kfds, wait, NULL);
	watch_remove(&watch);
	return r;
}
