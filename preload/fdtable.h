/*
 * Which fds of this process are ours: fd number → open file.
 *
 * A `struct file` is what the kernel calls an open file description: dup'ed numbers share one, and
 * calls in progress hold a reference, so that a close in one thread never pulls a socket from under
 * another. Readers take no lock. Writers hold the table's lock, for a few instructions and system
 * calls: never over a turn of the engine, so the engine's lock is not taken under it, but by fork.
 *
 * A number that is closed is on its way out from the moment when the table forgets its file until the kernel has freed
 * it; dup2 does the same to the number that it takes over. In between the kernel has still something there, which is no
 * answer to any call. So a call that names such a number waits until it is gone, or is another file's. Who is inside
 * does not wait: for it there is nothing at the number.
 *
 * A file may be seized. While a thread decides an undecided socket, hands one over, or makes one undecided again, the
 * file is neither what it was nor what it becomes. Linux's lock of a socket lets other calls wait until such a moment
 * is over. So does a seizure:
 * - Only who has seized a file changes its kind. Who changes an undecided socket (an option, a name, O_NONBLOCK, a
 *   number that is closed) has seized it, too: so a
 *   decision sees all of the change or nothing of it.
 * - A call on a file that is seized waits, and then looks again at the number. But a call on a FILE_SOCK goes to the
 *   engine, whose lock does the same.
 * - The thread that has seized one is inside (drive/inside.h). So no handler of the program runs in it, which could
 *   call on the same file, or jump away. It does nothing that
 *   waits for long, but for a handover's handshake, which a cancellation may leave: an undo ends the seizure then.
 * - It takes the engine's lock and the table's while it has seized a file, and seizes no second one. Who waits for a
 *   seizure's end has none of the three.
 * - While a file is seized to be copied, none of its numbers is closed: the copy is of what the number led to.
 * - A seizure begins under the table's lock, and fork holds that lock while no file is seized. So no child inherits
 *   one. Where fork would not wait any longer, the child
 *   ends it (fdtable_forget_calls).
 */
#ifndef FINESSE_PRELOAD_FDTABLE_H
#define FINESSE_PRELOAD_FDTABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "ready/ready.h"
#include "socket/options.h"

struct sock;

enum file_kind {
	FILE_FREE,      /* in the pool */
	FILE_CANDIDATE, /* a kernel TCP socket that connect or listen will decide */
	FILE_SOCK,      /* served by the engine */
	FILE_EPOLL,     /* an epoll instance */
	FILE_KERNEL,    /* was ours, is the kernel's now: no number leads here any more */
};

/*
 * Options that were set on a connection of connect's, and not yet on the kernel socket beneath, which has a use for
 * them only when the connection is undone (unconnect.c). A system call for each, on each connection, was too much for
 * that. Numbers only; the latest value of each.
 */
#define FILE_LATE_OPTIONS 4
struct late_options {
	uint8_t n;
	uint8_t index[FILE_LATE_OPTIONS]; /* in option_table, in the order in which they were first set */
	int value[FILE_LATE_OPTIONS];
};

struct file {
	_Atomic uint32_t refs; /* numbers + calls in progress; 0 only in the pool */
	_Atomic uint8_t kind;
	_Atomic uint32_t seized; /* 0 by nobody, 1 by a thread, 2 and somebody waits */
	bool copied;       /* lock: it is seized, and by a dup */
	bool listener;     /* FILE_SOCK: it listens */
	uint8_t mode_told; /* listener: enum mode_told (handover.c) */
	_Atomic int status; /* FILE_SOCK: flags of F_SETFL that a socket keeps and does not heed */
	struct candidate candidate; /* FILE_CANDIDATE: what the program did to it */
	struct late_options late;   /* seized: FILE_SOCK */
	uint8_t kept;      /* FILE_CANDIDATE, FILE_SOCK: the kernel socket's keeper is at this place (reuse.c); 0: it has none */
	uint32_t numbers;  /* lock: how many fds lead here */
	int fd;            /* lock: one of them; -1: none */
	int parked_fd; /* the fd that stays open for calls in progress after the last close, or -1
			*/
	struct sock *sock;         /* FILE_SOCK, FILE_KERNEL */
	struct list registrations; /* engine's lock: in epolls */
	struct epset epset;        /* FILE_EPOLL: the engine's part of it; see ready/ready.h */
	struct file *next_free;
};

/* The kernel's own ceiling of nr_open is 0x3fffffc0: every number there can be fits, pages are made
 * on demand. */
#define FDTABLE_BITS      30
#define FDTABLE_PAGE_BITS 12

typedef _Atomic(struct file *) fdtable_slot;
extern _Atomic(fdtable_slot *) fdtable_pages[1 << (FDTABLE_BITS - FDTABLE_PAGE_BITS)];
/* Becomes true with the first entry and stays so. */
extern _Atomic bool fdtable_used;
/* Called, without the lock, when the last reference of a file went. Its result is what close(2)
 * returns. */
extern int (*fdtable_on_release)(struct file *f);

/*
 * Stands in the table for a number that is on its way out: no pointer to a file, which is even. Each taking has its
 * own. A number may be closed, given out anew and be on its way out once more, before the thread that closed it first
 * says that it is gone; that ends its own mark, not the later one.
 */
static inline bool fdtable_is_mark(const struct file *f)
{
	return (uintptr_t)f & 1;
}
/* Who is not inside waits until the number is not on its way out any more. What is there then; NULL inside. */
struct file *fdtable_peek_left(int fd);

static inline fdtable_slot *fdtable_slot_at(int fd)
{
	if ((unsigned)fd >> FDTABLE_BITS)
		return NULL;
	fdtable_slot *page =
	    atomic_load_explicit(&fdtable_pages[fd >> FDTABLE_PAGE_BITS], memory_order_acquire);
	return page ? &page[fd & ((1 << FDTABLE_PAGE_BITS) - 1)] : NULL;
}

/* What is at this number; no reference. */
static inline struct file *fdtable_peek(int fd)
{
	fdtable_slot *slot = fdtable_slot_at(fd);
	struct file *f = slot ? atomic_load_explicit(slot, memory_order_acquire) : NULL;
	return __builtin_expect(fdtable_is_mark(f), 0) ? fdtable_peek_left(fd) : f;
}

bool fdtable_is_leaving(int fd);

/* What is at this number, with a reference (file_put), or NULL. */
struct file *fdtable_get(int fd);
/* 0, or what fdtable_on_release said. */
int file_put(struct file *f);

/* A new file: one reference, no number. NULL without memory. */
struct file *file_new(enum file_kind kind);
/* Back to the pool; fdtable_on_release ends with it. */
void file_free(struct file *f);
/*
 * Put `f` (NULL: nothing) at this number. The caller's reference becomes the number's. Returns what
 * was there: its number's reference is the caller's to file_put now. *ok (may be NULL when f is
 * NULL) false: no memory, nothing changed.
 */
struct file *fdtable_swap(int fd, struct file *f, bool *ok);
/*
 * The number loses its file, as by fdtable_swap, and is on its way out until fdtable_left, or until fdtable_swap puts a
 * file there. NULL, and nothing is on its
 * way: there was nothing; `empty`: the number is on its way all the same. *busy: nor now. Another thread makes a copy
 * of this file: file_await(*busy), and again; or it is a mark, and another thread has the number on its way: wait for
 * that, and again. *mark is for fdtable_left; 0: nothing is on its way.
 */
struct file *fdtable_take(int fd, bool empty, uintptr_t *mark, struct file **busy);
void fdtable_left(int fd, uintptr_t mark);
/* The lowest number >= fd with an entry, or -1. Lock held by the caller when it matters. */
int fdtable_next(int fd);

void fdtable_lock(void);
void fdtable_unlock(void);
/* The caller has a reference. From seizing on its thread is inside. */
void file_seize(struct file *f);
void file_seize_to_copy(struct file *f);
void file_unseize(struct file *f);
/* Until nobody has seized it. No reference is needed. */
void file_await(struct file *f);
/* Does anybody wait for a number that is on its way out? For tests. */
bool fdtable_is_awaited(void);
/* Is a file seized, or a number on its way out? Lock held. */
bool fdtable_is_busy(void);
/* In a fork's child: calls in progress of the other threads are gone with them. Lock held. */
void fdtable_forget_calls(void);

#endif
