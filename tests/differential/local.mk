# What a program sees of its sockets under finesse, compared with the kernel's TCP: call × state × ending × option. Root, network namespaces.
check_PROGRAMS += tests/differential/differential
tests_differential_differential_SOURCES = tests/differential/differential.h tests/differential/blocks.c tests/differential/subject.c \
	tests/differential/peer.c tests/differential/cases.c tests/differential/states.c tests/differential/calls_receive.c \
	tests/differential/calls_send.c tests/differential/calls_wait.c tests/differential/calls_name.c tests/differential/calls_file.c \
	tests/differential/calls_option.c tests/differential/calls_steps.c tests/differential/calls_threads.c tests/differential/calls_process.c tests/differential/calls_masked.c
# It passes what no sane program passes; the compiler's and a sanitizer's checks of that would be in the way.
tests_differential_differential_CFLAGS = $(AM_CFLAGS) -Wno-nonnull -fno-sanitize=all
EXTRA_DIST += tests/differential/differential.py tests/differential/expected tests/differential/always
dist_check_SCRIPTS += tests/differential/run.sh tests/differential/verdicts.sh
TESTS += tests/differential/run.sh tests/differential/verdicts.sh

# The long form, some ten minutes: every case. DIFFERENTIAL_FLAGS='--keep DIR --minutes N' does it in pieces.
.PHONY: check-differential
check-differential: all tests/differential/differential
	FINESSE_BUILD_DIR="$(abs_top_builddir)" /usr/bin/python3 $(srcdir)/tests/differential/differential.py $(DIFFERENTIAL_FLAGS)
