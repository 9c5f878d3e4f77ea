#include "base/siphash.h"

#include <endian.h>
#include <stdbool.h>
#include <string.h>

struct sip_state {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotl(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static inline uint64_t load_le64(const uint8_t *p)
{
	uint64_t x;
	memcpy(&x, p, sizeof x);
	return le64toh(x);
}

static inline uint64_t load_le32(const uint8_t *p)
{
	uint32_t x;
	memcpy(&x, p, sizeof x);
	return le32toh(x);
}

/* The number of rounds is a constant at each call: inlined, they cost no loop, and the state stays in registers. */
#define SIP_INLINE static inline __attribute__((always_inline))

SIP_INLINE void sip_rounds(struct sip_state *s, int n)
{
#pragma GCC unroll 4
	while (n--) {
		s->v0 += s->v1;
		s->v1 = rotl(s->v1, 13) ^ s->v0;
		s->v0 = rotl(s->v0, 32);
		s->v2 += s->v3;
		s->v3 = rotl(s->v3, 16) ^ s->v2;
		s->v0 += s->v3;
		s->v3 = rotl(s->v3, 21) ^ s->v0;
		s->v2 += s->v1;
		s->v1 = rotl(s->v1, 17) ^ s->v2;
		s->v2 = rotl(s->v2, 32);
	}
}

SIP_INLINE void sip_absorb(struct sip_state *s, uint64_t word, int rounds)
{
	s->v3 ^= word;
	sip_rounds(s, rounds);
	s->v0 ^= word;
}

/* Rounds per 8-byte word and at the end: SipHash-c-d. */
SIP_INLINE uint64_t siphash(const void *data, size_t len, const uint8_t key[16], int c_rounds, int d_rounds)
{
	const uint8_t *p = data;
	uint64_t k0 = load_le64(key), k1 = load_le64(key + 8);
	/* The constants spell "somepseudorandomlygeneratedbytes" (§2.1 of the paper). */
	struct sip_state s = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
			      k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573};
	uint64_t last = (uint64_t)len << 56;
	size_t words = len / 8;

	for (; words; words--, p += 8)
		sip_absorb(&s, load_le64(p), c_rounds);
	size_t i = 0;
	if (len & 4) {
		last |= load_le32(p);
		i = 4;
	}
	for (; i < len % 8; i++)
		last |= (uint64_t)p[i] << (8 * i);
	sip_absorb(&s, last, c_rounds);
	s.v2 ^= 0xff;
	sip_rounds(&s, d_rounds);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

uint64_t siphash24(const void *data, size_t len, const uint8_t key[16])
{
	return siphash(data, len, key, 2, 4);
}

uint64_t siphash13(const void *data, size_t len, const uint8_t key[16])
{
	return siphash(data, len, key, 1, 3);
}

static bool has(const struct siphash_memo *memo, const void *data, size_t len)
{
	return len && memo->len == len && memcmp(memo->data, data, len) == 0;
}

static uint64_t note(struct siphash_memo *memo, const void *data, size_t len, uint64_t hash)
{
	if (len > SIPHASH_MEMO_BYTES)
		return hash;
	memcpy(memo->data, data, len);
	memo->len = (uint8_t)len;
	memo->hash = hash;
	return hash;
}

uint64_t siphash24_again(struct siphash_memo *memo, const void *data, size_t len, const uint8_t key[16])
{
	return has(memo, data, len) ? memo->hash : note(memo, data, len, siphash24(data, len, key));
}

uint64_t siphash13_again(struct siphash_memo *memo, const void *data, size_t len, const uint8_t key[16])
{
	return has(memo, data, len) ? memo->hash : note(memo, data, len, siphash13(data, len, key));
}
