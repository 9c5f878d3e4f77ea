# Waiting and the ways out of it: root, network namespaces.
check_PROGRAMS += tests/waits/server
tests_waits_server_SOURCES = tests/waits/server.c
tests_waits_server_CFLAGS = $(AM_CFLAGS) -Wno-unused-result
tests_waits_server_LDADD =
EXTRA_DIST += tests/waits/waits.py
dist_check_SCRIPTS += tests/waits/run.sh
TESTS += tests/waits/run.sh
