/*
 * Which member of a listener group a frame belongs to, as eBPF. The decision is told at the head of classifier_group.c;
 * here it is in the same order. It goes on from classifier_prog.c with the key complete.
 *
 * Registers: R6 the frame, R7 the verdict if it matches, R9 the packet's protocol and later its TCP flags or a bitmap;
 * R8 the group's members, later its flows.
 */
#include "kernel/classifier_prog_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "kernel/classifier_group_internal.h"
#include "kernel/judge_internal.h"

#define SLOT_MASK      (CLASSIFIER_GROUP_SLOTS - 1)
#define SLOT_SHIFT     6 /* sizeof(struct group_slot), as a power of two */
#define SLOT_FIELD(f)  ((int)(offsetof(struct group_members, slots) + offsetof(struct group_slot, f)))
#define MEMBER(f)      ((int)offsetof(struct group_members, f))

_Static_assert(sizeof(struct group_slot) == 1 << SLOT_SHIFT, "an index becomes an offset by a shift");
_Static_assert(sizeof(struct classifier_flow) % 8 == 4, "the hash reads words of 8 bytes and one of 4");

/* ---- one step each ---- */

/* R0 = what `listeners` says of the listener that gets the packet: its address before the wildcard of its family. */
static void gen_listener(struct gen *g, int found)
{
	struct bpf_asm *a = g->a;
	int wildcard = bpf_asm_label(a), v6 = bpf_asm_label(a);

	bpf_asm_store(a, BPF_H, FP, LISTENER_PORT, R8);
	bpf_asm_store_imm(a, BPF_H, FP, LISTENER_ZERO, 0);
	bpf_asm_alu_imm(a, BPF_AND, R1, PORT_BY_ADDR);
	bpf_asm_jump_if(a, BPF_JEQ, R1, 0, wildcard);
	classifier_gen_copy_v6_addr(g, LISTENER_ADDR, KEY_LADDR);
	classifier_gen_lookup(g, g->maps->listeners, LISTENER);
	bpf_asm_jump_if(a, BPF_JNE, R0, 0, found);

	bpf_asm_bind(a, wildcard);
	bpf_asm_store_imm(a, BPF_DW, FP, LISTENER_ADDR, 0);
	bpf_asm_store_imm(a, BPF_DW, FP, LISTENER_ADDR + 8, 0);
	bpf_asm_load(a, BPF_DW, R1, FP, FAMILY);
	bpf_asm_jump_if(a, BPF_JNE, R1, PORT_ANY_V4, v6);
	bpf_asm_store_imm(a, BPF_W, FP, LISTENER_ADDR + 8, htonl(0x0000ffff));
	bpf_asm_bind(a, v6);
	classifier_gen_lookup(g, g->maps->listeners, LISTENER);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, g->exact_unchecked);
}

/* R8 = the members. */
static void gen_members(struct gen *g)
{
	struct bpf_asm *a = g->a;

	classifier_gen_lookup(g, g->maps->members, GROUP);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, g->none);
	bpf_asm_store_imm(a, BPF_W, FP, ZERO, 0);
	bpf_asm_mov(a, R1, R0);
	bpf_asm_mov(a, R2, FP);
	bpf_asm_alu_imm(a, BPF_ADD, R2, ZERO);
	bpf_asm_call(a, BPF_FUNC_map_lookup_elem);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, g->none);
	bpf_asm_mov(a, R8, R0);
}

/* reg = the slot at R8's members whose number is in `slot` (bounded here). */
static void gen_slot(struct gen *g, int reg, int slot)
{
	bpf_asm_alu_imm(g->a, BPF_AND, slot, SLOT_MASK);
	bpf_asm_mov(g->a, reg, slot);
	bpf_asm_alu_imm(g->a, BPF_LSH, reg, SLOT_SHIFT);
	bpf_asm_alu(g->a, BPF_ADD, reg, R8);
}

/* R2 = the owner as entries hold it, of the slot in R1. Nobody owns it: the kernel's. */
static void gen_owner(struct gen *g)
{
	struct bpf_asm *a = g->a;

	gen_slot(g, R2, R1);
	bpf_asm_load(a, BPF_W, R2, R2, SLOT_FIELD(generation));
	bpf_asm_mov(a, R3, R2);
	bpf_asm_alu_imm(a, BPF_AND, R3, 1);
	bpf_asm_jump_if(a, BPF_JEQ, R3, 0, g->none);
	bpf_asm_alu_imm(a, BPF_LSH, R2, 32);
	bpf_asm_alu(a, BPF_OR, R2, R1);
}

/* The verdict by the owner in `owner`. */
static void gen_obey(struct gen *g, int owner)
{
	int own = owner == R1 ? R2 : R1;

	bpf_asm_load(g->a, BPF_DW, own, FP, OWN);
	bpf_asm_jump_if_reg(g->a, BPF_JEQ, owner, own, g->match);
	bpf_asm_jump(g->a, g->none);
}

/* ---- 1 and 2: the entry ---- */

/* R0 = the flow's entry; leaves the map in R1's place, so only for a look. */
static void gen_entry(struct gen *g)
{
	classifier_gen_lookup(g, g->maps->flows, GROUP);
	bpf_asm_jump_if(g->a, BPF_JEQ, R0, 0, g->exact_unchecked);
	bpf_asm_mov(g->a, R1, R0);
	classifier_gen_lookup_key(g);
}

/* The entry in R1 is not ours: only a SYN asks whether its owner lives. Falls through, with R8 the members, if not. */
static void gen_others_entry(struct gen *g)
{
	struct bpf_asm *a = g->a;

	bpf_asm_jump_if(a, BPF_JNE, R9, IPPROTO_TCP, g->none);
	classifier_gen_flags(g, R2);
	bpf_asm_jump_if(a, BPF_JNE, R2, TCP_SYN, g->none);
	bpf_asm_store(a, BPF_DW, FP, ENTRY, R1);
	classifier_gen_check_address(g);
	gen_members(g);
	bpf_asm_load(a, BPF_DW, R1, FP, ENTRY);
	bpf_asm_mov(a, R3, R1);
	bpf_asm_alu_imm(a, BPF_RSH, R3, 32);
	gen_slot(g, R2, R1);
	bpf_asm_load(a, BPF_W, R2, R2, SLOT_FIELD(generation));
	bpf_asm_jump_if_reg(a, BPF_JEQ, R2, R3, g->none);
}

/* Goes on if the host judges. */
static void gen_if_judged(struct gen *g, int otherwise)
{
	bpf_asm_map_value(g->a, R1, g->maps->ports, offsetof(struct classifier_ports, judged));
	bpf_asm_load(g->a, BPF_W, R1, R1, 0);
	bpf_asm_jump_if(g->a, BPF_JEQ, R1, 0, otherwise);
}

/* R7 = the group's map of what was asked. */
static void gen_asked_map(struct gen *g)
{
	bpf_asm_load(g->a, BPF_W, R1, FP, GROUP);
	bpf_asm_alu_imm(g->a, BPF_ADD, R1, JUDGE_OWN + 1);
	bpf_asm_store(g->a, BPF_W, FP, SLOT, R1);
	classifier_gen_lookup(g, g->maps->asked, SLOT);
	bpf_asm_jump_if(g->a, BPF_JEQ, R0, 0, g->none);
	bpf_asm_mov(g->a, R7, R0);
}

/*
 * The member of slot R6 is silent: nobody is to choose it until it says that it is there. R8 = the members, R9 = its
 * syn_since_ns.
 */
static void gen_clear_member(struct gen *g)
{
	struct bpf_asm *a = g->a;

	bpf_asm_mov_imm(a, R1, 1);
	bpf_asm_alu(a, BPF_LSH, R1, R6);
	bpf_asm_alu_imm(a, BPF_XOR, R1, -1);
	bpf_asm_atomic_and(a, BPF_DW, R8, MEMBER(waiting), R1);
	bpf_asm_atomic_and(a, BPF_DW, R8, MEMBER(accepting), R1);
	bpf_asm_atomic_and(a, BPF_DW, R8, MEMBER(lately), R1);
	bpf_asm_mov_imm(a, R1, 1);
	bpf_asm_atomic_add(a, BPF_W, R9, (int)offsetof(struct group_slot, given) - (int)offsetof(struct group_slot, syn_since_ns), R1);
}

/*
 * R6 = the slot in `slot`, R9 = where it says since when a SYN waits for it. Goes to `alive` unless that is too long.
 */
static void gen_if_member_is_silent(struct gen *g, int slot, int alive)
{
	bpf_asm_mov(g->a, R6, slot);
	gen_slot(g, R9, R6);
	bpf_asm_alu_imm(g->a, BPF_ADD, R9, SLOT_FIELD(syn_since_ns));
	classifier_gen_if_silent(g, R9, alive);
}

/*
 * A SYN came again whose entry is this member's. If the member is silent, and has no connection that this SYN must not
 * end, the entry becomes the kernel's.
 */
static void gen_own_syn_again(struct gen *g)
{
	struct bpf_asm *a = g->a;

	if (!g->is_tap) {
		bpf_asm_jump(a, g->match);
		return;
	}
	bpf_asm_jump_if(a, BPF_JNE, R9, IPPROTO_TCP, g->match);
	classifier_gen_flags(g, R1);
	bpf_asm_jump_if(a, BPF_JNE, R1, TCP_SYN, g->match);
	gen_members(g);
	bpf_asm_load(a, BPF_W, R1, FP, OWN); /* the slot */
	gen_if_member_is_silent(g, R1, g->match);
	classifier_gen_find_conn(g, g->match);

	classifier_gen_lookup(g, g->maps->flows, GROUP);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, g->none);
	bpf_asm_mov(a, R1, R0);
	classifier_gen_lookup_key(g);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, g->none);
	bpf_asm_mov(a, R2, R0);
	bpf_asm_load(a, BPF_DW, R0, FP, OWN);
	bpf_asm_imm64(a, R1, GROUP_SLOT_KERNEL);
	bpf_asm_alu(a, BPF_OR, R1, R0);
	bpf_asm_cmpxchg(a, BPF_DW, R2, 0, R1);
	gen_clear_member(g);
	bpf_asm_jump(a, g->none);
}

/* A SYN for a connection that this member has: where the host judges, it climbs as any other. */
static void gen_own_syn(struct gen *g)
{
	struct bpf_asm *a = g->a;
	int ours = bpf_asm_label(a);

	bpf_asm_jump_if(a, BPF_JNE, R9, IPPROTO_TCP, ours);
	gen_if_judged(g, ours);
	classifier_gen_flags(g, R1);
	bpf_asm_jump_if(a, BPF_JNE, R1, TCP_SYN, ours);
	classifier_gen_if_open(g, ours);
	if (!g->is_tap) {
		gen_asked_map(g);
		bpf_asm_mov(a, R1, R7);
		bpf_asm_load(a, BPF_W, R2, FP, OWN); /* the slot */
		bpf_asm_mov_imm(a, R4, 1);
		classifier_gen_ask(g, R4);
	}
	bpf_asm_jump(a, g->none);
	bpf_asm_bind(a, ours);
}

/*
 * Falls through with R8 the members when no entry decides. Here most frames of other members end, so a look at the
 * entry is all they cost.
 */
static void gen_by_entry(struct gen *g)
{
	struct bpf_asm *a = g->a;
	int absent = bpf_asm_label(a), undecided = bpf_asm_label(a), others = bpf_asm_label(a);

	gen_entry(g);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, absent);
	bpf_asm_load(a, BPF_DW, R1, R0, 0);
	bpf_asm_load(a, BPF_DW, R2, FP, OWN);
	bpf_asm_jump_if_reg(a, BPF_JNE, R1, R2, others);
	classifier_gen_check_address(g);
	gen_own_syn(g);
	gen_own_syn_again(g);

	bpf_asm_bind(a, absent);
	classifier_gen_check_address(g);
	classifier_gen_find(g, SET_FLOWS, g->match);
	bpf_asm_jump_if(a, BPF_JNE, R9, IPPROTO_TCP, g->none);
	gen_members(g);
	bpf_asm_load(a, BPF_DW, R1, R8, MEMBER(zero)); /* a zero that the verifier does not know: one state for all that follows */
	bpf_asm_store(a, BPF_DW, FP, ENTRY, R1);
	bpf_asm_jump(a, undecided);

	bpf_asm_bind(a, others);
	if (!g->is_tap) /* a dead one's was replaced when the taps saw the frame */
		bpf_asm_jump(a, g->none);
	else
		gen_others_entry(g);
	bpf_asm_bind(a, undecided);
}

/* ---- a bit of a bitmap, by its rank ---- */

#define EACH_BYTE(b) (0x0101010101010101ull * (b))

/* reg = reg `op` imm; R5 is lost. */
static void gen_imm64(struct gen *g, int op, int reg, uint64_t imm)
{
	bpf_asm_imm64(g->a, R5, imm);
	bpf_asm_alu(g->a, op, reg, R5);
}

/*
 * Each byte of reg = how many bits are set in it and the bytes below it (Hacker's Delight §5-1: pairs, nibbles, bytes,
 * then their sums).
 */
static void gen_sums(struct gen *g, int reg, int scratch)
{
	struct bpf_asm *a = g->a;

	bpf_asm_mov(a, scratch, reg);
	bpf_asm_alu_imm(a, BPF_RSH, scratch, 1);
	gen_imm64(g, BPF_AND, scratch, EACH_BYTE(0x55));
	bpf_asm_alu(a, BPF_SUB, reg, scratch);
	bpf_asm_mov(a, scratch, reg);
	bpf_asm_alu_imm(a, BPF_RSH, scratch, 2);
	gen_imm64(g, BPF_AND, scratch, EACH_BYTE(0x33));
	bpf_asm_alu(a, BPF_AND, reg, R5);
	bpf_asm_alu(a, BPF_ADD, reg, scratch);
	bpf_asm_mov(a, scratch, reg);
	bpf_asm_alu_imm(a, BPF_RSH, scratch, 4);
	bpf_asm_alu(a, BPF_ADD, reg, scratch);
	gen_imm64(g, BPF_AND, reg, EACH_BYTE(0x0f));
	gen_imm64(g, BPF_MUL, reg, EACH_BYTE(1));
}

/* reg = how many of the bytes of `sums` (each below 128) are not above `rank`. */
static void gen_count_not_above(struct gen *g, int reg, int sums, int rank)
{
	bpf_asm_mov(g->a, reg, rank);
	gen_imm64(g, BPF_MUL, reg, EACH_BYTE(1));
	gen_imm64(g, BPF_OR, reg, EACH_BYTE(0x80));
	bpf_asm_alu(g->a, BPF_SUB, reg, sums); /* a byte's high bit stays: it is not above */
	gen_imm64(g, BPF_AND, reg, EACH_BYTE(0x80));
	bpf_asm_alu_imm(g->a, BPF_RSH, reg, 7);
	gen_imm64(g, BPF_MUL, reg, EACH_BYTE(1));
	bpf_asm_alu_imm(g->a, BPF_RSH, reg, 56);
}

/* ---- 3: choosing ---- */

/* R3 = a hash of the key. */
static void gen_hash(struct gen *g)
{
	struct bpf_asm *a = g->a;

	bpf_asm_load(a, BPF_DW, R3, R8, MEMBER(seed));
	bpf_asm_imm64(a, R4, CLASSIFIER_MIX);
	for (int i = 0; i < (int)sizeof(struct classifier_flow); i += 8) {
		bool last = i + 8 > (int)sizeof(struct classifier_flow);
		bpf_asm_load(a, last ? BPF_W : BPF_DW, R1, FP, KEY + i);
		bpf_asm_alu(a, BPF_XOR, R3, R1);
		bpf_asm_alu(a, BPF_MUL, R3, R4);
		bpf_asm_mov(a, R1, R3);
		bpf_asm_alu_imm(a, BPF_RSH, R1, 32);
		bpf_asm_alu(a, BPF_XOR, R3, R1);
	}
}

/* Goes to `over` where no cookies of the group are out. */
static void gen_while_cookies(struct gen *g, int over)
{
	struct bpf_asm *a = g->a;

	bpf_asm_load(a, BPF_DW, R1, R8, MEMBER(cookies_until_ns));
	bpf_asm_jump_if(a, BPF_JEQ, R1, 0, over);
	bpf_asm_call(a, BPF_FUNC_ktime_get_ns);
	bpf_asm_load(a, BPF_DW, R1, R8, MEMBER(cookies_until_ns));
	bpf_asm_jump_if_reg(a, BPF_JGT, R0, R1, over);
}

/* R1 = the slot by hash, of those that accept. */
static void gen_select_by_hash(struct gen *g)
{
	struct bpf_asm *a = g->a;

	gen_hash(g);
	bpf_asm_load(a, BPF_DW, R1, R8, MEMBER(accepting));
	bpf_asm_jump_if(a, BPF_JEQ, R1, 0, g->none);
	bpf_asm_mov(a, R2, R1);
	gen_sums(g, R2, R4);
	bpf_asm_mov(a, R4, R2);
	bpf_asm_alu_imm(a, BPF_RSH, R4, 56);
	bpf_asm_alu(a, BPF_MOD, R3, R4);
	bpf_asm_call_label(a, g->select);
	bpf_asm_mov(a, R1, R0);
}

/*
 * While cookies are out, a SYN or an ACK without entry goes by hash: over those that accept. Others go on, as does a
 * SYN with a dead member's entry: replacing it makes no new one.
 */
static void gen_cookies(struct gen *g)
{
	struct bpf_asm *a = g->a;
	int over = bpf_asm_label(a), by_hash = bpf_asm_label(a);

	gen_while_cookies(g, over);
	bpf_asm_load(a, BPF_DW, R1, FP, ENTRY);
	bpf_asm_jump_if(a, BPF_JNE, R1, 0, over);
	bpf_asm_jump_if(a, BPF_JEQ, R9, TCP_SYN, by_hash);
	bpf_asm_jump_if(a, BPF_JNE, R9, TCP_ACK, g->none);
	bpf_asm_bind(a, by_hash);
	classifier_gen_find(g, SET_EXCEPTIONS, g->none);
	gen_select_by_hash(g);
	gen_owner(g);
	gen_obey(g, R2);
	bpf_asm_bind(a, over);
}

/*
 * R6 = those to choose from: that wait; when none does, that accept; when none does, that did lately. R9 = their sums.
 */
static void gen_candidates(struct gen *g)
{
	struct bpf_asm *a = g->a;
	int some = bpf_asm_label(a);

	bpf_asm_load(a, BPF_DW, R6, R8, MEMBER(waiting));
	bpf_asm_jump_if(a, BPF_JNE, R6, 0, some);
	bpf_asm_load(a, BPF_DW, R6, R8, MEMBER(accepting));
	bpf_asm_jump_if(a, BPF_JNE, R6, 0, some);
	bpf_asm_load(a, BPF_DW, R6, R8, MEMBER(lately));
	bpf_asm_jump_if(a, BPF_JEQ, R6, 0, g->none);
	bpf_asm_bind(a, some);
	bpf_asm_mov(a, R9, R6);
	gen_sums(g, R9, R1);
}

/* R0 = the candidate whose rank is in R0. */
static void gen_select(struct gen *g)
{
	bpf_asm_mov(g->a, R1, R6);
	bpf_asm_mov(g->a, R2, R9);
	bpf_asm_mov(g->a, R3, R0);
	bpf_asm_call_label(g->a, g->select);
}

/* R1 = of two different candidates at random, the one whose queue is shorter. */
static void gen_two_choices(struct gen *g)
{
	struct bpf_asm *a = g->a;
	int chosen = bpf_asm_label(a);

	bpf_asm_call(a, BPF_FUNC_get_prandom_u32);
	bpf_asm_mov(a, R2, R9);
	bpf_asm_alu_imm(a, BPF_RSH, R2, 56); /* how many */
	bpf_asm_alu(a, BPF_MOD, R0, R2);
	bpf_asm_store(a, BPF_DW, FP, RANK, R0);
	gen_select(g);
	bpf_asm_store(a, BPF_DW, FP, CHOSEN, R0);
	bpf_asm_mov(a, R1, R0);
	bpf_asm_mov(a, R2, R9);
	bpf_asm_alu_imm(a, BPF_RSH, R2, 56);
	bpf_asm_jump_if(a, BPF_JEQ, R2, 1, chosen);

	/* The second rank is drawn from one less, and passes over the first. */
	bpf_asm_call(a, BPF_FUNC_get_prandom_u32);
	bpf_asm_mov(a, R2, R9);
	bpf_asm_alu_imm(a, BPF_RSH, R2, 56);
	bpf_asm_alu_imm(a, BPF_SUB, R2, 1);
	bpf_asm_alu(a, BPF_MOD, R0, R2);
	bpf_asm_load(a, BPF_DW, R1, FP, RANK);
	bpf_asm_mov(a, R2, R0);
	bpf_asm_alu(a, BPF_SUB, R2, R1);
	bpf_asm_alu_imm(a, BPF_RSH, R2, 63); /* 1: it is below the first */
	bpf_asm_alu_imm(a, BPF_ADD, R0, 1);
	bpf_asm_alu(a, BPF_SUB, R0, R2);
	gen_select(g);
	bpf_asm_load(a, BPF_DW, R1, FP, CHOSEN);
	gen_slot(g, R2, R0);
	bpf_asm_load(a, BPF_W, R2, R2, SLOT_FIELD(queue));
	gen_slot(g, R3, R1);
	bpf_asm_load(a, BPF_W, R3, R3, SLOT_FIELD(queue));
	bpf_asm_jump_if_reg(a, BPF_JGE, R2, R3, chosen);
	bpf_asm_mov(a, R1, R0);
	bpf_asm_bind(a, chosen);
}

/* CHOSEN is what the flow's entry becomes, unless another CPU was first. R8 = the flows. */
static void gen_write_entry(struct gen *g)
{
	struct bpf_asm *a = g->a;
	int insert = bpf_asm_label(a), exists = bpf_asm_label(a), done = bpf_asm_label(a), lost = bpf_asm_label(a);

	classifier_gen_lookup(g, g->maps->flows, GROUP);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, g->none);
	bpf_asm_mov(a, R8, R0);
	bpf_asm_load(a, BPF_DW, R1, FP, ENTRY);
	bpf_asm_jump_if(a, BPF_JEQ, R1, 0, insert);

	/* Its owner is gone. */
	bpf_asm_mov(a, R1, R8);
	classifier_gen_lookup_key(g);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, insert); /* swept meanwhile */
	bpf_asm_mov(a, R2, R0);
	bpf_asm_load(a, BPF_DW, R0, FP, ENTRY);
	bpf_asm_load(a, BPF_DW, R1, FP, CHOSEN);
	bpf_asm_cmpxchg(a, BPF_DW, R2, 0, R1);
	bpf_asm_load(a, BPF_DW, R1, FP, ENTRY);
	bpf_asm_jump_if_reg(a, BPF_JEQ, R0, R1, done);
	bpf_asm_jump(a, lost);

	bpf_asm_bind(a, insert);
	bpf_asm_mov(a, R1, R8);
	classifier_gen_insert_key(g, CHOSEN);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, done);
	bpf_asm_jump_if(a, BPF_JEQ, R0, -EEXIST, exists);
	bpf_asm_jump(a, g->none); /* full */

	bpf_asm_bind(a, exists);
	bpf_asm_mov(a, R1, R8);
	classifier_gen_lookup_key(g);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, g->none);
	bpf_asm_load(a, BPF_DW, R0, R0, 0);
	bpf_asm_bind(a, lost); /* R0 is what the other CPU wrote */
	gen_obey(g, R0);

	bpf_asm_bind(a, done);
	bpf_asm_load(a, BPF_DW, R0, FP, CHOSEN);
	gen_obey(g, R0);
}

/* R1 = the slot by hash, while cookies are out; goes to `over` otherwise. */
static void gen_slot_by_hash(struct gen *g, int over)
{
	gen_while_cookies(g, over);
	gen_select_by_hash(g);
}

/* Somebody's program has asked about this very segment: on behalf of this member, it is confirmed. */
static void gen_confirm(struct gen *g, int fresh)
{
	struct bpf_asm *a = g->a;

	bpf_asm_mov(a, R1, R7);
	classifier_gen_lookup_key(g);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, fresh);
	bpf_asm_load(a, BPF_W, R1, R0, offsetof(struct judge_asked, seq_be));
	bpf_asm_load(a, BPF_W, R2, FP, TCP_SEQ);
	bpf_asm_jump_if_reg(a, BPF_JNE, R1, R2, fresh);
	bpf_asm_load(a, BPF_W, R1, R0, offsetof(struct judge_asked, slot));
	bpf_asm_load(a, BPF_W, R2, FP, OWN);
	bpf_asm_jump_if_reg(a, BPF_JNE, R1, R2, g->none);
	bpf_asm_store_imm(a, BPF_W, R0, offsetof(struct judge_asked, alive), 1);
	bpf_asm_jump(a, g->none);
}

/*
 * The host judges: no packet filter takes a SYN. The first tcx program in the chain chooses a member and asks the host
 * on its behalf; the member's own program confirms that it lives, so that a dead one's SYNs are the kernel's. The
 * engine makes the entry when it answers. R8 = the members, R9 = the flags.
 */
static void gen_judged(struct gen *g)
{
	struct bpf_asm *a = g->a;
	int not_judged = bpf_asm_label(a), fresh = bpf_asm_label(a), by_choice = bpf_asm_label(a), chosen = bpf_asm_label(a), ask = bpf_asm_label(a);

	gen_if_judged(g, not_judged);
	bpf_asm_jump_if(a, BPF_JNE, R9, TCP_SYN, not_judged);
	classifier_gen_if_open(g, not_judged);
	if (g->is_tap) {
		bpf_asm_jump(a, g->none);
		bpf_asm_bind(a, not_judged);
		return;
	}
	bpf_asm_load(a, BPF_DW, R1, FP, OWN);
	bpf_asm_jump_if(a, BPF_JEQ, R1, 0, g->none); /* no slot */
	classifier_gen_find(g, SET_EXCEPTIONS, g->none);
	gen_asked_map(g);
	gen_confirm(g, fresh);

	bpf_asm_bind(a, fresh);
	gen_slot_by_hash(g, by_choice);
	bpf_asm_jump(a, chosen);
	bpf_asm_bind(a, by_choice);
	gen_candidates(g);
	gen_two_choices(g);
	bpf_asm_bind(a, chosen);
	bpf_asm_mov(a, R2, R1);
	bpf_asm_load(a, BPF_W, R3, FP, OWN);
	bpf_asm_mov_imm(a, R4, 1);
	bpf_asm_jump_if_reg(a, BPF_JEQ, R2, R3, ask);
	bpf_asm_mov_imm(a, R4, 0);
	bpf_asm_bind(a, ask);
	bpf_asm_mov(a, R1, R7);
	classifier_gen_ask(g, R4);
	bpf_asm_jump(a, g->none);
	bpf_asm_bind(a, not_judged);
}

/*
 * Who is chosen and silent is chosen no more, and this SYN is the kernel's: the entry says so to all, and comes from a
 * member as any other.
 */
static void gen_choose(struct gen *g)
{
	struct bpf_asm *a = g->a;
	int alive = bpf_asm_label(a);

	bpf_asm_jump_if(a, BPF_JNE, R9, TCP_SYN, g->none);
	gen_candidates(g);
	gen_two_choices(g);
	gen_owner(g);
	bpf_asm_store(a, BPF_DW, FP, CHOSEN, R2);
	gen_if_member_is_silent(g, R1, alive);
	gen_clear_member(g);
	bpf_asm_load(a, BPF_DW, R2, FP, CHOSEN);
	bpf_asm_imm64(a, R1, GROUP_SLOT_KERNEL);
	bpf_asm_alu(a, BPF_OR, R2, R1);
	bpf_asm_store(a, BPF_DW, FP, CHOSEN, R2);
	bpf_asm_bind(a, alive);
	gen_write_entry(g);
}

/* GROUP and OWN, by the byte in R1 alone if it says so. */
static void gen_which_group(struct gen *g)
{
	struct bpf_asm *a = g->a;
	int by_listener = bpf_asm_label(a), found = bpf_asm_label(a), known = bpf_asm_label(a);

	bpf_asm_mov(a, R2, R1);
	bpf_asm_alu_imm(a, BPF_RSH, R2, PORT_GROUP_SHIFT);
	bpf_asm_jump_if(a, BPF_JEQ, R2, 0, by_listener);
	bpf_asm_load(a, BPF_DW, R3, FP, FAMILY);
	bpf_asm_alu(a, BPF_AND, R3, R1);
	bpf_asm_jump_if(a, BPF_JEQ, R3, 0, g->exact_unchecked);
	bpf_asm_map_value(a, R3, g->maps->ports, offsetof(struct classifier_ports, own));
	bpf_asm_mov(a, R1, R2);
	bpf_asm_alu_imm(a, BPF_LSH, R1, 3);
	bpf_asm_alu(a, BPF_ADD, R3, R1);
	bpf_asm_load(a, BPF_DW, R1, R3, 0);
	bpf_asm_store(a, BPF_DW, FP, OWN, R1);
	bpf_asm_alu_imm(a, BPF_SUB, R2, 1);
	bpf_asm_store(a, BPF_W, FP, GROUP, R2);
	bpf_asm_jump(a, known);

	bpf_asm_bind(a, by_listener);
	gen_listener(g, found);
	bpf_asm_bind(a, found);
	bpf_asm_load(a, BPF_DW, R1, R0, offsetof(struct classifier_listener_of, own));
	bpf_asm_store(a, BPF_DW, FP, OWN, R1);
	bpf_asm_load(a, BPF_W, R1, R0, offsetof(struct classifier_listener_of, group));
	bpf_asm_jump_if(a, BPF_JEQ, R1, 0, g->listening_unchecked);
	bpf_asm_alu_imm(a, BPF_SUB, R1, 1);
	bpf_asm_store(a, BPF_W, FP, GROUP, R1);
	bpf_asm_bind(a, known);
}

void classifier_gen_group(struct gen *g)
{
	struct bpf_asm *a = g->a;

	bpf_asm_bind(a, g->group);
	gen_which_group(g);
	gen_by_entry(g);
	classifier_gen_flags(g, R9);
	gen_judged(g);
	gen_cookies(g);
	if (g->is_tap)
		gen_choose(g);
	else
		bpf_asm_jump(a, g->none);

	bpf_asm_bind(a, g->listening_unchecked);
	classifier_gen_check_address(g);
	bpf_asm_jump(a, g->listening);
	bpf_asm_bind(a, g->exact_unchecked);
	classifier_gen_check_address(g);
	bpf_asm_jump(a, g->exact);
}

/*
 * R0 = the set bit of R1 that has the rank R3, from 0; R2 = the sums of R1. As in S. Vigna, "Broadword implementation
 * of rank/select queries" (2008): the byte, by the sums, then the bit in the byte. No loops: the verifier would walk
 * each of their rounds.
 */
void classifier_gen_group_functions(struct gen *g)
{
	struct bpf_asm *a = g->a;

	bpf_asm_bind(a, g->select);
	/* R4 = the byte's place. R0 = the byte, R3 = the rank in it. */
	gen_count_not_above(g, R4, R2, R3);
	bpf_asm_alu_imm(a, BPF_AND, R4, 7);
	bpf_asm_alu_imm(a, BPF_LSH, R4, 3);
	bpf_asm_mov(a, R0, R1);
	bpf_asm_alu(a, BPF_RSH, R0, R4);
	bpf_asm_alu_imm(a, BPF_AND, R0, 0xff);
	bpf_asm_alu_imm(a, BPF_LSH, R2, 8);
	bpf_asm_alu(a, BPF_RSH, R2, R4);
	bpf_asm_alu_imm(a, BPF_AND, R2, 0xff);
	bpf_asm_alu(a, BPF_SUB, R3, R2);
	/* Each byte of R0 = one bit of the byte, as 0 or 1, then the sum of those so far. */
	gen_imm64(g, BPF_MUL, R0, EACH_BYTE(1));
	gen_imm64(g, BPF_AND, R0, 0x8040201008040201ull);
	gen_imm64(g, BPF_ADD, R0, EACH_BYTE(0x7f));
	bpf_asm_alu_imm(a, BPF_RSH, R0, 7);
	gen_imm64(g, BPF_AND, R0, EACH_BYTE(1));
	gen_imm64(g, BPF_MUL, R0, EACH_BYTE(1));
	gen_count_not_above(g, R1, R0, R3);
	bpf_asm_mov(a, R0, R1);
	bpf_asm_alu(a, BPF_ADD, R0, R4);
	bpf_asm_exit(a);
}
