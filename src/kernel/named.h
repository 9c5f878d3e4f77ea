/*
 * Named sources: the addresses of which rules speak by name, of one family. A set that may say yes too often, and never
 * no too often: two arrays of bits, one by a hash of the whole address, one by an address's first 16 bits. So it is
 * looked up by programs in the kernel, in memory that both have, and has room for any number.
 */
#ifndef FINESSE_KERNEL_NAMED_H
#define FINESSE_KERNEL_NAMED_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/addr.h"

#define NAMED_BITS   65536
#define NAMED_MIX    0x9e3779b97f4a7c15ull /* odd, bits spread: 2^64 over the golden ratio (Fibonacci hashing) */

struct named_sources {
	uint8_t single[NAMED_BITS / 8]; /* by named_single */
	uint8_t wide[NAMED_BITS / 8];   /* by named_wide */
};

/* As the classifier's programs have it (classifier_gen_if_open). */
static inline unsigned named_single(const struct ip_addr *a)
{
	uint64_t high, low;
	memcpy(&high, a->b, sizeof high);
	memcpy(&low, a->b + 8, sizeof low);
	return (high ^ low) * NAMED_MIX >> 48;
}

/* Its first byte comes first, as in the packet. */
static inline unsigned named_wide(const struct ip_addr *a)
{
	const uint8_t *b = a->b + (ip_addr_is_v4(a) ? 12 : 0);
	return b[0] << 8 | b[1];
}

static inline bool named_bit(const uint8_t *bits, unsigned at)
{
	return bits[at / 8] >> at % 8 & 1;
}

static inline bool named_has(const struct named_sources *n, const struct ip_addr *a)
{
	return named_bit(n->single, named_single(a)) || named_bit(n->wide, named_wide(a));
}

static inline void named_enter(struct named_sources *n, const struct ip_addr *a)
{
	n->single[named_single(a) / 8] |= 1 << named_single(a) % 8;
}

/* Both ends are of it, and of one family. */
static inline void named_enter_range(struct named_sources *n, const struct ip_addr *from, const struct ip_addr *to)
{
	struct ip_addr a = *from;
	bool few = memcmp(from->b, to->b, 15) == 0; /* they differ in the last byte alone */
	for (unsigned last = from->b[15]; few && last <= to->b[15]; last++) {
		a.b[15] = last;
		named_enter(n, &a);
	}
	for (unsigned at = named_wide(from); !few && at <= named_wide(to); at++)
		n->wide[at / 8] |= 1 << at % 8;
}

#endif
