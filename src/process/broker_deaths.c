/*
 * Deaths: a member's process ended and left connections. Their peers are made to ask, and the kernel answers them.
 *
 * When a process ends, its classifier goes with it, and the kernel answers each segment of its connections with RST. But who is idle sends none. So for each connection that the member's table
 * still has, the broker sends its peer a bare ACK from the dead end, with a random sequence number: nearly always outside the peer's window, to which TCP answers with an ACK of its own (RFC 9293
 * §3.10.7.4). That ACK comes to the kernel, and the kernel's RST has the number that RFC 5961 asks for, since it is the acknowledged one. The broker knows no sequence numbers, and needs none.
 *
 * Two rounds: the first may come while the dead process's classifier still holds, or be one of too many (Linux answers once in 500 ms); or its number is within the window.
 * Whoever is handed a connection meanwhile, or kept it, gets an ACK that it does not need, nothing else.
 *
 * Limits: BURST segments in TICK_US, DEATHS_MAX deaths at a time; the table has its own.
 */
#include "process/broker.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/sys.h"
#include "base/time.h"
#include "kernel/living.h"
#include "wire/checksum.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"
#include "wire/tcp.h"

#define BURST          500
#define TICK_US        (5 * USEC_PER_MSEC)
#define FIRST_ROUND_US (100 * USEC_PER_MSEC) /* the classifier of the dead process is gone by then, mostly */
#define NEXT_ROUND_US  (600 * USEC_PER_MSEC) /* Linux's tcp_invalid_ratelimit, 500 ms, and some */
#define ROUNDS         2
#define DEATHS_MAX     256
#define PROBE_TTL      64
#define TCP_CHECK_AT   16 /* the checksum's place in the header */

struct death {
	struct list node;
	int fd; /* the table */
	uint32_t place;
	unsigned round;
	int64_t due_us;
};

static struct list deaths = {&deaths, &deaths};
static unsigned n_deaths;
static int raw[2] = {-1, -1}; /* IPv4, IPv6 */

static size_t build(const struct flow_key *k, uint8_t *out)
{
	bool v4 = ip_addr_is_v4(&k->laddr);
	size_t ip_len = v4 ? IPV4_HDR_MIN : IPV6_HDR_BYTES;
	const uint8_t *src = k->laddr.b + (v4 ? 12 : 0), *dst = k->raddr.b + (v4 ? 12 : 0);
	uint32_t random[2];
	sys_call(SYS_getrandom, random, sizeof random, 0, 0, 0, 0);
	struct tcp_segment seg = {.sport = k->lport, .dport = k->rport, .seq = random[0], .ack = random[1], .flags = SEG_ACK};
	uint8_t *tcp = out + ip_len;
	size_t tcp_len = tcp_build(&seg, tcp);
	uint64_t sum = v4 ? checksum_pseudo_v4(src, dst, IP_PROTO_TCP, tcp_len) : checksum_pseudo_v6(src, dst, IP_PROTO_TCP, tcp_len);
	checksum_store(tcp + TCP_CHECK_AT, checksum_finish(checksum_add(sum, tcp, tcp_len)));
	if (v4)
		ipv4_build(&(struct ipv4_header){.src = src, .dst = dst, .ttl = PROBE_TTL, .protocol = IP_PROTO_TCP, .total_len = ip_len + tcp_len, .dont_fragment = true}, out);
	else
		ipv6_build(&(struct ipv6_header){.src = src, .dst = dst, .hop_limit = PROBE_TTL, .next_header = IP_PROTO_TCP, .payload_len = tcp_len}, out);
	return ip_len + tcp_len;
}

static void probe(const struct flow_key *k, int ifindex)
{
	uint8_t packet[BROKER_PACKET_MAX];
	union {
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} to = {.v6 = {.sin6_family = AF_INET6}};
	bool v4 = ip_addr_is_v4(&k->laddr);
	if (v4 != ip_addr_is_v4(&k->raddr))
		return;
	if (v4) {
		to.v4 = (struct sockaddr_in){.sin_family = AF_INET};
		memcpy(&to.v4.sin_addr, k->raddr.b + 12, 4);
	} else {
		memcpy(&to.v6.sin6_addr, k->raddr.b, 16);
		to.v6.sin6_scope_id = IN6_IS_ADDR_LINKLOCAL(&to.v6.sin6_addr) ? ifindex : 0;
	}
	if (raw[!v4] < 0)
		raw[!v4] = sys_socket(v4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (raw[!v4] >= 0)
		sys_sendto(raw[!v4], packet, build(k, packet), MSG_DONTWAIT, &to, v4 ? sizeof to.v4 : sizeof to.v6);
}

static void death_end(struct death *d)
{
	list_unlink(&d->node);
	n_deaths--;
	sys_close(d->fd);
	free(d);
}

void broker_deaths_add(int table_fd)
{
	uint32_t place = 1;
	struct flow_key one;
	int ifindex;
	struct death *d = n_deaths < DEATHS_MAX && living_read(table_fd, &place, &one, 1, &ifindex) ? calloc(1, sizeof *d) : NULL;
	if (!d) {
		sys_close(table_fd);
		return;
	}
	d->fd = table_fd;
	d->place = 1;
	d->due_us = clock_now_us() + FIRST_ROUND_US;
	list_push_back(&deaths, &d->node);
	n_deaths++;
}

static void go_on(struct death *d, int64_t now)
{
	struct flow_key keys[BURST];
	int ifindex;
	unsigned n = living_read(d->fd, &d->place, keys, BURST, &ifindex);
	for (unsigned i = 0; i < n; i++)
		probe(&keys[i], ifindex);
	if (n == BURST) {
		d->due_us = now + TICK_US;
	} else if (++d->round < ROUNDS) {
		d->place = 1;
		d->due_us = now + NEXT_ROUND_US;
	} else {
		death_end(d);
	}
}

int broker_deaths_serve(void)
{
	int64_t now = clock_now_us(), next = TIME_NEVER;
	list_for_each (pos, tmp, &deaths) {
		struct death *d = container_of(pos, struct death, node);
		if (d->due_us <= now) {
			go_on(d, now);
			break; /* one burst at a time */
		}
	}
	list_for_each (pos, tmp, &deaths)
		next = min_time(next, container_of(pos, struct death, node)->due_us);
	if (next == TIME_NEVER)
		return -1;
	return next <= now ? (int)(TICK_US / USEC_PER_MSEC) : (int)((next - now) / USEC_PER_MSEC) + 1;
}
