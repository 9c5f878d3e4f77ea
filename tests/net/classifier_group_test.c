/*
 * Listener groups against the kernel: each member is a packet socket with a classifier of its own on one end of a veth; hand-made
 * frames come from the other end. A frame must reach exactly one member, or the kernel, which is seen by its answer.
 *
 * Silence is asserted as in classifier_test.c: by fences, one that all members see and one that the kernel answers.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/filter.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "frames.h"
#include "kernel/bpf_sys.h"
#include "kernel/classifier_group_internal.h"
#include "kernel/classifier_prog.h"
#include "tests/untested.h"

#define WAIT_MS     5000 /* for what must come; on failure only */
#define OURS        80
#define CLOSED      81
#define FENCE       7
#define FENCE_FROM  60007
#define MEMBERS_MAX 16
#define KERNEL      (-1)
#define NOBODY      (-2)

struct member {
	int tap;
	struct classifier *c;
	struct classifier_group *g;
	int n;              /* frames since the last settle, without the fence */
	struct tcp_seen last;
};

static struct member members[MEMBERS_MAX];
static int n_members; /* that settle looks at */
static int peer;
static int n_answers; /* the kernel's, since the last settle */
static struct tcp_seen answer;

static struct ip_addr addr(const char *text)
{
	struct ip_addr a;
	ck_assert_int_eq(ip_addr_parse(text, &a), 0);
	return a;
}

static struct flow_key key_from(uint16_t sport)
{
	return (struct flow_key){.laddr = addr(OUR_V4), .raddr = addr(PEER_V4), .lport = OURS, .rport = sport};
}

/* ---- members ---- */

static void open_classifier(struct member *m, enum classifier_choice choice)
{
	char why[256] = "";
	int size = 8 << 20;
	struct ip_addr ours[] = {addr(OUR_V4), addr(OUR_V4_B), addr(OUR_V6)}, any = addr("::");

	*m = (struct member){.tap = packet_open("a")};
	setsockopt(m->tap, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	int ret = classifier_open(&m->c, choice, if_nametoindex("a"), m->tap, true, why, sizeof why);
	ck_assert_msg(ret == 0, "%d: %s", ret, why);
	ck_assert_int_eq(classifier_set_addresses(m->c, ours, 3), 0);
	ck_assert_int_eq(classifier_add_listener(m->c, &any, FENCE), 0);
}

/* The member's view of a group that another one has. */
static struct classifier_group *join(struct member *m, const struct classifier_group *other)
{
	int fds[CLASSIFIER_GROUP_FDS], copies[CLASSIFIER_GROUP_FDS];
	struct classifier_group *g;

	classifier_group_fds(other, fds);
	for (int i = 0; i < CLASSIFIER_GROUP_FDS; i++)
		copies[i] = dup(fds[i]);
	ck_assert_int_eq(classifier_group_open(m->c, copies, CLASSIFIER_GROUP_FDS, &g), 0);
	return g;
}

static void join_group(struct member *m, unsigned slot)
{
	if (m == members)
		ck_assert_int_eq(classifier_group_new(m->c, &m->g), 0);
	else
		m->g = join(m, members[0].g);
	ck_assert_int_eq(classifier_group_take_slot(m->g, slot), 0);
}

static void member_start(struct member *m, unsigned slot, const char *listen)
{
	struct ip_addr a = addr(listen);
	open_classifier(m, CLASSIFIER_EBPF);
	join_group(m, slot);
	ck_assert_int_eq(classifier_group_add_listener(m->g, &a, OURS), 0);
	classifier_group_set_accepting(m->g, true);
}

static void group_start(int n)
{
	for (n_members = 0; n_members < n; n_members++)
		member_start(&members[n_members], n_members, "::");
}

static void member_stop(struct member *m)
{
	classifier_close(m->c);
	close(m->tap);
	m->c = NULL;
}

static void group_stop(void)
{
	for (int i = 0; i < n_members; i++)
		if (members[i].c)
			member_stop(&members[i]);
}

/* ---- frames ---- */

static void send_spec(const struct spec *s)
{
	struct frame f;
	frame_build(&f, s);
	ck_assert_int_eq(write(peer, f.b, f.len), f.len);
}

static void drain_member(struct member *m)
{
	for (m->n = 0;;) {
		uint8_t b[2048];
		struct tcp_seen t = {0};
		ck_assert_msg(readable_within(m->tap, WAIT_MS), "the fence did not reach member %d", (int)(m - members));
		int len = recv(m->tap, b, sizeof b, 0);
		bool tcp = frame_parse_tcp(b, len, true, &t);
		if (tcp && t.dport == FENCE && t.sport == FENCE_FROM)
			return;
		m->last = t;
		m->n++;
	}
}

static void drain_answers(void)
{
	for (n_answers = 0;;) {
		uint8_t b[2048];
		struct tcp_seen t;
		ck_assert_msg(readable_within(peer, WAIT_MS), "the kernel did not answer the fence");
		int n = read(peer, b, sizeof b);
		if (!frame_parse_tcp(b, n, true, &t))
			continue;
		if (t.dport == FENCE_FROM)
			return;
		answer = t;
		n_answers++;
	}
}

/* All that was sent has had its effect. */
static void settle(void)
{
	struct spec to_taps = {.sport = FENCE_FROM, .dport = FENCE, .flags = TCPF_SYN};
	struct spec to_kernel = {.sport = FENCE_FROM, .dport = CLOSED, .flags = TCPF_SYN};

	send_spec(&to_taps);
	send_spec(&to_kernel);
	for (int i = 0; i < n_members; i++)
		if (members[i].c)
			drain_member(&members[i]);
	drain_answers();
}

/* Who gets the frame: a member's number, KERNEL, NOBODY. Never two. */
static int who(const struct spec *s)
{
	int found = NOBODY;
	send_spec(s);
	settle();
	for (int i = 0; i < n_members; i++) {
		if (!members[i].c || members[i].n == 0)
			continue;
		ck_assert_int_eq(members[i].n, 1);
		ck_assert_msg(found == NOBODY, "members %d and %d", found, i);
		found = i;
	}
	if (n_answers) {
		ck_assert_msg(found == NOBODY, "member %d and the kernel", found);
		found = KERNEL;
	}
	return found;
}

static int who_gets(uint16_t sport, uint8_t flags)
{
	struct spec s = {.sport = sport, .dport = OURS, .flags = flags};
	return who(&s);
}

static int who_gets_at(const char *dst, uint16_t sport, uint8_t flags)
{
	struct spec s = {.dst = dst, .src = strchr(dst, ':') ? PEER_V6 : NULL, .sport = sport, .dport = OURS, .flags = flags};
	return who(&s);
}

/* How many of `n` new SYNs each member gets; the kernel none. Ports from `first` on. */
static void count_syns(uint16_t first, int n, int counts[MEMBERS_MAX])
{
	memset(counts, 0, MEMBERS_MAX * sizeof counts[0]);
	for (int i = 0; i < n; i++) {
		int m = who_gets(first + i, TCPF_SYN);
		ck_assert_msg(m >= 0, "SYN %d: %s", i, m == KERNEL ? "the kernel" : "nobody");
		counts[m]++;
	}
}

static void setup(void)
{
	ck_assert_int_eq(net_enter(), 0);
	peer = packet_open("b");
}

static int kernel_listener(void)
{
	struct sockaddr_in6 sin = {.sin6_family = AF_INET6, .sin6_port = htons(OURS)};
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sin, sizeof sin), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	return fd;
}

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

/* All are busy: a member that accepted lately is soon done. One that accepts comes before it, however long his queue. */
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

/* The program finds every bit, and each as likely: over 300 SYNs a fair share of five is 60, and 30 or 90 is five sigma away. */
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

/* Every set of 64 members' slots must be chosen from exactly: each slot alone, and all of them. One member plays them all. */
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

/* One port, by address: a group of members 0 and 1, a group of 1 and 2, a wildcard of 2's own. The address comes before the wildcard. */
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

static int64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

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

/* 2 x 102,400 SYNs of 102,400 flows, each flow at the same time from both CPUs; members begin and stop to wait meanwhile. Each frame reaches
   one member, both frames of a flow the same one, and none the kernel. */
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

static Suite *suite(void)
{
	Suite *s = suite_create("classifier groups");
	TCase *tc = tcase_create("groups");
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, each_connection_has_one_member, 0, sizeof sizes / sizeof sizes[0]);
	tcase_add_test(tc, what_nobody_began_is_the_kernels);
	tcase_add_test(tc, nobody_accepts);
	tcase_add_test(tc, who_accepted_lately_gets_it_where_nobody_accepts);
	tcase_add_test(tc, no_choice_behind_the_taps);
	tcase_add_test(tc, the_one_that_waits_gets_it);
	tcase_add_test(tc, the_shorter_queue_of_two);
	tcase_add_test(tc, slots_anywhere);
	tcase_add_test(tc, every_slot);
	tcase_add_test(tc, flows_stay_when_members_come_and_go);
	tcase_add_test(tc, a_killed_member_takes_only_its_own);
	tcase_add_test(tc, a_dead_owners_entry_is_replaced_by_a_syn_alone);
	tcase_add_test(tc, a_fork_child_changes_nothing);
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
	tcase_add_test(tc, exactly_once_from_two_cpus);
	tcase_add_loop_test(tc, the_filter_is_final, 0, 2);
	tcase_add_test(tc, everything_but_new_works_without_privilege);
	tcase_add_test(tc, wrong_maps_are_refused);
	tcase_add_test(tc, nftables_has_no_groups);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	uint32_t ids[BPF_QUERY_MAX];
	int status;

	if (geteuid() != 0 || bpf_prog_query(1 /* lo */, BPF_ATTACH_TCX_INGRESS, 0, ids) < 0) {
		printf("needs root, eBPF and tcx\n");
		return 77;
	}
	pid_t pid = fork(); /* is a namespace to be had at all? */
	if (pid == 0)
		_exit(net_enter());
	if (waitpid(pid, &status, 0) != pid || status != 0)
		return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
	SRunner *sr = srunner_create(suite());
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
