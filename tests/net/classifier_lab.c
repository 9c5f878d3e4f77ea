#include "tests/net/classifier_lab.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/bpf_sys.h"
#include "tests/suite.h"
#include "tests/untested.h"

enum classifier_choice choice;
int peer;
bool with_eth = true;
uint8_t fence_flags = TCPF_SYN;
struct tcp_seen answers[SEEN_MAX];
int n_answers;

struct ip_addr addr(const char *text)
{
	struct ip_addr a;
	ck_assert_int_eq(ip_addr_parse(text, &a), 0);
	return a;
}

struct flow_key key(const char *l, uint16_t lport, const char *r, uint16_t rport)
{
	return (struct flow_key){
		.laddr = addr(l), .raddr = addr(r), .lport = lport, .rport = rport};
}

void engine_start(struct engine *e, const char *ifname)
{
	char why[256] = "";
	struct ip_addr ours[] = {addr(OUR_V4), addr(OUR_V4_B), addr(OUR_V6)}, any = addr("::");

	e->tap = packet_open(ifname);
	e->seen.n = 0;
	int ret = classifier_open(&e->c, choice, if_nametoindex(ifname), e->tap, with_eth, why, sizeof why);
	ck_assert_msg(ret == 0, "%d: %s", ret, why);
	ck_assert_str_eq(classifier_backend(e->c), choice == CLASSIFIER_EBPF ? "ebpf-tcx" : "nftables");
	ck_assert_int_eq(classifier_is_exact(e->c), choice == CLASSIFIER_EBPF);
	ck_assert_int_eq(classifier_set_addresses(e->c, ours, 3), 0);
	ck_assert_int_eq(classifier_add_listener(e->c, &any, FENCE), 0);
}

void engine_stop(struct engine *e)
{
	classifier_close(e->c);
	close(e->tap);
}

void send_frame(const struct frame *f)
{
	ck_assert_int_eq(write(peer, f->b, f->len), f->len);
}

void send_spec(const struct spec *s)
{
	struct frame f;
	struct spec copy = *s;
	copy.no_eth |= !with_eth;
	frame_build(&f, &copy);
	send_frame(&f);
}

void drain_tap(struct engine *e)
{
	classifier_looked(e->c);
	for (;;) {
		struct frame *f = &e->seen.frames[e->seen.n];
		struct tcp_seen t;
		ck_assert_msg(readable_within(e->tap, WAIT_MS), "the fence did not reach the tap");
		f->len = recv(e->tap, f->b, sizeof f->b, 0);
		ck_assert_int_gt(f->len, 0);
		bool tcp = frame_parse_tcp(f->b, f->len, with_eth, &t);
		if (tcp && t.dport == FENCE && t.sport == FENCE_FROM)
			return;
		if (tcp && t.dport == CLOSED && choice == CLASSIFIER_NFTABLES)
			continue; /* the kernel's fence */
		ck_assert_int_lt(++e->seen.n, SEEN_MAX);
	}
}

/* Reads the kernel's answers up to the one to the fence. */
static void drain_answers(void)
{
	for (;;) {
		uint8_t b[2048];
		struct tcp_seen t;
		ck_assert_msg(readable_within(peer, WAIT_MS), "the kernel did not answer the fence");
		int n = read(peer, b, sizeof b);
		if (!frame_parse_tcp(b, n, with_eth, &t))
			continue; /* neighbour discovery and the like */
		if (t.dport == FENCE_FROM)
			return;
		answers[n_answers] = t;
		ck_assert_int_lt(++n_answers, SEEN_MAX);
	}
}

/* What the kernel answered was not taken from it: an engine with an inexact tap ignores that. */
static void forget_the_kernels(struct engine *e)
{
	int kept = 0;
	for (int i = 0; i < e->seen.n; i++) {
		struct tcp_seen t;
		bool kernels = false;
		if (frame_parse_tcp(e->seen.frames[i].b, e->seen.frames[i].len, with_eth, &t))
			for (int k = 0; k < n_answers && !kernels; k++)
				kernels = answers[k].v6 == t.v6 && answers[k].dport == t.sport && answers[k].sport == t.dport;
		if (!kernels)
			e->seen.frames[kept++] = e->seen.frames[i];
	}
	e->seen.n = kept;
}

void settle(struct engine *e)
{
	struct spec tap_fence = {.sport = FENCE_FROM, .dport = FENCE, .flags = fence_flags};
	struct spec kernel_fence = {.sport = FENCE_FROM, .dport = CLOSED, .flags = TCPF_SYN};
	n_answers = 0;
	if (e) {
		e->seen.n = 0;
		send_spec(&tap_fence);
	}
	send_spec(&kernel_fence);
	if (e)
		drain_tap(e);
	drain_answers();
	if (e && choice == CLASSIFIER_NFTABLES)
		forget_the_kernels(e);
}

static void setup(void)
{
	ck_assert_int_eq(net_enter(), 0);
	peer = packet_open("b");
}

int who_gets(struct engine *e, const char *dst, uint16_t port)
{
	static uint16_t sport = 41000;
	struct spec s = {.dst = dst, .sport = ++sport, .dport = port, .flags = TCPF_SYN};
	if (strchr(dst, ':'))
		s.src = PEER_V6;
	send_spec(&s);
	settle(e);
	ck_assert_int_eq(e->seen.n + n_answers, 1);
	return e->seen.n;
}

int kernel_listener(uint16_t port)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sin, sizeof sin), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	return fd;
}

static bool have_tcx(void)
{
	uint32_t ids[BPF_QUERY_MAX];
	return bpf_prog_query(1 /* lo */, BPF_ATTACH_TCX_INGRESS, 0, ids) >= 0;
}

static bool have_nft(void)
{
	return system("command -v nft >/dev/null") == 0;
}

static int run(enum classifier_choice which, const char *name, void (*add)(TCase *tc))
{
	char title[64];

	choice = which;
	snprintf(title, sizeof title, "%s, %s", name, which == CLASSIFIER_EBPF ? "eBPF" : "nftables");
	Suite *s = suite_create(title);
	TCase *tc = tcase_create(title);
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_set_timeout(tc, 30);
	add(tc);
	suite_add_tcase(s, tc);
	return suite_run(s);
}

int classifier_main(const char *name, void (*add)(TCase *tc))
{
	if (geteuid() != 0 || !have_tcx()) {
		printf("needs root, eBPF and tcx\n");
		return 77;
	}
	pid_t pid = fork(); /* is a namespace to be had at all? */
	if (pid == 0)
		_exit(net_enter());
	int status;
	if (waitpid(pid, &status, 0) != pid || status != 0)
		return WIFEXITED(status) ? WEXITSTATUS(status) : 1;

	int failed = run(CLASSIFIER_EBPF, name, add);
	if (have_nft())
		failed += run(CLASSIFIER_NFTABLES, name, add);
	else
		untested("nft: that backend");
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
