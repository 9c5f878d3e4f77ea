/*
 * What a frame costs at the link, over a veth pair in a namespace of its own: handing it to the
 * kernel (which includes the kernel's whole way to the other end's ring, as veth runs it on the
 * sender's CPU), and draining it from the ring. Root. No judgement: figures of interleaved rounds,
 * lower deciles.
 */
#include "link/link.h"

#include <linux/filter.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS    30
#define FRAMES    1024 /* of a round; the ring holds 2048 */
#define IP_TCP_HL 40

struct sum {
	struct link_rx_handler h;
	unsigned n;
	uint64_t bytes;
	uint8_t *into; /* where payload is copied, as an engine would */
};

static int64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void on_frame(struct link_rx_handler *h, const struct link_rx *rx)
{
	struct sum *s = (struct sum *)h;
	s->n++;
	s->bytes += rx->len;
	if (rx->gso_size)
		memcpy(s->into, rx->data, rx->len);
}

static void accept_ipv4(struct link *l)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, SKF_AD_OFF + SKF_AD_PROTOCOL),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, 0x40000),
	    BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog prog = {.len = 4, .filter = code};
	setsockopt(link_rx_fd(l), SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog);
}

static struct link *open_link(const char *name, bool no_io_uring)
{
	struct link_config config = {.ifindex = if_nametoindex(name), .no_io_uring = no_io_uring};
	struct link *l;
	int err = link_open_packet(&l, &config);
	if (err) {
		fprintf(stderr, "%s: %s\n", name, strerror(-err));
		exit(1);
	}
	accept_ipv4(l);
	return l;
}

static int by_value(const void *a, const void *b)
{
	double d = *(const double *)a - *(const double *)b;
	return (d > 0) - (d < 0);
}

/* On a shared machine the lower decile says more than the median does. */
static double low(double *v)
{
	qsort(v, ROUNDS, sizeof *v, by_value);
	return v[ROUNDS / 10];
}

/* An Ethernet, IPv4 and TCP header that the kernel believes. */
static void fill(uint8_t *h, uint32_t payload_len)
{
	static const uint8_t start[] = {
	    2,    0,    0, 0, 0, 9, 2,    0, 0,  0, 0, 1, 8,    0, /* to nobody: the stack drops it
								      early */
	    0x45, 0,    0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10,   9,    0, 1, 10, 9, 0, 2,
	    1,    0xbb, 4, 0, 0, 0, 0,    1, 0,  0, 0, 1, 0x50, 0x10, 1, 0, 0,  0, 0, 0};
	uint32_t ip_len = IP_TCP_HL + payload_len;
	memcpy(h, start, sizeof start);
	h[16] = ip_len >> 8;
	h[17] = ip_len;
}

static void run_round(struct link *from, struct link *to, struct sum *s, int batch,
		      uint32_t payload, double *tx_ns, double *rx_ns)
{
	static uint8_t data[65536];
	uint8_t hdr[ETH_HLEN + IP_TCP_HL];
	struct iovec iov = {data, payload};
	struct link_tx tx = {.hdr = hdr,
			     .hdr_len = sizeof hdr,
			     .payload = &iov,
			     .n_payload = payload > 0,
			     .csum_start = ETH_HLEN + 20,
			     .csum_offset = 16,
			     .gso_size = payload > 1460 ? 1460 : 0};
	int64_t t_tx = 0, t_rx = 0;
	int n = 0, frames = payload > 1460 ? 128 : FRAMES;
	fill(hdr, payload);
	s->n = 0;
	while (n < frames) {
		int64_t t0 = now_ns();
		for (int i = 0; i < batch; i++, n++)
			link_send(from, &tx);
		link_flush(from);
		int64_t t1 = now_ns();
		while (link_rx_pending(to))
			link_drain(to, &s->h, 64);
		t_tx += t1 - t0;
		t_rx += now_ns() - t1;
	}
	if (s->n != (unsigned)n)
		fprintf(stderr, "%u of %d frames\n", s->n, n);
	*tx_ns = (double)t_tx / n;
	*rx_ns = (double)t_rx / n;
}

int main(void)
{
	static const int batches[] = {1, 2, 8, 32};
	static const uint32_t payloads[] = {0, 46, 1460, 16060, 64240};
	struct sum s = {.h.frame = on_frame, .into = malloc(1 << 17)};
	if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0 || !s.into) {
		fprintf(stderr, "link_bench: needs root\n");
		return 77;
	}
	if (system("ip link set lo up && ip link add va type veth peer name vb && ip link set va "
		   "up && ip link set vb up"))
		return 1;
	struct link *tx[2] = {open_link("va", false), open_link("va", true)};
	struct link *rx = open_link("vb", false);
	printf("ns per frame      payload  batch   io_uring  sendmmsg     drain\n");
	for (size_t p = 0; p < sizeof payloads / sizeof *payloads; p++)
		for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
			double t[2][ROUNDS], d[2][ROUNDS];
			for (int r = 0; r < ROUNDS; r++)
				for (int k = 0; k < 2; k++)
					run_round(tx[k], rx, &s, batches[b], payloads[p], &t[k][r],
						  &d[k][r]);
			printf("%25u %6d %10.0f %9.0f %9.0f\n", payloads[p], batches[b], low(t[0]),
			       low(t[1]), low(d[0]));
		}
	link_close(tx[0]);
	link_close(tx[1]);
	link_close(rx);
	free(s.into);
	return 0;
}
