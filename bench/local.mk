# Measurements, built and run on demand: make bench, make bench-calls, make bench-start, make bench/link_bench, make bench/group_bench, make bench-core
EXTRA_PROGRAMS = bench/link_bench bench/group_bench bench/core_bench bench/generator bench/epoll_server bench/short_client
bench_link_bench_SOURCES = bench/link_bench.c
bench_link_bench_LDADD = src/liblink.a src/libbase.a
bench_group_bench_SOURCES = bench/group_bench.c tests/net/frames.c tests/net/frames.h
bench_group_bench_LDADD = src/libkernel.a src/libbase.a

bench_core_bench_SOURCES = bench/core_bench.c tests/tcp/core_pair.h
bench_core_bench_LDFLAGS = $(subst -fno-lto,,$(AM_LDFLAGS)) $(LTO_LDFLAGS)
bench_core_bench_LDADD = src/libtcp.a src/libsteer.a src/libwire.a src/libbase.a

bench_generator_SOURCES = bench/generator.c
bench_generator_LDADD = src/liblink.a src/libwire.a src/libbase.a
bench_epoll_server_SOURCES = bench/epoll_server.c
bench_epoll_server_LDADD =
bench_short_client_SOURCES = bench/short_client.c
bench_short_client_LDADD =

EXTRA_DIST += bench/core.sh bench/core.figures bench/bench.py bench/calls.py bench/loads.py bench/close.py bench/close_programs.py bench/close_load.py bench/start.py

# BENCH_FLAGS="--rounds 9 --only wrk": see bench/bench.py --help
.PHONY: bench
bench: all tests/bridge/bridge bench/generator bench/epoll_server
	FINESSE_BUILD_DIR="$(abs_top_builddir)" /usr/bin/python3 $(srcdir)/bench/bench.py --tsv bench.tsv $(BENCH_FLAGS)

# CALLS_FLAGS="--only client --rounds 3 kernel /an/older/tree .": see bench/calls.py --help
.PHONY: bench-calls
bench-calls: all
	FINESSE_BUILD_DIR="$(abs_top_builddir)" /usr/bin/python3 $(srcdir)/bench/calls.py $(CALLS_FLAGS)

# START_FLAGS="--only alone --rounds 30 /an/older/tree .": see bench/start.py --help
.PHONY: bench-start
bench-start: all bench/epoll_server bench/short_client
	FINESSE_BUILD_DIR="$(abs_top_builddir)" /usr/bin/python3 $(srcdir)/bench/start.py $(START_FLAGS)

# CLOSE_FLAGS="--rows nginx -n 1000", "--both --link loss=1%", "--one 300", "--many 300 --svg close.svg": see bench/close.py --help
.PHONY: bench-close
bench-close: all tests/endurance/load tests/bridge/bridge
	FINESSE_BUILD_DIR="$(abs_top_builddir)" /usr/bin/python3 $(srcdir)/bench/close.py $(CLOSE_FLAGS)

# Instructions of the TCP core alone. RECORD=record writes bench/core.figures anew.
.PHONY: bench-core
bench-core: bench/core_bench
	$(srcdir)/bench/core.sh bench/core_bench $(srcdir)/bench/core.figures $(RECORD)
