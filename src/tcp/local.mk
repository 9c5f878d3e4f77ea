noinst_LTLIBRARIES += src/libtcp.la
src_libtcp_la_SOURCES = \
	src/tcp/close_reason.c \
	src/tcp/isn.c \
	src/tcp/ts_clock.h \
	src/tcp/tw.c \
	src/tcp/tcp.h \
	src/tcp/tcp_conn.h \
	src/tcp/close_policy.h \
	src/tcp/close_reason.def \
	src/tcp/tcp_counter.def \
	src/tcp/seq.h \
	src/tcp/snapshot.h
