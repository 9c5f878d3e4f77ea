# Processes that share, pass and leave connections. Root, own network namespaces; exit 77 otherwise.
check_PROGRAMS += tests/process/server
tests_process_server_SOURCES = tests/process/server.c
tests_process_server_CFLAGS = $(AM_CFLAGS) $(LIBURING_CFLAGS)
tests_process_server_LDADD = $(LIBURING_LIBS)
tests_process_server_LDFLAGS = -Wl,--export-dynamic
TESTS += tests/process/process_test.sh tests/process/stat_test.sh tests/process/closing_test.sh tests/process/numbers_test.sh tests/process/strict_test.sh tests/process/end_test.sh tests/process/engineless_test.sh tests/process/nft_workers_test.sh tests/process/failed_exec_test.sh
dist_check_SCRIPTS += tests/process/process_test.sh tests/process/stat_test.sh tests/process/closing_test.sh tests/process/numbers_test.sh tests/process/strict_test.sh tests/process/end_test.sh tests/process/engineless_test.sh tests/process/nft_workers_test.sh tests/process/failed_exec_test.sh
check_PROGRAMS += tests/process/closing tests/process/numbers
tests_process_closing_SOURCES = tests/process/closing.c
tests_process_numbers_SOURCES = tests/process/numbers.c
tests_process_numbers_LDADD = -lpthread
EXTRA_DIST += tests/process/stat_program.py tests/process/strict_program.py
check_PROGRAMS += tests/process/dropped
tests_process_dropped_SOURCES = tests/process/dropped.c
tests_process_dropped_LDADD =
check_PROGRAMS += tests/process/few_numbers
tests_process_few_numbers_SOURCES = tests/process/few_numbers.c
tests_process_few_numbers_LDADD =
TESTS += tests/process/file_size_test.sh
dist_check_SCRIPTS += tests/process/file_size_test.sh
TESTS += tests/process/address_space_test.sh
dist_check_SCRIPTS += tests/process/address_space_test.sh
TESTS += tests/process/few_numbers_test.sh
dist_check_SCRIPTS += tests/process/few_numbers_test.sh
TESTS += tests/process/numbers_return_test.sh
dist_check_SCRIPTS += tests/process/numbers_return_test.sh
EXTRA_DIST += tests/process/numbers_return.py tests/process/no_numbers.py
TESTS += tests/process/no_numbers_test.sh
dist_check_SCRIPTS += tests/process/no_numbers_test.sh
check_PROGRAMS += tests/process/sandboxed
tests_process_sandboxed_SOURCES = tests/process/sandboxed.c
tests_process_sandboxed_LDADD =
TESTS += tests/process/sandbox_test.sh
dist_check_SCRIPTS += tests/process/sandbox_test.sh
check_PROGRAMS += tests/process/filtered
tests_process_filtered_SOURCES = tests/process/filtered.c
tests_process_filtered_LDADD =
TESTS += tests/process/filtered_test.sh
dist_check_SCRIPTS += tests/process/filtered_test.sh
check_PROGRAMS += tests/process/idle
tests_process_idle_SOURCES = tests/process/idle.c
tests_process_idle_LDADD =
TESTS += tests/process/privilege_test.sh tests/process/death_test.sh tests/process/broker_test.sh tests/process/broker_hostile_test.sh tests/process/broker_interfaces_test.sh
dist_check_SCRIPTS += tests/process/privilege_test.sh tests/process/death_test.sh tests/process/broker_test.sh tests/process/broker_hostile_test.sh \
	tests/process/broker_interfaces_test.sh
check_PROGRAMS += tests/process/hostile_member
tests_process_hostile_member_SOURCES = tests/process/hostile_member.c
tests_process_hostile_member_LDADD = src/libprocess.a src/libkernel.a src/libbase.a

TESTS += tests/process/broker_spares_test.sh
dist_check_SCRIPTS += tests/process/broker_spares_test.sh

TESTS += tests/process/broker_pid_test.sh
dist_check_SCRIPTS += tests/process/broker_pid_test.sh
check_PROGRAMS += tests/process/pid_again
tests_process_pid_again_SOURCES = tests/process/pid_again.c
tests_process_pid_again_LDADD = src/libprocess.a src/libbase.a

check_PROGRAMS += tests/process/dead_member
tests_process_dead_member_SOURCES = tests/process/dead_member.c
tests_process_dead_member_LDADD = src/libprocess.a src/libkernel.a src/libbase.a

check_PROGRAMS += tests/process/interrupted
tests_process_interrupted_SOURCES = tests/process/interrupted.c
tests_process_interrupted_LDADD =

check_PROGRAMS += tests/process/prefork
tests_process_prefork_SOURCES = tests/process/prefork.c
tests_process_prefork_CFLAGS = $(AM_CFLAGS) -Wno-unused-result
tests_process_prefork_LDADD =
EXTRA_DIST += tests/process/groups.py tests/process/death_signal.py
TESTS += tests/process/death_signal_test.sh
dist_check_SCRIPTS += tests/process/death_signal_test.sh
EXTRA_DIST += tests/process/passed_on.py
TESTS += tests/process/passed_on_test.sh
dist_check_SCRIPTS += tests/process/passed_on_test.sh

EXTRA_DIST += tests/process/accept_turns.py
TESTS += tests/process/accept_turns_test.sh
dist_check_SCRIPTS += tests/process/accept_turns_test.sh

EXTRA_DIST += tests/process/hung_broker.py tests/process/stopped_member.py tests/process/stopped_server.py tests/process/kernels_end.py tests/process/close_budget.py
TESTS += tests/process/hung_broker_test.sh tests/process/stopped_member_test.sh tests/process/stopped_server_test.sh tests/process/kernels_end_test.sh tests/process/close_budget_test.sh
dist_check_SCRIPTS += tests/process/hung_broker_test.sh tests/process/stopped_member_test.sh tests/process/stopped_server_test.sh tests/process/kernels_end_test.sh tests/process/close_budget_test.sh

EXTRA_DIST += tests/process/exec_epoll.py
TESTS += tests/process/exec_epoll_test.sh
dist_check_SCRIPTS += tests/process/exec_epoll_test.sh
EXTRA_DIST += tests/process/landlock.py tests/process/landlocked.py tests/process/filter_closing.py
TESTS += tests/process/landlocked_test.sh tests/process/filter_closing_test.sh
dist_check_SCRIPTS += tests/process/landlocked_test.sh tests/process/filter_closing_test.sh

EXTRA_DIST += tests/process/given_up.py
TESTS += tests/process/given_up_test.sh
dist_check_SCRIPTS += tests/process/given_up_test.sh
EXTRA_DIST += tests/process/two_claims.py
TESTS += tests/process/two_claims_test.sh
dist_check_SCRIPTS += tests/process/two_claims_test.sh
EXTRA_DIST += tests/process/mode_of_child.py
TESTS += tests/process/mode_of_child_test.sh
dist_check_SCRIPTS += tests/process/mode_of_child_test.sh
EXTRA_DIST += tests/process/mode_of_connection.py
TESTS += tests/process/mode_of_connection_test.sh
dist_check_SCRIPTS += tests/process/mode_of_connection_test.sh
EXTRA_DIST += tests/process/unused_listener.py
TESTS += tests/process/unused_listener_test.sh
dist_check_SCRIPTS += tests/process/unused_listener_test.sh

check_PROGRAMS += tests/process/stopped
tests_process_stopped_SOURCES = tests/process/stopped.c
tests_process_stopped_LDADD =
EXTRA_DIST += tests/process/stopped.py
TESTS += tests/process/stopped_test.sh
dist_check_SCRIPTS += tests/process/stopped_test.sh
check_PROGRAMS += tests/process/left_waits
tests_process_left_waits_SOURCES = tests/process/left_waits.c
tests_process_left_waits_LDADD = -lpthread
EXTRA_DIST += tests/process/left_waits.py
TESTS += tests/process/left_waits_test.sh
dist_check_SCRIPTS += tests/process/left_waits_test.sh
check_PROGRAMS += tests/process/callbacks
tests_process_callbacks_SOURCES = tests/process/callbacks.c
tests_process_callbacks_LDADD = -lpthread
EXTRA_DIST += tests/process/callbacks.py
TESTS += tests/process/callbacks_test.sh
dist_check_SCRIPTS += tests/process/callbacks_test.sh
check_PROGRAMS += tests/process/at_exit
tests_process_at_exit_SOURCES = tests/process/at_exit.c tests/task.h
tests_process_at_exit_CFLAGS = $(AM_CFLAGS) -fno-builtin
tests_process_at_exit_LDADD = -lpthread
tests_process_at_exit_LDFLAGS = -Wl,--export-dynamic
EXTRA_DIST += tests/process/at_exit.py
TESTS += tests/process/at_exit_test.sh
dist_check_SCRIPTS += tests/process/at_exit_test.sh
check_PROGRAMS += tests/process/moved_numbers
tests_process_moved_numbers_SOURCES = tests/process/moved_numbers.c
tests_process_moved_numbers_LDADD = -lpthread
EXTRA_DIST += tests/process/moved_numbers.py
TESTS += tests/process/moved_numbers_test.sh
dist_check_SCRIPTS += tests/process/moved_numbers_test.sh
TESTS += tests/process/groups.sh
dist_check_SCRIPTS += tests/process/groups.sh

if HAVE_CHECK
check_PROGRAMS += tests/process/ended_test tests/process/broker_client_test
TESTS += tests/process/ended_test tests/process/broker_client_test
tests_process_broker_client_test_SOURCES = tests/process/broker_client_test.c
tests_process_broker_client_test_LDADD = src/libprocess.a src/libkernel.a src/libbase.a $(UNIT_LIBS)
tests_process_ended_test_SOURCES = tests/process/ended_test.c
tests_process_ended_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)
endif
