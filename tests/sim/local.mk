# Two hosts and a bad network, in virtual time: links tcp, steer, wire and base only.
if HAVE_CHECK
check_PROGRAMS += tests/sim/sim_test tests/sim/policy_test
tests_sim_sim_test_SOURCES = tests/sim/sim_test.c tests/sim/sim_pair.c tests/sim/sim_pair.h tests/sim/sim.c tests/sim/sim.h tests/sim/sim_app.c \
	tests/sim/sim_link.c tests/tcp/test_memory.c tests/tcp/test_memory.h
tests_sim_sim_test_LDADD = src/libtcp.a src/libsteer.a src/libwire.a src/libbase.a $(UNIT_LIBS)
TESTS += tests/sim/sim_test

tests_sim_policy_test_SOURCES = tests/sim/policy_test.c tests/sim/sim_pair.c tests/sim/sim_pair.h tests/sim/sim.c tests/sim/sim.h tests/sim/sim_app.c \
	tests/sim/sim_link.c tests/tcp/test_memory.c tests/tcp/test_memory.h
tests_sim_policy_test_LDADD = src/libtcp.a src/libsteer.a src/libwire.a src/libbase.a $(UNIT_LIBS)
TESTS += tests/sim/policy_test

check_PROGRAMS += tests/sim/cc_test
tests_sim_cc_test_SOURCES = tests/sim/cc_test.c tests/sim/sim.c tests/sim/sim.h tests/sim/sim_app.c \
	tests/sim/sim_link.c tests/tcp/test_memory.c tests/tcp/test_memory.h
tests_sim_cc_test_LDADD = src/libtcp.a src/libsteer.a src/libwire.a src/libbase.a $(UNIT_LIBS)
TESTS += tests/sim/cc_test
endif
