/* Sequence numbers and timestamps are compared modulo 2³² (RFC 9293 §3.4, RFC 7323 §5.2). */
#ifndef FINESSE_TCP_SEQ_H
#define FINESSE_TCP_SEQ_H

#include <stdint.h>

#define SEQ_LT(a, b)  ((int32_t)((uint32_t)(a) - (uint32_t)(b)) < 0)
#define SEQ_LEQ(a, b) ((int32_t)((uint32_t)(a) - (uint32_t)(b)) <= 0)
#define SEQ_GT(a, b)  SEQ_LT(b, a)
#define SEQ_GEQ(a, b) SEQ_LEQ(b, a)

static inline uint32_t seq_max(uint32_t a, uint32_t b)
{
	return SEQ_LT(a, b) ? b : a;
}

static inline uint32_t seq_min(uint32_t a, uint32_t b)
{
	return SEQ_LT(a, b) ? a : b;
}

#endif
