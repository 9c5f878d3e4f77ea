#include "link/link.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

struct out {
	struct link_fake_out o;
	unsigned n;
	uint8_t last[4096];
	uint32_t len;
	struct link_tx tx;
	uint32_t payload_in_tx;
};

static void on_sent(struct link_fake_out *o, const uint8_t *frame, uint32_t len,
		    const struct link_tx *tx)
{
	struct out *out = (struct out *)o;
	out->n++;
	out->len = len;
	out->tx = *tx;
	memcpy(out->last, frame, len);
	ck_assert_mem_eq(tx->hdr, frame, tx->hdr_len);
	out->payload_in_tx = 0;
	for (int i = 0; i < tx->n_payload; i++)
		out->payload_in_tx += tx->payload[i].iov_len;
}

struct in {
	struct link_rx_handler h;
	unsigned n;
	uint8_t first_byte;
	struct link_rx rx;
};

static void on_frame(struct link_rx_handler *h, const struct link_rx *rx)
{
	struct in *in = (struct in *)h;
	in->n++;
	in->rx = *rx;
	in->first_byte = rx->data[0];
}

static struct out out;
static struct in in;
static struct link *l;

static void setup(void)
{
	struct link_info info = {
	    .mtu = 1500, .has_eth = true, .gso_v4 = true, .gso_max_bytes = 64240};
	memset(&out, 0, sizeof out);
	memset(&in, 0, sizeof in);
	out.o.sent = on_sent;
	in.h.frame = on_frame;
	ck_assert_int_eq(link_open_fake(&l, &info, &out.o), 0);
}

static void teardown(void)
{
	link_close(l);
}

static bool polls(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	return poll(&p, 1, 0) == 1;
}

static int send_text(const char *a, const char *b)
{
	static uint8_t hdr[20];
	struct iovec iov[2] = {{(void *)a, strlen(a)}, {(void *)b, strlen(b)}};
	struct link_tx tx = {.hdr = hdr, .hdr_len = sizeof hdr, .payload = iov, .n_payload = 2};
	memset(hdr, 'h', sizeof hdr);
	int err = link_send(l, &tx);
	memset(hdr, 'x', sizeof hdr); /* copied by now */
	return err;
}

START_TEST(frames_leave_at_flush)
{
	ck_assert_int_eq(send_text("ab", "cd"), 0);
	ck_assert_uint_eq(out.n, 0);
	ck_assert_int_eq(link_flush(l), 1);
	ck_assert_uint_eq(out.len, 24);
	ck_assert_mem_eq(out.last, "hhhhhhhhhhhhhhhhhhhhabcd", 24);
	ck_assert_uint_eq(link_counters(l)[LINKC_TxFrames], 1);
	ck_assert_uint_eq(link_counters(l)[LINKC_TxBytes], 24);
	ck_assert_int_eq(link_flush(l), 0);
}
END_TEST

START_TEST(a_long_queue_is_flushed_early)
{
	for (int i = 0; i < 300; i++)
		ck_assert_int_eq(send_text("a", "b"), 0);
	ck_assert_uint_gt(out.n, 0);
	link_flush(l);
	ck_assert_uint_eq(out.n, 300);
}
END_TEST

START_TEST(blocked_frames_wait_in_order)
{
	link_fake_block_tx(l, true);
	ck_assert(!polls(link_tx_fd(l), POLLOUT));
	char text[2] = "a";
	for (; text[0] <= 'e'; text[0]++) {
		send_text(text, "");
		ck_assert_int_eq(link_flush(l), 0); /* the payload may change from here on */
	}
	ck_assert(link_tx_blocked(l));
	ck_assert_uint_eq(out.n, 0);
	link_fake_block_tx(l, false);
	ck_assert(polls(link_tx_fd(l), POLLOUT));
	ck_assert(link_tx_blocked(l));
	send_text("f", "");
	ck_assert_int_eq(link_flush(l), 6);
	ck_assert(!link_tx_blocked(l));
	ck_assert_uint_eq(out.last[20], 'f');
	ck_assert_uint_eq(link_counters(l)[LINKC_TxDeferred], 5);
}
END_TEST

START_TEST(what_is_kept_back_is_bounded)
{
	link_fake_block_tx(l, true);
	int err = 0, n = 0;
	while (!err && n++ < 100000)
		err = send_text("a", "b");
	ck_assert_int_eq(err, -ENOBUFS);
	ck_assert_uint_eq(link_counters(l)[LINKC_TxDroppedPendingFull], 1);
}
END_TEST

START_TEST(the_mtu_is_a_limit)
{
	static uint8_t zeros[70000];
	struct iovec iov = {zeros, 1500 - 6};
	struct link_tx tx = {.hdr = zeros, .hdr_len = 20, .payload = &iov, .n_payload = 1};
	ck_assert_int_eq(link_send(l, &tx), 0);
	iov.iov_len++;
	ck_assert_int_eq(link_send(l, &tx), -EMSGSIZE);
	tx.gso_size = 1494;
	ck_assert_int_eq(link_send(l, &tx), 0);
	tx.gso_size = 1495; /* a piece would not fit */
	ck_assert_int_eq(link_send(l, &tx), -EMSGSIZE);
	tx.gso_size = 1000;
	iov.iov_len = 64241;
	ck_assert_int_eq(link_send(l, &tx), -EMSGSIZE);
	iov.iov_len = 2000;
	tx.v6 = true; /* not offered by this link */
	ck_assert_int_eq(link_send(l, &tx), -EMSGSIZE);
	tx.hdr_len = LINK_HDR_MAX + 1;
	ck_assert_int_eq(link_send(l, &tx), -EINVAL);
	ck_assert_uint_eq(link_counters(l)[LINKC_TxDroppedTooBig], 4);
}
END_TEST

START_TEST(injected_frames_come_in_order_within_the_budget)
{
	uint8_t byte;
	struct link_rx rx = {.data = &byte,
			     .len = 1,
			     .wire_len = 9,
			     .ethertype = 0x86dd,
			     .csum_ok = true,
			     .gso_size = 7};
	ck_assert(!polls(link_rx_fd(l), POLLIN));
	for (byte = 1; byte <= 5; byte++)
		ck_assert_int_eq(link_fake_inject(l, &rx), 0);
	byte = 0; /* copied */
	ck_assert(link_rx_pending(l));
	ck_assert(polls(link_rx_fd(l), POLLIN));
	ck_assert_int_eq(link_drain(l, &in.h, 2), 2);
	ck_assert_uint_eq(in.first_byte, 2);
	ck_assert(polls(link_rx_fd(l), POLLIN));
	ck_assert_int_eq(link_drain(l, &in.h, 100), 3);
	ck_assert_uint_eq(in.first_byte, 5);
	ck_assert_uint_eq(in.rx.wire_len, 9);
	ck_assert_uint_eq(in.rx.gso_size, 7);
	ck_assert(in.rx.csum_ok);
	ck_assert(!link_rx_pending(l) && !polls(link_rx_fd(l), POLLIN));
	ck_assert_int_eq(link_drain(l, &in.h, 100), 0);
	ck_assert_uint_eq(link_counters(l)[LINKC_RxFrames], 5);
}
END_TEST

START_TEST(every_counter_has_a_name)
{
	for (int c = 0; c < LINKC_COUNT; c++)
		ck_assert_uint_gt(strlen(link_counter_name(c)), 0);
	ck_assert_str_eq(link_counter_name(LINKC_RxFrames), "RxFrames");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("link_fake");
	TCase *t = tcase_create("fake");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, frames_leave_at_flush);
	tcase_add_test(t, a_long_queue_is_flushed_early);
	tcase_add_test(t, blocked_frames_wait_in_order);
	tcase_add_test(t, what_is_kept_back_is_bounded);
	tcase_add_test(t, the_mtu_is_a_limit);
	tcase_add_test(t, injected_frames_come_in_order_within_the_budget);
	tcase_add_test(t, every_counter_has_a_name);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
