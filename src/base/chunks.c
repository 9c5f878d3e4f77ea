#include "base/chunks.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define TABLE_MIN 4 /* slots */

static uint32_t chunk_index(const struct chunks *c, uint32_t at)
{
	return ((c->head + at) & (c->cap - 1)) >> CHUNK_SHIFT;
}

static uint32_t head_offset(const struct chunks *c)
{
	return c->head & (CHUNK_BYTES - 1);
}

/* One chunk as a ring that is full. */
static struct ring chunk_ring(uint8_t *chunk)
{
	return (struct ring){.bytes = chunk, .cap = CHUNK_BYTES, .len = CHUNK_BYTES};
}

/* The ring's bytes in a chunk: its own block where it is one already. Where they begin; -ENOMEM. */
static int64_t chunk_of_ring(struct chunks *c, struct tcp_memory *m, uint8_t **chunk)
{
	struct ring *r = &c->ring;
	if (r->cap == CHUNK_BYTES && r->head + r->len <= r->cap) {
		*chunk = r->bytes;
		return r->head;
	}
	*chunk = NULL;
	if (r->len) {
		*chunk = m->alloc(m, CHUNK_BYTES);
		if (!*chunk)
			return -ENOMEM;
		ring_read(r, 0, *chunk, r->len);
	}
	if (r->cap)
		m->free(m, r->bytes, r->cap);
	return 0;
}

static uint32_t slots_for(uint32_t bytes)
{
	uint32_t slots = TABLE_MIN;
	while (slots < (bytes + CHUNK_BYTES - 1) >> CHUNK_SHIFT)
		slots *= 2;
	return slots;
}

/* A table with room for `need` bytes, the first of them in slot 0. */
static int grow_table(struct chunks *c, struct tcp_memory *m, uint32_t need)
{
	uint32_t slots = slots_for(need + CHUNK_BYTES), old = 0; /* wherever in its chunk the first byte stands */
	if (chunks_is_table(c))
		old = c->cap >> CHUNK_SHIFT;
	uint8_t **table = m->alloc(m, slots * sizeof *table);
	if (!table)
		return -ENOMEM;
	memset(table, 0, slots * sizeof *table);
	int64_t head = old ? head_offset(c) : chunk_of_ring(c, m, &table[0]);
	if (head < 0) {
		m->free(m, table, slots * sizeof *table);
		return head;
	}
	for (uint32_t i = 0; i < old; i++)
		table[i] = c->table[(chunk_index(c, 0) + i) & (old - 1)];
	if (old)
		m->free(m, c->table, old * sizeof *table);
	c->table = table;
	c->cap = slots << CHUNK_SHIFT;
	c->head = head;
	return 0;
}

static void drop_chunk(struct chunks *c, struct tcp_memory *m, uint32_t i)
{
	if (c->table[i])
		m->free(m, c->table[i], CHUNK_BYTES);
	c->table[i] = NULL;
}

/* How many chunks the first `n` bytes touch. */
static uint32_t chunks_for(const struct chunks *c, uint32_t n)
{
	return n ? (head_offset(c) + n + CHUNK_BYTES - 1) >> CHUNK_SHIFT : 0;
}

/* All or nothing: what would stay half filled is somebody else's memory. */
static int add_chunks(struct chunks *c, struct tcp_memory *m, uint32_t need)
{
	uint32_t mask = (c->cap >> CHUNK_SHIFT) - 1, first = chunk_index(c, 0),
		 used = chunks_for(c, c->len), want = chunks_for(c, need);
	for (uint32_t k = used; k < want; k++) {
		uint8_t **slot = &c->table[(first + k) & mask];
		if (!*slot)
			*slot = m->alloc(m, CHUNK_BYTES);
		if (*slot)
			continue;
		while (k-- > used)
			drop_chunk(c, m, (first + k) & mask);
		return -ENOMEM;
	}
	return 0;
}

int chunks_grow(struct chunks *c, struct tcp_memory *m, uint32_t need)
{
	if (need > RING_CAP_MAX)
		return -ENOMEM;
	if (!chunks_is_table(c) || head_offset(c) + need > c->cap) {
		int err = grow_table(c, m, need);
		if (err)
			return err;
	}
	return add_chunks(c, m, need);
}

uint32_t chunks_append_table(struct chunks *c, const void *src, uint32_t n)
{
	uint32_t done = 0;
	while (done < n) {
		struct ring r = chunk_ring(c->table[chunk_index(c, c->len)]);
		uint32_t at = (c->head + c->len) & (CHUNK_BYTES - 1), left = n - done,
			 piece = left < CHUNK_BYTES - at ? left : CHUNK_BYTES - at;
		if (!ring_write_user(&r, at, (const char *)src + done, piece))
			break;
		c->len += piece;
		done += piece;
	}
	return done;
}

void chunks_consume_table(struct chunks *c, struct tcp_memory *m, uint32_t n)
{
	assert(n <= c->len);
	uint32_t mask = (c->cap >> CHUNK_SHIFT) - 1, first = chunk_index(c, 0),
		 gone = (head_offset(c) + n) >> CHUNK_SHIFT;
	for (uint32_t k = 0; k < gone; k++)
		drop_chunk(c, m, (first + k) & mask);
	c->head = (c->head + n) & (c->cap - 1);
	c->len -= n;
}

/* Of bytes that have chunks. */
static int place_in_table(const struct chunks *c, uint32_t at, uint32_t n, struct iovec out[2])
{
	if (!n)
		return 0;
	assert(n <= CHUNK_BYTES);
	uint32_t start = (c->head + at) & (CHUNK_BYTES - 1), first = CHUNK_BYTES - start;
	out[0] = (struct iovec){c->table[chunk_index(c, at)] + start, n < first ? n : first};
	if (n <= first)
		return 1;
	out[1] = (struct iovec){c->table[chunk_index(c, at + first)], n - first};
	return 2;
}

int chunks_span_table(const struct chunks *c, uint32_t at, uint32_t n, struct iovec out[2])
{
	assert(at + n <= c->len);
	return place_in_table(c, at, n, out);
}

int chunks_room_table(const struct chunks *c, uint32_t n, struct iovec out[2])
{
	return place_in_table(c, c->len, n, out);
}

void chunks_free_table(struct chunks *c, struct tcp_memory *m)
{
	uint32_t slots = c->cap >> CHUNK_SHIFT;
	for (uint32_t i = 0; i < slots; i++)
		drop_chunk(c, m, i);
	m->free(m, c->table, slots * sizeof *c->table);
	*c = (struct chunks){.ring = {.hint = CHUNK_BYTES}};
}
