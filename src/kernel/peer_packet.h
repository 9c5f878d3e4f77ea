/*
 * A packet as a peer of ours sends it, for the kernel's own TCP: it goes through a raw socket to this host, which takes
 * it as come by loopback. Needs CAP_NET_RAW. Internal to src/kernel but for peer_packet_repeat. Any thread.
 */
#ifndef FINESSE_KERNEL_PEER_PACKET_H
#define FINESSE_KERNEL_PEER_PACKET_H

#include <stddef.h>

#include "base/addr.h"

#define PEER_PACKET_MAX (40 + 60) /* an IPv6 header and the longest TCP header */

/* Bytes of the IP header in front of the TCP segment. */
size_t peer_packet_ip_len(const struct flow_key *key);
/* Writes the IP header in front of the segment that is there, and the segment's checksum. The packet's length. */
size_t peer_packet_finish(const struct flow_key *key, uint8_t ttl, uint8_t tos, uint8_t *packet, size_t tcp_len);
/*
 * Sends a packet to that address through `raw`, a raw socket of the family. `ifindex`: the scope of a link-local
 * address. 0 or -errno.
 */
int peer_packet_send(int raw, const struct ip_addr *to, const uint8_t *packet, size_t len, int ifindex);
/*
 * A segment that the kernel did not get, once more. `ifindex`: the scope of a link-local address. 0 or -errno; -EPERM:
 * no raw socket; -EMSGSIZE: it is larger than the loopback's MTU.
 */
int peer_packet_repeat(const struct flow_key *key, uint8_t ttl, uint8_t tos, const uint8_t *tcp, size_t tcp_len, int ifindex);

#endif
