# What paths and strangers do to connections: root, network namespaces.
EXTRA_DIST += tests/hostile/path.py tests/hostile/strangers.py
dist_check_SCRIPTS += tests/hostile/run.sh
TESTS += tests/hostile/run.sh
EXTRA_DIST += tests/hostile/flood.py
check_PROGRAMS += tests/hostile/syn_flood
tests_hostile_syn_flood_SOURCES = tests/hostile/syn_flood.c
# The long form of flood.py, with the kernel beside it.
.PHONY: check-flood
check-flood: all tests/hostile/syn_flood
	FINESSE_BUILD_DIR="$(abs_top_builddir)" /usr/bin/python3 $(srcdir)/tests/hostile/flood.py --rate 100000 --connects 1000 --kernel
