/* The 4-tuple table: find, collide, grow, remove. */
#include <errno.h>
#include <string.h>

#include "ip/ip.h"
#include "unit.h"

static const uint8_t secret[16] = "a fixed secret!";
static struct flow_hasher hasher;
static struct demux d;

static void setup(void)
{
	flow_hasher_init(&hasher, secret);
	ck_assert_int_eq(demux_init(&d, &hasher), 0);
}

static void teardown(void)
{
	ck_assert_uint_eq(d.count, 0);
	demux_fini(&d);
}

static struct flow_key key_v4(uint32_t client, uint16_t rport)
{
	uint8_t r[4];
	memcpy(r, &client, 4);
	return (struct flow_key){ip_addr_from_v4("\x0a\x09\x02\x02"), ip_addr_from_v4(r), 80, rport};
}

START_TEST(test_every_field_counts)
{
	struct flow f = {.key = key_v4(7, 1000)};
	ck_assert_int_eq(demux_insert(&d, &f), 0);
	ck_assert_ptr_eq(demux_find(&d, &f.key), &f);
	for (size_t bit = 0; bit < 8 * sizeof f.key; bit++) {
		struct flow_key k = f.key;
		((uint8_t *)&k)[bit / 8] ^= 1 << bit % 8;
		ck_assert_ptr_null(demux_find(&d, &k));
	}
	demux_remove(&d, &f);
	ck_assert_ptr_null(demux_find(&d, &f.key));
}
END_TEST

/* What is remembered is the hash of just this key, from the beginning on. */
START_TEST(test_hasher_remembers)
{
	struct flow_key none = {0}, a = key_v4(7, 1000), b = key_v4(7, 1001);
	const struct flow_key *asked[] = {&none, &a, &a, &b, &a, &none, &none, &b};
	for (size_t i = 0; i < sizeof asked / sizeof *asked; i++)
		ck_assert_uint_eq(flow_hash(&hasher, asked[i]), flow_key_hash(asked[i], secret));
}
END_TEST

START_TEST(test_exists)
{
	struct flow a = {.key = key_v4(7, 1000)}, b = a;
	ck_assert_int_eq(demux_insert(&d, &a), 0);
	ck_assert_int_eq(demux_insert(&d, &b), -EEXIST);
	ck_assert_uint_eq(d.count, 1);
	ck_assert_ptr_eq(demux_find(&d, &b.key), &a);
	demux_remove(&d, &a);
	ck_assert_int_eq(demux_insert(&d, &b), 0);
	ck_assert_ptr_eq(demux_find(&d, &a.key), &b);
	demux_remove(&d, &b);
}
END_TEST

/* IPv4 flows hash by another rule than IPv6 flows: both are found side by side. */
START_TEST(test_families)
{
	struct flow v4 = {.key = key_v4(7, 1000)}, v6 = v4;
	v6.key.laddr.b[0] = 0xfd;
	v6.key.raddr.b[0] = 0xfd;
	ck_assert_int_eq(demux_insert(&d, &v4), 0);
	ck_assert_int_eq(demux_insert(&d, &v6), 0);
	ck_assert_ptr_eq(demux_find(&d, &v4.key), &v4);
	ck_assert_ptr_eq(demux_find(&d, &v6.key), &v6);
	demux_remove(&d, &v4);
	demux_remove(&d, &v6);
}
END_TEST

/* Growth over many doublings; removal in another order; every flow is found at every stage. */
START_TEST(test_growth_and_removal)
{
	enum { N = 20000 };
	static struct flow f[N];
	uint32_t first = d.n_buckets;
	bool all = true;
	for (uint32_t i = 0; i < N; i++) {
		f[i].key = key_v4(i / 100, i % 100);
		all &= demux_insert(&d, &f[i]) == 0;
	}
	ck_assert(all);
	ck_assert_uint_eq(d.count, N);
	ck_assert_uint_gt(d.n_buckets, first);
	ck_assert_uint_ge(d.n_buckets, N);
	for (uint32_t i = 0; i < N; i++)
		all &= demux_find(&d, &f[i].key) == &f[i];
	for (uint32_t i = 0; i < N; i += 3)
		demux_remove(&d, &f[i]);
	for (uint32_t i = 0; i < N; i++)
		all &= demux_find(&d, &f[i].key) == (i % 3 ? &f[i] : NULL);
	ck_assert(all);
	for (uint32_t i = N; i-- > 0;)
		if (i % 3)
			demux_remove(&d, &f[i]);
}
END_TEST

/* All flows in one chain (the hash forced equal by one bucket): removal of head, middle and tail. */
START_TEST(test_collisions)
{
	struct flow f[3];
	d.n_buckets = 1;
	d.count = 0;
	for (int first = 0; first < 3; first++) {
		for (int i = 0; i < 3; i++) {
			f[i] = (struct flow){.key = key_v4(7, i)};
			d.n_buckets = 1; /* not grown: the array has room for more */
			d.count = 0;
			ck_assert_int_eq(demux_insert(&d, &f[i]), 0);
		}
		d.count = 3;
		demux_remove(&d, &f[first]);
		for (int i = 0; i < 3; i++)
			ck_assert_ptr_eq(demux_find(&d, &f[i].key), i == first ? NULL : &f[i]);
		demux_remove(&d, &f[(first + 1) % 3]);
		demux_remove(&d, &f[(first + 2) % 3]);
	}
}
END_TEST

/* Two keys with one 32-bit hash, made by lying about one's: the key decides. */
START_TEST(test_equal_hashes)
{
	struct flow a = {.key = key_v4(7, 1)}, b = {.key = key_v4(7, 2)};
	ck_assert_int_eq(demux_insert(&d, &a), 0);
	ck_assert_int_eq(demux_insert(&d, &b), 0);
	demux_remove(&d, &b);
	a.hash = b.hash;
	memset(d.buckets, 0, d.n_buckets * sizeof *d.buckets);
	d.buckets[a.hash & (d.n_buckets - 1)] = &a;
	ck_assert_ptr_null(demux_find(&d, &b.key));
	ck_assert_int_eq(demux_insert(&d, &b), 0);
	ck_assert_ptr_eq(demux_find(&d, &b.key), &b);
	demux_remove(&d, &b);
	demux_remove(&d, &a);
}
END_TEST

/* Sequential clients spread: no bucket holds more than a random hash would put there. */
START_TEST(test_spread)
{
	enum { N = 8192 };
	static struct flow f[N];
	unsigned longest = 0;
	for (uint32_t i = 0; i < N; i++) {
		f[i].key = key_v4(1, i);
		demux_insert(&d, &f[i]);
	}
	for (uint32_t i = 0; i < d.n_buckets; i++) {
		unsigned n = 0;
		for (struct flow *at = d.buckets[i]; at; at = at->hash_next)
			n++;
		longest = n > longest ? n : longest;
	}
	ck_assert_uint_le(longest, 12); /* load 1: P(> 12) < 1e-9 per bucket; the secret is fixed */
	for (uint32_t i = 0; i < N; i++)
		demux_remove(&d, &f[i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ip/demux");
	TCase *tc = tcase_create("demux");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_every_field_counts);
	tcase_add_test(tc, test_hasher_remembers);
	tcase_add_test(tc, test_exists);
	tcase_add_test(tc, test_families);
	tcase_add_test(tc, test_growth_and_removal);
	tcase_add_test(tc, test_collisions);
	tcase_add_test(tc, test_equal_hashes);
	tcase_add_test(tc, test_spread);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
