/* What libcheck programs here need besides the end that they share (tests/suite.h). */
#ifndef FINESSE_TESTS_UNIT_H
#define FINESSE_TESTS_UNIT_H

#include <stdlib.h>
#include <string.h>

#include "tests/suite.h"

/*
 * Runs `body` on an exact copy of the first n bytes in its own allocation, so that ASan or valgrind sees any read past
 * them.
 */
#define WITH_EXACT_COPY(name, bytes, n, body)                                                      \
	do {                                                                                       \
		size_t copy_len_ = (n);                                                            \
		uint8_t *name = malloc(copy_len_ ? copy_len_ : 1);                                 \
		memcpy(name, bytes, copy_len_);                                                    \
		body;                                                                              \
		free(name);                                                                        \
	} while (0)

#endif
