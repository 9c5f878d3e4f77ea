/* Neighbour Solicitation (RFC 4861 §4.3). Pure. */
#ifndef FINESSE_WIRE_NDISC_H
#define FINESSE_WIRE_NDISC_H

#include <stdint.h>

#define NDISC_SOLICITATION_BYTES (14 + 40 + 24 + 8) /* Ethernet, IPv6, ICMPv6, the option with our link-layer address */

/* "Who has `target`?", from `src` with `src_mac` to the target's solicited-node group: a whole Ethernet frame. */
void ndisc_build_solicitation(const uint8_t src_mac[6], const uint8_t src[16], const uint8_t target[16],
			      uint8_t out[NDISC_SOLICITATION_BYTES]);

#endif
