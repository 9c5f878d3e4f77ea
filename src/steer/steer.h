/*
 * The close policies: pure. Made once per engine from the settings; one object per
 * listener.
 */
#ifndef FINESSE_STEER_STEER_H
#define FINESSE_STEER_STEER_H

#include <stdint.h>

#include "tcp/close_policy.h"

/* Mirrors the settings; no dependency on base/settings.h's parser. */
struct steer_config {
	enum { STEER_OFF, STEER_HOLD, STEER_ADAPTIVE } kind;
	int64_t hold_us;        /* STEER_HOLD */
	int64_t hold_max_us;    /* bound of any hold */
	uint32_t client_budget; /* client-first closes per client address and server port in 60 s */
	bool budget_grows;      /* more of them where the client was seen to have more ports */
	struct budget_table *budget_table; /* the caller's, and stays; NULL: it has one of its own */
};

/*
 * What clients were left with (budget.h): of this process and of those that it forks from then on. NULL: out of memory.
 */
struct budget_table *steer_budget_table_new(const uint8_t secret[16]);

struct steer; /* shared by the listeners of one engine: the budget table, engine-wide caps */
struct steer *steer_new(const struct steer_config *config,
			const uint8_t secret[16]); /* NULL: out of memory */
void steer_free(struct steer *s);

/* A listener's policy; `port` is the server port. NULL: out of memory. */
struct close_policy *steer_listener_new(struct steer *s, uint16_t port);
/* Connections of the listener may outlive it: reference-counted, one per connection and one for the
 * listener. */
void steer_listener_ref(struct close_policy *p);
void steer_listener_unref(struct close_policy *p);

/* What it did, for `finesse stat`. */
#define STEER_DELAYS         16 /* steps of a histogram, each twice the one before */
#define STEER_DELAY_FIRST_US 64
struct steer_counts {
	uint64_t closes, client_first, server_first[CLOSE_REASON_COUNT], held, hold_client_fin,
	    hold_expired, hold_reset, hold_data, over_budget, asked, answered;
	uint64_t avoided;    /* TIME-WAITs that would have been ours: held or asked, and the client was first */
	uint64_t time_waits; /* those that were */
	uint64_t delays[STEER_DELAYS]; /* added to clients that waited for our FIN, up to each step; the last: longer */
	uint64_t held_now;
	int64_t hold_quantile_us; /* how long it would hold now; 0: it does not */
	bool learned_off;
};
void steer_listener_time_wait(struct close_policy *p); /* one of its connections is in TIME-WAIT here */
void steer_listener_counts(const struct close_policy *p, struct steer_counts *out);

#endif
