#include "socket/trace_queue.h"

#include <string.h>

bool trace_queue_push(struct trace_queue *q, const char *line, size_t n)
{
	if (n > sizeof q->bytes - q->len) {
		q->lost++;
		return false;
	}
	if (q->head + q->len + n > sizeof q->bytes) {
		memmove(q->bytes, q->bytes + q->head, q->len);
		q->head = 0;
	}
	memcpy(q->bytes + q->head + q->len, line, n);
	q->len += n;
	return true;
}

size_t trace_queue_peek(const struct trace_queue *q, const char **bytes)
{
	size_t n = q->len < TRACE_WRITE_BYTES ? q->len : TRACE_WRITE_BYTES;
	*bytes = q->bytes + q->head;
	if (n == q->len)
		return n;
	const char *last = memrchr(*bytes, '\n', n);
	return last ? (size_t)(last - *bytes) + 1 : n;
}

void trace_queue_pop(struct trace_queue *q, size_t n)
{
	q->head += n;
	q->len -= n;
	if (!q->len)
		q->head = 0;
}
