/*
 * TCP Fast Open: a server's cookies, and a connection that was opened by one.
 *
 * Such a connection is in SYN-RECEIVED, with everything that ESTABLISHED has: windows, congestion control, text of the
 * SYN to read, text to send within the SYN's window (RFC 7413 §4.2.2). Until the handshake is complete
 * (`fastopen_early`) its timer is the SYN-ACK's, and nothing else goes
 * again: what was lost is found out afterwards. As Linux.
 */
#include "tcp/fastopen.h"

#include "base/siphash.h"
#include "tcp/tcp_int.h"

#include <stdlib.h>
#include <string.h>

#define KEY_WORDS 4

/* ---- keys and cookies ---- */

static const char *parse_key(const char *at, uint8_t out[FASTOPEN_KEY_BYTES])
{
	for (unsigned i = 0; i < KEY_WORDS; i++) {
		char *end;
		unsigned long word = strtoul(at, &end, 16);
		if (end == at || word > UINT32_MAX || (i < KEY_WORDS - 1 && *end != '-'))
			return NULL;
		for (unsigned b = 0; b < 4; b++)
			out[4 * i + b] = word >> 8 * b;
		at = end + (i < KEY_WORDS - 1);
	}
	return at;
}

bool fastopen_keys_parse(const char *text, struct fastopen_keys *out)
{
	out->n = 0;
	while (out->n < FASTOPEN_KEYS_MAX) {
		text = parse_key(text, out->key[out->n]);
		if (!text)
			break;
		out->n++;
		if (*text++ != ',')
			break;
	}
	return out->n;
}

static void cookie_make(const uint8_t key[FASTOPEN_KEY_BYTES], const struct flow_key *flow, uint8_t out[FASTOPEN_COOKIE_BYTES])
{
	uint8_t both[32];
	bool v4 = ip_addr_is_v4(&flow->raddr);
	unsigned len = v4 ? 4 : 16, skip = 16 - len;
	memcpy(both, flow->raddr.b + skip, len);
	memcpy(both + len, flow->laddr.b + skip, len);
	uint64_t hash = siphash24(both, 2 * len, key);
	for (unsigned b = 0; b < FASTOPEN_COOKIE_BYTES; b++)
		out[b] = hash >> 8 * b;
}

/* The key that the SYN's cookie is of, or -1. In constant time: a forger learns nothing from how long it takes. */
static int key_of(const struct fastopen_keys *keys, const struct flow_key *flow, const struct tcp_segment *syn)
{
	uint8_t good[FASTOPEN_COOKIE_BYTES];
	int found = -1;
	if (syn->cookie_len != FASTOPEN_COOKIE_BYTES)
		return -1;
	for (int i = keys->n - 1; i >= 0; i--) {
		uint8_t diff = 0;
		cookie_make(keys->key[i], flow, good);
		for (unsigned b = 0; b < FASTOPEN_COOKIE_BYTES; b++)
			diff |= good[b] ^ syn->cookie[b];
		if (!diff)
			found = i;
	}
	return found;
}

static void give_cookie(const struct fastopen_keys *keys, const struct flow_key *flow, const struct tcp_segment *syn, struct fastopen_cookie *cookie)
{
	if (!keys->n)
		return;
	*cookie = (struct fastopen_cookie){.there = true, .old = syn->has & SEG_HAS_FASTOPEN_OLD, .len = FASTOPEN_COOKIE_BYTES};
	cookie_make(keys->key[0], flow, cookie->val);
}

enum fastopen_fate fastopen_judge(const struct fastopen_keys *keys, const struct flow_key *flow, const struct tcp_segment *syn, bool any,
				  struct fastopen_cookie *cookie)
{
	bool option = syn->has & (SEG_HAS_FASTOPEN | SEG_HAS_FASTOPEN_OLD);
	cookie->there = false;
	if (!option && !syn->payload_len)
		return FASTOPEN_NONE;
	if (any)
		return FASTOPEN_TAKEN;
	if (!option)
		return FASTOPEN_NONE;
	int key = syn->cookie_len ? key_of(keys, flow, syn) : -1;
	if (key == 0)
		return FASTOPEN_TAKEN;
	give_cookie(keys, flow, syn, cookie);
	return key > 0 ? FASTOPEN_TAKEN : syn->cookie_len ? FASTOPEN_REFUSED : FASTOPEN_REQUEST;
}

/* ---- the connection ---- */

void fastopen_begin(struct tcp_conn *c, int64_t now, const struct tcp_segment *syn)
{
	uint32_t len = min_u32(syn->payload_len, rcv_wnd(c)), wnd = rcv_wnd(c);
	c->fastopen = c->fastopen_early = true;
	conn_begin_transfer(c, now);
	if (!len || !input_take(c, syn->payload[0].iov_base, len))
		return; /* without memory the peer sends it again */
	c->syn_data = true;
	c->data_segs_in++;
	c->rcv_wup = c->rcv_nxt;
	c->rcv_adv = c->rcv_nxt + wnd; /* as Linux: the SYN's text takes nothing off the first window */
}

/*
 * As Linux: where the SYN-ACK is lost more than once, what was sent behind it is, too, and the window is small in any
 * case.
 */
void fastopen_timeout(struct tcp_conn *c, int64_t now)
{
	if (c->rtx_count != 2)
		return;
	if (snd_flight(c)) {
		recovery_on_rto(c, now);
		return;
	}
	c->ssthresh = c->cc->ssthresh(c, now, c->cwnd);
	c->cwnd = c->mss;
	c->cwnd_acked = 0;
	if (c->cc->on_timeout)
		c->cc->on_timeout(c, now);
}
