/*
 * poll, ppoll. Sets without an engine fd go to the kernel as they are; others are looked at by the engine and the
 * kernel (struct mixed, waits.h).
 */
#include "shim.h"
#include "waits.h"

#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>

#include "base/fd.h"
#include "base/time.h"
#include "base/user.h"
#include "base/zeroed.h"

#define BLOCK_STEP ((size_t)16384)

/*
 * For sets that are too large for the stack. poll and select may be called in a signal handler, which may have
 * interrupted malloc: the memory is the kernel's. One block is kept for the next call; concurrent calls bring their
 * own.
 */
struct mixed_block {
	size_t bytes;
	struct sock_pollfd fds[];
};
static struct mixed_block *_Atomic spare_block;

static void block_give(struct mixed_block *b)
{
	b = atomic_exchange(&spare_block, b);
	if (b)
		zeroed_free(b, b->bytes);
}

static struct mixed_block *block_take(size_t bytes)
{
	struct mixed_block *b = atomic_exchange(&spare_block, NULL);
	if (b && b->bytes >= bytes)
		return b;
	if (b)
		zeroed_free(b, b->bytes);
	bytes = (bytes + BLOCK_STEP - 1) / BLOCK_STEP * BLOCK_STEP;
	b = zeroed_new(bytes);
	if (b)
		b->bytes = bytes;
	return b;
}

static void mixed_free(struct mixed *m)
{
	for (unsigned i = 0; i < m->n; i++)
		if (m->files[i])
			file_put_of_call(m->files[i], m->fds[i].sock);
	if (m->fds != m->stack_fds)
		block_give(m->block);
}

static void mixed_undo(struct undo *u)
{
	mixed_free(container_of(u, struct mixed, undo));
}

static bool mixed_handler(struct undo *u, bool begins)
{
	struct mixed *m = container_of(u, struct mixed, undo);
	bool lost = false;
	if (begins && !m->handled)
		m->was_renumbered = mixed_is_renumbered(m);
	m->handled = true;
	for (unsigned i = 0; i < m->n; i++)
		if (m->files[i])
			lost |= file_around_handler(&m->files[i], m->fds[i].sock, m->fds[i].fd, begins);
	return lost;
}

int mixed_begin(struct mixed *m, unsigned n)
{
	m->n = n;
	m->fds = m->stack_fds;
	m->files = m->stack_files;
	m->handled = false;
	if (n > MIXED_ON_STACK) {
		m->block = block_take(sizeof *m->block + n * (sizeof *m->fds + sizeof *m->files));
		if (!m->block)
			return -ENOMEM;
		m->fds = m->block->fds;
		m->files = (struct file **)(m->fds + n);
	}
	memset(m->files, 0, n * sizeof *m->files);
	undo_push(&m->undo, mixed_undo);
	m->undo.handler = mixed_handler;
	return 0;
}

void mixed_set(struct mixed *m, unsigned i, int fd, short events)
{
	struct call c;
	if (fd_is_internal(fd))
		fd = INT_MAX; /* open nowhere */
	epoll_note_polled(fd);
	m->fds[i] = (struct sock_pollfd){.fd = fd, .events = events};
	if (call_begin_to(&c, fd, USE_TO_WAIT)) {
		engine_enter(); /* from one undo to the other without a handler in between */
		call_keep(&c);
		m->files[i] = c.file;
		engine_leave();
		m->fds[i].sock = c.sock;
	}
}

void mixed_end(struct mixed *m)
{
	engine_enter();
	undo_pop(&m->undo);
	mixed_free(m);
	engine_leave();
}

bool mixed_has_moved(const struct mixed *m)
{
	bool moved = false;
	for (unsigned i = 0; i < m->n; i++) {
		if (!m->files[i] || file_is_lost(m->files[i]))
			continue;
		if (m->fds[i].revents & POLLNVAL)
			moved |= file_follow(m->files[i]); /* waits for who hands it over */
		else if (m->fds[i].revents && m->files[i]->listener)
			moved |= file_ended_elsewhere(m->files[i]);
	}
	return moved;
}

bool mixed_is_renumbered(const struct mixed *m)
{
	if (m->handled)
		return m->was_renumbered;
	for (unsigned i = 0; i < m->n; i++)
		if (m->files[i] && fdtable_peek(m->fds[i].fd) != m->files[i])
			return true;
	return false;
}

#define NS_PER_S 1000000000L

void span_begin(struct span *s, const struct timespec *total)
{
	s->total = total;
	if (total)
		clock_get(CLOCK_MONOTONIC, &s->start);
}

const struct timespec *span_left(const struct span *s, struct timespec *left)
{
	struct timespec now;
	if (!s->total)
		return NULL;
	clock_get(CLOCK_MONOTONIC, &now);
	left->tv_sec = s->total->tv_sec - (now.tv_sec - s->start.tv_sec);
	left->tv_nsec = s->total->tv_nsec - (now.tv_nsec - s->start.tv_nsec);
	if (left->tv_nsec < 0) {
		left->tv_nsec += NS_PER_S;
		left->tv_sec--;
	} else if (left->tv_nsec >= NS_PER_S) {
		left->tv_nsec -= NS_PER_S;
		left->tv_sec++;
	}
	if (left->tv_sec < 0)
		*left = (struct timespec){0, 0};
	return left;
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
	struct call c;
	const struct file *f = fdtable_peek(fd);
	if (!f || f->kind != FILE_EPOLL || (f->epset.polled && !f->epset.parents) || !call_hold(&c, fd))
		return;
	if (c.file->kind == FILE_EPOLL) {
		c.file->epset.parents = false;
		epset_note_polled(&c.file->epset);
	}
	call_let_go(&c);
}

bool is_engine_fd(int fd)
{
	adopt_polled(fd);
	struct file *f = fdtable_peek(fd);
	if (__builtin_expect(!f, 1))
		return fd_is_internal(fd); /* which must look closed */
	if (f->kind == FILE_EPOLL)
		epoll_note_polled(fd);
	return f->kind == FILE_SOCK || (f->seized && undecided_await(fd));
}

static bool any_engine_fd(struct pollfd *fds, nfds_t n)
{
	engine_call();
	if (engine_inside || n > INT_MAX || !user_may_write(fds, n * sizeof *fds))
		return false; /* the kernel has the right error */
	for (nfds_t i = 0; i < n; i++)
		if (is_engine_fd(fds[i].fd))
			return true;
	return false;
}

#define NFDS_ALWAYS 4 /* a program with a socket and the standard streams has so many: no need to ask */

static bool nfds_too_many(nfds_t n)
{
	struct rlimit limit;
	return n > NFDS_ALWAYS &&
	       sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit, 0, 0) == 0 &&
	       n > limit.rlim_cur;
}

/* With the numbers as they are now. *renumbered: they have changed since. */
static int poll_once(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, bool *renumbered)
{
	struct mixed m;
	bool moved;
	int r = mixed_begin(&m, n);
	if (r < 0)
		return r;
	for (nfds_t i = 0; i < n; i++)
		mixed_set(&m, i, fds[i].fd, fds[i].events);
	r = sock_poll(m.fds, n, timeout, mask);
	moved = r > 0 && mixed_has_moved(&m);
	*renumbered = mixed_is_renumbered(&m);
	for (nfds_t i = 0; r >= 0 && i < n; i++)
		fds[i].revents = m.fds[i].revents;
	mixed_end(&m);
	return moved ? -EAGAIN : r;
}

/*
 * Linux looks numbers up each time that it looks, also after a wait, whatever ended that: one that was closed meanwhile
 * is POLLNVAL then.
 */
static int engine_poll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	static const struct timespec at_once;
	struct span span;
	struct timespec left;
	bool renumbered, stays;
	int r;
	if (nfds_too_many(n))
		return -EINVAL;
	span_begin(&span, timeout);
	do {
		r = poll_once(fds, n, span_left(&span, &left), mask, &renumbered);
		if (r == -EAGAIN || !renumbered)
			continue;
		int found = poll_once(fds, n, &at_once, NULL, &stays);
		r = found || r <= 0 ? (found ? found : r) : -EAGAIN;
	} while (r == -EAGAIN);
	return r;
}

int wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	struct timespec ts;
	if (!any_engine_fd(fds, n))
		return REAL(poll)(fds, n, timeout_ms);
	pthread_testcancel();
	return edge(engine_poll(fds, n, timespec_from_ms(timeout_ms, &ts), NULL));
}

int wrap___poll_chk(struct pollfd *fds, nfds_t n, int timeout_ms, size_t room)
{
	if (n <= room / sizeof *fds)
		return wrap_poll(fds, n, timeout_ms);
	return REAL(__poll_chk)(fds, n, timeout_ms, room); /* does not return */
}

bool timespec_valid(const struct timespec *ts)
{
	return !ts || (ts->tv_sec >= 0 && ts->tv_nsec >= 0 && ts->tv_nsec < 1000000000);
}

int wait_is_wrong(const struct timespec *timeout, const sigset_t *mask)
{
	if (!timespec_valid(timeout))
		return -EINVAL;
	return mask && !user_may_read(mask, KERNEL_SIGSET_BYTES) ? -EFAULT : 0;
}

int wrap_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	if (!any_engine_fd(fds, n))
		return REAL(ppoll)(fds, n, timeout, mask);
	pthread_testcancel();
	int wrong = wait_is_wrong(timeout, mask);
	if (wrong)
		return edge(wrong);
	uint64_t held = wait_mask_hold(mask);
	int r = engine_poll(fds, n, timeout, mask);
	wait_mask_release(held);
	return edge(r);
}

int wrap___ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		     const sigset_t *mask, size_t room)
{
	if (n <= room / sizeof *fds)
		return wrap_ppoll(fds, n, timeout, mask);
	return REAL(__ppoll_chk)(fds, n, timeout, mask, room);
}
