noinst_LIBRARIES += src/libip.a
src_libip_a_CFLAGS = $(ROOM_CFLAGS)
src_libip_a_SOURCES = \
	src/ip/demux.c \
	src/ip/host.c \
	src/ip/host.h \
	src/ip/host_claim.c \
	src/ip/host_counter.def \
	src/ip/host_echo.c \
	src/ip/host_internal.h \
	src/ip/host_mld.c \
	src/ip/host_neigh.c \
	src/ip/icmp.c \
	src/ip/input.c \
	src/ip/ip.h \
	src/ip/ip_fate.def \
	src/ip/ip_internal.h \
	src/ip/output.c \
	src/ip/pieces.c \
	src/ip/pieces.h
