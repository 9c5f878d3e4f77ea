/*
 * The packet link against the real kernel: a veth pair (va, vb) in a network namespace of its own,
 * and a TUN device. Needs root; skipped (77) without. Every wait is a poll with a bound.
 */
#include "base/fd.h"
#include "link/link.h"
#include "tests/net/link_pair.h"
#include "tests/net/rtnl_hold.h"
#include "tests/untested.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- frames of every size ---- */

static void send_sized(struct link *from, struct link *to, struct seen *s, uint32_t payload_len,
		       const uint8_t *payload)
{
	uint8_t hdr[ETH_HLEN];
	uint32_t first = payload_len / 3;
	struct iovec iov[2] = {{(void *)payload, first},
			       {(void *)(payload + first), payload_len - first}};
	struct link_tx tx = {
	    .hdr = hdr, .hdr_len = eth_header(hdr, TEST_PROTO), .payload = iov, .n_payload = 2};
	ck_assert_int_eq(link_send(from, &tx), 0);
	memset(hdr, 0, sizeof hdr); /* link_send has copied it */
	ck_assert_int_eq(link_flush(from), 1);
	unsigned want = s->n + 1;
	wait_frames(to, s, want);
	ck_assert_uint_eq(s->n, want);
	ck_assert_uint_eq(s->last.len, ETH_HLEN + payload_len);
	ck_assert_uint_eq(s->last.wire_len, s->last.len);
	ck_assert_uint_eq(s->last.ethertype, TEST_PROTO);
	ck_assert_uint_eq(s->last.gso_size, 0);
	ck_assert(!s->last.vlan);
	ck_assert_mem_eq(s->bytes + ETH_HLEN, payload, payload_len);
}

START_TEST(every_size_both_ways)
{
	static uint8_t payload[1500];
	for (uint32_t i = 0; i < sizeof payload; i++)
		payload[i] = pattern(i);
	open_pair(_i);
	for (uint32_t len = 1; len <= 1500; len += len < 64 || len > 1480 ? 1 : 13) {
		send_sized(link_a, link_b, &seen_b, len, payload);
		send_sized(link_b, link_a, &seen_a, len, payload);
	}
	ck_assert_uint_eq(link_counters(link_a)[LINKC_TxFrames], seen_b.n);
	ck_assert_uint_eq(link_counters(link_b)[LINKC_RxFrames], seen_b.n);
	ck_assert_uint_eq(link_counters(link_b)[LINKC_RxCopied], 0);

	uint8_t hdr[ETH_HLEN];
	struct iovec iov = {seen_a.bytes, 1501};
	struct link_tx tx = {
	    .hdr = hdr, .hdr_len = eth_header(hdr, TEST_PROTO), .payload = &iov, .n_payload = 1};
	ck_assert_int_eq(link_send(link_a, &tx), -EMSGSIZE);
	ck_assert_uint_eq(link_counters(link_a)[LINKC_TxDroppedTooBig], 1);
	close_pair();
}
END_TEST

START_TEST(jumbo_frames_come_as_copies)
{
	static uint8_t payload[9000];
	for (uint32_t i = 0; i < sizeof payload; i++)
		payload[i] = pattern(i);
	open_pair(_i);
	sh("ip link set va mtu 9000 && ip link set vb mtu 9000");
	ck_assert_int_eq(link_refresh_info(link_a), 0);
	ck_assert_uint_eq(link_info(link_a)->mtu, 9000);
	for (uint32_t len = 1800; len <= 9000; len += len < 2200 ? 3 : 211)
		send_sized(link_a, link_b, &seen_b, len, payload);
	ck_assert_uint_gt(link_counters(link_b)[LINKC_RxCopied], 30);
	close_pair();
}
END_TEST

/* ---- frames that stay in the kernel ---- */

#define LEFT_SKIP (ETH_HLEN + 8) /* of those that are fetched: headers */

static uint32_t left_lens[8], n_left, n_fetched;

/* Their first byte says that they may be left. */
static bool leave_begun(struct link_rx_handler *h, const struct link_rx *rx)
{
	(void)h;
	ck_assert_uint_lt(rx->len, rx->wire_len);
	if (rx->data[ETH_HLEN] != pattern(0))
		return false;
	left_lens[n_left++] = rx->wire_len;
	return true;
}

static void check_piece(const uint8_t *bytes, uint32_t n, uint32_t from)
{
	for (uint32_t i = 0; i < n; i++)
		ck_assert_uint_eq(bytes[i], pattern(from - ETH_HLEN + i));
}

/* In two pieces; but first a look at the beginning. */
static void fetch_left(void)
{
	static uint8_t a[100], b[9000];
	uint32_t wire_len = left_lens[n_fetched++], rest = wire_len - LEFT_SKIP - sizeof a;
	struct iovec pieces[2] = {{a, sizeof a}, {b, sizeof b}};
	ck_assert_int_eq(link_fetch(link_b, wire_len, LEFT_SKIP, pieces, 1, true), 0);
	check_piece(a, sizeof a, LEFT_SKIP);
	memset(a, 0, sizeof a);
	ck_assert_int_eq(link_fetch(link_b, wire_len, LEFT_SKIP, pieces, 2, false), 0);
	check_piece(a, sizeof a, LEFT_SKIP);
	check_piece(b, rest, LEFT_SKIP + sizeof a);
}

static void fetch_all_left(struct link_rx_handler *h)
{
	(void)h;
	while (n_fetched < n_left)
		fetch_left();
}

static void send_frame(const uint8_t *payload, uint32_t len)
{
	uint8_t hdr[ETH_HLEN];
	struct iovec iov = {(void *)payload, len};
	struct link_tx tx = {.hdr = hdr, .hdr_len = eth_header(hdr, TEST_PROTO), .payload = &iov, .n_payload = 1};
	ck_assert_int_eq(link_send(link_a, &tx), 0);
	ck_assert_int_eq(link_flush(link_a), 1);
}

START_TEST(large_frames_are_left_until_they_are_fetched)
{
	static uint8_t left[9000], other[9000];
	for (uint32_t i = 0; i < sizeof left; i++)
		left[i] = pattern(i);
	memset(other, pattern(0) + 1, sizeof other);
	open_pair(false);
	sh("ip link set va mtu 9000 && ip link set vb mtu 9000");
	ck_assert_int_eq(link_refresh_info(link_a), 0);
	n_left = n_fetched = 0;
	seen_b.handler.begun = leave_begun;
	seen_b.handler.behind = fetch_all_left;
	send_frame(left, 9000);
	send_frame(left, 8000);
	send_frame(other, 1000); /* fits a slot: it disturbs nobody */
	wait_frames(link_b, &seen_b, 1);
	ck_assert_uint_eq(n_left, 2);
	ck_assert_uint_eq(n_fetched, 0);
	fetch_left(); /* the oldest */
	send_frame(left, 7000);
	send_frame(other, 6000); /* behind all that is left */
	wait_frames(link_b, &seen_b, 2);
	ck_assert_uint_eq(n_left, 3);
	ck_assert_uint_eq(n_fetched, 3);
	ck_assert_uint_eq(seen_b.last.len, ETH_HLEN + 6000);
	ck_assert_mem_eq(seen_b.bytes + ETH_HLEN, other, 6000);
	ck_assert_uint_eq(link_counters(link_b)[LINKC_RxLeft], 3);
	ck_assert_uint_eq(link_counters(link_b)[LINKC_RxCopied], 4);
	ck_assert_uint_eq(link_counters(link_b)[LINKC_RxCopyLost], 0);
	close_pair();
}
END_TEST

/* ---- before the classifier: nothing ---- */

START_TEST(nothing_arrives_before_a_filter_is_attached)
{
	uint8_t hdr[ETH_HLEN + 1] = {0}, mark = 0;
	struct link_tx tx = {.hdr = hdr, .hdr_len = sizeof hdr};
	open_pair(false);
	link_close(link_b);
	link_b = open_link("vb", false);
	eth_header(hdr, TEST_PROTO);
	for (; mark < 10; mark++) {
		hdr[ETH_HLEN] = mark;
		ck_assert_int_eq(link_send(link_a, &tx), 0);
	}
	ck_assert_int_eq(link_flush(link_a), 10);
	accept_only(link_b, TEST_PROTO);
	hdr[ETH_HLEN] = mark;
	link_send(link_a, &tx);
	link_flush(link_a);
	wait_frames(link_b, &seen_b, 1);
	ck_assert_uint_eq(seen_b.n, 1);
	ck_assert_uint_eq(seen_b.bytes[ETH_HLEN], mark);
	/* … and never a frame that we sent */
	ck_assert(!link_rx_pending(link_a));
	close_pair();
}
END_TEST

/* ---- order when the send buffer is full ---- */

static void unblock_and_drain(void)
{
	struct pollfd p[2] = {{.fd = link_rx_fd(link_b), .events = POLLIN},
			      {.fd = link_tx_fd(link_a), .events = POLLOUT}};
	ck_assert_int_ge(poll(p, link_tx_blocked(link_a) ? 2 : 1, WAIT_MS), 1);
	if (p[1].revents & POLLOUT)
		link_flush(link_a);
	link_drain(link_b, &seen_b.handler, 256);
}

/*
 * veth's receive queues are per CPU: what the qdisc sends from two of them may overtake on the way, whatever order it
 * was given.
 */
static void on_one_cpu(void)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
}

/* What was kept back follows, in order, and nothing is lost. */
static void all_follow(unsigned frames)
{
	while (link_tx_blocked(link_a) || seen_b.n < frames)
		unblock_and_drain();
	const uint64_t *c = link_counters(link_a);
	ck_assert_uint_gt(c[LINKC_TxDeferred], 100);
	ck_assert_uint_eq(c[LINKC_TxReordered], 0);
	ck_assert_uint_eq(c[LINKC_TxFrames], frames);
	ck_assert_uint_eq(seen_b.gaps, 0);
}

START_TEST(order_holds_when_the_send_buffer_is_full)
{
	enum { FRAMES = 4000, TURN = 100 };
	on_one_cpu();
	open_pair(_i);
	sh("tc qdisc add dev va root tbf rate 50mbit burst 16kb limit 32mb");
	seen_b.on_frame = check_seq;
	for (uint32_t seq = 0; seq < FRAMES;) {
		for (int i = 0; i < TURN; i++)
			send_seq(seq++);
		link_flush(link_a);
		link_drain(link_b, &seen_b.handler, 256);
		while (seen_b.n + 1200 <
		       seq) /* more than the send buffer holds, less than is kept back */
			unblock_and_drain();
	}
	all_follow(FRAMES);
	close_pair();
}
END_TEST

/* What we send next does not wait behind megabytes of our own: 40 Mbit/s drain 512 kB in 100 ms. */
START_TEST(little_waits_in_a_slow_queue)
{
	int outq = 0;
	on_one_cpu();
	open_pair(_i);
	sh("tc qdisc add dev va root tbf rate 40mbit burst 16kb limit 32mb");
	seen_b.on_frame = check_seq;
	for (uint32_t seq = 0; seq < 20000 && !link_tx_blocked(link_a); seq++) {
		send_seq(seq);
		if (seq % 20 == 19)
			link_flush(link_a);
	}
	ck_assert(link_tx_blocked(link_a));
	ck_assert_int_eq(ioctl(link_tx_fd(link_a), SIOCOUTQ, &outq), 0);
	ck_assert_int_le(outq, 512 << 10);
	ck_assert_int_ge(outq, 64 << 10);
	close_pair();
}
END_TEST

/*
 * The queue refuses what it has no room for. It is full of our frames: they leave, and the refused ones follow in
 * order.
 */
START_TEST(a_queue_that_refuses_is_waited_for)
{
	enum { FRAMES = 400, TURN = 3 }; /* fewer than are handed over by io_uring at once: that goes on behind a refused one */
	on_one_cpu();
	open_pair(_i);
	sh("tc qdisc add dev va root tbf rate 20mbit burst 2kb limit 50kb");
	seen_b.on_frame = check_seq;
	for (uint32_t seq = 0; seq < FRAMES; seq++) {
		send_seq(seq);
		if (seq % TURN == TURN - 1)
			link_flush(link_a);
	}
	link_flush(link_a);
	ck_assert(link_tx_blocked(link_a));
	all_follow(FRAMES);
	ck_assert_uint_eq(link_counters(link_a)[LINKC_TxDroppedQdisc], 0);
	close_pair();
}
END_TEST

/* Nothing of ours is in it, so nobody would tell when there is room. */
START_TEST(a_queue_that_drops_is_counted)
{
	enum { FRAMES = 20 };
	open_pair(_i);
	sh("tc qdisc add dev va root tbf rate 20mbit burst 2kb limit 100"); /* no frame fits */
	for (uint32_t seq = 0; seq < FRAMES; seq++)
		send_seq(seq);
	link_flush(link_a);
	ck_assert(!link_tx_blocked(link_a));
	const uint64_t *c = link_counters(link_a);
	ck_assert_uint_eq(c[LINKC_TxDroppedQdisc], FRAMES);
	ck_assert_uint_eq(c[LINKC_TxFrames], 0);
	unsigned told = 0;
	uint32_t payload_len = 0;
	while (link_bounced(link_a, told, &payload_len))
		told++;
	ck_assert_uint_eq(told, FRAMES);
	link_flush(link_a);
	ck_assert_ptr_null(link_bounced(link_a, 0, &payload_len));
	close_pair();
}
END_TEST

START_TEST(too_much_kept_back_is_refused_and_counted)
{
	uint32_t seq = 0;
	open_pair(_i);
	sh("tc qdisc add dev va root tbf rate 8kbit burst 2kb limit 64mb");
	uint8_t hdr[ETH_HLEN + 1000] = {0};
	struct link_tx tx = {.hdr = hdr, .hdr_len = ETH_HLEN + 60};
	struct iovec iov = {hdr, sizeof hdr};
	eth_header(hdr, TEST_PROTO);
	tx.payload = &iov;
	tx.n_payload = 1;
	int err = 0;
	for (; seq < 20000 && !err; seq++) {
		err = link_send(link_a, &tx);
		if (seq % 50 == 0)
			link_flush(link_a);
	}
	ck_assert_int_eq(err, -ENOBUFS);
	ck_assert(link_tx_blocked(link_a));
	const uint64_t *c = link_counters(link_a);
	ck_assert_uint_eq(c[LINKC_TxDroppedPendingFull], 1);
	ck_assert_uint_gt(c[LINKC_TxDeferred], 1000);
	struct pollfd p = {.fd = link_tx_fd(link_a), .events = POLLOUT};
	ck_assert_int_eq(poll(&p, 1, 0), 0);
	close_pair();
}
END_TEST

/* ---- super-segments ---- */

struct packet {
	struct ethhdr eth;
	struct iphdr ip;
	struct tcphdr tcp;
} __attribute__((packed));

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static uint32_t sum16(const void *data, size_t len)
{
	const uint8_t *b = data;
	uint32_t sum = 0;
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += b[i] << 8 | b[i + 1];
	if (len & 1)
		sum += b[len - 1] << 8;
	return sum;
}

/* Headers of 10.9.0.2 → 10.9.0.1, the TCP checksum left to offload. */
static void fill_packet(struct packet *p, uint32_t payload_len, unsigned tcp_len)
{
	uint32_t l4 = tcp_len + payload_len;
	p->eth.h_proto = htons(ETH_P_IP);
	p->ip = (struct iphdr){.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP};
	p->ip.tot_len = htons(sizeof p->ip + l4);
	p->ip.saddr = inet_addr("10.9.0.2");
	p->ip.daddr = inet_addr("10.9.0.1");
	p->ip.check = htons(~fold(sum16(&p->ip, sizeof p->ip)));
	p->tcp.doff = tcp_len / 4;
	p->tcp.check = htons(fold(sum16(&p->ip.saddr, 8) + IPPROTO_TCP + l4));
}

static struct link_tx offloaded(const struct packet *p, unsigned tcp_len)
{
	return (struct link_tx){
	    .hdr = (const uint8_t *)p,
	    .hdr_len = sizeof p->eth + sizeof p->ip + tcp_len,
	    .csum_start = sizeof p->eth + sizeof p->ip,
	    .csum_offset = offsetof(struct tcphdr, check),
	};
}

static void send_super(const uint8_t *payload, uint32_t len)
{
	struct packet p = {0};
	fill_packet(&p, len, sizeof p.tcp);
	struct iovec iov[2] = {{(void *)payload, len / 2},
			       {(void *)(payload + len / 2), len - len / 2}};
	struct link_tx tx = offloaded(&p, sizeof p.tcp);
	tx.payload = iov;
	tx.n_payload = 2;
	tx.gso_size = 1460;
	ck_assert_int_eq(link_send(link_a, &tx), 0);
}

static uint8_t big[64240];

static uint32_t super_len;

static void check_super(struct seen *s, const struct link_rx *rx)
{
	ck_assert_uint_eq(rx->len, sizeof(struct packet) + super_len);
	ck_assert_uint_eq(rx->gso_size, 1460);
	ck_assert(rx->csum_ok);
	ck_assert_mem_eq(rx->data + sizeof(struct packet), big, super_len);
}

START_TEST(super_segments_arrive_whole)
{
	enum { AT_ONCE = 7 };
	for (uint32_t i = 0; i < sizeof big; i++)
		big[i] = pattern(i);
	open_pair(_i);
	accept_only(link_b, ETH_P_IP);
	seen_b.on_frame = check_super;
	for (super_len = 1461; super_len < sizeof big + 3203; super_len += 3203) {
		unsigned want = seen_b.n + AT_ONCE;
		if (super_len > sizeof big)
			super_len = sizeof big;
		for (int i = 0; i < AT_ONCE; i++)
			send_super(big, super_len);
		ck_assert_int_eq(link_flush(link_a), AT_ONCE);
		wait_frames(link_b, &seen_b, want);
	}
	ck_assert_uint_eq(link_counters(link_b)[LINKC_RxSuper], seen_b.n);
	ck_assert_uint_eq(link_counters(link_a)[LINKC_TxSuper], seen_b.n);
	ck_assert_uint_eq(link_counters(link_b)[LINKC_RxTruncated], 0);
	close_pair();
}
END_TEST

/* Every frame starts with its number; whole ones must be whole, whatever was lost between them. */
static void check_marked(struct seen *s, const struct link_rx *rx)
{
	const uint8_t *payload = rx->data + sizeof(struct packet);
	uint32_t seq;
	memcpy(&seq, payload, sizeof seq);
	ck_assert_uint_eq(seq, s->next_seq++);
	ck_assert_uint_eq(rx->wire_len, sizeof(struct packet) + (seq % 3 ? sizeof big : 1000));
	if (rx->len < rx->wire_len) {
		s->truncated++;
		return;
	}
	uint32_t payload_len = rx->len - sizeof(struct packet);
	ck_assert_mem_eq(payload + 4, big + 4, payload_len - 4);
}

START_TEST(a_full_receive_buffer_cuts_frames_but_mixes_none_up)
{
	enum { FRAMES = 90 };
	int small = 100000; /* in every limit, also of a user namespace */
	for (uint32_t i = 0; i < sizeof big; i++)
		big[i] = pattern(i);
	open_pair(false);
	accept_only(link_b, ETH_P_IP);
	ck_assert_int_eq(
	    setsockopt(link_rx_fd(link_b), SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
	seen_b.on_frame = check_marked;
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < FRAMES; i++) {
			uint32_t seq = round * FRAMES + i;
			memcpy(big, &seq, sizeof seq);
			send_super(big, seq % 3 ? sizeof big : 1000);
			link_flush(link_a); /* big changes */
		}
		wait_frames(link_b, &seen_b, (round + 1) * FRAMES);
	}
	const uint64_t *c = link_counters(link_b);
	ck_assert_uint_gt(seen_b.truncated, 0);
	ck_assert_uint_gt(c[LINKC_RxCopied], 0);
	ck_assert_uint_eq(c[LINKC_RxTruncated], seen_b.truncated);
	ck_assert_uint_eq(c[LINKC_RxCopyLost], 0);
	ck_assert_uint_eq(c[LINKC_RxKernelDropped], 0);
	close_pair();
}
END_TEST

START_TEST(a_full_ring_is_counted)
{
	enum { FRAMES = 3000 };
	open_pair(false);
	seen_b.on_frame = check_seq;
	for (uint32_t seq = 0; seq < FRAMES; seq++) {
		send_seq(seq);
		if (seq % 200 == 199)
			ck_assert_int_eq(link_flush(link_a), 200);
	}
	wait_frames(link_b, &seen_b, 2048);
	ck_assert(!link_rx_pending(link_b));
	ck_assert_uint_eq(link_counters(link_b)[LINKC_RxKernelDropped], FRAMES - seen_b.n);
	close_pair();
}
END_TEST

/* A kernel TCP sender (10.9.0.1, through va) and the least possible receiver behind vb. */
struct tiny_tcp {
	struct seen seen;
	uint32_t rcv_nxt, total, largest;
	uint16_t port;
};

static void tiny_answer(struct tiny_tcp *t, bool syn)
{
	struct {
		struct packet p;
		uint8_t opt[8];
	} __attribute__((packed)) out = {.opt = {2, 4, 1460 >> 8, 1460 & 0xff, 3, 3, 10, 0}};
	unsigned tcp_len = sizeof out.p.tcp + (syn ? sizeof out.opt : 0);
	memset(out.p.eth.h_dest, 0xff, 6);
	memcpy(out.p.eth.h_dest, link_info(link_a)->mac, 6);
	memcpy(out.p.eth.h_source, link_info(link_b)->mac, 6);
	out.p.tcp.source = htons(80);
	out.p.tcp.dest = t->port;
	out.p.tcp.seq = htonl(syn ? 1000 : 1001);
	out.p.tcp.ack_seq = htonl(t->rcv_nxt);
	out.p.tcp.syn = syn;
	out.p.tcp.ack = 1;
	out.p.tcp.window = htons(65535);
	fill_packet(&out.p, 0, tcp_len);
	struct link_tx tx = offloaded(&out.p, tcp_len);
	ck_assert_int_eq(link_send(link_b, &tx), 0);
}

static void tiny_frame(struct seen *s, const struct link_rx *rx)
{
	struct tiny_tcp *t = (struct tiny_tcp *)s;
	struct packet p;
	memcpy(&p, rx->data, sizeof p);
	if (p.ip.protocol != IPPROTO_TCP)
		return;
	uint32_t seq = ntohl(p.tcp.seq);
	uint32_t hdr = sizeof p.eth + p.ip.ihl * 4 + p.tcp.doff * 4;
	uint32_t len = ntohs(p.ip.tot_len) + sizeof p.eth - hdr;
	t->port = p.tcp.source;
	if (p.tcp.syn) {
		t->rcv_nxt = seq + 1;
		tiny_answer(t, true);
		return;
	}
	ck_assert(rx->csum_ok);
	ck_assert_uint_eq(rx->len, rx->wire_len);
	ck_assert_uint_eq(rx->len, hdr + len);
	ck_assert(len <= 1460 || rx->gso_size == 1460);
	if (seq != t->rcv_nxt || !len)
		return;
	for (uint32_t i = 0; i < len; i++)
		if (rx->data[hdr + i] != pattern(t->total + i))
			ck_abort_msg("byte %u", t->total + i);
	t->total += len;
	t->rcv_nxt += len;
	t->largest = len > t->largest ? len : t->largest;
	tiny_answer(t, false);
}

START_TEST(super_segments_of_a_kernel_sender)
{
	enum { TOTAL = 4 << 20 };
	static struct tiny_tcp t;
	memset(&t, 0, sizeof t);
	t.seen.handler.frame = seen_frame;
	t.seen.on_frame = tiny_frame;
	open_pair(_i);
	accept_only(link_b, ETH_P_IP);
	sh("ip addr add 10.9.0.1/24 dev va && "
	   "ip neigh replace 10.9.0.2 lladdr 02:00:00:00:00:02 dev va nud permanent");
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct sockaddr_in to = {
	    .sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = inet_addr("10.9.0.2")};
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), -1);
	ck_assert_int_eq(errno, EINPROGRESS);
	for (uint32_t written = 0; t.total < TOTAL;) {
		static uint8_t chunk[65536];
		struct pollfd p[2] = {{.fd = link_rx_fd(link_b), .events = POLLIN},
				      {.fd = fd, .events = written < TOTAL ? POLLOUT : 0}};
		ck_assert_int_ge(poll(p, 2, WAIT_MS), 1);
		ck_assert_int_eq(p[1].revents & (POLLERR | POLLHUP), 0);
		link_drain(link_b, &t.seen.handler, 16);
		link_flush(link_b);
		if (!(p[1].revents & POLLOUT))
			continue;
		uint32_t n = TOTAL - written < sizeof chunk ? TOTAL - written : sizeof chunk;
		for (uint32_t i = 0; i < n; i++)
			chunk[i] = pattern(written + i);
		ssize_t w = write(fd, chunk, n);
		if (w > 0)
			written += w;
	}
	ck_assert_uint_gt(t.largest, 20000);
	ck_assert_uint_gt(link_counters(link_b)[LINKC_RxCopied], 20);
	ck_assert_uint_eq(link_counters(link_b)[LINKC_RxTruncated], 0);
	close(fd);
	close_pair();
}
END_TEST

/* ---- tags, header-less interfaces ---- */

START_TEST(a_vlan_tag_is_told)
{
	uint8_t hdr[64] = {0};
	struct link_tx tx = {.hdr = hdr, .hdr_len = sizeof hdr};
	open_pair(false);
	eth_header(hdr, ETH_P_8021Q);
	hdr[15] = 5;
	hdr[16] = TEST_PROTO >> 8;
	hdr[17] = TEST_PROTO & 0xff;
	link_send(link_a, &tx);
	ck_assert_int_eq(link_flush(link_a), 1);
	wait_frames(link_b, &seen_b, 1);
	ck_assert(seen_b.last.vlan);
	ck_assert_uint_eq(seen_b.last.ethertype, TEST_PROTO);
	ck_assert_uint_eq(seen_b.last.pkttype, 1 /* PACKET_BROADCAST */);
	close_pair();
}
END_TEST

static int open_tun(void)
{
	struct ifreq req = {.ifr_flags = IFF_TUN | IFF_NO_PI, .ifr_name = "tun0"};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	if (fd < 0)
		return -1;
	ck_assert_int_eq(ioctl(fd, TUNSETIFF, &req), 0);
	sh("sysctl -qw net.ipv6.conf.tun0.disable_ipv6=1; ip link set tun0 up");
	return fd;
}

/* The next packet that the kernel gives to the TUN's owner. */
static ssize_t tun_read(int fd, void *buf, size_t len)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
	return read(fd, buf, len);
}

START_TEST(interfaces_without_a_link_header)
{
	int tun = open_tun();
	if (tun < 0)
		return untested("TUN in this kernel");
	struct seen s = {.handler.frame = seen_frame};
	struct link *l = open_link("tun0", _i);
	ck_assert(!link_info(l)->has_eth);
	accept_only(l, ETH_P_IP);
	static uint8_t in[65536];
	struct packet p = {0};
	fill_packet(&p, 1400, sizeof p.tcp);
	memcpy(in, &p.ip, 40);
	memcpy(in + 40, big, 1400);
	ck_assert_int_eq(write(tun, in, 1440), 1440);
	wait_frames(l, &s, 1);
	ck_assert_uint_eq(s.last.len, 1440);
	ck_assert_uint_eq(s.last.ethertype, ETH_P_IP);
	ck_assert_mem_eq(s.bytes, in, 1440);

	/* Two segments in one: the kernel cuts it, as TUN's owner asked for no offload, and fills
	 * the checksums in. */
	for (uint32_t i = 0; i < 2920; i++)
		big[i] = pattern(i);
	fill_packet(&p, 2920, sizeof p.tcp);
	struct iovec iov = {big, 2920};
	struct link_tx tx = {.hdr = (uint8_t *)&p.ip,
			     .hdr_len = 40,
			     .payload = &iov,
			     .n_payload = 1,
			     .csum_start = 20,
			     .csum_offset = offsetof(struct tcphdr, check),
			     .gso_size = 1460};
	ck_assert_int_eq(link_send(l, &tx), 0);
	ck_assert_int_eq(link_flush(l), 1);
	for (int i = 0; i < 2; i++) {
		struct {
			struct iphdr ip;
			struct tcphdr tcp;
			uint8_t data[3000];
		} got;
		ck_assert_int_eq(tun_read(tun, &got, sizeof got), 1500);
		ck_assert_mem_eq(got.data, big + i * 1460, 1460);
		uint32_t sum = sum16(&got.ip.saddr, 8) + IPPROTO_TCP + 1480 + sum16(&got.tcp, 1480);
		ck_assert_uint_eq(fold(sum), 0xffff);
	}
	link_close(l);
	close(tun);
}
END_TEST

static Suite *link_suite(void)
{
	Suite *s = suite_create("link");
	TCase *t = tcase_create("packet");
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, own_namespace, NULL);
	tcase_add_loop_test(t, every_size_both_ways, 0, 2);
	tcase_add_loop_test(t, jumbo_frames_come_as_copies, 0, 2);
	tcase_add_test(t, large_frames_are_left_until_they_are_fetched);
	tcase_add_test(t, nothing_arrives_before_a_filter_is_attached);
	tcase_add_loop_test(t, order_holds_when_the_send_buffer_is_full, 0, 2);
	tcase_add_loop_test(t, little_waits_in_a_slow_queue, 0, 2);
	tcase_add_loop_test(t, a_queue_that_refuses_is_waited_for, 0, 2);
	tcase_add_loop_test(t, a_queue_that_drops_is_counted, 0, 2);
	tcase_add_loop_test(t, too_much_kept_back_is_refused_and_counted, 0, 2);
	tcase_add_loop_test(t, super_segments_arrive_whole, 0, 2);
	tcase_add_test(t, a_full_receive_buffer_cuts_frames_but_mixes_none_up);
	tcase_add_test(t, a_full_ring_is_counted);
	tcase_add_loop_test(t, super_segments_of_a_kernel_sender, 0, 2);
	tcase_add_test(t, a_vlan_tag_is_told);
	tcase_add_loop_test(t, interfaces_without_a_link_header, 0, 2);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return run_suite(link_suite);
}
