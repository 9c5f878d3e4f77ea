/*
 * How many answers strangers get: a budget per network of the asker, and one for all, anew in each second.
 *
 * A budget that is shared and exact tells what was spent of it. An off-path attacker sends segments with a victim's
 * address and counts how many answers are left for his own: the difference says which 4-tuples exist (CVE-2016-5696;
 * RFC 5961 §7 asks for a limit and has this flaw). So the limit is drawn anew in each window for each network (/24,
 * /56), which share a place by a hash that is keyed anew, too; and the limit for all, which only bounds our work,
 * varies by far more than one network can spend of it.
 *
 * Pure: owns nothing, is told the time. Memory: sizeof(struct budget), whatever strangers do.
 */
#ifndef FINESSE_BASE_BUDGET_H
#define FINESSE_BASE_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

#define BUDGET_WINDOW_US   INT64_C(1000000)
#define BUDGET_NETWORKS    1024 /* places; a power of two */
#define BUDGET_NETWORK_MIN 50   /* answers per window: from here to twice as many more */
#define BUDGET_TOTAL_MIN   2000

struct budget {
	uint8_t secret[16];
	uint64_t drawn;    /* numbers drawn so far */
	uint64_t nonce;    /* of this window's hash */
	int64_t since_us;
	uint32_t total_left;
	uint16_t left[BUDGET_NETWORKS]; /* + 1; 0: nobody of it asked in this window */
};

/* `secret`: nobody else's. */
void budget_init(struct budget *b, const uint8_t secret[16]);
/* One answer for `whom`: true, and it is spent. */
bool budget_take(struct budget *b, int64_t now, const struct ip_addr *whom);

#endif
