#include "wire/checksum.h"

/*
 * Halves of 64-bit words go into two 64-bit sums, so no carry is lost for 2^32 words and the loop has
 * no branch; words of a power of two of 16 bits may be summed and folded later (RFC 1071 §2(C)).
 */
uint64_t checksum_add(uint64_t sum, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t low = 0, high = 0;

	for (; len >= 32; len -= 32, p += 32) {
		uint64_t w[4];
		memcpy(w, p, sizeof w);
		low += (w[0] & 0xffffffff) + (w[1] & 0xffffffff) + (w[2] & 0xffffffff) +
		       (w[3] & 0xffffffff);
		high += (w[0] >> 32) + (w[1] >> 32) + (w[2] >> 32) + (w[3] >> 32);
	}
	for (; len >= 4; len -= 4, p += 4) {
		uint32_t w;
		memcpy(&w, p, sizeof w);
		low += w;
	}
	if (len) {
		uint32_t w = 0; /* the tail, padded by zeros in memory order */
		memcpy(&w, p, len);
		low += w;
	}
	/* Each sum is below 2^62 for any message that fits into memory: fold once, then add. */
	low = (low & 0xffffffff) + (low >> 32);
	high = (high & 0xffffffff) + (high >> 32);
	return sum + low + high;
}
