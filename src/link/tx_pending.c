#include "link/tx_pending.h"

#include "base/sys.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#define RECORD_ALIGN 8
#define RECORD_ROOM(len)                                                                           \
	((uint32_t)(offsetof(struct tx_pending_frame, data) + (len) + RECORD_ALIGN - 1) &          \
	 ~(RECORD_ALIGN - 1u))

int tx_pending_open(struct tx_pending *p)
{
	memset(p, 0, sizeof *p);
	void *mem = sys_mmap(NULL, TX_PENDING_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (sys_is_error(mem))
		return -ENOMEM;
	p->mem = mem;
	return 0;
}

void tx_pending_close(struct tx_pending *p)
{
	if (p->mem)
		munmap(p->mem, TX_PENDING_BYTES);
	memset(p, 0, sizeof *p);
}

static struct tx_pending_frame *record_at(const struct tx_pending *p, uint32_t at)
{
	return (struct tx_pending_frame *)(p->mem + at);
}

/* The end of the ring is too short for `room`: closes it with an empty record (if one fits) and
 * goes on at its start. */
static bool tx_pending_wrap(struct tx_pending *p, uint32_t room)
{
	uint32_t end = TX_PENDING_BYTES - p->tail;
	if (room <= end)
		return true;
	if (p->used + end + room > TX_PENDING_BYTES)
		return false;
	if (end >= sizeof(struct tx_pending_frame))
		record_at(p, p->tail)->len = 0;
	p->used += end;
	p->tail = 0;
	return true;
}

bool tx_pending_push(struct tx_pending *p, const struct iovec *iov, int n_iov, bool v6, uint8_t priority)
{
	uint32_t len = 0;
	for (int i = 0; i < n_iov; i++)
		len += iov[i].iov_len;
	uint32_t room = RECORD_ROOM(len);
	assert(len > 0);
	if (!p->n)
		p->head = p->tail = p->used = 0;
	if (p->used + room > TX_PENDING_BYTES || !tx_pending_wrap(p, room))
		return false;

	struct tx_pending_frame *f = record_at(p, p->tail);
	f->len = len;
	f->room = room;
	f->v6 = v6;
	f->priority = priority;
	uint8_t *to = f->data;
	for (int i = 0; i < n_iov; to += iov[i++].iov_len)
		if (iov[i].iov_len)
			memcpy(to, iov[i].iov_base, iov[i].iov_len);
	p->tail += room;
	p->used += room;
	p->n++;
	return true;
}

/* Where the record that starts at `at`, or behind an unused end, really is. */
static uint32_t record_skip_end(const struct tx_pending *p, uint32_t at)
{
	if (TX_PENDING_BYTES - at < sizeof(struct tx_pending_frame) || record_at(p, at)->len == 0)
		return 0;
	return at;
}

struct tx_pending_frame *tx_pending_first(const struct tx_pending *p)
{
	return p->n ? record_at(p, record_skip_end(p, p->head)) : NULL;
}

struct tx_pending_frame *tx_pending_next(const struct tx_pending *p,
					 const struct tx_pending_frame *f)
{
	uint32_t at = (uint32_t)((const uint8_t *)f - p->mem) + f->room;
	if (at == p->tail)
		return NULL;
	return record_at(p, record_skip_end(p, at));
}

void tx_pending_pop(struct tx_pending *p)
{
	assert(p->n);
	uint32_t at = record_skip_end(p, p->head);
	if (at != p->head)
		p->used -= TX_PENDING_BYTES - p->head;
	uint32_t room = record_at(p, at)->room;
	p->used -= room;
	p->head = at + room;
	p->n--;
}
