/* Two connections joined by two queues of segments, in virtual time; for the core's own tests. */
#ifndef FINESSE_TESTS_TCP_CORE_PAIR_H
#define FINESSE_TESTS_TCP_CORE_PAIR_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tcp/tcp.h"

#define QUEUE_MAX 4096

struct packet {
	struct tcp_segment seg;
	uint16_t gso_size;
	uint8_t *bytes;
};

struct side {
	struct tcp_emit emit; /* first: the emit callback finds the side by it */
	struct tcp_conn conn;
	struct tcp_stack stack;
	struct packet out[QUEUE_MAX]; /* what it sent and nobody took */
	unsigned n_out, n_taken;
	uint32_t events; /* all so far */
};

struct pair {
	int64_t now;
	struct side a, b; /* a opens actively, b passively */
};

struct test_memory {
	struct tcp_memory memory;
	size_t in_use;
};

static void *test_alloc(struct tcp_memory *m, size_t size)
{
	assert((size & (size - 1)) == 0);
	((struct test_memory *)m)->in_use += size;
	return malloc(size);
}

static void test_free(struct tcp_memory *m, void *p, size_t size)
{
	((struct test_memory *)m)->in_use -= size;
	free(p);
}

static struct test_memory test_memory = {.memory = {test_alloc, test_free}};

static void side_emit(struct tcp_emit *emit, struct tcp_conn *conn, const struct tcp_segment *seg,
		      uint16_t gso_size)
{
	struct side *s = (struct side *)emit;
	assert(s->n_out < QUEUE_MAX);
	struct packet *p = &s->out[s->n_out++];
	p->seg = *seg;
	p->gso_size = gso_size;
	p->bytes = seg->payload_len ? malloc(seg->payload_len) : NULL;
	uint32_t at = 0;
	for (int i = 0; i < 2 && at < seg->payload_len; i++) {
		memcpy(p->bytes + at, seg->payload[i].iov_base, seg->payload[i].iov_len);
		at += seg->payload[i].iov_len;
	}
	assert(at == seg->payload_len);
	p->seg.payload[0] = (struct iovec){p->bytes, seg->payload_len};
	p->seg.payload[1] = (struct iovec){NULL, 0};
}

static inline void side_output(struct pair *p, struct side *s)
{
	tcp_output(&s->conn, p->now, &s->emit);
	s->events |= tcp_take_events(&s->conn);
}

/* The next packet that `s` sent, or NULL. */
static inline struct packet *side_take(struct side *s)
{
	return s->n_taken < s->n_out ? &s->out[s->n_taken++] : NULL;
}

static inline void side_clear(struct side *s)
{
	for (unsigned i = 0; i < s->n_out; i++)
		free(s->out[i].bytes);
	s->n_out = s->n_taken = 0;
}

static inline void side_input(struct pair *p, struct side *s, const struct tcp_segment *seg)
{
	tcp_input(&s->conn, p->now, seg);
	side_output(p, s);
}

/* Carries everything both ways until both are silent. */
static inline void pair_run(struct pair *p)
{
	side_output(p, &p->a);
	side_output(p, &p->b);
	for (;;) {
		struct packet *pkt;
		bool any = false;
		while ((pkt = side_take(&p->a))) {
			side_input(p, &p->b, &pkt->seg);
			any = true;
		}
		side_clear(&p->a);
		while ((pkt = side_take(&p->b))) {
			side_input(p, &p->a, &pkt->seg);
			any = true;
		}
		side_clear(&p->b);
		if (!any)
			return;
	}
}

/* To time `t`, with every timer on the way; what is sent is carried. */
static inline void pair_advance(struct pair *p, int64_t t)
{
	for (;;) {
		int64_t at = tcp_next_deadline(&p->a.conn), bt = tcp_next_deadline(&p->b.conn);
		int64_t next = at < bt ? at : bt;
		if (next > t)
			break;
		if (next > p->now)
			p->now = next;
		if (at <= p->now)
			tcp_tick(&p->a.conn, p->now);
		if (bt <= p->now)
			tcp_tick(&p->b.conn, p->now);
		pair_run(p);
	}
	p->now = t;
}

static inline struct tcp_open pair_open(bool client, uint32_t iss)
{
	static const uint8_t v4[2][4] = {{10, 0, 0, 1}, {10, 0, 0, 2}};
	struct tcp_open open = {
		.key = {.laddr = ip_addr_from_v4(v4[!client]), .raddr = ip_addr_from_v4(v4[client]),
			.lport = client ? 50000 : 80, .rport = client ? 80 : 50000},
		.mss_advertised = 1460,
		.mss_path = 1460,
		.gso_max_bytes = 64240,
		.cc = &tcp_cc_newreno,
		.iss = iss,
		.ts_offset = client ? 0xfffffff0 : 77,
	};
	tcp_options_default(&open.options);
	return open;
}

static inline void side_init(struct side *s, const struct tcp_config *config)
{
	static const uint8_t secret[32];
	memset(s, 0, sizeof *s);
	s->emit.segment = side_emit;
	tcp_stack_init(&s->stack, config, &test_memory.memory, secret);
}

static inline void pair_init(struct pair *p, const struct tcp_config *config)
{
	struct tcp_config def;
	tcp_config_default(&def);
	p->now = 1000000;
	side_init(&p->a, config ? config : &def);
	side_init(&p->b, config ? config : &def);
}

/* The SYN of `a` is on its way; b opens with it. */
static inline void pair_connect_with(struct pair *p, const struct tcp_open *a, const struct tcp_open *b)
{
	int ret = tcp_open_active(&p->a.conn, &p->a.stack, p->now, a);
	assert(ret == 0);
	side_output(p, &p->a);
	struct packet *syn = side_take(&p->a);
	assert(syn && (syn->seg.flags & SEG_SYN));
	ret = tcp_open_passive(&p->b.conn, &p->b.stack, p->now, b, &syn->seg);
	assert(ret == 0);
	side_clear(&p->a);
	pair_run(p);
}

/* ISNs so that both sides' sequence numbers wrap after a few bytes. */
#define ISS_A UINT32_C(0xfffffff0)
#define ISS_B UINT32_C(0xffffff00)

static inline void pair_connect(struct pair *p)
{
	struct tcp_open a = pair_open(true, ISS_A), b = pair_open(false, ISS_B);
	pair_init(p, NULL);
	pair_connect_with(p, &a, &b);
}

static inline void pair_fini(struct pair *p)
{
	tcp_fini(&p->a.conn);
	tcp_fini(&p->b.conn);
	side_clear(&p->a);
	side_clear(&p->b);
}

static inline ssize_t side_send(struct pair *p, struct side *s, const void *bytes, size_t n)
{
	struct iovec iov = {(void *)bytes, n};
	return tcp_send(&s->conn, p->now, &iov, 1, false, false);
}

static inline ssize_t side_recv(struct pair *p, struct side *s, void *bytes, size_t n)
{
	struct iovec iov = {bytes, n};
	return tcp_recv(&s->conn, p->now, &iov, 1, false, false);
}

#endif
