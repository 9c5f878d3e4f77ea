/*
 * Neighbour Solicitations and Advertisements (RFC 4861 §4.3, §4.4). Pure: bytes ↔ struct, no state; safe in any thread.
 * Addresses are in network byte order.
 */
#ifndef FINESSE_WIRE_NDISC_H
#define FINESSE_WIRE_NDISC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NDISC_SOLICITATION  135
#define NDISC_ADVERTISEMENT 136
#define NDISC_FRAME_BYTES   (14 + 40 + 24 + 8) /* Ethernet, IPv6, ICMPv6, the option with our link-layer address */

#define NDISC_ROUTER    0x80 /* flags of an advertisement */
#define NDISC_SOLICITED 0x40
#define NDISC_OVERRIDE  0x20

struct ndisc_message {
	uint8_t type, flags;   /* flags: 0 for a solicitation */
	const uint8_t *target; /* 16 bytes, into the message */
	const uint8_t *mac;    /* 6 bytes, into the message: the source's (solicitation), the target's (advertisement); NULL: not told */
};

/*
 * The ICMPv6 message of `len` bytes in a packet from `src` to `dst` (16 bytes each) with this hop limit; all of RFC
 * 4861 §7.1.1 and §7.1.2 is checked, the checksum, too. 0; -EBADMSG: it is to be discarded; -ENOMSG: it is another
 * ICMPv6 message.
 */
int ndisc_parse(const uint8_t *bytes, size_t len, const uint8_t src[16], const uint8_t dst[16], uint8_t hop_limit, struct ndisc_message *out);

/* A message to be built. All pointers: 6 bytes for a mac, 16 for an address. */
struct ndisc_frame {
	uint8_t type, flags;
	const uint8_t *dst_mac, *src_mac; /* src_mac is also what the option tells */
	const uint8_t *src, *dst, *target;
	bool tells_mac; /* false: no option, as in a probe for duplicates (RFC 4862 §5.4.2) */
};
/* The bytes of the whole Ethernet frame. */
size_t ndisc_build(const struct ndisc_frame *f, uint8_t out[NDISC_FRAME_BYTES]);

/* RFC 4291 §2.7.1: ff02::1:ff00:0/104 and the address's last 24 bits; its MAC by RFC 2464 §7. */
void ndisc_solicited_group(const uint8_t target[16], uint8_t group[16], uint8_t mac[6]);

/*
 * "Who has `target`?", from `src` with `src_mac` to the target's solicited-node group: a whole Ethernet frame of
 * NDISC_FRAME_BYTES.
 */
void ndisc_build_solicitation(const uint8_t src_mac[6], const uint8_t src[16], const uint8_t target[16],
			      uint8_t out[NDISC_FRAME_BYTES]);

#endif
