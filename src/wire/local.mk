noinst_LTLIBRARIES += src/libwire.la
src_libwire_la_SOURCES = \
	src/wire/tcp.h
