noinst_LIBRARIES += src/libsteer.a
src_libsteer_a_SOURCES = \
	src/steer/budget.c \
	src/steer/budget.h \
	src/steer/learner.c \
	src/steer/learner.h \
	src/steer/steer.c \
	src/steer/steer.h
