noinst_LTLIBRARIES += src/libsteer.la
src_libsteer_la_SOURCES = \
	src/steer/budget.c \
	src/steer/budget.h \
	src/steer/learner.c \
	src/steer/learner.h \
	src/steer/steer.c \
	src/steer/steer.h
