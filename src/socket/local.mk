noinst_LTLIBRARIES += src/libsocket.la
src_libsocket_la_SOURCES = \
	src/socket/inside.c \
	src/socket/sock.h
