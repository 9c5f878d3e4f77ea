/*
 * Listener groups against the kernel: the table of flows, and what finds its way by it: addresses, ICMP, fragments,
 * cookies (group_members.h).
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#include "group_members.h"
#include "kernel/bpf_sys.h"
#include "kernel/classifier_prog.h"
#include "tests/untested.h"

/* ---- flows ---- */

START_TEST(flows_by_hand)
{
	struct flow_key k = key_from(1000);

	group_start(2);
	ck_assert_int_eq(classifier_group_add_flow(members[0].g, &k), 0);
	ck_assert_int_eq(classifier_group_add_flow(members[0].g, &k), 0);
	ck_assert_int_eq(classifier_group_add_flow(members[1].g, &k), -EEXIST);
	ck_assert_int_eq(classifier_group_give_flow(members[1].g, &k), -EEXIST);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), 0);
	ck_assert_int_eq(classifier_group_del_flow(members[1].g, &k), -ENOENT);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), 0);
	/* Handed over: the kernel's, SYNs included. */
	ck_assert_int_eq(classifier_group_give_flow(members[0].g, &k), 0);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), KERNEL);
	ck_assert_int_eq(who_gets(1000, TCPF_SYN), KERNEL);
	ck_assert_int_eq(classifier_group_add_flow(members[1].g, &k), -EEXIST);
	ck_assert_int_eq(classifier_group_del_flow(members[0].g, &k), 0);
	ck_assert_int_eq(classifier_group_del_flow(members[0].g, &k), -ENOENT);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), KERNEL);
	ck_assert_int_ge(who_gets(1000, TCPF_SYN), 0);
	/* Over: the same 4-tuple begins anew. */
	k.rport = 1001;
	int first = who_gets(1001, TCPF_SYN);
	ck_assert_int_eq(classifier_group_del_flow(members[first].g, &k), 0);
	classifier_group_set_accepting(members[first].g, false);
	ck_assert_int_eq(who_gets(1001, TCPF_SYN), !first);
	/* Without a slot there is nothing to own. */
	classifier_group_leave_slot(members[0].g);
	k.rport = 1002;
	ck_assert_int_eq(classifier_group_add_flow(members[0].g, &k), -EINVAL);
	/* A client connection of this process from the same port stays its own. */
	k.rport = 1003;
	ck_assert_int_eq(classifier_add_flow(members[0].c, &k), 0);
	ck_assert_int_eq(who_gets(1003, TCPF_SYN | TCPF_ACK), 0);
	group_stop();
}
END_TEST

START_TEST(a_full_map)
{
	int fds[CLASSIFIER_GROUP_FDS] = {classifier_group_members_map(), classifier_group_flows_map(4), -1, -1, -1};
	struct ip_addr any = addr("::");
	struct flow_key k = key_from(1009);

	n_members = 1;
	open_classifier(&members[0], CLASSIFIER_EBPF);
	ck_assert_int_eq(classifier_group_open(members[0].c, fds, CLASSIFIER_GROUP_FDS, &members[0].g), 0);
	ck_assert_int_eq(classifier_group_take_slot(members[0].g, 0), 0);
	ck_assert_int_eq(classifier_group_add_listener(members[0].g, &any, OURS), 0);
	classifier_group_set_accepting(members[0].g, true);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(who_gets(1000 + i, TCPF_SYN), 0);
	ck_assert_int_eq(who_gets(1004, TCPF_SYN), KERNEL);
	ck_assert_int_eq(classifier_group_add_flow(members[0].g, &k), -E2BIG);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), 0);
	k.rport = 1000;
	ck_assert_int_eq(classifier_group_del_flow(members[0].g, &k), 0);
	ck_assert_int_eq(who_gets(1004, TCPF_SYN), 0);
	group_stop();
}
END_TEST

START_TEST(the_sweep_takes_dead_entries_only)
{
	enum { FLOWS = 1000 };
	struct flow_key k = key_from(0);

	group_start(2);
	for (k.rport = 1; k.rport <= FLOWS; k.rport++)
		ck_assert_int_eq(classifier_group_add_flow(members[k.rport % 2].g, &k), 0);
	classifier_group_leave_slot(members[1].g);
	int calls = 0, more;
	while ((more = classifier_group_sweep(members[0].g)) > 0)
		calls++;
	ck_assert_int_eq(more, 0);
	ck_assert_int_gt(calls, 1); /* bounded each */
	for (k.rport = 1; k.rport <= FLOWS; k.rport++) {
		struct classifier_flow f = classifier_flow(&k);
		uint64_t owner;
		ck_assert_int_eq(bpf_map_lookup(members[0].g->flows_fd, &f, &owner), k.rport % 2 ? -ENOENT : 0);
	}
	group_stop();
}
END_TEST

static int entries_of(const struct member *m, uint16_t first, uint16_t last)
{
	struct flow_key k = key_from(0);
	int n = 0;
	for (k.rport = first; k.rport <= last; k.rport++) {
		struct classifier_flow f = classifier_flow(&k);
		uint64_t owner;
		n += bpf_map_lookup(m->g->flows_fd, &f, &owner) == 0;
	}
	return n;
}

/* More than one batch, with holes at its beginning, its end and side by side. */
START_TEST(own_flows_go_together)
{
	enum { FLOWS = 300 };
	static const uint16_t holes[] = {1, 2, 64, 65, 200, FLOWS};
	struct flow_key keys[FLOWS];

	group_start(2);
	for (int i = 0; i < FLOWS; i++) {
		keys[i] = key_from(1 + i);
		ck_assert_int_eq(classifier_group_add_flow(members[0].g, &keys[i]), 0);
	}
	struct flow_key others = key_from(FLOWS + 1);
	ck_assert_int_eq(classifier_group_add_flow(members[1].g, &others), 0);
	for (size_t i = 0; i < sizeof holes / sizeof holes[0]; i++)
		ck_assert_int_eq(classifier_group_del_flow(members[0].g, &keys[holes[i] - 1]), 0);
	classifier_group_del_own_flows(members[0].g, keys, FLOWS - 10);
	ck_assert_int_eq(entries_of(&members[0], 1, FLOWS - 10), 0);
	ck_assert_int_eq(entries_of(&members[0], FLOWS - 9, FLOWS), 9); /* the last is a hole */
	classifier_group_del_own_flows(members[0].g, keys, FLOWS);
	classifier_group_del_own_flows(members[0].g, keys, 0);
	ck_assert_int_eq(entries_of(&members[0], 1, FLOWS), 0);
	ck_assert_int_eq(who_gets(FLOWS + 1, TCPF_ACK), 1);
	group_stop();
}
END_TEST

START_TEST(a_port_becomes_a_groups)
{
	struct ip_addr any = addr("::");
	struct flow_key k = key_from(1000);

	n_members = 1;
	open_classifier(&members[0], CLASSIFIER_EBPF);
	ck_assert_int_eq(classifier_add_listener(members[0].c, &any, OURS), 0);
	ck_assert_int_eq(who_gets(1000, TCPF_SYN), 0);
	ck_assert_int_eq(who_gets(1001, TCPF_ACK), 0); /* alone it has all */
	join_group(&members[0], 0);
	ck_assert_int_eq(classifier_group_add_listener(members[0].g, &any, OURS), -EEXIST);
	ck_assert_int_eq(classifier_group_add_flow(members[0].g, &k), 0);
	ck_assert_int_eq(classifier_group_convert_listener(members[0].g, &any, OURS), 0);
	ck_assert_int_eq(classifier_group_convert_listener(members[0].g, &any, CLOSED), -ENOENT);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), 0);
	ck_assert_int_eq(who_gets(1001, TCPF_ACK), KERNEL);
	n_members = 2;
	member_start(&members[1], 1, "::");
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), 0);
	ck_assert_int_eq(who_gets(1002, TCPF_SYN), 1); /* the first does not accept */
	/* The count goes on: added once more, deleted twice. */
	ck_assert_int_eq(classifier_group_add_listener(members[0].g, &any, OURS), 0);
	ck_assert_int_eq(classifier_group_del_listener(members[0].g, &any, OURS), 0);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), 0);
	ck_assert_int_eq(classifier_group_del_listener(members[0].g, &any, OURS), 0);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), KERNEL);
	ck_assert_int_eq(who_gets(1002, TCPF_ACK), 1);
	/* And the port can be had alone again. */
	classifier_group_free(members[0].g);
	member_stop(&members[1]);
	ck_assert_int_eq(classifier_add_listener(members[0].c, &any, OURS), 0);
	ck_assert_int_eq(who_gets(1005, TCPF_ACK), 0);
	group_stop();
}
END_TEST

/* ---- addresses ---- */

START_TEST(families)
{
	struct ip_addr any6 = addr("::"), any4 = addr("0.0.0.0");

	group_start(2);
	int v6 = who_gets_at(OUR_V6, 1000, TCPF_SYN), v4 = who_gets_at(OUR_V4, 1000, TCPF_SYN);
	ck_assert_int_ge(v6, 0);
	ck_assert_int_ge(v4, 0);
	ck_assert_int_eq(who_gets_at(OUR_V6, 1000, TCPF_ACK), v6);
	ck_assert_int_eq(who_gets_at(OUR_V4_B, 1000, TCPF_ACK), KERNEL);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(classifier_group_add_listener(members[i].g, &any4, OURS), 0);
		ck_assert_int_eq(classifier_group_del_listener(members[i].g, &any6, OURS), 0);
	}
	ck_assert_int_eq(who_gets_at(OUR_V6, 1001, TCPF_SYN), KERNEL);
	ck_assert_int_ge(who_gets_at(OUR_V4_B, 1001, TCPF_SYN), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(classifier_group_add_listener(members[i].g, &classifier_any_v6only, OURS), 0);
		ck_assert_int_eq(classifier_group_del_listener(members[i].g, &any4, OURS), 0);
	}
	ck_assert_int_ge(who_gets_at(OUR_V6, 1002, TCPF_SYN), 0);
	ck_assert_int_eq(who_gets_at(OUR_V4, 1002, TCPF_SYN), KERNEL);
	group_stop();
}
END_TEST

/*
 * One port, by address: a group of members 0 and 1, a group of 1 and 2, a wildcard of 2's own. The address comes before
 * the wildcard.
 */
START_TEST(groups_and_others_on_one_port)
{
	struct ip_addr one = addr(OUR_V4), two = addr(OUR_V6), any = addr("::");
	struct classifier_group *second;

	for (n_members = 0; n_members < 3; n_members++)
		open_classifier(&members[n_members], CLASSIFIER_EBPF);
	join_group(&members[0], 0);
	join_group(&members[1], 1);
	ck_assert_int_eq(classifier_group_new(members[1].c, &second), 0);
	ck_assert_int_eq(classifier_group_take_slot(second, 5), 0);
	members[2].g = join(&members[2], second);
	ck_assert_int_eq(classifier_group_take_slot(members[2].g, 6), 0);

	ck_assert_int_eq(classifier_group_add_listener(members[0].g, &one, OURS), 0);
	ck_assert_int_eq(classifier_group_add_listener(members[1].g, &one, OURS), 0);
	ck_assert_int_eq(classifier_group_add_listener(second, &two, OURS), 0);
	ck_assert_int_eq(classifier_group_add_listener(members[2].g, &two, OURS), 0);
	ck_assert_int_eq(classifier_group_add_listener(second, &one, OURS), -EEXIST);
	classifier_group_set_accepting(members[0].g, true);
	classifier_group_set_accepting(members[2].g, true);
	ck_assert_int_eq(who_gets_at(OUR_V4, 1000, TCPF_SYN), 0);
	ck_assert_int_eq(who_gets_at(OUR_V6, 1000, TCPF_SYN), 2);
	ck_assert_int_eq(who_gets_at(OUR_V4_B, 1000, TCPF_SYN), KERNEL);
	classifier_group_set_accepting(second, true);
	classifier_group_set_accepting(members[2].g, false);
	ck_assert_int_eq(who_gets_at(OUR_V6, 1001, TCPF_SYN), 1);
	ck_assert_int_eq(classifier_add_listener(members[2].c, &any, OURS), 0);
	ck_assert_int_eq(who_gets_at(OUR_V4_B, 1001, TCPF_SYN), 2);
	ck_assert_int_eq(who_gets_at(OUR_V4_B, 1001, TCPF_ACK), 2);
	ck_assert_int_eq(who_gets_at(OUR_V6, 1002, TCPF_SYN), 1);
	ck_assert_int_eq(classifier_del_listener(members[2].c, &any, OURS), 0);
	ck_assert_int_eq(who_gets_at(OUR_V4_B, 1002, TCPF_SYN), KERNEL);
	ck_assert_int_eq(who_gets_at(OUR_V6, 1000, TCPF_ACK), 2);
	group_stop();
}
END_TEST

/* ---- ICMP, fragments ---- */

START_TEST(icmp_errors_reach_the_flows_member)
{
	struct spec outer = {.dst = OUR_V4}, quoted = {.src = OUR_V4, .dst = PEER_V4, .sport = OURS, .dport = 1000, .flags = TCPF_ACK};
	struct frame f;

	group_start(4);
	int owner = who_gets(1000, TCPF_SYN);
	for (int port = 1000; port <= 1001; port++) { /* the second: of no flow */
		quoted.dport = port;
		frame_build_icmp(&f, 3, 4, &outer, &quoted);
		ck_assert_int_eq(write(peer, f.b, f.len), f.len);
		settle();
		for (int i = 0; i < 4; i++)
			ck_assert_int_eq(members[i].n, port == 1000 && i == owner);
	}
	struct spec outer6 = {.src = PEER_V6, .dst = OUR_V6}, quoted6 = {
		.src = OUR_V6, .dst = PEER_V6, .sport = OURS, .dport = 1000, .flags = TCPF_ACK};
	owner = who_gets_at(OUR_V6, 1000, TCPF_SYN);
	frame_build_icmp(&f, 2, 0, &outer6, &quoted6);
	ck_assert_int_eq(write(peer, f.b, f.len), f.len);
	settle();
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(members[i].n, i == owner);
	group_stop();
}
END_TEST

/* A frame that ends before the flags belongs to its flow, and begins none. */
START_TEST(cut_before_the_flags)
{
	struct spec s = {.sport = 1000, .dport = OURS, .flags = TCPF_SYN, .cut = 16};

	group_start(2);
	ck_assert_int_eq(who(&s), NOBODY);
	int owner = who_gets(1000, TCPF_SYN);
	ck_assert_int_eq(who(&s), owner);
	struct spec options = {.sport = 1002, .dport = OURS, .flags = TCPF_SYN, .ip_options = 40};
	ck_assert_int_ge(who(&options), 0);
	struct spec ext = {.src = PEER_V6, .dst = OUR_V6, .sport = 1003, .dport = OURS, .flags = TCPF_SYN,
			   .ext = {IPPROTO_HOPOPTS, 60, 60, 60}, .n_ext = 4};
	ck_assert_int_ge(who(&ext), 0);
	group_stop();
}
END_TEST

/* ---- cookies ---- */

static bool has_entry(uint16_t sport)
{
	struct flow_key k = key_from(sport);
	struct classifier_flow f = classifier_flow(&k);
	uint64_t owner;
	return bpf_map_lookup(members[0].g->flows_fd, &f, &owner) == 0;
}

START_TEST(cookies_need_no_entries)
{
	int counts[MEMBERS_MAX] = {0};
	struct flow_key x = key_from(3000), k = key_from(1000);

	group_start(4);
	classifier_group_set_accepting(members[3].g, false);
	int before = who_gets(2000, TCPF_SYN);
	classifier_group_note_cookies(members[0].g, now_us() + 3600 * 1000000ll);
	classifier_group_note_cookies(members[1].g, now_us() - 1); /* not taken back */
	for (int i = 0; i < 100; i++) {
		int owner = who_gets(1000 + i, TCPF_SYN);
		ck_assert_int_ge(owner, 0);
		counts[owner]++;
		ck_assert(!has_entry(1000 + i));
		ck_assert_int_eq(who_gets(1000 + i, TCPF_ACK), owner); /* the cookie comes back to whom it was sent by */
	}
	ck_assert_msg(counts[0] > 10 && counts[1] > 10 && counts[2] > 10 && counts[3] == 0, "%d %d %d", counts[0], counts[1], counts[2]);
	ck_assert_int_eq(who_gets(2000, TCPF_ACK), before); /* entries count as ever */
	ck_assert_int_eq(who_gets(1000, TCPF_RST), NOBODY);
	ck_assert_int_eq(n_answers, 0);
	/* Once established it has an entry, and stays where it is. */
	int owner = who_gets(1000, TCPF_ACK);
	ck_assert_int_eq(classifier_group_add_flow(members[owner].g, &k), 0);
	classifier_group_set_accepting(members[owner].g, false);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), owner);
	classifier_group_set_accepting(members[owner].g, true);
	/* The kernel's connections. */
	ck_assert_int_ge(who_gets(3000, TCPF_ACK), 0);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(classifier_add_exception(members[i].c, &x), 0);
	ck_assert_int_eq(who_gets(3000, TCPF_ACK), KERNEL);
	ck_assert_int_ge(who_gets(3001, TCPF_ACK), 0);
	x.rport = 3001;
	ck_assert_int_eq(classifier_group_give_flow(members[0].g, &x), 0);
	ck_assert_int_eq(who_gets(3001, TCPF_ACK), KERNEL);
	/* Over. */
	members[0].g->members->cookies_until_ns = (now_us() - 1) * 1000;
	ck_assert_int_eq(who_gets(1001, TCPF_ACK), KERNEL);
	ck_assert_int_ge(who_gets(1001, TCPF_SYN), 0);
	ck_assert(has_entry(1001));
	group_stop();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("flows of listener groups");
	TCase *tc = tcase_create("flows");
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, flows_by_hand);
	tcase_add_test(tc, a_full_map);
	tcase_add_test(tc, the_sweep_takes_dead_entries_only);
	tcase_add_test(tc, own_flows_go_together);
	tcase_add_test(tc, a_port_becomes_a_groups);
	tcase_add_test(tc, families);
	tcase_add_test(tc, groups_and_others_on_one_port);
	tcase_add_test(tc, icmp_errors_reach_the_flows_member);
	tcase_add_test(tc, cut_before_the_flags);
	tcase_add_test(tc, cookies_need_no_entries);
	suite_add_tcase(s, tc);
	return group_main(s);
}
