noinst_LIBRARIES += src/libsocket.a
src_libsocket_a_CPPFLAGS = $(AM_CPPFLAGS) -DFINESSE_VERSION='"$(PACKAGE_VERSION)"'
src_libsocket_a_SOURCES = \
	src/socket/admit.c \
	src/socket/bind.c \
	src/socket/cmsg.c \
	src/socket/conn.c \
	src/socket/connect.c \
	src/socket/control.c \
	src/socket/defer.c \
	src/socket/dest.c \
	src/socket/disconnect.c \
	src/socket/engine.c \
	src/socket/engine.h \
	src/socket/exceptions.c \
	src/socket/fallback.c \
	src/socket/fork.c \
	src/socket/handover.c \
	src/socket/iface.c \
	src/socket/service.c \
	src/socket/sock_wait.c \
	src/socket/input.c \
	src/socket/judged.c \
	src/socket/kernel_tw.c \
	src/socket/listen.c \
	src/socket/names.c \
	src/socket/namespace.c \
	src/socket/options.c \
	src/socket/options.def \
	src/socket/options.h \
	src/socket/options_decide.c \
	src/socket/options_table.c \
	src/socket/options_values.c \
	src/socket/parting.c \
	src/socket/pmtu.c \
	src/socket/sock.h \
	src/socket/sock_counter.def \
	src/socket/stat.c \
	src/socket/stream.c \
	src/socket/syn.c \
	src/socket/time_wait.c \
	src/socket/trace.c \
	src/socket/trace_queue.c \
	src/socket/trace_queue.h \
	src/socket/trace_text.c \
	src/socket/trace_text.h \
	src/socket/turn.c
