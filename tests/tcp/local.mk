# The core against the RFCs: links tcp, steer, wire and base only.
if HAVE_CHECK
TCP_TEST_LIBS = src/libtcp.a src/libsteer.a src/libwire.a src/libbase.a $(UNIT_LIBS)

check_PROGRAMS += tests/tcp/isn_test
tests_tcp_isn_test_SOURCES = tests/tcp/isn_test.c
tests_tcp_isn_test_LDADD = $(TCP_TEST_LIBS)
TESTS += tests/tcp/isn_test

check_PROGRAMS += tests/tcp/tw_test
tests_tcp_tw_test_SOURCES = tests/tcp/tw_test.c
tests_tcp_tw_test_LDADD = $(TCP_TEST_LIBS)
TESTS += tests/tcp/tw_test

check_PROGRAMS += tests/tcp/core_test
tests_tcp_core_test_SOURCES = tests/tcp/core_test.c tests/tcp/core_pair.h
tests_tcp_core_test_CFLAGS = $(AM_CFLAGS) -I$(srcdir)/tests/tcp
tests_tcp_core_test_LDADD = $(TCP_TEST_LIBS)
TESTS += tests/tcp/core_test

check_PROGRAMS += tests/tcp/hold_test
tests_tcp_hold_test_SOURCES = tests/tcp/hold_test.c tests/tcp/core_pair.h
tests_tcp_hold_test_CFLAGS = $(AM_CFLAGS) -I$(srcdir)/tests/tcp
tests_tcp_hold_test_LDADD = $(TCP_TEST_LIBS)
TESTS += tests/tcp/hold_test

# Driven through tests/tcp/harness.h
harness_sources = tests/tcp/harness.c tests/tcp/harness.h tests/tcp/test_memory.c tests/tcp/test_memory.h

check_PROGRAMS += tests/tcp/state_test tests/tcp/user_calls_test tests/tcp/loss_test tests/tcp/rack_test tests/tcp/timer_test tests/tcp/window_test tests/tcp/receive_window_test tests/tcp/send_buffer_test tests/tcp/urgent_test tests/tcp/option_test tests/tcp/unseen_test
tests_tcp_state_test_SOURCES = tests/tcp/state_test.c $(harness_sources)
tests_tcp_state_test_LDADD = $(TCP_TEST_LIBS)
tests_tcp_user_calls_test_SOURCES = tests/tcp/user_calls_test.c $(harness_sources)
tests_tcp_user_calls_test_LDADD = $(TCP_TEST_LIBS)
TESTS += tests/tcp/state_test tests/tcp/user_calls_test tests/tcp/loss_test tests/tcp/rack_test tests/tcp/timer_test tests/tcp/window_test tests/tcp/receive_window_test tests/tcp/send_buffer_test tests/tcp/urgent_test tests/tcp/option_test tests/tcp/unseen_test
tests_tcp_loss_test_SOURCES = tests/tcp/loss_test.c $(harness_sources)
tests_tcp_loss_test_LDADD = $(TCP_TEST_LIBS)
tests_tcp_rack_test_SOURCES = tests/tcp/rack_test.c $(harness_sources)
tests_tcp_rack_test_LDADD = $(TCP_TEST_LIBS)
tests_tcp_timer_test_SOURCES = tests/tcp/timer_test.c $(harness_sources)
tests_tcp_timer_test_LDADD = $(TCP_TEST_LIBS)
tests_tcp_window_test_SOURCES = tests/tcp/window_test.c $(harness_sources)
tests_tcp_window_test_LDADD = $(TCP_TEST_LIBS)
tests_tcp_receive_window_test_SOURCES = tests/tcp/receive_window_test.c $(harness_sources)
tests_tcp_receive_window_test_LDADD = $(TCP_TEST_LIBS)
tests_tcp_send_buffer_test_SOURCES = tests/tcp/send_buffer_test.c $(harness_sources)
tests_tcp_send_buffer_test_LDADD = $(TCP_TEST_LIBS)
tests_tcp_urgent_test_SOURCES = tests/tcp/urgent_test.c $(harness_sources)
tests_tcp_urgent_test_LDADD = $(TCP_TEST_LIBS)
tests_tcp_unseen_test_SOURCES = tests/tcp/unseen_test.c $(harness_sources)
tests_tcp_unseen_test_LDADD = $(TCP_TEST_LIBS)
tests_tcp_option_test_SOURCES = tests/tcp/option_test.c $(harness_sources)
tests_tcp_option_test_LDADD = $(TCP_TEST_LIBS)

check_PROGRAMS += tests/tcp/rate_test
tests_tcp_rate_test_SOURCES = tests/tcp/rate_test.c $(harness_sources)
tests_tcp_rate_test_LDADD = $(TCP_TEST_LIBS)
TESTS += tests/tcp/rate_test

check_PROGRAMS += tests/tcp/bounced_test
tests_tcp_bounced_test_SOURCES = tests/tcp/bounced_test.c $(harness_sources)
tests_tcp_bounced_test_LDADD = $(TCP_TEST_LIBS)
TESTS += tests/tcp/bounced_test

check_PROGRAMS += tests/tcp/pace_test
tests_tcp_pace_test_SOURCES = tests/tcp/pace_test.c $(harness_sources)
tests_tcp_pace_test_LDADD = $(TCP_TEST_LIBS)
TESTS += tests/tcp/pace_test

check_PROGRAMS += tests/tcp/bbr_test
tests_tcp_bbr_test_SOURCES = tests/tcp/bbr_test.c $(harness_sources)
tests_tcp_bbr_test_LDADD = $(TCP_TEST_LIBS)
TESTS += tests/tcp/bbr_test

check_PROGRAMS += tests/tcp/ecn_test
tests_tcp_ecn_test_SOURCES = tests/tcp/ecn_test.c $(harness_sources)
tests_tcp_ecn_test_LDADD = $(TCP_TEST_LIBS)
TESTS += tests/tcp/ecn_test

check_PROGRAMS += tests/tcp/cubic_test
tests_tcp_cubic_test_SOURCES = tests/tcp/cubic_test.c $(harness_sources)
tests_tcp_cubic_test_LDADD = $(TCP_TEST_LIBS) -lm
TESTS += tests/tcp/cubic_test

check_PROGRAMS += tests/tcp/syn_cookie_test
tests_tcp_syn_cookie_test_SOURCES = tests/tcp/syn_cookie_test.c tests/tcp/test_memory.c tests/tcp/test_memory.h
tests_tcp_syn_cookie_test_LDADD = $(TCP_TEST_LIBS)
TESTS += tests/tcp/syn_cookie_test

check_PROGRAMS += tests/tcp/fastopen_test
tests_tcp_fastopen_test_SOURCES = tests/tcp/fastopen_test.c tests/tcp/test_memory.c tests/tcp/test_memory.h
tests_tcp_fastopen_test_LDADD = $(TCP_TEST_LIBS)
TESTS += tests/tcp/fastopen_test

check_PROGRAMS += tests/tcp/fastopen_client_test
tests_tcp_fastopen_client_test_SOURCES = tests/tcp/fastopen_client_test.c $(harness_sources)
tests_tcp_fastopen_client_test_LDADD = $(TCP_TEST_LIBS)
TESTS += tests/tcp/fastopen_client_test

check_PROGRAMS += tests/tcp/reassembly_test
tests_tcp_reassembly_test_SOURCES = tests/tcp/reassembly_test.c tests/tcp/test_memory.c tests/tcp/test_memory.h
tests_tcp_reassembly_test_LDADD = $(TCP_TEST_LIBS)
TESTS += tests/tcp/reassembly_test

check_PROGRAMS += tests/tcp/close_request_test
tests_tcp_close_request_test_SOURCES = tests/tcp/close_request_test.c $(harness_sources)
tests_tcp_close_request_test_LDADD = $(TCP_TEST_LIBS)
TESTS += tests/tcp/close_request_test
endif

# Each requirement of RFC 9293 has a test that bears its name, or a reason; `requirements.py` without --check writes the table.
dist_check_SCRIPTS += tests/tcp/requirements.sh
TESTS += tests/tcp/requirements.sh
EXTRA_DIST += tests/tcp/requirements tests/tcp/requirements.py
