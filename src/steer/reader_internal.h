/* Between the readers. */
#ifndef FINESSE_STEER_READER_INTERNAL_H
#define FINESSE_STEER_READER_INTERNAL_H

#include "steer/reader.h"

#define WORD_NONE (-1)

static inline void word_start(struct word_match *m, unsigned n_words)
{
	m->mask = (uint16_t)((1u << n_words) - 1);
	m->pos = 0;
}

/* No byte was seen yet. */
static inline bool word_is_fresh(const struct word_match *m, unsigned n_words)
{
	return m->pos == 0 && m->mask == (1u << n_words) - 1;
}

/* The next byte, in lower case for lists in lower case. */
static inline void word_byte(struct word_match *m, const char *const *words, unsigned n, uint8_t c)
{
	uint16_t mask = m->mask;
	for (unsigned left = mask; left; left &= left - 1) {
		unsigned k = (unsigned)__builtin_ctz(left);
		if (k >= n || c == 0 || (uint8_t)words[k][m->pos] != c)
			mask &= (uint16_t)~(1u << k);
	}
	m->mask = mask;
	if (mask)
		m->pos++;
}

/* The word ends here: which one it was. */
static inline int word_end(const struct word_match *m, const char *const *words)
{
	for (unsigned k = 0; m->mask >> k; k++)
		if (m->mask >> k & 1 && words[k][m->pos] == 0)
			return (int)k;
	return WORD_NONE;
}

/* As if all bytes of words[k] had been seen, which is `len` long. */
static inline void word_is(struct word_match *m, unsigned k, size_t len)
{
	m->mask = (uint16_t)(1u << k);
	m->pos = (uint8_t)len;
}

static inline uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

/* reader_http.c. Each takes bytes until it is through or the reader is silent. */
void http_in(struct reader *r, const uint8_t *p, size_t n);
void http_out(struct reader *r, const uint8_t *p, size_t n);
enum reader_says http_says(const struct reader *r);
void http_start(struct reader *r);

/* reader_lines.c */
void lines_in(struct reader *r, const uint8_t *p, size_t n);
void lines_out(struct reader *r, const uint8_t *p, size_t n);
enum reader_says lines_says(const struct reader *r);
void lines_start(struct reader *r, bool resp);

#endif
