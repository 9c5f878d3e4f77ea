/*
 * Theory of operation
 *
 * Owns: its mappings. Small classes (up to SMALL_MAX) are cut from slabs: mappings of SLAB_BYTES
 * aligned to SLAB_BYTES, so that an object finds its slab by masking its address. Slot 0 of a slab
 * is its header; slots never used yet are untouched memory, handed out by `fresh`; freed slots form a
 * list through their first word. A large class maps each object by itself and keeps freed ones on
 * a list through their first word.
 *
 * Invariants: a slab is on `partial` iff it has a free slot, else on `full`. At most one slab per
 * class is empty, and idle large objects hold at most IDLE_MAX bytes; what exceeds that goes back
 * to the kernel at once, so memory follows use down again, without a system call per object.
 *
 * Limits: limit_bytes bounds mapped_bytes, but for what is owed. No timers, no events.
 *
 * References: Bonwick, "The Slab Allocator" (USENIX 1994).
 */
#include "base/pool.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "base/sys.h"

#define SLAB_BYTES  ((size_t)1 << 20) /* 15 slots of the largest small class */
#define SMALL_SHIFT 16                /* 64 KiB */
#define SMALL_MAX   ((size_t)1 << SMALL_SHIFT)
#define IDLE_MAX    ((size_t)32 << 20) /* four of the largest class */

/* With AddressSanitizer a freed object is poisoned but for its link word, so a late use is seen. */
#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif
#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#define poison(p, n)   ASAN_POISON_MEMORY_REGION(p, n)
#define unpoison(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define poison(p, n)   ((void)(p), (void)(n))
#define unpoison(p, n) ((void)(p), (void)(n))
#endif

struct pool_span {
	struct pool_span *next;
};

struct slab {
	struct list node;       /* class->partial or class->full */
	struct pool_span *free; /* slots that were used before */
	uint32_t fresh;         /* next slot never used; `slots`: none left */
	uint32_t slots;         /* with slot 0, the header */
	uint32_t in_use;
};

_Static_assert(sizeof(struct slab) <= (size_t)1 << POOL_MIN_SHIFT, "the header fits into slot 0");

static unsigned class_of(size_t size)
{
	if (size <= (size_t)1 << POOL_MIN_SHIFT)
		return 0;
	return 64 - __builtin_clzl(size - 1) - POOL_MIN_SHIFT;
}

static size_t class_bytes(unsigned class)
{
	return (size_t)1 << (class + POOL_MIN_SHIFT);
}

static bool is_over_limit(const struct pool *p, size_t n)
{
	return p->limit_bytes && !p->memory.owed && p->mapped_bytes + n > p->limit_bytes;
}

static void *map(struct pool *p, size_t n)
{
	if (is_over_limit(p, n))
		pool_trim(p);
	if (is_over_limit(p, n))
		return NULL;
	void *at = sys_mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sys_is_error(at))
		return NULL;
	p->mapped_bytes += n;
	return at;
}

static void unmap(struct pool *p, void *at, size_t n)
{
	unpoison(at, n);
	sys_munmap(at, n);
	p->mapped_bytes -= n;
}

/* SLAB_BYTES aligned to SLAB_BYTES: map twice as much and give the ends back. */
static void *map_slab(struct pool *p)
{
	char *at = map(p, 2 * SLAB_BYTES);
	if (!at)
		return NULL;
	size_t head = -(uintptr_t)at & (SLAB_BYTES - 1);
	if (head)
		unmap(p, at, head);
	unmap(p, at + head + SLAB_BYTES, SLAB_BYTES - head);
	return at + head;
}

static struct slab *slab_new(struct pool *p, unsigned class)
{
	struct slab *s = map_slab(p);
	if (!s)
		return NULL;
	s->free = NULL;
	s->fresh = 1;
	s->slots = SLAB_BYTES / class_bytes(class);
	s->in_use = 0;
	list_push_front(&p->classes[class].partial, &s->node);
	p->classes[class].empty_slabs++;
	return s;
}

static void slab_drop(struct pool *p, struct pool_class *c, struct slab *s)
{
	list_unlink(&s->node);
	c->empty_slabs--;
	unmap(p, s, SLAB_BYTES);
}

static void *small_alloc(struct pool *p, unsigned class)
{
	struct pool_class *c = &p->classes[class];
	struct list *node = list_first(&c->partial);
	struct slab *s = node ? container_of(node, struct slab, node) : slab_new(p, class);
	struct pool_span *obj;

	if (!s)
		return NULL;
	if (s->in_use++ == 0)
		c->empty_slabs--;
	if (s->free) {
		obj = s->free;
		s->free = obj->next;
		unpoison(obj, class_bytes(class));
	} else {
		obj = (void *)((char *)s + s->fresh++ * class_bytes(class));
	}
	if (!s->free && s->fresh == s->slots) {
		list_unlink(&s->node);
		list_push_back(&c->full, &s->node);
	}
	return obj;
}

static void small_free(struct pool *p, unsigned class, void *ptr)
{
	struct pool_class *c = &p->classes[class];
	struct slab *s = (void *)((uintptr_t)ptr & ~(SLAB_BYTES - 1));
	struct pool_span *obj = ptr;
	bool was_full = !s->free && s->fresh == s->slots;

	assert((size_t)s->slots == SLAB_BYTES / class_bytes(class) && s->in_use);
	obj->next = s->free;
	s->free = obj;
	poison(obj + 1, class_bytes(class) - sizeof *obj);
	if (was_full) {
		list_unlink(&s->node);
		list_push_back(&c->partial, &s->node);
	}
	if (--s->in_use == 0 && ++c->empty_slabs > 1)
		slab_drop(p, c, s);
}

static void *large_alloc(struct pool *p, unsigned class)
{
	struct pool_class *c = &p->classes[class];
	struct pool_span *obj = c->free;
	if (!obj)
		return map(p, class_bytes(class));
	c->free = obj->next;
	p->idle_bytes -= class_bytes(class);
	unpoison(obj, class_bytes(class));
	return obj;
}

static void large_free(struct pool *p, unsigned class, void *ptr)
{
	struct pool_class *c = &p->classes[class];
	struct pool_span *obj = ptr;
	size_t n = class_bytes(class);
	if (p->idle_bytes + n > IDLE_MAX) {
		unmap(p, ptr, n);
		return;
	}
	obj->next = c->free;
	c->free = obj;
	p->idle_bytes += n;
	poison(obj + 1, n - sizeof *obj);
}

#define SLABS_SLACK (16 * SLAB_BYTES) /* slabs that are not full, one being aligned */

void pool_set_share(struct pool *p, size_t bytes)
{
	p->share_bytes = bytes;
	p->limit_bytes = bytes ? bytes + bytes / 8 + SLABS_SLACK : 0;
	p->memory.pressure = false;
}

static bool is_over_share(const struct pool *p, size_t n)
{
	if (!p->share_bytes || p->memory.owed)
		return false;
	size_t most = n <= POOL_SMALL_BYTES ? p->share_bytes + p->share_bytes / 8 : p->share_bytes;
	return p->in_use_bytes + n > most;
}

static void note_pressure(struct pool *p)
{
	p->memory.pressure = p->share_bytes && p->in_use_bytes > p->share_bytes / 4 * 3;
}

void *pool_alloc(struct pool *p, size_t size)
{
	void *obj = NULL;
	unsigned class = class_of(size);
	if (size && size <= POOL_MAX_BYTES && !is_over_share(p, class_bytes(class)))
		obj = class_bytes(class) <= SMALL_MAX ? small_alloc(p, class) :
							large_alloc(p, class);
	if (!obj) {
		p->failures++;
		return NULL;
	}
	p->classes[class].in_use++;
	p->in_use_bytes += class_bytes(class);
	note_pressure(p);
	return obj;
}

void pool_free(struct pool *p, void *ptr, size_t size)
{
	unsigned class = class_of(size);
	if (!ptr)
		return;
	assert(size && size <= POOL_MAX_BYTES && p->classes[class].in_use);
	p->classes[class].in_use--;
	p->in_use_bytes -= class_bytes(class);
	note_pressure(p);
	if (class_bytes(class) <= SMALL_MAX)
		small_free(p, class, ptr);
	else
		large_free(p, class, ptr);
}

static void *memory_alloc(struct tcp_memory *m, size_t size)
{
	return pool_alloc(container_of(m, struct pool, memory), size);
}

static void memory_free(struct tcp_memory *m, void *ptr, size_t size)
{
	pool_free(container_of(m, struct pool, memory), ptr, size);
}

void pool_init(struct pool *p, size_t limit_bytes)
{
	memset(p, 0, sizeof *p);
	p->memory.alloc = memory_alloc;
	p->memory.free = memory_free;
	p->limit_bytes = limit_bytes;
	for (unsigned i = 0; i < POOL_CLASSES; i++) {
		list_init(&p->classes[i].partial);
		list_init(&p->classes[i].full);
	}
}

void pool_trim(struct pool *p)
{
	for (unsigned i = 0; i < POOL_CLASSES; i++) {
		struct pool_class *c = &p->classes[i];
		struct pool_span *obj;
		list_for_each(node, tmp, &c->partial) {
			struct slab *s = container_of(node, struct slab, node);
			if (!s->in_use)
				slab_drop(p, c, s);
		}
		while ((obj = c->free)) {
			c->free = obj->next;
			p->idle_bytes -= class_bytes(i);
			unmap(p, obj, class_bytes(i));
		}
	}
}

void pool_fini(struct pool *p)
{
	pool_trim(p);
	for (unsigned i = 0; i < POOL_CLASSES; i++) {
		struct pool_class *c = &p->classes[i];
		list_for_each(node, tmp, &c->partial)
			unmap(p, container_of(node, struct slab, node), SLAB_BYTES);
		list_for_each(node, tmp, &c->full)
			unmap(p, container_of(node, struct slab, node), SLAB_BYTES);
		list_init(&c->partial);
		list_init(&c->full);
	}
}

int pool_is_empty(const struct pool *p)
{
	return p->in_use_bytes == 0;
}

uint32_t pool_in_use(const struct pool *p, size_t size)
{
	return size && size <= POOL_MAX_BYTES ? p->classes[class_of(size)].in_use : 0;
}
