/*
 * The classifier's decision as eBPF. Internal to src/kernel: between classifier_ebpf.c (maps, life) and
 * classifier_prog.c (code).
 */
#ifndef FINESSE_KERNEL_CLASSIFIER_PROG_H
#define FINESSE_KERNEL_CLASSIFIER_PROG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "kernel/bpf_asm.h"
#include "kernel/classifier_backend.h"
#include "kernel/named.h"

/*
 * What the ports map says of one port (a byte each): which family's wildcard listens, or that (addr, port) must be
 * looked up.
 */
/*
 * PORT_GROUPS: some listener of the port is a group's, so that `listeners` must be asked, wildcards included. But where
 * all are wildcards of one group among the first, its index + 1 stands in the upper half of the byte.
 */
enum classifier_port { PORT_ANY_V4 = 0x1, PORT_ANY_V6 = 0x2, PORT_BY_ADDR = 0x4, PORT_GROUPS = 0x8, PORT_GROUP_SHIFT = 4 };
#define CLASSIFIER_PORTS      65536
#define CLASSIFIER_QUICK_GROUPS 16 /* values of the byte's upper half */

/* Keys as the program builds them from a packet's bytes: remote end first, ports as on the wire. */
struct classifier_flow {
	struct ip_addr raddr, laddr;
	uint16_t rport_be, lport_be;
};

/*
 * Flows that the engine enters by a store, without a system call: in one of two places for each local port modulo
 * CLASSIFIER_SLOTS. Local ports of clients come from blocks, so most find one free; the others are in the set. The
 * program looks here first. `used` is written last and cleared first.
 */
#define CLASSIFIER_SLOTS        2048 /* a power of two; 80 KiB */
#define CLASSIFIER_SLOT_CHOICES 2
#define CLASSIFIER_SLOT_STEP    (CLASSIFIER_SLOTS / CLASSIFIER_SLOT_CHOICES)
struct classifier_slot {
	struct classifier_flow flow;
	uint32_t used;
};

/* An address that is in the set of addresses, too: most frames are for the first. `used` as of a slot. */
#define CLASSIFIER_QUICK_ADDRS 2 /* of each family one */
struct classifier_quick_addr {
	struct ip_addr addr;
	uint32_t used, zero;
};

/*
 * An engine that has not looked at a SYN for so long is silent: it is stopped, say. A client repeats a first SYN after
 * a second (RFC 6298 §5.7).
 */
#define CLASSIFIER_SILENT_NS 500000000
#define CLASSIFIER_CONNS     65536 /* places: by the hash's upper 16 bits */
#define CLASSIFIER_MIX       0x9e3779b97f4a7c15ull /* odd, bits spread: 2^64 over the golden ratio (Fibonacci hashing) */

/* The value of the ports map. */
struct classifier_ports {
	uint8_t bits[CLASSIFIER_PORTS];
	/*
	 * by IPv6, a bit each: the host accepts a SYN for it from everybody but `named`, so that it is not asked, where
	 * it judges
	 */
	uint8_t open[2][CLASSIFIER_PORTS / 8];
	struct named_sources named[2];         /* by IPv6 */
	uint64_t own[CLASSIFIER_QUICK_GROUPS]; /* by the byte's upper half: what entries of this process hold (as in classifier_listener_of) */
	uint64_t cookies_until_ns; /* CLOCK_MONOTONIC: until then ACKs may bring back a cookie, on a judged port */
	uint64_t syn_since_ns; /* CLOCK_MONOTONIC: since when a SYN waits for the engine; 0: none does. A tap writes it, and the engine clears it */
	uint32_t judged; /* the host judges SYNs: other segments are ours by their flow's entry, or by `conns` (judge.h) */
	/* What a set may have, or less is there; so that mostly the program need not look there: */
	uint32_t n_exceptions;
	uint32_t n_slots; /* used ones; the programs do not look */
	/* entries of a set's maps, or fewer are there; programs and engine change it by atomic operations */
	uint32_t in_small[CLASSIFIER_SETS], in_large[CLASSIFIER_SETS];
	uint32_t given; /* grows when a SYN was given to the kernel because the engine is silent */
	uint32_t in_set[CLASSIFIER_SLOTS]; /* of SET_FLOWS, by local port modulo CLASSIFIER_SLOTS */
	struct classifier_quick_addr addrs[CLASSIFIER_QUICK_ADDRS];
	struct classifier_slot slots[CLASSIFIER_SLOTS];
	uint8_t conns[CLASSIFIER_CONNS]; /* how many connections the engine has, by classifier_conns_place; while the host judges, TIME-WAITs, too */
};

struct classifier_listener {
	struct ip_addr laddr;
	uint16_t lport_be, zero;
};
/* What `listeners` says of one. */
struct classifier_listener_of {
	uint64_t own;   /* what the entries of this process hold in the group's flows; 0: it has no slot */
	uint32_t group; /* index + 1; 0: no group, every frame is ours */
	uint32_t zero;
};

/* Of enum classifier_set, each is a small map, and a large one in its slot of `more` once the small one is full. */
struct classifier_maps {
	int addrs;      /* hash: struct ip_addr -> byte */
	int ports;      /* array of one value: struct classifier_ports */
	int listeners;  /* hash: struct classifier_listener -> struct classifier_listener_of */
	int members;    /* array of maps, by the group's index: struct group_members */
	int flows;      /* array of maps, by the group's index: struct classifier_flow -> owner, a word (group_owner) */
	int sets[CLASSIFIER_SETS]; /* hash: struct classifier_flow -> byte */
	int more;       /* array of CLASSIFIER_SETS such maps */
	int asked;      /* array of maps: struct classifier_flow -> struct judge_asked. JUDGE_OWN, then by the group's index + 1 */
};

#define JUDGE_OWN 0 /* place in `asked` of the ports that are this process's alone */

struct classifier_flow classifier_flow(const struct flow_key *key);
struct flow_key classifier_flow_key(const struct classifier_flow *f); /* … and back */
/* A flow's place in `conns`, as the programs count it. A place of others only keeps a SYN from the kernel. */
static inline unsigned classifier_conns_place(const struct classifier_flow *f)
{
	uint32_t addr, ports;
	__builtin_memcpy(&addr, f->raddr.b + 12, sizeof addr);
	__builtin_memcpy(&ports, &f->rport_be, sizeof ports);
	return (uint64_t)(addr ^ ports) * CLASSIFIER_MIX >> 48;
}
/* Goes to `found` if the flow on the stack at `key`, 8-byte aligned, is in its slot. Uses R1 to R4. */
void classifier_gen_find_slot(struct bpf_asm *a, int ports_fd, int key, int found);
bool classifier_slot_add(struct classifier_ports *ports, const struct flow_key *key);   /* false: other flows have the places */
bool classifier_slot_has(struct classifier_ports *ports, const struct flow_key *key);
bool classifier_slot_clear(struct classifier_ports *ports, const struct flow_key *key); /* false: this one has none */

/* What a program returns for a frame that is ours, one that we and the kernel want, and one that is none of ours. */
struct classifier_verdicts {
	int32_t ours, copy, none;
};

/* Assembles the program; the number of instructions, or -errno. */
int classifier_assemble(struct bpf_asm *a, const struct classifier_maps *maps, bool has_eth,
			const struct classifier_verdicts *verdicts);

#endif
