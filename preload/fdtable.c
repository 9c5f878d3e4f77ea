/*
 * The fd table.
 *
 * Owns: a two-level array of pointers, and the files, which are type-stable: they go back to a pool
 * and their memory is never unmapped. That is what lets fdtable_get work without a lock: it reads
 * the slot, takes a reference unless the count is zero, and looks at the slot again; if the number
 * changed hands in between, it held, for a moment, a reference on a file that is still a file, and
 * gives it back. Invariants: refs >= numbers; a file with refs 0 is in the pool (or in
 * fdtable_on_release on its way there); `fd` is a number that leads to the file whenever numbers >
 * 0. A number is on its way out (its slot has a mark) only while one thread is inside, in the middle of a close or a
 *    dup2; that thread waits for no other number meanwhile. Memory comes from mmap: malloc may be the program's own,
 *    and may be what is calling us.
 */
#include "fdtable.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <string.h>

#include "base/sys.h"
#include "socket/sock.h"

_Atomic(fdtable_slot *) fdtable_pages[1 << (FDTABLE_BITS - FDTABLE_PAGE_BITS)];
_Atomic bool fdtable_used;
int (*fdtable_on_release)(struct file *f);

static _Atomic uint32_t lock_word; /* 0 free, 1 held, 2 held and waited for */
static struct file *pool;          /* lock */
static struct file *chunks;        /* lock: every file ever made, by chunk; [0] of a chunk links */
static int highest_page = -1;      /* lock */

static _Atomic uint32_t n_leaving; /* numbers on their way out */
static uintptr_t last_mark;        /* lock */
/*
 * Somebody waits for one; moves when one is gone and somebody waits. A handler may jump out of a wait, so the waiters
 * are not counted: who wakes them takes the word back, and who goes on waiting says so again.
 */
static _Atomic bool awaited;
static _Atomic uint32_t left_count;

#define CHUNK_FILES 64 /* about two 4 KiB pages at a time */

/* The first of each is here: a program with an epoll and no TCP socket makes no system call for us.
 */
static struct file first_chunk[CHUNK_FILES];
static fdtable_slot first_page[1 << FDTABLE_PAGE_BITS];

void fdtable_lock(void)
{
	uint32_t seen = 0;
	engine_enter();
	if (atomic_compare_exchange_strong(&lock_word, &seen, 1))
		return;
	while (atomic_exchange(&lock_word, 2) != 0)
		sys_call(SYS_futex, &lock_word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

void fdtable_unlock(void)
{
	if (atomic_exchange(&lock_word, 0) == 2)
		sys_call(SYS_futex, &lock_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	engine_leave();
}

static void *map_zeroed(size_t size)
{
	long p = sys_call(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	return p < 0 && p >= -4095 ? NULL : (void *)p;
}

static bool pool_grow(void)
{
	struct file *chunk = chunks ? map_zeroed(CHUNK_FILES * sizeof *chunk) : first_chunk;
	if (!chunk)
		return false;
	chunk->next_free = chunks;
	chunks = chunk;
	for (int i = 1; i < CHUNK_FILES; i++) {
		chunk[i].next_free = pool;
		pool = &chunk[i];
	}
	return true;
}

struct file *file_new(enum file_kind kind)
{
	fdtable_lock();
	struct file *f = NULL;
	if (pool || pool_grow()) {
		f = pool;
		pool = f->next_free;
		f->candidate = (struct candidate){0};
		f->late.n = 0;
		f->kept = 0;
		f->listener = false;
		f->mode_told = 0;
		f->status = 0;
		f->numbers = 0;
		f->fd = f->parked_fd = -1;
		f->sock = NULL;
		list_init(&f->registrations);
		f->seized = 0;
		if (kind == FILE_EPOLL)
			epset_init(&f->epset, engine_of_process(), -1);
		f->kind = kind;
		f->refs = 1; /* last: from here on fdtable_get may take it */
	}
	fdtable_unlock();
	return f;
}

void file_free(struct file *f)
{
	fdtable_lock();
	f->kind = FILE_FREE;
	f->next_free = pool;
	pool = f;
	fdtable_unlock();
}

void file_await(struct file *f)
{
	for (uint32_t seen; (seen = f->seized);)
		if (seen == 2 || atomic_compare_exchange_strong(&f->seized, &seen, 2))
			sys_call(SYS_futex, &f->seized, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

static void seize(struct file *f, bool to_copy)
{
	for (;;) {
		fdtable_lock();
		if (!f->seized)
			break;
		fdtable_unlock();
		file_await(f);
	}
	f->seized = 1;
	f->copied = to_copy;
	engine_enter();
	fdtable_unlock();
}

void file_seize(struct file *f)
{
	seize(f, false);
}

void file_seize_to_copy(struct file *f)
{
	seize(f, true);
}

void file_unseize(struct file *f)
{
	if (atomic_exchange(&f->seized, 0) == 2)
		sys_call(SYS_futex, &f->seized, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	engine_leave();
}

static bool file_get(struct file *f)
{
	uint32_t refs = atomic_load_explicit(&f->refs, memory_order_relaxed);
	do {
		if (refs == 0)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
	    &f->refs, &refs, refs + 1, memory_order_acquire, memory_order_relaxed));
	return true;
}

int file_put(struct file *f)
{
	if (atomic_fetch_sub(&f->refs, 1) != 1)
		return 0;
	return fdtable_on_release(f);
}

struct file *fdtable_get(int fd)
{
	for (;;) {
		struct file *f = fdtable_peek(fd);
		if (!f)
			return NULL;
		if (!file_get(f))
			continue; /* just closed: the slot changes, or has changed */
		if (fdtable_peek(fd) == f)
			return f;
		file_put(f);
	}
}

/* Lock held. */
static fdtable_slot *slot_of(int fd, bool make)
{
	int n = fd >> FDTABLE_PAGE_BITS;
	if (fd < 0 || n >= 1 << (FDTABLE_BITS - FDTABLE_PAGE_BITS))
		return NULL;
	fdtable_slot *page = fdtable_pages[n];
	if (!page) {
		if (!make)
			return NULL;
		page = n == 0 ? first_page : map_zeroed(sizeof *page << FDTABLE_PAGE_BITS);
		if (!page)
			return NULL;
		if (n > highest_page)
			highest_page = n;
		atomic_store_explicit(&fdtable_pages[n], page, memory_order_release);
	}
	return &page[fd & ((1 << FDTABLE_PAGE_BITS) - 1)];
}

int fdtable_next(int fd)
{
	const int per_page = 1 << FDTABLE_PAGE_BITS;
	for (; fd >> FDTABLE_PAGE_BITS <= highest_page; fd = (fd | (per_page - 1)) + 1) {
		fdtable_slot *page = fdtable_pages[fd >> FDTABLE_PAGE_BITS];
		if (!page)
			continue;
		for (int i = fd & (per_page - 1); i < per_page; i++)
			if (page[i] && !fdtable_is_mark(page[i]))
				return (fd & ~(per_page - 1)) | i;
	}
	return -1;
}

/* `f` lost number fd: keep f->fd one that leads to it. Lock held. */
static void number_lost(struct file *f, int fd)
{
	f->numbers--;
	if (f->fd != fd)
		return;
	f->fd = -1;
	if (f->numbers == 0)
		return;
	for (int n = fdtable_next(0); n >= 0; n = fdtable_next(n + 1))
		if (fdtable_peek(n) == f) {
			f->fd = n;
			return;
		}
}

/* A number is not on its way out any more: its slot has changed. */
static void note_left(void)
{
	atomic_fetch_sub(&n_leaving, 1);
	if (!atomic_exchange(&awaited, false))
		return;
	atomic_fetch_add(&left_count, 1);
	sys_call(SYS_futex, &left_count, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Lock held. What was there. Only a file ends it that a number is on its way out, or who closes it (fdtable_left). */
static struct file *slot_set(fdtable_slot *slot, int fd, struct file *f)
{
	if (!f && fdtable_is_mark(*slot))
		return NULL;
	struct file *old = atomic_exchange(slot, f);
	if (fdtable_is_mark(old)) {
		note_left();
		return NULL;
	}
	if (old)
		number_lost(old, fd);
	return old;
}

struct file *fdtable_swap(int fd, struct file *f, bool *ok)
{
	struct file *old = NULL;
	fdtable_lock();
	fdtable_slot *slot = slot_of(fd, f != NULL);
	if (slot) {
		if (f) {
			f->numbers++;
			if (f->fd < 0)
				f->fd = fd;
			fdtable_used = true;
		}
		old = slot_set(slot, fd, f);
	}
	fdtable_unlock();
	if (ok)
		*ok = slot != NULL;
	return old;
}

struct file *fdtable_take(int fd, bool empty, uintptr_t *mark, struct file **busy)
{
	*mark = 0;
	fdtable_lock();
	fdtable_slot *slot = slot_of(fd, empty);
	struct file *f = slot ? *slot : NULL;
	*busy = f && (fdtable_is_mark(f) || (f->seized && f->copied)) ? f : NULL;
	if (*busy)
		f = NULL;
	if (f || (empty && slot && !*busy)) {
		atomic_fetch_add(&n_leaving, 1);
		*mark = last_mark = (last_mark + 2) | 1;
		slot_set(slot, fd, (struct file *)*mark);
	}
	fdtable_unlock();
	return f;
}

void fdtable_left(int fd, uintptr_t mark)
{
	fdtable_slot *slot = fdtable_slot_at(fd);
	struct file *leaving = (struct file *)mark;
	if (mark && slot && atomic_compare_exchange_strong(slot, &leaving, NULL))
		note_left();
}

bool fdtable_is_leaving(int fd)
{
	fdtable_slot *slot = fdtable_slot_at(fd);
	return slot && fdtable_is_mark(atomic_load(slot));
}

struct file *fdtable_peek_left(int fd)
{
	if (engine_inside)
		return NULL;
	int saved = errno;
	for (;;) {
		uint32_t seen = atomic_load(&left_count);
		atomic_store(&awaited, true);
		if (!fdtable_is_leaving(fd))
			break;
		sys_call(SYS_futex, &left_count, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
	}
	errno = saved;
	return fdtable_peek(fd);
}

bool fdtable_is_awaited(void)
{
	return atomic_load(&awaited);
}

bool fdtable_is_busy(void)
{
	if (atomic_load(&n_leaving))
		return true;
	for (struct file *chunk = chunks; chunk; chunk = chunk->next_free)
		for (int i = 1; i < CHUNK_FILES; i++)
			if (chunk[i].kind != FILE_FREE && chunk[i].seized)
				return true;
	return false;
}

/* In a fork's child that did not wait: who closed them is not here. */
static void forget_leaving(void)
{
	for (int n = 0; n <= highest_page && atomic_load(&n_leaving); n++)
		for (int i = 0; fdtable_pages[n] && i < 1 << FDTABLE_PAGE_BITS; i++)
			if (fdtable_is_mark(fdtable_pages[n][i]))
				fdtable_left(n << FDTABLE_PAGE_BITS | i, (uintptr_t)fdtable_pages[n][i]);
}

void fdtable_forget_calls(void)
{
	awaited = false;
	forget_leaving();
	for (struct file *chunk = chunks; chunk; chunk = chunk->next_free)
		for (int i = 1; i < CHUNK_FILES; i++) {
			struct file *f = &chunk[i];
			f->seized = 0;
			if (f->kind != FILE_FREE && f->numbers)
				f->refs = f->numbers;
		}
}
