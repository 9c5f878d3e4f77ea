/*
 * Internal to src/kernel: what the judge's filter shares with the classifier's program (classifier_prog.c) and with the
 * reader of the ring (judge.c).
 */
#ifndef FINESSE_KERNEL_JUDGE_INTERNAL_H
#define FINESSE_KERNEL_JUDGE_INTERNAL_H

#include "kernel/bpf_asm.h"
#include "kernel/classifier_prog.h"
#include "kernel/judge.h"

/*
 * Value of the map `asked`, by struct classifier_flow: this segment may be accepted by the host, on behalf of the
 * engine in this slot.
 */
struct judge_asked {
	uint32_t seq_be;
	uint32_t slot;  /* of the array of rings */
	uint32_t alive; /* the slot's own program saw the frame, too */
	uint32_t zero;
};

/* What the filter writes into a ring. */
struct judge_record {
	struct classifier_flow flow;
	uint32_t ifindex;
	uint8_t src_mac[6], ttl, tos;
	uint8_t tcp[JUDGE_TCP_HDR_MAX];
	uint16_t tcp_len;
	uint16_t zero;
};
_Static_assert(sizeof(struct judge_record) == 112, "no padding, and a multiple of 8");

struct judge_maps {
	int asked; /* hash, the oldest go: struct classifier_flow -> struct judge_asked */
	int rings; /* array of rings, by slot */
};

/* Assembles the filter; the number of instructions, or -errno. */
int judge_assemble(struct bpf_asm *a, const struct judge_maps *maps);
/* A map as `asked` is, for an array of such maps. */
int judge_asked_map_like(void);

#endif
