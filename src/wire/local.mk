noinst_LIBRARIES += src/libwire.a
src_libwire_a_CFLAGS = $(ROOM_CFLAGS)
src_libwire_a_SOURCES = \
	src/wire/arp.c \
	src/wire/arp.h \
	src/wire/bytes.h \
	src/wire/checksum.c \
	src/wire/checksum.h \
	src/wire/eth.c \
	src/wire/eth.h \
	src/wire/icmp.c \
	src/wire/icmp.h \
	src/wire/ipv4.c \
	src/wire/ipv4.h \
	src/wire/ipv6.c \
	src/wire/ipv6.h \
	src/wire/mld.c \
	src/wire/mld.h \
	src/wire/ndisc.c \
	src/wire/ndisc.h \
	src/wire/tcp.c \
	src/wire/tcp.h
