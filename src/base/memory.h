/*
 * Where buffers come from. The TCP core allocates through this table only, so that an engine can
 * give it a struct pool (base/pool.h) and a test can give it malloc.
 */
#ifndef FINESSE_BASE_MEMORY_H
#define FINESSE_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

struct tcp_memory {
	void *(*alloc)(struct tcp_memory *m, size_t size); /* power-of-two sizes; NULL when out */
	void (*free)(struct tcp_memory *m, void *p, size_t size);
	/*
	 * by the caller, for one allocation: it is not refused for what others have (Linux gives each socket
	 * tcp_wmem[0], however short memory is)
	 */
	bool owed;
	bool pressure; /* it runs short: buffers stop growing, windows get small (Linux's tcp_memory_pressure) */
};

#endif
