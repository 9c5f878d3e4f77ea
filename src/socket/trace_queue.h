/*
 * Lines of `finesse trace` on their way out: a bounded queue of bytes, whole lines or nothing; what does not fit is
 * counted. Pure, fixed memory.
 */
#ifndef FINESSE_SOCKET_TRACE_QUEUE_H
#define FINESSE_SOCKET_TRACE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_QUEUE_BYTES (256 * 1024) /* some thousand lines */
#define TRACE_WRITE_BYTES 4096         /* PIPE_BUF: a pipe takes that much in one piece or not at all */

struct trace_queue {
	size_t head, len; /* in bytes[]: what is not yet written, in one piece */
	uint64_t lost;    /* lines refused since lost was last told */
	char bytes[TRACE_QUEUE_BYTES];
};

/* False: no room, and the line is counted as lost. */
bool trace_queue_push(struct trace_queue *q, const char *line, size_t n);
/* The next bytes to write: whole lines, at most TRACE_WRITE_BYTES. 0: nothing. */
size_t trace_queue_peek(const struct trace_queue *q, const char **bytes);
void trace_queue_pop(struct trace_queue *q, size_t n);

#endif
