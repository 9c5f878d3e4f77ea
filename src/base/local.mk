noinst_LIBRARIES += src/libbase.a
src_libbase_a_SOURCES = \
	src/base/addr.c \
	src/base/addr.h \
	src/base/budget.c \
	src/base/budget.h \
	src/base/clock.c \
	src/base/fd.c \
	src/base/fd.h \
	src/base/fd_pass.c \
	src/base/fd_pass.h \
	src/base/impair_config.c \
	src/base/impair_config.h \
	src/base/list.h \
	src/base/log.c \
	src/base/log.h \
	src/base/memory.h \
	src/base/pool.c \
	src/base/pool.h \
	src/base/quiet.c \
	src/base/quiet.h \
	src/base/settings.c \
	src/base/settings.def \
	src/base/ranges.c \
	src/base/ranges.h \
	src/base/ring.c \
	src/base/ring.h \
	src/base/settings.h \
	src/base/settings_rules.c \
	src/base/siphash.c \
	src/base/siphash.h \
	src/base/sys.h \
	src/base/time.h \
	src/base/timers.c \
	src/base/timers.h \
	src/base/user.c \
	src/base/user.h
