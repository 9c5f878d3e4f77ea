noinst_LIBRARIES += src/liblink.a
src_liblink_a_SOURCES = \
	src/link/impair.c \
	src/link/impair.h \
	src/link/link.c \
	src/link/link.h \
	src/link/link_counter.def \
	src/link/link_impl.h \
	src/link/packet.c \
	src/link/packet.h \
	src/link/packet_rx.c \
	src/link/packet_tx.c \
	src/link/remains.c \
	src/link/remains.h \
	src/link/tx_budget.c \
	src/link/tx_budget.h \
	src/link/tx_pending.c \
	src/link/tx_pending.h
src_liblink_a_CFLAGS = $(ROOM_CFLAGS) $(URING_CFLAGS)
