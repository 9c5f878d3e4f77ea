# Tests against the running kernel: root, own network namespaces; exit 77 otherwise.
if HAVE_CHECK
check_PROGRAMS += tests/net/classifier_test
TESTS += tests/net/classifier_test
tests_net_classifier_test_SOURCES = tests/net/classifier_test.c tests/net/classifier_lab.c tests/net/classifier_lab.h \
	tests/net/frames.c tests/net/frames.h
tests_net_classifier_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)

check_PROGRAMS += tests/net/classifier_sets_test
TESTS += tests/net/classifier_sets_test
tests_net_classifier_sets_test_SOURCES = tests/net/classifier_sets_test.c tests/net/classifier_lab.c tests/net/classifier_lab.h \
	tests/net/frames.c tests/net/frames.h
tests_net_classifier_sets_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)

check_PROGRAMS += tests/net/classifier_kernel_test
TESTS += tests/net/classifier_kernel_test
tests_net_classifier_kernel_test_SOURCES = tests/net/classifier_kernel_test.c tests/net/classifier_lab.c tests/net/classifier_lab.h \
	tests/net/frames.c tests/net/frames.h
tests_net_classifier_kernel_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)

check_PROGRAMS += tests/net/classifier_life_test
TESTS += tests/net/classifier_life_test
tests_net_classifier_life_test_SOURCES = tests/net/classifier_life_test.c tests/net/classifier_lab.c tests/net/classifier_lab.h \
	tests/net/frames.c tests/net/frames.h
tests_net_classifier_life_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)

check_PROGRAMS += tests/net/classifier_group_test
TESTS += tests/net/classifier_group_test
tests_net_classifier_group_test_SOURCES = tests/net/classifier_group_test.c tests/net/group_members.c tests/net/group_members.h tests/net/frames.c tests/net/frames.h
tests_net_classifier_group_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)

check_PROGRAMS += tests/net/classifier_flows_test
TESTS += tests/net/classifier_flows_test
tests_net_classifier_flows_test_SOURCES = tests/net/classifier_flows_test.c tests/net/group_members.c tests/net/group_members.h tests/net/frames.c tests/net/frames.h
tests_net_classifier_flows_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)

check_PROGRAMS += tests/net/diag_test
TESTS += tests/net/diag_test
tests_net_diag_test_SOURCES = tests/net/diag_test.c tests/net/frames.c tests/net/frames.h
tests_net_diag_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)

check_PROGRAMS += tests/net/firewall_test tests/net/firewall_others_test
TESTS += tests/net/firewall_test tests/net/firewall_others_test
firewall_lab = tests/net/firewall_lab.h tests/net/frames.c tests/net/frames.h
tests_net_firewall_test_SOURCES = tests/net/firewall_test.c $(firewall_lab)
tests_net_firewall_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)
tests_net_firewall_others_test_SOURCES = tests/net/firewall_others_test.c $(firewall_lab)
tests_net_firewall_others_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)
endif

# link
if HAVE_CHECK
check_PROGRAMS += tests/net/link_test tests/net/link_life_test
TESTS += tests/net/link_test tests/net/link_life_test
tests_net_link_test_SOURCES = tests/net/link_test.c tests/net/link_pair.c tests/net/link_pair.h
tests_net_link_test_LDADD = src/liblink.a src/libbase.a $(UNIT_LIBS)
tests_net_link_life_test_SOURCES = tests/net/link_life_test.c tests/net/link_pair.c tests/net/link_pair.h
tests_net_link_life_test_LDADD = src/liblink.a src/libbase.a $(UNIT_LIBS)
endif

if HAVE_CHECK
check_PROGRAMS += tests/net/netstate_test tests/net/netstate_routes_test tests/net/netstate_neighbours_test tests/net/ports_test tests/net/peers_table_test tests/net/fastopen_cache_test
TESTS += tests/net/netstate_test tests/net/netstate_routes_test tests/net/netstate_neighbours_test tests/net/ports_test tests/net/peers_table_test tests/net/fastopen_cache_test

tests_net_peers_table_test_SOURCES = tests/net/peers_table_test.c
tests_net_peers_table_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)
tests_net_fastopen_cache_test_SOURCES = tests/net/fastopen_cache_test.c
tests_net_fastopen_cache_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)

netstate_lab = tests/net/netstate_lab.c tests/net/netstate_lab.h tests/net/netns_test.h tests/net/rtnl_hold.h
tests_net_netstate_test_SOURCES = tests/net/netstate_test.c $(netstate_lab) tests/untested.h
tests_net_netstate_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)
tests_net_netstate_routes_test_SOURCES = tests/net/netstate_routes_test.c $(netstate_lab)
tests_net_netstate_routes_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)
tests_net_netstate_neighbours_test_SOURCES = tests/net/netstate_neighbours_test.c $(netstate_lab) tests/untested.h
tests_net_netstate_neighbours_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)

tests_net_ports_test_SOURCES = tests/net/ports_test.c tests/net/netns_test.h
tests_net_ports_test_LDADD = src/libkernel.a src/libbase.a $(UNIT_LIBS)
endif

# handover
if HAVE_CHECK
check_PROGRAMS += tests/net/handover_test tests/net/requeue_test
TESTS += tests/net/handover_test tests/net/requeue_test
handover_pair = tests/net/handover_pair.c tests/net/handover_pair.h tests/net/netns_test.h
tests_net_handover_test_SOURCES = tests/net/handover_test.c $(handover_pair)
tests_net_handover_test_LDADD = src/libkernel.a src/libwire.a src/libbase.a $(UNIT_LIBS)

tests_net_requeue_test_SOURCES = tests/net/requeue_test.c $(handover_pair)
tests_net_requeue_test_LDADD = src/libkernel.a src/libwire.a src/libbase.a $(UNIT_LIBS)
endif

# one socket, several connections
dist_check_SCRIPTS += tests/net/anew_test.sh
EXTRA_DIST += tests/net/anew.py
TESTS += tests/net/anew_test.sh

# the listener becomes the kernel's while the engine has TIME-WAITs
dist_check_SCRIPTS += tests/net/kernels_listener_test.sh
EXTRA_DIST += tests/net/kernels_listener.py
TESTS += tests/net/kernels_listener_test.sh

# doctor by kinds of interfaces
dist_check_SCRIPTS += tests/net/doctor_kinds_test.sh
EXTRA_DIST += tests/net/doctor_kinds.py
TESTS += tests/net/doctor_kinds_test.sh

# a ban in the middle of a transfer
dist_check_SCRIPTS += tests/net/banned_test.sh
EXTRA_DIST += tests/net/banned.py
TESTS += tests/net/banned_test.sh

# a filter of the program's where the host judges
dist_check_SCRIPTS += tests/net/own_filter_test.sh
EXTRA_DIST += tests/net/own_filter.py
TESTS += tests/net/own_filter_test.sh

# A listener becomes the kernel's while clients come.
dist_check_SCRIPTS += tests/net/becomes_kernels_test.sh
EXTRA_DIST += tests/net/becomes_kernels.py
TESTS += tests/net/becomes_kernels_test.sh

# It becomes the engine's, or its process a daemon, while clients come.
dist_check_SCRIPTS += tests/net/becomes_engines_test.sh
EXTRA_DIST += tests/net/becomes_engines.py
TESTS += tests/net/becomes_engines_test.sh

# Nobody listens on a port that connections still have.
dist_check_SCRIPTS += tests/net/refused_test.sh
EXTRA_DIST += tests/net/refused.py
TESTS += tests/net/refused_test.sh

dist_check_SCRIPTS += tests/net/reuse_test.sh
EXTRA_DIST += tests/net/reuse.py
TESTS += tests/net/reuse_test.sh

# connecting beside something else
check_PROGRAMS += tests/net/connecting tests/net/deciding tests/net/stepped tests/net/jumped tests/net/replaced tests/net/handled
tests_net_handled_SOURCES = tests/net/handled.c
tests_net_handled_LDADD =
tests_net_replaced_SOURCES = tests/net/replaced.c
tests_net_replaced_LDADD = -lpthread
tests_net_jumped_SOURCES = tests/net/jumped.c
tests_net_jumped_LDFLAGS = -Wl,-z,now
tests_net_jumped_LDADD =
tests_net_stepped_SOURCES = tests/net/stepped.c
tests_net_stepped_LDFLAGS = -Wl,-z,now # no step looks for a function
tests_net_stepped_LDADD = -lpthread
tests_net_deciding_SOURCES = tests/net/deciding.c
tests_net_deciding_LDADD = -lpthread
tests_net_connecting_SOURCES = tests/net/connecting.c
tests_net_connecting_LDADD =
dist_check_SCRIPTS += tests/net/reserved_port_test.sh
EXTRA_DIST += tests/net/reserved_port.py
TESTS += tests/net/reserved_port_test.sh
dist_check_SCRIPTS += tests/net/connecting_test.sh
EXTRA_DIST += tests/net/connecting.py
TESTS += tests/net/connecting_test.sh

# socket options
check_PROGRAMS += tests/net/options_walk
tests_net_options_walk_SOURCES = tests/net/options_walk.c
tests_net_options_walk_LDADD =
dist_check_SCRIPTS += tests/net/interfaces_test.sh tests/net/interface_kinds_test.sh tests/net/options_test.sh tests/net/options_wire_test.sh tests/net/namespace_test.sh tests/net/messages_test.sh tests/net/stamps_test.sh tests/net/saved_syn_test.sh tests/net/packet_options_test.sh tests/net/effects_test.sh tests/net/unseen_test.sh
EXTRA_DIST += tests/net/interfaces.py tests/net/interface_kinds.py tests/net/situations.py tests/net/situations_end.py tests/net/options_differences tests/net/options_end.py tests/net/options_wire.py tests/net/namespace.py tests/net/namespace_end.py tests/net/messages.py tests/net/messages_end.py tests/net/said.py tests/net/fastopen_lib.sh tests/net/stamps.py tests/net/stamps_end.py tests/net/saved_syn.py tests/net/saved_syn_end.py tests/net/packet_options.py tests/net/packet_options_end.py tests/net/effects.py tests/net/effects_end.py tests/net/unseen.py tests/net/unseen_end.py
TESTS += tests/net/interfaces_test.sh tests/net/interface_kinds_test.sh tests/net/options_test.sh tests/net/options_wire_test.sh tests/net/namespace_test.sh tests/net/messages_test.sh tests/net/stamps_test.sh tests/net/saved_syn_test.sh tests/net/packet_options_test.sh tests/net/effects_test.sh tests/net/unseen_test.sh

# readiness, step by step
check_PROGRAMS += tests/net/ready_steps
tests_net_ready_steps_SOURCES = tests/net/ready_steps.c tests/net/ready_calls.c tests/net/ready_steps.h
tests_net_ready_steps_CFLAGS = $(AM_CFLAGS) -Wno-nonnull -Wno-array-bounds -Wno-stringop-overflow
tests_net_ready_steps_LDADD =
dist_check_SCRIPTS += tests/net/ready_steps_test.sh
TESTS += tests/net/ready_steps_test.sh

# kinds of sources and targets
check_PROGRAMS += tests/net/copy_kinds tests/net/copy_left tests/net/copy_file
tests_net_copy_kinds_SOURCES = tests/net/copy_kinds.c
tests_net_copy_kinds_LDADD = -lpthread
tests_net_copy_left_SOURCES = tests/net/copy_left.c
tests_net_copy_left_LDADD = -lpthread
tests_net_copy_file_SOURCES = tests/net/copy_file.c
tests_net_copy_file_LDADD = -lpthread
dist_check_SCRIPTS += tests/net/copy_kinds_test.sh
TESTS += tests/net/copy_kinds_test.sh

# bad pointers
check_PROGRAMS += tests/net/bad_pointers tests/net/unmapped
tests_net_unmapped_SOURCES = tests/net/unmapped.c
tests_net_unmapped_LDADD = -lpthread
tests_net_bad_pointers_SOURCES = tests/net/bad_pointers.c
tests_net_bad_pointers_CFLAGS = $(AM_CFLAGS) -Wno-nonnull -Wno-stringop-overflow -Wno-stringop-overread -Wno-unused-result -Wno-restrict
tests_net_bad_pointers_LDADD = -lpthread
dist_check_SCRIPTS += tests/net/bad_pointers_test.sh
TESTS += tests/net/bad_pointers_test.sh

# how connections end
check_PROGRAMS += tests/net/ends_walk
tests_net_ends_walk_SOURCES = tests/net/ends_walk.c tests/net/ends_walk.h tests/net/ends_connecting.c tests/net/ends_peer.c
tests_net_ends_walk_LDADD =
dist_check_SCRIPTS += tests/net/ends_test.sh tests/net/judged_test.sh tests/net/judged_many_test.sh tests/net/judged_full_test.sh tests/net/judged_hosts_test.sh tests/net/judged_differential_test.sh tests/net/cgroup_late_test.sh tests/net/ingress_programs_test.sh tests/net/doctor_reasons_test.sh
EXTRA_DIST += tests/net/judged_differential.py tests/net/judged_rules.py tests/net/judged_sources.py tests/net/judged_full.py tests/net/cgroup_late.py tests/net/ingress_programs.py
TESTS += tests/net/cgroup_late_test.sh tests/net/ingress_programs_test.sh tests/net/doctor_reasons_test.sh tests/net/judged_test.sh tests/net/judged_many_test.sh tests/net/judged_full_test.sh tests/net/judged_hosts_test.sh tests/net/judged_differential_test.sh
TESTS += tests/net/ends_test.sh

# Who runs finesse, too: what SYNs to it, and to strangers, carry.
dist_check_SCRIPTS += tests/net/peers_test.sh
TESTS += tests/net/peers_test.sh
EXTRA_DIST += tests/net/peers.py

# Programs with addresses of their own.
dist_check_SCRIPTS += tests/net/own_address_test.sh
TESTS += tests/net/own_address_test.sh
EXTRA_DIST += tests/net/own_address.py tests/net/own_address_end.py

# TCP Fast Open of servers, with the kernel's client; of clients, with the kernel's server.
dist_check_SCRIPTS += tests/net/fastopen_test.sh tests/net/fastopen_client_test.sh
TESTS += tests/net/fastopen_test.sh tests/net/fastopen_client_test.sh
EXTRA_DIST += tests/net/fastopen.py

# Another library beside ours.
check_DATA += tests/net/clocks.so
CLEANFILES += tests/net/clocks.so
EXTRA_DIST += tests/net/clocks.c
tests/net/clocks.so: tests/net/clocks.c
	$(AM_V_CC)$(MKDIR_P) tests/net && $(CC) -D_GNU_SOURCE -O1 -Wall -Wextra -fPIC -shared -o $@ $(srcdir)/tests/net/clocks.c -ldl
TESTS += tests/net/clocks_test.sh
dist_check_SCRIPTS += tests/net/clocks_test.sh

check_PROGRAMS += tests/net/small_stack
tests_net_small_stack_SOURCES = tests/net/small_stack.c
tests_net_small_stack_LDADD = -lpthread
TESTS += tests/net/small_stack_test.sh
dist_check_SCRIPTS += tests/net/small_stack_test.sh

TESTS += tests/net/many_rules_test.sh
dist_check_SCRIPTS += tests/net/many_rules_test.sh
EXTRA_DIST += tests/net/many_rules.py

TESTS += tests/net/fragments_test.sh
dist_check_SCRIPTS += tests/net/fragments_test.sh
EXTRA_DIST += tests/net/fragments.py
TESTS += tests/net/rules_late_test.sh
dist_check_SCRIPTS += tests/net/rules_late_test.sh
EXTRA_DIST += tests/net/rules_late.py
TESTS += tests/net/sources_test.sh
dist_check_SCRIPTS += tests/net/sources_test.sh
EXTRA_DIST += tests/net/sources.py

TESTS += tests/net/priority_test.sh
dist_check_SCRIPTS += tests/net/priority_test.sh
EXTRA_DIST += tests/net/priority.py

# epolls under other numbers
check_PROGRAMS += tests/net/passed_epoll
tests_net_passed_epoll_SOURCES = tests/net/passed_epoll.c
dist_check_SCRIPTS += tests/net/passed_epoll_test.sh
TESTS += tests/net/passed_epoll_test.sh

# a port that a handler opens again
check_PROGRAMS += tests/net/reopened
tests_net_reopened_SOURCES = tests/net/reopened.c
dist_check_SCRIPTS += tests/net/reopened_test.sh
TESTS += tests/net/reopened_test.sh

# libraries that are loaded while the program runs
TESTS += tests/net/plugins_test.sh
dist_check_SCRIPTS += tests/net/plugins_test.sh
EXTRA_DIST += tests/net/plugins.py tests/net/plugin.c
check_DATA += tests/net/plugin.so tests/net/plugin_direct.so
CLEANFILES += tests/net/plugin.so tests/net/plugin_direct.so
PLUGIN = $(CC) -O1 -Wall -Wextra -fPIC -shared -Wl,-rpath,'$$ORIGIN/inner' -o $@ $(srcdir)/tests/net/plugin.c
tests/net/plugin.so: tests/net/plugin.c
	$(AM_V_CC)$(MKDIR_P) tests/net && $(PLUGIN) -Wl,-z,lazy
tests/net/plugin_direct.so: tests/net/plugin.c
	$(AM_V_CC)$(MKDIR_P) tests/net && $(PLUGIN) -fno-plt -Wl,-z,relro,-z,now
