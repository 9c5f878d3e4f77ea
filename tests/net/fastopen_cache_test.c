/*
 * The cache of TCP Fast Open's cookies: what one process notes, another knows; namespaces and pairs are apart; it is
 * bounded; what is spoiled is not believed.
 */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/fastopen_cache.h"
#include "tests/suite.h"

static char dir[] = "/tmp/fastopen_cache.XXXXXX", path[64];
static const uint8_t key[16] = "key of the host";

static struct ip_addr addr(uint32_t n)
{
	return ip_addr_from_v4((const uint8_t[]){10, n >> 16, n >> 8, n});
}

static struct fastopen_memo memo_of(uint32_t n)
{
	struct fastopen_memo m = {.mss = 1000 + n % 400, .len = 4 + n % 7 * 2, .old = n & 1, .asked = n % 3};
	memcpy(m.val, &n, sizeof n);
	return m;
}

static struct fastopen_cache opened(uint64_t netns, int how)
{
	struct fastopen_cache c = {0};
	ck_assert_int_eq(fastopen_cache_open(&c, dir, key, netns), how);
	return c;
}

static void assert_known(const struct fastopen_cache *c, const struct ip_addr *l, const struct ip_addr *r, uint32_t n)
{
	struct fastopen_memo m, expected = memo_of(n);
	ck_assert(fastopen_cache_get(c, l, r, &m));
	ck_assert_mem_eq(&m, &expected, sizeof m);
}

static void begin(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/fastopen.1", dir);
}

static void end(void)
{
	unlink(path);
	ck_assert_int_eq(rmdir(dir), 0);
}

START_TEST(shared_by_processes)
{
	struct fastopen_cache a = opened(1, 0), b = opened(1, 0), other = opened(2, 0);
	struct ip_addr l = addr(1), r = addr(2);
	struct fastopen_memo m = memo_of(7), got;
	ck_assert(!fastopen_cache_get(&b, &l, &r, &got));
	fastopen_cache_put(&a, &l, &r, &m);
	assert_known(&b, &l, &r, 7);
	ck_assert(!fastopen_cache_get(&other, &l, &r, &got));
	ck_assert(!fastopen_cache_get(&b, &r, &l, &got));
	ck_assert_uint_eq(got.mss + got.len + got.asked, 0);
	m = memo_of(8);
	fastopen_cache_put(&b, &l, &r, &m);
	assert_known(&a, &l, &r, 8);
}
END_TEST

/* Whatever comes, what was noted last is known, and the file does not grow. */
START_TEST(bounded)
{
	struct fastopen_cache c = opened(1, 0);
	struct ip_addr l = addr(0);
	struct stat before, after;
	ck_assert_int_eq(stat(path, &before), 0);
	for (uint32_t n = 1; n <= 20000; n++) {
		struct ip_addr r = addr(n);
		struct fastopen_memo m = memo_of(n);
		fastopen_cache_put(&c, &l, &r, &m);
		if (n % 1000 == 0)
			assert_known(&c, &l, &r, n);
	}
	unsigned known = 0;
	for (uint32_t n = 1; n <= 20000; n++) {
		struct ip_addr r = addr(n);
		struct fastopen_memo m, expected = memo_of(n);
		if (!fastopen_cache_get(&c, &l, &r, &m))
			continue;
		ck_assert_mem_eq(&m, &expected, sizeof m);
		known++;
	}
	ck_assert_uint_le(known, 4096);
	ck_assert_uint_ge(known, 3500);
	ck_assert_int_eq(stat(path, &after), 0);
	ck_assert_int_eq(before.st_size, after.st_size);
}
END_TEST

/* One bit anywhere in an entry: it is as if nothing were known. */
START_TEST(spoiled)
{
	struct fastopen_cache c = opened(1, 0);
	struct ip_addr l = addr(1), r = addr(2);
	struct fastopen_memo m = memo_of(5), got;
	struct stat st;
	fastopen_cache_put(&c, &l, &r, &m);
	ck_assert_int_eq(stat(path, &st), 0);
	unsigned bits = 0;
	for (off_t w = 0; w < st.st_size / 8; w++) {
		for (int bit = 0; c.words[w] && bit < 64; bit++) {
			c.words[w] ^= UINT64_C(1) << bit;
			ck_assert(!fastopen_cache_get(&c, &l, &r, &got));
			c.words[w] ^= UINT64_C(1) << bit;
			bits++;
		}
	}
	ck_assert_uint_ge(bits, 3 * 64);
	assert_known(&c, &l, &r, 5);
}
END_TEST

/* A file that others may write is not used. */
START_TEST(own_where_the_file_is_not_ours)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fchmod(fd, 0666), 0);
	struct fastopen_cache a = opened(1, 1), b = opened(1, 1);
	struct ip_addr l = addr(1), r = addr(2);
	struct fastopen_memo m = memo_of(7), got;
	fastopen_cache_put(&a, &l, &r, &m);
	assert_known(&a, &l, &r, 7);
	ck_assert(!fastopen_cache_get(&b, &l, &r, &got));
	close(fd);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fastopen_cache");
	TCase *t = tcase_create("fastopen_cache");
	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, shared_by_processes);
	tcase_add_test(t, bounded);
	tcase_add_test(t, spoiled);
	tcase_add_test(t, own_where_the_file_is_not_ours);
	suite_add_tcase(s, t);
	return suite_main(s);
}
