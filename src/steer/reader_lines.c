/*
 * Protocols of lines, as far as their goodbyes:
 *
 *   redis       QUIT, inline or as RESP, and its "+OK" (the client reads that and closes)
 *   memcached   quit, which has no answer
 *   SMTP, LMTP (RFC 5321 §4.2.2), FTP (RFC 959 §4.2): reply 221, or 421 when the server ends it
 *   POP3 (RFC 1939): QUIT and its "+OK"
 *   IMAP (RFC 9051 §7.1.5): "* BYE", then the tagged OK
 *
 * Only the beginning of each line is looked at. A line within a value or a message may look like a goodbye: then a close that follows at once is taken for expected, and held
 * for a bounded while. RESP's QUIT is the two lines "$4", "QUIT".
 */
#include "steer/reader_internal.h"

#include <string.h>

#define TAIL_BYTES 512 /* RFC 5321 §4.5.3.1.5: the longest reply line */

enum { LINE_WORD, LINE_REST }; /* states of a half */

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

void lines_start(struct reader *r)
{
	line_start(&r->lines.in, IN_WORDS);
	line_start(&r->lines.out, OUT_WORDS);
	r->lines.in.last = r->lines.out.last = LAST_OTHER;
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

/*
 * Where to go on from `i`: at the line's end, when the rest of the line says nothing.
 */
static size_t skip_rest(const struct line_half *h, const uint8_t *p, size_t i, size_t n)
{
	if (h->state != LINE_REST || h->match.mask)
		return i;
	const uint8_t *end = memchr(p + i, '\n', n - i);
	return end ? (size_t)(end - p) : n;
}

/*
 * A goodbye is the last line of what its side says, so of a large piece only the end matters: where its last lines begin. Reading all of an
 * upload would cost more than carrying it.
 */
static size_t skip_bulk(struct line_half *h, unsigned n_words, const uint8_t *p, size_t n)
{
	if (n < 2 * TAIL_BYTES)
		return 0;
	const uint8_t *tail = p + n - TAIL_BYTES, *end = memchr(tail, '\n', TAIL_BYTES);
	h->last = LAST_OTHER;
	h->state = LINE_REST;
	h->match.mask = 0;
	if (!end)
		return n;
	line_start(h, n_words);
	return (size_t)(end + 1 - p);
}

/* A word that is none of ours need not be followed to its end. */
static void give_up_word(struct line_half *h)
{
	h->last = LAST_OTHER;
	if (!h->match.mask)
		h->state = LINE_REST;
}

void lines_in(struct reader *r, const uint8_t *p, size_t n)
{
	struct line_half *h = &r->lines.in;
	for (size_t i = skip_bulk(h, IN_WORDS, p, n); (i = skip_rest(h, p, i, n)) < n; i++) {
		uint8_t c = lower(p[i]);
		if (h->state == LINE_WORD) {
			if (ends_word(c)) {
				h->last = in_meaning(h);
				h->state = LINE_REST;
				h->match.mask = 0;
			} else {
				word_byte(&h->match, in_words, IN_WORDS, c);
				give_up_word(h);
			}
		}
		if (c == '\n')
			line_start(h, IN_WORDS);
	}
	r->lines.out.last = LAST_OTHER; /* what was said before is no answer to this */
}

/* After the "*" of an untagged IMAP reply: BYE? */
static const char *const bye_words[] = {"bye"};

void lines_out(struct reader *r, const uint8_t *p, size_t n)
{
	struct line_half *h = &r->lines.out;
	for (size_t i = skip_bulk(h, OUT_WORDS, p, n); (i = skip_rest(h, p, i, n)) < n; i++) {
		uint8_t c = lower(p[i]);
		if (h->state == LINE_WORD && ends_word(c)) {
			h->last = out_meaning(h);
			bool star = c == ' ' && word_end(&h->match, out_words) == OUT_STAR;
			h->state = LINE_REST;
			word_start(&h->match, star ? 1 : 0);
		} else if (h->state == LINE_WORD) {
			word_byte(&h->match, out_words, OUT_WORDS, c);
			give_up_word(h);
		} else if (h->match.mask) {
			if (ends_word(c))
				r->seen |= r->speaks_first && word_end(&h->match, bye_words) == 0;
			word_byte(&h->match, bye_words, 1, c);
		}
		if (c == '\n')
			line_start(h, OUT_WORDS);
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
