/* Our timestamp clock (RFC 7323 §5.4): 1 ms per tick, as Linux's, plus the flow's secret offset. */
#ifndef FINESSE_TCP_TS_CLOCK_H
#define FINESSE_TCP_TS_CLOCK_H

#include <stdint.h>

#include "base/time.h"

#define TCP_TS_TICK_US USEC_PER_MSEC /* RFC 7323 §5.4: between 1 ms and 1 s */

static inline uint32_t tcp_ts_now(int64_t now, uint32_t ts_offset)
{
	return (uint32_t)((uint64_t)now / TCP_TS_TICK_US) + ts_offset;
}

#endif
