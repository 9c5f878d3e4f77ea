/*
 * Puts packets together that a router, or their sender, has cut (RFC 791 §3.2, RFC 8200 §4.5).
 *
 * The frame of a whole packet is made up of the first fragment's headers and of everybody's payload, and goes the way
 * of any other frame: ip_input_parse validates it.
 */
#ifndef FINESSE_IP_PIECES_H
#define FINESSE_IP_PIECES_H

#include <stdbool.h>
#include <stdint.h>

#include "link/link.h"

struct pieces;

/* One for an engine; NULL: no memory. */
struct pieces *pieces_new(void);
void pieces_free(struct pieces *r); /* NULL: nothing */
/*
 * A frame of which ip_input_parse says that it is a fragment. True: with it a packet is whole, whose frame is in
 * `whole` until the next call.
 */
bool pieces_add(struct pieces *r, int64_t now_us, const struct link_rx *rx, bool has_eth, struct link_rx *whole);

#endif
