/*
 * Size-class memory over mmap: the engine's buffers and objects, without libc's malloc.
 *
 * Classes are the powers of two from 64 bytes to 8 MiB; a request is rounded up to its class, and
 * the object is aligned to the class (at most to a page, above 64 KiB). Contents are undefined. The
 * caller passes the size back on free. Not thread-safe: used under the engine's lock. Embeds a
 * struct tcp_memory, so that `&pool->memory` is what the TCP core takes.
 */
#ifndef FINESSE_BASE_POOL_H
#define FINESSE_BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/memory.h"

#define POOL_MIN_SHIFT 6  /* 64 bytes */
#define POOL_MAX_SHIFT 23 /* 8 MiB */
#define POOL_CLASSES   (POOL_MAX_SHIFT - POOL_MIN_SHIFT + 1)
#define POOL_MAX_BYTES ((size_t)1 << POOL_MAX_SHIFT)

struct pool_span; /* a free large object */

struct pool_class {
	struct list partial;    /* slabs with a free slot: the class is cut from slabs … */
	struct list full;       /* … and slabs without one */
	struct pool_span *free; /* or each object is a mapping of its own, and these are idle */
	uint32_t in_use;        /* objects handed out */
	uint32_t empty_slabs;   /* idle slabs among `partial`: at most one is kept */
};

struct pool {
	struct tcp_memory memory;
	struct pool_class classes[POOL_CLASSES];
	size_t limit_bytes;  /* refuse to map more than this; 0: no limit */
	size_t share_bytes;  /* refuse to hand out more, small objects apart; 0: no limit */
	size_t in_use_bytes; /* handed out, rounded to classes */
	size_t mapped_bytes; /* taken from the kernel, idle ones included */
	size_t idle_bytes;   /* idle large objects kept for reuse */
	uint64_t failures;   /* requests answered NULL */
};

void pool_init(struct pool *p, size_t limit_bytes);
/*
 * What may be handed out. From three quarters of it on memory.pressure says so; beyond it only objects of
 * POOL_SMALL_BYTES and less are, which use the eighth that is kept for them: a connection's first bytes, its end.
 * (Linux: tcp_mem, and sk_forced_mem_schedule.)
 */
void pool_set_share(struct pool *p, size_t bytes);
#define POOL_SMALL_BYTES ((size_t)2048)
/* Unmaps everything, also what is still in use: ask pool_is_empty first. */
void pool_fini(struct pool *p);
/* NULL: size 0 or above POOL_MAX_BYTES, over the limit, or the kernel refused. */
void *pool_alloc(struct pool *p, size_t size);
void pool_free(struct pool *p, void *ptr, size_t size); /* ptr NULL: nothing */
/* Nothing is handed out. */
int pool_is_empty(const struct pool *p);
/* Objects handed out in the class that serves `size`. */
uint32_t pool_in_use(const struct pool *p, size_t size);
/* Give every idle page back to the kernel. */
void pool_trim(struct pool *p);

#endif
