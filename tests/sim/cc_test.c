/*
 * Congestion controls at a bottleneck, in virtual time: CUBIC against NewReno on the same paths, BBR against CUBIC,
 * alone and side by side.
 *
 * Each run moves bytes for a fixed time over a link with a rate, a delay, a drop-tail queue and random loss; figures
 * are what arrived. The table is printed with FINESSE_CC_TABLE=1 in the environment; what is asserted are bounds that
 * hold with room to spare.
 */
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "tcp/cc.h"
#include "tests/suite.h"

#define CLIENT 0
#define SERVER 1
#define PORT   80
#define SEEDS  2 /* of a path with random loss: figures are their sums */
#define LOTS   (UINT64_C(1) << 40)
#define MBIT   UINT64_C(1000000)
#define MS     USEC_PER_MSEC

struct path {
	const char *name;
	uint64_t rate_bps;
	int64_t delay_us; /* one way */
	uint32_t queue_bytes, loss_ppm;
	int64_t run_us;
	int least_percent; /* of NewReno's bytes, that CUBIC moves */
	/*
	 * of each algorithm alone, where it is known what the path gives. Slow start's overshoot makes hundreds of
	 * holes there
	 */
	int least_mbits;
	uint32_t buffer_bytes; /* fixed, so that no autotuning is the limit before cwnd is; 0: autotuning */
};

static const struct path paths[] = {
	{"10 Mbit/s, 20 ms, queue 1 BDP", 10 * MBIT, 10 * MS, 25000, 0, 20 * USEC_PER_SEC, 97, 0, 0},
	{"1 Gbit/s, 0.2 ms, queue 64 KB", 1000 * MBIT, 100, 65536, 0, USEC_PER_SEC, 97, 0, 0},
	{"100 Mbit/s, 100 ms, queue 1/2 BDP", 100 * MBIT, 50 * MS, 625000, 0, 20 * USEC_PER_SEC, 97, 84, 0},
	{"100 Mbit/s, 40 ms, loss 0.01 %", 100 * MBIT, 20 * MS, 500000, 100, 20 * USEC_PER_SEC, 110, 0, 0},
	{"100 Mbit/s, 40 ms, loss 0.1 %", 100 * MBIT, 20 * MS, 500000, 1000, 20 * USEC_PER_SEC, 95, 0, 0},
	{"50 Mbit/s, 200 ms, loss 0.005 %", 50 * MBIT, 100 * MS, 1250000, 50, 60 * USEC_PER_SEC, 110, 0, 0},
};
#define PATHS (int)(sizeof paths / sizeof *paths)

/* The last column but one: of CUBIC's bytes, that BBR moves. */
static const struct path bbr_paths[] = {
	{"10 Mbit/s, 20 ms, queue 1 BDP", 10 * MBIT, 10 * MS, 25000, 0, 10 * USEC_PER_SEC, 95, 9, 0},
	{"1 Gbit/s, 0.2 ms, queue 64 KB", 1000 * MBIT, 100, 65536, 0, USEC_PER_SEC / 2, 90, 800, 0},
	{"100 Mbit/s, 40 ms, queue 1/20 BDP", 100 * MBIT, 20 * MS, 25000, 0, 4 * USEC_PER_SEC, 120, 75, 0},
	{"100 Mbit/s, 40 ms, loss 2 %", 100 * MBIT, 20 * MS, 500000, 20000, 4 * USEC_PER_SEC, 1000, 70, 0},
	{"20 Mbit/s, 200 ms, loss 0.1 %", 20 * MBIT, 100 * MS, 500000, 1000, 15 * USEC_PER_SEC, 110, 14, 0},
};
#define BBR_PATHS (int)(sizeof bbr_paths / sizeof *bbr_paths)

struct figures {
	uint64_t bytes[2]; /* that arrived, by flow */
	uint64_t retransmitted;
};

static void tell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void tell(const char *fmt, ...)
{
	va_list ap;
	if (!getenv("FINESSE_CC_TABLE"))
		return;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
}

/* `n` flows from the client, with these algorithms, at once. Adds to `f`. */
static void run_seed(const struct path *p, int n, const struct tcp_cc_ops *const *cc, uint64_t seed, struct figures *f)
{
	struct sim *sim = sim_new(seed);
	struct sim_link link = {.delay_us = p->delay_us, .rate_bps = p->rate_bps, .queue_bytes = p->queue_bytes, .loss_ppm = p->loss_ppm};
	struct sim_app up = {.send_bytes = LOTS, .close = SIM_CLOSE_NEVER}, down = {.close = SIM_CLOSE_NEVER};
	struct sim_conn *flows[2];
	tcp_options_default(&up.options);
	up.options.sndbuf_bytes = up.options.rcvbuf_bytes = p->buffer_bytes;
	up.has_options = down.has_options = true;
	up.options.user_sndbuf = up.options.user_rcvbuf = p->buffer_bytes != 0;
	down.options = up.options;
	sim->link[CLIENT] = link;
	sim->link[SERVER] = (struct sim_link){.delay_us = p->delay_us};
	sim_listen(sim, SERVER, PORT, &down);
	for (int i = 0; i < n; i++) {
		sim->cc[CLIENT] = cc[i];
		flows[i] = sim_connect(sim, CLIENT, 0, PORT, &up);
	}
	sim_run(sim, sim->now + p->run_us);
	sim_check(sim, !sim->host[SERVER].stack.counters[TCPC_RcvdPruned], "text that arrived was thrown away");
	for (int i = 0; i < n; i++) {
		f->bytes[i] += sim_peer(sim, flows[i])->rcvd;
		f->retransmitted += flows[i]->status.bytes_retrans;
		sim_check(sim, strcmp(flows[i]->status.cc_name, cc[i]->name) == 0, "%s", flows[i]->status.cc_name);
		sim_abort(flows[i]);
		sim_poke(flows[i]);
	}
	sim_run(sim, sim->now + USEC_PER_SEC); /* the RSTs arrive; what the receivers had is freed with them */
	sim_free(sim);
}

static int seeds_of(const struct path *p)
{
	return p->loss_ppm ? SEEDS : 1;
}

static struct figures run(const struct path *p, int n, const struct tcp_cc_ops *const *cc)
{
	struct figures f = {0};
	for (int seed = 1; seed <= seeds_of(p); seed++)
		run_seed(p, n, cc, (uint64_t)seed, &f);
	return f;
}

static double mbits(uint64_t bytes, const struct path *p)
{
	return bytes * 8.0 / p->run_us / seeds_of(p);
}

/* BBR asks the path, not the losses: it fills long paths that lose, and shallow queues. */
START_TEST(bbr_alone)
{
	static const struct tcp_cc_ops *const cubic = &tcp_cc_cubic, *const bbr = &tcp_cc_bbr;
	const struct path *p = &bbr_paths[_i];
	struct figures c = run(p, 1, &cubic), b = run(p, 1, &bbr);
	tell("%-36s cubic %7.1f Mbit/s (%6llu KB again)   bbr %7.1f Mbit/s (%6llu KB again)   %.2f\n", p->name, mbits(c.bytes[0], p),
	     (unsigned long long)c.retransmitted / 1000, mbits(b.bytes[0], p), (unsigned long long)b.retransmitted / 1000, b.bytes[0] / (double)c.bytes[0]);
	ck_assert_uint_ge(b.bytes[0] * 100, c.bytes[0] * p->least_percent);
	ck_assert_double_ge(mbits(b.bytes[0], p), p->least_mbits);
}
END_TEST

START_TEST(alone)
{
	static const struct tcp_cc_ops *const reno = &tcp_cc_newreno, *const cubic = &tcp_cc_cubic;
	const struct path *p = &paths[_i];
	struct figures r = run(p, 1, &reno), c = run(p, 1, &cubic);
	tell("%-36s newreno %7.1f Mbit/s (%6llu KB again)   cubic %7.1f Mbit/s (%6llu KB again)   %.2f\n", p->name, mbits(r.bytes[0], p),
	     (unsigned long long)r.retransmitted / 1000, mbits(c.bytes[0], p), (unsigned long long)c.retransmitted / 1000,
	     c.bytes[0] / (double)r.bytes[0]);
	ck_assert_uint_ge(c.bytes[0] * 100, r.bytes[0] * p->least_percent);
	ck_assert_double_ge(mbits(r.bytes[0], p), p->least_mbits);
	ck_assert_double_ge(mbits(c.bytes[0], p), p->least_mbits);
}
END_TEST

/*
 * Where the queue is deep, the first slow start overflows it without HyStart. (One of a BDP overflows either way: the
 * round that fills it doubles the window before its ACKs have told of the delay.)
 */
START_TEST(hystart_spares_the_queue)
{
	static const struct tcp_cc_ops *const reno = &tcp_cc_newreno, *const cubic = &tcp_cc_cubic;
	const struct path p = {"first 8 s, 10 Mbit/s, 100 ms, 6 BDP", 10 * MBIT, 50 * MS, 750000, 0, 8 * USEC_PER_SEC, 0, 0, 4 << 20};
	struct figures r = run(&p, 1, &reno), c = run(&p, 1, &cubic);
	tell("%-36s newreno %7.1f Mbit/s (%6llu KB again)   cubic %7.1f Mbit/s (%6llu KB again)\n", p.name, mbits(r.bytes[0], &p),
	     (unsigned long long)r.retransmitted / 1000, mbits(c.bytes[0], &p), (unsigned long long)c.retransmitted / 1000);
	ck_assert_uint_gt(r.retransmitted, 100000); /* else the scenario shows nothing */
	ck_assert_uint_lt(c.retransmitted, r.retransmitted / 4 * 3);
	ck_assert_uint_ge(c.bytes[0] * 100, r.bytes[0] * 90); /* what it spared is paid for with little throughput */
}
END_TEST

/* RFC 9438 §4.3, §5.1: on a path where Reno does well, CUBIC leaves it its share; and two of a kind share. */
START_TEST(side_by_side)
{
	static const struct tcp_cc_ops *const pairs[][2] = {
		{&tcp_cc_newreno, &tcp_cc_newreno}, {&tcp_cc_newreno, &tcp_cc_cubic}, {&tcp_cc_cubic, &tcp_cc_cubic}, {&tcp_cc_bbr, &tcp_cc_bbr}};
	const struct path p = {"two on 20 Mbit/s, 20 ms", 20 * MBIT, 10 * MS, 50000, 0, 60 * USEC_PER_SEC, 0, 0, 0};
	struct figures f = run(&p, 2, pairs[_i]);
	tell("%-36s %s %.1f Mbit/s, %s %.1f Mbit/s\n", p.name, pairs[_i][0]->name, mbits(f.bytes[0], &p), pairs[_i][1]->name, mbits(f.bytes[1], &p));
	ck_assert_uint_ge(f.bytes[0] * 4, f.bytes[0] + f.bytes[1]);
	ck_assert_uint_ge(f.bytes[1] * 4, f.bytes[0] + f.bytes[1]);
	ck_assert_double_ge(mbits(f.bytes[0] + f.bytes[1], &p), 17);
}
END_TEST

/*
 * BBR beside CUBIC. It takes more than its share of a shallow queue, as Linux's does, and less of a deep one, which
 * CUBIC keeps full: neither starves.
 */
START_TEST(bbr_beside_cubic)
{
	static const struct tcp_cc_ops *const pair[] = {&tcp_cc_bbr, &tcp_cc_cubic};
	static const struct path queues[] = {
		{"bbr and cubic, queue 1 BDP", 20 * MBIT, 10 * MS, 50000, 0, 12 * USEC_PER_SEC, 0, 0, 0},
		{"bbr and cubic, queue 4 BDP", 20 * MBIT, 10 * MS, 200000, 0, 12 * USEC_PER_SEC, 0, 0, 0},
		{"bbr and cubic, queue 16 BDP", 20 * MBIT, 10 * MS, 800000, 0, 12 * USEC_PER_SEC, 0, 0, 4 << 20},
	};
	const struct path *p = &queues[_i];
	struct figures f = run(p, 2, pair);
	tell("%-36s bbr %.1f Mbit/s, cubic %.1f Mbit/s\n", p->name, mbits(f.bytes[0], p), mbits(f.bytes[1], p));
	ck_assert_uint_ge(f.bytes[0] * 20, f.bytes[0] + f.bytes[1]);
	ck_assert_uint_ge(f.bytes[1] * 20, f.bytes[0] + f.bytes[1]);
	ck_assert_double_ge(mbits(f.bytes[0] + f.bytes[1], p), 17);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("congestion control");
	TCase *tc = tcase_create("bottleneck");
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, alone, 0, PATHS);
	tcase_add_loop_test(tc, bbr_alone, 0, BBR_PATHS);
	tcase_add_test(tc, hystart_spares_the_queue);
	tcase_add_loop_test(tc, side_by_side, 0, 4);
	tcase_add_loop_test(tc, bbr_beside_cubic, 0, 3);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
