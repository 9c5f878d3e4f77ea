# Other people's test suites, natively and under finesse: root, own network namespaces.
EXTRA_DIST += tests/suites/suites.py tests/suites/mirrored.py tests/suites/results.py tests/suites/found.py tests/suites/mirror.c
dist_check_SCRIPTS += tests/suites/run.sh
TESTS += tests/suites/run.sh

# A program's loopback becomes the wire.
check_DATA += tests/suites/mirror.so
CLEANFILES += tests/suites/mirror.so
tests/suites/mirror.so: tests/suites/mirror.c
	$(AM_V_CC)$(MKDIR_P) tests/suites && $(CC) -O1 -Wall -Wextra -fPIC -shared -o $@ $(srcdir)/tests/suites/mirror.c
