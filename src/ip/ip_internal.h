/* Shared by the files of src/ip only. */
#ifndef FINESSE_IP_INTERNAL_H
#define FINESSE_IP_INTERNAL_H

#include "ip/ip.h"

/*
 * An ICMP message of `len` bytes whose packet came from src to dst (4 or 16 bytes). Fills `out` when it is an
 * error about TCP: IP_FATE_Delivered. Otherwise says why not.
 */
enum ip_fate ip_icmp_parse(const uint8_t *bytes, uint32_t len, bool v6, const uint8_t *src,
			   const uint8_t *dst, struct ip_icmp_error *out);

#endif
