/*
 * Which frames are ours, as an eBPF program.
 *
 * The same code is assembled twice: for tcx ingress and for the packet socket's filter. In both
 * places the frame starts at its link header (or at the IP header where there is none), so that
 * bpf_skb_load_bytes with fixed offsets reads the same bytes; it also reads paged data, which
 * bpf_skb_load_bytes_relative does not. Verdicts:
 *
 *   ours  the engine handles the frame; the kernel must not see it
 *   copy  the engine wants it and the kernel keeps it (ICMP errors, later fragments)
 *   none  everything else
 *
 * Registers: R6 the frame, R7 the verdict if the key matches, R8 offset of the next header, R9 its
 * protocol. The stack below holds what was read; the key at KEY is built in place from the packet's
 * bytes, so nothing is swapped or shuffled for IPv6.
 */
#include "kernel/classifier_prog_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <stddef.h>

#include "base/sys.h"
#include "kernel/judge_internal.h"

/* Extension headers before TCP that the program walks (RFC 8200 §4.1 names fewer before TCP). */
#define V6_EXT_HDRS_MAX          4

enum { IPV4_HDR_MIN = 20, IPV6_HDR = 40, ICMP_HDR = 8, PORTS_LEN = 4, TCP_HDR_READ = 14, FRAG_HDR = 8 };

/* Reads `len` bytes at offset R8 + `off` of the frame to the stack; goes to `cut` when the frame is
 * shorter. */
static void load_or(struct gen *g, int off, int stack, int len, int cut)
{
	bpf_asm_mov(g->a, R1, R6);
	bpf_asm_mov(g->a, R2, R8);
	if (off)
		bpf_asm_alu_imm(g->a, BPF_ADD, R2, off);
	bpf_asm_mov(g->a, R3, FP);
	bpf_asm_alu_imm(g->a, BPF_ADD, R3, stack);
	bpf_asm_mov_imm(g->a, R4, len);
	bpf_asm_call(g->a, BPF_FUNC_skb_load_bytes);
	bpf_asm_jump_if(g->a, BPF_JNE, R0, 0, cut);
}

/* A frame that is shorter is none of ours. */
static void load(struct gen *g, int off, int stack, int len)
{
	load_or(g, off, stack, len, g->none);
}

void classifier_gen_flags(struct gen *g, int reg)
{
	bpf_asm_load(g->a, BPF_B, reg, FP, TCP_FLAGS);
	bpf_asm_alu_imm(g->a, BPF_AND, reg, TCP_SYN | TCP_ACK | TCP_RST);
}

/* Goes to `found` if KEY_LADDR is the quick address at `i`. */
static void gen_quick_addr(struct gen *g, int i, int found)
{
	struct bpf_asm *a = g->a;
	int other = bpf_asm_label(a);

	bpf_asm_map_value(a, R1, g->maps->ports, offsetof(struct classifier_ports, addrs) + i * sizeof(struct classifier_quick_addr));
	bpf_asm_load(a, BPF_W, R2, R1, offsetof(struct classifier_quick_addr, used));
	bpf_asm_jump_if(a, BPF_JEQ, R2, 0, other);
	for (int at = 0; at < (int)sizeof(struct ip_addr); at += 8) {
		bpf_asm_load(a, BPF_DW, R2, R1, offsetof(struct classifier_quick_addr, addr) + at);
		bpf_asm_load(a, BPF_DW, R3, FP, KEY_LADDR + at);
		bpf_asm_jump_if_reg(a, BPF_JNE, R2, R3, other);
	}
	bpf_asm_jump(a, found);
	bpf_asm_bind(a, other);
}

void classifier_gen_check_address(struct gen *g)
{
	classifier_gen_lookup(g, g->maps->addrs, KEY_LADDR);
	bpf_asm_jump_if(g->a, BPF_JEQ, R0, 0, g->none);
}

/* The same, where most frames come by. */
static void check_address_quickly(struct gen *g)
{
	int found = bpf_asm_label(g->a);

	for (int i = 0; i < CLASSIFIER_QUICK_ADDRS; i++)
		gen_quick_addr(g, i, found);
	classifier_gen_check_address(g);
	bpf_asm_bind(g->a, found);
}

void classifier_gen_lookup(struct gen *g, int map_fd, int key)
{
	bpf_asm_map(g->a, R1, map_fd);
	bpf_asm_mov(g->a, R2, FP);
	bpf_asm_alu_imm(g->a, BPF_ADD, R2, key);
	bpf_asm_call(g->a, BPF_FUNC_map_lookup_elem);
}

void classifier_gen_lookup_key(struct gen *g)
{
	bpf_asm_mov(g->a, R2, FP);
	bpf_asm_alu_imm(g->a, BPF_ADD, R2, KEY);
	bpf_asm_call(g->a, BPF_FUNC_map_lookup_elem);
}

void classifier_gen_insert_key(struct gen *g, int value)
{
	bpf_asm_mov(g->a, R2, FP);
	bpf_asm_alu_imm(g->a, BPF_ADD, R2, KEY);
	bpf_asm_mov(g->a, R3, FP);
	bpf_asm_alu_imm(g->a, BPF_ADD, R3, value);
	bpf_asm_mov_imm(g->a, R4, BPF_NOEXIST);
	bpf_asm_call(g->a, BPF_FUNC_map_update_elem);
}

/* reg = the local port of the flow at `key`, plus `more`, modulo CLASSIFIER_SLOTS, times `size`. */
static void gen_place(struct bpf_asm *a, int reg, int key, int more, int size)
{
	bpf_asm_load(a, BPF_H, reg, FP, FIELD(key, struct classifier_flow, lport_be));
	bpf_asm_from_be(a, reg, 16);
	if (more)
		bpf_asm_alu_imm(a, BPF_ADD, reg, more);
	bpf_asm_alu_imm(a, BPF_AND, reg, CLASSIFIER_SLOTS - 1);
	bpf_asm_alu_imm(a, BPF_MUL, reg, size);
}

static void gen_look_at_place(struct bpf_asm *a, int ports_fd, int key, int more, int found)
{
	int other = bpf_asm_label(a);
	gen_place(a, R1, key, more, sizeof(struct classifier_slot));
	bpf_asm_map_value(a, R2, ports_fd, offsetof(struct classifier_ports, slots));
	bpf_asm_alu(a, BPF_ADD, R2, R1);
	bpf_asm_load(a, BPF_W, R3, R2, offsetof(struct classifier_slot, used));
	bpf_asm_jump_if(a, BPF_JEQ, R3, 0, other);
	for (int at = 0; at < (int)sizeof(struct classifier_flow);) {
		bool last = at + 8 > (int)sizeof(struct classifier_flow);
		bpf_asm_load(a, last ? BPF_W : BPF_DW, R3, R2, offsetof(struct classifier_slot, flow) + at);
		bpf_asm_load(a, last ? BPF_W : BPF_DW, R4, FP, key + at);
		bpf_asm_jump_if_reg(a, BPF_JNE, R3, R4, other);
		at += last ? 4 : 8;
	}
	bpf_asm_jump(a, found);
	bpf_asm_bind(a, other);
}

void classifier_gen_find_slot(struct bpf_asm *a, int ports_fd, int key, int found)
{
	for (int i = 0; i < CLASSIFIER_SLOT_CHOICES; i++)
		gen_look_at_place(a, ports_fd, key, i * CLASSIFIER_SLOT_STEP, found);
}

/* Goes to `absent` if the set cannot have the key. */
static void gen_unless_empty(struct gen *g, enum classifier_set set, int absent)
{
	struct bpf_asm *a = g->a;

	if (set == SET_FLOWS) {
		gen_place(a, R1, KEY, 0, sizeof(uint32_t));
		bpf_asm_map_value(a, R2, g->maps->ports, offsetof(struct classifier_ports, in_set));
		bpf_asm_alu(a, BPF_ADD, R2, R1);
	} else {
		bpf_asm_map_value(a, R2, g->maps->ports, offsetof(struct classifier_ports, n_exceptions));
	}
	bpf_asm_load(a, BPF_W, R1, R2, 0);
	bpf_asm_jump_if(a, BPF_JEQ, R1, 0, absent);
}

/* Goes to `zero` if that word of struct classifier_ports is 0. */
static void gen_unless_zero(struct gen *g, size_t word, int zero)
{
	bpf_asm_map_value(g->a, R2, g->maps->ports, word);
	bpf_asm_load(g->a, BPF_W, R1, R2, 0);
	bpf_asm_jump_if(g->a, BPF_JEQ, R1, 0, zero);
}

/* In a slot, in the small map or the large. */
void classifier_gen_find(struct gen *g, enum classifier_set set, int found)
{
	int absent = bpf_asm_label(g->a), large = bpf_asm_label(g->a);

	if (set == SET_FLOWS)
		classifier_gen_find_slot(g->a, g->maps->ports, KEY, found);
	gen_unless_empty(g, set, absent);

	gen_unless_zero(g, offsetof(struct classifier_ports, in_small) + set * sizeof(uint32_t), large);
	classifier_gen_lookup(g, g->maps->sets[set], KEY);
	bpf_asm_jump_if(g->a, BPF_JNE, R0, 0, found);
	bpf_asm_bind(g->a, large);
	gen_unless_zero(g, offsetof(struct classifier_ports, in_large) + set * sizeof(uint32_t), absent);
	bpf_asm_store_imm(g->a, BPF_W, FP, SLOT, set);
	classifier_gen_lookup(g, g->maps->more, SLOT);
	bpf_asm_jump_if(g->a, BPF_JEQ, R0, 0, absent);
	bpf_asm_mov(g->a, R1, R0);
	classifier_gen_lookup_key(g);
	bpf_asm_jump_if(g->a, BPF_JNE, R0, 0, found);
	bpf_asm_bind(g->a, absent);
}

void classifier_gen_if_silent(struct gen *g, int since, int alive)
{
	struct bpf_asm *a = g->a;
	int waits = bpf_asm_label(a);

	bpf_asm_call(a, BPF_FUNC_ktime_get_ns);
	bpf_asm_load(a, BPF_DW, R1, since, 0);
	bpf_asm_jump_if(a, BPF_JNE, R1, 0, waits);
	bpf_asm_store(a, BPF_DW, since, 0, R0);
	bpf_asm_jump(a, alive);
	bpf_asm_bind(a, waits);
	bpf_asm_alu(a, BPF_SUB, R0, R1);
	bpf_asm_jump_if(a, BPF_JSLT, R0, CLASSIFIER_SILENT_NS, alive); /* signed: another CPU may have written it since */
}

void classifier_gen_find_conn(struct gen *g, int found)
{
	struct bpf_asm *a = g->a;

	bpf_asm_load(a, BPF_W, R1, FP, KEY_RADDR + 12);
	bpf_asm_load(a, BPF_W, R2, FP, KEY_RPORT);
	bpf_asm_alu(a, BPF_XOR, R1, R2);
	bpf_asm_imm64(a, R2, CLASSIFIER_MIX);
	bpf_asm_alu(a, BPF_MUL, R1, R2);
	bpf_asm_alu_imm(a, BPF_RSH, R1, 48);
	bpf_asm_map_value(a, R2, g->maps->ports, offsetof(struct classifier_ports, conns));
	bpf_asm_alu(a, BPF_ADD, R2, R1);
	bpf_asm_load(a, BPF_B, R1, R2, 0);
	bpf_asm_jump_if(a, BPF_JNE, R1, 0, found);
}

static void gen_count(struct gen *g, size_t word, int by)
{
	bpf_asm_map_value(g->a, R2, g->maps->ports, word);
	bpf_asm_mov_imm(g->a, R1, by);
	bpf_asm_atomic_add(g->a, BPF_W, R2, 0, R1);
}

static void gen_count_exceptions(struct gen *g, int by)
{
	gen_count(g, offsetof(struct classifier_ports, n_exceptions), by);
	gen_count(g, offsetof(struct classifier_ports, in_small) + SET_EXCEPTIONS * sizeof(uint32_t), by);
}

/*
 * A frame of a listener that is this process's alone. A SYN that the engine would not look at is the kernel's, and its
 * connection an exception: unless it may be the engine's, which a SYN must not end. The tap decides; the tcx program
 * finds the exception.
 */
static void gen_given(struct gen *g)
{
	struct bpf_asm *a = g->a;
	int entered = bpf_asm_label(a);

	if (!g->is_tap) {
		bpf_asm_jump(a, g->match);
		return;
	}
	classifier_gen_flags(g, R1);
	bpf_asm_jump_if(a, BPF_JNE, R1, TCP_SYN, g->match);
	bpf_asm_map_value(a, R8, g->maps->ports, offsetof(struct classifier_ports, syn_since_ns));
	classifier_gen_if_silent(g, R8, g->match);
	classifier_gen_find_conn(g, g->match);

	gen_count_exceptions(g, 1);
	bpf_asm_store_imm(a, BPF_B, FP, SLOT, 1);
	bpf_asm_map(a, R1, g->maps->sets[SET_EXCEPTIONS]);
	classifier_gen_insert_key(g, SLOT);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, entered);
	gen_count_exceptions(g, -1);
	bpf_asm_jump_if(a, BPF_JEQ, R0, -EEXIST, g->none);
	bpf_asm_jump(a, g->match); /* full: it waits */
	bpf_asm_bind(a, entered);
	gen_count(g, offsetof(struct classifier_ports, given), 1);
	bpf_asm_jump(a, g->none);
}

static void finish(struct gen *g, int32_t verdict)
{
	bpf_asm_mov_imm(g->a, R0, verdict);
	bpf_asm_exit(g->a);
}

static void copy_stack(struct gen *g, int size, int to, int from)
{
	bpf_asm_load(g->a, size, R1, FP, from);
	bpf_asm_store(g->a, size, FP, to, R1);
}

void classifier_gen_copy_v6_addr(struct gen *g, int to, int from)
{
	copy_stack(g, BPF_DW, to, from);
	copy_stack(g, BPF_DW, to + 8, from + 8);
}

/* The address at `from` as its IPv4-mapped form. */
static void copy_v4_addr(struct gen *g, int to, int from)
{
	bpf_asm_store_imm(g->a, BPF_DW, FP, to, 0);
	bpf_asm_store_imm(g->a, BPF_W, FP, to + 8, htonl(0x0000ffff));
	copy_stack(g, BPF_W, to + 12, from);
}

/* An IPv4 header is at `hdr`: checks the version and leaves the header's length in R1. */
static void check_v4_header(struct gen *g, int hdr)
{
	bpf_asm_load(g->a, BPF_B, R1, FP, hdr);
	bpf_asm_mov(g->a, R2, R1);
	bpf_asm_alu_imm(g->a, BPF_RSH, R2, 4);
	bpf_asm_jump_if(g->a, BPF_JNE, R2, 4, g->none);
	bpf_asm_alu_imm(g->a, BPF_AND, R1, 0xf);
	bpf_asm_alu_imm(g->a, BPF_LSH, R1, 2); /* IHL counts 32-bit words (RFC 791 §3.1) */
	bpf_asm_jump_if(g->a, BPF_JLT, R1, IPV4_HDR_MIN, g->none);
}

static void check_v6_version(struct gen *g, int hdr)
{
	bpf_asm_load(g->a, BPF_B, R1, FP, hdr);
	bpf_asm_alu_imm(g->a, BPF_RSH, R1, 4);
	bpf_asm_jump_if(g->a, BPF_JNE, R1, 6, g->none);
}

/* Untagged, for this host, IP. */
static void gen_frame(struct gen *g)
{
	bpf_asm_mov(g->a, R6, R1);
	bpf_asm_mov_imm(g->a, R7, g->v->ours);
	bpf_asm_mov_imm(g->a, R8, g->l2_len);
	bpf_asm_load(g->a, BPF_W, R1, R6, offsetof(struct __sk_buff, pkt_type));
	bpf_asm_jump_if(g->a, BPF_JNE, R1, PACKET_HOST, g->none);
	/* The kernel strips a tag before taps and tcx; then this field says that there was one. */
	bpf_asm_load(g->a, BPF_W, R1, R6, offsetof(struct __sk_buff, vlan_present));
	bpf_asm_jump_if(g->a, BPF_JNE, R1, 0, g->none);
	bpf_asm_load(g->a, BPF_W, R1, R6, offsetof(struct __sk_buff, protocol));
	bpf_asm_jump_if(g->a, BPF_JEQ, R1, htons(ETH_P_IP), g->ipv4);
	bpf_asm_jump_if(g->a, BPF_JEQ, R1, htons(ETH_P_IPV6), g->ipv6);
	bpf_asm_jump(g->a, g->none);
}

/*
 * R1 has the header's length: R8 moves on to what follows. A source route makes the packet the kernel's, which knows
 * whether it takes such (accept_source_route) and sends its answers back along the route. It comes first, or behind the
 * no-operation that aligns its addresses; the engine drops what has one elsewhere.
 */
static void gen_v4_options(struct gen *g)
{
	int first = bpf_asm_label(g->a), plain = bpf_asm_label(g->a);

	bpf_asm_mov(g->a, R9, R1);
	bpf_asm_jump_if(g->a, BPF_JEQ, R9, IPV4_HDR_MIN, plain);
	load(g, IPV4_HDR_MIN, ICMP, 2);
	bpf_asm_load(g->a, BPF_B, R1, FP, ICMP);
	bpf_asm_jump_if(g->a, BPF_JNE, R1, IPOPT_NOP, first);
	bpf_asm_load(g->a, BPF_B, R1, FP, ICMP + 1);
	bpf_asm_bind(g->a, first);
	bpf_asm_jump_if(g->a, BPF_JEQ, R1, IPOPT_LSRR, g->none);
	bpf_asm_jump_if(g->a, BPF_JEQ, R1, IPOPT_SSRR, g->none);
	bpf_asm_bind(g->a, plain);
	bpf_asm_alu(g->a, BPF_ADD, R8, R9);
}

static void gen_ipv4(struct gen *g)
{
	bpf_asm_bind(g->a, g->ipv4);
	bpf_asm_store_imm(g->a, BPF_DW, FP, FAMILY, PORT_ANY_V4);
	bpf_asm_store_imm(g->a, BPF_B, FP, V6HDR_NEXT, 0);
	load(g, 0, V4HDR, IPV4_HDR_MIN);
	check_v4_header(g, V4HDR);
	gen_v4_options(g);
	copy_v4_addr(g, KEY_RADDR, V4HDR + 12);
	copy_v4_addr(g, KEY_LADDR, V4HDR + 16);
	bpf_asm_load(g->a, BPF_B, R9, FP, V4HDR + 9);
	bpf_asm_load(g->a, BPF_H, R1, FP, V4HDR_FRAGMENT);
	bpf_asm_from_be(g->a, R1, 16);
	bpf_asm_alu_imm(g->a, BPF_AND, R1, 0x1fff); /* fragment offset (RFC 791 §3.1) */
	bpf_asm_jump_if(g->a, BPF_JNE, R1, 0, g->later_fragment);
	bpf_asm_jump_if(g->a, BPF_JEQ, R9, IPPROTO_TCP, g->tcp);
	bpf_asm_jump_if(g->a, BPF_JEQ, R9, IPPROTO_ICMP, g->icmp4);
	bpf_asm_jump(g->a, g->none);
}

/* Walks over hop-by-hop, destination and fragment headers: R8 and R9 move on to what follows. */
static void gen_ipv6_extension(struct gen *g)
{
	int options = bpf_asm_label(g->a), next = bpf_asm_label(g->a);

	bpf_asm_jump_if(g->a, BPF_JEQ, R9, IPPROTO_TCP, g->tcp);
	bpf_asm_jump_if(g->a, BPF_JEQ, R9, IPPROTO_ICMPV6, g->icmp6);
	bpf_asm_jump_if(g->a, BPF_JEQ, R9, IPPROTO_HOPOPTS, options);
	bpf_asm_jump_if(g->a, BPF_JEQ, R9, IPPROTO_DSTOPTS, options);
	bpf_asm_jump_if(g->a, BPF_JNE, R9, IPPROTO_FRAGMENT, g->none);

	load(g, 0, V4HDR, FRAG_HDR);
	bpf_asm_alu_imm(g->a, BPF_ADD, R8, FRAG_HDR);
	bpf_asm_load(g->a, BPF_B, R9, FP, V4HDR);
	bpf_asm_load(g->a, BPF_H, R1, FP, V4HDR + 2);
	bpf_asm_from_be(g->a, R1, 16);
	bpf_asm_alu_imm(g->a, BPF_AND, R1, 0xfff8); /* fragment offset (RFC 8200 §4.5) */
	bpf_asm_jump_if(g->a, BPF_JNE, R1, 0, g->later_fragment);
	bpf_asm_jump(g->a, next);

	bpf_asm_bind(g->a, options);
	load(g, 0, V4HDR, 2);
	bpf_asm_load(g->a, BPF_B, R9, FP, V4HDR);
	bpf_asm_load(g->a, BPF_B, R1, FP, V4HDR + 1);
	bpf_asm_alu_imm(g->a, BPF_ADD, R1,
			1); /* in 8-octet units, not counting the first (RFC 8200 §4.3) */
	bpf_asm_alu_imm(g->a, BPF_LSH, R1, 3);
	bpf_asm_alu(g->a, BPF_ADD, R8, R1);
	bpf_asm_bind(g->a, next);
}

static void gen_ipv6(struct gen *g)
{
	bpf_asm_bind(g->a, g->ipv6);
	bpf_asm_store_imm(g->a, BPF_DW, FP, FAMILY, PORT_ANY_V6);
	bpf_asm_store_imm(g->a, BPF_H, FP, V4HDR_FRAGMENT, 0);
	load(g, 0, V6HDR, IPV6_HDR);
	check_v6_version(g, V6HDR);
	bpf_asm_load(g->a, BPF_B, R9, FP, V6HDR_NEXT);
	bpf_asm_alu_imm(g->a, BPF_ADD, R8, IPV6_HDR);
	for (int i = 0; i < V6_EXT_HDRS_MAX; i++)
		gen_ipv6_extension(g);
	bpf_asm_jump_if(g->a, BPF_JEQ, R9, IPPROTO_TCP, g->tcp);
	bpf_asm_jump_if(g->a, BPF_JEQ, R9, IPPROTO_ICMPV6, g->icmp6);
	bpf_asm_jump(g->a, g->none);
}

static void gen_tcp(struct gen *g)
{
	int ports = bpf_asm_label(g->a), cut = bpf_asm_label(g->a);

	bpf_asm_bind(g->a, g->tcp);
	load_or(g, 0, TCP_HDR, TCP_HDR_READ, cut);
	bpf_asm_bind(g->a, ports);
	copy_stack(g, BPF_W, KEY_RPORT, TCP_HDR);
	bpf_asm_jump(g->a, g->decide);

	bpf_asm_bind(g->a, cut); /* before the flags, in a first fragment: known by its ports, and no SYN */
	load(g, 0, TCP_HDR, PORTS_LEN);
	bpf_asm_store_imm(g->a, BPF_B, FP, TCP_FLAGS, 0);
	bpf_asm_jump(g->a, ports);
}

/* R1 = the byte at `type`: goes on if it is one of the errors, a bit each in `errors`. */
static void check_icmp_type(struct gen *g, int type, const uint8_t *errors, int n)
{
	int is_error = bpf_asm_label(g->a);
	bpf_asm_load(g->a, BPF_B, R1, FP, type);
	for (int i = 0; i < n; i++)
		bpf_asm_jump_if(g->a, BPF_JEQ, R1, errors[i], is_error);
	bpf_asm_jump(g->a, g->none);
	bpf_asm_bind(g->a, is_error);
	bpf_asm_mov_imm(g->a, R7, g->v->copy);
	/* The error itself is for one of our addresses; what it quotes is checked like any segment.
	 */
	classifier_gen_check_address(g);
}

/* The quoted segment is one that we sent: its source is our end. R8 is at its ports. */
static void gen_quoted_ports(struct gen *g)
{
	load(g, 0, V4HDR, PORTS_LEN);
	bpf_asm_store_imm(g->a, BPF_B, FP, TCP_FLAGS, 0);
	copy_stack(g, BPF_H, KEY_LPORT, V4HDR);
	copy_stack(g, BPF_H, KEY_RPORT, V4HDR + 2);
	bpf_asm_jump(g->a, g->decide);
}

static void gen_icmp4(struct gen *g)
{
	/* Unreachable (with fragmentation needed), time exceeded, parameter problem (RFC 792). Not
	 * source quench (RFC 6633 §4). */
	static const uint8_t errors[] = {3, 11, 12};

	bpf_asm_bind(g->a, g->icmp4);
	load(g, 0, ICMP, ICMP_HDR + IPV4_HDR_MIN);
	check_icmp_type(g, ICMP, errors, sizeof errors);
	check_v4_header(g, QUOTE);
	bpf_asm_alu(g->a, BPF_ADD, R8, R1);
	bpf_asm_alu_imm(g->a, BPF_ADD, R8, ICMP_HDR);
	bpf_asm_load(g->a, BPF_B, R1, FP, QUOTE + 9);
	bpf_asm_jump_if(g->a, BPF_JNE, R1, IPPROTO_TCP, g->none);
	copy_v4_addr(g, KEY_LADDR, QUOTE + 12);
	copy_v4_addr(g, KEY_RADDR, QUOTE + 16);
	gen_quoted_ports(g);
}

static void gen_icmp6(struct gen *g)
{
	/* Unreachable, packet too big, time exceeded, parameter problem (RFC 4443 §3). */
	static const uint8_t errors[] = {1, 2, 3, 4};

	bpf_asm_bind(g->a, g->icmp6);
	load(g, 0, ICMP, ICMP_HDR + IPV6_HDR);
	check_icmp_type(g, ICMP, errors, sizeof errors);
	check_v6_version(g, QUOTE);
	bpf_asm_load(g->a, BPF_B, R1, FP, QUOTE + 6);
	bpf_asm_jump_if(g->a, BPF_JNE, R1, IPPROTO_TCP, g->none); /* we send no extension headers */
	bpf_asm_alu_imm(g->a, BPF_ADD, R8, ICMP_HDR + IPV6_HDR);
	classifier_gen_copy_v6_addr(g, KEY_LADDR, QUOTE + 8);
	classifier_gen_copy_v6_addr(g, KEY_RADDR, QUOTE + 24);
	gen_quoted_ports(g);
}

/* A fragment without ports: if it is TCP for us, whose it is cannot be told here. */
static void gen_later_fragment(struct gen *g)
{
	bpf_asm_bind(g->a, g->later_fragment);
	bpf_asm_jump_if(g->a, BPF_JNE, R9, IPPROTO_TCP, g->none);
	classifier_gen_check_address(g);
	finish(g, g->v->copy);
}

/* Goes to `named` if the bit R1 of the family's named sources is set, in their array at `array`. R1 to R3 are lost. */
static void gen_if_named(struct gen *g, int array, int named)
{
	struct bpf_asm *a = g->a;
	int v4 = bpf_asm_label(a);

	bpf_asm_mov(a, R2, R1);
	bpf_asm_alu_imm(a, BPF_RSH, R2, 3);
	bpf_asm_map_value(a, R3, g->maps->ports, offsetof(struct classifier_ports, named) + array);
	bpf_asm_alu(a, BPF_ADD, R3, R2);
	bpf_asm_load(a, BPF_DW, R2, FP, FAMILY);
	bpf_asm_jump_if(a, BPF_JEQ, R2, PORT_ANY_V4, v4);
	bpf_asm_alu_imm(a, BPF_ADD, R3, sizeof(struct named_sources));
	bpf_asm_bind(a, v4);
	bpf_asm_load(a, BPF_B, R2, R3, 0);
	bpf_asm_alu_imm(a, BPF_AND, R1, 7);
	bpf_asm_alu(a, BPF_RSH, R2, R1);
	bpf_asm_jump_if(a, BPF_JSET, R2, 1, named);
}

/* As named_has. */
static void gen_if_source_named(struct gen *g, int named)
{
	struct bpf_asm *a = g->a;
	int v4 = bpf_asm_label(a);

	bpf_asm_load(a, BPF_DW, R1, FP, KEY_RADDR);
	bpf_asm_load(a, BPF_DW, R2, FP, KEY_RADDR + 8);
	bpf_asm_alu(a, BPF_XOR, R1, R2);
	bpf_asm_imm64(a, R2, NAMED_MIX);
	bpf_asm_alu(a, BPF_MUL, R1, R2);
	bpf_asm_alu_imm(a, BPF_RSH, R1, 48);
	gen_if_named(g, offsetof(struct named_sources, single), named);

	bpf_asm_load(a, BPF_DW, R2, FP, FAMILY);
	bpf_asm_load(a, BPF_H, R1, FP, KEY_RADDR + 12);
	bpf_asm_jump_if(a, BPF_JEQ, R2, PORT_ANY_V4, v4);
	bpf_asm_load(a, BPF_H, R1, FP, KEY_RADDR);
	bpf_asm_bind(a, v4);
	bpf_asm_from_be(a, R1, 16);
	gen_if_named(g, offsetof(struct named_sources, wide), named);
}

/*
 * A rule before conntrack may drop pieces, of which the proof does not speak; one of IPv6 has a header between the two.
 */
void classifier_gen_if_open(struct gen *g, int open)
{
	struct bpf_asm *a = g->a;
	int asked = bpf_asm_label(a), v4 = bpf_asm_label(a), bits = bpf_asm_label(a);

	bpf_asm_load(a, BPF_B, R1, FP, TCP_FLAGS);
	bpf_asm_alu_imm(a, BPF_AND, R1, TCP_FIN | TCP_SYN | TCP_RST | TCP_PSH | TCP_ACK | TCP_URG);
	bpf_asm_jump_if(a, BPF_JNE, R1, TCP_SYN, asked);
	bpf_asm_load(a, BPF_H, R1, FP, KEY_LPORT);
	bpf_asm_from_be(a, R1, 16);
	bpf_asm_mov(a, R2, R1);
	bpf_asm_alu_imm(a, BPF_RSH, R2, 3);
	bpf_asm_map_value(a, R3, g->maps->ports, offsetof(struct classifier_ports, open));
	bpf_asm_alu(a, BPF_ADD, R3, R2);
	bpf_asm_load(a, BPF_DW, R2, FP, FAMILY);
	bpf_asm_jump_if(a, BPF_JEQ, R2, PORT_ANY_V4, v4);
	bpf_asm_load(a, BPF_B, R2, FP, V6HDR_NEXT);
	bpf_asm_jump_if(a, BPF_JNE, R2, IPPROTO_TCP, asked);
	bpf_asm_alu_imm(a, BPF_ADD, R3, CLASSIFIER_PORTS / 8);
	bpf_asm_jump(a, bits);
	bpf_asm_bind(a, v4);
	bpf_asm_load(a, BPF_H, R2, FP, V4HDR_FRAGMENT);
	bpf_asm_jump_if(a, BPF_JSET, R2, htons(IP_MF), asked);
	bpf_asm_bind(a, bits);
	bpf_asm_load(a, BPF_B, R2, R3, 0);
	bpf_asm_alu_imm(a, BPF_AND, R1, 7);
	bpf_asm_alu(a, BPF_RSH, R2, R1);
	bpf_asm_alu_imm(a, BPF_AND, R2, 1);
	bpf_asm_jump_if(a, BPF_JEQ, R2, 0, asked);
	gen_if_source_named(g, asked);
	bpf_asm_jump(a, open);
	bpf_asm_bind(a, asked);
}

void classifier_gen_ask(struct gen *g, int alive)
{
	struct bpf_asm *a = g->a;

	bpf_asm_load(a, BPF_W, R3, FP, TCP_SEQ);
	bpf_asm_store(a, BPF_W, FP, ASKED + (int)offsetof(struct judge_asked, seq_be), R3);
	bpf_asm_store(a, BPF_W, FP, ASKED + (int)offsetof(struct judge_asked, slot), R2);
	bpf_asm_store(a, BPF_W, FP, ASKED + (int)offsetof(struct judge_asked, alive), alive);
	bpf_asm_store_imm(a, BPF_W, FP, ASKED + (int)offsetof(struct judge_asked, zero), 0);
	bpf_asm_mov(a, R2, FP);
	bpf_asm_alu_imm(a, BPF_ADD, R2, KEY);
	bpf_asm_mov(a, R3, FP);
	bpf_asm_alu_imm(a, BPF_ADD, R3, ASKED);
	bpf_asm_mov_imm(a, R4, BPF_ANY);
	bpf_asm_call(a, BPF_FUNC_map_update_elem);
}

/*
 * A listener's frame where the host judges. SYNs climb, and come to the engine by the filter on the listening socket,
 * but those that are accepted whoever sends them, and of those that come from sources that the rules name. The rest is
 * ours if the engine may have its connection, and a plain ACK also while cookies are out, one of which it may bring
 * back. So no connection needs an entry; now and then the engine gets what is of no connection of its own, and leaves
 * that to the kernel (socket/judged.c).
 */
static void gen_judged(struct gen *g)
{
	struct bpf_asm *a = g->a;
	int syn = bpf_asm_label(a);

	bpf_asm_bind(a, g->judged);
	classifier_gen_flags(g, R9);
	bpf_asm_jump_if(a, BPF_JEQ, R9, TCP_SYN, syn);
	classifier_gen_find(g, SET_EXCEPTIONS, g->exact);
	classifier_gen_find_conn(g, g->match);
	bpf_asm_jump_if(a, BPF_JNE, R9, TCP_ACK, g->exact);
	bpf_asm_map_value(a, R8, g->maps->ports, offsetof(struct classifier_ports, cookies_until_ns));
	bpf_asm_load(a, BPF_DW, R1, R8, 0);
	bpf_asm_jump_if(a, BPF_JEQ, R1, 0, g->exact);
	bpf_asm_call(a, BPF_FUNC_ktime_get_ns);
	bpf_asm_load(a, BPF_DW, R1, R8, 0);
	bpf_asm_jump_if_reg(a, BPF_JGT, R0, R1, g->exact);
	bpf_asm_jump(a, g->match);

	bpf_asm_bind(a, syn);
	classifier_gen_if_open(g, g->unjudged);
	if (g->is_tap) {
		bpf_asm_jump(a, g->none);
		return;
	}
	classifier_gen_find(g, SET_EXCEPTIONS, g->none);
	bpf_asm_store_imm(a, BPF_W, FP, SLOT, JUDGE_OWN);
	classifier_gen_lookup(g, g->maps->asked, SLOT);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, g->none);
	bpf_asm_mov(a, R1, R0);
	bpf_asm_mov_imm(a, R2, 0);
	bpf_asm_mov_imm(a, R4, 1);
	classifier_gen_ask(g, R4);
	bpf_asm_jump(a, g->none);
}

/* The key is complete: our address, and a listening port without an exception, or an exact flow.
 * A group's port comes first: most frames there are another member's, and checked the least. */
static void gen_decide(struct gen *g)
{
	bpf_asm_bind(g->a, g->decide);
	bpf_asm_load(g->a, BPF_H, R8, FP, KEY_LPORT);
	bpf_asm_mov(g->a, R1, R8);
	bpf_asm_from_be(g->a, R1, 16);
	bpf_asm_map_value(g->a, R2, g->maps->ports, offsetof(struct classifier_ports, bits));
	bpf_asm_alu(g->a, BPF_ADD, R2, R1);
	bpf_asm_load(g->a, BPF_B, R1, R2, 0);
	bpf_asm_jump_if(g->a, BPF_JSET, R1, PORT_GROUPS, g->group);
	bpf_asm_mov(g->a, R9, R1); /* the protocol is not asked for any more */
	check_address_quickly(g);
	bpf_asm_mov(g->a, R1, R9);
	bpf_asm_load(g->a, BPF_DW, R2, FP, FAMILY);
	bpf_asm_alu(g->a, BPF_AND, R2, R1);
	bpf_asm_jump_if(g->a, BPF_JNE, R2, 0, g->listening);
	bpf_asm_alu_imm(g->a, BPF_AND, R1, PORT_BY_ADDR);
	bpf_asm_jump_if(g->a, BPF_JEQ, R1, 0, g->exact);
	classifier_gen_copy_v6_addr(g, LISTENER_ADDR, KEY_LADDR);
	bpf_asm_store(g->a, BPF_H, FP, LISTENER_PORT, R8);
	bpf_asm_store_imm(g->a, BPF_H, FP, LISTENER_ZERO, 0);
	classifier_gen_lookup(g, g->maps->listeners, LISTENER);
	bpf_asm_jump_if(g->a, BPF_JEQ, R0, 0, g->exact);

	bpf_asm_bind(g->a, g->listening);
	bpf_asm_map_value(g->a, R1, g->maps->ports, offsetof(struct classifier_ports, judged));
	bpf_asm_load(g->a, BPF_W, R1, R1, 0);
	bpf_asm_jump_if(g->a, BPF_JNE, R1, 0, g->judged);
	bpf_asm_bind(g->a, g->unjudged);
	classifier_gen_find(g, SET_EXCEPTIONS, g->exact);
	gen_given(g);

	gen_judged(g);

	bpf_asm_bind(g->a, g->exact);
	classifier_gen_find(g, SET_FLOWS, g->match);
	bpf_asm_jump(g->a, g->none);

	bpf_asm_bind(g->a, g->match);
	bpf_asm_mov(g->a, R0, R7);
	bpf_asm_exit(g->a);
}

int classifier_assemble(struct bpf_asm *a, const struct classifier_maps *maps, bool has_eth,
			const struct classifier_verdicts *verdicts)
{
	struct gen g = {.a = a, .maps = maps, .v = verdicts, .l2_len = has_eth ? ETH_HLEN : 0};
	bool copies = verdicts->copy != verdicts->none;

	_Static_assert(sizeof(struct classifier_flow) == 36, "the key has no padding");
	_Static_assert(offsetof(struct classifier_ports, slots) % 8 == 0 && sizeof(struct classifier_slot) % 8 == 0, "read by eight bytes");
	_Static_assert(offsetof(struct classifier_ports, addrs) % 8 == 0 && sizeof(struct classifier_quick_addr) % 8 == 0, "these, too");
	g.is_tap = copies;
	bpf_asm_init(a);
	g.ipv4 = bpf_asm_label(a);
	g.ipv6 = bpf_asm_label(a);
	g.tcp = bpf_asm_label(a);
	g.decide = bpf_asm_label(a);
	g.group = bpf_asm_label(a);
	g.listening = bpf_asm_label(a);
	g.exact = bpf_asm_label(a);
	g.match = bpf_asm_label(a);
	g.listening_unchecked = bpf_asm_label(a);
	g.exact_unchecked = bpf_asm_label(a);
	g.none = bpf_asm_label(a);
	g.judged = bpf_asm_label(a);
	g.unjudged = bpf_asm_label(a);
	g.select = bpf_asm_label(a);
	/* Where a copy makes no difference (tcx), the paths to it are not even assembled. */
	g.icmp4 = copies ? bpf_asm_label(a) : g.none;
	g.icmp6 = copies ? bpf_asm_label(a) : g.none;
	g.later_fragment = copies ? bpf_asm_label(a) : g.none;

	gen_frame(&g);
	gen_ipv4(&g);
	gen_ipv6(&g);
	gen_tcp(&g);
	if (copies) {
		gen_icmp4(&g);
		gen_icmp6(&g);
		gen_later_fragment(&g);
	}
	gen_decide(&g);
	classifier_gen_group(&g);
	bpf_asm_bind(a, g.none);
	finish(&g, verdicts->none);
	classifier_gen_group_functions(&g);
	return bpf_asm_finish(a);
}
