# Without root: a user's own namespaces.
EXTRA_DIST += tests/rootless/rootless.py
dist_check_SCRIPTS += tests/rootless/run.sh
TESTS += tests/rootless/run.sh

# With CAP_NET_RAW alone: a container.
check_PROGRAMS += tests/rootless/container
tests_rootless_container_SOURCES = tests/rootless/container.c
tests_rootless_container_LDADD =
EXTRA_DIST += tests/rootless/container.py
dist_check_SCRIPTS += tests/rootless/container_test.sh
TESTS += tests/rootless/container_test.sh

.PHONY: check-rootless
check-rootless: all
	FINESSE_BUILD_DIR="$(abs_top_builddir)" /usr/bin/python3 $(srcdir)/tests/rootless/rootless.py --long
