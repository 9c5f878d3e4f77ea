# tests/probes: facts about the running kernel that the code relies on
probes = tests/probes/packet_rx_probe tests/probes/packet_tx_probe tests/probes/repair_probe
check_PROGRAMS += $(probes)
TESTS += $(probes)
tests_probes_packet_rx_probe_SOURCES = tests/probes/packet_rx_probe.c tests/probes/probe.h
tests_probes_packet_tx_probe_SOURCES = tests/probes/packet_tx_probe.c tests/probes/probe.h
tests_probes_packet_tx_probe_CPPFLAGS = $(AM_CPPFLAGS) $(URING_CFLAGS)
tests_probes_packet_tx_probe_LDADD = $(URING_LIBS)
tests_probes_repair_probe_SOURCES = tests/probes/repair_probe.c tests/probes/probe.h

# classifier
bpf_probes = tests/probes/tap_before_tcx_probe tests/probes/tcx_link_probe \
	tests/probes/bpf_after_setuid_probe
check_PROGRAMS += $(bpf_probes)
TESTS += $(bpf_probes)
bpf_probe_common = tests/probes/bpf_probe.h tests/probes/probe.h tests/net/frames.c tests/net/frames.h
tests_probes_tap_before_tcx_probe_SOURCES = tests/probes/tap_before_tcx_probe.c $(bpf_probe_common)
tests_probes_tap_before_tcx_probe_LDADD = src/libkernel.a src/libbase.a
tests_probes_tcx_link_probe_SOURCES = tests/probes/tcx_link_probe.c $(bpf_probe_common)
tests_probes_tcx_link_probe_LDADD = src/libkernel.a src/libbase.a
tests_probes_bpf_after_setuid_probe_SOURCES = tests/probes/bpf_after_setuid_probe.c $(bpf_probe_common)
tests_probes_bpf_after_setuid_probe_LDADD = src/libkernel.a src/libbase.a
