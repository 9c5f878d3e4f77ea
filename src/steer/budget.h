/*
 * Rule 0's count: how many closes each client address was left with, per server port, within the
 * last 60 s. A kernel client holds a port for each, so that this is what may run out at
 * its end.
 *
 * The table has a fixed size, and lies in memory that all processes share which a server forked: the
 * client has its ports once, whichever of them it closed for. It is keyed by siphash with a secret of its own: sets
 * of eight, and when a set is full, the entry with the smallest count goes, so that the busy clients,
 * which the budget is about, stay. A lost entry errs towards steering that client again. Time
 * moves in slots of five seconds: a count covers 60 to 65 s, never less than the promise.
 *
 * No lock, since a process that is killed would keep it: each word is changed by atomic operations, and where two
 * processes meet in one entry, or one is killed there, a few closes may be counted once too often or not at all.
 * They may run as several users: what one of them writes there steers the others' clients wrongly for a while, and does
 * nothing else.
 * Pure; the caller locks what is this process's.
 */
#ifndef FINESSE_STEER_BUDGET_H
#define FINESSE_STEER_BUDGET_H

#include <stdint.h>

#include "base/addr.h"

struct budget;
struct budget_table;

/* For this process and those that it will fork. NULL: out of memory. */
struct budget_table *budget_table_new(const uint8_t secret[16]);
void budget_table_free(struct budget_table *t);

struct budget *budget_new(struct budget_table *table); /* NULL: out of memory */
void budget_free(struct budget *b);                    /* the table stays */

uint32_t budget_count(struct budget *b, int64_t now, const struct ip_addr *client,
		      uint16_t port);
void budget_charge(struct budget *b, int64_t now, const struct ip_addr *client, uint16_t port);
/* One charge of the recent past did not come true. */
void budget_refund(struct budget *b, int64_t now, const struct ip_addr *client, uint16_t port);

/*
 * How many ports the client seems to have: 1,024 for each block of so many of which it used one; `client_port` is
 * noted. Forgotten when it was left with nothing for a window; 0: nothing is known.
 */
uint32_t budget_ports(struct budget *b, const struct ip_addr *client, uint16_t port, uint16_t client_port);

#endif
