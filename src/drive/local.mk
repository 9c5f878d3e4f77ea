noinst_LIBRARIES += src/libdrive.a
src_libdrive_a_SOURCES = \
	src/drive/bulk.h \
	src/drive/drive.c \
	src/drive/drive.h \
	src/drive/helper.c \
	src/drive/inside.c \
	src/drive/inside.h \
	src/drive/putoff.c \
	src/drive/sched.c \
	src/drive/sched.h \
	src/drive/stopped.c \
	src/drive/wait.c \
	src/drive/waiter.c \
	src/drive/waiter.h
