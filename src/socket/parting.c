/*
 * What a connection leaves behind for a moment: its entry in the classifier, and its kernel socket's hold on the local port.
 *
 * The packet socket gets a frame before the classifier decides about it. When the engine is quick, on another CPU, the last ACK of a connection has
 * retired it before the classifier sees that very frame: with the entry gone, the frame would go up to the kernel, which answers it with RST. So an
 * entry goes only PARTING_US after its connection, and up to as long again, so that many go by one system call. And while the connection lives after its application's close, the port that the
 * kernel chose for it (bind with port 0) must not be given to the next socket: connect would find the 4-tuple in use.
 *
 * Owns one record per connection that ended within PARTING_US, oldest first. An entry whose 4-tuple is in use again when its time
 * has come belongs to that use. Without memory for a record all goes at once. After a death of the process the kernel ends both.
 */
#include "socket/engine.h"

#include "base/fd.h"

#define PARTING_US (20 * USEC_PER_MSEC) /* far more than a softirq is late, far less than a port is missed */
#define GONE_AT_ONCE 64

struct parting {
	struct list node; /* engine.partings */
	struct flow_key key;
	int64_t until_us;
	int port_fd;
	bool exact, in_group;
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

static void part(struct engine *e, struct gone *gone, const struct flow_key *key, bool exact, bool in_group, int port_fd)
{
	if ((exact || in_group) && (demux_find(&e->demux, key) || time_wait_find(e, key)))
		exact = in_group = false;
	if (exact)
		taken_away(e, gone, key);
	if (in_group)
		process_ops->flow_ends(e, key);
	fd_close(port_fd);
}

void parting_add(struct engine *e, const struct flow_key *key, bool exact, bool in_group, int port_fd)
{
	if (!exact && !in_group && port_fd < 0)
		return;
	struct parting *p = engine_alloc(e, sizeof *p);
	if (!p) {
		struct gone gone = {.n = 0};
		part(e, &gone, key, exact, in_group, port_fd);
		gone_flush(e, &gone);
		return;
	}
	*p = (struct parting){.key = *key, .until_us = e->now + PARTING_US, .port_fd = port_fd, .exact = exact, .in_group = in_group};
	list_init(&p->node);
	list_push_back(&e->partings, &p->node);
}

void partings_forget(struct engine *e)
{
	for (struct list *pos; (pos = list_first(&e->partings));) {
		list_unlink(pos);
		fd_close(container_of(pos, struct parting, node)->port_fd);
	}
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
		part(e, &gone, &p->key, p->exact, p->in_group, p->port_fd);
		engine_free(e, p, sizeof *p);
	}
	gone_flush(e, &gone);
}

int64_t partings_deadline(const struct engine *e)
{
	const struct list *first = list_first(&e->partings);
	return first ? container_of(first, struct parting, node)->until_us + PARTING_US : TIME_NEVER;
}
