/*
 * A crowd of TCP clients over AF_PACKET, so cheap that the server is what is measured: where a client has a TCP of its own, that one's cost hides the server's.
 *
 *   generator --interface NAME --mac MAC --server IP PORT --clients FIRST-IP N --connections C --seconds S [--close] [--from NUMBER]
 *
 * Each of C clients asks, takes the whole answer, and asks again; with --close each answer has a connection of its own, which the client closes when it has the
 * answer. A client's state is a few words; its port names it. The segments look like Linux's (options, timestamps, PSH), checksums are left to the device as
 * Linux's are. What comes is checked: sequence numbers, checksums that were computed, the length that the answer itself tells, each byte of its body.
 *
 * Connections have numbers, from which addresses and ports follow: --from keeps two runs on one server apart. At the end what is open is reset.
 * The clients' addresses must be nobody's: then the kernel here ignores what comes for them. The server's host needs neighbour entries for them.
 * One JSON document; status 0: every answer was right. A client that hears nothing for REPEAT_US sends its last segment again, and that is counted.
 */
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/time.h"
#include "link/link.h"
#include "wire/checksum.h"
#include "wire/eth.h"
#include "wire/ipv4.h"
#include "wire/tcp.h"

#define PORT_FIRST   2048
#define PORTS        60000
#define ADDRESSES    64
#define REPEAT_US    200000
#define SWEEP_US     20000
#define MSS          1460
#define WSCALE       7
#define WINDOW       64240
#define BODY_BYTE    'x'

enum client_state { SYN_SENT, ASKED, FIN_SENT };

struct client {
	int64_t last_us; /* it sent something new */
	uint32_t snd_una, snd_nxt, rcv_nxt, ts_recent;
	uint32_t answer_left; /* bytes; 0: its head has not come */
	uint16_t port;
	uint8_t address, state;
	bool fin_came, head_came;
};

static struct {
	struct link_rx_handler handler;
	struct link *link;
	struct client *clients;
	unsigned n_clients, n_addresses;
	uint32_t *by_port; /* [address][port]: client + 1 */
	uint32_t next_name;
	uint32_t answer_len; /* learned from the first */
	bool close;
	uint8_t eth[ETH_HDR_BYTES];
	struct in_addr server, first;
	uint16_t port;
	int64_t now_us;
	uint64_t answers, opened, closed, repeated, resets, out_of_order, bad_checksums, wrong_bytes, segments_in, segments_out;
} g;

static const char request[] = "GET /1k HTTP/1.1\r\nHost: server\r\nUser-Agent: generator\r\n\r\n";
#define REQUEST_BYTES (sizeof request - 1)

/* ---- out ---- */

static void put(struct client *c, uint32_t seq, uint8_t flags, const char *text, size_t len)
{
	uint8_t hdr[LINK_HDR_MAX], *ip = hdr + ETH_HDR_BYTES, *tcp = ip + IPV4_HDR_MIN;
	struct in_addr from = {.s_addr = htonl(ntohl(g.first.s_addr) + c->address)};
	struct tcp_segment seg = {.sport = c->port, .dport = g.port, .seq = seq, .ack = flags & SEG_ACK ? c->rcv_nxt : 0, .flags = flags, .window = WINDOW,
				  .has = SEG_HAS_TIMESTAMPS, .ts_val = (uint32_t)(g.now_us / 1000) + 1, .ts_ecr = c->ts_recent};
	if (flags & SEG_SYN) {
		seg.has |= SEG_HAS_MSS | SEG_HAS_WSCALE | SEG_HAS_SACK_PERMITTED;
		seg.mss = MSS;
		seg.wscale = WSCALE;
	} else {
		seg.window = WINDOW >> WSCALE;
	}
	size_t hl = tcp_build(&seg, tcp);
	struct ipv4_header h = {.src = (uint8_t *)&from, .dst = (uint8_t *)&g.server, .ttl = 64, .protocol = IPPROTO_TCP,
				.total_len = IPV4_HDR_MIN + hl + len, .dont_fragment = true};
	memcpy(hdr, g.eth, sizeof g.eth);
	ipv4_build(&h, ip);
	checksum_store(tcp + 16, checksum_fold(checksum_pseudo_v4(h.src, h.dst, IPPROTO_TCP, hl + len)));
	struct iovec iov = {(void *)(uintptr_t)text, len};
	struct link_tx tx = {.hdr = hdr, .hdr_len = tcp + hl - hdr, .payload = &iov, .n_payload = len > 0, .csum_start = tcp - hdr, .csum_offset = 16};
	link_send(g.link, &tx);
	g.segments_out++;
}

static void send_new(struct client *c, uint8_t flags, const char *text, size_t len)
{
	put(c, c->snd_nxt, flags, text, len);
	c->snd_nxt += len + !!(flags & (SEG_SYN | SEG_FIN));
	c->last_us = g.now_us;
}

static void ask(struct client *c)
{
	c->answer_left = 0;
	c->head_came = false;
	c->state = ASKED;
	send_new(c, SEG_ACK | SEG_PSH, request, REQUEST_BYTES);
}

static void open_next(struct client *c)
{
	uint32_t name = g.next_name++, slot;
	if (c->port)
		g.by_port[c->address * 65536 + c->port] = 0;
	do { /* the next pair of address and port that no client has */
		c->address = name % g.n_addresses;
		c->port = PORT_FIRST + name / g.n_addresses % PORTS;
		slot = c->address * 65536 + c->port;
	} while (g.by_port[slot] && (name = g.next_name++, true));
	g.by_port[slot] = (uint32_t)(c - g.clients) + 1;
	c->snd_una = c->snd_nxt = name * 2654435761u;
	c->rcv_nxt = c->ts_recent = 0;
	c->fin_came = false;
	c->state = SYN_SENT;
	g.opened++;
	send_new(c, SEG_SYN, NULL, 0);
}

static void repeat(struct client *c)
{
	g.repeated++;
	c->last_us = g.now_us;
	if (c->state == SYN_SENT)
		put(c, c->snd_nxt - 1, SEG_SYN, NULL, 0);
	else if (c->state == FIN_SENT)
		put(c, c->snd_nxt - 1, SEG_FIN | SEG_ACK, NULL, 0);
	else
		put(c, c->snd_nxt - REQUEST_BYTES, SEG_ACK | SEG_PSH, request, REQUEST_BYTES);
}

/* ---- in ---- */

static void must(bool right, const char *what)
{
	if (right)
		return;
	fprintf(stderr, "generator: %s\n", what);
	exit(1);
}

/* Bytes of the head, and of the whole answer as it says; 0 when the head is not whole or does not say. */
static uint32_t head_bytes(const uint8_t *text, uint32_t len, uint32_t *whole)
{
	const uint8_t *end = memmem(text, len, "\r\n\r\n", 4);
	const char *length = end ? memmem(text, (size_t)(end - text), "Content-Length: ", 16) : NULL;
	if (!length)
		return 0;
	uint32_t head = (uint32_t)(end + 4 - text);
	*whole = head + (uint32_t)atoi(length + 16);
	return head;
}

static void take_body(const uint8_t *text, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		g.wrong_bytes += text[i] != BODY_BYTE;
}

/* In order. The head must come in one piece, which it does: it is shorter than a segment. */
static void take_text(struct client *c, const uint8_t *text, uint32_t len)
{
	c->rcv_nxt += len;
	if (!c->head_came) {
		uint32_t whole, head = head_bytes(text, len, &whole);
		must(head, "an answer's head did not come in one piece, or has no Content-Length");
		if (!g.answer_len)
			g.answer_len = whole;
		g.wrong_bytes += whole != g.answer_len;
		c->head_came = true;
		c->answer_left = whole - head;
		text += head;
		len -= head;
	}
	take_body(text, len);
	g.wrong_bytes += len > c->answer_left ? len - c->answer_left : 0;
	c->answer_left -= len < c->answer_left ? len : c->answer_left;
}

static void answer_is_whole(struct client *c)
{
	g.answers++;
	if (!g.close) {
		ask(c);
		return;
	}
	c->state = FIN_SENT;
	send_new(c, SEG_FIN | SEG_ACK, NULL, 0);
}

static void on_segment(struct client *c, const struct tcp_segment *seg)
{
	if (seg->flags & SEG_RST) {
		g.resets++;
		open_next(c);
		return;
	}
	if (seg->has & SEG_HAS_TIMESTAMPS)
		c->ts_recent = seg->ts_val;
	if (c->state == SYN_SENT) {
		if (!(seg->flags & SEG_SYN) || seg->ack != c->snd_nxt)
			return;
		c->rcv_nxt = seg->seq + 1;
		ask(c);
		return;
	}
	if (seg->flags & SEG_ACK)
		c->snd_una = seg->ack;
	bool owes_ack = seg->payload_len || (seg->flags & SEG_FIN);
	if (owes_ack && seg->seq != c->rcv_nxt) {
		g.out_of_order++;
		put(c, c->snd_nxt, SEG_ACK, NULL, 0);
		return;
	}
	if (seg->payload_len)
		take_text(c, seg->payload[0].iov_base, seg->payload_len);
	if (seg->flags & SEG_FIN) {
		c->rcv_nxt++;
		c->fin_came = true;
	}
	if (c->state == ASKED && c->head_came && !c->answer_left) {
		answer_is_whole(c); /* its segment carries the ACK */
		return;
	}
	if (owes_ack)
		put(c, c->snd_nxt, SEG_ACK, NULL, 0);
	if (c->state == ASKED && c->fin_came) { /* without an answer */
		g.resets++;
		open_next(c);
	} else if (c->state == FIN_SENT && c->fin_came && c->snd_una == c->snd_nxt) {
		g.closed++;
		open_next(c);
	}
}

static bool checksum_right(const struct link_rx *rx, const struct ipv4_header *h, const uint8_t *tcp, size_t len)
{
	return rx->csum_ok || checksum_is_valid(checksum_add(checksum_pseudo_v4(h->src, h->dst, IPPROTO_TCP, len), tcp, len));
}

static void on_frame(struct link_rx_handler *handler, const struct link_rx *rx)
{
	struct ipv4_header h;
	struct tcp_segment seg;
	if (rx->ethertype != ETH_P_IP || rx->len < ETH_HDR_BYTES || ipv4_parse(rx->data + ETH_HDR_BYTES, rx->len - ETH_HDR_BYTES, &h) != IPV4_OK ||
	    h.protocol != IPPROTO_TCP || h.total_len > rx->len - ETH_HDR_BYTES)
		return;
	const uint8_t *tcp = rx->data + ETH_HDR_BYTES + h.header_len;
	size_t len = h.total_len - h.header_len;
	struct in_addr to;
	memcpy(&to, h.dst, sizeof to);
	uint32_t address = ntohl(to.s_addr) - ntohl(g.first.s_addr);
	if (memcmp(h.src, &g.server, 4) || address >= g.n_addresses || tcp_parse(tcp, len, &seg))
		return;
	g.segments_in++;
	if (!checksum_right(rx, &h, tcp, len)) {
		g.bad_checksums++;
		return;
	}
	uint32_t client = g.by_port[address * 65536 + seg.dport];
	if (client)
		on_segment(&g.clients[client - 1], &seg);
}

static void sweep(void)
{
	for (unsigned i = 0; i < g.n_clients; i++)
		if (g.now_us - g.clients[i].last_us > REPEAT_US)
			repeat(&g.clients[i]);
}

/* Nothing is left at the server that a later run could meet. */
static void reset_all(void)
{
	for (unsigned i = 0; i < g.n_clients; i++)
		put(&g.clients[i], g.clients[i].snd_nxt, SEG_RST | SEG_ACK, NULL, 0);
	link_flush(g.link);
}

static void run(double seconds)
{
	int64_t start = clock_now_us(), end = start + (int64_t)(seconds * 1e6), next_sweep = start + SWEEP_US;
	struct pollfd p = {.fd = link_rx_fd(g.link), .events = POLLIN};
	g.now_us = start;
	for (unsigned i = 0; i < g.n_clients; i++)
		open_next(&g.clients[i]);
	link_flush(g.link);
	while (g.now_us < end) {
		if (!link_drain(g.link, &g.handler, 128))
			poll(&p, 1, 1);
		link_flush(g.link);
		g.now_us = clock_now_us();
		if (g.now_us >= next_sweep) {
			sweep();
			next_sweep = g.now_us + SWEEP_US;
		}
	}
	double took = (g.now_us - start) / 1e6;
	reset_all();
	struct rusage use;
	getrusage(RUSAGE_SELF, &use);
	double cpu_us = (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1e6 + use.ru_utime.tv_usec + use.ru_stime.tv_usec;
	printf("{\"seconds\": %.3f, \"answers\": %llu, \"answers_per_s\": %.1f, \"answer_bytes\": %u, \"opened\": %llu, \"closed\": %llu, \"repeated\": %llu, \"resets\": %llu, "
	       "\"out_of_order\": %llu, \"bad_checksums\": %llu, \"wrong_bytes\": %llu, \"segments_in\": %llu, \"segments_out\": %llu, \"own_cpu_us\": %.0f}\n",
	       took, (unsigned long long)g.answers, g.answers / took, g.answer_len, (unsigned long long)g.opened, (unsigned long long)g.closed,
	       (unsigned long long)g.repeated, (unsigned long long)g.resets, (unsigned long long)g.out_of_order, (unsigned long long)g.bad_checksums,
	       (unsigned long long)g.wrong_bytes, (unsigned long long)g.segments_in, (unsigned long long)g.segments_out, cpu_us);
}

/* ---- what is asked for ---- */

/* Only what is for the clients: the addresses are looked at again in on_frame. */
static void accept_ipv4_tcp(struct link *l)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, SKF_AD_OFF + SKF_AD_PROTOCOL),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 3),
	    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, SKF_NET_OFF + 9),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, 0x40000),
	    BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog prog = {.len = sizeof code / sizeof *code, .filter = code};
	must(setsockopt(link_rx_fd(l), SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog) == 0, "the packet socket's filter");
}

static void open_interface(const char *name, const char *mac)
{
	struct link_config config = {.ifindex = (int)if_nametoindex(name)};
	unsigned m[6];
	uint8_t to[6];
	int err = link_open_packet(&g.link, &config);
	must(err == 0, strerror(-err));
	must(sscanf(mac, "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) == 6, "--mac");
	for (int i = 0; i < 6; i++)
		to[i] = (uint8_t)m[i];
	eth_build(to, link_info(g.link)->mac, ETH_P_IP, g.eth);
	accept_ipv4_tcp(g.link);
}

int main(int argc, char **argv)
{
	const char *interface = NULL, *mac = NULL;
	double seconds = 1;
	g.n_clients = 64;
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];
		int left = argc - i - 1;
		if (!strcmp(word, "--close"))
			g.close = true;
		else if (!strcmp(word, "--interface") && left >= 1)
			interface = argv[++i];
		else if (!strcmp(word, "--mac") && left >= 1)
			mac = argv[++i];
		else if (!strcmp(word, "--server") && left >= 2)
			must(inet_aton(argv[++i], &g.server) && (g.port = (uint16_t)atoi(argv[++i])), "--server");
		else if (!strcmp(word, "--clients") && left >= 2)
			must(inet_aton(argv[++i], &g.first) && (g.n_addresses = (unsigned)atoi(argv[++i])) - 1 < ADDRESSES, "--clients");
		else if (!strcmp(word, "--connections") && left >= 1)
			g.n_clients = (unsigned)atoi(argv[++i]);
		else if (!strcmp(word, "--from") && left >= 1)
			g.next_name = (uint32_t)strtoul(argv[++i], NULL, 10);
		else if (!strcmp(word, "--seconds") && left >= 1)
			seconds = atof(argv[++i]);
		else
			must(false, word);
	}
	must(interface && mac && g.port && g.n_addresses && g.n_clients && g.n_clients < PORTS / 2 && seconds > 0 && seconds < 3600, "an argument is missing or absurd");
	g.handler.frame = on_frame;
	g.clients = calloc(g.n_clients, sizeof *g.clients);
	g.by_port = calloc(65536 * (size_t)g.n_addresses, sizeof *g.by_port);
	must(g.clients && g.by_port, "no memory");
	open_interface(interface, mac);
	run(seconds);
	return g.bad_checksums || g.wrong_bytes || !g.answers;
}
