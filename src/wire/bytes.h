/* Big-endian integers at any address. Pure. */
#ifndef FINESSE_WIRE_BYTES_H
#define FINESSE_WIRE_BYTES_H

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define be16_swap(x) __builtin_bswap16(x)
#define be32_swap(x) __builtin_bswap32(x)
#else
#define be16_swap(x) (x)
#define be32_swap(x) (x)
#endif

static inline uint16_t load_be16(const void *p)
{
	uint16_t x;
	memcpy(&x, p, sizeof x);
	return be16_swap(x);
}

static inline uint32_t load_be32(const void *p)
{
	uint32_t x;
	memcpy(&x, p, sizeof x);
	return be32_swap(x);
}

static inline void store_be16(void *p, uint16_t x)
{
	x = be16_swap(x);
	memcpy(p, &x, sizeof x);
}

static inline void store_be32(void *p, uint32_t x)
{
	x = be32_swap(x);
	memcpy(p, &x, sizeof x);
}

#endif
