/*
 * The setting `trace`: each connection's opening and closing, told in words, one line each, to a file.
 *
 * Owns one fd, opened when the first line is due and kept among our own. A line goes by one write, so that lines of several processes and threads do not mix; a pipe that is full is not
 * waited for: the line is lost, and the next one says how many were. When nothing is traced this costs one comparison per connection. Under the engine's lock.
 */
#include "socket/engine.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 512

static int trace_fd = -1;
static bool trace_failed;
static unsigned trace_lost;

static bool is_traced(struct engine *e)
{
	if (trace_fd >= 0)
		return true;
	if (!e->settings.trace[0] || trace_failed)
		return false;
	trace_fd = fd_move_high(sys_openat(AT_FDCWD, e->settings.trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0644));
	trace_failed = trace_fd < 0;
	if (trace_failed)
		log_warn("trace", "%s: %s", e->settings.trace, strerror(-trace_fd));
	return !trace_failed;
}

void trace_after_fork(void)
{
	fd_close(trace_fd); /* the child opens its own: the offset is the file's end */
	trace_fd = -1;
}

struct line {
	char text[LINE_BYTES];
	size_t n;
};

static void add(struct line *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct line *l, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(l->text + l->n, sizeof l->text - l->n, fmt, ap);
	va_end(ap);
	if (n > 0)
		l->n += (size_t)n < sizeof l->text - l->n ? (size_t)n : sizeof l->text - l->n - 1;
}

static void add_endpoint(struct line *l, const struct ip_addr *a, uint16_t port)
{
	char text[IP_ADDR_STRLEN];
	bool v6 = !ip_addr_is_v4(a);
	add(l, "%s%s%s:%u", v6 ? "[" : "", ip_addr_format(a, text), v6 ? "]" : "", port);
}

static void add_time(struct line *l, int64_t us)
{
	if (us < USEC_PER_MSEC)
		add(l, "%d us", (int)us);
	else if (us < USEC_PER_SEC)
		add(l, "%.1f ms", us / 1e3);
	else
		add(l, "%.1f s", us / 1e6);
}

static void begin(struct line *l, const struct sock *s)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	l->n = 0;
	if (trace_lost)
		add(l, "finesse: %u lines lost\n", trace_lost);
	add(l, "%02d:%02d:%02d.%06ld finesse[%d] ", (int)(ts.tv_sec / 3600 % 24), (int)(ts.tv_sec / 60 % 60), (int)(ts.tv_sec % 60), ts.tv_nsec / 1000,
	    (int)getpid());
	add_endpoint(l, &s->flow.key.laddr, s->flow.key.lport);
	add(l, s->accepted || s->listener ? " <- " : " -> ");
	add_endpoint(l, &s->flow.key.raddr, s->flow.key.rport);
	add(l, " ");
}

static void end(struct line *l)
{
	if (l->n > sizeof l->text - 2)
		l->n = sizeof l->text - 2;
	l->text[l->n++] = '\n';
	ssize_t n = sys_write(trace_fd, l->text, l->n);
	if (n >= 0)
		trace_lost = 0;
	else
		trace_lost++;
}

void trace_opened(struct engine *e, struct sock *s)
{
	struct line l;
	struct tcp_status st;
	if (!is_traced(e))
		return;
	tcp_get_status(&s->tcp, &st);
	begin(&l, s);
	add(&l, "opened: ISN %u, theirs %u; MSS %u, theirs %u; ", st.iss, st.irs, st.mss_advertised, st.mss_snd);
	if (st.wscale)
		add(&l, "window scale %u, theirs %u; ", st.rcv_wscale, st.snd_wscale);
	add(&l, "%s%s%s", st.sack ? "SACK, " : "", st.timestamps ? "timestamps, " : "", st.close_request ? "close request, " : "");
	if (st.handshake_rtt_us) {
		add(&l, "handshake ");
		add_time(&l, st.handshake_rtt_us);
	} else {
		add(&l, "handshake repeated");
	}
	end(&l);
}

static void add_first_fin(struct line *l, struct sock *s)
{
	int who = tcp_first_fin(&s->tcp);
	if (who == 0)
		add(l, "no FIN from either side");
	else if (s->accepted || s->listener)
		add(l, "first FIN by %s (%s)", who > 0 ? "us, the server" : "the client",
		    tcp_send_closed(&s->tcp) ? close_reason_text(tcp_close_reason(&s->tcp)) : "we had not closed");
	else
		add(l, "first FIN by %s", who > 0 ? "us, the client" : "the server");
}

/* The protocol is done; the socket may still be there. */
void trace_closed(struct engine *e, struct sock *s)
{
	struct line l;
	struct tcp_status st;
	if (!is_traced(e) || s->traced_closed)
		return;
	s->traced_closed = true;
	tcp_get_status(&s->tcp, &st);
	begin(&l, s);
	add(&l, "closed: ");
	add_first_fin(&l, s);
	add(&l, "; %llu bytes in, %llu out", (unsigned long long)st.bytes_in, (unsigned long long)st.bytes_out);
	if (st.total_retrans)
		add(&l, ", %u segments repeated", st.total_retrans);
	enum tcp_state state = tcp_state(&s->tcp);
	if (state != TCPS_CLOSED && state != TCPS_TIME_WAIT)
		add(&l, "; goes on in the kernel, in %s", tcp_state_name(state));
	else if (s->ends_in_time_wait)
		add(&l, "; TIME-WAIT is ours");
	else if (tcp_first_fin(&s->tcp) < 0)
		add(&l, "; TIME-WAIT is the %s's", s->accepted || s->listener ? "client" : "server");
	else
		add(&l, "; no TIME-WAIT: %s", tcp_error(&s->tcp) ? strerror(tcp_error(&s->tcp)) : "reset or given up");
	end(&l);
}

void trace_fallback(struct engine *e, const char *what, const char *why)
{
	struct line l = {.n = 0};
	if (!is_traced(e))
		return;
	add(&l, "finesse[%d] %s stays with the kernel's TCP: %s", (int)getpid(), what, why);
	end(&l);
}
