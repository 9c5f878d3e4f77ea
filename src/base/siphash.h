/*
 * SipHash-2-4 (Aumasson and Bernstein, 2012): a keyed hash whose output a peer that does not know
 * the key cannot steer. For hash tables, ISNs (RFC 6528) and timestamp offsets. Pure.
 */
#ifndef FINESSE_BASE_SIPHASH_H
#define FINESSE_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t siphash24(const void *data, size_t len, const uint8_t key[16]);

#endif
