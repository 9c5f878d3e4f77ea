/*
 * Two hosts and the network between them, in virtual time.
 *
 * Each host has a struct tcp_stack, connections with an application on each, listeners and compact TIME-WAIT
 * entries. The link carries bytes made by tcp_build and read by tcp_parse; per direction it has delay, jitter, loss,
 * reordering, duplication, corruption (a flipped bit, found by the checksum) and a bottleneck with a drop-tail queue.
 * Super-segments are cut at the link as GSO does, and glued at the receiver as GRO does.
 *
 * Everything follows from one seed: the same seed replays the same trace, of which trace_hash is the proof.
 * A failed check prints the seed. FINESSE_SIM_TRACE=1 in the environment prints every packet.
 *
 * An application acts only when TCP_EV_* tell it to (edge-triggered, as epoll's EPOLLET user) or when its own pause
 * ends: a lost event is a hang, and a hang is a failed test.
 */
#ifndef FINESSE_TESTS_SIM_SIM_H
#define FINESSE_TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "tcp/tcp.h"
#include "../tcp/test_memory.h"

#define SIM_HOSTS 2

/* What a middlebox does to the option of close requests. */
enum sim_strip { SIM_STRIP_NOTHING, SIM_STRIP_SYN, SIM_STRIP_LATER, SIM_STRIP_ALL, SIM_DROP_SYN, SIM_STRIPS };

struct sim_link {
	enum sim_strip strip;
	int64_t delay_us, jitter_us; /* one way; jitter alone keeps the order */
	uint32_t loss_ppm, reorder_ppm, dup_ppm, corrupt_ppm;
	int64_t reorder_us;   /* how much later a reordered packet arrives, at most */
	uint64_t rate_bps;    /* 0: no bottleneck */
	uint32_t queue_bytes; /* of the bottleneck */
	uint16_t path_mss;    /* larger segments do not pass: ICMP says so; 0: all pass */
	int64_t gro_us;       /* packets that arrive this close are glued; 0: never */
};

/* When the application closes. */
enum sim_close {
	SIM_CLOSE_DONE, /* everything is sent, and expect_bytes are read */
	SIM_CLOSE_EOF,  /* everything is sent, and the peer's FIN is read */
	SIM_CLOSE_NEVER,
};

struct sim_app {
	uint64_t send_bytes;   /* to send, of a pattern */
	uint64_t expect_bytes; /* to read before SIM_CLOSE_DONE */
	bool echo;             /* send what was read instead */
	bool reads_own;        /* the peer echoes */
	bool send_after_eof;   /* wait for the peer's FIN before the first byte */
	uint32_t write_max;    /* most bytes per tcp_send; 0: 64 KiB */
	int64_t write_pause_us;
	uint32_t read_max;     /* most bytes per tcp_recv; 0: 64 KiB */
	int64_t read_pause_us, read_start_us; /* read_start_us: after the connection is there */
	bool shut_when_sent;   /* shutdown(SHUT_WR) when all is sent */
	bool random_writes;    /* 1 to write_max bytes */
	enum sim_close close;
	int64_t close_delay_us; /* after its condition */
	bool has_options;
	struct tcp_options options;
	struct close_policy *policy; /* passive side */
};

struct sim_conn {
	struct tcp_conn tcp;
	struct sim *sim;
	struct flow_key key; /* tcp's, also after its end */
	struct sim_app app;
	struct sim_conn *next;
	int host;
	bool accepted, live;       /* live: tcp is initialised */
	bool connected, eof, shut, closed, aborted, gone; /* gone: fully CLOSED, or moved to TIME-WAIT */
	bool want_read, want_write; /* readiness as the events told */
	int error;
	uint64_t sent, rcvd;
	uint8_t salt_out, salt_in;  /* which pattern */
	uint8_t echo_buf[4096];
	uint32_t echo_len, echo_off;
	int64_t connected_at, read_at, write_at, close_at, gone_at, ran_at; /* TIME_NEVER: not waiting */
	enum tcp_state last_state;
	int first_fin; /* as tcp_first_fin() said last */
	struct tcp_status status;  /* at the end */
};

struct sim_tw {
	struct tcp_tw tw;
	struct flow_key key;
	struct sim_tw *next;
};

struct sim_listener {
	uint16_t port;
	struct sim_app app;
};

struct sim_host {
	struct sim *sim;
	struct tcp_stack stack;
	struct test_memory memory;
	struct ip_addr addr;
	struct sim_conn *conns;
	struct sim_tw *tws;
	struct sim_listener listeners[4];
	int n_listeners;
	bool dead;              /* neither sends nor receives */
	int64_t tw_entered;
	uint64_t segs_out, segs_in;
};

struct sim_packet;

struct sim {
	uint64_t seed, rng;
	int64_t now;
	struct sim_host host[SIM_HOSTS];
	struct sim_link link[SIM_HOSTS]; /* link[i]: from host i */
	int64_t busy_until[SIM_HOSTS], last_arrival[SIM_HOSTS];
	struct sim_packet **heap;
	int heap_len, heap_cap;
	uint64_t order, steps;
	uint64_t trace_hash;
	uint64_t lost, duplicated, reordered, corrupted, overflowed, glued, too_big;
	/* knobs, before the first connection */
	uint16_t mss;
	uint32_t gso_max_bytes;
	const struct tcp_cc_ops *cc[SIM_HOSTS]; /* of connections opened from now on */
	bool iss_wraps;    /* ISNs just below 2^32 */
	bool move_tw;      /* connections in TIME-WAIT become struct tcp_tw */
	bool trace;
};

struct sim *sim_new(uint64_t seed);
/* Everything must have ended: checks that both memories are empty. */
void sim_free(struct sim *sim);
uint32_t sim_random(struct sim *sim, uint32_t below);
bool sim_chance(struct sim *sim, uint32_t ppm);
/* Both directions alike. */
void sim_set_link(struct sim *sim, const struct sim_link *link);

void sim_listen(struct sim *sim, int host, uint16_t port, const struct sim_app *app);
/* The SYN leaves at once. lport 0: the next free one. */
struct sim_conn *sim_connect(struct sim *sim, int host, uint16_t lport, uint16_t rport,
			     const struct sim_app *app);
/* The accepted connection at `host` that faces `c`; NULL: none. */
struct sim_conn *sim_peer(struct sim *sim, const struct sim_conn *c);
/* Events up to and including virtual time `until`. */
void sim_run(struct sim *sim, int64_t until);
/* Until no connection is left (TIME-WAIT entries may be); fails after `limit_us` more. */
void sim_run_to_end(struct sim *sim, int64_t limit_us);
/* The earliest thing that would happen; TIME_NEVER: nothing ever. */
int64_t sim_next_event(struct sim *sim);
void sim_abort(struct sim_conn *c);
void sim_close(struct sim_conn *c);
/* After the application's state was changed by hand. */
void sim_poke(struct sim_conn *c);
/* Forget everything at a host, as a crash and reboot does. */
void sim_reboot(struct sim_host *h);

#define sim_check(sim, cond, ...)                                                                  \
	do {                                                                                       \
		if (!(cond))                                                                       \
			sim_failed(sim, __FILE__, __LINE__, #cond, " " __VA_ARGS__);                \
	} while (0)
void sim_failed(const struct sim *sim, const char *file, int line, const char *cond, const char *fmt,
		...) __attribute__((noreturn, format(printf, 5, 6)));

/* sim_link.c */
void sim_link_send(struct sim *sim, int from, const struct tcp_segment *seg, uint16_t gso_size);
int64_t sim_link_next(const struct sim *sim);
/* The next packet that is due, glued with its followers; false: none. Valid until the next call. */
bool sim_link_receive(struct sim *sim, int *to, struct tcp_segment *seg);
/* ICMP fragmentation-needed about a segment that `host` sent. */
void sim_frag_needed(struct sim *sim, int host, const struct tcp_segment *seg, uint16_t mss);
void sim_link_clear(struct sim *sim);

/* sim_app.c */
void sim_app_start(struct sim_conn *c, const struct sim_app *app);
void sim_app_events(struct sim_conn *c, uint32_t events);
int64_t sim_app_next(const struct sim_conn *c);
/* Whatever the application can do now. */
void sim_app_run(struct sim_conn *c);
uint8_t sim_pattern(uint8_t salt, uint64_t position);

#endif
