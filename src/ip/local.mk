noinst_LTLIBRARIES += src/libip.la
src_libip_la_SOURCES = \
	src/ip/ip.h \
	src/ip/ip_fate.def
