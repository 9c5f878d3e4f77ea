# A bad network between two interfaces, for the tests in network namespaces and the bench: as root.
check_PROGRAMS += tests/bridge/bridge
tests_bridge_bridge_SOURCES = tests/bridge/bridge.c tests/bridge/port.c tests/bridge/port.h
tests_bridge_bridge_LDADD = src/liblink.a src/libbase.a
dist_check_SCRIPTS += tests/bridge/bridge_test.sh
TESTS += tests/bridge/bridge_test.sh
