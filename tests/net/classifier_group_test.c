/*
 * Listener groups against the kernel: who gets a connection, and what becomes of it when members come, go and die
 * (group_members.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <linux/filter.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "group_members.h"
#include "kernel/bpf_sys.h"
#include "kernel/classifier_ebpf_internal.h"
#include "kernel/classifier_prog.h"
#include "tests/untested.h"

/* ---- one member ---- */

static const int sizes[] = {1, 2, 4, 16};

START_TEST(each_connection_has_one_member)
{
	enum { SYNS = 160 };
	int owner[SYNS], counts[MEMBERS_MAX] = {0};

	group_start(sizes[_i]);
	for (int i = 0; i < SYNS; i++) {
		owner[i] = who_gets(1000 + i, TCPF_SYN);
		ck_assert_int_ge(owner[i], 0);
		counts[owner[i]]++;
	}
	for (int i = 0; i < n_members; i++)
		ck_assert_msg(counts[i] > 0, "member %d got none of %d", i, SYNS);
	for (int i = 0; i < SYNS; i++) {
		ck_assert_int_eq(who_gets(1000 + i, TCPF_ACK), owner[i]);
		ck_assert_int_eq(who_gets(1000 + i, TCPF_SYN), owner[i]); /* sent again */
	}
	group_stop();
}
END_TEST

START_TEST(what_nobody_began_is_the_kernels)
{
	group_start(2);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), KERNEL);
	ck_assert_int_eq(answer.flags, TCPF_RST);
	ck_assert_int_eq(who_gets(1000, TCPF_SYN | TCPF_ACK), KERNEL);
	ck_assert_int_eq(who_gets(1000, TCPF_FIN | TCPF_ACK), KERNEL);
	ck_assert_int_eq(who_gets(1000, TCPF_RST), NOBODY); /* seen by the kernel, which does not answer a RST */
	ck_assert_int_ge(who_gets(1000, TCPF_SYN), 0);
	group_stop();
}
END_TEST

static int n_given;

static void note_given(struct classifier_given *v, const struct flow_key *key, bool in_group)
{
	(void)v;
	ck_assert(in_group && key->lport == OURS);
	n_given++;
}

static void is_silent(int m)
{
	members[0].g->members->slots[m].syn_since_ns = 1;
}

/*
 * A member that is stopped: what it was given first and comes again is the kernel's, and so is what finds it out. Then
 * the others have all, and it comes back when it looks.
 */
START_TEST(a_silent_member_gets_nothing)
{
	struct classifier_given given = {.each = note_given};
	struct flow_key had = key_from(1001);
	int listener = kernel_listener(), counts[MEMBERS_MAX];

	group_start(2);
	classifier_group_set_waiting(members[0].g, true);
	ck_assert_int_eq(who_gets(1000, TCPF_SYN), 0);
	ck_assert_int_eq(who_gets(1001, TCPF_SYN), 0);
	classifier_count_conn(members[0].c, &had, 1);
	is_silent(0);
	ck_assert_int_eq(who_gets(1001, TCPF_SYN), 0); /* it has that one */
	is_silent(0);
	ck_assert_int_eq(who_gets(1000, TCPF_SYN), KERNEL);
	ck_assert_int_eq(answer.flags, TCPF_SYN | TCPF_ACK);
	ck_assert_int_eq(who_gets(1000, TCPF_SYN), KERNEL);
	ck_assert_int_eq(who_gets(1001, TCPF_ACK), 0);
	count_syns(1100, 10, counts);
	ck_assert_int_eq(counts[1], 10);
	ck_assert(classifier_has_given(members[0].c) && !classifier_has_given(members[1].c));
	classifier_visit_given(members[0].c, &given);
	ck_assert_int_eq(n_given, 1);

	ck_assert_int_eq(who_gets(1200, TCPF_SYN), 0); /* it has looked, and waits again */
	is_silent(0);
	ck_assert_int_eq(who_gets(1201, TCPF_SYN), KERNEL);
	ck_assert_int_eq(who_gets(1202, TCPF_SYN), 1);
	is_silent(1);
	ck_assert_int_eq(who_gets(1203, TCPF_SYN), KERNEL);
	ck_assert_int_eq(who_gets(1204, TCPF_SYN), KERNEL); /* nobody is left */
	ck_assert(classifier_has_given(members[0].c) && classifier_has_given(members[1].c));
	ck_assert_int_eq(who_gets(1205, TCPF_SYN), 0);
	close(listener);
	group_stop();
}
END_TEST

START_TEST(nobody_accepts)
{
	int listener = kernel_listener();

	group_start(3);
	for (int i = 0; i < 3; i++)
		classifier_group_set_accepting(members[i].g, false);
	ck_assert_int_eq(who_gets(1000, TCPF_SYN), KERNEL);
	ck_assert_int_eq(answer.flags, TCPF_SYN | TCPF_ACK);
	classifier_group_set_waiting(members[0].g, true); /* by itself it says nothing */
	ck_assert_int_eq(who_gets(1001, TCPF_SYN), KERNEL);
	classifier_group_set_accepting(members[1].g, true);
	ck_assert_int_eq(who_gets(1002, TCPF_SYN), 1);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), KERNEL); /* the connection that the kernel began stays there */
	close(listener);
	group_stop();
}
END_TEST

/*
 * All are busy: a member that accepted lately is soon done. One that accepts comes before it, however long his queue.
 */
START_TEST(who_accepted_lately_gets_it_where_nobody_accepts)
{
	int listener = kernel_listener(), counts[MEMBERS_MAX];

	group_start(3);
	for (int i = 0; i < 3; i++)
		classifier_group_set_accepting(members[i].g, false);
	classifier_group_set_lately(members[1].g, true);
	count_syns(1000, 30, counts);
	ck_assert_int_eq(counts[1], 30);
	classifier_group_set_accepting(members[2].g, true);
	classifier_group_set_queue(members[2].g, 1000);
	count_syns(1100, 30, counts);
	ck_assert_int_eq(counts[2], 30);
	classifier_group_set_accepting(members[2].g, false);
	classifier_group_set_lately(members[1].g, false);
	ck_assert_int_eq(who_gets(1200, TCPF_SYN), KERNEL);
	classifier_group_set_lately(members[1].g, true);
	classifier_group_leave_slot(members[1].g);
	ck_assert_int_eq(who_gets(1201, TCPF_SYN), KERNEL);
	close(listener);
	group_stop();
}
END_TEST

/* A SYN that no filter took may not be taken from the kernel: it would be delivered to nobody. */
START_TEST(no_choice_behind_the_taps)
{
	group_start(1);
	close(members[0].tap); /* the tcx program is still there */
	n_members = 0;
	ck_assert_int_eq(who_gets(1000, TCPF_SYN), KERNEL);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), KERNEL);
	classifier_close(members[0].c);
}
END_TEST

START_TEST(the_one_that_waits_gets_it)
{
	int counts[MEMBERS_MAX];

	group_start(4);
	classifier_group_set_waiting(members[2].g, true);
	classifier_group_set_queue(members[2].g, 1000); /* but it waits */
	count_syns(1000, 30, counts);
	ck_assert_int_eq(counts[2], 30);
	classifier_group_set_waiting(members[2].g, false);
	classifier_group_set_waiting(members[3].g, true);
	count_syns(1100, 30, counts);
	ck_assert_int_eq(counts[3], 30);
	classifier_group_set_accepting(members[3].g, false); /* waiting ends with it */
	count_syns(1200, 60, counts);
	ck_assert_int_eq(counts[3], 0);
	ck_assert_int_eq(counts[2], 0); /* two of the three are compared: the longest queue never wins */
	group_stop();
}
END_TEST

START_TEST(the_shorter_queue_of_two)
{
	int counts[MEMBERS_MAX];

	group_start(4);
	for (int i = 0; i < 4; i++) {
		classifier_group_set_waiting(members[i].g, i < 2);
		classifier_group_set_queue(members[i].g, 3 - i);
	}
	count_syns(1000, 40, counts);
	ck_assert_int_eq(counts[1], 40); /* of the two that wait */
	for (int i = 0; i < 4; i++)
		classifier_group_set_waiting(members[i].g, true);
	count_syns(1100, 240, counts);
	/* Of six pairs of four, the shortest queue wins three, the next two, the next one. */
	ck_assert_int_eq(counts[0], 0);
	ck_assert_msg(counts[3] > counts[2] && counts[2] > counts[1] && counts[1] > 0, "%d %d %d %d", counts[0], counts[1],
		      counts[2], counts[3]);
	group_stop();
}
END_TEST

/*
 * The program finds every bit, and each as likely: over 300 SYNs a fair share of five is 60, and 30 or 90 is five sigma
 * away.
 */
START_TEST(slots_anywhere)
{
	static const unsigned slots[] = {0, 7, 8, 31, 63};
	int counts[MEMBERS_MAX];

	for (n_members = 0; n_members < 5; n_members++)
		member_start(&members[n_members], slots[n_members], "::");
	count_syns(1000, 300, counts);
	for (int i = 0; i < 5; i++)
		ck_assert_msg(counts[i] > 25 && counts[i] < 95, "slot %u got %d of 300", slots[i], counts[i]);
	ck_assert_int_eq(classifier_group_take_slot(members[0].g, 1), -EBUSY);
	classifier_group_leave_slot(members[0].g);
	ck_assert_int_eq(classifier_group_slot(members[0].g), -1);
	ck_assert_int_eq(classifier_group_take_slot(members[0].g, CLASSIFIER_GROUP_SLOTS), -EINVAL);
	group_stop();
}
END_TEST

/*
 * Every set of 64 members' slots must be chosen from exactly: each slot alone, and all of them. One member plays them
 * all.
 */
START_TEST(every_slot)
{
	struct group_members *m;

	group_start(1);
	m = members[0].g->members;
	for (unsigned slot = 1; slot < CLASSIFIER_GROUP_SLOTS; slot++) {
		m->slots[slot].generation = 1;
		m->accepting = 1ull << slot;
		ck_assert_int_eq(who_gets(1000 + slot, TCPF_SYN), KERNEL); /* its owner is not here */
		struct flow_key k = key_from(1000 + slot);
		struct classifier_flow f = classifier_flow(&k);
		uint64_t owner;
		ck_assert_int_eq(bpf_map_lookup(members[0].g->flows_fd, &f, &owner), 0);
		ck_assert_uint_eq(owner, group_owner(slot, 1));
	}
	group_stop();
}
END_TEST

/* ---- joining, leaving, dying ---- */

START_TEST(flows_stay_when_members_come_and_go)
{
	enum { SYNS = 60 };
	int owner[SYNS];

	group_start(2);
	for (int i = 0; i < SYNS; i++)
		owner[i] = who_gets(1000 + i, TCPF_SYN);
	n_members = 3;
	member_start(&members[2], 2, "::");
	for (int i = 0; i < SYNS; i++)
		ck_assert_int_eq(who_gets(1000 + i, TCPF_ACK), owner[i]);
	classifier_group_set_accepting(members[0].g, false); /* it drains */
	for (int i = 0; i < SYNS; i++)
		ck_assert_int_eq(who_gets(1000 + i, TCPF_ACK), owner[i]);
	int counts[MEMBERS_MAX];
	count_syns(2000, 60, counts);
	ck_assert_int_eq(counts[0], 0);
	ck_assert_int_gt(counts[2], 0);
	member_stop(&members[0]); /* gone: its connections are the kernel's to reset, the others go on */
	for (int i = 0; i < SYNS; i++)
		ck_assert_int_eq(who_gets(1000 + i, TCPF_ACK), owner[i] == 0 ? KERNEL : owner[i]);
	for (int i = 0; i < SYNS; i++)
		if (owner[i] == 0)
			ck_assert_int_gt(who_gets(1000 + i, TCPF_SYN), 0); /* begun again: a living member's */
	group_stop();
}
END_TEST

/* How many large maps the member's classifier has entered, of groups that it is in or has left. */
static int n_entered(const struct member *m)
{
	int n = 0;
	for (uint32_t i = 0; i < CLASSIFIER_GROUPS_MAX; i++) {
		uint32_t id;
		n += bpf_map_lookup(ebpf_of(m->c)->maps.flows, &i, &id) == 0;
	}
	return n;
}

/*
 * Of groups that a process leaves some maps stay entered, since the kernel would have it wait; they decide nothing, and
 * those that come after find none of their flows.
 */
START_TEST(groups_that_were_left_decide_nothing)
{
	enum { GROUPS = EBPF_LEFT_MAX + 2 };
	struct classifier_group *more[GROUPS];
	struct ip_addr any = addr("::");
	int kfd = kernel_listener();

	group_start(1);
	for (int round = 0; round < 3; round++) {
		ck_assert_int_eq(who_gets(1000 + round, TCPF_SYN), 0);
		for (int i = 0; i < GROUPS; i++)
			ck_assert_int_eq(classifier_group_new(members[0].c, &more[i]), 0);
		for (int i = 0; i < GROUPS; i++)
			classifier_group_free(more[i]);
		classifier_group_del_listener(members[0].g, &any, OURS);
		classifier_group_free(members[0].g);
		ck_assert_int_le(n_entered(&members[0]), EBPF_LEFT_MAX);
		ck_assert_int_eq(who_gets(2000 + round, TCPF_SYN), KERNEL);
		join_group(&members[0], 0);
		ck_assert_int_eq(classifier_group_add_listener(members[0].g, &any, OURS), 0);
		classifier_group_set_accepting(members[0].g, true);
		ck_assert_int_eq(who_gets(1000 + round, TCPF_ACK), KERNEL);
	}
	group_stop();
	close(kfd);
}
END_TEST

/* A member in a process of its own, which the test kills. Its flows' ports are those that no member of the test got. */
static pid_t fork_member(struct member *m, unsigned slot)
{
	int up[2];
	char c;

	ck_assert_int_eq(pipe(up), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct classifier_group *other = members[0].g;
		int fds[CLASSIFIER_GROUP_FDS], copies[CLASSIFIER_GROUP_FDS];
		struct ip_addr any = addr("::");
		classifier_group_fds(other, fds);
		for (int i = 0; i < CLASSIFIER_GROUP_FDS; i++)
			copies[i] = dup(fds[i]);
		for (int i = 0; i < n_members; i++)
			classifier_forget(members[i].c);
		open_classifier(m, CLASSIFIER_EBPF);
		if (classifier_group_open(m->c, copies, CLASSIFIER_GROUP_FDS, &m->g) || classifier_group_take_slot(m->g, slot) ||
		    classifier_group_add_listener(m->g, &any, OURS))
			_exit(1);
		classifier_group_set_accepting(m->g, true);
		if (write(up[1], "x", 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	close(up[1]);
	ck_assert_int_eq(read(up[0], &c, 1), 1);
	close(up[0]);
	return pid;
}

START_TEST(a_killed_member_takes_only_its_own)
{
	enum { SYNS = 60 };
	int owner[SYNS], listener = kernel_listener(), theirs = 0, counts[MEMBERS_MAX];
	struct member killed;

	group_start(2);
	pid_t pid = fork_member(&killed, 2);
	for (int i = 0; i < SYNS; i++) {
		owner[i] = who_gets(1000 + i, TCPF_SYN);
		ck_assert_int_ne(owner[i], KERNEL);
		theirs += owner[i] == NOBODY; /* the child's tap and tcx program took it */
	}
	ck_assert_int_gt(theirs, 0);
	for (int i = 0; i < SYNS; i++)
		ck_assert_int_eq(who_gets(1000 + i, TCPF_ACK), owner[i]);

	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	for (int i = 0; i < SYNS; i++) {
		ck_assert_int_eq(who_gets(1000 + i, TCPF_ACK), owner[i] == NOBODY ? KERNEL : owner[i]);
		if (owner[i] == NOBODY)
			ck_assert_int_eq(answer.flags, TCPF_RST);
	}
	/* Until somebody has noticed, SYNs that fall to the dead one are answered by the listening socket. */
	int kernels = 0;
	for (int i = 0; i < SYNS; i++) {
		int m = who_gets(2000 + i, TCPF_SYN);
		ck_assert_int_ne(m, NOBODY);
		if (m == KERNEL)
			ck_assert_int_eq(answer.flags, TCPF_SYN | TCPF_ACK);
		kernels += m == KERNEL;
	}
	ck_assert_int_gt(kernels, 0);
	classifier_group_reap_slot(members[0].g, 2);
	count_syns(3000, 60, counts);
	ck_assert_int_gt(counts[0], 0);
	ck_assert_int_gt(counts[1], 0);
	close(listener);
	group_stop();
}
END_TEST

START_TEST(a_dead_owners_entry_is_replaced_by_a_syn_alone)
{
	group_start(2);
	classifier_group_set_accepting(members[0].g, false);
	ck_assert_int_eq(who_gets(1000, TCPF_SYN), 1);
	ck_assert_int_eq(who_gets(1001, TCPF_SYN), 1);
	classifier_group_leave_slot(members[1].g);
	ck_assert_int_eq(who_gets(1000, TCPF_SYN), KERNEL); /* nobody accepts */
	/* The slot's next owner does not inherit. */
	ck_assert_int_eq(classifier_group_take_slot(members[1].g, 1), 0);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), KERNEL);
	classifier_group_set_accepting(members[0].g, true);
	ck_assert_int_eq(who_gets(1000, TCPF_SYN), 0);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), 0);
	ck_assert_int_eq(who_gets(1001, TCPF_ACK), KERNEL);
	/* An owner that died without leaving: the next one's generation is another, too. */
	members[0].g->slot = -1;
	ck_assert_int_eq(classifier_group_take_slot(members[0].g, 0), 0);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), KERNEL);
	group_stop();
}
END_TEST

START_TEST(a_fork_child_changes_nothing)
{
	group_start(2);
	classifier_group_set_waiting(members[0].g, true);
	pid_t pid = fork();
	if (pid == 0) {
		classifier_forget(members[0].c);
		classifier_forget(members[1].c);
		_exit(0);
	}
	int status;
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(who_gets(1000, TCPF_SYN), 0);
	ck_assert_int_eq(who_gets(1000, TCPF_ACK), 0);
	group_stop();
}
END_TEST

/* ---- two CPUs ---- */

enum { BURST = 256, ROUNDS = 400 };

static pthread_barrier_t round_begins, round_ends;
static int pinned;

struct injector {
	int cpu, fd, step;
};

static void *inject(void *p)
{
	struct injector *in = p;
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(in->cpu, &one);
	if (sched_setaffinity(0, sizeof one, &one) == 0)
		__atomic_add_fetch(&pinned, 1, __ATOMIC_RELAXED);
	for (int r = 0; r < ROUNDS; r++) {
		pthread_barrier_wait(&round_begins);
		for (int i = 0; i < BURST; i++) { /* the same SYNs on both CPUs, side by side; every eighth time in both directions */
			int k = in->step > 0 || r % 8 ? i : BURST - 1 - i;
			struct spec s = {.src = (r & 1) ? "10.77.0.3" : NULL, .sport = 1 + r / 2 * BURST + k, .dport = OURS, .flags = TCPF_SYN};
			struct frame f;
			frame_build(&f, &s);
			if (write(in->fd, f.b, f.len) != f.len)
				abort();
		}
		pthread_barrier_wait(&round_ends);
	}
	return NULL;
}

/* What a member got of the burst; who[k] is the flow's member, or -1. */
static int drain_burst(int m, int round, int who_has[BURST])
{
	uint8_t b[2048];
	struct tcp_seen t;
	int n = 0, len;

	classifier_looked(members[m].c);
	while ((len = recv(members[m].tap, b, sizeof b, MSG_DONTWAIT)) > 0) {
		ck_assert(frame_parse_tcp(b, len, true, &t));
		int k = t.sport - 1 - round / 2 * BURST;
		ck_assert(k >= 0 && k < BURST);
		ck_assert_msg(who_has[k] < 0 || who_has[k] == m, "flow %d of round %d at members %d and %d", k, round, who_has[k], m);
		who_has[k] = m;
		n++;
	}
	return n;
}

/*
 * 2 x 102,400 SYNs of 102,400 flows, each flow at the same time from both CPUs; members begin and stop to wait
 * meanwhile. Each frame reaches one member, both frames of a flow the same one, and none the kernel.
 */
START_TEST(exactly_once_from_two_cpus)
{
	struct injector in[2] = {{.step = 1}, {.step = -1}};
	pthread_t thread[2];
	cpu_set_t usable;
	int total = 0, cpus = 0, counts[MEMBERS_MAX] = {0};

	/* net_enter pinned this thread; the machine's CPUs are those of init. */
	ck_assert_int_eq(sched_getaffinity(1, sizeof usable, &usable), 0);
	for (int i = 0; i < CPU_SETSIZE && cpus < 2; i++)
		if (CPU_ISSET(i, &usable))
			in[cpus++].cpu = i;
	if (cpus < 2)
		in[1].cpu = in[0].cpu;
	group_start(4);
	ck_assert_int_eq(pthread_barrier_init(&round_begins, NULL, 3) | pthread_barrier_init(&round_ends, NULL, 3), 0);
	for (int i = 0; i < 2; i++) {
		in[i].fd = packet_open("b");
		ck_assert_int_eq(pthread_create(&thread[i], NULL, inject, &in[i]), 0);
	}
	for (int r = 0; r < ROUNDS; r++) {
		int who_has[BURST], n = 0;
		bool calm = r % 4 == 0; /* nobody waits, all accept: so each has its share, however fast the others' states change */
		memset(who_has, -1, sizeof who_has);
		for (int m = 0; m < 4 && calm; m++) {
			classifier_group_set_waiting(members[m].g, false);
			classifier_group_set_queue(members[m].g, 0);
		}
		pthread_barrier_wait(&round_begins);
		for (int i = 0; i < 50 && !calm; i++) {
			classifier_group_set_waiting(members[1 + i % 3].g, i & 4);
			classifier_group_set_queue(members[i % 4].g, i % 7);
		}
		pthread_barrier_wait(&round_ends);
		for (int m = 0; m < 4; m++)
			n += drain_burst(m, r, who_has);
		/* The receive side may still be at it on the other CPU. */
		for (int64_t until = now_us() + WAIT_MS * 1000; n < 2 * BURST && now_us() < until; sched_yield())
			for (int m = 0; m < 4; m++)
				n += drain_burst(m, r, who_has);
		ck_assert_msg(n == 2 * BURST, "round %d: %d of %d frames", r, n, 2 * BURST);
		for (int k = 0; k < BURST; k++)
			counts[who_has[k]]++;
		total += n;
	}
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	settle();
	ck_assert_int_eq(n_answers, 0);
	ck_assert_int_eq(pinned, 2);
	for (int m = 0; m < 4; m++)
		ck_assert_int_gt(counts[m], 0);
	ck_assert_int_eq(total, 2 * BURST * ROUNDS);
	group_stop();
}
END_TEST

/* ---- limits and trust ---- */

/* Whoever takes over a member that has dropped its privilege has the packet socket, and the filter with it. */
START_TEST(the_filter_is_final)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, 0xffffffff);
	struct sock_fprog prog = {.len = 1, .filter = &all};
	enum classifier_choice choices[] = {CLASSIFIER_EBPF, CLASSIFIER_NFTABLES};
	int off = 0, zero = 0;

	if (choices[_i] == CLASSIFIER_NFTABLES && system("command -v nft >/dev/null") != 0)
		return untested("nft");
	n_members = 1;
	open_classifier(&members[0], choices[_i]);
	int tap = members[0].tap;
	ck_assert(setsockopt(tap, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog) == -1 && errno == EPERM);
	ck_assert(setsockopt(tap, SOL_SOCKET, SO_DETACH_FILTER, &zero, sizeof zero) == -1 && errno == EPERM);
	ck_assert(setsockopt(tap, SOL_SOCKET, SO_LOCK_FILTER, &off, sizeof off) == -1 && errno == EPERM);
	if (choices[_i] == CLASSIFIER_EBPF) { /* the maps change as ever */
		struct ip_addr any = addr("::");
		ck_assert_int_eq(who_gets(1000, TCPF_SYN), KERNEL);
		ck_assert_int_eq(classifier_add_listener(members[0].c, &any, OURS), 0);
		ck_assert_int_eq(who_gets(1000, TCPF_SYN), 0);
	}
	group_stop();
}
END_TEST

START_TEST(everything_but_new_works_without_privilege)
{
	struct flow_key k = key_from(1000);
	struct ip_addr any = addr("::");
	struct classifier_group *g;
	int fds[CLASSIFIER_GROUP_FDS], copies[CLASSIFIER_GROUP_FDS], status;

	group_start(1);
	classifier_group_fds(members[0].g, fds);
	for (int i = 0; i < CLASSIFIER_GROUP_FDS; i++)
		copies[i] = dup(fds[i]);
	open_classifier(&members[1], CLASSIFIER_EBPF);
	pid_t pid = fork();
	if (pid == 0) {
		if (setresuid(65534, 65534, 65534))
			_exit(1);
		if (classifier_group_new(members[1].c, &g) != -EPERM)
			_exit(2);
		if (classifier_group_open(members[1].c, copies, CLASSIFIER_GROUP_FDS, &g) || classifier_group_take_slot(g, 1))
			_exit(3);
		if (classifier_group_add_listener(g, &any, OURS) || classifier_group_add_flow(g, &k) ||
		    classifier_group_give_flow(g, &k) || classifier_group_del_flow(g, &k) || classifier_group_sweep(g))
			_exit(4);
		classifier_group_set_accepting(g, true);
		_exit(members[0].g->members->accepting != 3);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	group_stop();
}
END_TEST

START_TEST(wrong_maps_are_refused)
{
	struct classifier_group *g = NULL;
	int wrong = bpf_map_create("wrong", BPF_MAP_TYPE_HASH, 4, 4, 1, 0), fds[CLASSIFIER_GROUP_FDS] = {-1, -1, -1, -1, -1};

	n_members = 1;
	open_classifier(&members[0], CLASSIFIER_EBPF);
	for (int swap = 0; swap < 2; swap++) {
		fds[0] = swap ? classifier_group_members_map() : dup(wrong);
		fds[1] = swap ? dup(wrong) : classifier_group_flows_map(4);
		ck_assert_int_eq(classifier_group_open(members[0].c, fds, CLASSIFIER_GROUP_FDS, &g), -EINVAL);
	}
	ck_assert_ptr_null(g);
	close(wrong);
	group_stop();
}
END_TEST

START_TEST(nftables_has_no_groups)
{
	struct classifier_group *g;
	int fds[CLASSIFIER_GROUP_FDS] = {open("/dev/null", O_RDONLY), open("/dev/null", O_RDONLY), -1, -1, -1};

	if (system("command -v nft >/dev/null") != 0)
		return untested("nft");
	n_members = 1;
	open_classifier(&members[0], CLASSIFIER_NFTABLES);
	ck_assert_int_eq(classifier_group_new(members[0].c, &g), -EOPNOTSUPP);
	ck_assert_int_eq(classifier_group_open(members[0].c, fds, CLASSIFIER_GROUP_FDS, &g), -EOPNOTSUPP);
	group_stop();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("classifier groups");
	TCase *tc = tcase_create("groups");
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, each_connection_has_one_member, 0, sizeof sizes / sizeof sizes[0]);
	tcase_add_test(tc, what_nobody_began_is_the_kernels);
	tcase_add_test(tc, nobody_accepts);
	tcase_add_test(tc, a_silent_member_gets_nothing);
	tcase_add_test(tc, who_accepted_lately_gets_it_where_nobody_accepts);
	tcase_add_test(tc, no_choice_behind_the_taps);
	tcase_add_test(tc, the_one_that_waits_gets_it);
	tcase_add_test(tc, the_shorter_queue_of_two);
	tcase_add_test(tc, slots_anywhere);
	tcase_add_test(tc, every_slot);
	tcase_add_test(tc, flows_stay_when_members_come_and_go);
	tcase_add_test(tc, groups_that_were_left_decide_nothing);
	tcase_add_test(tc, a_killed_member_takes_only_its_own);
	tcase_add_test(tc, a_dead_owners_entry_is_replaced_by_a_syn_alone);
	tcase_add_test(tc, a_fork_child_changes_nothing);
	tcase_add_test(tc, exactly_once_from_two_cpus);
	tcase_add_loop_test(tc, the_filter_is_final, 0, 2);
	tcase_add_test(tc, everything_but_new_works_without_privilege);
	tcase_add_test(tc, wrong_maps_are_refused);
	tcase_add_test(tc, nftables_has_no_groups);
	suite_add_tcase(s, tc);
	return group_main(s);
}
