/*
 * poll, ppoll, select, pselect. Sets without an engine fd go to the kernel as they are; mixed sets
 * become sock_pollfds. select is expressed through poll with Linux's own table of which poll events
 * make an fd readable, writable, exceptional.
 */
#include "shim.h"
#include "waits.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>

#define ON_STACK 64 /* fds: 3 KiB */

/* Sets that are held for one wait. */
struct mixed {
	unsigned n, n_engine;
	struct sock_pollfd *fds;
	struct file **files; /* references, NULL: kernel fd */
	struct sock_pollfd stack_fds[ON_STACK];
	struct file *stack_files[ON_STACK];
};

static int mixed_begin(struct mixed *m, unsigned n)
{
	m->n = n;
	m->n_engine = 0;
	m->fds = m->stack_fds;
	m->files = m->stack_files;
	if (n > ON_STACK) {
		m->fds = malloc(n * sizeof *m->fds);
		m->files = malloc(n * sizeof *m->files);
		if (!m->fds || !m->files) {
			free(m->fds);
			free(m->files);
			return -ENOMEM;
		}
	}
	return 0;
}

static void mixed_set(struct mixed *m, unsigned i, int fd, short events)
{
	struct call c;
	m->files[i] = NULL;
	m->fds[i] = (struct sock_pollfd){.fd = fd, .events = events};
	if (call_begin(&c, fd)) {
		m->files[i] = c.file;
		m->fds[i].sock = c.sock;
		m->n_engine++;
	}
}

static void mixed_end(struct mixed *m)
{
	for (unsigned i = 0; i < m->n; i++)
		if (m->files[i])
			file_put(m->files[i]);
	if (m->fds != m->stack_fds) {
		free(m->fds);
		free(m->files);
	}
}

struct timespec *timespec_from_ms(int ms, struct timespec *out)
{
	if (ms < 0)
		return NULL;
	*out = (struct timespec){ms / 1000, ms % 1000 * 1000000L};
	return out;
}

void epoll_note_polled(int fd)
{
	struct file *f = fdtable_peek(fd);
	if (!f || f->kind != FILE_EPOLL || f->nested || !(f = fdtable_get(fd)))
		return;
	if (f->kind == FILE_EPOLL) {
		fdtable_lock();
		f->nested = true;
		if (f->epset)
			epset_pollable(f->epset);
		fdtable_unlock();
	}
	file_put(f);
}

/* Does the engine have to look at this fd? */
static inline bool is_engine_fd(int fd)
{
	struct file *f = fdtable_peek(fd);
	if (__builtin_expect(!f, 1))
		return false;
	if (f->kind == FILE_EPOLL)
		epoll_note_polled(fd);
	return f->kind == FILE_SOCK;
}

static bool any_engine_fd(const struct pollfd *fds, nfds_t n)
{
	if (!shim_on())
		return false;
	for (nfds_t i = 0; i < n; i++)
		if (is_engine_fd(fds[i].fd))
			return true;
	return false;
}

static bool nfds_too_many(nfds_t n)
{
	struct rlimit limit;
	return n > ON_STACK && sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit, 0, 0) == 0 &&
	       n > limit.rlim_cur;
}

static int engine_poll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		       const sigset_t *mask)
{
	struct mixed m;
	if (nfds_too_many(n))
		return -EINVAL;
	int r = mixed_begin(&m, n);
	if (r < 0)
		return r;
	for (nfds_t i = 0; i < n; i++)
		mixed_set(&m, i, fds[i].fd, fds[i].events);
	r = sock_poll(m.fds, n, timeout, mask);
	if (r >= 0)
		for (nfds_t i = 0; i < n; i++)
			fds[i].revents = m.fds[i].revents;
	mixed_end(&m);
	return r;
}

int wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	struct timespec ts;
	if (!any_engine_fd(fds, n))
		return REAL(poll)(fds, n, timeout_ms);
	return edge(engine_poll(fds, n, timespec_from_ms(timeout_ms, &ts), NULL));
}

int wrap___poll_chk(struct pollfd *fds, nfds_t n, int timeout_ms, size_t room)
{
	if (n <= room / sizeof *fds)
		return wrap_poll(fds, n, timeout_ms);
	return REAL(__poll_chk)(fds, n, timeout_ms, room); /* does not return */
}

static bool timespec_valid(const struct timespec *ts)
{
	return !ts || (ts->tv_sec >= 0 && ts->tv_nsec >= 0 && ts->tv_nsec < 1000000000);
}

int wrap_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	if (!any_engine_fd(fds, n))
		return REAL(ppoll)(fds, n, timeout, mask);
	if (!timespec_valid(timeout))
		return edge(-EINVAL);
	return edge(engine_poll(fds, n, timeout, mask));
}

int wrap___ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		     const sigset_t *mask, size_t room)
{
	if (n <= room / sizeof *fds)
		return wrap_ppoll(fds, n, timeout, mask);
	return REAL(__ppoll_chk)(fds, n, timeout, mask, room);
}

/* ---- select ---- */

/* fs/select.c of Linux: what makes an fd readable, writable, exceptional. */
#define SELECT_IN  (POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define SELECT_OUT (POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR)
#define SELECT_EX  POLLPRI

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

static void set_add(fd_set *set, int fd)
{
	((unsigned long *)set)[fd / WORD_BITS] |= 1UL << (fd % WORD_BITS);
}

/* How many fds are in any of the three sets; *engine: one of them is ours. */
static unsigned select_count(int n, const fd_set *in, const fd_set *out, const fd_set *ex,
			     bool *engine)
{
	unsigned count = 0;
	*engine = false;
	for (int word = 0; word * WORD_BITS < n; word++) {
		unsigned long bits = set_word(in, word) | set_word(out, word) | set_word(ex, word);
		while (bits) {
			int fd = word * WORD_BITS + __builtin_ctzl(bits);
			bits &= bits - 1;
			if (fd >= n)
				break;
			count++;
			*engine |= is_engine_fd(fd);
		}
	}
	return count;
}

static void select_fill(struct mixed *m, int n, const fd_set *in, const fd_set *out,
			const fd_set *ex)
{
	unsigned i = 0;
	for (int fd = 0; fd < n && i < m->n; fd++) {
		short events = (set_has(in, fd) ? SELECT_IN : 0) |
			       (set_has(out, fd) ? SELECT_OUT : 0) |
			       (set_has(ex, fd) ? SELECT_EX : 0);
		if (events)
			mixed_set(m, i++, fd, events);
	}
}

/* The results replace the sets. Returns the bits set, or -EBADF for an fd that is not open. */
static int select_results(struct mixed *m, int n, fd_set *in, fd_set *out, fd_set *ex)
{
	int bits = 0;
	for (unsigned i = 0; i < m->n; i++)
		if (m->fds[i].revents & POLLNVAL)
			return -EBADF;
	set_clear(in, n);
	set_clear(out, n);
	set_clear(ex, n);
	for (unsigned i = 0; i < m->n; i++) {
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

static int engine_select(int n, unsigned count, fd_set *in, fd_set *out, fd_set *ex,
			 const struct timespec *timeout, const sigset_t *mask)
{
	struct mixed m;
	int r = mixed_begin(&m, count);
	if (r < 0)
		return r;
	select_fill(&m, n, in, out, ex);
	r = sock_poll(m.fds, count, timeout, mask);
	if (r >= 0)
		r = select_results(&m, n, in, out, ex);
	mixed_end(&m);
	return r;
}

static bool select_is_ours(int n, fd_set *in, fd_set *out, fd_set *ex, unsigned *count)
{
	bool engine = false;
	if (!shim_on() || n <= 0)
		return false;
	*count = select_count(n, in, out, ex, &engine);
	return engine;
}

/* Linux's select leaves what remained of the timeout in it. */
static void timeout_left(struct timeval *timeout, const struct timespec *total,
			 const struct timespec *start)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	int64_t left = (total->tv_sec - (now.tv_sec - start->tv_sec)) * 1000000 +
		       (total->tv_nsec - (now.tv_nsec - start->tv_nsec)) / 1000;
	if (left < 0)
		left = 0;
	*timeout = (struct timeval){left / 1000000, left % 1000000};
}

int wrap_select(int n, fd_set *in, fd_set *out, fd_set *ex, struct timeval *timeout)
{
	unsigned count;
	if (!select_is_ours(n, in, out, ex, &count))
		return REAL(select)(n, in, out, ex, timeout);
	if (!timeout)
		return edge(engine_select(n, count, in, out, ex, NULL, NULL));
	if (timeout->tv_sec < 0 || timeout->tv_usec < 0)
		return edge(-EINVAL);
	struct timespec start,
	    ts = {timeout->tv_sec + timeout->tv_usec / 1000000, timeout->tv_usec % 1000000 * 1000};
	clock_gettime(CLOCK_MONOTONIC, &start);
	int r = engine_select(n, count, in, out, ex, &ts, NULL);
	timeout_left(timeout, &ts, &start);
	return edge(r);
}

int wrap_pselect(int n, fd_set *in, fd_set *out, fd_set *ex, const struct timespec *timeout,
		 const sigset_t *mask)
{
	unsigned count;
	if (!select_is_ours(n, in, out, ex, &count))
		return REAL(pselect)(n, in, out, ex, timeout, mask);
	if (!timespec_valid(timeout))
		return edge(-EINVAL);
	return edge(engine_select(n, count, in, out, ex, timeout, mask));
}
