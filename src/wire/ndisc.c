#include "wire/ndisc.h"

#include <string.h>

#include "wire/checksum.h"
#include "wire/eth.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"

#define TYPE_SOLICITATION   135
#define OPT_SOURCE_ADDRESS  1
#define HOP_LIMIT           255 /* RFC 4861 §7.1.1: what is less came from another link */
#define MESSAGE_BYTES       (24 + 8)

void ndisc_build_solicitation(const uint8_t src_mac[6], const uint8_t src[16], const uint8_t target[16],
			      uint8_t out[NDISC_SOLICITATION_BYTES])
{
	/* RFC 4291 §2.7.1: ff02::1:ff00:0/104 and the address's last 24 bits; RFC 2464 §7: 33:33 and the group's last 32 bits. */
	uint8_t group[16] = {0xff, 0x02, [11] = 1, 0xff, target[13], target[14], target[15]};
	uint8_t mac[6] = {0x33, 0x33, 0xff, target[13], target[14], target[15]};
	uint8_t *icmp = out + ETH_HDR_BYTES + IPV6_HDR_BYTES;
	struct ipv6_header h = {
		.src = src,
		.dst = group,
		.hop_limit = HOP_LIMIT,
		.next_header = IP_PROTO_ICMPV6,
		.payload_len = MESSAGE_BYTES,
	};
	eth_build(mac, src_mac, ETHERTYPE_IPV6, out);
	ipv6_build(&h, out + ETH_HDR_BYTES);
	memset(icmp, 0, MESSAGE_BYTES);
	icmp[0] = TYPE_SOLICITATION;
	memcpy(icmp + 8, target, 16);
	icmp[24] = OPT_SOURCE_ADDRESS;
	icmp[25] = 1; /* units of 8 bytes */
	memcpy(icmp + 26, src_mac, 6);
	uint64_t sum = checksum_pseudo_v6(src, group, IP_PROTO_ICMPV6, MESSAGE_BYTES);
	checksum_store(icmp + 2, ~checksum_fold(checksum_add(sum, icmp, MESSAGE_BYTES)));
}
