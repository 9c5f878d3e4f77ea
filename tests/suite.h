/* How a libcheck program ends: it runs the suite, whose checks print themselves, and returns main's exit status. */
#ifndef TESTS_SUITE_H
#define TESTS_SUITE_H

#include <check.h>
#include <stdlib.h>

/* The number of checks that failed. The suite is freed. */
static inline int suite_run(Suite *s)
{
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed;
}

static inline int suite_main(Suite *s)
{
	return suite_run(s) ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
