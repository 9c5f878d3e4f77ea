/*
 * Life and death of classifiers: processes that end, fork or share an interface, programs of others, places, failure.
 */
#include "tests/net/classifier_lab.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/bpf_asm.h"
#include "kernel/bpf_sys.h"

/* What keeps frames from the kernel: tcx programs, or tables of ours. */
static int programs_on(const char *ifname)
{
	uint32_t ids[BPF_QUERY_MAX];
	if (choice == CLASSIFIER_NFTABLES) {
		int n = 0;
		FILE *f = popen("nft list tables netdev | grep -c finesse-", "r");
		ck_assert(f && fscanf(f, "%d", &n) == 1);
		pclose(f);
		return n;
	}
	return bpf_prog_query(if_nametoindex(ifname), BPF_ATTACH_TCX_INGRESS, 0, ids);
}

/* What `nft list ruleset` prints of us can be loaded again, and says what it is about: people save their rules so. */
START_TEST(rules_can_be_printed_and_loaded)
{
	struct engine e;
	struct ip_addr any = addr("::"), v4 = addr(OUR_V4);
	struct flow_key k4 = {.laddr = v4, .lport = 40000, .raddr = addr(PEER_V4), .rport = 80}, k6 = {.laddr = addr(OUR_V6), .lport = 40000, .raddr = addr(PEER_V6), .rport = 81};
	char command[512];
	if (choice != CLASSIFIER_NFTABLES)
		return;
	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	ck_assert_int_eq(classifier_add_flow(e.c, &k4), 0);
	ck_assert_int_eq(classifier_add_flow(e.c, &k6), 0);
	/* In a namespace of its own: the kernel keeps others from a table that has an owner. */
	snprintf(command, sizeof command,
		 "f=$(mktemp); nft list ruleset >$f && grep -q 'type ipv4_addr . inet_service . ipv4_addr . inet_service' $f && grep -q '%s . 80 . %s . 40000' $f && "
		 "unshare -n sh -c 'ip link add name a type veth peer name b && nft -c -f '$f; r=$?; rm -f $f; exit $r",
		 PEER_V4, OUR_V4);
	ck_assert_int_eq(system(command), 0);
	engine_stop(&e);
}
END_TEST

START_TEST(kill_returns_the_ports_to_the_kernel)
{
	int up[2];
	char c;
	struct spec s = {SYN_TO(OURS)};

	ck_assert_int_eq(pipe(up), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct engine e;
		struct ip_addr any = addr("::");
		engine_start(&e, "a");
		classifier_add_listener(e.c, &any, OURS);
		if (write(up[1], "x", 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	ck_assert_int_eq(read(up[0], &c, 1), 1);
	ck_assert_int_eq(programs_on("a"), 1);
	send_spec(&s);
	settle(NULL);
	ck_assert_int_eq(n_answers, 0);

	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_int_eq(programs_on("a"), 0);
	send_spec(&s);
	settle(NULL);
	ck_assert_int_eq(n_answers, 1);
	ck_assert_int_eq(answers[0].flags, RST);
}
END_TEST

START_TEST(a_forgetful_child_keeps_nothing_alive)
{
	struct engine e;
	struct ip_addr any = addr("::");
	struct spec s = {SYN_TO(OURS)};
	int up[2], down[2];
	char c;

	engine_start(&e, "a");
	classifier_add_listener(e.c, &any, OURS);
	ck_assert_int_eq(pipe(up) | pipe(down), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(down[1]);
		classifier_forget(e.c);
		if (write(up[1], "x", 1) != 1)
			_exit(1);
		_exit(read(down[0], &c, 1) != 0); /* holds the packet socket until told */
	}
	ck_assert_int_eq(read(up[0], &c, 1), 1);
	/* The parent's still works … */
	send_spec(&s);
	settle(&e);
	ck_assert_int_eq(e.seen.n, 1);
	ck_assert_int_eq(n_answers, 0);
	/* … and goes when the parent lets go, though the child lives. */
	engine_stop(&e);
	ck_assert_int_eq(programs_on("a"), 0);
	send_spec(&s);
	settle(NULL);
	ck_assert_int_eq(n_answers, 1);
	close(down[1]);
	int status;
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(two_engines_share_an_interface)
{
	struct engine one, two;
	struct ip_addr any = addr("::");
	struct spec to_one = {SYN_TO(OURS)}, to_two = {SYN_TO(82)}, fence = {
		.sport = FENCE_FROM, .dport = FENCE, .flags = TCPF_SYN};

	engine_start(&one, "a");
	engine_start(&two, "a");
	ck_assert_int_eq(programs_on("a"), 2);
	ck_assert_int_eq(classifier_add_listener(one.c, &any, OURS), 0);
	ck_assert_int_eq(classifier_add_listener(two.c, &any, 82), 0);
	send_spec(&to_one);
	send_spec(&to_two);
	settle(&one); /* the fence reaches both taps */
	two.seen.n = 0;
	drain_tap(&two);
	ck_assert_int_eq(n_answers, 0);
	if (choice == CLASSIFIER_NFTABLES) { /* each tap sees both */
		engine_stop(&one);
		engine_stop(&two);
		return;
	}
	ck_assert_int_eq(one.seen.n, 1);
	ck_assert_int_eq(two.seen.n, 1);
	struct tcp_seen t;
	ck_assert(frame_parse_tcp(one.seen.frames[0].b, one.seen.frames[0].len, true, &t));
	ck_assert_int_eq(t.dport, OURS);
	ck_assert(frame_parse_tcp(two.seen.frames[0].b, two.seen.frames[0].len, true, &t));
	ck_assert_int_eq(t.dport, 82);

	engine_stop(&one);
	ck_assert_int_eq(programs_on("a"), 1);
	send_spec(&to_one);
	send_spec(&to_two);
	send_spec(&fence);
	settle(&two);
	ck_assert_int_eq(two.seen.n, 1);
	ck_assert_int_eq(n_answers, 1);
	ck_assert_int_eq(answers[0].sport, OURS);
	engine_stop(&two);
}
END_TEST

/* A program that ends the chain for every frame, as the classic tc programs do. */
static int attach_chain_end(void)
{
	struct bpf_asm a;
	bpf_asm_init(&a);
	bpf_asm_mov_imm(&a, R0, 0 /* TC_ACT_OK */);
	bpf_asm_exit(&a);
	int prog = bpf_prog_load("chain_end", BPF_PROG_TYPE_SCHED_CLS, a.insns, bpf_asm_finish(&a), NULL, 0);
	ck_assert_int_ge(prog, 0);
	int link = bpf_link_tcx_ingress(prog, if_nametoindex("a"));
	ck_assert_int_ge(link, 0);
	close(prog);
	return link;
}

START_TEST(a_foreign_program_does_not_hide_frames)
{
	struct engine e;
	struct ip_addr any = addr("::");
	if (choice == CLASSIFIER_NFTABLES)
		return; /* about the order of tcx programs; a tcx program that ends its chain does not end netfilter's */
	int link = attach_chain_end();

	engine_start(&e, "a");
	ck_assert_int_eq(classifier_add_listener(e.c, &any, OURS), 0);
	ck_assert_int_eq(programs_on("a"), 2);
	ck_assert_int_eq(who_gets(&e, OUR_V4, OURS), 1);
	ck_assert_int_eq(who_gets(&e, OUR_V4, CLOSED), 0);
	engine_stop(&e);
	ck_assert_int_eq(programs_on("a"), 1);
	close(link);
}
END_TEST

/* An engine whose classifier is put in a place; its fence is its own. */
static void engine_start_in(struct engine *e, int place)
{
	struct ip_addr ours[] = {addr(OUR_V4)}, any = addr("::");
	e->tap = packet_open("a");
	e->seen.n = 0;
	ck_assert_int_eq(classifier_prepare(&e->c, with_eth), 0);
	ck_assert_int_eq(classifier_put(e->c, if_nametoindex("a"), place, e->tap, with_eth), 0);
	ck_assert_int_eq(classifier_set_addresses(e->c, ours, 1), 0);
	ck_assert_int_eq(classifier_add_listener(e->c, &any, FENCE), 0);
	ck_assert_int_eq(classifier_add_listener(e->c, &any, OURS), 0);
}

static void kernel_gets_ours(void)
{
	struct spec s = {SYN_TO(OURS)};
	send_spec(&s);
	settle(NULL);
	ck_assert_int_eq(n_answers, 1);
	ck_assert_int_eq(answers[0].flags, RST);
}

/* As another process has it. */
static struct classifier *adopt_copy(const struct classifier *c)
{
	struct classifier *copy;
	int fds[CLASSIFIER_FDS];
	ck_assert_int_eq(classifier_fds(c, fds), CLASSIFIER_FDS);
	for (int i = 0; i < CLASSIFIER_FDS; i++)
		fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
	ck_assert_int_eq(classifier_adopt(&copy, fds, if_nametoindex("a"), with_eth), 0);
	return copy;
}

START_TEST(a_place_outlives_who_was_there)
{
	struct engine e;
	if (choice == CLASSIFIER_NFTABLES)
		return; /* it has none */
	int place = classifier_place_end(classifier_place_begin(if_nametoindex("a")));
	ck_assert_int_ge(place, 0);
	ck_assert_int_eq(programs_on("a"), 1);
	kernel_gets_ours();
	for (int i = 0; i < 2; i++) { /* one after the other, and nothing of the first is left */
		engine_start_in(&e, place);
		ck_assert_int_eq(programs_on("a"), 1);
		ck_assert_int_eq(who_gets(&e, OUR_V4, OURS), 1);
		ck_assert_int_eq(classifier_place_clear(place), 0);
		kernel_gets_ours();
		engine_stop(&e);
		ck_assert_int_eq(programs_on("a"), 1);
	}
	/* Who has it from another process ends it with its classifier, but not in a fork child. */
	engine_start_in(&e, place);
	classifier_forget(adopt_copy(e.c));
	ck_assert_int_eq(who_gets(&e, OUR_V4, OURS), 1);
	classifier_close(adopt_copy(e.c));
	ck_assert_int_eq(programs_on("a"), 0);
	kernel_gets_ours();
	ck_assert_int_lt(classifier_place_clear(place), 0);
	engine_stop(&e);
	close(place);
}
END_TEST

START_TEST(failure_says_why)
{
	struct classifier *c = NULL;
	char why[256] = "";
	int tap = packet_open("a");

	ck_assert_int_lt(classifier_open(&c, choice, 4711, tap, true, why, sizeof why), 0);
	ck_assert_ptr_null(c);
	ck_assert_msg(strstr(why, choice == CLASSIFIER_EBPF ? "tcx" : "error") != NULL, "%s", why);
	pid_t pid = fork();
	if (pid == 0) { /* without privilege */
		int bad = setresuid(65534, 65534, 65534) ||
			  classifier_open(&c, choice, if_nametoindex("a"), tap, true, why, sizeof why) != -EPERM ||
			  !strstr(why, choice == CLASSIFIER_EBPF ? "CAP_BPF" : "CAP_NET_ADMIN");
		_exit(bad);
	}
	int status;
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	close(tap);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, rules_can_be_printed_and_loaded);
	tcase_add_test(tc, kill_returns_the_ports_to_the_kernel);
	tcase_add_test(tc, a_forgetful_child_keeps_nothing_alive);
	tcase_add_test(tc, two_engines_share_an_interface);
	tcase_add_test(tc, a_foreign_program_does_not_hide_frames);
	tcase_add_test(tc, a_place_outlives_who_was_there);
	tcase_add_test(tc, failure_says_why);
}

int main(void)
{
	return classifier_main("classifier life", add);
}
