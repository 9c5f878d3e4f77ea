/*
 * ARP for IPv4 over Ethernet (RFC 826; probes and announcements: RFC 5227). Pure: bytes ↔ struct, no state, no failure
 * but
 * -EBADMSG; safe in any thread. Addresses are in network byte order.
 */
#ifndef FINESSE_WIRE_ARP_H
#define FINESSE_WIRE_ARP_H

#include <stddef.h>
#include <stdint.h>

#define ARP_BYTES       28
#define ARP_FRAME_BYTES (14 + ARP_BYTES)

#define ARP_REQUEST 1
#define ARP_REPLY   2

struct arp_packet {
	uint16_t op; /* ARP_REQUEST or ARP_REPLY */
	uint8_t sender_mac[6], target_mac[6];
	uint8_t sender[4], target[4]; /* a probe's sender is 0.0.0.0; an announcement's two are equal (RFC 5227 §1.1) */
};

/*
 * What follows the Ethernet header; padding behind it is skipped. -EBADMSG: too short, not IPv4 over Ethernet, another
 * operation, or a sender that is a group's hardware address, which cannot have sent it.
 */
int arp_parse(const uint8_t *bytes, size_t len, struct arp_packet *out);
/* A whole frame; its source is p->sender_mac. */
void arp_build(const uint8_t dst_mac[6], const struct arp_packet *p, uint8_t out[ARP_FRAME_BYTES]);

#endif
