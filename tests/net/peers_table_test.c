/* The table of hosts that run finesse, too. */
#include "kernel/peers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/unit/unit.h"

#define HOUR_US (3600 * USEC_PER_SEC)
#define NOW_US  (1000 * USEC_PER_SEC)

static const uint8_t key[16] = "0123456789abcdef";
static char dir[64];

static struct ip_addr host(uint32_t n)
{
	uint8_t b[4] = {10, n >> 16, n >> 8, n};
	return ip_addr_from_v4(b);
}

static void make_dir(void)
{
	strcpy(dir, "/tmp/peers_test.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_dir(void)
{
	char path[96];
	snprintf(path, sizeof path, "%s/peers.1", dir);
	unlink(path);
	rmdir(dir);
}

START_TEST(processes_share_it)
{
	struct peers a = {0}, b = {0}, other = {0};
	struct ip_addr h = host(1);
	ck_assert_int_eq(peers_open(&a, dir, key, 7), 0);
	ck_assert_int_eq(peers_open(&b, dir, key, 7), 0);
	ck_assert_int_eq(peers_open(&other, dir, key, 8), 0);
	ck_assert(!peers_know(&a, &h, NOW_US));
	peers_note(&a, &h, NOW_US);
	ck_assert(peers_know(&a, &h, NOW_US));
	ck_assert(peers_know(&b, &h, NOW_US));
	ck_assert(!peers_know(&other, &h, NOW_US)); /* another network namespace's addresses are others */
	peers_forget(&b, &h);
	ck_assert(!peers_know(&a, &h, NOW_US));
}
END_TEST

START_TEST(an_hour)
{
	struct peers p = {0};
	struct ip_addr h = host(1);
	ck_assert_int_eq(peers_open(&p, dir, key, 7), 0);
	peers_note(&p, &h, NOW_US);
	ck_assert(peers_know(&p, &h, NOW_US + HOUR_US - USEC_PER_SEC));
	ck_assert(!peers_know(&p, &h, NOW_US + HOUR_US));
	ck_assert(!peers_know(&p, &h, NOW_US - USEC_PER_SEC)); /* the clock of another boot */
	peers_note(&p, &h, NOW_US + HOUR_US);
	ck_assert(peers_know(&p, &h, NOW_US + HOUR_US));
}
END_TEST

/* Bounded: the newest of too many are there. */
START_TEST(too_many)
{
	struct peers p = {0};
	ck_assert_int_eq(peers_open(&p, dir, key, 7), 0);
	for (uint32_t i = 0; i < 20000; i++) {
		struct ip_addr h = host(i);
		peers_note(&p, &h, NOW_US + i * 1000);
		ck_assert(peers_know(&p, &h, NOW_US + i * 1000));
	}
	int known = 0;
	for (uint32_t i = 0; i < 20000; i++) {
		struct ip_addr h = host(i);
		known += peers_know(&p, &h, NOW_US + 20000 * 1000);
	}
	ck_assert_int_le(known, 4096);
	ck_assert_int_ge(known, 3500);
}
END_TEST

START_TEST(without_the_file)
{
	struct peers p = {0};
	struct ip_addr h = host(1);
	ck_assert_int_eq(peers_open(&p, "/nonexistent", key, 7), 1);
	peers_note(&p, &h, NOW_US);
	ck_assert(peers_know(&p, &h, NOW_US));
}
END_TEST

/* Marks look like any number: no two FINs in a row have neighbouring ones. */
START_TEST(marks)
{
	int near = 0;
	for (uint32_t seq = 0xffffff00; seq != 0x100; seq++) {
		ck_assert_uint_ne(peers_mark(seq), 0);
		near += (uint16_t)(peers_mark(seq + 1) - peers_mark(seq) + 8) < 16;
	}
	ck_assert_int_le(near, 4);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("peers");
	TCase *tc = tcase_create("peers");
	tcase_add_checked_fixture(tc, make_dir, remove_dir);
	tcase_add_test(tc, processes_share_it);
	tcase_add_test(tc, an_hour);
	tcase_add_test(tc, too_many);
	tcase_add_test(tc, without_the_file);
	tcase_add_test(tc, marks);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
