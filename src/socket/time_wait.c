/*
 * TIME-WAIT without a socket: the engine's compact store.
 *
 * Owns one record per connection in TIME-WAIT, 64 bytes for IPv4 and 88 (of a class of 128) for IPv6, links and key
 * included; a hash table of chains by 4-tuple, keyed with the engine's secret; and a queue in the order of expiry.
 * Every record waits for the same 2 MSL, and who starts it anew goes to the queue's end: so the queue is sorted, the
 * first is the next to go, and nothing is ever searched. (A timing wheel would find the same, and round the time.)
 *
 * src/tcp/tw.c judges segments and knows nothing of this: for each, the record is unpacked to its struct tcp_tw, and
 * packed again. What is not stored is derived: the timestamp offset from the 4-tuple, the age of the peer's timestamp
 * from the time of entry.
 *
 * The table doubles and halves with the number of records, a few chains at each operation: no operation waits for all
 * of them. Memory comes from the engine's pool and goes back to it; without memory there is no TIME-WAIT, as in Linux.
 *
 * A record keeps its connection's entry in the classifier, and is counted there while the host judges. The cheap places
 * there (kernel/classifier_prog.h) are few, and a minute is long: so each CLASSIFIER_STAY_AT_ONCE records the
 * classifier is told of those that came, and where records expire together, their entries go together.
 *
 * Limits: TIME_WAITS_MAX records, and a quarter of the setting memory-limit; beyond, the oldest goes early, and is
 * counted. The spacing of replies is kept in steps of 64 ms.
 */
#include "socket/engine.h"
#include "socket/process_ops.h"

#include "base/log.h"
#include "base/zeroed.h"

#include <errno.h>
#include <string.h>

#define TIME_WAITS_MAX  (4u << 20) /* 256 MiB of IPv4 records: a minute of 70,000 closes a second */
#define TIME_WAITS_SHARE 4        /* of the engine's memory, a quarter */
#define BUCKETS_MIN     256u
#define MOVED_AT_ONCE   8 /* chains, per operation while the table changes its size */
#define LEFT_AT_ONCE    8192 /* a millisecond or two, for which a server's reload waits */
#define ENTRIES_AT_ONCE 64
#define REPLY_STEP_US   (64 * USEC_PER_MSEC)
#define REPLY_STEPS_MAX 0x7fff

enum { TW_V6 = 1, TW_TIMESTAMPS = 2, TW_EXACT = 4, TW_GROUP = 8 }; /* four bits */

struct time_wait {
	struct time_wait *next;
	struct list node; /* time_waits.queue */
	int64_t expires_us;
	uint32_t snd_nxt, rcv_nxt, rcv_wnd, ts_recent;
	uint16_t lport, rport;
	uint16_t reply_steps : 15, reuse : 1; /* reuse: SO_REUSEADDR. reply_steps: until then no spaced reply: steps after entry; 0: any time */
	uint8_t wscale : 4, flags : 4;
	uint8_t tos; /* the replies': IP_TOS or IPV6_TCLASS */
	uint8_t addrs[]; /* local, remote: 4 or 16 bytes each */
};

_Static_assert(sizeof(struct time_wait) + 8 == 64, "an IPv4 record fills its class of the pool");

static size_t record_bytes(bool v6)
{
	return sizeof(struct time_wait) + (v6 ? 32 : 8);
}

static struct flow_key key_of(const struct time_wait *tw)
{
	struct flow_key key = {.lport = tw->lport, .rport = tw->rport};
	if (tw->flags & TW_V6) {
		memcpy(key.laddr.b, tw->addrs, 16);
		memcpy(key.raddr.b, tw->addrs + 16, 16);
	} else {
		key.laddr = ip_addr_from_v4(tw->addrs);
		key.raddr = ip_addr_from_v4(tw->addrs + 4);
	}
	return key;
}

static void key_store(struct time_wait *tw, const struct flow_key *key)
{
	tw->lport = key->lport;
	tw->rport = key->rport;
	if (tw->flags & TW_V6) {
		memcpy(tw->addrs, key->laddr.b, 16);
		memcpy(tw->addrs + 16, key->raddr.b, 16);
	} else {
		memcpy(tw->addrs, key->laddr.b + 12, 4);
		memcpy(tw->addrs + 4, key->raddr.b + 12, 4);
	}
}

static bool has_key(const struct time_wait *tw, const struct flow_key *key, bool v6)
{
	if (tw->lport != key->lport || tw->rport != key->rport || !!(tw->flags & TW_V6) != v6)
		return false;
	if (v6)
		return memcmp(tw->addrs + 16, key->raddr.b, 16) == 0 && memcmp(tw->addrs, key->laddr.b, 16) == 0;
	return memcmp(tw->addrs + 4, key->raddr.b + 12, 4) == 0 && memcmp(tw->addrs, key->laddr.b + 12, 4) == 0;
}

/* ---- the table ---- */

/* The chain of a key: in the old table as long as that part of it has not moved. */
static struct time_wait **chain(struct time_waits *t, const struct flow_key *key)
{
	uint32_t h = flow_hash(t->hasher, key);
	uint32_t old = h & (t->n_old - 1);
	if (t->n_old && old >= t->moved)
		return &t->old[old];
	return &t->buckets[h & (t->n_buckets - 1)];
}

static void move_chain(struct time_waits *t, uint32_t i)
{
	for (struct time_wait *tw = t->old[i], *next; tw; tw = next) {
		struct flow_key key = key_of(tw);
		struct time_wait **to = &t->buckets[flow_key_hash(&key, t->hasher->secret) & (t->n_buckets - 1)];
		next = tw->next;
		tw->next = *to;
		*to = tw;
	}
}

static void move_some(struct time_waits *t)
{
	for (int i = 0; i < MOVED_AT_ONCE && t->n_old; i++) {
		move_chain(t, t->moved++);
		if (t->moved == t->n_old) {
			zeroed_free(t->old, t->n_old * sizeof *t->old);
			t->old = NULL;
			t->n_old = t->moved = 0;
		}
	}
}

static void resize(struct time_waits *t, uint32_t n)
{
	struct time_wait **buckets = zeroed_new(n * sizeof *buckets);
	if (!buckets)
		return; /* longer chains, nothing else */
	t->old = t->buckets;
	t->n_old = t->n_buckets;
	t->moved = 0;
	t->buckets = buckets;
	t->n_buckets = n;
}

static void adapt(struct time_waits *t)
{
	move_some(t);
	if (t->n_old)
		return;
	if (t->n > t->n_buckets)
		resize(t, t->n_buckets * 2);
	else if (t->n < t->n_buckets / 8 && t->n_buckets > BUCKETS_MIN)
		resize(t, t->n_buckets / 2);
}

int time_waits_init(struct time_waits *t, struct flow_hasher *hasher)
{
	*t = (struct time_waits){.n_buckets = BUCKETS_MIN};
	list_init(&t->queue);
	t->hasher = hasher;
	t->buckets = zeroed_new(BUCKETS_MIN * sizeof *t->buckets);
	return t->buckets ? 0 : -ENOMEM;
}

/* The records are in the pool, which goes as a whole. */
void time_waits_fini(struct time_waits *t)
{
	zeroed_free(t->buckets, t->n_buckets * sizeof *t->buckets);
	zeroed_free(t->old, t->n_old * sizeof *t->old);
	t->buckets = t->old = NULL;
	t->n = t->n_buckets = t->n_old = t->moved = 0;
	list_init(&t->queue);
}

struct time_wait *time_wait_find(struct engine *e, const struct flow_key *key)
{
	struct time_waits *t = &e->time_waits;
	if (!t->n)
		return NULL;
	bool v6 = !flow_key_is_v4(key);
	struct time_wait *tw = *chain(t, key);
	while (tw && !has_key(tw, key, v6))
		tw = tw->next;
	return tw;
}

/* ---- packing ---- */

static void unpack(struct engine *e, const struct time_wait *tw, const struct flow_key *key, struct tcp_tw *out)
{
	int64_t entered = tw->expires_us - e->tcp.config.time_wait_us;
	*out = (struct tcp_tw){
		.snd_nxt = tw->snd_nxt,
		.rcv_nxt = tw->rcv_nxt,
		.rcv_wnd = tw->rcv_wnd,
		.ts_recent = tw->ts_recent,
		.ts_offset = tcp_ts_offset(&e->tcp, key),
		.rcv_wscale = tw->wscale,
		.timestamps = tw->flags & TW_TIMESTAMPS,
		.ts_recent_age_us = entered,
		.expires_us = tw->expires_us,
		.reply_after_us = tw->reply_steps ? entered + tw->reply_steps * REPLY_STEP_US : 0,
	};
}

static void pack(struct engine *e, struct time_wait *tw, const struct tcp_tw *in)
{
	int64_t entered = in->expires_us - e->tcp.config.time_wait_us;
	int64_t steps = (in->reply_after_us - entered + REPLY_STEP_US - 1) / REPLY_STEP_US;
	tw->snd_nxt = in->snd_nxt;
	tw->rcv_nxt = in->rcv_nxt;
	tw->rcv_wnd = in->rcv_wnd;
	tw->ts_recent = in->ts_recent;
	tw->wscale = in->rcv_wscale;
	tw->expires_us = in->expires_us;
	tw->reply_steps = steps > 0 && steps <= REPLY_STEPS_MAX ? (uint16_t)steps : 0;
}

/* ---- life ---- */

/* A new connection may have taken the 4-tuple over, and with it the entry in the classifier. */
static bool has_entry(const struct engine *e, const struct flow_key *key)
{
	const struct flow *f = demux_find(&e->demux, key);
	return f && container_of(f, struct sock, flow)->exact;
}

/* True: its entry in the classifier is left, and nobody's. */
static bool take_out(struct engine *e, struct time_wait *tw, struct flow_key *out)
{
	struct time_waits *t = &e->time_waits;
	struct flow_key key = *out = key_of(tw);
	if (e->taken_ports.n)
		taken_ports_count(e, &key, -1);
	struct time_wait **at = chain(t, &key);
	while (*at != tw)
		at = &(*at)->next;
	*at = tw->next;
	list_unlink(&tw->node);
	if (e->judged)
		classifier_count_conn(e->classifier, &key, -1);
	bool left = (tw->flags & TW_EXACT) && !has_entry(e, &key);
	if ((tw->flags & TW_GROUP) && !demux_find(&e->demux, &key)) /* a new connection may have taken it over */
		process_ops->flow_ends(e, &key);
	t->n--;
	t->bytes -= record_bytes(tw->flags & TW_V6);
	engine_free(e, tw, record_bytes(tw->flags & TW_V6));
	adapt(t);
	return left;
}

void time_wait_free(struct engine *e, struct time_wait *tw)
{
	struct flow_key key;
	if (take_out(e, tw, &key))
		classifier_del_flow(e->classifier, &key);
}

void time_wait_make_way(struct engine *e, struct time_wait *tw)
{
	struct flow_key key;
	if (take_out(e, tw, &key))
		parting_add(e, &key, PARTING_EXACT);
}

/* Its entry stays for a minute. */
static void note_entered(struct engine *e, const struct flow_key *key)
{
	struct time_waits *t = &e->time_waits;
	t->entered[t->n_entered++] = *key;
	if (t->n_entered < CLASSIFIER_STAY_AT_ONCE)
		return;
	classifier_flows_stay(e->classifier, t->entered, t->n_entered);
	t->n_entered = 0;
}

static struct time_wait *first_of(const struct time_waits *t)
{
	const struct list *pos = list_first(&t->queue);
	return pos ? container_of(pos, struct time_wait, node) : NULL;
}

void time_wait_add(struct engine *e, struct sock *s)
{
	struct time_waits *t = &e->time_waits;
	const struct flow_key *key = &s->flow.key;
	bool v6 = !flow_key_is_v4(key);
	if (t->n && (t->n == TIME_WAITS_MAX || t->bytes >= e->pool.share_bytes / TIME_WAITS_SHARE)) {
		e->counters[SOCKC_TimeWaitEvicted]++;
		time_wait_free(e, first_of(t));
	}
	struct time_wait *tw = engine_alloc(e, record_bytes(v6));
	if (!tw) { /* as Linux: without memory there is no TIME-WAIT */
		e->counters[SOCKC_TimeWaitEvicted]++;
		log_debug("engine", "no memory for a TIME-WAIT");
		return;
	}
	struct tcp_tw full;
	tcp_tw_enter(&full, &s->tcp, e->now);
	pack(e, tw, &full);
	tw->flags = (v6 ? TW_V6 : 0) | (full.timestamps ? TW_TIMESTAMPS : 0) | (s->exact ? TW_EXACT : 0) | (s->in_group ? TW_GROUP : 0);
	tw->tos = s->ip.tos[v6];
	tw->reuse = s->reuseaddr;
	process_ops->time_wait_began(e, s);
	taken_ports_time_wait(e, s);
	if (e->taken_ports.n)
		taken_ports_count(e, key, 1);
	if (e->judged)
		classifier_count_conn(e->classifier, key, 1);
	s->exact = false; /* the entry in the classifier goes on with us */
	sock_leave_demux(e, s);
	key_store(tw, key);
	struct time_wait **at = chain(t, key);
	tw->next = *at;
	*at = tw;
	list_init(&tw->node);
	list_push_back(&t->queue, &tw->node);
	t->n++;
	t->bytes += record_bytes(v6);
	if (tw->flags & TW_EXACT)
		note_entered(e, key);
	e->counters[SOCKC_TimeWaits]++;
	if (s->policy)
		steer_listener_time_wait(s->policy);
	adapt(t);
}

static void expire(struct engine *e)
{
	struct flow_key keys[ENTRIES_AT_ONCE];
	size_t n = 0;
	for (struct time_wait *tw; (tw = first_of(&e->time_waits)) && tw->expires_us <= e->now;) {
		n += take_out(e, tw, &keys[n]);
		if (n == ENTRIES_AT_ONCE) {
			classifier_del_flows(e->classifier, keys, n);
			n = 0;
		}
	}
	classifier_del_flows(e->classifier, keys, n);
}

void time_wait_expire(struct engine *e)
{
	if (time_wait_deadline(e) <= e->now) /* seldom: each turn comes by here */
		expire(e);
}

int64_t time_wait_deadline(const struct engine *e)
{
	const struct time_wait *tw = first_of(&e->time_waits);
	return tw ? tw->expires_us : TIME_NEVER;
}

/* ---- use ---- */

enum tw_verdict time_wait_input(struct engine *e, struct time_wait *tw, const struct flow_key *key, const struct tcp_segment *seg,
				struct tcp_segment *reply, uint32_t *iss_min)
{
	struct tcp_tw full;
	unpack(e, tw, key, &full);
	int64_t expires = full.expires_us;
	enum tw_verdict verdict = tcp_tw_input(&full, &e->tcp, e->now, seg, reply, iss_min);
	if (verdict == TW_REUSE)
		return verdict;
	if (verdict == TW_GONE) {
		time_wait_free(e, tw);
		return verdict;
	}
	pack(e, tw, &full);
	if (full.expires_us != expires) { /* 2 MSL restarted: the queue stays sorted */
		list_unlink(&tw->node);
		list_push_back(&e->time_waits.queue, &tw->node);
	}
	return verdict;
}

bool time_wait_may_reuse(struct engine *e, const struct time_wait *tw, int64_t after_us, uint32_t *iss_min)
{
	struct flow_key key = key_of(tw);
	struct tcp_tw full;
	unpack(e, tw, &key, &full);
	return tcp_tw_may_reuse(&full, e->now, after_us, iss_min);
}

bool time_wait_stamp(const struct time_wait *tw, uint32_t *ts_recent)
{
	*ts_recent = tw->ts_recent;
	return tw->flags & TW_TIMESTAMPS;
}

/*
 * The listening port goes: each needs an entry of its own in the classifier. Not if it would keep the program from
 * listening there anew.
 */
void time_wait_keep(struct engine *e, uint16_t port)
{
	if (classifier_holds_ports(e->classifier))
		return;
	list_for_each (pos, tmp, &e->time_waits.queue) {
		struct time_wait *tw = container_of(pos, struct time_wait, node);
		struct flow_key key = key_of(tw);
		if (!(tw->flags & TW_EXACT) && tw->lport == port && classifier_add_flow(e->classifier, &key) == 0)
			tw->flags |= TW_EXACT;
	}
}

void time_waits_count(struct engine *e, int by)
{
	list_for_each (pos, tmp, &e->time_waits.queue) {
		struct flow_key key = key_of(container_of(pos, struct time_wait, node));
		classifier_count_conn(e->classifier, &key, by);
	}
}

void time_waits_visit_port(const struct engine *e, uint16_t lport, bool but_reusable, struct time_wait_visit *v)
{
	list_for_each (pos, tmp, &e->time_waits.queue) {
		struct time_wait *tw = container_of(pos, struct time_wait, node);
		struct flow_key key = key_of(tw);
		if (tw->lport == lport && !(but_reusable && tw->reuse))
			v->each(v, &key);
	}
}

void time_waits_enter_group(struct engine *e, uint16_t port, struct time_wait_visit *v)
{
	list_for_each (pos, tmp, &e->time_waits.queue) {
		struct time_wait *tw = container_of(pos, struct time_wait, node);
		struct flow_key key = key_of(tw);
		if ((tw->flags & (TW_EXACT | TW_GROUP)) || tw->lport != port)
			continue;
		v->each(v, &key);
		tw->flags |= TW_GROUP;
	}
}

uint8_t time_wait_tos(const struct time_wait *tw)
{
	return tw->tos;
}

bool time_wait_is_in_group(const struct time_wait *tw)
{
	return tw->flags & TW_GROUP;
}

void time_waits_leave_group(struct engine *e, uint16_t port)
{
	struct flow_key keys[ENTRIES_AT_ONCE];
	unsigned n = 0, left = 0;
	list_for_each (pos, tmp, &e->time_waits.queue) {
		struct time_wait *tw = container_of(pos, struct time_wait, node);
		struct flow_key key = key_of(tw);
		if (tw->lport != port || !(tw->flags & TW_GROUP))
			continue;
		if (!demux_find(&e->demux, &key)) /* as time_wait_free */
			keys[n++] = key;
		tw->flags &= ~TW_GROUP;
		time_wait_free(e, tw);
		if (n == ENTRIES_AT_ONCE) {
			process_ops->flows_end(e, keys, n);
			n = 0;
		}
		if (++left == LEFT_AT_ONCE)
			break;
	}
	process_ops->flows_end(e, keys, n);
}
