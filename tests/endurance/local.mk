# Very many connections in one process, and processes that die: in network namespaces, as root.
check_PROGRAMS += tests/endurance/load
tests_endurance_load_SOURCES = tests/endurance/load.c tests/endurance/load.h tests/endurance/client.c tests/endurance/server.c
EXTRA_DIST += tests/endurance/endurance.py
dist_check_SCRIPTS += tests/endurance/run.sh
TESTS += tests/endurance/run.sh

# The long form, some fifteen minutes: a million connections in each case, 10,000 at once, 200 kills
.PHONY: check-endurance
check-endurance: all tests/endurance/load
	FINESSE_BUILD_DIR="$(abs_top_builddir)" /usr/bin/python3 $(srcdir)/tests/endurance/endurance.py --long $(ENDURANCE_FLAGS)
