/*
 * Protocol readers: does the client know that it has everything, and that nothing more will come?
 *
 * A reader sees the bytes of an accepted connection in both directions, in order, as the application reads and writes
 * them, and says what they mean for a close. It is chosen by the first bytes, not by the port; it keeps no byte, never
 * changes one, and looks at none that it can count past (bodies, redis' values) nor at the rest of a line but for its
 * end. What it does not understand makes it silent for good, which is always safe: then the policy knows nothing.
 *
 * Limits: sizeof(struct reader), 64 bytes for each accepted connection; 32 pipelined HTTP requests. Time per byte is
 * constant. Pure; the caller locks.
 */
#ifndef FINESSE_STEER_READER_H
#define FINESSE_STEER_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tcp/close_policy.h"

enum reader_kind {
	READER_KIND_UNDECIDED, /* zero: a fresh one */
	READER_KIND_HTTP,
	READER_KIND_LINES, /* redis, memcached, SMTP, LMTP, FTP, POP3, IMAP */
	READER_KIND_TLS_MAYBE, /* the first byte was a record's type */
	READER_KIND_TLS,
	READER_KIND_SILENT, /* for good */
};

/* Words are matched as they come: which of a list still fit, and how far. */
struct word_match {
	uint16_t mask;
	uint8_t pos;
};

/* One direction of HTTP/1.x. */
struct http_half {
	uint64_t left; /* of a body or chunk; digits while they are read */
	struct word_match match;
	uint8_t state, header;
	uint8_t minor;  /* of HTTP/1.x */
	uint16_t flags; /* of the message */
	uint16_t status;
};

/* One direction of a protocol of lines. */
struct line_half {
	uint64_t left; /* of a value of RESP, digits while they are read; of the first word, how long it may yet become */
	struct word_match match;
	uint8_t state;
	uint8_t last; /* what the last complete line was */
	bool resp;    /* "$N" announces a value of N bytes */
};

struct reader {
	uint8_t kind;
	bool speaks_first; /* the server did */
	bool seen;         /* HTTP: a request; lines: the announcement that the server will close */
	uint8_t n_requests;
	/* HTTP requests without their response yet, oldest in bit 0. */
	uint32_t head, close;
	union {
		struct {
			struct http_half in, out;
		} http;
		struct {
			struct line_half in, out;
		} lines;
	};
};

static inline bool reader_is_silent(const struct reader *r)
{
	return r->kind >= READER_KIND_TLS;
}

/* What the application read from the client, and what it wrote to it. */
void reader_in(struct reader *r, const void *bytes, size_t n);
void reader_out(struct reader *r, const void *bytes, size_t n);
/* Bytes passed that nobody can look at (MSG_TRUNC). */
static inline void reader_lost(struct reader *r)
{
	if (r->kind != READER_KIND_TLS)
		r->kind = READER_KIND_SILENT;
}
enum reader_says reader_says(const struct reader *r);

#endif
