/*
 * select, pselect: expressed through poll with Linux's own table of which poll events make an fd
 * readable, writable, exceptional. Sets without an engine fd go to the kernel as they are.
 *
 * But poll always tells POLLERR and POLLHUP, and select sleeps through them when no set is about
 * them: a pipe at its end in the exceptional set alone would have poll return at once, for ever.
 * Such an fd is muted: for the rest of the call an epoll of its own watches it edge-triggered, which
 * wakes only when something happens there. After each such edge all are looked at without waiting.
 */
#include "shim.h"
#include "waits.h"

#include "base/fd.h"
#include "base/sys.h"
#include "base/user.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/time.h>

/* fs/select.c of Linux: what makes an fd readable, writable, exceptional. */
#define SELECT_IN  (POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define SELECT_OUT (POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR)
#define SELECT_EX  POLLPRI

#define TABLE_SIZE_FIRST 64 /* NR_OPEN_DEFAULT */
#define TABLE_SIZE_MOST  (1024 * 1024) /* fs.nr_open, as it is by default */
#define PIECE_FDS        256 /* asked about at once */
#define WORD_BITS  (8 * (int)sizeof(unsigned long))

/* Sets may be larger than fd_set (FD_SETSIZE): they are arrays of words. */
static unsigned long set_word(const fd_set *set, int word)
{
	return set ? ((const unsigned long *)set)[word] : 0;
}

static bool set_has(const fd_set *set, int fd)
{
	return set_word(set, fd / WORD_BITS) >> (fd % WORD_BITS) & 1;
}

static void set_clear(fd_set *set, int n)
{
	if (set)
		memset(set, 0, (n + WORD_BITS - 1) / WORD_BITS * sizeof(unsigned long));
}

static void set_clear_word(fd_set *set, int word)
{
	if (set)
		((unsigned long *)set)[word] = 0;
}

static void set_add(fd_set *set, int fd)
{
	((unsigned long *)set)[fd / WORD_BITS] |= 1UL << (fd % WORD_BITS);
}

/* How many fds are in any of the three sets; *engine: one of them is ours; *internal: one is none of the program's. */
static unsigned select_count(int n, const fd_set *in, const fd_set *out, const fd_set *ex,
			     bool *engine, bool *internal)
{
	unsigned count = 0;
	*engine = *internal = false;
	for (int word = 0; word * WORD_BITS < n; word++) {
		unsigned long bits = set_word(in, word) | set_word(out, word) | set_word(ex, word);
		while (bits) {
			int fd = word * WORD_BITS + __builtin_ctzl(bits);
			bits &= bits - 1;
			if (fd >= n)
				break;
			count++;
			*engine |= is_engine_fd(fd);
			*internal |= fd_is_internal(fd);
		}
	}
	return count;
}

static void select_fill(struct mixed *m, unsigned count, int n, const fd_set *in,
			const fd_set *out, const fd_set *ex)
{
	unsigned i = 0;
	for (int fd = 0; fd < n && i < count; fd++) {
		short events = (set_has(in, fd) ? SELECT_IN : 0) |
			       (set_has(out, fd) ? SELECT_OUT : 0) |
			       (set_has(ex, fd) ? SELECT_EX : 0);
		if (!events)
			continue;
		mixed_set(m, i, fd, events);
		m->fds[i++].exact = true;
	}
}

/* Of what poll told: what is select's, of the sets in which the fd is. */
static short select_told(const struct sock_pollfd *p)
{
	return p->revents & (p->events | POLLNVAL);
}

/*
 * Linux clears as much as it looked at, which ends with the process's table. A program may say more than its set holds
 * (getdtablesize()), and then what is behind the set is not to be touched: there only words in which the program asked
 * for something are.
 */
static void select_clear(const struct mixed *m, unsigned count, int n, fd_set *in, fd_set *out, fd_set *ex)
{
	if (n <= FD_SETSIZE) {
		set_clear(in, n), set_clear(out, n), set_clear(ex, n);
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		int fd = m->fds[i].fd, word = (fd < 0 ? ~fd : fd) / WORD_BITS; /* it may be muted */
		set_clear_word(in, word), set_clear_word(out, word), set_clear_word(ex, word);
	}
}

/*
 * The results replace the sets. Returns the bits set, or -EBADF for an fd that is not open; if it was when the call
 * began, it is ready for all.
 */
static int select_results(struct mixed *m, unsigned count, int n, fd_set *in, fd_set *out,
			  fd_set *ex, bool was_open)
{
	int bits = 0;
	for (unsigned i = 0; i < count; i++)
		if (m->fds[i].revents & POLLNVAL) {
			if (!was_open)
				return -EBADF;
			m->fds[i].revents = -1;
		}
	select_clear(m, count, n, in, out, ex);
	for (unsigned i = 0; i < count; i++) {
		struct sock_pollfd *p = &m->fds[i];
		if ((p->events & SELECT_IN & ~POLLERR) && (p->revents & SELECT_IN))
			set_add(in, p->fd), bits++;
		if ((p->events & SELECT_OUT & ~POLLERR) && (p->revents & SELECT_OUT))
			set_add(out, p->fd), bits++;
		if ((p->events & SELECT_EX) && (p->revents & SELECT_EX))
			set_add(ex, p->fd), bits++;
	}
	return bits;
}

/* ---- muting ---- */

#define EDGES_MAX 16

/* A muted fd is its own complement, which is negative: poll ignores it. */
static void unmute_all(struct mixed *m, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (m->fds[i].fd < 0)
			m->fds[i].fd = ~m->fds[i].fd;
}

static void mute_idle(struct mixed *m, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (m->fds[i].revents && !m->fds[i].sock)
			m->fds[i].fd = ~m->fds[i].fd;
}

/*
 * Watches what told nothing of select's. Returns how many are new to the epoll, or -ENOMEM: no fd, or no memory for it.
 */
static int watch_edges(struct mixed *m, unsigned count)
{
	struct sock_pollfd *edges = &m->fds[count];
	int n = 0;
	if (edges->fd < 0)
		edges->fd = fd_move_high(sys_epoll_create1(EPOLL_CLOEXEC));
	if (edges->fd < 0)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		struct sock_pollfd *p = &m->fds[i];
		struct epoll_event ev = {.events = (uint32_t)p->events | EPOLLET};
		if (!p->revents || p->sock)
			continue;
		int r = sys_epoll_ctl(edges->fd, EPOLL_CTL_ADD, p->fd, &ev);
		if (r < 0 && r != -EEXIST)
			return -ENOMEM;
		n += r == 0;
	}
	return n;
}

static void drain_edges(int epfd)
{
	struct epoll_event evs[EDGES_MAX];
	while (sys_epoll_pwait(epfd, evs, EDGES_MAX, 0, NULL) == EDGES_MAX)
		;
}

/* ---- the wait ---- */

static bool any_told(const struct mixed *m, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (select_told(&m->fds[i]))
			return true;
	return false;
}

/*
 * No fd was left for an epoll: what told nothing of select's sleeps for a little while, and then all are looked at.
 * -EAGAIN: nothing yet.
 */
static int select_slice(struct mixed *m, unsigned count, const struct span *span, const sigset_t *mask)
{
	static const struct timespec slice = {0, 10000000}, at_once;
	struct timespec left;
	span_left(span, &left);
	bool last = span->total && left.tv_sec == 0 && left.tv_nsec <= slice.tv_nsec;
	mute_idle(m, count);
	int r = sock_poll(m->fds, count, last ? &left : &slice, mask);
	unmute_all(m, count);
	if (r >= 0)
		r = sock_poll(m->fds, count, &at_once, NULL);
	if (r < 0 || any_told(m, count))
		return r < 0 ? r : 0;
	return last ? 0 : -EAGAIN;
}

/* 0: something is to be told, or the time is over. */
static int select_wait(struct mixed *m, unsigned count, const struct span *span,
		       const sigset_t *mask)
{
	static const struct timespec at_once;
	struct timespec left;
	bool look = false; /* all of them, without waiting */
	int r = sock_poll(m->fds, count, span_left(span, &left), mask);
	if (r <= 0 || any_told(m, count))
		return r < 0 ? r : 0;
	for (;;) {
		int fresh = watch_edges(m, count);
		if (fresh < 0) {
			r = select_slice(m, count, span, mask);
			if (r != -EAGAIN)
				return r;
			continue;
		}
		if (!look || fresh) {
			drain_edges(m->fds[count].fd);
			unmute_all(m, count);
			look = true;
		} else {
			mute_idle(m, count);
			look = false;
		}
		r = sock_poll(m->fds, count + 1, look ? &at_once : span_left(span, &left),
			      look ? NULL : mask);
		if (r < 0 || (r == 0 && !look) || any_told(m, count))
			return r < 0 ? r : 0;
	}
}

/* As Linux looks at the end of each wait: what the numbers lead to now. 0: nothing is to be told. */
__attribute__((noinline)) /* two of struct mixed would be on the caller's stack at once */
static int select_anew(int n, unsigned count, fd_set *in, fd_set *out, fd_set *ex)
{
	static const struct timespec at_once;
	struct mixed m;
	int r = mixed_begin(&m, count);
	if (r < 0)
		return r;
	select_fill(&m, count, n, in, out, ex);
	r = sock_poll(m.fds, count, &at_once, NULL);
	if (r > 0)
		r = any_told(&m, count) ? select_results(&m, count, n, in, out, ex, true) : 0;
	mixed_end(&m);
	return r;
}

static int engine_select(int n, unsigned count, fd_set *in, fd_set *out, fd_set *ex,
			 const struct span *span, const sigset_t *mask)
{
	struct mixed m;
	int r = mixed_begin(&m, count + 1);
	if (r < 0)
		return r;
	select_fill(&m, count, n, in, out, ex);
	mixed_set(&m, count, -1, POLLIN); /* what is muted */
	r = select_wait(&m, count, span, mask);
	bool moved = false, renumbered = mixed_is_renumbered(&m), told = r == 0 && any_told(&m, count);
	if (r == 0 && !renumbered) {
		r = select_results(&m, count, n, in, out, ex, false);
		moved = r == -EBADF && mixed_has_moved(&m);
	}
	fd_close(m.fds[count].fd);
	int found = renumbered ? select_anew(n, count, in, out, ex) : 0;
	bool over = renumbered && !found && r == 0 && !told; /* the time is */
	if (over)
		select_clear(&m, count, n, in, out, ex);
	mixed_end(&m);
	if (!renumbered)
		return moved ? -EAGAIN : r;
	return over ? 0 : found ? found : told ? -EAGAIN : r;
}

/*
 * Are these open, of the program's? One call for all of them, and one for each where that is refused. Returns the
 * highest, or -1.
 */
static int piece_highest(int first, int count)
{
	static const struct timespec at_once;
	struct pollfd p[PIECE_FDS];
	for (int i = 0; i < count; i++)
		p[i] = (struct pollfd){.fd = fd_is_internal(first + i) ? -1 : first + i};
	bool asked = sys_ppoll(p, count, &at_once, NULL) >= 0;
	for (int i = count - 1; i >= 0; i--)
		if (p[i].fd >= 0 && (asked ? !(p[i].revents & POLLNVAL) : sys_fcntl(p[i].fd, F_GETFD, 0) >= 0))
			return p[i].fd;
	return -1;
}

/*
 * Linux looks at no more fds than the process's table has room for, and is silent about those beyond. Internal fds made
 * the table larger than the program would have it: this is the size that it would have for a select of `n`, or had when
 * it was smallest.
 */
static int table_size(int n)
{
	int size = TABLE_SIZE_FIRST, highest = -1;
	for (int end = n > FD_SETSIZE ? n : FD_SETSIZE; end > size && highest < 0;) {
		int count = end - size < PIECE_FDS ? end - size : PIECE_FDS;
		highest = piece_highest(end -= count, count);
	}
	while (size <= highest)
		size *= 2;
	return size;
}

static void clamp(int *n)
{
	int size = table_size(*n);
	*n = *n > size ? size : *n;
}

/* Then internal fds lie beyond it, and the kernel's table reaches behind an fd_set. */
static bool limit_is_small(void)
{
	struct rlimit limit;
	return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur <= FD_SETSIZE;
}

static bool set_may(fd_set *set, int n)
{
	return !set || user_may_write(set, (n + WORD_BITS - 1) / WORD_BITS * sizeof(unsigned long));
}

static bool sets_may(int n, fd_set *in, fd_set *out, fd_set *ex)
{
	return set_may(in, n) && set_may(out, n) && set_may(ex, n);
}

static bool select_is_ours(int *n, fd_set *in, fd_set *out, fd_set *ex, unsigned *count)
{
	bool engine, internal;
	engine_call();
	if (!shim_on() || *n <= 0)
		return false; /* the kernel has the right error */
	if (*n > TABLE_SIZE_MOST)
		*n = TABLE_SIZE_MOST;
	if (*n > FD_SETSIZE && fd_any_internal() && limit_is_small())
		clamp(n);
	if (!sets_may(*n, in, out, ex)) {
		clamp(n); /* what is not looked at need not be there */
		if (!sets_may(*n, in, out, ex))
			return false;
	}
	*count = select_count(*n, in, out, ex, &engine, &internal);
	if (internal) {
		clamp(n);
		*count = select_count(*n, in, out, ex, &engine, &internal);
	}
	return engine;
}

/* -EBADF was the answer for `n`: of fds that Linux would not have looked at? Then *n is how far it would. */
static bool select_looked_too_far(int *n)
{
	int before = *n;
	if (shim_on())
		clamp(n);
	return *n < before;
}

/* Through poll; -EBADF as Linux. */
static int select_ours(int n, unsigned count, fd_set *in, fd_set *out, fd_set *ex, const struct span *span, const sigset_t *mask)
{
	int r;
	bool engine, internal;
	do {
		r = engine_select(n, count, in, out, ex, span, mask);
	} while (r == -EAGAIN);
	if (r != -EBADF || !select_looked_too_far(&n))
		return r;
	count = select_count(n, in, out, ex, &engine, &internal);
	return engine_select(n, count, in, out, ex, span, mask);
}

int wrap_select(int n, fd_set *in, fd_set *out, fd_set *ex, struct timeval *timeout)
{
	unsigned count;
	if (!select_is_ours(&n, in, out, ex, &count)) {
		int r = REAL(select)(n, in, out, ex, timeout);
		return r < 0 && errno == EBADF && select_looked_too_far(&n) ? REAL(select)(n, in, out, ex, timeout) : r;
	}
	pthread_testcancel();
	if (timeout && (timeout->tv_sec < 0 || timeout->tv_usec < 0))
		return edge(-EINVAL);
	struct timespec total, left;
	if (timeout)
		total = (struct timespec){timeout->tv_sec + timeout->tv_usec / 1000000,
					  timeout->tv_usec % 1000000 * 1000};
	struct span span;
	span_begin(&span, timeout ? &total : NULL);
	int r = select_ours(n, count, in, out, ex, &span, NULL);
	if (span_left(&span, &left)) /* Linux's select leaves it there */
		*timeout = (struct timeval){left.tv_sec, left.tv_nsec / 1000};
	return edge(r);
}

int wrap_pselect(int n, fd_set *in, fd_set *out, fd_set *ex, const struct timespec *timeout,
		 const sigset_t *mask)
{
	unsigned count;
	if (!select_is_ours(&n, in, out, ex, &count)) {
		int r = REAL(pselect)(n, in, out, ex, timeout, mask);
		return r < 0 && errno == EBADF && select_looked_too_far(&n) ? REAL(pselect)(n, in, out, ex, timeout, mask) : r;
	}
	pthread_testcancel();
	int wrong = wait_is_wrong(timeout, mask);
	if (wrong)
		return edge(wrong);
	struct span span;
	span_begin(&span, timeout);
	uint64_t held = wait_mask_hold(mask);
	int r = select_ours(n, count, in, out, ex, &span, mask);
	wait_mask_release(held);
	return edge(r);
}
