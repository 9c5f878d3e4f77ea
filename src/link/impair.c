/* One direction of a bad network; see impair.h. */
#include "link/impair.h"

#include <stdlib.h>
#include <string.h>

#define ETH_HDR_BYTES  14
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd

/* SplitMix64 (Steele, Lea, Flood 2014): every seed is a good one. */
static uint64_t draw(struct impair *im)
{
	uint64_t z = im->random += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* 0 … n-1 from 64 random bits. */
static uint64_t below(uint64_t bits, uint64_t n)
{
	return (uint64_t)(((unsigned __int128)bits * n) >> 64);
}

static bool chance(uint64_t bits, uint32_t ppm)
{
	return below(bits, IMPAIR_PPM) < ppm;
}

void impair_init(struct impair *im, const struct impair_config *config, unsigned direction, bool has_eth)
{
	*im = (struct impair){.config = *config, .has_eth = has_eth, .last_arrival = INT64_MIN, .busy_until = INT64_MIN};
	im->random = config->seed;
	im->random = draw(im) + direction; /* streams far apart, not one shifted by a draw */
	im->random = draw(im);
}

void impair_fini(struct impair *im)
{
	for (size_t i = 0; i < im->count; i++)
		free(im->heap[i]);
	free(im->heap);
	im->heap = NULL;
	im->count = im->capacity = im->flight_bytes = 0;
}

/* ---- the heap ---- */

static bool is_earlier(const struct impair_frame *a, const struct impair_frame *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static bool heap_push(struct impair *im, struct impair_frame *f)
{
	if (im->count == im->capacity) {
		size_t capacity = im->capacity ? 2 * im->capacity : 256;
		void *heap = realloc(im->heap, capacity * sizeof(*im->heap));
		if (!heap)
			return false;
		im->heap = heap;
		im->capacity = capacity;
	}
	size_t i = im->count++;
	for (; i > 0 && is_earlier(f, im->heap[(i - 1) / 2]); i = (i - 1) / 2)
		im->heap[i] = im->heap[(i - 1) / 2];
	im->heap[i] = f;
	return true;
}

static struct impair_frame *heap_pop(struct impair *im)
{
	struct impair_frame *first = im->heap[0], *last = im->heap[--im->count];
	size_t i = 0;
	for (size_t child; (child = 2 * i + 1) < im->count; i = child) {
		if (child + 1 < im->count && is_earlier(im->heap[child + 1], im->heap[child]))
			child++;
		if (!is_earlier(im->heap[child], last))
			break;
		im->heap[i] = im->heap[child];
	}
	im->heap[i] = last;
	return first;
}

/* ---- a frame's way ---- */

static uint64_t queue_bytes(const struct impair_config *c)
{
	if (c->queue_bytes >= 0)
		return (uint64_t)c->queue_bytes;
	uint64_t bytes = c->rate_bps / 8 * IMPAIR_QUEUE_US / USEC_PER_SEC;
	return bytes > IMPAIR_QUEUE_MIN_BYTES ? bytes : IMPAIR_QUEUE_MIN_BYTES;
}

/* When its last bit is through the bottleneck; TIME_NEVER: the queue was full. */
static int64_t pass_bottleneck(struct impair *im, int64_t now, uint32_t len)
{
	uint64_t rate = im->config.rate_bps;
	if (!rate)
		return now;
	int64_t start = im->busy_until > now ? im->busy_until : now;
	uint64_t burst = im->config.burst_bytes;
	uint64_t queued = (unsigned __int128)(start - now) * rate / 8 / USEC_PER_SEC; /* and what the bucket let pass */
	if (queued && queued + len > queue_bytes(&im->config) + burst)
		return TIME_NEVER;
	/* Whole microseconds are coarse for a small frame on a fast link: the remainder is carried. */
	uint64_t bit_us = UINT64_C(8) * len * USEC_PER_SEC + im->rate_remainder;
	im->busy_until = start + (int64_t)(bit_us / rate);
	im->rate_remainder = bit_us % rate;
	int64_t out = im->busy_until - (int64_t)(UINT64_C(8) * burst * USEC_PER_SEC / rate);
	return out > now ? out : now;
}

static void corrupt(struct impair *im, struct impair_frame *f, uint64_t bits)
{
	uint32_t skip = 0;
	if (im->has_eth) {
		skip = ETH_HDR_BYTES;
		if (f->len <= skip)
			return;
		unsigned type = (unsigned)f->bytes[12] << 8 | f->bytes[13];
		if (type != ETHERTYPE_IPV4 && type != ETHERTYPE_IPV6)
			return;
	}
	uint64_t bit = below(bits, UINT64_C(8) * (f->len - skip));
	f->bytes[skip + bit / 8] ^= (uint8_t)(1u << bit % 8);
	im->counters.corrupted++;
}

static int64_t arrival(struct impair *im, int64_t out, uint64_t jitter_bits, uint64_t reorder_bits, uint64_t late_bits)
{
	const struct impair_config *c = &im->config;
	int64_t at = out + c->delay_us + (int64_t)below(jitter_bits, (uint64_t)c->jitter_us + 1);
	if (c->batch_us)
		at += c->batch_us - 1 - (at + c->batch_us - 1) % c->batch_us;
	if (at < im->last_arrival)
		at = im->last_arrival;
	if (!chance(reorder_bits, c->reorder_ppm)) {
		im->last_arrival = at;
		return at;
	}
	int64_t late_max = c->delay_us / 2 > IMPAIR_REORDER_MIN_US ? c->delay_us / 2 : IMPAIR_REORDER_MIN_US;
	im->counters.reordered++;
	return at + 1 + (int64_t)below(late_bits, (uint64_t)late_max);
}

/* Draws even where nothing is launched, so that the next frame's fate does not depend on this one's. */
static void launch(struct impair *im, const uint8_t *bytes, uint32_t len, int64_t out, bool goes)
{
	uint64_t jitter_bits = draw(im), reorder_bits = draw(im), late_bits = draw(im), corrupt_bits = draw(im), bit_bits = draw(im);
	if (!goes)
		return;
	struct impair_frame *f = im->flight_bytes + len > IMPAIR_FLIGHT_MAX_BYTES ? NULL : malloc(sizeof(*f) + len);
	if (!f) {
		im->counters.overflowed++;
		return;
	}
	memcpy(f->bytes, bytes, len);
	f->len = len;
	f->order = im->next_order++;
	f->at = arrival(im, out, jitter_bits, reorder_bits, late_bits);
	if (chance(corrupt_bits, im->config.corrupt_ppm))
		corrupt(im, f, bit_bits);
	if (!heap_push(im, f)) {
		im->counters.overflowed++;
		free(f);
		return;
	}
	im->flight_bytes += len;
}

void impair_send(struct impair *im, int64_t now, const uint8_t *frame, uint32_t len)
{
	im->counters.frames++;
	im->counters.bytes += len;
	bool lost = chance(draw(im), im->config.loss_ppm), twice = chance(draw(im), im->config.dup_ppm);
	int64_t out = pass_bottleneck(im, now, len);
	if (out == TIME_NEVER)
		im->counters.overflowed++;
	else if (lost)
		im->counters.lost++;
	else if (twice)
		im->counters.duplicated++;
	bool goes = out != TIME_NEVER && !lost;
	launch(im, frame, len, out, goes);
	launch(im, frame, len, out, goes && twice);
}

int64_t impair_next(const struct impair *im)
{
	return im->count ? im->heap[0]->at : TIME_NEVER;
}

const struct impair_frame *impair_peek(const struct impair *im, int64_t now)
{
	return im->count && im->heap[0]->at <= now ? im->heap[0] : NULL;
}

void impair_pop(struct impair *im)
{
	struct impair_frame *f = heap_pop(im);
	im->flight_bytes -= f->len;
	im->counters.delivered++;
	free(f);
}
