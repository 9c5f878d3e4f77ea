/* The hosts: which connection a segment is for, when a connection's timer is due, and what must hold at every step. */
#include "sim.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tcp/tcp_int.h"

#define MAX_STEPS     UINT64_C(4000000) /* far more than any scenario takes */
#define MAX_TURNS     3 /* a turn after which the deadline is still due is repeated so often; then it is a livelock */
#define EPHEMERAL_MIN 61000

void sim_failed(const struct sim *sim, const char *file, int line, const char *cond, const char *fmt, ...)
{
	char text[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s:%d: seed %llu at %.6f s: %s: %s\n", file, line, (unsigned long long)sim->seed,
		sim->now / 1e6, cond, text);
	ck_abort_msg("%s:%d: seed %llu at %.6f s: %s: %s", file, line, (unsigned long long)sim->seed,
		     sim->now / 1e6, cond, text);
	abort();
}

/* splitmix64 */
static uint64_t next_random(struct sim *sim)
{
	uint64_t z = (sim->rng += UINT64_C(0x9e3779b97f4a7c15));
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint32_t sim_random(struct sim *sim, uint32_t below)
{
	return below ? (uint32_t)(next_random(sim) % below) : 0;
}

bool sim_chance(struct sim *sim, uint32_t ppm)
{
	return ppm && next_random(sim) % 1000000 < ppm;
}

struct sim *sim_new(uint64_t seed)
{
	struct sim *sim = calloc(1, sizeof *sim);
	sim->seed = sim->rng = seed;
	sim->now = 1000 * USEC_PER_SEC + sim_random(sim, 1000000);
	sim->mss = 1460;
	sim->trace_hash = UINT64_C(0xcbf29ce484222325);
	sim->trace = getenv("FINESSE_SIM_TRACE") != NULL;
	for (int i = 0; i < SIM_HOSTS; i++) {
		struct sim_host *h = &sim->host[i];
		uint8_t secret[32], addr[4] = {10, 0, 0, (uint8_t)(i + 1)};
		struct tcp_config config;
		for (size_t j = 0; j < sizeof secret; j++)
			secret[j] = (uint8_t)sim_random(sim, 256);
		tcp_config_default(&config);
		test_memory_init(&h->memory);
		tcp_stack_init(&h->stack, &config, &h->memory.memory, secret);
		h->stack.random = next_random(sim);
		h->addr = ip_addr_from_v4(addr);
		h->sim = sim;
		sim->cc[i] = &tcp_cc_cubic;
	}
	return sim;
}

void sim_free(struct sim *sim)
{
	sim_link_clear(sim);
	for (int i = 0; i < SIM_HOSTS; i++) {
		struct sim_host *h = &sim->host[i];
		for (struct sim_conn *c = h->conns, *next; c; c = next) {
			next = c->next;
			if (c->live)
				tcp_fini(&c->tcp);
			free(c);
		}
		for (struct sim_tw *t = h->tws, *next; t; t = next) {
			next = t->next;
			free(t);
		}
		sim_check(sim, h->memory.live_blocks == 0, "host %d leaks %llu bytes", i,
			  (unsigned long long)h->memory.live_bytes);
	}
	free(sim);
}

void sim_set_link(struct sim *sim, const struct sim_link *link)
{
	for (int i = 0; i < SIM_HOSTS; i++)
		sim->link[i] = *link;
}

static struct sim_host *host_of(const struct sim_conn *c)
{
	return &c->sim->host[c->host];
}

struct sim_emit {
	struct tcp_emit emit;
	struct sim_conn *conn;
	int segments;
};

static void emit_segment(struct tcp_emit *emit, struct tcp_conn *tcp, const struct tcp_segment *seg,
			 uint16_t gso_size)
{
	struct sim_emit *e = (struct sim_emit *)emit;
	struct sim_conn *c = e->conn;
	struct sim *sim = c->sim;
	struct tcp_status st;
	sim_check(sim, tcp == &c->tcp, "emit for another connection");
	sim_check(sim, seg->sport == c->key.lport && seg->dport == c->key.rport, "ports");
	tcp_get_status(tcp, &st);
	if (seg->flags & SEG_ACK)
		sim_check(sim, seg->ack == st.rcv_nxt, "ACK %u, RCV.NXT %u", seg->ack, st.rcv_nxt);
	if (seg->flags & SEG_FIN)
		sim_check(sim, tcp_send_closed(tcp), "FIN before a close");
	e->segments++;
	sim_link_send(sim, c->host, seg, gso_size);
}

static void conn_gone(struct sim_conn *c)
{
	struct sim_host *h = host_of(c);
	struct sim *sim = h->sim;
	if (tcp_state(&c->tcp) == TCPS_TIME_WAIT) {
		struct sim_tw *t = calloc(1, sizeof *t);
		tcp_tw_enter(&t->tw, &c->tcp, sim->now);
		t->key = c->key;
		t->next = h->tws;
		h->tws = t;
		h->tw_entered++;
	}
	c->last_state = tcp_state(&c->tcp);
	c->first_fin = tcp_first_fin(&c->tcp);
	tcp_fini(&c->tcp);
	c->live = false;
	c->gone = true;
	c->gone_at = sim->now;
}

/* The short question must be as right as the long ones. */
static void must_see_idle(const struct tcp_conn *c)
{
	if (!output_is_idle(c))
		return;
	struct out o = output_next(c);
	ck_assert(o.kind == OUT_NONE && o.blocked == BLOCKED_NOT);
}

/* One turn as the contract describes it, repeated while the application has something to do. */
static void service(struct sim_conn *c)
{
	struct sim *sim = c->sim;
	for (int turns = 0;; turns++) {
		sim_check(sim, turns < MAX_TURNS + 1000, "the application never comes to rest");
		uint32_t events = tcp_take_events(&c->tcp);
		sim_app_events(c, events);
		sim_app_run(c);
		if (tcp_next_deadline(&c->tcp) <= sim->now)
			tcp_tick(&c->tcp, sim->now);
		struct sim_emit e = {{.segment = emit_segment}, c, 0};
		must_see_idle(&c->tcp);
		tcp_output(&c->tcp, sim->now, &e.emit);
		must_see_idle(&c->tcp);
		tcp_get_status(&c->tcp, &c->status);
		sim_check(sim, (int32_t)(c->status.snd_nxt - c->status.snd_una) >= 0, "SND.NXT < SND.UNA");
		bool due = tcp_next_deadline(&c->tcp) <= sim->now;
		events = tcp_take_events(&c->tcp);
		if (events)
			sim_app_events(c, events);
		if (!events && !due)
			break;
		if (!events)
			sim_check(sim, turns < MAX_TURNS, "deadline %lld is due after the turn, in %s",
				  (long long)(tcp_next_deadline(&c->tcp) - sim->now),
				  tcp_state_name(tcp_state(&c->tcp)));
		sim_app_run(c);
	}
	enum tcp_state state = tcp_state(&c->tcp);
	if (c->closed && (state == TCPS_CLOSED || (state == TCPS_TIME_WAIT && sim->move_tw)))
		conn_gone(c);
	else
		sim_check(sim, state != TCPS_CLOSED || c->error || c->eof || c->aborted,
			  "CLOSED and nobody told the application");
}

void sim_poke(struct sim_conn *c)
{
	service(c);
}

void sim_close(struct sim_conn *c)
{
	c->closed = c->shut = true;
	tcp_close(&c->tcp, c->sim->now, false, false);
}

void sim_abort(struct sim_conn *c)
{
	c->closed = c->shut = c->aborted = true;
	tcp_abort(&c->tcp, c->sim->now);
}

/* ---- opening ---- */

static struct sim_conn *conn_new(struct sim_host *h, const struct flow_key *key, const struct sim_app *app)
{
	struct sim_conn *c = calloc(1, sizeof *c), **end = &h->conns;
	c->sim = h->sim;
	c->key = *key;
	c->host = (int)(h - h->sim->host);
	sim_app_start(c, app);
	while (*end)
		end = &(*end)->next;
	*end = c;
	return c;
}

static void fill_open(struct sim_host *h, const struct flow_key *key, const struct sim_app *app,
		      struct tcp_open *open)
{
	struct sim *sim = h->sim;
	*open = (struct tcp_open){
		.key = *key,
		.mss_advertised = sim->mss,
		.mss_path = sim->mss,
		.gso_max_bytes = sim->gso_max_bytes,
		.cc = sim->cc[h - sim->host],
		.policy = app->policy,
		.iss = sim->iss_wraps ? UINT32_MAX - sim_random(sim, 4000) : tcp_isn(&h->stack, sim->now, key),
		.ts_offset = tcp_ts_offset(&h->stack, key),
	};
	if (app->has_options)
		open->options = app->options;
	else
		tcp_options_default(&open->options);
}

/* What the application at `host` writes, its peer must read. */
static void set_salts(struct sim_conn *c, uint16_t server_port)
{
	c->salt_out = (uint8_t)(server_port * 2 + c->host);
	c->salt_in = (uint8_t)(server_port * 2 + !c->host);
	if (c->app.reads_own)
		c->salt_in = c->salt_out;
}

static struct sim_conn *find_conn(struct sim_host *h, const struct flow_key *key)
{
	for (struct sim_conn *c = h->conns; c; c = c->next)
		if (c->live && flow_key_equal(&c->key, key))
			return c;
	return NULL;
}

static struct sim_tw **find_tw(struct sim_host *h, const struct flow_key *key)
{
	struct sim_tw **t = &h->tws;
	while (*t && !flow_key_equal(&(*t)->key, key))
		t = &(*t)->next;
	return t;
}

static void tw_free(struct sim_tw **t)
{
	struct sim_tw *gone = *t;
	*t = gone->next;
	free(gone);
}

struct sim_conn *sim_connect(struct sim *sim, int host, uint16_t lport, uint16_t rport,
			     const struct sim_app *app)
{
	struct sim_host *h = &sim->host[host];
	struct flow_key key = {h->addr, sim->host[!host].addr, lport ? lport : EPHEMERAL_MIN, rport};
	while (!lport && (find_conn(h, &key) || *find_tw(h, &key)))
		key.lport++;
	if (find_conn(h, &key))
		return NULL;
	struct tcp_open open;
	fill_open(h, &key, app, &open);
	struct sim_tw **tw = find_tw(h, &key);
	if (*tw) {
		uint32_t iss_min;
		if (!tcp_tw_may_reuse(&(*tw)->tw, sim->now, TCP_TW_REUSE_US, &iss_min))
			return NULL;
		open.iss = tcp_iss_at_least(open.iss, iss_min);
		tw_free(tw);
	}
	struct sim_conn *c = conn_new(h, &key, app);
	int err = tcp_open_active(&c->tcp, &h->stack, sim->now, &open);
	sim_check(sim, err == 0, "tcp_open_active: %d", err);
	c->live = true;
	set_salts(c, rport);
	service(c);
	return c;
}

void sim_listen(struct sim *sim, int host, uint16_t port, const struct sim_app *app)
{
	struct sim_host *h = &sim->host[host];
	h->listeners[h->n_listeners++] = (struct sim_listener){port, *app};
}

struct sim_conn *sim_peer(struct sim *sim, const struct sim_conn *c)
{
	const struct flow_key *k = &c->key;
	for (struct sim_conn *p = sim->host[!c->host].conns; p; p = p->next)
		if (p->key.lport == k->rport && p->key.rport == k->lport)
			return p;
	return NULL;
}

/* ---- a segment arrives ---- */

static bool listener_input(struct sim_host *h, const struct flow_key *key, const struct tcp_segment *seg,
			   uint32_t iss_min, bool has_min)
{
	if ((seg->flags & (SEG_SYN | SEG_ACK | SEG_RST)) != SEG_SYN)
		return false;
	for (int i = 0; i < h->n_listeners; i++) {
		struct sim_listener *l = &h->listeners[i];
		if (l->port != key->lport)
			continue;
		struct tcp_open open;
		fill_open(h, key, &l->app, &open);
		if (has_min)
			open.iss = tcp_iss_at_least(open.iss, iss_min);
		struct sim_conn *c = conn_new(h, key, &l->app);
		c->accepted = true;
		int err = tcp_open_passive(&c->tcp, &h->stack, h->sim->now, &open, seg);
		sim_check(h->sim, err == 0, "tcp_open_passive: %d", err);
		c->live = true;
		set_salts(c, key->lport);
		service(c);
		return true;
	}
	return false;
}

static bool tw_input(struct sim_host *h, const struct flow_key *key, const struct tcp_segment *seg)
{
	struct sim_tw **t = find_tw(h, key);
	struct tcp_segment reply;
	uint32_t iss_min;
	if (!*t)
		return false;
	switch (tcp_tw_input(&(*t)->tw, &h->stack, h->sim->now, seg, &reply, &iss_min)) {
	case TW_REPLY:
		sim_link_send(h->sim, (int)(h - h->sim->host), &reply, 0);
		break;
	case TW_REUSE:
		tw_free(t);
		return listener_input(h, key, seg, iss_min, true);
	case TW_GONE:
		tw_free(t);
		break;
	case TW_DROP:
		break;
	}
	return true;
}

static void host_input(struct sim_host *h, const struct tcp_segment *seg)
{
	struct sim *sim = h->sim;
	struct flow_key key = {h->addr, sim->host[h == sim->host].addr, seg->dport, seg->sport};
	struct sim_conn *c = find_conn(h, &key);
	struct tcp_segment rst;
	if (c) {
		tcp_input(&c->tcp, sim->now, seg);
		service(c);
		return;
	}
	if (tw_input(h, &key, seg) || listener_input(h, &key, seg, 0, false))
		return;
	if (tcp_reset_for(seg, &rst))
		sim_link_send(sim, (int)(h - sim->host), &rst, 0);
}

void sim_frag_needed(struct sim *sim, int host, const struct tcp_segment *seg, uint16_t mss)
{
	struct sim_host *h = &sim->host[host];
	struct flow_key key = {h->addr, sim->host[!host].addr, seg->sport, seg->dport};
	struct sim_conn *c = find_conn(h, &key);
	if (!c)
		return;
	tcp_on_frag_needed(&c->tcp, sim->now, mss, seg->seq);
	service(c);
}

/* ---- time ---- */

int64_t sim_next_event(struct sim *sim)
{
	int64_t next = sim_link_next(sim), at;
	for (int i = 0; i < SIM_HOSTS; i++) {
		struct sim_host *h = &sim->host[i];
		if (h->dead)
			continue;
		for (struct sim_conn *c = h->conns; c; c = c->next) {
			if (!c->live)
				continue;
			if ((at = tcp_next_deadline(&c->tcp)) < next)
				next = at;
			if ((at = sim_app_next(c)) < next)
				next = at;
		}
	}
	return next;
}

static void run_timers(struct sim_host *h)
{
	struct sim *sim = h->sim;
	if (h->dead)
		return;
	for (struct sim_conn *c = h->conns; c; c = c->next)
		if (c->live && (tcp_next_deadline(&c->tcp) <= sim->now || sim_app_next(c) <= sim->now))
			service(c);
	for (struct sim_tw **t = &h->tws; *t;) {
		if ((*t)->tw.expires_us <= sim->now)
			tw_free(t);
		else
			t = &(*t)->next;
	}
}

void sim_run(struct sim *sim, int64_t until)
{
	for (;;) {
		int64_t next = sim_next_event(sim);
		if (next > until)
			break;
		sim_check(sim, next >= sim->now || sim_link_next(sim) == next, "time runs backwards");
		sim_check(sim, sim->steps++ < MAX_STEPS, "no end in sight");
		if (next > sim->now)
			sim->now = next;
		int to;
		struct tcp_segment seg;
		while (sim_link_receive(sim, &to, &seg))
			host_input(&sim->host[to], &seg);
		for (int i = 0; i < SIM_HOSTS; i++)
			run_timers(&sim->host[i]);
	}
	if (until != TIME_NEVER && sim->now < until)
		sim->now = until;
}

static struct sim_conn *any_live(struct sim *sim)
{
	for (int i = 0; i < SIM_HOSTS; i++)
		for (struct sim_conn *c = sim->host[i].conns; c; c = c->next)
			if (c->live && !sim->host[i].dead)
				return c;
	return NULL;
}

void sim_run_to_end(struct sim *sim, int64_t limit_us)
{
	int64_t limit = sim->now + limit_us;
	struct sim_conn *c;
	while ((c = any_live(sim))) {
		int64_t next = sim_next_event(sim);
		sim_check(sim, next <= limit, "host %d hangs in %s: sent %llu, read %llu%s%s, next event in %.3f s",
			  c->host, tcp_state_name(tcp_state(&c->tcp)), (unsigned long long)c->sent,
			  (unsigned long long)c->rcvd, c->eof ? ", EOF" : "", c->closed ? ", closed" : "",
			  next == TIME_NEVER ? -1.0 : (next - sim->now) / 1e6);
		sim_run(sim, next);
	}
}

void sim_reboot(struct sim_host *h)
{
	for (struct sim_conn *c = h->conns; c; c = c->next) {
		if (!c->live)
			continue;
		c->last_state = tcp_state(&c->tcp);
		tcp_fini(&c->tcp);
		c->live = false;
		c->gone = true;
	}
	while (h->tws)
		tw_free(&h->tws);
}
