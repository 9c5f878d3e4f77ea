/*
 * The judge's filter: an eBPF program on the kernel's listening socket (judge.h).
 *
 * It runs where the kernel has found the socket of a segment, with the TCP header in front. The kernel's accepted
 * sockets inherit it, so everything that was not asked about passes, first of all each segment that is no SYN.
 *
 * The key is built from the packet as it is here. A rule that changed an address or a port on the way up changed it for
 * this filter, too, and nobody asked about the changed one: it is the kernel's.
 */
#include "kernel/judge_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>

#define PASS            (-1) /* a socket filter returns how many bytes to keep */
#define SWALLOW         0
#define TCP_HDR_MIN     20
#define TCP_SYN         0x02
#define TCP_RST         0x04
#define TCP_ACK         0x10
#define V4_ADDRS_OFFSET 12 /* of the source; the destination follows */
#define V6_ADDRS_OFFSET 8
#define MAC_SRC_OFFSET  6

/* The stack. */
enum {
	REC = -112,
	REC_RADDR = REC + (int)offsetof(struct judge_record, flow.raddr),
	REC_LADDR = REC + (int)offsetof(struct judge_record, flow.laddr),
	REC_PORTS = REC + (int)offsetof(struct judge_record, flow.rport_be),
	REC_IFINDEX = REC + (int)offsetof(struct judge_record, ifindex),
	REC_MAC = REC + (int)offsetof(struct judge_record, src_mac),
	REC_TTL = REC + (int)offsetof(struct judge_record, ttl),
	REC_TOS = REC + (int)offsetof(struct judge_record, tos),
	REC_TCP = REC + (int)offsetof(struct judge_record, tcp),
	REC_TCP_LEN = REC + (int)offsetof(struct judge_record, tcp_len),
	SLOT = -120,
	ADDRS = -152, /* an IP header's addresses, as in the packet */
	WORD = -160,  /* the first bytes of an IP header */
};

struct filter {
	struct bpf_asm *a;
	const struct judge_maps *maps;
	int pass;
};

/* `len` bytes at `off` behind the start of the header `start` to the stack; without them the segment passes. */
static void load_relative(struct filter *f, int start, int off, int stack, int len)
{
	bpf_asm_mov(f->a, R1, R6);
	bpf_asm_mov_imm(f->a, R2, off);
	bpf_asm_mov(f->a, R3, FP);
	bpf_asm_alu_imm(f->a, BPF_ADD, R3, stack);
	bpf_asm_mov_imm(f->a, R4, len);
	bpf_asm_mov_imm(f->a, R5, start);
	bpf_asm_call(f->a, BPF_FUNC_skb_load_bytes_relative);
}

/* The TCP header's first `len` bytes, or as many as R4 says (len 0). */
static void load_tcp(struct filter *f, int len)
{
	if (len)
		bpf_asm_mov_imm(f->a, R4, len);
	bpf_asm_mov(f->a, R1, R6);
	bpf_asm_mov_imm(f->a, R2, 0);
	bpf_asm_mov(f->a, R3, FP);
	bpf_asm_alu_imm(f->a, BPF_ADD, R3, REC_TCP);
	bpf_asm_call(f->a, BPF_FUNC_skb_load_bytes);
	bpf_asm_jump_if(f->a, BPF_JNE, R0, 0, f->pass);
}

static void copy(struct filter *f, int size, int to, int from)
{
	bpf_asm_load(f->a, size, R1, FP, from);
	bpf_asm_store(f->a, size, FP, to, R1);
}

/* Goes on with a segment that somebody may have asked about. */
static void gen_flags(struct filter *f)
{
	bpf_asm_mov(f->a, R6, R1);
	for (int i = 0; i < (int)sizeof(struct judge_record); i += 8)
		bpf_asm_store_imm(f->a, BPF_DW, FP, REC + i, 0);
	load_tcp(f, TCP_HDR_MIN);
	bpf_asm_load(f->a, BPF_B, R1, FP, REC_TCP + 13);
	bpf_asm_alu_imm(f->a, BPF_AND, R1, TCP_SYN | TCP_ACK | TCP_RST);
	bpf_asm_jump_if(f->a, BPF_JNE, R1, TCP_SYN, f->pass);
	copy(f, BPF_W, REC_PORTS, REC_TCP); /* the sender's first, as in the key */
}

static void gen_addresses(struct filter *f)
{
	int v6 = bpf_asm_label(f->a), found = bpf_asm_label(f->a);

	bpf_asm_load(f->a, BPF_W, R1, R6, offsetof(struct __sk_buff, protocol));
	bpf_asm_jump_if(f->a, BPF_JEQ, R1, htons(ETH_P_IPV6), v6);
	bpf_asm_jump_if(f->a, BPF_JNE, R1, htons(ETH_P_IP), f->pass);
	load_relative(f, BPF_HDR_START_NET, V4_ADDRS_OFFSET, ADDRS, 8);
	bpf_asm_jump_if(f->a, BPF_JNE, R0, 0, f->pass);
	bpf_asm_store_imm(f->a, BPF_W, FP, REC_RADDR + 8, htonl(0x0000ffff));
	copy(f, BPF_W, REC_RADDR + 12, ADDRS);
	bpf_asm_store_imm(f->a, BPF_W, FP, REC_LADDR + 8, htonl(0x0000ffff));
	copy(f, BPF_W, REC_LADDR + 12, ADDRS + 4);
	bpf_asm_jump(f->a, found);

	bpf_asm_bind(f->a, v6);
	load_relative(f, BPF_HDR_START_NET, V6_ADDRS_OFFSET, REC_RADDR, 32);
	bpf_asm_jump_if(f->a, BPF_JNE, R0, 0, f->pass);
	bpf_asm_bind(f->a, found);
}

/* R9 = the slot of who asked. */
static void gen_asked(struct filter *f)
{
	bpf_asm_map(f->a, R1, f->maps->asked);
	bpf_asm_mov(f->a, R2, FP);
	bpf_asm_alu_imm(f->a, BPF_ADD, R2, REC);
	bpf_asm_call(f->a, BPF_FUNC_map_lookup_elem);
	bpf_asm_jump_if(f->a, BPF_JEQ, R0, 0, f->pass);
	bpf_asm_load(f->a, BPF_W, R1, R0, offsetof(struct judge_asked, alive));
	bpf_asm_jump_if(f->a, BPF_JEQ, R1, 0, f->pass);
	bpf_asm_load(f->a, BPF_W, R1, R0, offsetof(struct judge_asked, seq_be));
	bpf_asm_load(f->a, BPF_W, R2, FP, REC_TCP + 4);
	bpf_asm_jump_if_reg(f->a, BPF_JNE, R1, R2, f->pass);
	bpf_asm_load(f->a, BPF_W, R9, R0, offsetof(struct judge_asked, slot));
	/* It is answered: when the segment comes again, somebody has to ask again, or it is the kernel's. */
	bpf_asm_map(f->a, R1, f->maps->asked);
	bpf_asm_mov(f->a, R2, FP);
	bpf_asm_alu_imm(f->a, BPF_ADD, R2, REC);
	bpf_asm_call(f->a, BPF_FUNC_map_delete_elem);
}

/* The rest of the record. Without a link header the address stays zero. */
static void gen_record(struct filter *f)
{
	int v6 = bpf_asm_label(f->a), headers = bpf_asm_label(f->a);

	bpf_asm_load(f->a, BPF_W, R1, R6, offsetof(struct __sk_buff, ifindex));
	bpf_asm_store(f->a, BPF_W, FP, REC_IFINDEX, R1);
	load_relative(f, BPF_HDR_START_NET, 0, WORD, 8);
	bpf_asm_jump_if(f->a, BPF_JNE, R0, 0, f->pass);
	bpf_asm_load(f->a, BPF_B, R1, FP, WORD);
	bpf_asm_alu_imm(f->a, BPF_RSH, R1, 4);
	bpf_asm_jump_if(f->a, BPF_JEQ, R1, 6, v6);
	copy(f, BPF_B, REC_TOS, WORD + 1);
	load_relative(f, BPF_HDR_START_NET, 8, WORD, 8);
	bpf_asm_jump_if(f->a, BPF_JNE, R0, 0, f->pass);
	copy(f, BPF_B, REC_TTL, WORD);
	bpf_asm_jump(f->a, headers);
	bpf_asm_bind(f->a, v6);
	bpf_asm_load(f->a, BPF_W, R1, FP, WORD); /* version, traffic class, flow label */
	bpf_asm_from_be(f->a, R1, 32);
	bpf_asm_alu_imm(f->a, BPF_RSH, R1, 20);
	bpf_asm_store(f->a, BPF_B, FP, REC_TOS, R1);
	copy(f, BPF_B, REC_TTL, WORD + 7);

	bpf_asm_bind(f->a, headers);
	load_relative(f, BPF_HDR_START_MAC, MAC_SRC_OFFSET, REC_MAC, 6);
	bpf_asm_load(f->a, BPF_B, R4, FP, REC_TCP + 12);
	bpf_asm_alu_imm(f->a, BPF_RSH, R4, 4);
	bpf_asm_alu_imm(f->a, BPF_LSH, R4, 2); /* the data offset counts 32-bit words (RFC 9293 §3.1) */
	bpf_asm_jump_if(f->a, BPF_JLT, R4, TCP_HDR_MIN, f->pass);
	bpf_asm_mov(f->a, R8, R4);
	load_tcp(f, 0);
	bpf_asm_store(f->a, BPF_H, FP, REC_TCP_LEN, R8);
}

/* R7 = the ring of who asked. */
static void gen_ring(struct filter *f)
{
	bpf_asm_store(f->a, BPF_W, FP, SLOT, R9);
	bpf_asm_map(f->a, R1, f->maps->rings);
	bpf_asm_mov(f->a, R2, FP);
	bpf_asm_alu_imm(f->a, BPF_ADD, R2, SLOT);
	bpf_asm_call(f->a, BPF_FUNC_map_lookup_elem);
	bpf_asm_jump_if(f->a, BPF_JEQ, R0, 0, f->pass);
	bpf_asm_mov(f->a, R7, R0);
}

/* A ring that is full loses the segment, as a full queue does. */
static void gen_write(struct filter *f)
{
	bpf_asm_mov(f->a, R1, R7);
	bpf_asm_mov(f->a, R2, FP);
	bpf_asm_alu_imm(f->a, BPF_ADD, R2, REC);
	bpf_asm_mov_imm(f->a, R3, sizeof(struct judge_record));
	bpf_asm_mov_imm(f->a, R4, 0);
	bpf_asm_call(f->a, BPF_FUNC_ringbuf_output);
	bpf_asm_mov_imm(f->a, R0, SWALLOW);
	bpf_asm_exit(f->a);
}

int judge_assemble(struct bpf_asm *a, const struct judge_maps *maps)
{
	struct filter f = {.a = a, .maps = maps};

	bpf_asm_init(a);
	f.pass = bpf_asm_label(a);
	gen_flags(&f);
	gen_addresses(&f);
	gen_asked(&f);
	gen_record(&f);
	gen_ring(&f);
	gen_write(&f);
	bpf_asm_bind(a, f.pass);
	bpf_asm_mov_imm(a, R0, PASS);
	bpf_asm_exit(a);
	return bpf_asm_finish(a);
}
