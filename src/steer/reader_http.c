/*
 * HTTP/1.0 and 1.1 (RFC 9112), as far as the end of messages: is the response complete, and does the client know that
 * it is the last?
 *
 * The requests are read, too, because a response to HEAD has no body, and because HTTP/1.0 without keep-alive makes its
 * response the last. Each waits in a queue of two bits for its response. Complete, and the response said that it is the
 * last: READER_MESSAGE_OVER. A body that ends with the connection, one that is not complete, or a request without
 * answer: READER_EOF_DELIMITED, the client waits for us. Complete, and not said to be the last: READER_KEPT_ALIVE, the
 * client may send the next request at any moment and would lose it. That the request said "Connection: close" is not
 * enough: the header may be a user's, of which his client knows nothing (curl -H).
 *
 * Silent for good: another protocol after 101 or CONNECT, HTTP/2's preface, a header section that contradicts itself,
 * more pipelined requests than the queue holds, a response without a request, HTTP/0.9.
 *
 * Bodies are passed over by count, and of a header section what no rule is about (values of other headers, the rest of
 * their names, the target) by a search for its end; the rest is looked at byte by byte. The usual case has a short way:
 * a line that is all there, and as it should be, is taken at once (take_line). It says what the bytes would say; what
 * it does not know it leaves to them.
 */
#include "steer/http_scan.h"
#include "steer/reader_internal.h"

#include <string.h>

#define REQUESTS_MAX 32

enum http_state {
	HTTP_FIRST, /* the method, or "HTTP/1.x" of a status line */
	HTTP_TARGET,
	HTTP_STATUS,
	HTTP_REASON,
	HTTP_NAME, /* of a header; at its start, an empty line ends the section */
	HTTP_VALUE,
	HTTP_LINE_END, /* after a value's line: a blank here folds it */
	HTTP_BODY,
	HTTP_CHUNK_SIZE,
	HTTP_CHUNK_EXT,
	HTTP_CHUNK,
	HTTP_CHUNK_CR,
	HTTP_TRAILER,      /* at the start of a line */
	HTTP_TRAILER_LINE,
	HTTP_UNTIL_EOF,
};

/* Flags of a message. */
enum {
	HAS_LENGTH = 1,
	CHUNKED = 2,      /* the last transfer coding so far */
	HAS_CODING = 4,
	CLOSE = 8,
	KEEP_ALIVE = 16,
	DIGITS = 32,      /* some were read in this number */
	NUMBER_OVER = 64, /* a blank came after them */
	IS_HEAD = 128,
	IS_CONNECT = 256,
	BLANK_LINE = 512, /* so far nothing in this line but CR */
	AFTER_CR = 1024,
};

enum { METHOD_HEAD, METHOD_CONNECT, METHOD_PRI, METHOD_KNOWN };
static const char *const methods[] = {[METHOD_HEAD] = "HEAD", [METHOD_CONNECT] = "CONNECT", [METHOD_PRI] = "PRI", "GET",
				      "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "MKCOL", "COPY", "MOVE"};
#define METHODS (sizeof methods / sizeof methods[0])
static const char *const versions[] = {"HTTP/1.0", "HTTP/1.1"};
enum { HEADER_LENGTH, HEADER_CODING, HEADER_CONNECTION, HEADERS, HEADER_OTHER = HEADERS };
static const char *const headers[HEADERS] = {[HEADER_LENGTH] = "content-length", [HEADER_CODING] = "transfer-encoding",
					     [HEADER_CONNECTION] = "connection"};
static const uint8_t header_lens[HEADERS] = {[HEADER_LENGTH] = 14, [HEADER_CODING] = 17, [HEADER_CONNECTION] = 10};
enum { TOKEN_CLOSE, TOKEN_KEEP_ALIVE, TOKEN_CHUNKED, TOKENS };
static const char *const tokens[TOKENS] = {[TOKEN_CLOSE] = "close", [TOKEN_KEEP_ALIVE] = "keep-alive", [TOKEN_CHUNKED] = "chunked"};

static void half_start(struct http_half *h, bool response)
{
	*h = (struct http_half){.state = HTTP_FIRST, .header = HEADER_OTHER};
	word_start(&h->match, response ? 2 : METHODS);
}

void http_start(struct reader *r)
{
	half_start(&r->http.in, false);
	half_start(&r->http.out, true);
}

static void silence(struct reader *r)
{
	r->kind = READER_KIND_SILENT;
}

/* ---- requests waiting for their response ---- */

static void request_push(struct reader *r, bool head, bool close)
{
	if (r->n_requests == REQUESTS_MAX) {
		silence(r);
		return;
	}
	r->head |= (uint32_t)head << r->n_requests;
	r->close |= (uint32_t)close << r->n_requests;
	r->n_requests++;
}

static void request_pop(struct reader *r)
{
	r->n_requests--;
	r->head >>= 1;
	r->close >>= 1;
}

/* ---- the end of a header section ---- */

static bool is_last(const struct http_half *h)
{
	return h->flags & CLOSE || (h->minor == 0 && !(h->flags & KEEP_ALIVE));
}

/* A coding overrides a length. */
static void body_start(struct http_half *h, bool response)
{
	if (h->flags & CHUNKED) {
		h->state = HTTP_CHUNK_SIZE;
		h->left = 0;
		h->flags &= (uint16_t)~(DIGITS | NUMBER_OVER);
	} else if (h->flags & HAS_LENGTH) {
		h->state = HTTP_BODY;
	} else if (response) {
		h->state = HTTP_UNTIL_EOF;
	} else {
		h->left = 0;
		h->state = HTTP_BODY;
	}
}

/* RFC 9112 §6.3, the requests' half. */
static void request_headers_end(struct reader *r, struct http_half *h)
{
	if ((h->flags & HAS_CODING && !(h->flags & CHUNKED)) || (h->flags & HAS_CODING && h->flags & HAS_LENGTH)) {
		silence(r); /* "cannot be determined reliably" */
		return;
	}
	request_push(r, h->flags & IS_HEAD, h->minor == 0 && !(h->flags & KEEP_ALIVE));
	body_start(h, false);
}

static void response_headers_end(struct reader *r, struct http_half *h)
{
	bool close = r->close & 1, head = r->head & 1;
	if (h->status == 101 || (r->http.in.flags & IS_CONNECT && h->status / 100 == 2)) {
		silence(r); /* another protocol from here on */
		return;
	}
	if (h->status / 100 == 1) { /* an interim response: the real one follows */
		half_start(h, true);
		return;
	}
	if (close)
		h->flags |= CLOSE;
	if (head || h->status == 204 || h->status == 304) {
		h->left = 0;
		h->state = HTTP_BODY;
	} else if (h->flags & HAS_CODING && !(h->flags & CHUNKED)) {
		h->state = HTTP_UNTIL_EOF;
	} else {
		body_start(h, true);
	}
}

static void headers_end(struct reader *r, struct http_half *h, bool response)
{
	if (h->flags & HAS_CODING && h->minor == 0)
		silence(r); /* RFC 9112 §6.1: faulty framing */
	else if (response)
		response_headers_end(r, h);
	else
		request_headers_end(r, h);
}

/*
 * The message is complete. What remains of a response is whether it was the last: HTTP_FIRST, and the flags of before.
 */
static void message_end(struct reader *r, struct http_half *h, bool response)
{
	bool last = is_last(h);
	uint16_t connect = h->flags & IS_CONNECT;
	half_start(h, response);
	if (response) {
		request_pop(r);
		h->flags = last ? CLOSE : KEEP_ALIVE;
	} else {
		h->flags = connect; /* its response has yet to come */
	}
}

/* ---- header lines ---- */

static void digit(struct reader *r, struct http_half *h, unsigned value, unsigned base)
{
	if (h->flags & NUMBER_OVER || h->left > (UINT64_MAX - value) / base) {
		silence(r);
		return;
	}
	h->left = h->left * base + value;
	h->flags |= DIGITS;
}

static void length_byte(struct reader *r, struct http_half *h, uint8_t c)
{
	if (c >= '0' && c <= '9')
		digit(r, h, c - '0', 10);
	else if (c != ' ' && c != '\t')
		silence(r); /* a list, a sign: who knows what the client makes of it */
	else if (h->flags & DIGITS)
		h->flags |= NUMBER_OVER;
}

static void token_end(struct http_half *h)
{
	int token = h->match.pos ? word_end(&h->match, tokens) : WORD_NONE;
	bool some = h->match.pos || !h->match.mask;
	if (h->header == HEADER_CODING && some) {
		h->flags |= HAS_CODING;
		h->flags &= (uint16_t)~CHUNKED;
		if (token == TOKEN_CHUNKED)
			h->flags |= CHUNKED;
	} else if (h->header == HEADER_CONNECTION) {
		h->flags |= token == TOKEN_CLOSE ? CLOSE : token == TOKEN_KEEP_ALIVE ? KEEP_ALIVE : 0;
	}
	word_start(&h->match, TOKENS);
}

static void token_byte(struct http_half *h, uint8_t c)
{
	if (c == ',' || ((c == ' ' || c == '\t') && (h->match.pos || !h->match.mask))) {
		if (c == ',')
			token_end(h);
		/*
		 * a blank within: parameters, or before the comma; the word is over, and what follows is not part of it
		 */
		else if (word_end(&h->match, tokens) == WORD_NONE)
			h->match.mask = 0;
	} else if (c != ' ' && c != '\t') {
		word_byte(&h->match, tokens, TOKENS, lower(c));
	}
}

static void value_end(struct reader *r, struct http_half *h)
{
	if (h->header == HEADER_LENGTH) {
		if (!(h->flags & DIGITS))
			silence(r);
		h->flags |= HAS_LENGTH;
	} else if (h->header != HEADER_OTHER) {
		token_end(h);
	}
}

static void name_end(struct reader *r, struct http_half *h)
{
	int header = word_end(&h->match, headers);
	h->header = header == WORD_NONE ? HEADER_OTHER : (uint8_t)header;
	h->state = HTTP_VALUE;
	if (header == HEADER_LENGTH) {
		if (h->flags & HAS_LENGTH)
			silence(r); /* twice */
		h->left = 0;
		h->flags &= (uint16_t)~(DIGITS | NUMBER_OVER);
	} else {
		word_start(&h->match, TOKENS);
	}
}

static void name_start(struct http_half *h)
{
	h->state = HTTP_NAME;
	h->flags |= BLANK_LINE;
	word_start(&h->match, HEADERS);
}

static void name_byte(struct reader *r, struct http_half *h, uint8_t c, bool response)
{
	if (c == '\n') {
		if (h->flags & BLANK_LINE)
			headers_end(r, h, response);
		else
			silence(r); /* a line without a colon */
	} else if (c == ':') {
		name_end(r, h);
	} else if (c == ' ' || c == '\t') {
		silence(r); /* RFC 9112 §5.1: recipients differ over a blank here */
	} else if (c != '\r') {
		h->flags &= (uint16_t)~BLANK_LINE;
		word_byte(&h->match, headers, HEADERS, lower(c));
	}
}

static void value_byte(struct reader *r, struct http_half *h, uint8_t c)
{
	if (c == '\n')
		h->state = HTTP_LINE_END;
	else if (c == '\r' || h->header == HEADER_OTHER)
		return;
	else if (h->header == HEADER_LENGTH)
		length_byte(r, h, c);
	else
		token_byte(h, c);
}

/* ---- first lines ---- */

/*
 * A first word that is no method of HTTP: another protocol that speaks in words, redis' inline commands for one. p[0]
 * is where they part; what was before of the word is the beginning of no word of theirs.
 */
static void first_is_no_method(struct reader *r, const uint8_t *p, size_t n)
{
	bool at_start = r->http.in.match.pos == 0;
	if (r->seen) {
		silence(r);
		return;
	}
	r->kind = READER_KIND_LINES;
	lines_start(r, false);
	if (!at_start)
		word_start(&r->lines.in.match, 0);
	lines_in(r, p, n);
}

static void method_end(struct reader *r, struct http_half *h)
{
	int method = word_end(&h->match, methods);
	h->flags = 0;
	r->seen = true;
	if (method == METHOD_PRI)
		silence(r); /* HTTP/2 */
	else if (method == METHOD_HEAD)
		h->flags |= IS_HEAD;
	else if (method == METHOD_CONNECT)
		h->flags |= IS_CONNECT;
	h->state = HTTP_TARGET;
	h->match.mask = 0;
}

/* A byte of a request's first word, *p of the n that are there. */
static void method_byte(struct reader *r, struct http_half *h, const uint8_t *p, size_t n)
{
	struct word_match before = h->match;
	if (*p == ' ') {
		if (word_end(&h->match, methods) == WORD_NONE)
			first_is_no_method(r, p, n);
		else
			method_end(r, h);
	} else if (h->match.pos || (*p != '\r' && *p != '\n')) { /* empty lines before a request are passed over: RFC 9112 §2.2 */
		word_byte(&h->match, methods, METHODS, *p);
		if (!h->match.mask) {
			h->match = before;
			first_is_no_method(r, p, n);
		}
	}
}

/* The version is the last word of the line. */
static void target_byte(struct reader *r, struct http_half *h, uint8_t c)
{
	if (c == '\n') {
		int version = word_end(&h->match, versions);
		if (version == WORD_NONE) {
			silence(r);
			return;
		}
		h->minor = (uint8_t)version;
		name_start(h);
	} else if (c == ' ') {
		word_start(&h->match, 2);
	} else if (c != '\r') {
		word_byte(&h->match, versions, 2, c);
	}
}

static void status_line_byte(struct reader *r, struct http_half *h, uint8_t c)
{
	if (h->state == HTTP_FIRST) {
		if (c != ' ') {
			word_byte(&h->match, versions, 2, c);
			if (!h->match.mask)
				silence(r);
			return;
		}
		int version = word_end(&h->match, versions);
		if (version == WORD_NONE || !r->n_requests) {
			silence(r);
			return;
		}
		h->minor = (uint8_t)version;
		h->flags = 0;
		h->status = 0;
		h->state = HTTP_STATUS;
	} else if (c >= '0' && c <= '9' && h->status < 100) {
		h->status = (uint16_t)(h->status * 10 + (c - '0'));
	} else if (h->status < 100 || (c != ' ' && c != '\r' && c != '\n')) {
		silence(r);
	} else if (c == '\n') {
		name_start(h);
	} else {
		h->state = HTTP_REASON;
	}
}

/* ---- chunks, RFC 9112 §7.1 ---- */

static void chunk_size_end(struct reader *r, struct http_half *h)
{
	if (!(h->flags & DIGITS)) {
		silence(r);
		return;
	}
	h->state = h->left ? HTTP_CHUNK : HTTP_TRAILER;
}

static void chunk_byte(struct reader *r, struct http_half *h, uint8_t c, bool response)
{
	switch (h->state) {
	case HTTP_CHUNK_SIZE: {
		int value = scan_hex(c);
		if (value >= 0)
			digit(r, h, (unsigned)value, 16);
		else if (c == '\n')
			chunk_size_end(r, h);
		else if (c == ';' || c == ' ' || c == '\t')
			h->state = HTTP_CHUNK_EXT;
		else if (c != '\r')
			silence(r);
		break;
	}
	case HTTP_CHUNK_EXT:
		if (c == '\n')
			chunk_size_end(r, h);
		break;
	case HTTP_CHUNK_CR:
		if (c == '\n') {
			h->state = HTTP_CHUNK_SIZE;
			h->left = 0;
			h->flags &= (uint16_t)~(DIGITS | NUMBER_OVER);
		} else if (c != '\r') {
			silence(r);
		}
		break;
	case HTTP_TRAILER:
		if (c == '\n')
			message_end(r, h, response);
		else if (c != '\r')
			h->state = HTTP_TRAILER_LINE;
		break;
	default: /* HTTP_TRAILER_LINE */
		if (c == '\n')
			h->state = HTTP_TRAILER;
		break;
	}
}

/* ---- the machine ---- */

/* A CR that ends no line is a blank to some, nothing to others (RFC 9112 §2.2). */
static bool is_bare_cr(struct http_half *h, uint8_t c)
{
	bool bare = h->flags & AFTER_CR && c != '\n';
	h->flags = (uint16_t)(c == '\r' ? h->flags | AFTER_CR : h->flags & ~AFTER_CR);
	return bare;
}

static void head_byte(struct reader *r, struct http_half *h, uint8_t c, bool response)
{
	if (is_bare_cr(h, c)) {
		silence(r);
		return;
	}
	switch (h->state) {
	case HTTP_NAME:
		name_byte(r, h, c, response);
		break;
	case HTTP_VALUE:
		value_byte(r, h, c);
		break;
	case HTTP_LINE_END:
		if (c == ' ' || c == '\t') { /* obs-fold: the value goes on */
			h->state = HTTP_VALUE;
			value_byte(r, h, ' ');
			break;
		}
		value_end(r, h);
		name_start(h);
		name_byte(r, h, c, response);
		break;
	case HTTP_REASON:
		if (c == '\n')
			name_start(h);
		break;
	case HTTP_TARGET:
		target_byte(r, h, c);
		break;
	default:
		chunk_byte(r, h, c, response);
		break;
	}
}

/* A body without bytes is over at once, wherever it begins. */
static void settle(struct reader *r, struct http_half *h, bool response)
{
	if (h->state == HTTP_BODY && h->left == 0)
		message_end(r, h, response);
}

/* What does not change the state, whatever it is. */
static size_t skip_idle(const struct http_half *h, const uint8_t *p, size_t n)
{
	if (h->flags & AFTER_CR)
		return 0;
	switch (h->state) {
	case HTTP_NAME:
	case HTTP_TARGET:
		return h->match.mask ? 0 : scan_word(p, n);
	case HTTP_VALUE:
		return h->header == HEADER_OTHER ? scan_line_text(p, n) : 0;
	case HTTP_REASON:
	case HTTP_CHUNK_EXT:
	case HTTP_TRAILER_LINE:
		return scan_line_text(p, n);
	default:
		return 0;
	}
}

/* ---- whole lines ---- */

#define STATUS_LEN  (VERSION_LEN + 5) /* with " 200 " */

static size_t take_method(struct reader *r, struct http_half *h, const uint8_t *p, size_t n)
{
	size_t k = scan_word(p, n);
	if (k == n || p[k] != ' ' || !word_is_fresh(&h->match, METHODS))
		return 0;
	for (unsigned m = 0; m < METHODS; m++) {
		if (methods[m][0] != p[0] || strncmp(methods[m], (const char *)p, k) != 0 || methods[m][k])
			continue;
		word_is(&h->match, m, k);
		method_end(r, h);
		return k + 1;
	}
	return 0;
}

static size_t take_target(struct http_half *h, const uint8_t *p, size_t n)
{
	size_t text, line = scan_whole_line(p, n, &text);
	if (!line || text <= VERSION_LEN || p[text - VERSION_LEN - 1] != ' ')
		return 0;
	int version = scan_version(p + text - VERSION_LEN);
	if (version < 0)
		return 0;
	h->minor = (uint8_t)version;
	name_start(h);
	return line;
}

static size_t take_status(struct reader *r, struct http_half *h, const uint8_t *p, size_t n)
{
	size_t text, line = scan_whole_line(p, n, &text);
	if (!line || text < STATUS_LEN || !r->n_requests || !word_is_fresh(&h->match, 2))
		return 0;
	const uint8_t *code = p + VERSION_LEN + 1;
	int version = scan_version(p);
	if (version < 0 || code[-1] != ' ' || code[0] == '0' || !scan_is_digit(code[0]) || !scan_is_digit(code[1]) || !scan_is_digit(code[2]) || code[3] != ' ')
		return 0;
	h->minor = (uint8_t)version;
	h->flags = 0;
	h->status = (uint16_t)((code[0] - '0') * 100 + (code[1] - '0') * 10 + (code[2] - '0'));
	name_start(h);
	return line;
}

#define DIGITS_TAKEN 18 /* no number of so many is too large */

/* The text of a header's value that a rule is about. */
static void take_value(struct reader *r, struct http_half *h, const uint8_t *p, size_t n)
{
	size_t k = 0;
	while (n && *p == ' ') {
		p++;
		n--;
	}
	if (h->header == HEADER_LENGTH) {
		for (; k < n && k < DIGITS_TAKEN && scan_is_digit(p[k]); k++) {
			h->left = h->left * 10 + (p[k] - '0');
			h->flags |= DIGITS;
		}
	} else {
		for (unsigned t = 0; t < TOKENS && !k; t++)
			if (n && scan_is_word(p, n, tokens[t])) {
				word_is(&h->match, t, n);
				k = n;
			}
	}
	for (; k < n; k++)
		value_byte(r, h, p[k]);
}

static unsigned header_of(const uint8_t *p, size_t n)
{
	for (unsigned i = 0; i < HEADERS; i++)
		if (n == header_lens[i] && scan_is_word(p, n, headers[i]))
			return i;
	return HEADER_OTHER;
}

static size_t take_header(struct reader *r, struct http_half *h, const uint8_t *p, size_t n)
{
	size_t k = scan_name(p, n);
	if (k == 0 || k == n || p[k] != ':' || !word_is_fresh(&h->match, HEADERS))
		return 0;
	size_t text = k + 1 + scan_text(p + k + 1, n - k - 1), end = scan_line_end(p + text, n - text);
	if (!end)
		return 0;
	unsigned header = header_of(p, k);
	h->flags &= (uint16_t)~BLANK_LINE;
	if (header == HEADER_OTHER) {
		h->header = HEADER_OTHER;
		word_start(&h->match, TOKENS);
	} else {
		word_is(&h->match, header, k);
		name_end(r, h);
		take_value(r, h, p + k + 1, text - k - 1);
	}
	h->state = HTTP_LINE_END;
	return text + end;
}

/* Lines of a header section as far as they can be taken whole, and the empty one behind them. */
static size_t take_headers(struct reader *r, struct http_half *h, const uint8_t *p, size_t n, bool response)
{
	for (size_t i = 0;;) {
		size_t k = p[i] <= '\r' && h->flags & BLANK_LINE ? scan_line_end(p + i, n - i) : 0;
		if (k) {
			headers_end(r, h, response);
			return i + k;
		}
		k = take_header(r, h, p + i, n - i);
		i += k;
		if (!k || i == n || p[i] == ' ' || p[i] == '\t')
			return i;
		value_end(r, h);
		name_start(h);
		if (r->kind != READER_KIND_HTTP)
			return i;
	}
}

/* How much of n was taken; 0: the bytes must be looked at. */
static size_t take_line(struct reader *r, struct http_half *h, const uint8_t *p, size_t n, bool response)
{
	if (h->state == HTTP_FIRST)
		return response ? take_status(r, h, p, n) : take_method(r, h, p, n);
	if (h->flags & AFTER_CR)
		return 0;
	if (h->state == HTTP_LINE_END && *p != ' ' && *p != '\t') {
		value_end(r, h);
		name_start(h);
	}
	if (h->state == HTTP_NAME && r->kind == READER_KIND_HTTP)
		return take_headers(r, h, p, n, response);
	return h->state == HTTP_TARGET ? take_target(h, p, n) : 0;
}

/* ---- how much of n can be passed over ---- */

static size_t skip(struct http_half *h, const uint8_t *p, size_t n)
{
	if (h->state == HTTP_UNTIL_EOF)
		return n;
	if (h->state != HTTP_BODY && h->state != HTTP_CHUNK)
		return skip_idle(h, p, n);
	size_t k = h->left < n ? (size_t)h->left : n;
	h->left -= k;
	if (h->left == 0 && h->state == HTTP_CHUNK)
		h->state = HTTP_CHUNK_CR;
	return k;
}

static void bytes(struct reader *r, struct http_half *h, const uint8_t *p, size_t n, bool response)
{
	for (size_t i = 0; i < n && r->kind == READER_KIND_HTTP;) {
		size_t k = skip(h, p + i, n - i);
		if (k == 0)
			k = take_line(r, h, p + i, n - i, response);
		if (k == 0 && r->kind == READER_KIND_HTTP) {
			if (h->state == HTTP_FIRST && !response)
				method_byte(r, h, p + i, n - i);
			else if (h->state == HTTP_FIRST || h->state == HTTP_STATUS)
				status_line_byte(r, h, p[i]);
			else
				head_byte(r, h, p[i], response);
			k = 1;
		}
		i += k;
		if (r->kind == READER_KIND_HTTP)
			settle(r, h, response);
	}
}

void http_in(struct reader *r, const uint8_t *p, size_t n)
{
	bytes(r, &r->http.in, p, n, false);
}

void http_out(struct reader *r, const uint8_t *p, size_t n)
{
	bytes(r, &r->http.out, p, n, true);
}

enum reader_says http_says(const struct reader *r)
{
	const struct http_half *out = &r->http.out;
	if (out->state != HTTP_FIRST || out->match.pos)
		return out->state == HTTP_FIRST || out->state == HTTP_STATUS ? READER_SILENT : READER_EOF_DELIMITED;
	if (r->n_requests)
		return READER_EOF_DELIMITED; /* it waits for an answer */
	if (out->flags & CLOSE)
		return READER_MESSAGE_OVER;
	return out->flags & KEEP_ALIVE ? READER_KEPT_ALIVE : READER_SILENT;
}
