# the finesse command
bin_PROGRAMS += finesse
finesse_CPPFLAGS = $(AM_CPPFLAGS) -DFINESSE_VERSION='"$(PACKAGE_VERSION)"'
finesse_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
finesse_LDADD = src/libprocess.a src/liblink.a src/libkernel.a src/libwire.a src/libbase.a $(JANSSON_LIBS)
finesse_SOURCES = \
	src/cli/cli.h \
	src/cli/doctor.c \
	src/cli/help.c \
	src/cli/library.c \
	src/cli/main.c \
	src/cli/run.c \
	src/cli/trace.c \
	src/cli/stat.c \
	src/cli/stat.h \
	src/cli/stat_kernel.c \
	src/cli/stat_process.c \
	src/cli/stat_render.c
dist_man_MANS += man/finesse.1
