/* What every libcheck program here needs to run its one suite. */
#ifndef FINESSE_TESTS_UNIT_H
#define FINESSE_TESTS_UNIT_H

#include <check.h>
#include <stdlib.h>

static inline int unit_run(Suite *s)
{
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

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
