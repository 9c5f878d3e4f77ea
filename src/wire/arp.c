#include "wire/arp.h"

#include <errno.h>

#include "wire/eth.h"

#define HARDWARE_ETHERNET 1 /* RFC 826: ares_hrd$Ethernet */

int arp_parse(const uint8_t *bytes, size_t len, struct arp_packet *out)
{
	if (len < ARP_BYTES)
		return -EBADMSG;
	if (load_be16(bytes) != HARDWARE_ETHERNET || load_be16(bytes + 2) != ETHERTYPE_IPV4 || bytes[4] != 6 || bytes[5] != 4)
		return -EBADMSG;
	out->op = load_be16(bytes + 6);
	memcpy(out->sender_mac, bytes + 8, 6);
	memcpy(out->sender, bytes + 14, 4);
	memcpy(out->target_mac, bytes + 18, 6);
	memcpy(out->target, bytes + 24, 4);
	if (out->op != ARP_REQUEST && out->op != ARP_REPLY)
		return -EBADMSG;
	return out->sender_mac[0] & 1 ? -EBADMSG : 0;
}

void arp_build(const uint8_t dst_mac[6], const struct arp_packet *p, uint8_t out[ARP_FRAME_BYTES])
{
	uint8_t *arp = out + ETH_HDR_BYTES;
	eth_build(dst_mac, p->sender_mac, ETHERTYPE_ARP, out);
	store_be16(arp, HARDWARE_ETHERNET);
	store_be16(arp + 2, ETHERTYPE_IPV4);
	arp[4] = 6;
	arp[5] = 4;
	store_be16(arp + 6, p->op);
	memcpy(arp + 8, p->sender_mac, 6);
	memcpy(arp + 14, p->sender, 4);
	memcpy(arp + 18, p->target_mac, 6);
	memcpy(arp + 24, p->target, 4);
}
