/* Chooses the reader by the first byte of a connection, and hands the bytes on. */
#include "steer/reader_internal.h"

#define TLS_FIRST 20 /* change_cipher_spec … */
#define TLS_LAST  23 /* … application_data */
#define TLS_MAJOR 3

static bool is_upper(uint8_t c)
{
	return c >= 'A' && c <= 'Z';
}

/*
 * The client speaks first: HTTP and redis' inline commands begin with a capital (an unknown method becomes lines within
 * http_in), RESP with '*', memcached's words are in lower case. The server speaks first: a code of three digits, "+OK",
 * "* OK". (A first word that is none becomes silent within lines_in and lines_out.)
 */
static enum reader_kind kind_of(bool in, uint8_t c)
{
	if (c >= TLS_FIRST && c <= TLS_LAST)
		return READER_KIND_TLS_MAYBE;
	if (in && (is_upper(c) || c == '\r' || c == '\n')) /* empty lines before a request: RFC 9112 §2.2 */
		return READER_KIND_HTTP;
	if (c == '*' || (in ? c >= 'a' && c <= 'z' : c == '+' || c == '2' || c == '4'))
		return READER_KIND_LINES;
	return READER_KIND_SILENT;
}

/* A record's second byte, of either side: the version's major number. */
static void see_version(struct reader *r, const uint8_t *p, size_t n, bool first)
{
	size_t at = first; /* the type was this piece's first byte */
	if (n > at)
		r->kind = p[at] == TLS_MAJOR ? READER_KIND_TLS : READER_KIND_SILENT;
}

static void choose(struct reader *r, bool in, uint8_t c)
{
	r->speaks_first = !in;
	r->kind = kind_of(in, c);
	if (r->kind == READER_KIND_HTTP)
		http_start(r);
	else if (r->kind == READER_KIND_LINES)
		lines_start(r, in && c == '*');
}

static void feed(struct reader *r, bool in, const uint8_t *bytes, size_t n)
{
	if (n == 0 || reader_is_silent(r))
		return;
	bool first = r->kind == READER_KIND_UNDECIDED;
	if (first)
		choose(r, in, *bytes);
	if (r->kind == READER_KIND_TLS_MAYBE && r->speaks_first == !in)
		see_version(r, bytes, n, first);
	if (r->kind == READER_KIND_HTTP)
		(in ? http_in : http_out)(r, bytes, n);
	else if (r->kind == READER_KIND_LINES)
		(in ? lines_in : lines_out)(r, bytes, n);
}

void reader_in(struct reader *r, const void *bytes, size_t n)
{
	feed(r, true, bytes, n);
}

void reader_out(struct reader *r, const void *bytes, size_t n)
{
	feed(r, false, bytes, n);
}

enum reader_says reader_says(const struct reader *r)
{
	switch ((enum reader_kind)r->kind) {
	case READER_KIND_HTTP:
		return http_says(r);
	case READER_KIND_LINES:
		return lines_says(r);
	case READER_KIND_TLS:
		return READER_TLS;
	case READER_KIND_UNDECIDED:
	case READER_KIND_TLS_MAYBE:
	case READER_KIND_SILENT:
		break;
	}
	return READER_SILENT;
}
