# the shim: libfinesse.so
noinst_LIBRARIES += preload/libshim.a
preload_libshim_a_SOURCES = \
	preload/adopt.c \
	preload/aio.c \
	preload/aliases.c \
	preload/call.c \
	preload/calls.def \
	preload/clone.c \
	preload/copy.c \
	preload/epoll.c \
	preload/death.c \
	preload/exec.c \
	preload/exit.c \
	preload/fds.c \
	preload/fdtable.c \
	preload/fdtable.h \
	preload/files.c \
	preload/handover.c \
	preload/init.c \
	preload/io.c \
	preload/known.c \
	preload/namespaces.c \
	preload/passed.c \
	preload/plugins.c \
	preload/poll.c \
	preload/privilege.c \
	preload/process.c \
	preload/real.c \
	preload/reuse.c \
	preload/select.c \
	preload/shim.h \
	preload/signals.c \
	preload/sockets.c \
	preload/spawn.c \
	preload/stdio.c \
	preload/syscall.c \
	preload/unconnect.c \
	preload/undecided.c \
	preload/unreached.c \
	preload/uring.c \
	preload/waits.h
# The wrappers carry libc's names: fortified redirects in the headers would get in their way.
preload_libshim_a_CFLAGS = $(AM_CFLAGS) -U_FORTIFY_SOURCE -fno-builtin

# The shared object: every layer, but only the wrappers visible. Interposition needs an export map without version nodes, which
# -fvisibility=hidden is. -Bsymbolic-functions: our own names for libc's calls mean our wrappers, whoever else interposes.
SHIM_LIBS = preload/libshim.a src/libready.a src/libsocket.a src/libprocess.a src/libdrive.a src/libsteer.a src/libtcp.a src/libip.a src/liblink.a src/libkernel.a src/libwire.a \
	src/libbase.a
SHIM_LINK = $(CC) -shared -Wl,-z,defs -Wl,-z,nodelete -Wl,-Bsymbolic-functions $(CFLAGS) $(subst -fno-lto,,$(AM_LDFLAGS)) $(LDFLAGS) $(LTO_LDFLAGS)
noinst_DATA = libfinesse.so
CLEANFILES = libfinesse.so
libfinesse.so: $(SHIM_LIBS)
	$(AM_V_CCLD)$(SHIM_LINK) -o $@ \
		-Wl,--whole-archive preload/libshim.a -Wl,--no-whole-archive $(SHIM_LIBS) $(LIBS)
install-exec-hook:
	$(MKDIR_P) "$(DESTDIR)$(pkglibdir)"
	$(INSTALL_PROGRAM) libfinesse.so "$(DESTDIR)$(pkglibdir)/libfinesse.so"
uninstall-hook:
	rm -f "$(DESTDIR)$(pkglibdir)/libfinesse.so"

# its tests
if HAVE_CHECK
check_PROGRAMS += tests/unit/fdtable_test
TESTS += tests/unit/fdtable_test
tests_unit_fdtable_test_SOURCES = tests/unit/fdtable_test.c preload/fdtable.c
tests_unit_fdtable_test_LDADD = src/libdrive.a src/libbase.a $(UNIT_LIBS)
endif

# The shim over a fake engine made of hidden kernel sockets: programs must not see a difference.
check_LIBRARIES += tests/unit/libfakeengine.a
tests_unit_libfakeengine_a_SOURCES = tests/unit/fake_engine.c tests/unit/fake_engine.h tests/unit/fake_ready.c src/drive/inside.c src/socket/options_table.c
check_DATA = tests/unit/libshimfake.so
CLEANFILES += tests/unit/libshimfake.so
tests/unit/libshimfake.so: preload/libshim.a tests/unit/libfakeengine.a src/libprocess.a src/libkernel.a src/libbase.a
	$(AM_V_CCLD)$(SHIM_LINK) -o $@ -Wl,--whole-archive preload/libshim.a -Wl,--no-whole-archive \
		tests/unit/libfakeengine.a src/libprocess.a src/libkernel.a src/libbase.a

check_PROGRAMS += tests/net/shim_calls
tests_net_shim_calls_SOURCES = tests/net/shim_calls.c tests/net/shim_calls.h tests/net/shim_children.c tests/net/shim_files.c tests/net/shim_libc.c tests/net/shim_signals.c \
	tests/net/shim_waits.c
tests_net_shim_calls_CFLAGS = $(AM_CFLAGS) -Wno-deprecated-declarations -Wno-stringop-overflow -Wno-stringop-overread -Wno-unused-result -Wno-nonnull
tests_net_shim_calls_LDADD =
dist_check_SCRIPTS += tests/net/shim_calls_test.sh
TESTS += tests/net/shim_calls_test.sh
