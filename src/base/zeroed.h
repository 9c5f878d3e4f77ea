/*
 * Large memory that begins as zeroes and is mostly never touched: tables of a process that lives for one connection.
 * calloc clears each page of it.
 */
#ifndef FINESSE_BASE_ZEROED_H
#define FINESSE_BASE_ZEROED_H

#include <stddef.h>
#include <sys/mman.h>

#include "base/sys.h"

/* NULL: there is none. */
static inline void *zeroed_new(size_t size)
{
	void *p = sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return sys_is_error(p) ? NULL : p;
}

/* … which the processes that are forked from now on have in common with this one. */
static inline void *zeroed_shared_new(size_t size)
{
	void *p = sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return sys_is_error(p) ? NULL : p;
}

static inline void zeroed_free(void *p, size_t size)
{
	if (p)
		sys_munmap(p, size);
}

#endif
