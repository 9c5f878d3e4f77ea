noinst_LTLIBRARIES += src/libsteer.la
src_libsteer_la_SOURCES = \
	src/steer/steer.h
