/* Ethernet II header (IEEE 802.3 §3.2.6: a type field of 1536 and above). Pure. */
#ifndef FINESSE_WIRE_ETH_H
#define FINESSE_WIRE_ETH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "wire/bytes.h"

#define ETH_HDR_BYTES 14
#define ETH_MAC_BYTES 6

#define ETHERTYPE_IPV4   0x0800
#define ETHERTYPE_ARP    0x0806
#define ETHERTYPE_IPV6   0x86dd
#define ETHERTYPE_VLAN   0x8100 /* IEEE 802.1Q customer tag */
#define ETHERTYPE_VLAN_S 0x88a8 /* IEEE 802.1ad service tag */

struct eth_header {
	const uint8_t *dst, *src; /* into the frame */
	uint16_t ethertype;
};

/* 0, or -EBADMSG: shorter than a header. */
int eth_parse(const uint8_t *bytes, size_t len, struct eth_header *out);
void eth_build(const uint8_t dst[6], const uint8_t src[6], uint16_t ethertype,
	       uint8_t out[ETH_HDR_BYTES]);

static inline bool ethertype_is_vlan(uint16_t ethertype)
{
	return ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_VLAN_S;
}

#endif
