/*
 * The close policies: off, hold:MS, adaptive.
 *
 * Owns one struct steer per engine (the count of what is held per client prefix; the budget's table is
 * common to all engines whose processes a server forked),
 * and one listener object for each listening socket, which embeds the core's struct close_policy. A
 * listener is reference-counted: one for the socket and one for each of its connections, which may
 * outlive it. steer_free comes after the last of them.
 *
 * Events: the core asks decide() at the call that would send a FIN, and reports outcome() exactly
 * once for each connection's closing, plus a `late` one when our FIN was first. Invariants: each
 * CLOSE_HOLD takes one place (listener, engine, prefix) and one charge of the client's budget; the
 * outcome gives the place back, and the charge too unless the client did close first. No timers:
 * holds are bounded by the core's.
 *
 * The rules, in the order in which they are asked:
 * - what never may wait: not our accepted connection, the peer was first, unread data, SO_LINGER, exit, policy off
 * - shutdown(): held only when a reader says that the message is over. A half-close means something
 * - EOF-delimited: the client waits for us
 * - a response that was kept alive: its client would reuse a connection that is dead
 * - TLS: adaptive only. Who says hold:MS has TLS held, which most clients close first after close_notify
 * - idle: an unknown protocol whose last bytes were the client's, or ours but long acknowledged. The client may be
 *   about to
 *   reuse the connection
 * - data in a hold proves that clients reuse: unknown protocols are not held for a minute, doubling each time it
 *   happens again
 * - caps (rule 1): so many held per listener, engine, and client prefix
 * - budget (rule 0): so many client-first closes per client and minute
 * - learner (rule 2): see learner.c and prefixes.h: by client prefix, and by whether a reader spoke
 *
 * A client that understands close requests is asked instead (rule 4), for a shutdown, too: after what never may wait,
 * and while there is a place. It needs no learning and no budget, since its TIME-WAITs are an engine's. Where clients
 * have not answered for a while, something on the path takes the option out: no asking for a minute, doubling each time
 * it happens again.
 *
 * Limits: memory is fixed per engine and listener. Prefixes share counters by keyed hash: a
 * collision can only cause an early FIN.
 */
#include "steer/steer.h"

#include <assert.h>
#include <stdlib.h>

#include "base/siphash.h"
#include "base/time.h"
#include "base/zeroed.h"
#include "steer/budget.h"
#include "steer/prefixes.h"

#define HELD_PER_ENGINE   16384 /* at about 1.5 KiB for an orphan without data: 24 MiB */
#define HELD_PER_LISTENER 8192
#define HELD_PER_PREFIX   2048 /* so that one network cannot take all places */
#define PREFIX_COUNTERS   8192
#define PREFIX_V4_BYTES   3 /* /24 */
#define PREFIX_V6_BYTES   6 /* /48: one site */

/*
 * A client may be left without a third of the ports that it was seen to use. Linux has 28,232, so that two thirds
 * remain for what is open: more than a client needs that makes 150 connections a second to one port. Only where there
 * are time stamps: who has them (Linux, BSD, macOS) keeps a TIME-WAIT for 60 s at most. Windows, which begins without,
 * keeps it for 120 s and has 16,384 ports: the 4,000 take half of those.
 */
#define BUDGET_PART       3

#define IDLE_US           USEC_PER_SEC
#define DATA_STOP_US      (60 * USEC_PER_SEC)
#define DATA_STOP_MAX_US  (3600 * USEC_PER_SEC)
/*
 * So many in a row, and over so long: a client process that ends leaves all its connections to a kernel that does not
 * answer, but at one moment.
 */
#define UNANSWERED_MAX     8
#define UNANSWERED_SPAN_US (2 * USEC_PER_SEC)

struct steer {
	struct steer_config config;
	uint8_t secret[16];
	struct siphash_memo last_prefix; /* a hold asks for its place, takes it, and gives it back */
	struct budget *budget;
	struct budget_table *own_table; /* NULL: it was given one */
	uint64_t held;
	uint16_t prefix_held[PREFIX_COUNTERS];
};

struct listener {
	struct close_policy policy;
	struct steer *steer;
	unsigned refs;
	uint16_t port;
	struct prefixes prefixes;
	struct steer_counts counts;
	int64_t data_stop_until, data_stop_us; /* how long the last stop was */
	int64_t ask_stop_until, ask_stop_us;
	unsigned unanswered; /* close requests in a row */
	int64_t unanswered_since;
};

static const struct close_policy_ops steer_ops[];

static struct listener *listener_of(struct close_policy *policy)
{
	return (struct listener *)policy; /* its first member */
}

/* ---- places: what is held ---- */

static uint16_t *prefix_counter(struct steer *s, const struct flow_key *key)
{
	uint8_t data[18] = {0};
	if (ip_addr_is_v4(&key->raddr))
		memcpy(data, key->raddr.b, 12 + PREFIX_V4_BYTES);
	else
		memcpy(data, key->raddr.b, PREFIX_V6_BYTES);
	memcpy(data + 16, &key->lport, 2);
	return &s->prefix_held[siphash13_again(&s->last_prefix, data, sizeof data, s->secret) % PREFIX_COUNTERS];
}

static bool places_left(struct listener *l, const struct flow_key *key)
{
	return l->steer->held < HELD_PER_ENGINE && l->counts.held_now < HELD_PER_LISTENER &&
	       * prefix_counter(l->steer, key) < HELD_PER_PREFIX;
}

static void place_take(struct listener *l, const struct flow_key *key)
{
	l->steer->held++;
	l->counts.held_now++;
	++*prefix_counter(l->steer, key);
}

static void place_give(struct listener *l, const struct flow_key *key)
{
	uint16_t *prefix = prefix_counter(l->steer, key);
	assert(l->counts.held_now > 0 && l->steer->held > 0 && *prefix > 0);
	l->steer->held--;
	l->counts.held_now--;
	--*prefix;
}

/* ---- deciding ---- */

/* What forbids any wait; COUNT: nothing does. */
static enum close_reason reason_never(const struct steer *s, const struct close_facts *f)
{
	if (!f->accepted)
		return CLOSE_REASON_NOT_SERVER;
	if (f->peer_closed)
		return CLOSE_REASON_PEER_FIRST;
	if (f->unread)
		return CLOSE_REASON_UNREAD;
	if (f->linger)
		return CLOSE_REASON_LINGER;
	if (f->exiting)
		return CLOSE_REASON_EXITING;
	if (s->config.kind == STEER_OFF)
		return CLOSE_REASON_POLICY_OFF;
	return CLOSE_REASON_COUNT;
}

/* What the conversation so far says against a hold. */
static enum close_reason reason_protocol(const struct listener *l, int64_t now,
					 const struct close_facts *f)
{
	bool adaptive = l->steer->config.kind == STEER_ADAPTIVE;
	if (f->call == CLOSE_CALL_SHUTDOWN && f->reader != READER_MESSAGE_OVER)
		return CLOSE_REASON_SHUTDOWN;
	if (f->reader == READER_EOF_DELIMITED)
		return CLOSE_REASON_EOF_DELIMITED;
	if (f->reader == READER_KEPT_ALIVE)
		return CLOSE_REASON_KEPT_ALIVE;
	if (f->reader == READER_TLS && adaptive)
		return CLOSE_REASON_TLS;
	if (f->reader == READER_MESSAGE_OVER)
		return CLOSE_REASON_COUNT;
	if (!f->last_bytes_ours || (f->all_acked && f->acked_age_us >= IDLE_US))
		return CLOSE_REASON_IDLE;
	if (now < l->data_stop_until)
		return CLOSE_REASON_IDLE;
	return CLOSE_REASON_COUNT;
}

static enum prefix_class class_of(enum reader_says reader)
{
	return reader == READER_MESSAGE_OVER ? PREFIX_MESSAGE_OVER : PREFIX_UNKNOWN;
}

static enum close_reason reason_learned(struct listener *l, int64_t now,
					const struct close_facts *f, int64_t *hold_us)
{
	const struct steer_config *config = &l->steer->config;
	if (config->kind == STEER_HOLD) {
		*hold_us =
		    config->hold_us < config->hold_max_us ? config->hold_us : config->hold_max_us;
		return CLOSE_REASON_HELD;
	}
	switch (prefixes_advise(&l->prefixes, l->steer->secret, &f->key.raddr, class_of(f->reader), now, f->srtt_us, l->counts.held_now, hold_us)) {
	case LEARNER_HOLD:
		return CLOSE_REASON_HELD;
	case LEARNER_PROBE:
		return CLOSE_REASON_PROBED;
	case LEARNER_FULL:
		return CLOSE_REASON_CAPPED;
	case LEARNER_FIN:
		break;
	}
	return CLOSE_REASON_LEARNED_OFF;
}

static bool may_ask(struct listener *l, int64_t now, const struct close_facts *f)
{
	return f->can_ask && now >= l->ask_stop_until && places_left(l, &f->key);
}

static uint32_t budget_of(struct listener *l, const struct close_facts *f)
{
	uint32_t least = l->steer->config.client_budget;
	if (!l->steer->config.budget_grows || !f->timestamps)
		return least;
	uint32_t part = budget_ports(l->steer->budget, &f->key.raddr, l->port, f->key.rport) / BUDGET_PART;
	return part > least ? part : least;
}

static enum close_reason reason_find(struct listener *l, int64_t now, const struct close_facts *f,
				     int64_t *hold_us)
{
	enum close_reason reason = reason_never(l->steer, f);
	if (reason == CLOSE_REASON_COUNT && may_ask(l, now, f)) {
		*hold_us = l->steer->config.hold_max_us;
		return CLOSE_REASON_ASKED;
	}
	if (reason == CLOSE_REASON_COUNT)
		reason = reason_protocol(l, now, f);
	if (reason != CLOSE_REASON_COUNT)
		return reason;
	if (!places_left(l, &f->key))
		return CLOSE_REASON_CAPPED;
	if (budget_count(l->steer->budget, now, &f->key.raddr, l->port) >= budget_of(l, f)) {
		l->counts.over_budget++;
		return CLOSE_REASON_BUDGET;
	}
	return reason_learned(l, now, f, hold_us);
}

static void steer_decide(struct close_policy *policy, int64_t now, const struct close_facts *facts,
			 struct close_verdict *verdict)
{
	struct listener *l = listener_of(policy);
	int64_t hold_us = 0;
	enum close_reason reason = reason_find(l, now, facts, &hold_us);
	bool asks = reason == CLOSE_REASON_ASKED;
	bool hold = reason == CLOSE_REASON_HELD || reason == CLOSE_REASON_PROBED;
	*verdict = (struct close_verdict){asks ? CLOSE_ASK : hold ? CLOSE_HOLD : CLOSE_FIN_NOW, reason, hold_us};
	if (reason == CLOSE_REASON_PEER_FIRST || reason == CLOSE_REASON_NOT_SERVER)
		return; /* the first is counted by its outcome, the second is not this listener's */
	l->counts.closes++;
	if (asks || hold) {
		place_take(l, &facts->key);
		l->counts.held += hold;
		l->counts.asked += asks;
		if (hold)
			budget_charge(l->steer->budget, now, &facts->key.raddr, l->port);
	} else {
		l->counts.server_first[reason]++;
	}
}

/* ---- learning ---- */

/* The client went on talking: it did not take our last bytes for the end. */
static void listener_on_data(struct listener *l, int64_t now)
{
	bool again = now < l->data_stop_until + l->data_stop_us;
	int64_t us = again ? 2 * l->data_stop_us : DATA_STOP_US;
	l->data_stop_us = us < DATA_STOP_MAX_US ? us : DATA_STOP_MAX_US;
	l->data_stop_until = now + l->data_stop_us;
}

/* One more without an answer: are the clients deaf? */
static bool is_deaf(struct listener *l, int64_t now)
{
	if (l->unanswered++ == 0)
		l->unanswered_since = now;
	return l->unanswered >= UNANSWERED_MAX && now - l->unanswered_since >= UNANSWERED_SPAN_US;
}

/* A client that was asked: nothing to learn of its habits. */
static void on_asked(struct listener *l, int64_t now, const struct close_outcome *out)
{
	place_give(l, &out->key);
	l->counts.answered += out->answered;
	if (out->answered) {
		l->unanswered = 0;
		l->ask_stop_us = 0;
	} else if (out->end == CLOSE_END_EXPIRED && is_deaf(l, now)) {
		int64_t us = l->ask_stop_us ? 2 * l->ask_stop_us : DATA_STOP_US;
		l->ask_stop_us = us < DATA_STOP_MAX_US ? us : DATA_STOP_MAX_US;
		l->ask_stop_until = now + l->ask_stop_us;
		l->unanswered = 0;
	}
	if (out->end == CLOSE_END_PEER_FIN) {
		l->counts.client_first++;
		l->counts.avoided++;
	} else if (out->end == CLOSE_END_EXPIRED || out->end == CLOSE_END_PEER_DATA) {
		l->counts.server_first[CLOSE_REASON_ASKED]++;
	}
}

static void on_late(struct listener *l, const struct close_outcome *out)
{
	prefixes_on_late(&l->prefixes, l->steer->secret, &out->key.raddr, class_of(out->reader),
			 out->end == CLOSE_END_EXPIRED ? out->held_us : -1, out->peer_fin_after_us);
}

/* What a client lost that waited for our FIN: a histogram, each step twice the one before. */
static void delay_added(struct listener *l, int64_t us)
{
	unsigned i = 0;
	while (i + 1 < STEER_DELAYS && us > (int64_t)STEER_DELAY_FIRST_US << i)
		i++;
	l->counts.delays[i]++;
}

static void closed_first(struct listener *l, const struct close_outcome *out)
{
	prefixes_on_closed_first(&l->prefixes, l->steer->secret, &out->key.raddr, class_of(out->reader), out->held_us);
}

static void on_held(struct listener *l, int64_t now, const struct close_outcome *out)
{
	place_give(l, &out->key);
	budget_refund(l->steer->budget, now, &out->key.raddr, l->port);
	switch (out->end) {
	case CLOSE_END_PEER_FIN:
		l->counts.client_first++;
		l->counts.hold_client_fin++;
		l->counts.avoided++;
		budget_charge(l->steer->budget, now, &out->key.raddr, l->port);
		closed_first(l, out);
		break;
	case CLOSE_END_PEER_RST: /* it closed first too, and nobody is in TIME-WAIT */
		l->counts.hold_reset++;
		closed_first(l, out);
		break;
	case CLOSE_END_EXPIRED:
		l->counts.hold_expired++;
		l->counts.server_first[CLOSE_REASON_EXPIRED]++;
		delay_added(l, out->held_us);
		prefixes_on_waited(&l->prefixes, l->steer->secret, &out->key.raddr, class_of(out->reader), out->held_us);
		break;
	case CLOSE_END_PEER_DATA:
		l->counts.hold_data++;
		l->counts.server_first[CLOSE_REASON_DATA]++;
		listener_on_data(l, now);
		break;
	case CLOSE_END_ABANDONED: /* says nothing about clients */
	case CLOSE_END_FIN_SENT:
	case CLOSE_END_PEER_FIRST:
		break;
	}
}

static void steer_outcome(struct close_policy *policy, int64_t now, const struct close_outcome *out)
{
	struct listener *l = listener_of(policy);
	if (out->late) {
		if (!out->asked)
			on_late(l, out);
	} else if (out->asked) {
		on_asked(l, now, out);
	} else if (out->held) {
		on_held(l, now, out);
	} else if (out->end == CLOSE_END_PEER_FIRST) {
		l->counts.closes++;
		l->counts.client_first++;
		budget_charge(l->steer->budget, now, &out->key.raddr, l->port);
	}
}

static const struct close_policy_ops steer_ops[] = {
    [STEER_OFF] = {"off", steer_decide, steer_outcome},
    [STEER_HOLD] = {"hold", steer_decide, steer_outcome},
    [STEER_ADAPTIVE] = {"adaptive", steer_decide, steer_outcome},
};

/* ---- life ---- */

struct budget_table *steer_budget_table_new(const uint8_t secret[16])
{
	return budget_table_new(secret);
}

struct steer *steer_new(const struct steer_config *config, const uint8_t secret[16])
{
	struct steer *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->config = *config;
	memcpy(s->secret, secret, sizeof s->secret);
	s->own_table = config->budget_table ? NULL : budget_table_new(secret);
	struct budget_table *table = s->own_table ? s->own_table : config->budget_table;
	s->budget = table ? budget_new(table) : NULL;
	if (!s->budget) {
		steer_free(s);
		return NULL;
	}
	return s;
}

void steer_free(struct steer *s)
{
	if (!s)
		return;
	budget_free(s->budget);
	budget_table_free(s->own_table);
	free(s);
}

struct close_policy *steer_listener_new(struct steer *s, uint16_t port)
{
	struct listener *l = zeroed_new(sizeof *l); /* close, exec and _exit in a signal handler end one: no malloc */
	if (!l)
		return NULL;
	l->policy.ops = &steer_ops[s->config.kind];
	l->steer = s;
	l->refs = 1;
	l->port = port;
	prefixes_init(&l->prefixes, s->config.hold_max_us);
	return &l->policy;
}

void steer_listener_ref(struct close_policy *p)
{
	listener_of(p)->refs++;
}

void steer_listener_unref(struct close_policy *p)
{
	struct listener *l = listener_of(p);
	assert(l->refs > 0);
	if (--l->refs > 0)
		return;
	l->steer->held -=
	    l->counts
		.held_now; /* an engine that is torn down (a fork's child) reports no outcomes */
	prefixes_fini(&l->prefixes);
	zeroed_free(l, sizeof *l);
}

void steer_listener_time_wait(struct close_policy *p)
{
	listener_of(p)->counts.time_waits++;
}

void steer_listener_counts(const struct close_policy *p, struct steer_counts *out)
{
	const struct listener *l = (const struct listener *)p;
	const struct steer_config *config = &l->steer->config;
	*out = l->counts;
	if (config->kind == STEER_HOLD)
		out->hold_quantile_us =
		    config->hold_us < config->hold_max_us ? config->hold_us : config->hold_max_us;
	if (config->kind == STEER_ADAPTIVE)
		out->hold_quantile_us = prefixes_longest_hold(&l->prefixes, &out->learned_off);
}
