/* The assembler of bpf_asm.h: each call appends one instruction (a 64-bit immediate takes two
 * slots). */
#include "kernel/bpf_asm.h"

#include <errno.h>
#include <string.h>

void bpf_asm_init(struct bpf_asm *a)
{
	a->n_insns = a->n_labels = a->error = 0;
	memset(a->target, 0, sizeof a->target);
}

static void emit(struct bpf_asm *a, uint8_t code, int dst, int src, int off, int32_t imm)
{
	if (a->n_insns == BPF_ASM_INSNS_MAX || off != (int16_t)off) {
		a->error = -EOVERFLOW;
		return;
	}
	a->insns[a->n_insns++] =
	    (struct bpf_insn){.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm};
}

int bpf_asm_label(struct bpf_asm *a)
{
	if (a->n_labels == BPF_ASM_LABELS_MAX) {
		a->error = -EOVERFLOW;
		return 0;
	}
	a->label[a->n_labels] = -1;
	return a->n_labels++;
}

void bpf_asm_bind(struct bpf_asm *a, int label)
{
	a->label[label] = a->n_insns;
}

int bpf_asm_finish(struct bpf_asm *a)
{
	for (int i = 0; i < a->n_insns && !a->error; i++) {
		if (!a->target[i])
			continue;
		int at = a->label[a->target[i] - 1];
		if (at < 0)
			a->error = -EINVAL;
		/* Jumps count from the next instruction. */
		if (a->insns[i].code == (BPF_JMP | BPF_CALL))
			a->insns[i].imm = at - (i + 1);
		else
			a->insns[i].off = at - (i + 1);
	}
	return a->error ? a->error : a->n_insns;
}

void bpf_asm_mov(struct bpf_asm *a, int dst, int src)
{
	emit(a, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
}

void bpf_asm_mov_imm(struct bpf_asm *a, int dst, int32_t imm)
{
	emit(a, BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm);
}

void bpf_asm_alu(struct bpf_asm *a, int op, int dst, int src)
{
	emit(a, BPF_ALU64 | op | BPF_X, dst, src, 0, 0);
}

void bpf_asm_alu_imm(struct bpf_asm *a, int op, int dst, int32_t imm)
{
	emit(a, BPF_ALU64 | op | BPF_K, dst, 0, 0, imm);
}

void bpf_asm_from_be(struct bpf_asm *a, int dst, int bits)
{
	emit(a, BPF_ALU | BPF_END | BPF_TO_BE, dst, 0, 0, bits); /* its own inverse */
}

void bpf_asm_imm64(struct bpf_asm *a, int dst, uint64_t imm)
{
	emit(a, BPF_LD | BPF_IMM | BPF_DW, dst, 0, 0, (int32_t)imm);
	emit(a, 0, 0, 0, 0, (int32_t)(imm >> 32));
}

void bpf_asm_load(struct bpf_asm *a, int size, int dst, int base, int off)
{
	emit(a, BPF_LDX | BPF_MEM | size, dst, base, off, 0);
}

void bpf_asm_store(struct bpf_asm *a, int size, int base, int off, int src)
{
	emit(a, BPF_STX | BPF_MEM | size, base, src, off, 0);
}

void bpf_asm_store_imm(struct bpf_asm *a, int size, int base, int off, int32_t imm)
{
	emit(a, BPF_ST | BPF_MEM | size, base, 0, off, imm);
}

void bpf_asm_cmpxchg(struct bpf_asm *a, int size, int base, int off, int src)
{
	emit(a, BPF_STX | BPF_ATOMIC | size, base, src, off, BPF_CMPXCHG);
}

void bpf_asm_atomic_add(struct bpf_asm *a, int size, int base, int off, int src)
{
	emit(a, BPF_STX | BPF_ATOMIC | size, base, src, off, BPF_ADD);
}

void bpf_asm_atomic_and(struct bpf_asm *a, int size, int base, int off, int src)
{
	emit(a, BPF_STX | BPF_ATOMIC | size, base, src, off, BPF_AND);
}

void bpf_asm_map(struct bpf_asm *a, int dst, int map_fd)
{
	emit(a, BPF_LD | BPF_IMM | BPF_DW, dst, BPF_PSEUDO_MAP_FD, 0, map_fd);
	emit(a, 0, 0, 0, 0, 0);
}

void bpf_asm_map_value(struct bpf_asm *a, int dst, int map_fd, uint32_t off)
{
	emit(a, BPF_LD | BPF_IMM | BPF_DW, dst, BPF_PSEUDO_MAP_VALUE, 0, map_fd);
	emit(a, 0, 0, 0, 0, off);
}

static void emit_jump(struct bpf_asm *a, uint8_t code, int dst, int src, int32_t imm, int label)
{
	int at = a->n_insns;
	emit(a, code, dst, src, 0, imm);
	if (!a->error)
		a->target[at] = label + 1;
}

void bpf_asm_jump(struct bpf_asm *a, int label)
{
	emit_jump(a, BPF_JMP | BPF_JA, 0, 0, 0, label);
}

void bpf_asm_jump_if(struct bpf_asm *a, int op, int dst, int32_t imm, int label)
{
	emit_jump(a, BPF_JMP | op | BPF_K, dst, 0, imm, label);
}

void bpf_asm_jump_if_reg(struct bpf_asm *a, int op, int dst, int src, int label)
{
	emit_jump(a, BPF_JMP | op | BPF_X, dst, src, 0, label);
}

void bpf_asm_call(struct bpf_asm *a, int helper)
{
	emit(a, BPF_JMP | BPF_CALL, 0, 0, 0, helper);
}

void bpf_asm_call_kernel(struct bpf_asm *a, int btf_id)
{
	emit(a, BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_KFUNC_CALL, 0, btf_id);
}

void bpf_asm_call_label(struct bpf_asm *a, int label)
{
	emit_jump(a, BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, label);
}

void bpf_asm_exit(struct bpf_asm *a)
{
	emit(a, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}
