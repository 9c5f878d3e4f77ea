/*
 * Initial sequence numbers (RFC 6528) and timestamp offsets (RFC 7323 §5.4): what an off-path attacker must not
 * guess, and what grows from one incarnation of a 4-tuple to the next.
 *
 * Pure functions of (secret, 4-tuple[, time]): no state, no failure. The secrets are the host's, not the process's,
 * so that a new process which is given a used port goes on where the old one stopped.
 */
#include "base/siphash.h"
#include "tcp/tcp.h"

#define ISN_TICK_US 4 /* RFC 9293 MUST-8: "a clock that increments roughly every 4 microseconds" */

/* The hash reads the key's bytes: there must be no padding among them. */
_Static_assert(sizeof(struct flow_key) == 2 * sizeof(struct ip_addr) + 2 * sizeof(uint16_t),
	       "struct flow_key has no padding");

static uint32_t hash(const struct flow_key *key, const uint8_t secret[16])
{
	uint8_t v4[FLOW_KEY_V4_BYTES];
	size_t len;
	const void *bytes = flow_key_bytes(key, v4, &len);
	return (uint32_t)siphash24(bytes, len, secret);
}

/* RFC 6528 §3: ISN = M + F(localip, localport, remoteip, remoteport, secretkey) (RFC 9293 SHLD-1). */
uint32_t tcp_isn(const struct tcp_stack *stack, int64_t now, const struct flow_key *key)
{
	uint32_t m = (uint32_t)((uint64_t)now / ISN_TICK_US);
	return m + hash(key, stack->isn_secret);
}

/* RFC 7323 §5.4: a per-connection offset hides the clock, and being a function of the 4-tuple it keeps the
   timestamps of successive incarnations monotonic, on which RFC 6191 builds. */
uint32_t tcp_ts_offset(const struct tcp_stack *stack, const struct flow_key *key)
{
	if (stack->config.timestamps == TCP_TIMESTAMPS_BARE)
		return 0;
	return hash(key, stack->ts_secret);
}

uint32_t tcp_random(struct tcp_stack *stack)
{
	stack->random++;
	return (uint32_t)siphash24(&stack->random, sizeof stack->random, stack->ts_secret);
}

/* `iss`, or `iss_min` where `iss` lies before it in sequence space (half of which is "before"). */
uint32_t tcp_iss_at_least(uint32_t iss, uint32_t iss_min)
{
	return (int32_t)(iss - iss_min) >= 0 ? iss : iss_min;
}
