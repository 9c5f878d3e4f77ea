noinst_LTLIBRARIES += src/libkernel.la
src_libkernel_la_CFLAGS = $(AM_CFLAGS) $(MNL_CFLAGS)
src_libkernel_la_LIBADD = $(MNL_LIBS)
src_libkernel_la_SOURCES = \
	src/kernel/classifier.h \
	src/kernel/diag.h \
	src/kernel/firewall.h \
	src/kernel/handover.h \
	src/kernel/netlink.c \
	src/kernel/netlink.h \
	src/kernel/netstate.h \
	src/kernel/ports.h
