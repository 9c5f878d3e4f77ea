/*
 * The setting `trace`: each connection's opening and closing, told in words, a line per event and one that sums the
 * connection up.
 *
 * Owns: one fd, opened when the program is loaded (it may drop privileges, change its root or its standard error later)
 * and kept among our own; a queue of lines (trace_queue.c) and a lock for both, because fall-backs happen without the
 * engine's. What the lines say is trace_text.c's.
 *
 * Events: hooks in the engine, each behind `trace_on`. A line is queued at its event; the queue goes out at the turn's
 * end, and what a pipe or terminal does not take stays queued and is tried again after RETRY_US. Nothing here waits,
 * but for trace_drain at exit, which is bounded.
 *
 * Limits: lines beyond the queue are counted, and the count is told in their place. What SIGKILL meets in the queue is
 * lost. The reader's going away (EPIPE) ends the trace and not the program: SIGPIPE and SIGXFSZ that our own write
 * causes are taken back.
 */
#include "socket/engine.h"
#include "socket/trace.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/quiet.h"
#include "base/sys.h"
#include "socket/trace_queue.h"
#include "socket/trace_text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STANDARD_ERROR "/dev/stderr"
#define RETRY_US       (10 * USEC_PER_MSEC)
#define DRAIN_MS       1000

bool trace_on;

static pthread_mutex_t trace_lock = PTHREAD_MUTEX_INITIALIZER;
static struct trace_queue queue;
static int trace_fd = -1;
static bool is_socket; /* sent to, not written */
static bool may_block; /* could not be opened anew: asked by poll before each write */
static int64_t began_us;
static _Atomic int64_t retry_us = TIME_NEVER;

/* ---- the fd ---- */

/*
 * The program's standard error: a regular file shares its offset with it; anything else is opened anew, so that only we
 * do not block.
 */
static int open_standard_error(void)
{
	struct stat st;
	int err = sys_fstat(STDERR_FILENO, &st);
	if (err)
		return err;
	is_socket = S_ISSOCK(st.st_mode);
	if (!is_socket && !S_ISREG(st.st_mode)) {
		int fd = sys_openat(AT_FDCWD, "/proc/self/fd/2", O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
		if (fd >= 0)
			return fd;
		may_block = true;
	}
	return sys_fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
}

void trace_open(const struct settings *settings)
{
	if (!settings->trace[0] || trace_on)
		return;
	int fd;
	if (strcmp(settings->trace, STANDARD_ERROR) == 0)
		fd = open_standard_error();
	else
		fd = sys_openat(AT_FDCWD, settings->trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
	trace_fd = fd_move_high(fd);
	if (trace_fd < 0) {
		log_warn("trace", "%s: %s", settings->trace, strerror(-trace_fd));
		return;
	}
	began_us = clock_now_us();
	trace_on = true;
}

/* The child goes on with the same file; what is queued is the parent's to write. */
void trace_after_fork(void)
{
	pthread_mutex_init(&trace_lock, NULL);
	queue.head = queue.len = queue.lost = 0;
	retry_us = TIME_NEVER;
}

static ssize_t write_some(const char *bytes, size_t n)
{
	const struct timespec at_once = {0};
	if (is_socket)
		return sys_sendto(trace_fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
	if (may_block) {
		struct pollfd p = {.fd = trace_fd, .events = POLLOUT};
		if (sys_ppoll(&p, 1, &at_once, NULL) == 0)
			return -EAGAIN;
	}
	return write_quietly(trace_fd, bytes, n);
}

static void give_up(int err)
{
	if (err != EPIPE) /* standard error may be what nobody reads any more: a warning there would meet the same SIGPIPE */
		log_warn("trace", "the trace ends here: %s", strerror(err));
	trace_on = false;
	retry_us = TIME_NEVER;
}

/* Trace lock held. */
static void flush_locked(void)
{
	const char *bytes;
	size_t n;
	retry_us = TIME_NEVER;
	while ((n = trace_queue_peek(&queue, &bytes))) {
		ssize_t w = write_some(bytes, n);
		if (w > 0) {
			trace_queue_pop(&queue, w);
		} else if (w == -EAGAIN) {
			retry_us = clock_now_us() + RETRY_US;
			return;
		} else if (w != -EINTR) {
			return give_up(-w);
		}
	}
}

static int64_t age_us(void)
{
	return clock_now_us() - began_us;
}

/* Trace lock held. The number of lines that were lost goes where they would have been. */
static void tell_lost(void)
{
	struct trace_line l;
	uint64_t lost = queue.lost;
	if (!lost)
		return;
	trace_text_lost(&l, age_us(), getpid(), lost);
	queue.lost = 0;
	if (!trace_queue_push(&queue, l.text, l.len))
		queue.lost = lost;
}

void trace_flush(void)
{
	pthread_mutex_lock(&trace_lock);
	if (queue.len && (retry_us == TIME_NEVER || clock_now_us() >= retry_us)) {
		flush_locked();
		if (queue.lost && trace_on) {
			tell_lost();
			flush_locked();
		}
	}
	pthread_mutex_unlock(&trace_lock);
}

int64_t trace_deadline(void)
{
	return retry_us;
}

void trace_drain(void)
{
	int64_t until = clock_now_us() + DRAIN_MS * USEC_PER_MSEC;
	if (!trace_on)
		return;
	pthread_mutex_lock(&trace_lock);
	do {
		struct pollfd p = {.fd = trace_fd, .events = POLLOUT};
		const struct timespec step = {.tv_nsec = RETRY_US * NSEC_PER_USEC};
		flush_locked();
		tell_lost();
		if (!trace_on || !queue.len)
			break;
		sys_ppoll(&p, 1, &step, NULL);
	} while (clock_now_us() < until);
	pthread_mutex_unlock(&trace_lock);
}

/* ---- the events ---- */

static void tell(const struct trace_line *l)
{
	pthread_mutex_lock(&trace_lock);
	tell_lost();
	if (queue.lost)
		queue.lost++; /* in order: nothing after what was lost before that is told */
	else
		trace_queue_push(&queue, l->text, l->len);
	pthread_mutex_unlock(&trace_lock);
}

static struct trace_about about(const struct sock *s)
{
	return (struct trace_about){.at_us = age_us(), .pid = getpid(), .key = s->flow.key, .server = s->accepted || s->listener};
}

static struct trace_close close_of(const struct sock *s)
{
	struct trace_close c = {.first_fin = tcp_first_fin(&s->tcp), .send_closed = tcp_send_closed(&s->tcp), .error = tcp_error(&s->tcp)};
	enum tcp_state state = tcp_state(&s->tcp);
	c.end = s->ends_in_time_wait                                ? TRACE_END_TIME_WAIT
		: state == TCPS_CLOSED || state == TCPS_TIME_WAIT ? TRACE_END_CLOSED
								  : TRACE_END_KERNEL;
	return c;
}

typedef void trace_text_fn(struct trace_line *l, const struct trace_about *about, const struct tcp_status *st, const struct trace_close *c);

static void tell_close(const struct sock *s, trace_text_fn *text)
{
	struct trace_about a = about(s);
	struct trace_close c = close_of(s);
	struct trace_line l;
	struct tcp_status st;
	tcp_get_status(&s->tcp, &st);
	text(&l, &a, &st, &c);
	tell(&l);
}

void trace_opened(struct sock *s)
{
	struct trace_about a = about(s);
	struct trace_line l;
	struct tcp_status st;
	tcp_get_status(&s->tcp, &st);
	trace_text_opened(&l, &a, &st);
	tell(&l);
}

static void step_closing(struct sock *s)
{
	if (s->traced_closing || !tcp_send_closed(&s->tcp))
		return;
	s->traced_closing = true;
	tell_close(s, trace_text_closing);
}

void trace_steps(struct sock *s)
{
	if (s->kind != SOCK_KIND_CONN || s->traced_closed)
		return;
	int who = s->traced_fin ? 0 : tcp_first_fin(&s->tcp);
	if (who > 0)
		step_closing(s);
	if (who) {
		s->traced_fin = true;
		tell_close(s, trace_text_first_fin);
	}
	step_closing(s);
}

void trace_closed(struct sock *s)
{
	if (s->traced_closed)
		return;
	trace_steps(s);
	s->traced_closed = true;
	tell_close(s, trace_text_closed);
}

void trace_fallback(const char *what, const char *why)
{
	struct trace_line l;
	trace_text_fallback(&l, age_us(), getpid(), what, why);
	tell(&l);
	trace_flush();
}
