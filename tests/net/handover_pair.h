/*
 * A connection between two kernel sockets (a at 10.8.0.1, b at 10.8.0.2 in a second namespace); a is read through
 * TCP_REPAIR into a snapshot, closed without a word, and comes back from it. b must not notice, and every byte must be
 * there. Needs root. Every wait is a poll with a bound. A process has one pair: libcheck forks for each test.
 */
#ifndef FINESSE_TESTS_NET_HANDOVER_PAIR_H
#define FINESSE_TESTS_NET_HANDOVER_PAIR_H

#include "kernel/handover.h"

#include <check.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>

#define WAIT_MS 10000
#define BIG     (3 << 20) /* bytes that a snapshot may have each way, and as many again */

/* How a test's connection comes to be. */
struct setup {
	int family;  /* of a's socket */
	bool mapped; /* an AF_INET6 socket with IPv4 */
	bool a_is_client;
	const char *no; /* a sysctl of a's host that is off: an option not agreed */
};
#define N_SETUPS 8
extern const struct setup setups[N_SETUPS];

/* The server's end was accepted from the listener. */
extern int a, b, listener;

/* The two streams, and how far each got. */
struct stream {
	uint8_t salt;
	uint32_t written, read;
};
extern struct stream a_to_b, b_to_a;

void open_connection(const struct setup *u);

/* The byte of a stream at i. */
uint8_t pattern(uint32_t i, uint8_t salt);
/* As much as fits, up to `max`. */
void write_some(int fd, struct stream *s, uint32_t max);
/* Reads until s->read is `until`; checks every byte. */
void read_until(int fd, struct stream *s, uint32_t until);
/* Until the peer of fd has acknowledged all. */
void wait_until_acknowledged(int fd);
/* b closes. Also until a has acknowledged the FIN: b would send it again, and meet nobody. */
void peer_closes(void);

/* From here on fd sees nothing of the peer … */
void deafen(int fd);
/* … until here. */
void hear(int fd);

struct tcp_info info_of(int fd);
void addr_port(int fd, bool peer, struct ip_addr *addr, uint16_t *port);

/* Reads a, and lets it vanish. The bytes are good until the next call. */
struct tcp_snapshot take(bool fin_peer, bool fin_ours);
/* Bytes in the engine's terms. Good until the next call of this or of take. */
struct chunks chunks_of(const uint8_t *bytes, uint32_t len);
/* What a program can see of fd is what the snapshot says. */
void check_same(int fd, const struct tcp_snapshot *s);
/* a comes back by handover_import. */
void import(const struct tcp_snapshot *s);
/* Both streams go on, and end in order; `fin_*`: that end's FIN is under way already. */
void go_on(bool fin_a, bool fin_b);

#endif
