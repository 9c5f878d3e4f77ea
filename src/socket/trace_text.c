#include "socket/trace_text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void add(struct trace_line *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct trace_line *l, const char *fmt, ...)
{
	va_list ap;
	size_t room = sizeof l->text - 1 - l->len; /* the newline has its place */
	va_start(ap, fmt);
	int n = vsnprintf(l->text + l->len, room, fmt, ap);
	va_end(ap);
	if (n > 0)
		l->len += (size_t)n < room ? (size_t)n : room - 1;
}

static void add_endpoint(struct trace_line *l, const struct ip_addr *a, uint16_t port)
{
	char text[IP_ADDR_STRLEN];
	bool v4 = ip_addr_is_v4(a);
	add(l, "%s%s%s:%u", v4 ? "" : "[", ip_addr_format(a, text), v4 ? "" : "]", port);
}

static void add_time(struct trace_line *l, int64_t us)
{
	if (us < USEC_PER_MSEC)
		add(l, "%d us", (int)us);
	else if (us < USEC_PER_SEC)
		add(l, "%.1f ms", us / 1e3);
	else
		add(l, "%.1f s", us / 1e6);
}

static void begin(struct trace_line *l, int64_t at_us, int pid)
{
	l->len = 0;
	add(l, "+%lld.%06lld finesse[%d] ", (long long)(at_us / USEC_PER_SEC), (long long)(at_us % USEC_PER_SEC), pid);
}

static void begin_about(struct trace_line *l, const struct trace_about *about)
{
	begin(l, about->at_us, about->pid);
	add_endpoint(l, &about->key.laddr, about->key.lport);
	add(l, about->server ? " <- " : " -> ");
	add_endpoint(l, &about->key.raddr, about->key.rport);
	add(l, " ");
}

static void end(struct trace_line *l)
{
	l->text[l->len++] = '\n';
}

static const char *side(const struct trace_about *about, bool us)
{
	return about->server == us ? "server" : "client";
}

static const char *peer(const struct trace_about *about)
{
	return side(about, false);
}

void trace_text_opened(struct trace_line *l, const struct trace_about *about, const struct tcp_status *st)
{
	begin_about(l, about);
	add(l, "opened: ISN %u, theirs %u; MSS %u announced, %u sent at most; ", st->iss, st->irs, st->mss_advertised, st->mss_snd);
	if (st->wscale)
		add(l, "window scale %u, theirs %u; ", st->rcv_wscale, st->snd_wscale);
	add(l, "%s%s%s", st->sack ? "SACK, " : "", st->timestamps ? "timestamps, " : "", st->close_request ? "close request, " : "");
	if (st->handshake_rtt_us) {
		add(l, "handshake ");
		add_time(l, st->handshake_rtt_us);
	} else {
		add(l, "handshake repeated");
	}
	end(l);
}

void trace_text_closing(struct trace_line *l, const struct trace_about *about, const struct tcp_status *st, const struct trace_close *c)
{
	begin_about(l, about);
	if (st->reset > 0) {
		add(l, "closing: RST at once");
		if (st->fin_reason == CLOSE_REASON_UNREAD)
			add(l, " (%s)", close_reason_text(st->fin_reason));
	} else if (st->hold_us) {
		add(l, "closing: our FIN waits at most ");
		add_time(l, st->hold_us);
		add(l, " (%s)", close_reason_text(st->fin_reason));
	} else {
		add(l, "closing: our FIN follows the data");
		if (about->server)
			add(l, " (%s)", close_reason_text(st->fin_reason));
	}
	end(l);
}

void trace_text_first_fin(struct trace_line *l, const struct trace_about *about, const struct tcp_status *st, const struct trace_close *c)
{
	begin_about(l, about);
	if (c->first_fin < 0) {
		add(l, "FIN: the %s's is the first", peer(about));
		if (about->server && st->hold_us)
			add(l, ", ours had waited for it");
	} else {
		add(l, "FIN: ours is the first");
		if (about->server)
			add(l, " (%s)", close_reason_text(st->fin_reason));
	}
	end(l);
}

static void add_first_fin(struct trace_line *l, const struct trace_about *about, const struct tcp_status *st, const struct trace_close *c)
{
	if (c->first_fin == 0) {
		add(l, "no FIN from either side");
		return;
	}
	if (c->first_fin > 0)
		add(l, "first FIN by us, the %s", side(about, true));
	else
		add(l, "first FIN by the %s", peer(about));
	if (about->server)
		add(l, " (%s)", c->send_closed ? close_reason_text(st->fin_reason) : "we had not closed");
}

static void add_end(struct trace_line *l, const struct trace_about *about, const struct tcp_status *st, const struct trace_close *c)
{
	if (c->end == TRACE_END_KERNEL)
		add(l, "goes on in the kernel, in %s", tcp_state_name(st->state));
	else if (c->end == TRACE_END_TIME_WAIT)
		add(l, "TIME-WAIT is ours");
	else if (st->reset && c->error == ECONNREFUSED)
		add(l, "no TIME-WAIT: %s", strerror(c->error));
	else if (st->reset)
		add(l, "no TIME-WAIT: reset by %s%s", st->reset > 0 ? "us, the " : "the ", side(about, st->reset > 0));
	else if (c->first_fin < 0 && !c->error)
		add(l, "TIME-WAIT is the %s's", peer(about));
	else
		add(l, "no TIME-WAIT: %s", c->error ? strerror(c->error) : "given up");
}

void trace_text_closed(struct trace_line *l, const struct trace_about *about, const struct tcp_status *st, const struct trace_close *c)
{
	begin_about(l, about);
	add(l, "%s: ", c->end == TRACE_END_KERNEL ? "handed over" : "closed");
	add_first_fin(l, about, st, c);
	add(l, "; %llu bytes in, %llu out", (unsigned long long)st->bytes_in, (unsigned long long)st->bytes_out);
	if (st->total_retrans)
		add(l, ", %u segments repeated", st->total_retrans);
	add(l, "; ");
	add_end(l, about, st, c);
	end(l);
}

void trace_text_fallback(struct trace_line *l, int64_t at_us, int pid, const char *what, const char *because)
{
	begin(l, at_us, pid);
	add(l, "%s stays with the kernel's TCP: %s", what, because);
	end(l);
}

void trace_text_lost(struct trace_line *l, int64_t at_us, int pid, uint64_t lost)
{
	begin(l, at_us, pid);
	add(l, "%llu lines were lost here: they were not read in time", (unsigned long long)lost);
	end(l);
}
