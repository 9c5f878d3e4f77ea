/*
 * Multicast Listener Discovery (RFC 2710, RFC 3810): queries in, reports out. Pure: bytes ↔ struct, no state; safe in
 * any thread. Addresses are in network byte order.
 */
#ifndef FINESSE_WIRE_MLD_H
#define FINESSE_WIRE_MLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MLD_QUERY     130
#define MLD_REPORT_V1 131
#define MLD_REPORT_V2 143

#define MLD_IS_EXCLUDE 2 /* record types of RFC 3810 §5.2.12: we listen to all sources */
#define MLD_TO_EXCLUDE 4 /* … from now on */

#define MLD_HDR_BYTES         (14 + 40) /* Ethernet, IPv6 */
#define MLD_REPORT_BYTES(n)   (8 + 8 + 20 * (n)) /* what follows: the hop-by-hop header with the router alert, ICMPv6, n records */
#define MLD_REPORT_V1_BYTES   (8 + 24)

struct mld_query {
	const uint8_t *group; /* 16 bytes, into the packet; ::: all of them */
	uint32_t max_delay_ms;
	bool v1;
};

/*
 * An IPv6 packet of `len` bytes. 0; -ENOMSG: it is something else; -EBADMSG: to be ignored (RFC 3810 §6.2: checksum,
 * length, hop limit, router alert, source).
 */
int mld_parse_query(const uint8_t *ip, size_t len, struct mld_query *out);
/* `src`: link-local, or :: (RFC 3810 §5.2.13). `body` is MLD_REPORT_BYTES(n) long. */
void mld_build_report(const uint8_t src_mac[6], const uint8_t src[16], const uint8_t (*groups)[16], unsigned n, uint8_t record, uint8_t hdr[MLD_HDR_BYTES], uint8_t *body);
void mld_build_report_v1(const uint8_t src_mac[6], const uint8_t src[16], const uint8_t group[16], uint8_t hdr[MLD_HDR_BYTES], uint8_t body[MLD_REPORT_V1_BYTES]);

#endif
