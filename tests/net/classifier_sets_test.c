/* The sets of the classifier: listeners, our addresses, flows, exceptions. */
#include "tests/net/classifier_lab.h"

#include <errno.h>

#include "kernel/classifier_ebpf_internal.h"

START_TEST(listeners_are_counted_per_address)
{
	struct engine e;
	struct ip_addr one = addr(OUR_V4), two = addr(OUR_V4_B), any4 = addr("0.0.0.0"), any6 = addr("::");

	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_listener(e.c, &one, 90), 0);
	ck_assert_int_eq(classifier_add_listener(e.c, &one, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 90), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V4_B, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V6, 90), 0);
	ck_assert_int_eq(classifier_add_listener(e.c, &two, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4_B, 90), 1);
	ck_assert_int_eq(classifier_del_listener(e.c, &one, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 90), 1);
	ck_assert_int_eq(classifier_del_listener(e.c, &one, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4_B, 90), 1);
	ck_assert_int_eq(classifier_del_listener(e.c, &one, 90), -ENOENT);

	ck_assert_int_eq(classifier_add_listener(e.c, &any4, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 90), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V6, 90), 0); /* an IPv4 wildcard cannot accept it */
	ck_assert_int_eq(classifier_add_listener(e.c, &any6, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V6, 90), 1);
	ck_assert_int_eq(classifier_del_listener(e.c, &any4, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 90), 1); /* :: serves both */
	ck_assert_int_eq(classifier_del_listener(e.c, &any6, 90), 0);
	ck_assert_int_eq(classifier_del_listener(e.c, &two, 90), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4_B, 90), 0);

	ck_assert_int_eq(classifier_add_listener(e.c, &classifier_any_v6only, 91), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V6, 91), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 91), 0);
	ck_assert_int_eq(classifier_add_listener(e.c, &any4, 91), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 91), 1);
	ck_assert_int_eq(classifier_del_listener(e.c, &classifier_any_v6only, 91), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V6, 91), 0);
	ck_assert_int_eq(classifier_del_listener(e.c, &any4, 91), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 91), 0);

	ck_assert_int_eq(classifier_add_listener(e.c, &any6, 65535), 0); /* the array's edges */
	ck_assert_int_eq(who_gets(&e, OUR_V4, 65535), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V4, 65534), 0);
	engine_stop(&e);
}
END_TEST

START_TEST(addresses_are_replaced)
{
	struct engine e;
	struct ip_addr any = addr("::"), first[] = {addr(OUR_V4), addr(OUR_V6)},
		       second[] = {addr(OUR_V4), addr(OUR_V4_B)};

	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	ck_assert_int_eq(classifier_set_addresses(e.c, first, 2), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4, OURS), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V4_B, OURS), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V6, OURS), 1);
	ck_assert_int_eq(classifier_set_addresses(e.c, second, 2), 0);
	ck_assert_int_eq(who_gets(&e, OUR_V4_B, OURS), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V6, OURS), 0);
	engine_stop(&e);
}
END_TEST

START_TEST(flows_are_exact)
{
	struct engine e;
	struct flow_key k = key(OUR_V4, 61000, PEER_V4, 443), k6 = key(OUR_V6, 61000, PEER_V6, 443);
	struct spec s = {.sport = 443, .dport = 61000, .flags = TCPF_ACK}, other = s, s6 = s;

	other.sport = 444;
	s6.src = PEER_V6;
	s6.dst = OUR_V6;
	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_flow(e.c, &k), 0);
	ck_assert_int_eq(classifier_add_flow(e.c, &k), 0); /* twice is once */
	send_spec(&s);
	send_spec(&other);
	send_spec(&s6);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 1);
	ck_assert_int_eq(n_answers, 2); /* RST for what is not ours */
	ck_assert_int_eq(classifier_add_flow(e.c, &k6), 0);
	ck_assert_int_eq(classifier_del_flow(e.c, &k), 0);
	send_spec(&s);
	send_spec(&s6);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 1);
	ck_assert_int_eq(n_answers, 1);
	ck_assert_int_eq(answers[0].sport, 61000);
	ck_assert_int_eq(classifier_del_flow(e.c, &k), -ENOENT);
	engine_stop(&e);
}
END_TEST

/*
 * Flows whose local ports share their slots: two are there, the others are in the set, and each comes and goes alone,
 * whichever was first.
 */
START_TEST(flows_share_slots)
{
	enum { APART = 2048, N = 4 }; /* CLASSIFIER_SLOTS */
	struct engine e;
	struct flow_key k[N];
	struct spec s[N];

	engine_start(&e, "a");
	for (int i = 0; i < N; i++) {
		k[i] = key(OUR_V4, 61000 - i * APART, PEER_V4, 443);
		s[i] = (struct spec){.sport = 443, .dport = k[i].lport, .flags = TCPF_ACK};
		ck_assert_int_eq(classifier_add_flow(e.c, &k[i]), 0);
	}
	for (int gone = -1; gone < N; gone++) {
		if (gone >= 0)
			ck_assert_int_eq(classifier_del_flow(e.c, &k[gone]), 0);
		for (int i = 0; i < N; i++)
			send_spec(&s[i]);
		settle(&e);
		ck_assert_int_eq(e.seen.n, N - 1 - gone);
		ck_assert_int_eq(n_answers, gone + 1);
	}
	/* One that is in the set, and enters a slot when that is free: it goes from both. */
	for (int together = 0; together < 2; together++) {
		for (int i = 0; i < 3; i++)
			ck_assert_int_eq(classifier_add_flow(e.c, &k[i]), 0);
		ck_assert_int_eq(classifier_del_flow(e.c, &k[together]), 0);
		ck_assert_int_eq(classifier_add_flow(e.c, &k[2]), 0);
		if (together)
			classifier_del_flows(e.c, &k[2], 1);
		else
			ck_assert_int_eq(classifier_del_flow(e.c, &k[2]), 0);
		ck_assert_int_eq(classifier_del_flow(e.c, &k[2]), -ENOENT);
		ck_assert_int_eq(classifier_del_flow(e.c, &k[!together]), 0);
		for (int i = 0; i < N; i++)
			send_spec(&s[i]);
		settle(&e);
		ck_assert_int_eq(e.seen.n, 0);
		ck_assert_int_eq(n_answers, N);
	}
	engine_stop(&e);
}
END_TEST

/* Many at once: those that are there go, whatever is missing among them. */
START_TEST(flows_go_together)
{
	enum { MANY = 150 };
	struct engine e;
	struct flow_key keys[MANY], kept = key(OUR_V4, 61000, PEER_V4, 1000);
	struct spec s = {.dport = 61000, .flags = TCPF_ACK};

	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_flow(e.c, &kept), 0);
	for (int i = 0; i < MANY; i++) {
		keys[i] = key(OUR_V4, 61000, PEER_V4, 1001 + i);
		if (i != 0 && i != 70 && i != MANY - 1)
			ck_assert_int_eq(classifier_add_flow(e.c, &keys[i]), 0);
	}
	classifier_del_flows(e.c, keys, MANY);
	for (int i = 0; i < MANY; i++)
		ck_assert_int_eq(classifier_del_flow(e.c, &keys[i]), -ENOENT);
	s.sport = 1001 + 71;
	send_spec(&s);
	s.sport = 1000;
	send_spec(&s);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 1); /* the one that was kept */
	ck_assert_int_eq(n_answers, 1);
	engine_stop(&e);
}
END_TEST

static void slots_are(const struct engine *e, uint32_t n)
{
	if (choice == CLASSIFIER_EBPF)
		ck_assert_uint_eq(ebpf_of(e->c)->ports->n_slots, n);
}

/* What stays long leaves its slot for who comes, where slots are wanted; it is as good in the set, and goes as well. */
START_TEST(flows_that_stay)
{
	enum { MANY = 300, FEW = 100, STAY = CLASSIFIER_STAY_AT_ONCE, APART = 2048 }; /* CLASSIFIER_SLOTS */
	struct engine e;
	struct flow_key keys[MANY], next[STAY];
	struct spec s = {.sport = 443, .flags = TCPF_ACK};

	engine_start(&e, "a");
	for (int i = 0; i < MANY; i++) {
		keys[i] = key(OUR_V4, 60000 + i, PEER_V4, 443);
		ck_assert_int_eq(classifier_add_flow(e.c, &keys[i]), 0);
		if (i == FEW) { /* there are places enough */
			classifier_flows_stay(e.c, keys, STAY);
			slots_are(&e, FEW + 1);
		}
	}
	ck_assert_int_eq(classifier_del_flow(e.c, &keys[1]), 0);
	classifier_flows_stay(e.c, keys, STAY);
	slots_are(&e, MANY - STAY);
	for (int i = 0; i < STAY; i++) {
		next[i] = key(OUR_V4, 60000 + i - APART, PEER_V4, 443);
		ck_assert_int_eq(classifier_add_flow(e.c, &next[i]), 0);
	}
	slots_are(&e, MANY);
	const uint16_t ours[] = {60000, 60000 + STAY - 1, 60000 + STAY, 60000 + MANY - 1, 60000 - APART, 60000 - APART + STAY - 1};
	for (int gone = 0; gone < 2; gone++) {
		s.dport = 60001; /* went before */
		send_spec(&s);
		for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
			s.dport = ours[i];
			send_spec(&s);
		}
		settle(&e);
		ck_assert_int_eq(e.seen.n, gone ? 0 : 6);
		ck_assert_int_eq(n_answers, gone ? 7 : 1);
		classifier_del_flows(e.c, keys, MANY);
		classifier_del_flows(e.c, next, STAY);
		slots_are(&e, 0);
	}
	engine_stop(&e);
}
END_TEST

/* More 4-tuples than the first map of a set holds: the last is as good as the first, and goes as well. */
START_TEST(sets_grow)
{
	enum { MANY = 20000 };
	struct engine e;
	struct ip_addr any = addr("0.0.0.0");
	struct flow_key k = key(OUR_V4, 61000, PEER_V4, 0), x = key(OUR_V4, OURS, PEER_V4, 0);
	struct spec s = {.sport = MANY, .dport = 61000, .flags = TCPF_ACK};
	struct spec excepted = {.sport = MANY, .dport = OURS, .flags = TCPF_ACK};

	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	for (k.rport = x.rport = 1; k.rport <= MANY; k.rport++, x.rport++) {
		ck_assert_int_eq(classifier_add_flow(e.c, &k), 0);
		ck_assert_int_eq(classifier_add_exception(e.c, &x), 0);
	}
	k.rport = x.rport = MANY;
	send_spec(&s);
	send_spec(&excepted);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 1); /* the flow */
	ck_assert_int_eq(n_answers, 1); /* the exception */
	ck_assert_int_eq(answers[0].sport, OURS);
	ck_assert_int_eq(classifier_del_flow(e.c, &k), 0);
	ck_assert_int_eq(classifier_del_flow(e.c, &k), -ENOENT);
	ck_assert_int_eq(classifier_del_exception(e.c, &x), 0);
	send_spec(&s);
	send_spec(&excepted);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 1); /* now the other way round */
	ck_assert_int_eq(n_answers, 1);
	ck_assert_int_eq(answers[0].sport, 61000);
	engine_stop(&e);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, listeners_are_counted_per_address);
	tcase_add_test(tc, addresses_are_replaced);
	tcase_add_test(tc, flows_are_exact);
	tcase_add_test(tc, flows_share_slots);
	tcase_add_test(tc, flows_go_together);
	tcase_add_test(tc, flows_that_stay);
	tcase_add_test(tc, sets_grow);
}

int main(void)
{
	return classifier_main("classifier sets", add);
}
