/*
 * Theory of operation: demultiplexing
 *
 * Owns: the array of buckets, nothing else; a struct flow is its owner's, linked while inserted. The 4-tuple is hashed
 * by SipHash-1-3 under a secret (base/siphash.h), so that peers who choose their ports cannot choose a bucket. The hash
 * is kept in the flow: a chain is walked by comparing it, and growing rehashes nothing.
 *
 * Limits: the table doubles when there are more flows than buckets and never shrinks (8 bytes per flow of the
 * peak). When doubling finds no memory, chains grow longer and nothing else happens.
 */
#include <assert.h>
#include <errno.h>

#include "base/siphash.h"
#include "base/zeroed.h"
#include "ip/ip.h"

#define FIRST_BUCKETS 256 /* a page half full; a server passes it at once, a client never */

_Static_assert(sizeof(struct flow_key) == 36, "flow_key has no padding: its bytes are hashed");

uint32_t flow_key_hash(const struct flow_key *key, const uint8_t secret[16])
{
	uint8_t v4[FLOW_KEY_V4_BYTES];
	size_t len;
	const void *bytes = flow_key_bytes(key, v4, &len);
	return siphash13(bytes, len, secret);
}

void flow_hasher_init(struct flow_hasher *h, const uint8_t secret[16])
{
	*h = (struct flow_hasher){0};
	memcpy(h->secret, secret, sizeof h->secret);
	h->last_hash = flow_key_hash(&h->last, h->secret);
}

uint32_t flow_hash(struct flow_hasher *h, const struct flow_key *key)
{
	if (!flow_key_equal(&h->last, key)) {
		h->last = *key;
		h->last_hash = flow_key_hash(key, h->secret);
	}
	return h->last_hash;
}

static struct flow **bucket_of(const struct demux *d, uint32_t hash)
{
	return &d->buckets[hash & (d->n_buckets - 1)];
}

int demux_init(struct demux *d, struct flow_hasher *hasher)
{
	d->buckets = zeroed_new(FIRST_BUCKETS * sizeof *d->buckets);
	if (!d->buckets)
		return -ENOMEM;
	d->n_buckets = FIRST_BUCKETS;
	d->count = 0;
	d->hasher = hasher;
	return 0;
}

void demux_fini(struct demux *d)
{
	zeroed_free(d->buckets, d->n_buckets * sizeof *d->buckets);
	d->buckets = NULL;
	d->n_buckets = d->count = 0;
}

static struct flow *find(const struct demux *d, const struct flow_key *key, uint32_t hash)
{
	struct flow *f = *bucket_of(d, hash);
	while (f && (f->hash != hash || !flow_key_equal(&f->key, key)))
		f = f->hash_next;
	return f;
}

struct flow *demux_find(const struct demux *d, const struct flow_key *key)
{
	return find(d, key, flow_hash(d->hasher, key));
}

static void grow(struct demux *d)
{
	struct demux bigger = *d;

	if (d->n_buckets > UINT32_MAX / 2)
		return;
	bigger.n_buckets = d->n_buckets * 2;
	bigger.buckets = zeroed_new(bigger.n_buckets * sizeof *bigger.buckets);
	if (!bigger.buckets)
		return;
	for (uint32_t i = 0; i < d->n_buckets; i++)
		for (struct flow *f = d->buckets[i], *next; f; f = next) {
			struct flow **bucket = bucket_of(&bigger, f->hash);
			next = f->hash_next;
			f->hash_next = *bucket;
			*bucket = f;
		}
	zeroed_free(d->buckets, d->n_buckets * sizeof *d->buckets);
	*d = bigger;
}

int demux_insert(struct demux *d, struct flow *f)
{
	struct flow **bucket;

	f->hash = flow_hash(d->hasher, &f->key);
	if (find(d, &f->key, f->hash))
		return -EEXIST;
	if (d->count == d->n_buckets)
		grow(d);
	bucket = bucket_of(d, f->hash);
	f->hash_next = *bucket;
	*bucket = f;
	d->count++;
	return 0;
}

void demux_remove(struct demux *d, struct flow *f)
{
	struct flow **at = bucket_of(d, f->hash);

	while (*at != f) {
		assert(*at); /* it was inserted, and its key left alone */
		at = &(*at)->hash_next;
	}
	*at = f->hash_next;
	f->hash_next = NULL;
	d->count--;
}
