noinst_LTLIBRARIES += src/liblink.la
src_liblink_la_SOURCES = \
	src/link/link.h \
	src/link/link_counter.def
