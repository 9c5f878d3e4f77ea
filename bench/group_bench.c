/*
 * What a frame costs when 1 to 16 members of a listener group filter it: the time to hand frames to a veth, which runs the way of the
 * receiving end (taps, filters, tcx programs) on the sender's CPU. Root, in a network namespace of its own. No judgement: CPU time, figures of
 * interleaved rounds, lower deciles. Frames are segments of connections that the members share evenly; each ends in one member's queue.
 */
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "kernel/classifier_group.h"
#include "tests/net/frames.h"

#define ROUNDS      12
#define FRAMES      1024
#define MEMBERS_MAX 16
#define PORT        80

static const int sizes[] = {1, 2, 4, 8, 16};
#define SIZES (int)(sizeof sizes / sizeof sizes[0])

struct member {
	int tap;
	struct classifier *c;
	struct classifier_group *g;
};

static struct member members[MEMBERS_MAX];
static int n_members, peer;
static struct frame frames[FRAMES];
static struct mmsghdr msgs[FRAMES];
static struct iovec iovs[FRAMES];

/* Of this thread: the machine may have other work. The receiving end's softirq runs in the sender's system call and is counted to it. */
static int64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void must(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "group_bench: %s failed\n", what);
		exit(1);
	}
}

static struct ip_addr addr(const char *text)
{
	struct ip_addr a;
	must(ip_addr_parse(text, &a) == 0, text);
	return a;
}

static void open_classifier(struct member *m)
{
	char why[256];
	int size = 16 << 20;
	struct ip_addr ours = addr(OUR_V4);

	m->tap = packet_open("a");
	must(setsockopt(m->tap, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) == 0, "SO_RCVBUFFORCE");
	must(classifier_open(&m->c, CLASSIFIER_EBPF, if_nametoindex("a"), m->tap, true, why, sizeof why) == 0, "classifier_open");
	must(classifier_set_addresses(m->c, &ours, 1) == 0, "classifier_set_addresses");
}

static void start(int n)
{
	struct ip_addr any = addr("::");
	int fds[CLASSIFIER_GROUP_FDS];

	for (n_members = 0; n_members < n; n_members++) {
		struct member *m = &members[n_members];
		open_classifier(m);
		if (n_members == 0) {
			must(classifier_group_new(m->c, &m->g) == 0, "classifier_group_new");
		} else {
			classifier_group_fds(members[0].g, fds);
			for (int i = 0; i < CLASSIFIER_GROUP_FDS; i++)
				fds[i] = dup(fds[i]);
			must(classifier_group_open(m->c, fds, CLASSIFIER_GROUP_FDS, &m->g) == 0, "classifier_group_open");
		}
		must(classifier_group_take_slot(m->g, n_members) == 0, "classifier_group_take_slot");
		must(classifier_group_add_listener(m->g, &any, PORT) == 0, "classifier_group_add_listener");
	}
	for (int i = 0; i < FRAMES && n; i++) {
		struct flow_key k = {.laddr = addr(OUR_V4), .raddr = addr(PEER_V4), .lport = PORT, .rport = 1000 + i};
		must(classifier_group_add_flow(members[i % n].g, &k) == 0, "classifier_group_add_flow");
	}
}

static void start_single(void)
{
	struct ip_addr any = addr("::");
	open_classifier(&members[0]);
	must(classifier_add_listener(members[0].c, &any, PORT) == 0, "classifier_add_listener");
	n_members = 1;
}

static void stop(void)
{
	for (int i = 0; i < n_members; i++) {
		classifier_close(members[i].c);
		close(members[i].tap);
	}
	n_members = 0;
}

static int drain(void)
{
	char b[2048];
	int n = 0;
	for (int i = 0; i < n_members; i++) {
		while (recv(members[i].tap, b, sizeof b, MSG_DONTWAIT) > 0)
			n++;
		classifier_looked(members[i].c);
	}
	return n;
}

/* Nanoseconds per frame. */
static double once(uint8_t flags)
{
	for (int i = 0; i < FRAMES; i++) {
		struct spec s = {.sport = 1000 + i, .dport = PORT, .flags = flags};
		frame_build(&frames[i], &s);
		iovs[i] = (struct iovec){frames[i].b, frames[i].len};
		msgs[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iovs[i], .msg_iovlen = 1}};
	}
	int64_t began = now_ns();
	for (int sent = 0; sent < FRAMES;) {
		int n = sendmmsg(peer, msgs + sent, FRAMES - sent, 0);
		must(n > 0, "sendmmsg");
		sent += n;
	}
	double ns = (double)(now_ns() - began) / FRAMES;
	int got = drain();
	if (n_members && got != FRAMES)
		fprintf(stderr, "group_bench: %d of %d frames arrived\n", got, FRAMES);
	return ns;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(void)
{
	static double ns[SIZES + 1][ROUNDS];

	if (net_enter())
		return 77;
	peer = packet_open("b");
	for (int r = 0; r < ROUNDS; r++) {
		for (int i = -1; i < SIZES; i++) {
			i < 0 ? start_single() : start(sizes[i]);
			once(TCPF_ACK);
			ns[i + 1][r] = once(TCPF_ACK);
			stop();
		}
	}
	for (int i = 0; i <= SIZES; i++) {
		qsort(ns[i], ROUNDS, sizeof ns[i][0], by_value);
		double decile = ns[i][ROUNDS / 10];
		printf("%-8s %2d  %7.0f ns/frame  %8.0f frames/s\n", i ? "group" : "no group", i ? sizes[i - 1] : 1, decile, 1e9 / decile);
	}
	return 0;
}
