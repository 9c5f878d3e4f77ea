# readiness: masks, poll, epoll sets
noinst_LIBRARIES += src/libready.a
src_libready_a_SOURCES = \
	src/ready/epset.c \
	src/ready/epwait.c \
	src/ready/internal.h \
	src/ready/mark.c \
	src/ready/mask.c \
	src/ready/poll.c \
	src/ready/queue.c \
	src/ready/ready.h
