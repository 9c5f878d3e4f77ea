#include "test_memory.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define POISON 0xa5 /* neither fresh nor freed memory looks like anything useful */

struct block {
	size_t size;
	size_t pad; /* keep max_align_t alignment */
	unsigned char bytes[];
};

static void *block_alloc(struct tcp_memory *memory, size_t size)
{
	struct test_memory *m = (struct test_memory *)memory;
	ck_assert_msg(size && (size & (size - 1)) == 0, "alloc of %zu bytes: no power of two", size);
	if (m->limit_bytes && !(m->gives_owed && memory->owed) && m->live_bytes + size > m->limit_bytes)
		return NULL;
	struct block *b = malloc(sizeof *b + size);
	ck_assert_ptr_nonnull(b);
	b->size = size;
	memset(b->bytes, POISON, size);
	m->live_blocks++;
	m->live_bytes += size;
	m->allocs++;
	if (m->live_bytes > m->peak_bytes)
		m->peak_bytes = m->live_bytes;
	return b->bytes;
}

static void block_free(struct tcp_memory *memory, void *p, size_t size)
{
	struct test_memory *m = (struct test_memory *)memory;
	if (!p)
		return;
	struct block *b = (struct block *)((unsigned char *)p - offsetof(struct block, bytes));
	ck_assert_msg(b->size == size, "free of %zu bytes as %zu", b->size, size);
	memset(b->bytes, POISON, size);
	m->live_blocks--;
	m->live_bytes -= size;
	free(b);
}

void test_memory_init(struct test_memory *m)
{
	*m = (struct test_memory){.memory = {block_alloc, block_free}};
}
