/*
 * TIME-WAITs that the kernel had on a port when our listener took it.
 *
 * Left there, such a TIME-WAIT would answer the peer of our later connection with the same 4-tuple when this process is
 * gone: with ACKs of the old connection instead of RST, and the peer would hang. So it is ended (SOCK_DESTROY) when
 * that connection begins. Until then it
 * stays: the peer's late FIN is asked for by input_unknown, and is the kernel's to acknowledge.
 *
 * The dump at listen(2) told of every one of them, and its cookie; nothing prolongs one, since segments to the port do
 * not reach the kernel any more. So a SYN costs a search in a sorted array, and a request only if its 4-tuple is there.
 * 12 bytes each, for a minute. Entries are found by a hash: another 4-tuple with the same one is asked for with a
 * cookie that is not its own, and the kernel has nothing.
 */
#include "socket/engine.h"

#include "base/fd.h"
#include "kernel/diag.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* TCP_TIMEWAIT_LEN of Linux */
#define KERNEL_TIME_WAIT_US (60 * USEC_PER_SEC)
#define FIRST_ENTRIES       64

struct entry {
	uint32_t hash;
	uint32_t cookie[2];
};

struct kernel_tw {
	int64_t until;
	uint8_t secret[16];
	struct entry *entries; /* by hash, once sorted */
	size_t n, size;
	bool sorted;
	int diag_fd; /* once one is to be ended */
};

struct kernel_tw *kernel_tw_new(struct engine *e)
{
	struct kernel_tw *t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	t->diag_fd = -1;
	t->until = e->now + KERNEL_TIME_WAIT_US;
	memcpy(t->secret, e->hash_secret, sizeof t->secret);
	return t;
}

void kernel_tw_free(struct kernel_tw **t)
{
	if (!*t)
		return;
	fd_close((*t)->diag_fd);
	free((*t)->entries);
	free(*t);
	*t = NULL;
}

bool kernel_tw_is_over(const struct kernel_tw *t, int64_t now)
{
	return now >= t->until;
}

int kernel_tw_add(struct kernel_tw *t, const struct flow_key *key, const uint32_t cookie[2])
{
	if (t->n == t->size) {
		size_t size = t->size ? 2 * t->size : FIRST_ENTRIES;
		struct entry *more = reallocarray(t->entries, size, sizeof *more);
		if (!more)
			return -ENOMEM;
		t->entries = more;
		t->size = size;
	}
	t->entries[t->n++] = (struct entry){flow_key_hash(key, t->secret), {cookie[0], cookie[1]}};
	t->sorted = false;
	return 0;
}

static int by_hash(const void *a, const void *b)
{
	uint32_t x = ((const struct entry *)a)->hash, y = ((const struct entry *)b)->hash;
	return (x > y) - (x < y);
}

/* The first entry with this hash or a higher one. */
static size_t lower_bound(const struct kernel_tw *t, uint32_t hash)
{
	size_t low = 0, high = t->n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (t->entries[middle].hash < hash)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_ended(const struct entry *x)
{
	return x->cookie[0] == 0 && x->cookie[1] == 0;
}

static int end_one(struct kernel_tw *t, const struct flow_key *key, struct entry *x, int ifindex)
{
	if (t->diag_fd < 0)
		t->diag_fd = diag_open();
	if (t->diag_fd < 0)
		return t->diag_fd;
	int r = diag_end(t->diag_fd, key, x->cookie, ifindex);
	if (r > 0)
		memset(x->cookie, 0, sizeof x->cookie);
	return r;
}

int kernel_tw_end(struct kernel_tw *t, const struct flow_key *key, int ifindex)
{
	if (!t->sorted)
		qsort(t->entries, t->n, sizeof *t->entries, by_hash);
	t->sorted = true;
	uint32_t hash = flow_key_hash(key, t->secret);
	for (size_t i = lower_bound(t, hash); i < t->n && t->entries[i].hash == hash; i++) {
		struct entry *x = &t->entries[i];
		if (is_ended(x))
			continue;
		int r = end_one(t, key, x, ifindex);
		if (r < 0)
			return r;
	}
	return 0;
}
