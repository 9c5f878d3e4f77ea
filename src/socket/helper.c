/*
 * The helper thread: driver of last resort, and the one who answers `finesse stat` and fork children.
 *
 * While application threads wait or call, they drive the engine themselves and this thread must cost them nothing. It looks once per tick:
 *   - the engine was driven since the last tick: sleep another tick;
 *   - a leader waits: sleep deep, without a timeout; who leaves the leader's place wakes it (once per tick at most, since only a leader that
 *     has waited a whole tick lets it sleep deep);
 *   - nobody drove and nobody waits: all threads compute, or wait for something else. It becomes the leader, until one of them comes back, by a wait or a
 *     call: a busy server whose epoll_wait always finds something never waits, and two that drive would fight for the lock. But who makes a call and
 *     then reads from a pipe has not come back for long: so the first ticks after it led are short, and each is twice the one before.
 * All signals are blocked in it. It exists from the first socket that was decided, or fell back, to the process's end; not in fork children.
 */
#include "socket/engine.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <string.h>

/* A computing program's ACKs are late by at most this: far below a peer's least RTO (200 ms) and delayed ACK (40 ms). */
#define HELPER_TICK_US (2 * USEC_PER_MSEC)
#define HELPER_TICK_FIRST_US 100 /* after it led */
#define HELPER_FDS_MAX 64
#define HELPER_LAZY_TICKS 16 /* then what it polls is collected anew */

struct helper_fds {
	struct pollfd fds[HELPER_FDS_MAX];
	unsigned n, first_child, first_engine;
};

static int stat_fd = -1;

static void collect_fds(struct engine *e, struct helper_fds *h, bool lead)
{
	h->n = 0;
	h->fds[h->n++] = (struct pollfd){.fd = e->helper_waiter.efd, .events = POLLIN};
	h->fds[h->n++] = (struct pollfd){.fd = stat_fd, .events = POLLIN};
	h->first_child = h->n;
	h->n += fork_poll_fds(e, h->fds + h->n, HELPER_FDS_MAX - h->n - ENGINE_POLL_FDS);
	h->first_engine = h->n;
	if (lead)
		h->n += engine_poll_fds(e, h->fds + h->n);
}

/* How long this round sleeps, and in which role. */
enum helper_role { HELPER_TICKS, HELPER_SLEEPS, HELPER_LEADS };

static enum helper_role choose_role(struct engine *e, uint64_t *last_turns)
{
	if (!e->up || (e->leader && e->leader != &e->helper_waiter && *last_turns == e->turns))
		return HELPER_SLEEPS;
	if (*last_turns != e->turns || (e->leader && e->leader != &e->helper_waiter)) {
		*last_turns = e->turns;
		return HELPER_TICKS;
	}
	return HELPER_LEADS;
}

static int64_t tick_us = HELPER_TICK_US;

static int64_t role_timeout_us(struct engine *e, enum helper_role role)
{
	if (role == HELPER_TICKS)
		return tick_us;
	int64_t deadline = role == HELPER_LEADS ? turn_deadline(e) : TIME_NEVER;
	if (deadline == TIME_NEVER)
		return -1;
	int64_t left = deadline - clock_now_us();
	return left > 0 ? left : 0;
}

static void serve(struct engine *e, struct helper_fds *h)
{
	uint64_t count;
	if (h->fds[0].revents)
		sys_read(h->fds[0].fd, &count, sizeof count);
	fork_serve(e, h->fds + h->first_child, h->first_engine - h->first_child);
	if (h->fds[1].revents)
		stat_serve(e, stat_fd);
}

/* A tick on which nothing is to be done: the lock, which a busy application would have to hand over twice, is left alone. */
static bool was_driven(struct engine *e, int ready, uint64_t *last_turns, unsigned *ticks)
{
	uint64_t turns = __atomic_load_n(&e->turns, __ATOMIC_RELAXED);
	if (ready || turns == *last_turns || ++*ticks > HELPER_LAZY_TICKS)
		return false;
	*last_turns = turns;
	return true;
}

/* −1: until something is there. */
static int sleep_us(struct helper_fds *h, int64_t us)
{
	struct timespec ts = {.tv_sec = us / USEC_PER_SEC, .tv_nsec = us % USEC_PER_SEC * NSEC_PER_USEC};
	return sys_ppoll(h->fds, h->n, us < 0 ? NULL : &ts, NULL);
}

static void helper_round(struct engine *e, uint64_t *last_turns)
{
	struct helper_fds h;
	unsigned lazy_ticks = 0;
	enum helper_role role = choose_role(e, last_turns);
	collect_fds(e, &h, role == HELPER_LEADS);
	int64_t us = role_timeout_us(e, role);
	e->helper_deep = role == HELPER_SLEEPS;
	if (role == HELPER_LEADS) {
		e->leader = &e->helper_waiter;
		e->leader_until = us < 0 ? TIME_NEVER : e->now + us;
		e->leader_sees_tx = true;
	}
	uint64_t turns = e->turns;
	engine_unlock();
	int r = sleep_us(&h, us);
	while (role == HELPER_TICKS && was_driven(e, r, last_turns, &lazy_ticks)) {
		tick_us = min_time(2 * tick_us, HELPER_TICK_US);
		r = sleep_us(&h, tick_us);
	}
	engine_lock();
	e->helper_deep = false;
	bool led = e->leader == &e->helper_waiter, came_back = e->turns != turns;
	if (led)
		e->leader = NULL;
	if (r < 0)
		return;
	if (led)
		engine_on_poll(e, h.fds + h.first_engine, h.n - h.first_engine);
	serve(e, &h);
	turn_end(e);
	fork_tell_shim(e);
	if (led && came_back)
		tick_us = HELPER_TICK_FIRST_US;
	else if (led)
		*last_turns = e->turns; /* our own turn does not count as the application's */
}

static void *helper_main(void *arg)
{
	struct engine *e = arg;
	uint64_t last_turns = 0;
	engine_lock();
	while (!e->helper_stop)
		helper_round(e, &last_turns);
	engine_unlock();
	return NULL;
}

int helper_start(struct engine *e)
{
	if (e->helper_runs) { /* it may sleep without an engine to look after */
		helper_wake(e);
		return 0;
	}
	int fd = fd_move_high(sys_eventfd2(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (fd < 0)
		return fd;
	stat_fd = stat_listen();
	if (stat_fd < 0)
		log_debug("helper", "the stat socket could not be made (errno %d)", -stat_fd);
	e->helper_waiter.efd = fd;
	e->helper_stop = false;
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = pthread_create(&e->helper, NULL, helper_main, e);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err) {
		fd_close(fd);
		fd_close(stat_fd);
		stat_fd = -1;
		return -err;
	}
	pthread_setname_np(e->helper, "finesse");
	e->helper_runs = true;
	return 0;
}

void helper_wake(struct engine *e)
{
	uint64_t one = 1;
	if (e->helper_runs)
		sys_write(e->helper_waiter.efd, &one, sizeof one);
}

void helper_stop(struct engine *e)
{
	if (!e->helper_runs)
		return;
	e->helper_stop = true;
	e->helper_runs = false;
	uint64_t one = 1;
	sys_write(e->helper_waiter.efd, &one, sizeof one);
	engine_unlock();
	pthread_join(e->helper, NULL);
	engine_lock();
	fd_close(e->helper_waiter.efd);
	fd_close(stat_fd);
	stat_fd = -1;
}

void helper_after_fork(struct engine *e)
{
	if (!e->helper_runs)
		return;
	fd_close(e->helper_waiter.efd);
	fd_close(stat_fd);
	stat_fd = -1;
	e->helper_runs = false;
}
