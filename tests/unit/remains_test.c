/* A dead process's receive ring: every frame that was not given back is visited, and no number in it is believed. */
#include <check.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "link/packet.h"
#include "link/remains.h"
#include "tests/suite.h"

#define SLOTS (RX_RING_BYTES / RX_SLOT_BYTES)
#define MAC   82
#define NET   96

static int fd;
static uint8_t *ring;

struct seen {
	struct link_remains_visit visit;
	unsigned n;
	size_t len;
	uint8_t sum; /* of all bytes: each is read */
	uint8_t first;
};

static void see(struct link_remains_visit *v, const uint8_t *ip, size_t len)
{
	struct seen *s = container_of(v, struct seen, visit);
	s->n++;
	s->len = len;
	s->first = ip[0];
	for (size_t i = 0; i < len; i++)
		s->sum += ip[i];
}

static struct seen visit(void)
{
	struct seen s = {.visit.packet = see};
	link_remains_visit(fd, &s.visit);
	return s;
}

static struct tpacket2_hdr *slot(unsigned i)
{
	return (struct tpacket2_hdr *)(ring + (size_t)i * RX_SLOT_BYTES);
}

static void frame(unsigned i, uint32_t mac, uint32_t net, uint32_t snaplen)
{
	*slot(i) = (struct tpacket2_hdr){.tp_status = TP_STATUS_USER, .tp_mac = mac, .tp_net = net, .tp_snaplen = snaplen, .tp_len = snaplen};
}

static void setup(void)
{
	fd = memfd_create("ring", 0);
	ck_assert_int_eq(ftruncate(fd, RX_RING_BYTES), 0);
	ring = mmap(NULL, RX_RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(ring, MAP_FAILED);
}

static void teardown(void)
{
	munmap(ring, RX_RING_BYTES);
	close(fd);
}

START_TEST(what_was_not_given_back_is_seen)
{
	ck_assert_uint_eq(visit().n, 0);
	frame(0, MAC, NET, 60);
	frame(SLOTS / 2, MAC, NET, 60);
	frame(SLOTS - 1, MAC, NET, 60);
	slot(SLOTS / 2)->tp_status = TP_STATUS_KERNEL;
	((uint8_t *)slot(0))[NET] = ((uint8_t *)slot(SLOTS - 1))[NET] = 0x45;
	struct seen s = visit();
	ck_assert_uint_eq(s.n, 2);
	ck_assert_uint_eq(s.len, 60 - (NET - MAC));
	ck_assert_uint_eq(s.first, 0x45);
	frame(0, NET, NET, 40); /* an interface without a link header */
	slot(SLOTS - 1)->tp_status = TP_STATUS_KERNEL;
	ck_assert_uint_eq(visit().len, 40);
}
END_TEST

START_TEST(no_number_is_believed)
{
	frame(1, 0, 0, 60);                             /* within the header */
	frame(2, NET, MAC, 60);                         /* backwards */
	frame(3, MAC, NET, NET - MAC);                  /* nothing behind it */
	frame(4, MAC, NET, RX_SLOT_BYTES - MAC + 1);    /* beyond the slot */
	frame(5, MAC, NET, UINT32_MAX);
	frame(6, UINT16_MAX, UINT16_MAX, 1);
	ck_assert_uint_eq(visit().n, 0);
	frame(SLOTS - 1, MAC, NET, RX_SLOT_BYTES - MAC); /* to its last byte */
	struct seen s = visit();
	ck_assert_uint_eq(s.n, 1);
	ck_assert_uint_eq(s.len, RX_SLOT_BYTES - NET);
}
END_TEST

START_TEST(only_packet_sockets_have_one)
{
	int other = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert(!link_remains_are(fd));
	ck_assert(!link_remains_are(other));
	ck_assert(!link_remains_are(-1));
	close(other);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("link/remains");
	TCase *tc = tcase_create("remains");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, what_was_not_given_back_is_seen);
	tcase_add_test(tc, no_number_is_believed);
	tcase_add_test(tc, only_packet_sockets_have_one);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
