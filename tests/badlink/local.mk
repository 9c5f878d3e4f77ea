# Unmodified programs over a bad network, in network namespaces: root.
EXTRA_DIST += tests/badlink/badlink.py tests/badlink/goodput.py
dist_check_SCRIPTS += tests/badlink/run.sh
TESTS += tests/badlink/run.sh

# The long form, some twenty minutes: BADLINK_FLAGS="--runs 50 --seed 1"
.PHONY: check-badlink
check-badlink: all tests/bridge/bridge
	FINESSE_BUILD_DIR="$(abs_top_builddir)" /usr/bin/python3 $(srcdir)/tests/badlink/badlink.py --runs 50 $(BADLINK_FLAGS)

# Goodput against the kernel's over a table of paths, some 25 minutes in all. GOODPUT_FLAGS="--rounds 3 --congestion bbr --only deep"
.PHONY: goodput
goodput: all tests/bridge/bridge
	FINESSE_BUILD_DIR="$(abs_top_builddir)" /usr/bin/python3 $(srcdir)/tests/badlink/goodput.py $(GOODPUT_FLAGS)
