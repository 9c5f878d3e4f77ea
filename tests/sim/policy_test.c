/* The close policy over the simulated network: holds, and close requests. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_pair.h"
#include "tests/suite.h"

struct holding {
	struct close_policy policy;
	int64_t hold_us;
	int asked, ended, late;
	struct close_facts facts;
	struct close_outcome out, late_out;
};

static void hold_decide(struct close_policy *p, int64_t now, const struct close_facts *facts,
			struct close_verdict *verdict)
{
	struct holding *h = (struct holding *)p;
	h->asked++;
	h->facts = *facts;
	*verdict = facts->peer_closed
			   ? (struct close_verdict){CLOSE_FIN_NOW, CLOSE_REASON_PEER_FIRST, 0}
			   : (struct close_verdict){CLOSE_HOLD, CLOSE_REASON_HELD, h->hold_us};
}

static void hold_outcome(struct close_policy *p, int64_t now, const struct close_outcome *out)
{
	struct holding *h = (struct holding *)p;
	if (out->late) {
		h->late++;
		h->late_out = *out;
	} else {
		h->ended++;
		h->out = *out;
	}
}

static const struct close_policy_ops hold_ops = {"test-hold", hold_decide, hold_outcome};

/* The server answers 1000 bytes and closes; the client closes `client_delay` after it has them. */
static struct sim *run_hold(struct holding *h, const struct sim_app *up, struct sim_conn **c)
{
	struct sim *sim = sim_plain(13);
	*h = (struct holding){.policy = {&hold_ops}, .hold_us = 500 * USEC_PER_MSEC};
	struct sim_app down = {.send_bytes = 1000, .close = SIM_CLOSE_DONE, .policy = &h->policy};
	sim_listen(sim, SERVER, PORT, &down);
	*c = sim_connect(sim, CLIENT, 0, PORT, up);
	return sim;
}

START_TEST(hold_lets_the_client_close_first)
{
	struct holding h;
	struct sim_conn *c;
	struct sim_app up = {.expect_bytes = 1000, .close = SIM_CLOSE_DONE, .close_delay_us = 100000};
	struct sim *sim = run_hold(&h, &up, &c);
	sim_run(sim, sim->now + 100000);
	struct sim_conn *s = sim_peer(sim, c);
	sim_check(sim, s->closed && tcp_is_held(&s->tcp) && tcp_state(&s->tcp) == TCPS_ESTABLISHED, "in %s",
		  tcp_state_name(tcp_state(&s->tcp)));
	sim_run_to_end(sim, LIMIT);
	check_done(sim, c, 0, 1000);
	sim_check(sim, s->first_fin == -1 && c->first_fin == 1);
	sim_check(sim, sim->host[SERVER].tw_entered == 0 && sim->host[CLIENT].tw_entered == 1);
	sim_check(sim, h.asked == 1 && h.facts.accepted && h.facts.call == CLOSE_CALL_CLOSE && h.facts.last_bytes_ours);
	sim_check(sim, h.ended == 1 && h.out.end == CLOSE_END_PEER_FIN, "end %d", h.out.end);
	sim_check(sim, h.out.held_us >= 90000 && h.out.held_us <= 120000, "held %lld", (long long)h.out.held_us);
	sim_free(sim);
}
END_TEST

START_TEST(hold_expires)
{
	struct holding h;
	struct sim_conn *c;
	struct sim_app up = {.close = SIM_CLOSE_EOF, .close_delay_us = 70000};
	struct sim *sim = run_hold(&h, &up, &c);
	int64_t start = sim->now;
	sim_run_to_end(sim, LIMIT);
	struct sim_conn *s = sim_peer(sim, c);
	check_done(sim, c, 0, 1000);
	sim_check(sim, s->first_fin == 1 && c->first_fin == -1);
	sim_check(sim, sim->host[SERVER].tw_entered == 1);
	sim_check(sim, h.ended == 1 && h.out.end == CLOSE_END_EXPIRED, "end %d", h.out.end);
	sim_check(sim, h.out.held_us >= 500000 && h.out.held_us < 501000, "held %lld", (long long)h.out.held_us);
	/* the late report says how long the client took after our FIN: one round trip and its delay */
	sim_check(sim, h.late == 1 && h.late_out.peer_fin_after_us >= 90000 && h.late_out.peer_fin_after_us < 95000,
		  "%d reports, %lld", h.late, (long long)h.late_out.peer_fin_after_us);
	sim_check(sim, sim->now - start < 800000);
	sim_free(sim);
}
END_TEST

/* New data in a hold is answered by FIN, then RST: the client sees EOF, not only a reset. */
START_TEST(data_in_a_hold)
{
	struct holding h;
	struct sim_conn *c;
	struct sim_app up = {.close = SIM_CLOSE_NEVER};
	struct sim *sim = run_hold(&h, &up, &c);
	sim_run(sim, sim->now + 100000);
	struct sim_conn *s = sim_peer(sim, c);
	sim_check(sim, tcp_is_held(&s->tcp));
	c->app.send_bytes = 10;
	sim_poke(c);
	sim_run_to_end(sim, USEC_PER_SEC);
	sim_check(sim, h.ended == 1 && h.out.end == CLOSE_END_PEER_DATA, "end %d", h.out.end);
	sim_check(sim, c->eof && c->rcvd == 1000, "the client did not see the EOF before the reset");
	sim_check(sim, c->error == ECONNRESET || c->error == EPIPE, "error %d", c->error);
	sim_check(sim, s->first_fin == 1);
	sim_free(sim);
}
END_TEST

START_TEST(abort_in_a_hold)
{
	struct holding h;
	struct sim_conn *c;
	struct sim_app up = {.close = SIM_CLOSE_NEVER};
	struct sim *sim = run_hold(&h, &up, &c);
	sim_run(sim, sim->now + 100000);
	sim_abort(c);
	sim_poke(c);
	sim_run_to_end(sim, USEC_PER_SEC);
	sim_check(sim, h.ended == 1 && h.out.end == CLOSE_END_PEER_RST, "end %d", h.out.end);
	sim_free(sim);
}
END_TEST

/* The hold is silent, and it starts only when all data is acknowledged. */
START_TEST(hold_over_bad_networks)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct sim *sim = sim_seeded(seed);
		struct holding h = {.policy = {&hold_ops}, .hold_us = 200 * USEC_PER_MSEC};
		uint32_t n = 1 + sim_random(sim, 100000);
		struct sim_app up = {.expect_bytes = n, .close = seed & 1 ? SIM_CLOSE_DONE : SIM_CLOSE_EOF},
			       down = {.send_bytes = n, .close = SIM_CLOSE_DONE, .policy = &h.policy};
		run_pair(sim, &up, &down, 0, n);
		sim_check(sim, h.asked == 1 && h.ended == 1, "asked %d, told %d", h.asked, h.ended);
		sim_check(sim, h.out.held_us <= 201000, "held %lld", (long long)h.out.held_us);
		sim_free(sim);
	}
}
END_TEST

/* ---- close request ---- */

struct asking {
	struct close_policy policy;
	int asked, ended;
	struct close_outcome out;
};

static void ask_decide(struct close_policy *p, int64_t now, const struct close_facts *facts, struct close_verdict *verdict)
{
	struct asking *a = (struct asking *)p;
	a->asked++;
	*verdict = facts->peer_closed ? (struct close_verdict){CLOSE_FIN_NOW, CLOSE_REASON_PEER_FIRST, 0}
		   : facts->can_ask   ? (struct close_verdict){CLOSE_ASK, CLOSE_REASON_ASKED, 60 * USEC_PER_SEC}
				      : (struct close_verdict){CLOSE_FIN_NOW, CLOSE_REASON_POLICY_OFF, 0};
}

static void ask_outcome(struct close_policy *p, int64_t now, const struct close_outcome *out)
{
	struct asking *a = (struct asking *)p;
	if (!out->late) {
		a->ended++;
		a->out = *out;
	}
}

static const struct close_policy_ops ask_ops = {"test-ask", ask_decide, ask_outcome};

/*
 * Middleboxes that take the option out, or drop SYNs that have it, one way or both: every connection ends as it should,
 * with whatever FIN comes first.
 */
START_TEST(asking_through_middleboxes)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct sim *sim = sim_seeded(seed);
		struct asking a = {.policy = {&ask_ops}};
		uint32_t n = 1 + sim_random(sim, 20000);
		enum sim_strip up_strip = sim_random(sim, SIM_STRIPS), down_strip = sim_random(sim, SIM_STRIPS);
		sim->link[CLIENT].strip = up_strip;
		sim->link[SERVER].strip = down_strip;
		struct sim_app up = {.expect_bytes = n, .close = SIM_CLOSE_EOF},
			       down = {.send_bytes = n, .close = SIM_CLOSE_DONE, .policy = &a.policy};
		run_pair(sim, &up, &down, 0, n);
		sim_check(sim, a.ended == 1, "told %d", a.ended);
		bool heard = up_strip == SIM_STRIP_NOTHING && down_strip == SIM_STRIP_NOTHING;
		sim_check(sim, heard || !a.out.answered || (up_strip == SIM_DROP_SYN || down_strip == SIM_DROP_SYN), "answered through %d and %d", up_strip, down_strip);
		sim_free(sim);
	}
}
END_TEST

/*
 * A protocol whose messages end at EOF, over every network: all data is there, each side closes, and a client that
 * understood was first.
 */
START_TEST(asking_over_bad_networks)
{
	unsigned answered = 0, first = 0;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct sim *sim = sim_seeded(seed);
		struct asking a = {.policy = {&ask_ops}};
		uint32_t n = 1 + sim_random(sim, 100000);
		struct sim_app up = {.expect_bytes = n, .close = SIM_CLOSE_EOF},
			       down = {.send_bytes = n, .close = SIM_CLOSE_DONE, .policy = &a.policy};
		run_pair(sim, &up, &down, 0, n);
		sim_check(sim, a.asked == 1 && a.ended == 1, "asked %d, told %d", a.asked, a.ended);
		sim_check(sim, !a.out.answered || a.out.end != CLOSE_END_EXPIRED, "understood, and the FIN came all the same");
		answered += a.out.answered;
		first += a.out.end == CLOSE_END_PEER_FIN;
		sim_free(sim);
	}
	/* Two misses in a row take a bad network: most of these are good enough. */
	ck_assert_uint_ge(first, SEEDS * 8 / 10);
	ck_assert_uint_le(answered, first);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("policy");
	TCase *tc = tcase_create("policy");
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, hold_over_bad_networks);
	tcase_add_test(tc, asking_over_bad_networks);
	tcase_add_test(tc, asking_through_middleboxes);
	tcase_add_test(tc, hold_lets_the_client_close_first);
	tcase_add_test(tc, hold_expires);
	tcase_add_test(tc, data_in_a_hold);
	tcase_add_test(tc, abort_in_a_hold);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
