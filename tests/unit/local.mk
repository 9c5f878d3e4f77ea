# tests/unit: one libcheck program per idea
if HAVE_CHECK
# base, wire, ip
base_tests = \
	tests/unit/budget_test \
	tests/unit/late_test \
	tests/unit/thread_test \
	tests/unit/siphash_test \
	tests/unit/log_test \
	tests/unit/pool_test \
	tests/unit/timers_test
check_PROGRAMS += $(base_tests)
TESTS += $(base_tests)
tests_unit_late_test_SOURCES = tests/unit/late_test.c
tests_unit_late_test_LDADD = src/libbase.a $(UNIT_LIBS)
tests_unit_thread_test_SOURCES = tests/unit/thread_test.c
tests_unit_thread_test_LDADD = src/libbase.a $(UNIT_LIBS)
tests_unit_budget_test_SOURCES = tests/unit/budget_test.c
tests_unit_budget_test_LDADD = src/libbase.a $(UNIT_LIBS)
tests_unit_siphash_test_SOURCES = tests/unit/siphash_test.c
tests_unit_siphash_test_LDADD = src/libbase.a $(UNIT_LIBS)
tests_unit_log_test_SOURCES = tests/unit/log_test.c
tests_unit_log_test_LDADD = src/libbase.a $(UNIT_LIBS)
tests_unit_pool_test_SOURCES = tests/unit/pool_test.c
tests_unit_pool_test_LDADD = src/libbase.a $(UNIT_LIBS)
tests_unit_timers_test_SOURCES = tests/unit/timers_test.c
tests_unit_timers_test_LDADD = src/libbase.a $(UNIT_LIBS)

# of src/kernel, what needs no kernel
check_PROGRAMS += tests/unit/group_cells_test
TESTS += tests/unit/group_cells_test
tests_unit_group_cells_test_SOURCES = tests/unit/group_cells_test.c
tests_unit_group_cells_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)
check_PROGRAMS += tests/unit/sysctl_test
TESTS += tests/unit/sysctl_test
tests_unit_sysctl_test_SOURCES = tests/unit/sysctl_test.c
tests_unit_sysctl_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)

# of src/socket, what needs no engine
check_PROGRAMS += tests/unit/rules_reader_test
TESTS += tests/unit/rules_reader_test
tests_unit_rules_reader_test_SOURCES = tests/unit/rules_reader_test.c
tests_unit_rules_reader_test_LDADD = src/libsocket.a src/libbase.a $(UNIT_LIBS)

drive_tests = \
	tests/unit/sched_test \
	tests/unit/calm_test \
	tests/unit/drive_test
check_PROGRAMS += $(drive_tests)
TESTS += $(drive_tests)
tests_unit_sched_test_SOURCES = tests/unit/sched_test.c
tests_unit_sched_test_LDADD = src/libdrive.a src/libbase.a $(UNIT_LIBS)
tests_unit_calm_test_SOURCES = tests/unit/calm_test.c tests/unit/pipe_engine.h
tests_unit_calm_test_LDADD = src/libdrive.a src/libbase.a $(UNIT_LIBS)
tests_unit_drive_test_SOURCES = tests/unit/drive_test.c tests/unit/pipe_engine.h
tests_unit_drive_test_LDADD = src/libdrive.a src/libbase.a $(UNIT_LIBS)

wire_tests = \
	tests/unit/wire_checksum_test \
	tests/unit/wire_ip_test \
	tests/unit/wire_icmp_test \
	tests/unit/wire_tcp_test
check_PROGRAMS += $(wire_tests)
TESTS += $(wire_tests)
tests_unit_wire_checksum_test_SOURCES = tests/unit/wire_checksum_test.c tests/unit/unit.h
tests_unit_wire_checksum_test_LDADD = src/libwire.a $(UNIT_LIBS)
tests_unit_wire_ip_test_SOURCES = tests/unit/wire_ip_test.c tests/unit/unit.h tests/unit/frames.h
tests_unit_wire_ip_test_LDADD = src/libwire.a $(UNIT_LIBS)
tests_unit_wire_icmp_test_SOURCES = tests/unit/wire_icmp_test.c tests/unit/unit.h tests/unit/frames.h
tests_unit_wire_icmp_test_LDADD = src/libwire.a $(UNIT_LIBS)
tests_unit_wire_tcp_test_SOURCES = tests/unit/wire_tcp_test.c tests/unit/unit.h
tests_unit_wire_tcp_test_LDADD = src/libwire.a $(UNIT_LIBS)

ip_tests = \
	tests/unit/host_test \
	tests/unit/host_answers_test \
	tests/unit/ip_demux_test \
	tests/unit/ip_input_test \
	tests/unit/pieces_test \
	tests/unit/ip_output_test
check_PROGRAMS += $(ip_tests)
TESTS += $(ip_tests)
tests_unit_host_test_SOURCES = tests/unit/host_test.c tests/unit/host_world.h tests/unit/unit.h
tests_unit_host_test_LDADD = src/libip.a src/libwire.a src/libbase.a $(UNIT_LIBS)
tests_unit_host_answers_test_SOURCES = tests/unit/host_answers_test.c tests/unit/host_world.h tests/unit/unit.h
tests_unit_host_answers_test_LDADD = src/libip.a src/libwire.a src/libbase.a $(UNIT_LIBS)
tests_unit_ip_demux_test_SOURCES = tests/unit/ip_demux_test.c tests/unit/unit.h
tests_unit_ip_demux_test_LDADD = src/libip.a src/libwire.a src/libbase.a $(UNIT_LIBS)
tests_unit_pieces_test_SOURCES = tests/unit/pieces_test.c tests/unit/unit.h tests/unit/frames.h
tests_unit_pieces_test_LDADD = src/libip.a src/libwire.a src/libbase.a $(UNIT_LIBS)
tests_unit_ip_input_test_SOURCES = tests/unit/ip_input_test.c tests/unit/unit.h tests/unit/frames.h
tests_unit_ip_input_test_LDADD = src/libip.a src/libwire.a src/libbase.a $(UNIT_LIBS)
tests_unit_ip_output_test_SOURCES = tests/unit/ip_output_test.c tests/unit/unit.h tests/unit/frames.h
tests_unit_ip_output_test_LDADD = src/libip.a src/libwire.a src/libbase.a $(UNIT_LIBS)
endif

# settings, steer
if HAVE_CHECK
steer_tests = tests/unit/settings_test tests/unit/steer_budget_test tests/unit/steer_policy_test \
	tests/unit/steer_learner_test \
	tests/unit/steer_reader_test tests/unit/steer_prefix_test
check_PROGRAMS += $(steer_tests)
TESTS += $(steer_tests)

tests_unit_settings_test_SOURCES = tests/unit/settings_test.c
tests_unit_settings_test_LDADD = src/libbase.a $(UNIT_LIBS)
tests_unit_steer_budget_test_SOURCES = tests/unit/steer_budget_test.c
tests_unit_steer_budget_test_LDADD = src/libsteer.a src/libbase.a $(UNIT_LIBS)
tests_unit_steer_learner_test_SOURCES = tests/unit/steer_learner_test.c
tests_unit_steer_learner_test_LDADD = src/libsteer.a src/libbase.a $(UNIT_LIBS)
tests_unit_steer_reader_test_SOURCES = tests/unit/steer_reader_test.c
tests_unit_steer_reader_test_LDADD = src/libsteer.a src/libbase.a $(UNIT_LIBS)
tests_unit_steer_prefix_test_SOURCES = tests/unit/steer_prefix_test.c
tests_unit_steer_prefix_test_LDADD = src/libsteer.a src/libtcp.a src/libbase.a $(UNIT_LIBS)
tests_unit_steer_policy_test_SOURCES = tests/unit/steer_policy_test.c
tests_unit_steer_policy_test_LDADD = src/libsteer.a src/libtcp.a src/libbase.a $(UNIT_LIBS)

check_PROGRAMS += tests/unit/steer_core_test
TESTS += tests/unit/steer_core_test
tests_unit_steer_core_test_SOURCES = tests/unit/steer_core_test.c $(harness_sources)
tests_unit_steer_core_test_CFLAGS = $(AM_CFLAGS) -I$(srcdir)/tests/tcp
tests_unit_steer_core_test_LDADD = $(TCP_TEST_LIBS)
endif

# link, base/fd
if HAVE_CHECK
link_tests = tests/unit/fd_test tests/unit/fd_pass_test tests/unit/impair_test tests/unit/remains_test tests/unit/tx_budget_test tests/unit/tx_pending_test
check_PROGRAMS += $(link_tests)
TESTS += $(link_tests)

tests_unit_fd_test_SOURCES = tests/unit/fd_test.c
tests_unit_fd_test_LDADD = src/libbase.a $(UNIT_LIBS)
tests_unit_fd_pass_test_SOURCES = tests/unit/fd_pass_test.c tests/unit/unit.h
tests_unit_fd_pass_test_LDADD = src/libbase.a $(UNIT_LIBS)
tests_unit_impair_test_SOURCES = tests/unit/impair_test.c tests/unit/unit.h
tests_unit_impair_test_LDADD = src/liblink.a src/libbase.a $(UNIT_LIBS)
tests_unit_remains_test_SOURCES = tests/unit/remains_test.c
tests_unit_remains_test_LDADD = src/liblink.a src/libbase.a $(UNIT_LIBS)
tests_unit_tx_budget_test_SOURCES = tests/unit/tx_budget_test.c tests/unit/unit.h
tests_unit_tx_budget_test_LDADD = src/liblink.a $(UNIT_LIBS)
tests_unit_tx_pending_test_SOURCES = tests/unit/tx_pending_test.c
tests_unit_tx_pending_test_LDADD = src/liblink.a $(UNIT_LIBS)
endif

# the core's containers
if HAVE_CHECK
container_tests = tests/unit/ring_test tests/unit/chunks_test tests/unit/ranges_test
check_PROGRAMS += $(container_tests)
TESTS += $(container_tests)
tests_unit_ring_test_SOURCES = tests/unit/ring_test.c
tests_unit_ring_test_LDADD = src/libbase.a $(UNIT_LIBS)
tests_unit_chunks_test_SOURCES = tests/unit/chunks_test.c
tests_unit_chunks_test_LDADD = src/libbase.a $(UNIT_LIBS)
tests_unit_ranges_test_SOURCES = tests/unit/ranges_test.c
tests_unit_ranges_test_LDADD = src/libbase.a $(UNIT_LIBS)
endif

# trace: what it says, and the queue of its lines
if HAVE_CHECK
check_PROGRAMS += tests/unit/trace_test
TESTS += tests/unit/trace_test
tests_unit_trace_test_SOURCES = tests/unit/trace_test.c
tests_unit_trace_test_LDADD = src/libsocket.a src/libdrive.a src/libtcp.a src/libwire.a src/libbase.a $(UNIT_LIBS)
endif
