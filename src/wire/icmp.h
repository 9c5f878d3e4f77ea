/*
 * ICMP errors (RFC 792, RFC 1191, RFC 4443) and the packet that they quote. Pure: what an error means
 * for a connection is decided in ip/.
 */
#ifndef FINESSE_WIRE_ICMP_H
#define FINESSE_WIRE_ICMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ICMP_HDR_BYTES    8
#define ICMP_QUOTE_TCP    8 /* bytes of TCP that every error must quote: ports and sequence number */

#define ICMP4_UNREACHABLE   3
#define ICMP4_FRAG_NEEDED   4 /* code of UNREACHABLE */
#define ICMP4_SOURCE_QUENCH 4
#define ICMP4_REDIRECT      5
#define ICMP4_TIME_EXCEEDED 11
#define ICMP4_PARAMETER     12
#define ICMP6_UNREACHABLE   1
#define ICMP6_TOO_BIG       2
#define ICMP6_TIME_EXCEEDED 3
#define ICMP6_PARAMETER     4

struct icmp_message {
	uint8_t type, code;
	uint32_t word; /* bytes 4 to 7: MTU, pointer, … */
	/* The quoted packet, once icmp_parse_quote said ICMP_OK: */
	const uint8_t *src, *dst; /* 4 or 16 bytes, into the message */
	uint8_t protocol;
	const uint8_t *upper; /* at least ICMP_QUOTE_TCP bytes of its upper layer */
};

enum icmp_result {
	ICMP_OK,
	ICMP_SHORT,        /* the message, or the quote, ends too early */
	ICMP_BAD_CHECKSUM,
	ICMP_BAD_QUOTE,    /* the quoted header is no IP header */
	ICMP_LATER_FRAGMENT, /* the quote has no upper-layer header */
};

/*
 * The fixed header; verifies the checksum over all `len` bytes. src and dst are the outer packet's (v6 pseudo-header;
 * unused for v4).
 */
enum icmp_result icmp_parse(const uint8_t *bytes, size_t len, bool v6, const uint8_t *src,
			    const uint8_t *dst, struct icmp_message *out);
bool icmp_is_error(const struct icmp_message *m, bool v6);
/* The quoted packet of an error, from the same bytes. */
enum icmp_result icmp_parse_quote(const uint8_t *bytes, size_t len, bool v6,
				  struct icmp_message *out);

#endif
