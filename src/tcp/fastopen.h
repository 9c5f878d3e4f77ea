/*
 * TCP Fast Open (RFC 7413) of a server: keys, cookies, and what becomes of a SYN.
 *
 * A cookie is Linux's: SipHash-2-4 of the client's address and the server's by a key of the namespace
 * (net.ipv4.tcp_fastopen_key) or of the listener (TCP_FASTOPEN_KEY), eight bytes. So what the kernel gave out is good
 * here, and the other way round. Of two keys the first makes cookies, and both are good.
 *
 * Pure, no state.
 */
#ifndef FINESSE_TCP_FASTOPEN_H
#define FINESSE_TCP_FASTOPEN_H

#include "tcp/tcp.h"

#define FASTOPEN_KEY_BYTES    16
#define FASTOPEN_KEYS_MAX     2
#define FASTOPEN_COOKIE_BYTES 8

struct fastopen_keys {
	unsigned n; /* 0: none */
	uint8_t key[FASTOPEN_KEYS_MAX][FASTOPEN_KEY_BYTES]; /* as TCP_FASTOPEN_KEY has them */
};

/* The text of net.ipv4.tcp_fastopen_key: one or two of "%x-%x-%x-%x", with a comma between. False: it is none. */
bool fastopen_keys_parse(const char *text, struct fastopen_keys *out);

/* What a listener that may take a SYN's text makes of it. */
enum fastopen_fate {
	FASTOPEN_NONE,    /* an ordinary handshake */
	FASTOPEN_REQUEST, /* … whose SYN-ACK brings the cookie that was asked for */
	FASTOPEN_REFUSED, /* … because the cookie was not good: a good one comes back */
	FASTOPEN_TAKEN,   /* the connection is there; where *cookie is, it replaces one of the second key */
};
/* `any`: cookies are not needed. */
enum fastopen_fate fastopen_judge(const struct fastopen_keys *keys, const struct flow_key *flow, const struct tcp_segment *syn, bool any,
				  struct fastopen_cookie *cookie);

#endif
