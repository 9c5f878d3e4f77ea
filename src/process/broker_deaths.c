/*
 * Deaths: a member's process ended and left connections. Their peers are told, or made to ask, and the kernel answers
 * them.
 *
 * When a process ends, its classifier goes with it, and the kernel answers each segment of its connections with RST.
 * But who is idle sends none. So the broker says for each connection that the member's table still has what the
 * kernel's close would have said: the FIN or RST that the engine left there with its numbers. It passes every NAT and
 * state table, because its numbers are right. A connection that is the kernel's by now (the process died while it
 * handed it over) gets nothing.
 *
 * Some have no such numbers: a connection in SYN-SENT, one whose FIN was sent, and who is only in a group's flows. And
 * what was said may get lost. So the broker also asks: it sends the peer a bare ACK from the dead end, with a random
 * sequence number. That is nearly always outside the peer's window, to which TCP answers with an ACK of its own (RFC
 * 9293 §3.10.7.4). The peer's ACK comes to the kernel, and the kernel's RST has the number that RFC 5961 asks for,
 * since it is the acknowledged one.
 *
 * Who connects just then. A dying process is chosen for SYNs until its packet socket is gone, some 20 ms of grace
 * periods, and a SYN in its packet ring is read by nobody. So as soon as the member's slots can be had (the kernel has
 * taken their names from it), the broker ends them: SYNs go to the others. Then it deletes the dead member's entries in
 * the group's flows, and sends the same bare ACK to their clients. One in SYN-SENT answers with RST, and Linux's sends
 * its SYN again at once, not after a second (RFC 9293 §3.10.7.3 has the RST; the haste is Linux's).
 *
 * A process that serves alone has no slot: who connects to it is only in its packet ring, which the broker holds for
 * that (broker_rings.c). It is read once the frames are the kernel's, and asked.
 *
 * A table is gone through three times: what is to be said; who has nothing to be said is asked; all are asked. One
 * question is not enough: it may come while the dead process's classifier still holds, be one of too many (Linux
 * answers once in 500 ms), or its number is within the window. Who kept a connection gets an ACK that it does not need,
 * nothing else. A NAT between the ends may not pass it: its numbers are wrong on purpose.
 *
 * Limits: BURST segments in TICK_US, and of a ring; DEATHS_MAX tables, slots and rings at a time; the table has its
 * own, and of a group's flows STEPS_MAX steps are made. A slot is waited for SLOT_WAIT_US: a member that does not die,
 * but was dropped, keeps it.
 */
#include "process/broker.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/list.h"
#include "base/sys.h"
#include "base/time.h"
#include "kernel/classifier_remains.h"
#include "kernel/diag.h"
#include "kernel/living.h"
#include "kernel/peer_packet.h"
#include "link/remains.h"
#include "process/group.h"
#include "wire/checksum.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"
#include "wire/tcp.h"

#define BURST          500
#define TICK_US        (5 * USEC_PER_MSEC)
#define FIRST_ROUND_US (100 * USEC_PER_MSEC) /* the classifier of the dead process is gone by then, mostly */
#define PLACED_ROUND_US (10 * USEC_PER_MSEC) /* it is gone, but its slots may not be */
#define NEXT_ROUND_US  (600 * USEC_PER_MSEC) /* Linux's tcp_invalid_ratelimit, 500 ms, and some */
#define DEATHS_MAX     256
#define RINGS_MAX      64 /* beside those: no place of a table or a slot */
#define PROBE_TTL      64
#define TCP_CHECK_AT   16 /* the checksum's place in the header */

#define SLOT_TRY_US    (2 * USEC_PER_MSEC)
#define SLOT_WAIT_US   (2 * USEC_PER_SEC)
#define STEPS_MAX      4096
#define STEPS_AT_ONCE  16 /* some 0.5 ms */

enum round { ROUND_WORDS, ROUND_ASK, ROUND_ASK_ALL, ROUNDS };

enum of { OF_TABLE, OF_SLOT, OF_RING };

struct death {
	struct list node;
	enum of of;
	int fd; /* the table, or the ring */
	uint32_t place;
	enum round round;
	int64_t due_us;

	struct broker_slot slot;
	struct classifier_remains remains;
	bool ended; /* the slot is nobody's */
	int64_t give_up_us;
	unsigned steps;
};

static struct list deaths = {&deaths, &deaths};
static unsigned n_deaths, n_rings;
static int raw[2] = {-1, -1}; /* IPv4, IPv6 */
static int diag = -1;

static size_t build(const struct flow_key *k, const struct living_word *word, uint8_t *out)
{
	bool v4 = ip_addr_is_v4(&k->laddr);
	size_t ip_len = v4 ? IPV4_HDR_MIN : IPV6_HDR_BYTES;
	const uint8_t *src = k->laddr.b + (v4 ? 12 : 0), *dst = k->raddr.b + (v4 ? 12 : 0);
	struct tcp_segment seg = {.sport = k->lport, .dport = k->rport, .seq = word->seq, .ack = word->ack, .window = UINT16_MAX, .flags = word->flags};
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

static void say(const struct flow_key *k, const struct living_word *word, int ifindex)
{
	uint8_t packet[BROKER_PACKET_MAX];
	bool v4 = ip_addr_is_v4(&k->laddr);
	if (v4 != ip_addr_is_v4(&k->raddr))
		return;
	if (raw[!v4] < 0)
		raw[!v4] = sys_socket(v4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (raw[!v4] >= 0)
		peer_packet_send(raw[!v4], &k->raddr, packet, build(k, word, packet), ifindex);
}

/* The table comes from a process that is not trusted. */
static bool is_word(const struct living_word *w)
{
	return w->flags == SEG_RST || w->flags == (SEG_RST | SEG_ACK) || w->flags == (SEG_FIN | SEG_ACK);
}

static void ask(const struct flow_key *k, int ifindex)
{
	struct living_word random;
	sys_call(SYS_getrandom, &random, sizeof random, 0, 0, 0, 0);
	random.flags = SEG_ACK;
	say(k, &random, ifindex);
}

/*
 * The kernel may have a TIME-WAIT of an earlier connection with these ends, which the dead process's took over without
 * it. It would answer in place of the RST, and the peer would wait for ever. So it is ended. True: no connection of the
 * kernel's has these ends.
 */
static bool is_nobodys(const struct flow_key *k, int ifindex)
{
	static const uint32_t any_cookie[2] = {~0u, ~0u}; /* INET_DIAG_NOCOOKIE */
	if (diag < 0)
		diag = diag_open();
	int state = diag < 0 ? diag : diag_state(diag, k, ifindex);
	if (state == TCP_TIME_WAIT)
		diag_end(diag, k, any_cookie, ifindex);
	return state == 0 || state == TCP_TIME_WAIT;
}

static void close_ring(int fd)
{
	broker_rings_forget(&(struct broker_rings){.fd = {fd}, .n = 1});
}

static void death_end(struct death *d)
{
	list_unlink(&d->node);
	*(d->of == OF_RING ? &n_rings : &n_deaths) -= 1;
	if (d->of == OF_TABLE) {
		sys_close(d->fd);
	} else if (d->of == OF_RING) {
		close_ring(d->fd);
	} else {
		sys_close(d->remains.members_fd);
		sys_close(d->remains.flows_fd);
	}
	free(d);
}

void broker_deaths_add(int table_fd)
{
	uint32_t place = 1;
	struct living_conn one;
	int ifindex;
	struct death *d = n_deaths < DEATHS_MAX && living_read(table_fd, &place, &one, 1, &ifindex) ? calloc(1, sizeof *d) : NULL;
	if (!d) {
		sys_close(table_fd);
		return;
	}
	d->fd = table_fd;
	d->place = 1;
	d->due_us = clock_now_us();
	list_push_back(&deaths, &d->node);
	n_deaths++;
}

void broker_deaths_add_slot(const struct broker_slot *slot, int members_fd, int flows_fd)
{
	struct death *d = n_deaths < DEATHS_MAX ? calloc(1, sizeof *d) : NULL;
	if (!d) {
		sys_close(members_fd);
		sys_close(flows_fd);
		return;
	}
	d->of = OF_SLOT;
	d->slot = *slot;
	d->remains = (struct classifier_remains){.members_fd = members_fd, .flows_fd = flows_fd, .slot = slot->slot, .generation = slot->generation};
	d->due_us = clock_now_us();
	d->give_up_us = d->due_us + SLOT_WAIT_US;
	list_push_back(&deaths, &d->node);
	n_deaths++;
}

void broker_deaths_add_ring(int rx_fd, bool placed)
{
	struct death *d = n_rings < RINGS_MAX ? calloc(1, sizeof *d) : NULL;
	if (!d) {
		close_ring(rx_fd);
		return;
	}
	d->of = OF_RING;
	d->fd = rx_fd;
	d->due_us = clock_now_us() + (placed ? PLACED_ROUND_US : FIRST_ROUND_US);
	list_push_back(&deaths, &d->node);
	n_rings++;
}

/* Who has a slot's name has the slot: us for a moment, or its next owner. */
static bool end_slot(struct death *d)
{
	if (!classifier_remains_has_slot(&d->remains))
		return d->ended = true;
	struct sockaddr_un name;
	unsigned len = group_slot_name(d->slot.group, d->slot.slot, &name);
	int fd = sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	d->ended = sys_bind(fd, &name, len) == 0;
	if (d->ended)
		classifier_remains_end(&d->remains);
	sys_close(fd);
	return d->ended;
}

static void go_on_slot(struct death *d, int64_t now)
{
	struct flow_key keys[CLASSIFIER_REMAINS_STEP];
	unsigned n;
	int more = 1;
	for (unsigned step = 0, sent = 0; more && step < STEPS_AT_ONCE && sent < BURST; step++, sent += n) {
		more = classifier_remains_step(&d->remains, keys, &n) && ++d->steps < STEPS_MAX;
		for (unsigned i = 0; i < n; i++)
			ask(&keys[i], 0);
	}
	d->due_us = now + TICK_US;
	if (!more)
		death_end(d);
}

static void go_on_ring(struct death *d)
{
	struct flow_key keys[BURST];
	int ifindex = link_remains_at(d->fd);
	unsigned n = broker_ring_syns(d->fd, keys, BURST);
	for (unsigned i = 0; i < n; i++)
		ask(&keys[i], ifindex);
	death_end(d);
}

static void go_on(struct death *d, int64_t now)
{
	static const int64_t wait_us[ROUNDS] = {FIRST_ROUND_US, NEXT_ROUND_US};
	struct living_conn conns[BURST];
	int ifindex;
	unsigned n = living_read(d->fd, &d->place, conns, BURST, &ifindex);
	for (unsigned i = 0; i < n; i++) {
		const struct living_conn *c = &conns[i];
		bool says = is_word(&c->word);
		if (d->round != ROUND_WORDS) {
			if (!says || d->round == ROUND_ASK_ALL)
				ask(&c->key, ifindex);
		} else if (is_nobodys(&c->key, ifindex) && says) {
			say(&c->key, &c->word, ifindex);
		}
	}
	if (n == BURST) {
		d->due_us = now + TICK_US;
	} else if (d->round != ROUND_ASK_ALL) {
		d->place = 1;
		d->due_us = now + wait_us[d->round++];
	} else {
		death_end(d);
	}
}

/* Nobody shall choose them for a SYN any more: that comes before all that is to be said. */
static void end_slots(int64_t now)
{
	list_for_each (pos, tmp, &deaths) {
		struct death *d = container_of(pos, struct death, node);
		if (d->of != OF_SLOT || d->ended || d->due_us > now || end_slot(d))
			continue;
		d->due_us = now + SLOT_TRY_US;
		if (now >= d->give_up_us)
			death_end(d);
	}
}

int broker_deaths_serve(void)
{
	int64_t now = clock_now_us(), next = TIME_NEVER;
	end_slots(now);
	list_for_each (pos, tmp, &deaths) {
		struct death *d = container_of(pos, struct death, node);
		if (d->due_us <= now) {
			list_unlink(&d->node); /* each in turn */
			list_push_back(&deaths, &d->node);
			if (d->of == OF_TABLE)
				go_on(d, now);
			else if (d->of == OF_RING)
				go_on_ring(d);
			else
				go_on_slot(d, now);
			break; /* one burst at a time */
		}
	}
	list_for_each (pos, tmp, &deaths)
		next = min_time(next, container_of(pos, struct death, node)->due_us);
	if (next == TIME_NEVER)
		return -1;
	return next <= now ? (int)(TICK_US / USEC_PER_MSEC) : (int)((next - now) / USEC_PER_MSEC) + 1;
}
