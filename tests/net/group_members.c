#include "group_members.h"

#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel/bpf_sys.h"
#include "tests/suite.h"
#include "tests/untested.h"

#define FENCE      7
#define FENCE_FROM 60007

struct member members[MEMBERS_MAX];
int n_members;
int peer;
int n_answers;
struct tcp_seen answer;

struct ip_addr addr(const char *text)
{
	struct ip_addr a;
	ck_assert_int_eq(ip_addr_parse(text, &a), 0);
	return a;
}

struct flow_key key_from(uint16_t sport)
{
	return (struct flow_key){.laddr = addr(OUR_V4), .raddr = addr(PEER_V4), .lport = OURS, .rport = sport};
}

/* ---- members ---- */

void open_classifier(struct member *m, enum classifier_choice choice)
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
struct classifier_group *join(struct member *m, const struct classifier_group *other)
{
	int fds[CLASSIFIER_GROUP_FDS], copies[CLASSIFIER_GROUP_FDS];
	struct classifier_group *g;

	classifier_group_fds(other, fds);
	for (int i = 0; i < CLASSIFIER_GROUP_FDS; i++)
		copies[i] = dup(fds[i]);
	ck_assert_int_eq(classifier_group_open(m->c, copies, CLASSIFIER_GROUP_FDS, &g), 0);
	return g;
}

void join_group(struct member *m, unsigned slot)
{
	if (m == members)
		ck_assert_int_eq(classifier_group_new(m->c, &m->g), 0);
	else
		m->g = join(m, members[0].g);
	ck_assert_int_eq(classifier_group_take_slot(m->g, slot), 0);
}

void member_start(struct member *m, unsigned slot, const char *listen)
{
	struct ip_addr a = addr(listen);
	open_classifier(m, CLASSIFIER_EBPF);
	join_group(m, slot);
	ck_assert_int_eq(classifier_group_add_listener(m->g, &a, OURS), 0);
	classifier_group_set_accepting(m->g, true);
}

void group_start(int n)
{
	for (n_members = 0; n_members < n; n_members++)
		member_start(&members[n_members], n_members, "::");
}

void member_stop(struct member *m)
{
	classifier_close(m->c);
	close(m->tap);
	m->c = NULL;
}

void group_stop(void)
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
	classifier_looked(m->c);
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
void settle(void)
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
int who(const struct spec *s)
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

int who_gets(uint16_t sport, uint8_t flags)
{
	struct spec s = {.sport = sport, .dport = OURS, .flags = flags};
	return who(&s);
}

int who_gets_at(const char *dst, uint16_t sport, uint8_t flags)
{
	struct spec s = {.dst = dst, .src = strchr(dst, ':') ? PEER_V6 : NULL, .sport = sport, .dport = OURS, .flags = flags};
	return who(&s);
}

/* How many of `n` new SYNs each member gets; the kernel none. Ports from `first` on. */
void count_syns(uint16_t first, int n, int counts[MEMBERS_MAX])
{
	memset(counts, 0, MEMBERS_MAX * sizeof counts[0]);
	for (int i = 0; i < n; i++) {
		int m = who_gets(first + i, TCPF_SYN);
		ck_assert_msg(m >= 0, "SYN %d: %s", i, m == KERNEL ? "the kernel" : "nobody");
		counts[m]++;
	}
}

void setup(void)
{
	ck_assert_int_eq(net_enter(), 0);
	peer = packet_open("b");
}

int64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int kernel_listener(void)
{
	struct sockaddr_in6 sin = {.sin6_family = AF_INET6, .sin6_port = htons(OURS)};
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sin, sizeof sin), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	return fd;
}

int group_main(Suite *suite)
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
	return suite_main(suite);
}
