/*
 * A connection's bytes on their way out: a ring as long as they are few, and chunks of one size
 * beyond.
 *
 * Owns its blocks of `struct tcp_memory` (none while cap is 0). A ring that grows copies all that
 * it has, and a stream goes round in all of a ring that once was large: both cost a sender more
 * than the copy that it came for. Chunks are added at the end and given back at the front, so
 * nothing is copied twice, and the memory that the processor touched last is used next. Bytes are
 * addressed by their offset from the first. A copy of the struct is a view, good until the next
 * change.
 *
 * Invariants: a ring has at most CHUNK_BYTES. A table has a chunk for each byte of [0, len); its
 * last chunk never wraps into its first one.
 */
#ifndef FINESSE_BASE_CHUNKS_H
#define FINESSE_BASE_CHUNKS_H

#include "base/ring.h"

#define CHUNK_SHIFT                                                                                \
	17 /* 128 KiB: two pieces at most hold any super-segment, and a pool maps as much by       \
	      itself */
#define CHUNK_BYTES (UINT32_C(1) << CHUNK_SHIFT)

struct chunks {
	union {
		struct ring ring; /* cap <= CHUNK_BYTES */
		struct {
			uint8_t **table; /* cap >> CHUNK_SHIFT chunks, itself a ring; NULL where
					    there is none */
			uint32_t cap;    /* as ring's, and so are the others */
			uint32_t head;
			uint32_t len;
			uint32_t hint;
		};
	};
};

/* Of a table: what the verbs below are for a ring. */
int chunks_grow(struct chunks *c, struct tcp_memory *m, uint32_t need);
uint32_t chunks_append_table(struct chunks *c, const void *src, uint32_t n);
void chunks_consume_table(struct chunks *c, struct tcp_memory *m, uint32_t n);
int chunks_span_table(const struct chunks *c, uint32_t at, uint32_t n, struct iovec out[2]);
int chunks_room_table(const struct chunks *c, uint32_t n, struct iovec out[2]);
void chunks_free_table(struct chunks *c, struct tcp_memory *m);

static inline bool chunks_is_table(const struct chunks *c)
{
	return c->cap > CHUNK_BYTES;
}

/* Capacity for `need` bytes counted from the first. 0; -ENOMEM, and the content is as it was. */
static inline int chunks_reserve(struct chunks *c, struct tcp_memory *m, uint32_t need)
{
	return !chunks_is_table(c) && need <= CHUNK_BYTES ? ring_reserve(&c->ring, m, need)
							  : chunks_grow(c, m, need);
}

/* `n` bytes of the program's, which were reserved, to the end. Returns how many; fewer where its memory is bad. */
static inline uint32_t chunks_append(struct chunks *c, const void *src, uint32_t n)
{
	if (chunks_is_table(c))
		return chunks_append_table(c, src, n);
	if (!ring_write_user(&c->ring, c->len, src, n))
		return 0;
	ring_commit(&c->ring, n);
	return n;
}

/* Where the next `n` bytes will stand, which were reserved, n <= CHUNK_BYTES: one or two pieces. Returns how many. */
static inline int chunks_room(const struct chunks *c, uint32_t n, struct iovec out[2])
{
	return chunks_is_table(c) ? chunks_room_table(c, n, out) : ring_span(&c->ring, c->len, n, out);
}

/* … and now the first `n` of them stand there. */
static inline void chunks_commit(struct chunks *c, uint32_t n)
{
	c->len += n;
}

/* The first n bytes go. */
static inline void chunks_consume(struct chunks *c, struct tcp_memory *m, uint32_t n)
{
	if (chunks_is_table(c))
		chunks_consume_table(c, m, n);
	else
		ring_consume(&c->ring, n);
}

/* [at, at + n) in place, n <= CHUNK_BYTES: one or two pieces. Returns how many (0 for n = 0). */
static inline int chunks_span(const struct chunks *c, uint32_t at, uint32_t n, struct iovec out[2])
{
	return chunks_is_table(c) ? chunks_span_table(c, at, n, out)
				  : ring_span(&c->ring, at, n, out);
}

/* Gives the memory back, content and all. */
static inline void chunks_free(struct chunks *c, struct tcp_memory *m)
{
	if (chunks_is_table(c))
		chunks_free_table(c, m);
	else
		ring_free(&c->ring, m);
}

#endif
