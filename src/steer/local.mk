noinst_LIBRARIES += src/libsteer.a
src_libsteer_a_CFLAGS = $(ROOM_CFLAGS)
src_libsteer_a_SOURCES = \
	src/steer/budget.c \
	src/steer/budget.h \
	src/steer/http_scan.h \
	src/steer/learner.c \
	src/steer/learner.h \
	src/steer/prefixes.c \
	src/steer/prefixes.h \
	src/steer/reader.c \
	src/steer/reader.h \
	src/steer/reader_http.c \
	src/steer/reader_internal.h \
	src/steer/reader_lines.c \
	src/steer/steer.c \
	src/steer/steer.h
