/*
 * How much of ours may wait in the interface's queue: enough to keep it busy, little enough to keep delay out of
 * round-trip times (what Linux does with byte queue limits and TCP small queues). Pure.
 *
 * The send buffer has this size while the interface is slower than we are: full, nothing more is handed over; half
 * empty, the socket is writable again. What then still waits tells how we are doing: nothing, and the interface was
 * idle (twice as much from now on); more than a quarter time after time, and less would do (half of it).
 */
#ifndef FINESSE_LINK_TX_BUDGET_H
#define FINESSE_LINK_TX_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes as a send buffer counts them: buffers, not payload. */
#define TX_BUDGET_MIN   (UINT32_C(128) << 10) /* half of it is a super-segment */
#define TX_BUDGET_START (UINT32_C(256) << 10) /* 2 ms at 1 Gbit/s */
#define TX_BUDGET_MAX   (UINT32_C(2) << 20)
#define TX_BUDGET_CALM  32 /* so many times in a row */

struct tx_budget {
	uint32_t bytes;
	uint32_t calm;
};

void tx_budget_init(struct tx_budget *b);
/*
 * The interface's queue refuses more than the `holds` bytes that it holds of ours. It may be less than TX_BUDGET_MIN.
 */
void tx_budget_full(struct tx_budget *b, uint32_t holds);
/* The socket is writable again, and `waiting` bytes are still queued. True: `bytes` is another. */
bool tx_budget_resume(struct tx_budget *b, uint32_t waiting);

#endif
