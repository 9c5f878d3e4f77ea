/*
 * Which fds of this process are ours: fd number → open file.
 *
 * A `struct file` is what the kernel calls an open file description: dup'ed numbers share one, and
 * calls in progress hold a reference, so that a close in one thread never pulls a socket from under
 * another. Readers take no lock. Writers hold the table's lock, for a few instructions and system
 * calls: never over a turn of the engine, so the engine's lock is not taken under it, but by fork.
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
 * Options that were set on a connection of connect's, and not yet on the kernel socket beneath, which has a use for them only when the connection is undone
 * (unconnect.c). A system call for each, on each connection, was too much for that. Numbers only; the latest value of each.
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
	_Atomic bool busy; /* being decided or handed over: one thread at a time */
	bool listener;     /* FILE_SOCK: it listens */
	_Atomic int status; /* FILE_SOCK: flags of F_SETFL that a socket keeps and does not heed */
	struct candidate candidate; /* FILE_CANDIDATE: what the program did to it */
	struct late_options late;   /* busy: FILE_SOCK */
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

/* What is at this number; no reference. */
static inline struct file *fdtable_peek(int fd)
{
	if ((unsigned)fd >> FDTABLE_BITS)
		return NULL;
	fdtable_slot *page =
	    atomic_load_explicit(&fdtable_pages[fd >> FDTABLE_PAGE_BITS], memory_order_acquire);
	if (!page)
		return NULL;
	return atomic_load_explicit(&page[fd & ((1 << FDTABLE_PAGE_BITS) - 1)],
				    memory_order_acquire);
}

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
/* The lowest number >= fd with an entry, or -1. Lock held by the caller when it matters. */
int fdtable_next(int fd);

void fdtable_lock(void);
void fdtable_unlock(void);
/* Is a file being decided or handed over? Lock held. */
bool fdtable_is_busy(void);
/* In a fork's child: calls in progress of the other threads are gone with them. Lock held. */
void fdtable_forget_calls(void);

#endif
