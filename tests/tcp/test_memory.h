/* A struct tcp_memory for tests: malloc, counted, so that a leak or a wrong size is a failed test. */
#ifndef FINESSE_TESTS_TCP_TEST_MEMORY_H
#define FINESSE_TESTS_TCP_TEST_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"

struct test_memory {
	struct tcp_memory memory;
	uint64_t live_blocks, live_bytes, peak_bytes, allocs;
	size_t limit_bytes; /* refuse to go beyond; 0: no limit */
	bool gives_owed;    /* … but for what is owed */
};

void test_memory_init(struct test_memory *m);

#endif
