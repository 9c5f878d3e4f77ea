/*
 * BBR (src/tcp/cc_bbr.c): its modes, and what it makes of a path of a known rate and length, in virtual time.
 *
 * The path: a bottleneck of RATE with a queue that has no end, RTT long without it. Each segment is acknowledged when
 * it has passed.
 */
#include "harness.h"

#include "tcp/tcp_int.h"

#include <stdlib.h>
#include <string.h>

#define RATE     INT64_C(4000000) /* bytes a second: four segments a millisecond */
#define RTT      H_RTT
#define BDP_SEGS 40
#define QUEUE    4096

/* struct tcp_bbr_info */
struct info {
	uint32_t bw_lo, bw_hi, min_rtt_us, pacing_gain, cwnd_gain;
};
#define GAIN_HIGH  739
#define GAIN_ONE   256

struct path {
	struct harness *h;
	struct {
		uint32_t end;
		int64_t at;
	} queue[QUEUE];
	unsigned first, n;
	int64_t free_at;
	uint32_t acked;   /* relative, as the harness's */
	uint32_t flight_max;
	int64_t queue_us; /* how long what passed last had waited */
	bool feeds;       /* the program has always something to send */
};

static struct info info_of(const struct harness *h)
{
	struct info i;
	uint32_t words[TCP_CC_INFO_WORDS];
	_Static_assert(sizeof i == TCP_CC_INFO_WORDS * sizeof(uint32_t), "struct tcp_bbr_info");
	ck_assert_uint_eq(tcp_cc_info(&h->c, words), sizeof i);
	memcpy(&i, words, sizeof i);
	return i;
}

static void collect(struct path *p)
{
	struct h_out *o;
	while ((o = h_take(p->h))) {
		if (!o->seg.payload_len)
			continue;
		int64_t enters = p->h->now + RTT, leaves = (enters > p->free_at ? enters : p->free_at) + o->seg.payload_len * USEC_PER_SEC / RATE;
		h_require(p->n < QUEUE, "the queue is full");
		p->queue[(p->first + p->n++) % QUEUE].end = o->seg.seq - H_ISS + o->seg.payload_len;
		p->queue[(p->first + p->n - 1) % QUEUE].at = leaves;
		p->free_at = leaves;
		p->queue_us = leaves - enters;
	}
	h_drain(p->h);
	uint32_t flight = p->h->c.snd_nxt - p->h->c.snd_una;
	p->flight_max = max_u32(p->flight_max, flight);
}

static void feed(struct path *p)
{
	while (p->feeds && tcp_unsent_bytes(&p->h->c) < 20 * H_MSS && h_send(p->h, 20 * H_MSS) > 0)
		collect(p);
}

static void pass(struct path *p, int64_t us)
{
	struct harness *h = p->h;
	int64_t until = h->now + us;
	feed(p);
	for (;;) {
		int64_t ack = p->n ? p->queue[p->first].at : TIME_NEVER, tick = tcp_next_deadline(&h->c);
		int64_t next = ack < tick ? ack : tick;
		if (next > until)
			break;
		if (next > h->now)
			h->now = next;
		if (ack <= tick) {
			uint32_t end = p->queue[p->first].end;
			p->first = (p->first + 1) % QUEUE;
			p->n--;
			p->acked = SEQ_GT(end, p->acked) ? end : p->acked;
			h_peer_ack(h, p->acked);
		} else {
			tcp_tick(&h->c, h->now);
			h_output(h);
		}
		collect(p);
		feed(p);
	}
	h->now = until;
}

static struct path *new_path(bool feeds)
{
	struct path *p = calloc(1, sizeof *p);
	p->h = h_new(H_ALL | H_ACTIVE);
	p->h->open.cc = &tcp_cc_bbr;
	p->h->open.options.user_sndbuf = true;
	p->h->open.options.sndbuf_bytes = 1 << 22;
	p->h->peer_window = 65535 << H_PEER_WSCALE;
	h_establish(p->h);
	p->acked = 1;
	p->feeds = feeds;
	return p;
}

static void free_path(struct path *p)
{
	tcp_abort(&p->h->c, p->h->now);
	h_output(p->h);
	h_drain(p->h);
	h_free(p->h);
	free(p);
}

/* Until PROBE_BW, whose cwnd_gain is 2; at most so many round trips. */
static void until_probe_bw(struct path *p, int rounds)
{
	while (info_of(p->h).cwnd_gain != 2 * GAIN_ONE) {
		ck_assert_int_gt(rounds--, 0);
		pass(p, RTT);
	}
}

static bool within(uint64_t v, uint64_t want, unsigned percent)
{
	return v * 100 >= want * (100 - percent) && v * 100 <= want * (100 + percent);
}

START_TEST(begins_by_the_handshake)
{
	struct path *p = new_path(false);
	struct info i = info_of(p->h);
	ck_assert_uint_eq(i.bw_lo | i.bw_hi, 0);
	ck_assert_uint_eq(i.min_rtt_us, H_RTT);
	ck_assert_uint_eq(p->h->c.cwnd, 10 * H_MSS);
	ck_assert_uint_eq(p->h->c.pacing_rate, 10 * H_MSS * USEC_PER_SEC / H_RTT * GAIN_HIGH / 256 * 99 / 100);
	ck_assert(p->h->c.paced);
	h_send(p->h, H_MSS);
	collect(p);
	pass(p, RTT + USEC_PER_MSEC);
	i = info_of(p->h);
	ck_assert_uint_eq(i.pacing_gain, GAIN_HIGH);
	ck_assert_uint_eq(i.cwnd_gain, GAIN_HIGH);
	free_path(p);
}
END_TEST

/* STARTUP finds the rate, DRAIN empties the queue, PROBE_BW keeps the path full without one. */
START_TEST(finds_the_path)
{
	struct path *p = new_path(true);
	until_probe_bw(p, 25);
	pass(p, 2 * USEC_PER_SEC);
	struct info i = info_of(p->h);
	ck_assert_msg(within(i.bw_lo, RATE, 3), "%u bytes/s", i.bw_lo);
	ck_assert_uint_eq(i.cwnd_gain, 2 * GAIN_ONE);
	ck_assert(p->h->c.ssthresh != TCP_SSTHRESH_INITIAL);
	/* Twice the path's, and three super-segments of two, and what is acknowledged in heaps. */
	ck_assert_uint_ge(p->h->c.cwnd, 2 * (BDP_SEGS + 1) * H_MSS);
	ck_assert_uint_le(p->h->c.cwnd, 4 * BDP_SEGS * H_MSS);
	uint32_t before = p->acked;
	p->flight_max = 0;
	pass(p, 2 * USEC_PER_SEC);
	ck_assert_msg(within(p->acked - before, 2 * RATE, 4), "%u bytes in 2 s", p->acked - before);
	ck_assert_uint_le(p->flight_max, 2 * BDP_SEGS * H_MSS); /* a quarter more than the path holds, in the phase that asks for more */
	free_path(p);
}
END_TEST

/* The cycle: one phase a quarter above the rate, one below, and six at it. */
START_TEST(gain_cycle)
{
	struct path *p = new_path(true);
	until_probe_bw(p, 25);
	unsigned seen[3] = {0};
	for (int i = 0; i < 800; i++) {
		pass(p, RTT / 4);
		unsigned gain = info_of(p->h).pacing_gain;
		ck_assert(gain == 320 || gain == 192 || gain == 256);
		seen[gain == 320 ? 0 : gain == 192 ? 1 : 2]++;
	}
	ck_assert_uint_gt(seen[0], 30);
	ck_assert_uint_gt(seen[1], 10);
	ck_assert_uint_gt(seen[2], 500);
	free_path(p);
}
END_TEST

/* Ten seconds without a shorter round trip: four segments in flight for 200 ms, then the window is as before. */
START_TEST(probe_rtt)
{
	struct path *p = new_path(true);
	until_probe_bw(p, 25);
	pass(p, 2 * USEC_PER_SEC);
	uint32_t cwnd = p->h->c.cwnd;
	int64_t low_since = 0, low_us = 0;
	for (int i = 0; i < 12000 && !(low_since && p->h->c.cwnd > 4 * H_MSS); i++) {
		pass(p, USEC_PER_MSEC);
		if (p->h->c.cwnd == 4 * H_MSS && !low_since)
			low_since = p->h->now;
		low_us = p->h->now - low_since;
	}
	ck_assert_msg(low_since, "there was no PROBE_RTT");
	ck_assert_int_ge(low_us, 200 * USEC_PER_MSEC);
	ck_assert_int_le(low_us, 200 * USEC_PER_MSEC + 8 * RTT);
	ck_assert_uint_ge(p->h->c.cwnd, cwnd / 10 * 9);
	ck_assert_uint_eq(info_of(p->h).cwnd_gain, 2 * GAIN_ONE);
	free_path(p);
}
END_TEST

/*
 * What the program does not send says nothing of the path: the estimate stays, and after a pause it goes on at that
 * rate.
 */
START_TEST(the_program_pauses)
{
	struct path *p = new_path(true);
	until_probe_bw(p, 25);
	pass(p, USEC_PER_SEC);
	p->feeds = false;
	pass(p, USEC_PER_SEC);
	ck_assert_uint_eq(p->n, 0);
	for (int i = 0; i < 30; i++) {
		h_send(p->h, 2 * H_MSS);
		collect(p);
		pass(p, 3 * RTT / 2);
	}
	struct info i = info_of(p->h);
	ck_assert_msg(within(i.bw_lo, RATE, 5), "%u bytes/s", i.bw_lo);
	pass(p, USEC_PER_SEC);
	uint32_t cwnd = p->h->c.cwnd;
	h_send(p->h, 2 * H_MSS);
	collect(p);
	ck_assert_uint_eq(p->h->c.cwnd, cwnd); /* no slow start after idle */
	ck_assert_msg(within(p->h->c.pacing_rate, RATE, 5), "%llu bytes/s", (unsigned long long)p->h->c.pacing_rate);
	free_path(p);
}
END_TEST

/* A loss: as much as was delivered in the first round, and then the window that was there before. */
START_TEST(loss_does_not_slow_it_down)
{
	struct path *p = new_path(true);
	until_probe_bw(p, 25);
	pass(p, 2 * USEC_PER_SEC);
	uint32_t cwnd = p->h->c.cwnd, bw = info_of(p->h).bw_lo, una = p->acked;
	uint32_t nxt = h_snd_nxt(p->h);
	ck_assert_uint_gt(nxt - una, 20 * H_MSS);
	p->n = 0; /* the first is lost; what follows is SACKed at the path's pace */
	for (uint32_t k = 2; k <= 20; k++) {
		h_advance(p->h, H_MSS * USEC_PER_SEC / RATE);
		h_peer_sack(p->h, una, 1, (uint32_t[]){una + H_MSS, una + k * H_MSS});
		if (k == 6) {
			ck_assert_int_eq(p->h->c.loss, TCP_LOSS_RECOVERY);
			ck_assert_uint_le(p->h->c.cwnd, nxt - una);
		}
	}
	h_drain(p->h);
	h_peer_ack(p->h, h_snd_nxt(p->h));
	h_drain(p->h);
	ck_assert_int_eq(p->h->c.loss, TCP_LOSS_OPEN);
	ck_assert_uint_ge(p->h->c.cwnd, cwnd);
	ck_assert_uint_ge(info_of(p->h).bw_lo, bw / 10 * 9);
	free_path(p);
}
END_TEST

/* A timeout: one segment, and the window comes back with the first ACK that ends the episode. */
START_TEST(timeout)
{
	struct path *p = new_path(true);
	until_probe_bw(p, 25);
	pass(p, 2 * USEC_PER_SEC);
	uint32_t cwnd = p->h->c.cwnd;
	p->n = 0;
	h_timeout(p->h);
	h_drain(p->h);
	ck_assert_uint_eq(p->h->c.cwnd, H_MSS);
	h_advance(p->h, RTT);
	h_drain(p->h);
	h_peer_ack(p->h, h_snd_nxt(p->h));
	h_drain(p->h);
	ck_assert_uint_ge(p->h->c.cwnd, cwnd);
	free_path(p);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("bbr");
	TCase *tc = tcase_create("bbr");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, begins_by_the_handshake);
	tcase_add_test(tc, finds_the_path);
	tcase_add_test(tc, gain_cycle);
	tcase_add_test(tc, probe_rtt);
	tcase_add_test(tc, the_program_pauses);
	tcase_add_test(tc, loss_does_not_slow_it_down);
	tcase_add_test(tc, timeout);
	suite_add_tcase(s, tc);
	return h_main(s);
}
