# tests/net
if HAVE_CHECK
check_PROGRAMS += tests/net/link_test
TESTS += tests/net/link_test
tests_net_link_test_SOURCES = tests/net/link_test.c
tests_net_link_test_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_net_link_test_LDADD = src/liblink.la src/libbase.la $(UNIT_LIBS)
endif
