# First what takes the processor longest (cc_test, two minutes under the sanitizers): `make -j check` begins the tests in this order, and the others run beside it.
include tests/sim/local.mk
include tests/unit/local.mk
include tests/tcp/local.mk
include tests/probes/local.mk
include tests/fuzz/local.mk
include tests/net/local.mk
include tests/process/local.mk
include tests/bridge/local.mk
include tests/apps/local.mk
include tests/rootless/local.mk
include tests/badlink/local.mk
include tests/endurance/local.mk
include tests/cli/local.mk
include tests/waits/local.mk
include tests/hostile/local.mk
include tests/differential/local.mk
include tests/suites/local.mk
include tests/services/local.mk
include tests/script/local.mk

# Each test program runs under a bound: one that hangs fails, by its name, and says what it waited for.
LOG_COMPILER = /usr/bin/python3
AM_LOG_FLAGS = $(srcdir)/tests/bounded.py
SH_LOG_COMPILER = $(LOG_COMPILER)
AM_SH_LOG_FLAGS = $(AM_LOG_FLAGS)
EXTRA_DIST += tests/bounded.py tests/suite.h
dist_check_SCRIPTS += tests/bounded_test.sh
TESTS += tests/bounded_test.sh

# The dependency direction of src/README.md: its script proves itself on a sample tree first.
dist_check_SCRIPTS += tests/layering.sh
TESTS += tests/layering.sh

# Comments are not wider than two files side by side allow.
dist_check_SCRIPTS += tests/prose.sh
TESTS += tests/prose.sh

# No test vanishes unseen.
dist_check_SCRIPTS += tests/complete.sh
TESTS += tests/complete.sh
# libcheck's own bound, 4 s, decides by how busy the machine is; this one ends what hangs. The multiplier is for the bounds that tests set themselves, too.
AM_TESTS_ENVIRONMENT = KNOWN_PROGRAMS='$(check_PROGRAMS)'; KNOWN_SCRIPTS='$(dist_check_SCRIPTS)'; CK_DEFAULT_TIMEOUT=60; CK_TIMEOUT_MULTIPLIER=10; \
	export KNOWN_PROGRAMS KNOWN_SCRIPTS CK_DEFAULT_TIMEOUT CK_TIMEOUT_MULTIPLIER;
