/*
 * Rule 0's count: how many closes each client address was left with, per server port, within the
 * last 60 s. A kernel client holds a port for each, so that this is what may run out at
 * its end.
 *
 * Owns a table of fixed size, keyed by siphash with the engine's secret: sets of eight, and when a
 * set is full, the entry with the smallest count goes, so that the busy clients, which the budget
 * is about, stay. A lost entry errs towards steering that client again. Time moves in slots of five
 * seconds: a count covers 60 to 65 s, never less than the promise. Pure; the caller locks.
 */
#ifndef FINESSE_STEER_BUDGET_H
#define FINESSE_STEER_BUDGET_H

#include <stdint.h>

#include "base/addr.h"

struct budget;

struct budget *budget_new(const uint8_t secret[16]); /* NULL: out of memory */
void budget_free(struct budget *b);

uint32_t budget_count(struct budget *b, int64_t now, const struct ip_addr *client,
		      uint16_t port);
void budget_charge(struct budget *b, int64_t now, const struct ip_addr *client, uint16_t port);
/* One charge of the recent past did not come true. */
void budget_refund(struct budget *b, int64_t now, const struct ip_addr *client, uint16_t port);

#endif
