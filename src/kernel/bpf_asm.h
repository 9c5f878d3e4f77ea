/*
 * A small assembler for eBPF: one call per instruction, labels for forward jumps. Pure: it fills an array that it owns
 * and can be called anywhere. Overflow or an unbound label is remembered and reported once, by bpf_asm_finish.
 */
#ifndef FINESSE_KERNEL_BPF_ASM_H
#define FINESSE_KERNEL_BPF_ASM_H

#include <stdint.h>
#include <linux/bpf.h>

#define BPF_ASM_INSNS_MAX  2048 /* instructions of one program */
#define BPF_ASM_LABELS_MAX 254 /* `target` has a byte */

/* The registers' roles by the calling convention. */
enum bpf_asm_reg { R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FP };

struct bpf_asm {
	struct bpf_insn insns[BPF_ASM_INSNS_MAX];
	uint8_t target[BPF_ASM_INSNS_MAX]; /* label + 1 that a jump wants, or 0 */
	int16_t label[BPF_ASM_LABELS_MAX]; /* instruction that a label is bound to, or -1 */
	int n_insns, n_labels;
	int error;
};

void bpf_asm_init(struct bpf_asm *a);
/* Resolves the jumps. The number of instructions, or -EOVERFLOW, -EINVAL (unbound label). */
int bpf_asm_finish(struct bpf_asm *a);

int bpf_asm_label(struct bpf_asm *a);           /* a new one, not yet bound */
void bpf_asm_bind(struct bpf_asm *a, int label); /* to the next instruction */

/* dst = src, dst = imm (sign-extended), dst = dst `op` src/imm on 64 bits; `op` as BPF_ADD … */
void bpf_asm_mov(struct bpf_asm *a, int dst, int src);
void bpf_asm_mov_imm(struct bpf_asm *a, int dst, int32_t imm);
void bpf_asm_alu(struct bpf_asm *a, int op, int dst, int src);
void bpf_asm_alu_imm(struct bpf_asm *a, int op, int dst, int32_t imm);
/* dst = the low `bits` (16, 32) of dst from network to host byte order. */
void bpf_asm_from_be(struct bpf_asm *a, int dst, int bits);
/* dst = imm, all 64 bits. */
void bpf_asm_imm64(struct bpf_asm *a, int dst, uint64_t imm);
/* `size`: BPF_B, BPF_H, BPF_W, BPF_DW. */
void bpf_asm_load(struct bpf_asm *a, int size, int dst, int base, int off);
void bpf_asm_store(struct bpf_asm *a, int size, int base, int off, int src);
void bpf_asm_store_imm(struct bpf_asm *a, int size, int base, int off, int32_t imm);
/* If the memory at base + off is R0, it becomes src; R0 = what it was. As one; `size`: BPF_W, BPF_DW. */
void bpf_asm_cmpxchg(struct bpf_asm *a, int size, int base, int off, int src);
/* Adds src to the memory at base + off, as one. */
void bpf_asm_atomic_add(struct bpf_asm *a, int size, int base, int off, int src);
/* Clears those bits of the memory at base + off that src does not have, as one. */
void bpf_asm_atomic_and(struct bpf_asm *a, int size, int base, int off, int src);
/* dst = a map, or the address of byte `off` of an array map's first value. */
void bpf_asm_map(struct bpf_asm *a, int dst, int map_fd);
void bpf_asm_map_value(struct bpf_asm *a, int dst, int map_fd, uint32_t off);
/* Goes to label; … if dst `op` imm or src; `op` as BPF_JEQ, BPF_JNE, BPF_JSET … */
void bpf_asm_jump(struct bpf_asm *a, int label);
void bpf_asm_jump_if(struct bpf_asm *a, int op, int dst, int32_t imm, int label);
void bpf_asm_jump_if_reg(struct bpf_asm *a, int op, int dst, int src, int label);
void bpf_asm_call(struct bpf_asm *a, int helper);
/* A function of the kernel itself (kfunc), by its BTF id. */
void bpf_asm_call_kernel(struct bpf_asm *a, int btf_id);
/* Calls the function at `label`, which is behind the program: it gets R1 to R5, returns in R0, and R6 to R9 survive. */
void bpf_asm_call_label(struct bpf_asm *a, int label);
void bpf_asm_exit(struct bpf_asm *a);

#endif
