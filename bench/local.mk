# Measurements, built and run on demand: make bench, make bench/link_bench
EXTRA_PROGRAMS = bench/link_bench
bench_link_bench_SOURCES = bench/link_bench.c
bench_link_bench_LDADD = src/liblink.a src/libbase.a

EXTRA_DIST += bench/bench.py bench/loads.py

# BENCH_FLAGS="--rounds 9 --only wrk": see bench/bench.py --help
.PHONY: bench
bench: all tests/bridge/bridge
	FINESSE_BUILD_DIR="$(abs_top_builddir)" /usr/bin/python3 $(srcdir)/bench/bench.py --tsv bench.tsv $(BENCH_FLAGS)
