# Without root: a user's own namespaces.
EXTRA_DIST += tests/rootless/rootless.py
dist_check_SCRIPTS += tests/rootless/run.sh
TESTS += tests/rootless/run.sh

.PHONY: check-rootless
check-rootless: all
	FINESSE_BUILD_DIR="$(abs_top_builddir)" /usr/bin/python3 $(srcdir)/tests/rootless/rootless.py --long
