/*
 * What a connection leaves behind for a moment: its entry in the classifier, or what stands for it there (its count,
 * where the host judges).
 *
 * The packet socket gets a frame before the classifier decides about it. When the engine is quick, on another CPU, the
 * last ACK of a connection has retired it before the classifier sees that very frame: with the entry gone, the frame
 * would go up to the kernel, which answers it with RST. So an entry goes only PARTING_US after its connection, and up
 * to as long again, so that many go by one system call. Its local port does not wait: a program may bind it again at
 * once, as on Linux, and an entry is no obstacle to the next connection.
 *
 * Owns one record per connection that ended within PARTING_US, oldest first. An entry whose 4-tuple is in use again
 * when its time has come belongs to that use. Without memory for a record it goes at once. After a death of the process
 * the kernel ends it.
 */
#include "socket/engine.h"
#include "socket/process_ops.h"

#define PARTING_US (20 * USEC_PER_MSEC) /* far more than a softirq is late, far less than a port is missed */
#define GONE_AT_ONCE 64

struct parting {
	struct list node; /* engine.partings */
	struct flow_key key;
	int64_t until_us;
	unsigned left; /* enum parting_left */
};

/* Entries that go together. */
struct gone {
	struct flow_key keys[GONE_AT_ONCE];
	size_t n;
};

static void gone_flush(struct engine *e, struct gone *gone)
{
	classifier_del_flows(e->classifier, gone->keys, gone->n);
	gone->n = 0;
}

static void taken_away(struct engine *e, struct gone *gone, const struct flow_key *key)
{
	if (gone->n == GONE_AT_ONCE)
		gone_flush(e, gone);
	gone->keys[gone->n++] = *key;
}

static void part(struct engine *e, struct gone *gone, const struct flow_key *key, unsigned left)
{
	if (left & PARTING_COUNT)
		classifier_count_conn(e->classifier, key, -1);
	if ((left & (PARTING_EXACT | PARTING_GROUP)) && (demux_find(&e->demux, key) || time_wait_find(e, key)))
		return;
	if (left & PARTING_EXACT)
		taken_away(e, gone, key);
	if (left & PARTING_GROUP)
		process_ops->flow_ends(e, key);
}

void parting_add(struct engine *e, const struct flow_key *key, unsigned left)
{
	if (!left)
		return;
	struct parting *p = engine_alloc(e, sizeof *p);
	if (!p) {
		struct gone gone = {.n = 0};
		part(e, &gone, key, left);
		gone_flush(e, &gone);
		return;
	}
	*p = (struct parting){.key = *key, .until_us = e->now + PARTING_US, .left = left};
	list_init(&p->node);
	list_push_back(&e->partings, &p->node);
}

bool partings_have(const struct engine *e, const struct flow_key *key)
{
	list_for_each (pos, tmp, &e->partings)
		if (flow_key_equal(&container_of(pos, struct parting, node)->key, key))
			return true;
	return false;
}

void partings_forget(struct engine *e)
{
	list_init(&e->partings);
}

void partings_sweep(struct engine *e)
{
	struct gone gone;
	if (partings_deadline(e) > e->now)
		return;
	gone.n = 0;
	for (struct list *pos; (pos = list_first(&e->partings));) {
		struct parting *p = container_of(pos, struct parting, node);
		if (p->until_us > e->now)
			break;
		list_unlink(pos);
		part(e, &gone, &p->key, p->left);
		engine_free(e, p, sizeof *p);
	}
	gone_flush(e, &gone);
}

int64_t partings_deadline(const struct engine *e)
{
	const struct list *first = list_first(&e->partings);
	return first ? container_of(first, struct parting, node)->until_us + PARTING_US : TIME_NEVER;
}
