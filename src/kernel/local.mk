noinst_LIBRARIES += src/libkernel.a
src_libkernel_a_CFLAGS = $(AM_CFLAGS) $(MNL_CFLAGS)
src_libkernel_a_SOURCES = \
	src/kernel/bpf_asm.c \
	src/kernel/bpf_asm.h \
	src/kernel/bpf_sys.c \
	src/kernel/bpf_sys.h \
	src/kernel/classifier.c \
	src/kernel/classifier.h \
	src/kernel/classifier_backend.h \
	src/kernel/classifier_ebpf.c \
	src/kernel/classifier_group.c \
	src/kernel/classifier_group.h \
	src/kernel/classifier_group_internal.h \
	src/kernel/classifier_nft.c \
	src/kernel/classifier_nft_filter.c \
	src/kernel/classifier_nft_filter.h \
	src/kernel/nft_batch.c \
	src/kernel/nft_batch.h \
	src/kernel/classifier_prog.c \
	src/kernel/classifier_prog.h \
	src/kernel/classifier_prog_group.c \
	src/kernel/classifier_prog_internal.h \
	src/kernel/diag.c \
	src/kernel/diag.h \
	src/kernel/firewall.c \
	src/kernel/firewall.h \
	src/kernel/firewall_cgroup.c \
	src/kernel/firewall_internal.h \
	src/kernel/firewall_iptables.c \
	src/kernel/firewall_nft.c \
	src/kernel/ended.c \
	src/kernel/ended.h \
	src/kernel/handover.c \
	src/kernel/handover.h \
	src/kernel/netlink.c \
	src/kernel/netlink.h \
	src/kernel/netstate.c \
	src/kernel/netstate.h \
	src/kernel/netstate_internal.h \
	src/kernel/netstate_link.c \
	src/kernel/netstate_neigh.c \
	src/kernel/netstate_route.c \
	src/kernel/ports.c \
	src/kernel/ports.h \
	src/kernel/procfile.c \
	src/kernel/procfile.h \
	src/kernel/secret.c
