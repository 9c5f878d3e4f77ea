/* What `finesse trace` says: facts in, one line of text out. Pure: no clock, no I/O, nothing of the engine. */
#ifndef FINESSE_SOCKET_TRACE_TEXT_H
#define FINESSE_SOCKET_TRACE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tcp/tcp.h"

#define TRACE_LINE_BYTES 512 /* the longest line, with two IPv6 endpoints and all options, has about 350 */

/* Always ends with a newline. */
struct trace_line {
	char text[TRACE_LINE_BYTES];
	size_t len;
};

/* Which connection, and when: how every line of a connection begins. */
struct trace_about {
	int64_t at_us; /* since the trace began */
	int pid;
	struct flow_key key;
	bool server; /* the peer opened it */
};

enum trace_end {
	TRACE_END_TIME_WAIT, /* ours */
	TRACE_END_CLOSED,
	TRACE_END_KERNEL, /* handed over, in status.state */
};

/* What is known of the closing. */
struct trace_close {
	int first_fin;    /* as tcp_first_fin() */
	bool send_closed; /* our side was closed, by the application or its end */
	enum trace_end end;
	int error; /* positive errno, 0 */
};

void trace_text_opened(struct trace_line *l, const struct trace_about *about, const struct tcp_status *st);
/* The application closed or shut down: what becomes of our FIN. */
void trace_text_closing(struct trace_line *l, const struct trace_about *about, const struct tcp_status *st, const struct trace_close *c);
void trace_text_first_fin(struct trace_line *l, const struct trace_about *about, const struct tcp_status *st, const struct trace_close *c);
/* The sentence that sums a connection up. */
void trace_text_closed(struct trace_line *l, const struct trace_about *about, const struct tcp_status *st, const struct trace_close *c);
void trace_text_fallback(struct trace_line *l, int64_t at_us, int pid, const char *what, const char *why);
void trace_text_lost(struct trace_line *l, int64_t at_us, int pid, uint64_t lost);

#endif
