/*
 * SYN cookies (RFC 4987 §3.6): a SYN is answered and forgotten; the ACK of the answer brings back all that is needed.
 *
 * The sequence number of the SYN-ACK is a keyed hash of the 4-tuple, the peer's sequence number, the period, and the
 * peer's MSS as one of four classes, whose number stands in its two low bits. Where both ends use timestamps, the low
 * six bits of ours carry window scale (15: none), SACK and close request, as Linux does it; without timestamps these
 * are lost. Each period has a key of its own, derived from the engine's secret: a cookie is good for one to two
 * periods. One in 2^29 guesses is right, so cookies only count where some were sent lately (the caller's to know).
 *
 * Pure: no state by peer; struct syn_cookies caches the keys of two periods.
 */
#ifndef FINESSE_TCP_SYN_COOKIE_H
#define FINESSE_TCP_SYN_COOKIE_H

#include "tcp/tcp.h"

#define SYN_COOKIE_PERIOD_US (64 * USEC_PER_SEC)
#define SYN_COOKIE_VALID_US  (2 * SYN_COOKIE_PERIOD_US) /* none is valid for longer */

struct syn_cookies {
	uint8_t secret[16];
	int64_t period; /* of keys[0]; keys[1] is the one before */
	uint8_t keys[2][16];
};

void syn_cookies_init(struct syn_cookies *k, const uint8_t secret[16]);

/*
 * The SYN-ACK for `syn`, the very one that tcp_open_passive(open) would send but for its sequence number and timestamp.
 * -EINVAL as there.
 */
int syn_cookie_answer(struct syn_cookies *k, struct tcp_stack *stack, int64_t now, const struct tcp_open *open,
		      const struct tcp_segment *syn, struct tcp_segment *out);

/*
 * Does `ack` acknowledge a cookie of ours? Then `syn` is the SYN again, as far as it is known, and *iss what our
 * SYN-ACK had.
 */
bool syn_cookie_check(struct syn_cookies *k, const struct tcp_stack *stack, int64_t now, const struct flow_key *key,
		      const struct tcp_segment *ack, struct tcp_segment *syn, uint32_t *iss);

/*
 * The connection in SYN-RECEIVED with its SYN-ACK sent: tcp_input of the ACK establishes it. `open` has the iss of
 * syn_cookie_check. -EINVAL.
 */
int tcp_open_cookie(struct tcp_conn *c, struct tcp_stack *stack, int64_t now, const struct tcp_open *open,
		    const struct tcp_segment *syn);

#endif
