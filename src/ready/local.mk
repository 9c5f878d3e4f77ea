noinst_LIBRARIES += src/libready.a
src_libready_a_SOURCES = \
	src/ready/epset.c \
	src/ready/poll.c
