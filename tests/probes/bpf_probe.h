/*
 * What the probes of tcx share: programs that return a constant (by the assembler, to stay readable), and a frame to
 * send.
 */
#ifndef FINESSE_TESTS_PROBES_BPF_PROBE_H
#define FINESSE_TESTS_PROBES_BPF_PROBE_H

#include <stdint.h>

#include "kernel/bpf_asm.h"
#include "kernel/bpf_sys.h"
#include "tests/net/frames.h"
#include "tests/probes/probe.h"

static inline int constant_program(enum bpf_prog_type type, int32_t verdict)
{
	struct bpf_asm a;
	bpf_asm_init(&a);
	bpf_asm_mov_imm(&a, R0, verdict);
	bpf_asm_exit(&a);
	return bpf_prog_load("probe", type, a.insns, bpf_asm_finish(&a), NULL, 0);
}

/* Own namespace with the veth, or exit 77; *peer sends and sees the kernel's answers. */
static inline void enter_or_skip(int *peer)
{
	uint32_t ids[BPF_QUERY_MAX];
	if (net_enter() != 0)
		exit(PROBE_SKIP);
	if (bpf_prog_query(if_nametoindex("a"), BPF_ATTACH_TCX_INGRESS, 0, ids) < 0) {
		printf("no tcx here\n");
		exit(PROBE_SKIP);
	}
	*peer = packet_open("b");
}

static inline void send_syn(int peer, uint16_t dport)
{
	struct spec s = {.sport = 40000, .dport = dport, .flags = TCPF_SYN};
	struct frame f;
	frame_build(&f, &s);
	must(write(peer, f.b, f.len) == f.len);
}

/* Waits for the kernel's RST to a SYN: the stack has seen everything that was sent before. */
static inline int is_answered(int peer, int ms)
{
	uint8_t b[2048];
	struct tcp_seen t;
	while (readable_within(peer, ms))
		if (frame_parse_tcp(b, read(peer, b, sizeof b), true, &t) && (t.flags & TCPF_RST))
			return t.sport;
	return 0;
}

#endif
