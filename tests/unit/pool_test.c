/* The pool: classes, reuse, accounting, memory that goes back, exhaustion. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "tests/suite.h"

#define MIB ((size_t)1 << 20)

static struct pool pool;

static void setup(void)
{
	pool_init(&pool, 0);
}

static void teardown(void)
{
	ck_assert(pool_is_empty(&pool));
	pool_trim(&pool);
	ck_assert_uint_eq(pool.mapped_bytes, 0);
	pool_fini(&pool);
}

START_TEST(test_sizes_round_up_to_classes)
{
	for (size_t size = 1; size <= POOL_MAX_BYTES; size = size < 200 ? size + 1 : size * 3 / 2) {
		size_t class = 64;
		while (class < size)
			class *= 2;
		uint8_t *p = pool_alloc(&pool, size);
		ck_assert_ptr_nonnull(p);
		memset(p, 0xa5, class); /* all of the class is ours */
		size_t align = class < 65536 ? class : 4096;
		ck_assert_uint_eq((uintptr_t)p % align, 0);
		ck_assert_uint_eq(pool.in_use_bytes, class);
		ck_assert_uint_eq(pool_in_use(&pool, size), 1);
		ck_assert(!pool_is_empty(&pool));
		pool_free(&pool, p, size);
		ck_assert_uint_eq(pool_in_use(&pool, size), 0);
	}
}
END_TEST

START_TEST(test_refused_sizes)
{
	ck_assert_ptr_null(pool_alloc(&pool, 0));
	ck_assert_ptr_null(pool_alloc(&pool, POOL_MAX_BYTES + 1));
	ck_assert_ptr_null(pool_alloc(&pool, SIZE_MAX));
	ck_assert_uint_eq(pool.failures, 3);
	pool_free(&pool, NULL, 64);
}
END_TEST

/* Many objects of every class at once never overlap, and all memory goes back when they go. */
START_TEST(test_objects_do_not_overlap)
{
	enum { N = 40 };
	uint8_t *objs[POOL_CLASSES][N];
	for (unsigned c = 0; c < POOL_CLASSES; c++)
		for (unsigned i = 0; i < N && ((size_t)64 << c) * i < 4 * MIB; i++) {
			objs[c][i] = pool_alloc(&pool, (size_t)64 << c);
			ck_assert_ptr_nonnull(objs[c][i]);
			memset(objs[c][i], (int)(c * N + i), (size_t)64 << c);
		}
	for (unsigned c = 0; c < POOL_CLASSES; c++)
		for (unsigned i = 0; i < N && ((size_t)64 << c) * i < 4 * MIB; i++) {
			size_t n = (size_t)64 << c;
			ck_assert_uint_eq(objs[c][i][0], (uint8_t)(c * N + i));
			ck_assert_int_eq(memcmp(objs[c][i], objs[c][i] + 1, n - 1), 0);
			pool_free(&pool, objs[c][i], n);
		}
}
END_TEST

START_TEST(test_freed_object_is_reused)
{
	static const size_t sizes[] = {64, 4096, 65536, 131072, POOL_MAX_BYTES};
	for (unsigned i = 0; i < 5; i++) {
		void *a = pool_alloc(&pool, sizes[i]);
		pool_free(&pool, a, sizes[i]);
		size_t mapped = pool.mapped_bytes;
		void *b = pool_alloc(&pool, sizes[i]);
		ck_assert_ptr_eq(a, b);
		ck_assert_uint_eq(pool.mapped_bytes, mapped);
		pool_free(&pool, b, sizes[i]);
	}
}
END_TEST

/* A crowd of objects leaves; what stays mapped is bounded, not the crowd's peak. */
START_TEST(test_memory_follows_use_down)
{
	enum { SMALL = 40000, LARGE = 64 };
	static void *small[SMALL], *large[LARGE];
	for (unsigned i = 0; i < SMALL; i++)
		ck_assert_ptr_nonnull(small[i] = pool_alloc(&pool, 1024));
	for (unsigned i = 0; i < LARGE; i++)
		ck_assert_ptr_nonnull(large[i] = pool_alloc(&pool, 2 * MIB));
	ck_assert_uint_ge(pool.mapped_bytes, SMALL * 1024 + LARGE * 2 * MIB);
	for (unsigned i = 0; i < SMALL; i++) /* every second first: slabs half empty */
		pool_free(&pool, small[i * 2 % SMALL + i * 2 / SMALL], 1024);
	for (unsigned i = 0; i < LARGE; i++)
		pool_free(&pool, large[i], 2 * MIB);
	ck_assert(pool_is_empty(&pool));
	ck_assert_uint_le(pool.mapped_bytes, 33 * MIB); /* 32 idle, one empty slab */
	ck_assert_uint_eq(pool.classes[4].empty_slabs, 1);
}
END_TEST

START_TEST(test_limit)
{
	struct pool p;
	void *objs[8];
	unsigned n = 0;
	pool_init(&p, 8 * MIB);
	while (n < 8 && (objs[n] = pool_alloc(&p, 2 * MIB)))
		n++;
	ck_assert_uint_eq(n, 4);
	ck_assert_uint_eq(p.failures, 1);
	pool_free(&p, objs[0], 2 * MIB);
	objs[0] = pool_alloc(&p, 2 * MIB);
	ck_assert_ptr_nonnull(objs[0]);
	pool_fini(&p); /* in use: unmapped all the same */
	ck_assert_uint_eq(p.mapped_bytes, 4 * 2 * MIB);
}
END_TEST

/* A share: pressure from three quarters on, nothing large beyond it, an eighth for small objects. */
START_TEST(test_share)
{
	struct pool p;
	static void *small[8192];
	void *objs[16];
	unsigned n = 0, k = 0;
	pool_init(&p, 0);
	pool_set_share(&p, 8 * MIB);
	while (n < 16 && (objs[n] = pool_alloc(&p, MIB))) {
		n++;
		ck_assert_int_eq(p.memory.pressure, n > 6);
	}
	ck_assert_uint_eq(n, 8);
	while (k < 8192 && (small[k] = pool_alloc(&p, 1024)))
		k++;
	ck_assert_uint_eq(k, 1024);
	p.memory.owed = true; /* that is had in any case, and nothing else */
	small[k] = pool_alloc(&p, 1024);
	p.memory.owed = false;
	ck_assert_ptr_nonnull(small[k]);
	pool_free(&p, small[k], 1024);
	ck_assert_ptr_null(pool_alloc(&p, 1024));
	pool_free(&p, objs[0], MIB);
	ck_assert(p.memory.pressure);
	while (k)
		pool_free(&p, small[--k], 1024);
	pool_free(&p, objs[1], MIB);
	ck_assert(!p.memory.pressure);
	ck_assert_ptr_nonnull(pool_alloc(&p, 2 * MIB)); /* what is idle is given back for it */
	pool_fini(&p);
}
END_TEST

/* The TCP core's view, at random, checked against a shadow copy. Fixed seed. */
START_TEST(test_random_through_vtable)
{
	enum { N = 300, STEPS = 30000 };
	static struct {
		uint8_t *p;
		size_t size;
		uint8_t tag;
	} obj[N];
	struct tcp_memory *m = &pool.memory;
	uint32_t seed = 1;
	for (unsigned step = 0; step < STEPS; step++) {
		seed = seed * 1664525 + 1013904223;
		unsigned i = (seed >> 8) % N;
		if (obj[i].p) {
			ck_assert_uint_eq(obj[i].p[0], obj[i].tag);
			ck_assert_uint_eq(obj[i].p[obj[i].size - 1], obj[i].tag);
			m->free(m, obj[i].p, obj[i].size);
			obj[i].p = NULL;
			continue;
		}
		obj[i].size = (size_t)64 << (seed >> 20) % 12;
		obj[i].tag = step;
		obj[i].p = m->alloc(m, obj[i].size);
		ck_assert_ptr_nonnull(obj[i].p);
		obj[i].p[0] = obj[i].p[obj[i].size - 1] = obj[i].tag;
	}
	for (unsigned i = 0; i < N; i++)
		if (obj[i].p)
			m->free(m, obj[i].p, obj[i].size);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool");
	TCase *tc = tcase_create("pool");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_sizes_round_up_to_classes);
	tcase_add_test(tc, test_refused_sizes);
	tcase_add_test(tc, test_objects_do_not_overlap);
	tcase_add_test(tc, test_freed_object_is_reused);
	tcase_add_test(tc, test_memory_follows_use_down);
	tcase_add_test(tc, test_limit);
	tcase_add_test(tc, test_share);
	tcase_add_test(tc, test_random_through_vtable);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
