/*
 * What stands at p, in the bytes of an HTTP/1 message: how long a word, a name, a line is, and what a digit or a
 * version says. For reader_http.c.
 *
 * Pure: no function keeps anything, and none reads beyond the n bytes that it is told of. A length is in bytes, from p.
 * They are inline, since they are called for each line of each message.
 */
#ifndef FINESSE_STEER_HTTP_SCAN_H
#define FINESSE_STEER_HTTP_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "steer/reader_internal.h"

#define VERSION_LEN 8 /* bytes: HTTP/1.x */

static inline bool scan_is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

/* -1: it is no hexadecimal digit. */
static inline int scan_hex(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Of the VERSION_LEN bytes at p: 0 or 1; -1: they are neither HTTP/1.0 nor HTTP/1.1. */
static inline int scan_version(const uint8_t *p)
{
	return memcmp(p, "HTTP/1.", VERSION_LEN - 1) == 0 && (p[VERSION_LEN - 1] == '0' || p[VERSION_LEN - 1] == '1') ? p[VERSION_LEN - 1] - '0' : -1;
}

/* Whether the n bytes are `name`, which is in lower case, in any case. */
static inline bool scan_is_word(const uint8_t *p, size_t n, const char *name)
{
	for (size_t k = 0; k < n; k++)
		if (lower(p[k]) != (uint8_t)name[k])
			return false;
	return name[n] == 0;
}

/* Up to the line's end, or a CR, which may not be it. */
static inline size_t scan_line_text(const uint8_t *p, size_t n)
{
	const uint8_t *end = memchr(p, '\n', n);
	size_t k = end ? (size_t)(end - p) : n;
	const uint8_t *cr = memchr(p, '\r', k);
	return cr ? (size_t)(cr - p) : k;
}

/* Up to a byte that may end the word, or may not be in it. */
static inline size_t scan_word(const uint8_t *p, size_t n)
{
	size_t k = 0;
	while (k < n && p[k] > ' ' && p[k] != ':')
		k++;
	return k;
}

/* How long the line at p is, its end included, and its text; 0: it is not all there, or has a CR within. */
static inline size_t scan_whole_line(const uint8_t *p, size_t n, size_t *text)
{
	const uint8_t *end = memchr(p, '\n', n);
	if (!end)
		return 0;
	size_t k = (size_t)(end - p);
	const uint8_t *cr = memchr(p, '\r', k);
	*text = cr ? k - 1 : k;
	return cr && cr + 1 != end ? 0 : k + 1;
}

/*
 * Eight bytes at once: the top bit of each byte that is below n, and of the lowest such byte for sure; above it borrows
 * may set more.
 */
#define ONES (UINT64_MAX / 255)
static inline uint64_t scan_bytes_below(uint64_t x, unsigned n)
{
	return (x - ONES * n) & ~x & ONES * 128;
}

static inline uint64_t scan_load_eight(const uint8_t *p)
{
	uint64_t x;
	memcpy(&x, p, sizeof x);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	x = __builtin_bswap64(x); /* the first byte is the lowest */
#endif
	return x;
}

/* Up to the first blank, control byte or colon. */
static inline size_t scan_name(const uint8_t *p, size_t n)
{
	size_t k = 0;
	for (; k + 8 <= n; k += 8) {
		uint64_t x = scan_load_eight(p + k), found = scan_bytes_below(x, ' ' + 1) | scan_bytes_below(x ^ ONES * ':', 1);
		if (found)
			return k + (size_t)__builtin_ctzll(found) / 8;
	}
	return k + scan_word(p + k, n - k);
}

/* Up to the first byte that may end a line, or another control byte so low. */
static inline size_t scan_text(const uint8_t *p, size_t n)
{
	size_t k = 0;
	for (; k + 8 <= n; k += 8) {
		uint64_t found = scan_bytes_below(scan_load_eight(p + k), '\r' + 1);
		if (found)
			return k + (size_t)__builtin_ctzll(found) / 8;
	}
	while (k < n && p[k] > '\r')
		k++;
	return k;
}

/* How long the end of a line at p is; 0: it is none, or not all there. */
static inline size_t scan_line_end(const uint8_t *p, size_t n)
{
	if (n && p[0] == '\n')
		return 1;
	return n > 1 && p[0] == '\r' && p[1] == '\n' ? 2 : 0;
}

#endif
