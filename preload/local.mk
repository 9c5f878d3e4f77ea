# the shim: libfinesse.so
noinst_LTLIBRARIES += preload/libshim.la
preload_libshim_la_SOURCES = \
	preload/aliases.c \
	preload/calls.def \
	preload/copy.c \
	preload/epoll.c \
	preload/exec.c \
	preload/fds.c \
	preload/fdtable.c \
	preload/fdtable.h \
	preload/files.c \
	preload/handover.c \
	preload/init.c \
	preload/io.c \
	preload/poll.c \
	preload/process.c \
	preload/real.c \
	preload/registrations.c \
	preload/registrations.h \
	preload/shim.h \
	preload/signals.c \
	preload/sockets.c \
	preload/stdio.c \
	preload/syscall.c \
	preload/waits.h
# The wrappers carry libc's names: fortified redirects in the headers would get in their way.
preload_libshim_la_CFLAGS = $(AM_CFLAGS) -U_FORTIFY_SOURCE -fno-builtin

# its tests
if HAVE_CHECK
check_PROGRAMS += tests/unit/fdtable_test
TESTS += tests/unit/fdtable_test
tests_unit_fdtable_test_SOURCES = tests/unit/fdtable_test.c preload/fdtable.c
tests_unit_fdtable_test_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_fdtable_test_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir)
tests_unit_fdtable_test_LDADD = src/libsocket.la src/libbase.la $(UNIT_LIBS)
endif
