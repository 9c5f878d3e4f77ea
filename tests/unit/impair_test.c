/* A bad network in virtual time: the words, and what each does to frames. Every seed is fixed. */
#include <string.h>

#include "link/impair.h"
#include "unit.h"

#define N         20000
#define FRAME_LEN 200

static struct impair im;

static void start(const char *text)
{
	struct impair_config config;
	char why[160] = "";
	ck_assert_msg(impair_config_parse(&config, text, why, sizeof why) == 0, "%s: %s", text, why);
	impair_init(&im, &config, 0, true);
}

static void teardown(void)
{
	impair_fini(&im);
}

/* An IPv4 frame that carries its number. */
static void make_frame(uint8_t frame[FRAME_LEN], uint32_t number, unsigned type)
{
	memset(frame, 0x5a, FRAME_LEN);
	frame[12] = (uint8_t)(type >> 8);
	frame[13] = (uint8_t)type;
	memcpy(frame + 20, &number, sizeof number);
}

static void send_number(uint32_t number, int64_t now)
{
	uint8_t frame[FRAME_LEN];
	make_frame(frame, number, 0x0800);
	impair_send(&im, now, frame, sizeof frame);
}

static uint32_t number_of(const struct impair_frame *f)
{
	uint32_t number;
	memcpy(&number, f->bytes + 20, sizeof number);
	return number;
}

/* The number of the next frame to arrive, whenever that is; -1: none. */
static int64_t receive_number(int64_t *at)
{
	const struct impair_frame *f = impair_peek(&im, TIME_NEVER - 1);
	if (!f)
		return -1;
	int64_t number = number_of(f);
	if (at)
		*at = f->at;
	impair_pop(&im);
	return number;
}

START_TEST(test_parse)
{
	struct impair_config c;
	char why[160];
	ck_assert_int_eq(impair_config_parse(&c, "loss=1%,delay=20ms,jitter=1.5ms,reorder=0.5%,dup=0.0001%,corrupt=100%,rate=2.5mbit,seed=7",
					     why, sizeof why), 0);
	ck_assert_uint_eq(c.loss_ppm, 10000);
	ck_assert_int_eq(c.delay_us, 20000);
	ck_assert_int_eq(c.jitter_us, 1500);
	ck_assert_uint_eq(c.reorder_ppm, 5000);
	ck_assert_uint_eq(c.dup_ppm, 1);
	ck_assert_uint_eq(c.corrupt_ppm, IMPAIR_PPM);
	ck_assert_uint_eq(c.rate_bps, 2500000);
	ck_assert_uint_eq(c.seed, 7);
	ck_assert_int_eq(c.queue_bytes, -1);
	ck_assert_int_eq(impair_config_parse(&c, "queue=30000,burst=0,batch=2.5ms", why, sizeof why), 0);
	ck_assert_int_eq(c.queue_bytes, 30000);
	ck_assert_int_eq(c.batch_us, 2500);
	ck_assert_int_eq(impair_config_parse(&c, "", why, sizeof why), 0);
	ck_assert_uint_eq(c.loss_ppm + c.delay_us + c.rate_bps, 0);
	ck_assert_uint_eq(c.seed, 1);
}
END_TEST

START_TEST(test_parse_errors)
{
	static const struct {
		const char *text, *names;
	} bad[] = {
		{"loss=101%", "loss"}, {"loss=1", "loss"}, {"loss", "loss"}, {"loss=", "loss"}, {"loss=%", "loss"}, {"loss=-1%", "loss"},
		{"loss=0.00001%", "loss"}, {"loss=1.%", "loss"}, {"loss=.5%", "loss"}, {"loss=1%%", "loss"}, {"loss=1.5.5%", "loss"},
		{"delay=20", "delay"}, {"delay=11s", "delay"}, {"delay=0.5us", "delay"}, {"jitter=1 ms", "jitter"}, {"rate=10", "rate"},
		{"rate=0bit", "rate"}, {"rate=101gbit", "rate"}, {"rate=999999999999999999gbit", "rate"}, {"seed=1.5", "seed"},
		{"seed=1234567890123456789", "seed"}, {"loss=1%,loss=2%", "loss: given twice"}, {"speed=1", "\"speed\""},
		{"queue=1kb", "queue"}, {"burst=1000000001", "burst"}, {"batch=1", "batch"}, {"loss=1%,", "\"\""}, {",", "\"\""}, {"LOSS=1%", "\"LOSS\""},
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct impair_config c = {.seed = 99};
		char why[160] = "";
		ck_assert_msg(impair_config_parse(&c, bad[i].text, why, sizeof why) < 0, "%s was taken", bad[i].text);
		ck_assert_msg(strncmp(why, bad[i].names, strlen(bad[i].names)) == 0, "%s: %s", bad[i].text, why);
		ck_assert_uint_eq(c.seed, 99); /* nothing half done */
	}
}
END_TEST

START_TEST(test_nothing_asked)
{
	start("");
	for (uint32_t i = 0; i < N; i++)
		send_number(i, i);
	for (uint32_t i = 0; i < N; i++) {
		int64_t at;
		ck_assert_int_eq(receive_number(&at), i);
		ck_assert_int_eq(at, i);
	}
	ck_assert_int_eq(impair_next(&im), TIME_NEVER);
	ck_assert_uint_eq(im.flight_bytes, 0);
	ck_assert_uint_eq(im.counters.delivered, N);
}
END_TEST

START_TEST(test_delay)
{
	start("delay=20ms");
	send_number(1, 100);
	ck_assert_int_eq(impair_next(&im), 20100);
	ck_assert_ptr_null(impair_peek(&im, 20099));
	const struct impair_frame *f = impair_peek(&im, 20100);
	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_eq(impair_peek(&im, 20100), f); /* stays until popped */
	impair_pop(&im);
	ck_assert_ptr_null(impair_peek(&im, TIME_NEVER));
}
END_TEST

START_TEST(test_jitter_keeps_order)
{
	start("delay=5ms,jitter=3ms");
	int64_t least = TIME_NEVER, most = 0;
	for (uint32_t i = 0; i < N; i++)
		send_number(i, i * INT64_C(5000));
	for (uint32_t i = 0; i < N; i++) {
		int64_t at;
		ck_assert_int_eq(receive_number(&at), i);
		at -= i * INT64_C(5000);
		least = at < least ? at : least;
		most = at > most ? at : most;
	}
	ck_assert_int_ge(least, 5000);
	ck_assert_int_lt(least, 5010);
	ck_assert_int_le(most, 8000);
	ck_assert_int_gt(most, 7990);
	teardown();
	start("jitter=3ms"); /* all at once: the order holds where the jitter is larger than the gaps */
	for (uint32_t i = 0; i < N; i++)
		send_number(i, 0);
	for (uint32_t i = 0; i < N; i++)
		ck_assert_int_eq(receive_number(NULL), i);
}
END_TEST

/* Within a fifth of what is asked, in 20,000 frames; and what is counted is what happened. */
static void check_share(uint64_t count, uint64_t want)
{
	ck_assert_msg(count >= want * 4 / 5 && count <= want * 6 / 5, "%lu, not about %lu", (unsigned long)count, (unsigned long)want);
}

START_TEST(test_loss_and_duplicates)
{
	static uint8_t seen[N];
	uint64_t none = 0, twice = 0;
	start("loss=5%,dup=10%,seed=3");
	for (uint32_t i = 0; i < N; i++)
		send_number(i, i);
	for (int64_t number; (number = receive_number(NULL)) >= 0;)
		seen[number]++;
	for (uint32_t i = 0; i < N; i++) {
		ck_assert_uint_le(seen[i], 2);
		none += seen[i] == 0;
		twice += seen[i] == 2;
	}
	check_share(none, N / 20);
	check_share(twice, N / 10);
	ck_assert_uint_eq(im.counters.lost, none);
	ck_assert_uint_eq(im.counters.duplicated, twice);
	ck_assert_uint_eq(im.counters.delivered, N - none + twice);
}
END_TEST

START_TEST(test_reorder)
{
	uint64_t late = 0;
	int64_t highest = -1;
	start("reorder=5%,delay=10ms");
	for (uint32_t i = 0; i < N; i++)
		send_number(i, i * INT64_C(10));
	for (uint32_t i = 0; i < N; i++) {
		int64_t at, number = receive_number(&at);
		late += number < highest;
		highest = number > highest ? number : highest;
		ck_assert_int_ge(at, number * 10 + 10000);
		ck_assert_int_le(at, number * 10 + 15000);
	}
	check_share(late, N / 20);
	check_share(im.counters.reordered, N / 20);
}
END_TEST

static int bits_changed(const struct impair_frame *f, const uint8_t *sent, uint32_t *where)
{
	int changed = 0;
	for (uint32_t i = 0; i < FRAME_LEN; i++) {
		int here = __builtin_popcount(f->bytes[i] ^ sent[i]);
		changed += here;
		if (here)
			*where = i;
	}
	return changed;
}

START_TEST(test_corrupt)
{
	static const unsigned types[] = {0x0800, 0x86dd, 0x0806};
	uint8_t frame[FRAME_LEN];
	uint64_t damaged = 0;
	start("corrupt=10%");
	for (uint32_t i = 0; i < N; i++) {
		uint32_t where = 14;
		make_frame(frame, i, types[i % 3]);
		impair_send(&im, i, frame, sizeof frame);
		int changed = bits_changed(impair_peek(&im, i), frame, &where);
		ck_assert_int_le(changed, 1);
		ck_assert_uint_ge(where, 14);
		ck_assert(!changed || types[i % 3] != 0x0806);
		damaged += changed;
		impair_pop(&im);
	}
	check_share(damaged, N / 10 * 2 / 3);
	ck_assert_uint_eq(im.counters.corrupted, damaged);
	make_frame(frame, 0, 0x0800);
	impair_fini(&im);
	start("corrupt=100%");
	impair_send(&im, 0, frame, 14); /* no byte to damage */
	ck_assert_int_eq(memcmp(impair_peek(&im, 0)->bytes, frame, 14), 0);
}
END_TEST

/* 8 Mbit/s: a frame of 200 bytes each 200 us; the queue holds 100 ms, the rest is dropped from the tail. */
START_TEST(test_rate)
{
	int64_t at;
	uint32_t kept = 0;
	start("rate=8mbit,delay=1ms");
	for (uint32_t i = 0; i < 1000; i++)
		send_number(i, 0);
	for (int64_t number; (number = receive_number(&at)) >= 0; kept++) {
		ck_assert_int_eq(number, kept);
		ck_assert_int_eq(at, 1000 + (kept + 1) * INT64_C(200));
	}
	ck_assert_uint_eq(kept, 500);
	ck_assert_uint_eq(im.counters.overflowed, 500);
	send_number(1, 10000000); /* idle again: no credit, no debt */
	ck_assert_int_eq(impair_next(&im), 10001200);
}
END_TEST

/*
 * The same with a queue of ten frames; then a bucket of five that passes at once, with the queue and alone: a policer.
 */
START_TEST(test_queue_and_burst)
{
	static const struct {
		const char *text;
		uint32_t kept, at_once;
	} cases[] = {{"rate=8mbit,queue=2000", 10, 0}, {"rate=8mbit,queue=2000,burst=1000", 15, 5}, {"rate=8mbit,queue=0,burst=1000", 5, 5}, {"rate=8mbit,queue=0", 1, 0}};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int64_t at;
		uint32_t kept = 0;
		start(cases[i].text);
		for (uint32_t n = 0; n < 100; n++)
			send_number(n, 1000000);
		for (int64_t number; (number = receive_number(&at)) >= 0; kept++) {
			ck_assert_int_eq(number, kept);
			ck_assert_int_eq(at, 1000000 + (kept < cases[i].at_once ? 0 : kept + 1 - cases[i].at_once) * INT64_C(200));
		}
		ck_assert_uint_eq(kept, cases[i].kept);
		send_number(1, 1000000 + 100 * 200); /* the bucket is full again, and not more than full */
		ck_assert_int_eq(impair_next(&im), 1000000 + 100 * 200 + (cases[i].at_once ? 0 : 200));
		impair_fini(&im);
	}
	start("");
}
END_TEST

/* ACKs that the way back holds, and lets go together. */
START_TEST(test_batch)
{
	int64_t at;
	start("delay=1ms,batch=5ms");
	for (uint32_t i = 0; i < N; i++)
		send_number(i, i * INT64_C(100));
	for (uint32_t i = 0; i < N; i++) {
		ck_assert_int_eq(receive_number(&at), i);
		ck_assert_int_eq(at % 5000, 0);
		ck_assert_int_ge(at, i * INT64_C(100) + 1000);
		ck_assert_int_lt(at, i * INT64_C(100) + 6000);
	}
}
END_TEST

/* 7 Gbit/s, where a frame takes a quarter of a microsecond: no rounding adds up. */
START_TEST(test_rate_remainder)
{
	int64_t at = 0;
	start("rate=7gbit");
	for (uint32_t i = 0; i < 70000; i++)
		send_number(i, 0);
	while (receive_number(&at) >= 0)
		;
	ck_assert_int_eq(at, 70000 * INT64_C(1600) / 7000);
}
END_TEST

/* One hash over all that arrives and when. */
static uint64_t trace(const char *text, unsigned direction, bool fates_only)
{
	struct impair_config config;
	char why[160];
	uint64_t hash = 0;
	ck_assert_int_eq(impair_config_parse(&config, text, why, sizeof why), 0);
	impair_init(&im, &config, direction, true);
	for (uint32_t i = 0; i < 2000; i++)
		send_number(i, i * INT64_C(100));
	for (const struct impair_frame *f; (f = impair_peek(&im, TIME_NEVER - 1)); impair_pop(&im)) {
		if (fates_only)
			hash += (number_of(f) + 1) * UINT64_C(0x9e3779b97f4a7c15); /* a set: no order */
		else
			for (uint32_t i = 0; i < f->len; i++)
				hash = (hash ^ f->bytes[i] ^ (uint64_t)f->at) * UINT64_C(0x100000001b3);
	}
	impair_fini(&im);
	return hash;
}

START_TEST(test_seeded)
{
	const char *all = "loss=5%,dup=5%,reorder=5%,corrupt=5%,delay=2ms,jitter=1ms,seed=5";
	uint64_t first = trace(all, 0, false);
	ck_assert_uint_eq(trace(all, 0, false), first);
	ck_assert_uint_ne(trace(all, 1, false), first);
	ck_assert_uint_ne(trace("loss=5%,dup=5%,reorder=5%,corrupt=5%,delay=2ms,jitter=1ms,seed=6", 0, false), first);
	/* Which frames are lost does not depend on what else is done to them. */
	uint64_t losses = trace("loss=5%,seed=5", 0, true);
	ck_assert_uint_eq(trace("loss=5%,seed=5,reorder=9%,delay=3ms,jitter=1ms", 0, true), losses);
	ck_assert_uint_ne(trace("loss=5%,seed=6", 0, true), losses);
}
END_TEST

START_TEST(test_flight_bound)
{
	static uint8_t frame[65536];
	uint32_t fit = IMPAIR_FLIGHT_MAX_BYTES / sizeof frame;
	start("delay=10s");
	for (uint32_t i = 0; i < fit + 10; i++)
		impair_send(&im, 0, frame, sizeof frame);
	ck_assert_uint_eq(im.counters.overflowed, 10);
	ck_assert_uint_eq(im.count, fit);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("impair");
	TCase *tc = tcase_create("impair");
	tcase_add_checked_fixture(tc, NULL, teardown);
	tcase_add_test(tc, test_parse);
	tcase_add_test(tc, test_parse_errors);
	tcase_add_test(tc, test_nothing_asked);
	tcase_add_test(tc, test_delay);
	tcase_add_test(tc, test_jitter_keeps_order);
	tcase_add_test(tc, test_loss_and_duplicates);
	tcase_add_test(tc, test_reorder);
	tcase_add_test(tc, test_corrupt);
	tcase_add_test(tc, test_rate);
	tcase_add_test(tc, test_rate_remainder);
	tcase_add_test(tc, test_queue_and_burst);
	tcase_add_test(tc, test_batch);
	tcase_add_test(tc, test_seeded);
	tcase_add_test(tc, test_flight_bound);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
