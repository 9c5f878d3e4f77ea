#include "tcp/syn_cookie.h"

#include "base/siphash.h"
#include "tcp/tcp_int.h"

#include <errno.h>
#include <string.h>

#define CLASSES 4 /* a power of two: the low bits of a cookie */

/* Linux's: the most frequent MSSs of the Internet, the least that everybody takes among them. */
static const uint16_t mss_v4[CLASSES] = {536, 1300, 1440, 1460};
static const uint16_t mss_v6[CLASSES] = {1280 - 60, 1480 - 60, 1500 - 60, 9000 - 60};

/* What the low bits of a timestamp carry. */
#define TS_WSCALE      0x0f
#define TS_NO_WSCALE   0x0f
#define TS_SACK        0x10
#define TS_CLOSE       0x20
#define TS_BITS        0x3f

static const uint16_t *mss_table(const struct flow_key *key)
{
	return ip_addr_is_v4(&key->raddr) ? mss_v4 : mss_v6;
}

/* ---- keys ---- */

static void derive(struct syn_cookies *k, int64_t period, uint8_t key[16])
{
	struct {
		int64_t period;
		uint64_t half;
	} input = {.period = period};
	for (; input.half < 2; input.half++) {
		uint64_t h = siphash24(&input, sizeof input, k->secret);
		memcpy(key + 8 * input.half, &h, sizeof h);
	}
}

static void keys_for(struct syn_cookies *k, int64_t now)
{
	int64_t period = now / SYN_COOKIE_PERIOD_US;
	if (period == k->period)
		return;
	derive(k, period, k->keys[0]);
	derive(k, period - 1, k->keys[1]);
	k->period = period;
}

void syn_cookies_init(struct syn_cookies *k, const uint8_t secret[16])
{
	memcpy(k->secret, secret, sizeof k->secret);
	k->period = -1;
}

static uint32_t cookie_of(const uint8_t key[16], const struct flow_key *flow, uint32_t irs, unsigned class)
{
	struct {
		struct flow_key flow;
		uint32_t irs, class;
	} input = {*flow, irs, class};
	_Static_assert(sizeof input == sizeof(struct flow_key) + 8, "no padding among what is hashed");
	return ((uint32_t)siphash24(&input, sizeof input, key) & ~(uint32_t)(CLASSES - 1)) | class;
}

/* ---- the answer ---- */

static unsigned class_of(const struct flow_key *key, const struct tcp_segment *syn)
{
	const uint16_t *table = mss_table(key);
	unsigned class = CLASSES - 1;
	while (class && (!(syn->has & SEG_HAS_MSS) || syn->mss < table[class]))
		class--;
	return class;
}

/* Our clock, with the options instead of its low bits, and never ahead of itself. */
static uint32_t timestamp_with(int64_t now, uint32_t offset, uint32_t bits)
{
	uint32_t ticks = tcp_ts_now(now, 0), with = (ticks & ~(uint32_t)TS_BITS) | bits;
	if ((with & TS_BITS) > (ticks & TS_BITS))
		with -= TS_BITS + 1;
	return with + offset;
}

struct capture {
	struct tcp_emit emit;
	struct tcp_segment *out;
};

static void capture_segment(struct tcp_emit *emit, struct tcp_conn *conn, const struct tcp_segment *seg, uint16_t gso_size)
{
	struct capture *capture = (struct capture *)emit;
	(void)conn;
	(void)gso_size;
	*capture->out = *seg;
	emit->full = true;
}

/* A connection is opened for the moment of its answer, so that negotiation is written once. It has no buffers yet. */
int syn_cookie_answer(struct syn_cookies *k, struct tcp_stack *stack, int64_t now, const struct tcp_open *open,
		      const struct tcp_segment *syn, struct tcp_segment *out)
{
	struct tcp_conn c;
	struct tcp_open with_cookie = *open;
	struct capture capture = {.emit.segment = capture_segment, .out = out};
	keys_for(k, now);
	with_cookie.iss = cookie_of(k->keys[0], &open->key, syn->seq, class_of(&open->key, syn));
	int err = conn_open_passive(&c, stack, now, &with_cookie, syn);
	if (err)
		return err;
	tcp_output(&c, now, &capture.emit);
	if (c.ts_on) {
		uint32_t bits = (c.wscale_on ? c.snd_wscale : TS_NO_WSCALE) | (c.sack_on ? TS_SACK : 0) | (c.cr_on ? TS_CLOSE : 0);
		out->ts_val = timestamp_with(now, c.ts_offset, bits);
	} else {
		out->has &= ~(SEG_HAS_SACK_PERMITTED | SEG_HAS_WSCALE | SEG_HAS_CLOSE_CAPABLE); /* could not be remembered */
	}
	return 0;
}

/* ---- the ACK ---- */

static void options_of(const struct tcp_stack *stack, const struct flow_key *key, const struct tcp_segment *ack, struct tcp_segment *syn)
{
	if (!(ack->has & SEG_HAS_TIMESTAMPS))
		return;
	uint32_t bits = (ack->ts_ecr - tcp_ts_offset(stack, key)) & TS_BITS;
	syn->has |= SEG_HAS_TIMESTAMPS;
	syn->ts_val = ack->ts_val;
	if (bits & TS_SACK)
		syn->has |= SEG_HAS_SACK_PERMITTED;
	if (bits & TS_CLOSE)
		syn->has |= SEG_HAS_CLOSE_CAPABLE;
	if ((bits & TS_WSCALE) != TS_NO_WSCALE) {
		syn->has |= SEG_HAS_WSCALE;
		syn->wscale = bits & TS_WSCALE;
	}
}

bool syn_cookie_check(struct syn_cookies *k, const struct tcp_stack *stack, int64_t now, const struct flow_key *key,
		      const struct tcp_segment *ack, struct tcp_segment *syn, uint32_t *iss)
{
	if ((ack->flags & (SEG_SYN | SEG_ACK | SEG_RST)) != SEG_ACK)
		return false;
	uint32_t cookie = ack->ack - 1, irs = ack->seq - 1;
	unsigned class = cookie & (CLASSES - 1);
	keys_for(k, now);
	if (cookie != cookie_of(k->keys[0], key, irs, class) && cookie != cookie_of(k->keys[1], key, irs, class))
		return false;
	*syn = (struct tcp_segment){
		.sport = ack->sport,
		.dport = ack->dport,
		.seq = irs,
		.flags = SEG_SYN,
		.window = ack->window,
		.has = SEG_HAS_MSS,
		.mss = mss_table(key)[class],
	};
	options_of(stack, key, ack, syn);
	*iss = cookie;
	return true;
}

int tcp_open_cookie(struct tcp_conn *c, struct tcp_stack *stack, int64_t now, const struct tcp_open *open,
		    const struct tcp_segment *syn)
{
	int err = tcp_open_passive(c, stack, now, open, syn);
	if (err)
		return err;
	c->syn_due = false;
	c->by_cookie = true;
	c->snd_nxt = c->iss + 1;
	c->rcv_adv = c->rcv_nxt + window_initial(c);
	window_advertise(c, true); /* as the SYN-ACK did */
	return 0;
}
