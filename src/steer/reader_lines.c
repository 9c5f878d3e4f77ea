/*
 * Protocols of lines, as far as their goodbyes:
 *
 *   redis       QUIT, inline or as RESP, and its "+OK" (the client reads that and closes)
 *   memcached   quit, which has no answer
 *   SMTP, LMTP (RFC 5321 §4.2.2), FTP (RFC 959 §4.2): reply 221, or 421 when the server ends it
 *   POP3 (RFC 1939): QUIT and its "+OK"
 *   IMAP (RFC 9051 §7.1.5): "* BYE", then the tagged OK
 *
 * Only the beginning of each line is looked at; RESP's values are passed over by count, unless they are as long as
 * "QUIT": RESP's QUIT is the two lines "$4", "QUIT". Since only what is said last counts, of a large piece only the
 * tail is looked at, and of what redis and memcached answer only whether a line ends. A line within a value or a
 * message may look like a goodbye: then a close that follows at once is taken for expected, and held for a bounded
 * while.
 *
 * Who speaks first must begin as these protocols do: a word of letters, or a reply's code. Anything else is not of
 * theirs: silent for good.
 */
#include "steer/reader_internal.h"

#include <string.h>

enum {
	LINE_FIRST, /* the first word of who speaks first */
	LINE_WORD,
	LINE_REST,
	LINE_COUNT, /* after "$" */
	LINE_VALUE,
};

#define COMMAND_MAX  16 /* redis' longest inline commands and memcached's have 12 and 9 letters */
#define GREETING_MAX 4
#define CODE_LENGTH  3
#define QUIT_LENGTH  4
#define CRLF_LENGTH  2
#define TAIL_BYTES   128 /* of a piece of more than twice as much: goodbyes are shorter */

/* What a line begins with, in lower case, up to its first blank or its end. */
enum { IN_QUIT, IN_WORDS };
static const char *const in_words[IN_WORDS] = {[IN_QUIT] = "quit"};
enum { OUT_221, OUT_421, OUT_OK, OUT_STAR, OUT_WORDS };
static const char *const out_words[OUT_WORDS] = {[OUT_221] = "221", [OUT_421] = "421", [OUT_OK] = "+ok", [OUT_STAR] = "*"};

enum { LAST_OTHER, LAST_QUIT, LAST_221, LAST_OK };

static void line_start(struct line_half *h, unsigned n_words)
{
	h->state = LINE_WORD;
	word_start(&h->match, n_words);
}

void lines_start(struct reader *r, bool resp)
{
	r->lines.in = (struct line_half){.resp = resp, .last = LAST_OTHER};
	r->lines.out = (struct line_half){.last = LAST_OTHER};
	line_start(&r->lines.in, IN_WORDS);
	line_start(&r->lines.out, OUT_WORDS);
	struct line_half *first = r->speaks_first ? &r->lines.out : &r->lines.in;
	first->left = r->speaks_first ? GREETING_MAX : COMMAND_MAX;
	if (!resp)
		first->state = LINE_FIRST;
}

/* A byte of the first word: could it be of one of these protocols? */
static bool may_begin(const struct reader *r, struct line_half *h, uint8_t c)
{
	if (h->left == 0)
		return false;
	h->left--;
	return r->speaks_first ? c > ' ' && c < 0x7f : (c >= 'a' && c <= 'z') || c == '_';
}

/* Between the beginnings of two lines: the rest of one that is of no interest. */
static void pass_rest(struct line_half *h)
{
	h->state = LINE_REST;
	word_start(&h->match, 0);
}

/* What of n bytes tells nothing: of a value, before the tail, or of the rest of a line. */
static size_t pass_over(struct line_half *h, const uint8_t *p, size_t n)
{
	if (h->state == LINE_VALUE) {
		size_t k = h->left < n ? (size_t)h->left : n;
		h->left -= k;
		if (h->left == 0)
			line_start(h, IN_WORDS); /* only RESP's commands have values */
		return k;
	}
	if (n > 2 * TAIL_BYTES && (h->state == LINE_WORD || h->state == LINE_REST)) {
		pass_rest(h);
		h->last = LAST_OTHER;
		return n - TAIL_BYTES;
	}
	if (h->state != LINE_REST || h->match.mask)
		return 0;
	const uint8_t *end = memchr(p, '\n', n);
	return end ? (size_t)(end - p) : n;
}

static void count_byte(struct line_half *h, uint8_t c)
{
	if (c == '\n') {
		bool is_quit_perhaps = h->left == QUIT_LENGTH;
		line_start(h, IN_WORDS);
		if (!is_quit_perhaps) {
			h->state = LINE_VALUE;
			h->left += CRLF_LENGTH;
		}
	} else if (c >= '0' && c <= '9' && h->left < UINT64_MAX / 16) {
		h->left = h->left * 10 + (c - '0');
	} else if (c != '\r') {
		pass_rest(h); /* "$-1" has no value */
	}
}

static uint8_t in_meaning(const struct line_half *h)
{
	return word_end(&h->match, in_words) == IN_QUIT ? LAST_QUIT : LAST_OTHER;
}

static uint8_t out_meaning(const struct line_half *h)
{
	switch (word_end(&h->match, out_words)) {
	case OUT_221:
	case OUT_421:
		return LAST_221;
	case OUT_OK:
		return LAST_OK;
	default:
		return LAST_OTHER;
	}
}

/* '-' ends a word, too: "221-" begins a reply of several lines, whose last has a blank. */
static bool ends_word(uint8_t c)
{
	return c == ' ' || c == '\r' || c == '\n';
}

/* A byte of a line's first word that does not end it. */
static void word_of_line(struct reader *r, struct line_half *h, uint8_t c)
{
	h->last = LAST_OTHER;
	if (h->state == LINE_FIRST) {
		if (r->speaks_first && c == '-' && h->left == GREETING_MAX - CODE_LENGTH)
			h->state = LINE_WORD; /* the first of several lines */
		else if (!may_begin(r, h, c))
			r->kind = READER_KIND_SILENT;
	} else if (h->resp && c == '$' && h->match.pos == 0) {
		h->state = LINE_COUNT;
		h->left = 0;
	}
}

/* No word of the list: nothing more to learn of this line. */
static void leave_unknown(struct line_half *h)
{
	if (h->state == LINE_WORD && h->match.mask == 0)
		h->state = LINE_REST;
}

static void in_byte(struct reader *r, struct line_half *h, uint8_t c)
{
	if (h->state == LINE_COUNT) {
		count_byte(h, c);
		return;
	}
	if (h->state <= LINE_WORD) {
		if (ends_word(c)) {
			h->last = in_meaning(h);
			pass_rest(h);
		} else {
			word_of_line(r, h, c);
			word_byte(&h->match, in_words, IN_WORDS, c);
			leave_unknown(h);
		}
	}
	if (c == '\n')
		line_start(h, IN_WORDS);
}

void lines_in(struct reader *r, const uint8_t *p, size_t n)
{
	struct line_half *h = &r->lines.in;
	r->lines.out.last = LAST_OTHER; /* what was said before is no answer to this */
	for (size_t i = 0; i < n && r->kind == READER_KIND_LINES;) {
		size_t k = pass_over(h, p + i, n - i);
		if (k == 0)
			in_byte(r, h, lower(p[i++]));
		i += k;
	}
}

/* After the "*" of an untagged IMAP reply: BYE? */
static const char *const bye_words[] = {"bye"};

static void out_byte(struct reader *r, struct line_half *h, uint8_t c)
{
	if (h->state <= LINE_WORD && ends_word(c)) {
		h->last = out_meaning(h);
		bool star = c == ' ' && word_end(&h->match, out_words) == OUT_STAR;
		h->state = LINE_REST;
		word_start(&h->match, star ? 1 : 0);
	} else if (h->state <= LINE_WORD) {
		word_of_line(r, h, c);
		word_byte(&h->match, out_words, OUT_WORDS, c);
		leave_unknown(h);
	} else if (h->match.mask) {
		if (ends_word(c))
			r->seen |= r->speaks_first && word_end(&h->match, bye_words) == 0;
		word_byte(&h->match, bye_words, 1, c);
	}
	if (c == '\n')
		line_start(h, OUT_WORDS);
}

void lines_out(struct reader *r, const uint8_t *p, size_t n)
{
	struct line_half *h = &r->lines.out;
	if (!r->speaks_first) { /* redis, memcached: the client's QUIT tells all */
		if (p[n - 1] == '\n')
			line_start(h, OUT_WORDS);
		else
			pass_rest(h);
		return;
	}
	for (size_t i = 0; i < n && r->kind == READER_KIND_LINES;) {
		size_t k = pass_over(h, p + i, n - i);
		if (k == 0)
			out_byte(r, h, lower(p[i++]));
		i += k;
	}
}

/* Both directions are between two lines. */
static bool at_line_ends(const struct reader *r)
{
	const struct line_half *in = &r->lines.in, *out = &r->lines.out;
	return in->state == LINE_WORD && word_is_fresh(&in->match, IN_WORDS) && out->state == LINE_WORD && word_is_fresh(&out->match, OUT_WORDS);
}

enum reader_says lines_says(const struct reader *r)
{
	const struct line_half *in = &r->lines.in, *out = &r->lines.out;
	if (!at_line_ends(r))
		return READER_SILENT;
	if (r->speaks_first) /* SMTP, FTP; POP3; IMAP */
		return out->last == LAST_221 || (out->last == LAST_OK && in->last == LAST_QUIT) || r->seen ? READER_MESSAGE_OVER : READER_SILENT;
	return in->last == LAST_QUIT ? READER_MESSAGE_OVER : READER_SILENT; /* redis, memcached */
}
