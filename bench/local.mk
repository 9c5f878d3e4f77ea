# Measurements, built on demand: make bench/link_bench
EXTRA_PROGRAMS = bench/link_bench
bench_link_bench_SOURCES = bench/link_bench.c
bench_link_bench_LDADD = src/liblink.a src/libbase.a
