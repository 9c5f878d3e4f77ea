# tests/probes: facts about the running kernel that the code relies on
probes = tests/probes/packet_rx_probe tests/probes/packet_tx_probe tests/probes/repair_probe
check_PROGRAMS += $(probes)
TESTS += $(probes)
tests_probes_packet_rx_probe_SOURCES = tests/probes/packet_rx_probe.c tests/probes/probe.h
tests_probes_packet_rx_probe_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir)
tests_probes_packet_tx_probe_SOURCES = tests/probes/packet_tx_probe.c tests/probes/probe.h
tests_probes_packet_tx_probe_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir) $(URING_CFLAGS)
tests_probes_packet_tx_probe_LDADD = $(URING_LIBS)
tests_probes_repair_probe_SOURCES = tests/probes/repair_probe.c tests/probes/probe.h
tests_probes_repair_probe_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir)
