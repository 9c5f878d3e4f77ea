#include "tcp/reassembly.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "tcp/seq.h"

#define CHUNK_MIN 64u    /* the least that memory comes in */
#define CHUNK_MAX 16384u /* longer text takes several */

struct chunk {
	struct chunk *prev, *next;
	uint32_t seq, len;
	uint32_t size; /* of all of it */
	uint8_t bytes[];
};

static uint32_t room_in(uint32_t size)
{
	return size - offsetof(struct chunk, bytes);
}

/* For `len` bytes, or as many of them as a chunk holds; `least`: no smaller than that. */
static uint32_t size_for(uint32_t len, uint32_t least)
{
	uint32_t size = least;
	while (size < CHUNK_MAX && room_in(size) < len)
		size *= 2;
	return size;
}

/* The last chunk that begins at or before `seq`. */
static struct chunk *find(const struct reassembly *r, uint32_t seq)
{
	struct chunk *c = r->last;
	if (r->first && SEQ_LT(seq, r->first->seq))
		return NULL;
	while (c && SEQ_GT(c->seq, seq))
		c = c->prev;
	return c;
}

static void insert_after(struct reassembly *r, struct chunk *prev, struct chunk *c)
{
	c->prev = prev;
	c->next = prev ? prev->next : r->first;
	if (c->next)
		c->next->prev = c;
	else
		r->last = c;
	if (prev)
		prev->next = c;
	else
		r->first = c;
	r->n++;
	r->bytes += c->size;
}

static void drop_first(struct reassembly *r, struct tcp_memory *m)
{
	struct chunk *c = r->first;
	r->first = c->next;
	if (c->next)
		c->next->prev = NULL;
	else
		r->last = NULL;
	r->n--;
	r->bytes -= c->size;
	m->free(m, c, c->size);
}

/* Into what is left of the chunk that ends at `seq`. How many bytes. */
static uint32_t append(struct chunk *c, uint32_t seq, const uint8_t *bytes, uint32_t len)
{
	if (!c || c->seq + c->len != seq)
		return 0;
	uint32_t room = room_in(c->size) - c->len, n = len < room ? len : room;
	memcpy(c->bytes + c->len, bytes, n);
	c->len += n;
	return n;
}

static struct chunk *chunk_new(struct reassembly *r, struct tcp_memory *m, const struct chunk *prev, uint32_t seq, uint32_t len, uint32_t most)
{
	bool goes_on = prev && prev->seq + prev->len == seq;
	uint32_t least = goes_on ? 2 * prev->size : CHUNK_MIN;
	uint32_t size = size_for(len, least < CHUNK_MAX ? least : CHUNK_MAX);
	if (r->n >= REASSEMBLY_CHUNKS_MAX || size > most || r->bytes > most - size)
		return NULL;
	struct chunk *c = m->alloc(m, size);
	if (c)
		*c = (struct chunk){.seq = seq, .size = size};
	return c;
}

int reassembly_add(struct reassembly *r, struct tcp_memory *m, uint32_t seq, const uint8_t *bytes, uint32_t len, uint32_t most)
{
	struct chunk *prev = find(r, seq);
	for (;;) {
		uint32_t n = append(prev, seq, bytes, len);
		seq += n;
		bytes += n;
		len -= n;
		if (!len)
			return 0;
		struct chunk *c = chunk_new(r, m, prev, seq, len, most);
		if (!c)
			return -ENOMEM;
		/* Appended text may reach beyond the start of chunks behind: the order is by their starts. */
		while (prev && prev->next && SEQ_LEQ(prev->next->seq, seq))
			prev = prev->next;
		insert_after(r, prev, c);
		prev = c;
	}
}

uint32_t reassembly_at(struct reassembly *r, struct tcp_memory *m, uint32_t next, const uint8_t **bytes)
{
	while (r->first && SEQ_LEQ(r->first->seq + r->first->len, next))
		drop_first(r, m);
	if (!r->first || SEQ_GT(r->first->seq, next))
		return 0;
	uint32_t skip = next - r->first->seq;
	*bytes = r->first->bytes + skip;
	return r->first->len - skip;
}

void reassembly_free(struct reassembly *r, struct tcp_memory *m)
{
	while (r->first)
		drop_first(r, m);
}
