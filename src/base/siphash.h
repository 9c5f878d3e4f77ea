/*
 * SipHash (Aumasson and Bernstein, 2012): a keyed hash whose output a peer that does not know the key cannot steer.
 * Pure.
 *
 * SipHash-2-4 is for what a peer sees and must not predict: ISNs (RFC 6528), timestamp offsets, cookies. SipHash-1-3,
 * with half the rounds, is for the place in a
 * table: a peer learns of it by time at most, or 20 bits of it as IPv6's flow label, and no way is known to make keys
 * collide without the secret. The hash tables of Python and Rust, and Linux's hsiphash, rest on the same.
 */
#ifndef FINESSE_BASE_SIPHASH_H
#define FINESSE_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

#define SIPHASH_MEMO_BYTES 39

/*
 * What was hashed last, and the hash: where mostly the same is asked for again, as in a program whose connections go to
 * one peer. {0} at first, and when the key changes.
 */
struct siphash_memo {
	uint64_t hash;
	uint8_t len; /* 0: none */
	uint8_t data[SIPHASH_MEMO_BYTES];
};

uint64_t siphash24(const void *data, size_t len, const uint8_t key[16]);
uint64_t siphash13(const void *data, size_t len, const uint8_t key[16]);
/*
 * As the functions above. A memo is of one function and one key; what is longer than SIPHASH_MEMO_BYTES is hashed each
 * time.
 */
uint64_t siphash24_again(struct siphash_memo *memo, const void *data, size_t len, const uint8_t key[16]);
uint64_t siphash13_again(struct siphash_memo *memo, const void *data, size_t len, const uint8_t key[16]);

#endif
