/*
 * A growable power-of-two ring of bytes: a connection's send and receive buffer.
 *
 * Owns one block of `struct tcp_memory` (none while cap is 0). Bytes [0, len) are the content, in order, addressed by
 * their offset from the first. Out-of-order data is written beyond len, into reserved room, and becomes content when
 * ring_commit reaches it; ring_reserve keeps it when it grows. Any span is at most two pieces. The ring remembers how
 * far it grew (`hint`), so that a stream which empties it again and again does not grow it anew each time.
 */
#ifndef FINESSE_BASE_RING_H
#define FINESSE_BASE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/memory.h"

#define RING_CAP_MIN UINT32_C(2048)       /* bytes, a small request or response */
#define RING_CAP_MAX (UINT32_C(1) << 30) /* the largest TCP window (RFC 7323 §2.3) */

struct ring {
	uint8_t *bytes;
	uint32_t cap;  /* 0 or a power of two */
	uint32_t head; /* index of the first byte */
	uint32_t len;
	uint32_t hint; /* capacity to start with, learned from the last uses */
};

/* Capacity for `need` bytes counted from the first. 0; -ENOMEM and nothing changes. */
int ring_reserve(struct ring *r, struct tcp_memory *m, uint32_t need);
/* The same, where of the content only the first `keep` bytes matter, and nothing behind it. */
int ring_reserve_keep(struct ring *r, struct tcp_memory *m, uint32_t need, uint32_t keep);
/* `n` bytes to offset `at`, which with n must be reserved. Does not change len. */
void ring_write(struct ring *r, uint32_t at, const void *src, uint32_t n);
/* [len, len + n), written before, becomes content. */
void ring_commit(struct ring *r, uint32_t n);
/* The same from memory of the program's (user.h). False: that is bad, and what stands there now is undefined. */
bool ring_write_user(struct ring *r, uint32_t at, const void *src, uint32_t n);
/* Copies [at, at + n) out; it must be content. False: `dst` is bad memory of the program's. */
bool ring_read(const struct ring *r, uint32_t at, void *dst, uint32_t n);
/* The first n bytes go. */
void ring_consume(struct ring *r, uint32_t n);
/* [at, at + n) in place: one or two pieces. Returns how many (0 for n = 0). */
int ring_span(const struct ring *r, uint32_t at, uint32_t n, struct iovec out[2]);
/* Gives the memory back, content and all. */
void ring_free(struct ring *r, struct tcp_memory *m);

#endif
