# Fuzz targets: a replay program over the corpus, always, in make check; with --enable-fuzzers (CC=clang) a
# libFuzzer program besides, with everything instrumented for it.
FUZZ_LIBS = src/libip.a src/libtcp.a src/libsteer.a src/libwire.a src/libbase.a

check_PROGRAMS += tests/fuzz/frame_replay
TESTS += tests/fuzz/frame_replay
tests_fuzz_frame_replay_SOURCES = tests/fuzz/frame_fuzz.c tests/fuzz/fuzz.h tests/fuzz/link_none.c tests/fuzz/replay.c
tests_fuzz_frame_replay_CPPFLAGS = $(AM_CPPFLAGS) -DCORPUS='"tests/fuzz/corpus/frame"'
tests_fuzz_frame_replay_LDADD = $(FUZZ_LIBS)
EXTRA_DIST += tests/fuzz/corpus

check_PROGRAMS += tests/fuzz/reader_replay
TESTS += tests/fuzz/reader_replay
tests_fuzz_reader_replay_SOURCES = tests/fuzz/reader_fuzz.c tests/fuzz/fuzz.h tests/fuzz/replay.c
tests_fuzz_reader_replay_CPPFLAGS = $(AM_CPPFLAGS) -DCORPUS='"tests/fuzz/corpus/reader"'
tests_fuzz_reader_replay_LDADD = src/libsteer.a src/libbase.a

check_PROGRAMS += tests/fuzz/host_replay
TESTS += tests/fuzz/host_replay
tests_fuzz_host_replay_SOURCES = tests/fuzz/host_fuzz.c tests/fuzz/fuzz.h tests/fuzz/replay.c
tests_fuzz_host_replay_CPPFLAGS = $(AM_CPPFLAGS) -DCORPUS='"tests/fuzz/corpus/host"'
tests_fuzz_host_replay_LDADD = src/libip.a src/libwire.a src/libbase.a

check_PROGRAMS += tests/fuzz/pieces_replay
TESTS += tests/fuzz/pieces_replay
tests_fuzz_pieces_replay_SOURCES = tests/fuzz/pieces_fuzz.c tests/fuzz/fuzz.h tests/fuzz/replay.c
tests_fuzz_pieces_replay_CPPFLAGS = $(AM_CPPFLAGS) -DCORPUS='"tests/fuzz/corpus/pieces"'
tests_fuzz_pieces_replay_LDADD = src/libip.a src/libwire.a src/libbase.a

if FUZZERS
FUZZ_TARGETS = tests/fuzz/frame_fuzz tests/fuzz/reader_fuzz tests/fuzz/host_fuzz tests/fuzz/pieces_fuzz
AM_CFLAGS += -fsanitize=fuzzer-no-link
noinst_PROGRAMS += $(FUZZ_TARGETS)
tests_fuzz_pieces_fuzz_SOURCES = tests/fuzz/pieces_fuzz.c tests/fuzz/fuzz.h
tests_fuzz_pieces_fuzz_LDADD = src/libip.a src/libwire.a src/libbase.a
tests_fuzz_pieces_fuzz_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_host_fuzz_SOURCES = tests/fuzz/host_fuzz.c tests/fuzz/fuzz.h
tests_fuzz_host_fuzz_LDADD = src/libip.a src/libwire.a src/libbase.a
tests_fuzz_host_fuzz_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_reader_fuzz_SOURCES = tests/fuzz/reader_fuzz.c tests/fuzz/fuzz.h
tests_fuzz_reader_fuzz_LDADD = src/libsteer.a src/libbase.a
tests_fuzz_reader_fuzz_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_frame_fuzz_SOURCES = tests/fuzz/frame_fuzz.c tests/fuzz/fuzz.h tests/fuzz/link_none.c
tests_fuzz_frame_fuzz_LDADD = $(FUZZ_LIBS)
tests_fuzz_frame_fuzz_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
endif

# SOAK_SECONDS=3600, SOAK_SEED=N: see tests/fuzz/soak.sh
EXTRA_DIST += tests/fuzz/soak.sh
.PHONY: soak
soak: tests/sim/sim_test $(FUZZ_TARGETS)
	srcdir="$(srcdir)" SOAK_SECONDS="$(SOAK_SECONDS)" SOAK_SEED="$(SOAK_SEED)" sh $(srcdir)/tests/fuzz/soak.sh
