noinst_LTLIBRARIES += src/libkernel.la
src_libkernel_la_SOURCES = \
	src/kernel/classifier.h \
	src/kernel/netstate.h \
	src/kernel/ports.h \
	src/kernel/firewall.h \
	src/kernel/diag.h \
	src/kernel/handover.h
