/*
 * Internal to the classifier's program: what its two files share, classifier_prog.c (the frame, the key) and
 * classifier_prog_group.c (groups).
 */
#ifndef FINESSE_KERNEL_CLASSIFIER_PROG_INTERNAL_H
#define FINESSE_KERNEL_CLASSIFIER_PROG_INTERNAL_H

#include <stddef.h>

#include "kernel/classifier_prog.h"

#define FIELD(base, type, field) ((base) + (int)offsetof(type, field))

/* The stack: offsets from the frame pointer, 8-byte aligned bases. */
enum { TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_RST = 0x04, TCP_PSH = 0x08, TCP_ACK = 0x10, TCP_URG = 0x20 };

enum {
	V6HDR = -48, /* an IPv6 header, whose addresses are the key's */
	V6HDR_NEXT = V6HDR + 6,
	KEY = -40,   /* struct classifier_flow */
	KEY_RADDR = FIELD(KEY, struct classifier_flow, raddr),
	KEY_LADDR = FIELD(KEY, struct classifier_flow, laddr),
	KEY_RPORT = FIELD(KEY, struct classifier_flow, rport_be),
	KEY_LPORT = FIELD(KEY, struct classifier_flow, lport_be),
	FAMILY = -56,   /* enum classifier_port of the packet's family */
	LISTENER = -80, /* struct classifier_listener */
	LISTENER_ADDR = FIELD(LISTENER, struct classifier_listener, laddr),
	LISTENER_PORT = FIELD(LISTENER, struct classifier_listener, lport_be),
	LISTENER_ZERO = FIELD(LISTENER, struct classifier_listener, zero),
	V4HDR = -104,   /* an IPv4 header; also extension headers */
	V4HDR_FRAGMENT = V4HDR + 6,
	SLOT = -112,    /* enum classifier_set */
	ICMP = -160,    /* an ICMP header and the IP header that it quotes */
	QUOTE = ICMP + 8,
	TCP_HDR = -240, /* the beginning of a TCP header */
	TCP_SEQ = TCP_HDR + 4,
	TCP_FLAGS = TCP_HDR + 13,
	GROUP = -176,   /* the group's index */
	OWN = -184,     /* what entries of this process hold */
	ENTRY = -192,   /* what the flow's entry holds, whose owner is gone; 0: there is none */
	CHOSEN = -200,  /* a slot, then what the new entry holds */
	RANK = -216,    /* of the first of two choices */
	ZERO = -208,    /* the key of an array's only element */
	ASKED = -256,   /* struct judge_asked */
};

struct gen {
	struct bpf_asm *a;
	const struct classifier_maps *maps;
	const struct classifier_verdicts *v;
	int l2_len;
	bool is_tap; /* the packet socket's filter; or the tcx program, which runs later */
	/* Labels: where frames of each kind go on … */
	int ipv4, ipv6, tcp, icmp4, icmp6, later_fragment, decide, group;
	/* … the verdicts: a listener's unless excepted; an exact flow, or none; matches; none of ours … */
	int listening, exact, match, none;
	int listening_unchecked, exact_unchecked; /* the address first */
	int judged; /* … a listener's where the host judges … */
	int unjudged; /* … where it need not … */
	int select; /* … and a function */
};

/* R0 = the value of the key at `key` (on the stack), or NULL. */
void classifier_gen_lookup(struct gen *g, int map_fd, int key);
/* R0 = the value of KEY in the map that R1 points to, or NULL. */
void classifier_gen_lookup_key(struct gen *g);
/*
 * R0 = 0: KEY, with what is at `value` on the stack, is in the map that R1 points to; or -EEXIST, or another error, and
 * it stays as it was.
 */
void classifier_gen_insert_key(struct gen *g, int value);
/* Goes to `found` if KEY is in the set. */
void classifier_gen_find(struct gen *g, enum classifier_set set, int found);
/* None of ours unless the key's local address is. */
void classifier_gen_check_address(struct gen *g);
/*
 * reg = those of the segment's flags that matter; 0: it is no segment of its own (quoted by ICMP, or cut off before
 * them).
 */
void classifier_gen_flags(struct gen *g, int reg);
/*
 * Goes to `open` if this is a SYN that the host accepts whoever sends it: with no other flag, but ECN's, in one piece,
 * for a port that is open to all, from a source that no rule names. R1 to R3 are lost.
 */
void classifier_gen_if_open(struct gen *g, int open);
/*
 * Notes in the map at R1 that the host is asked about this segment, on behalf of the slot in R2; register `alive`: 1 if
 * that slot's own program does it.
 */
void classifier_gen_ask(struct gen *g, int alive);
/*
 * A SYN is to wait for an engine; register `since` points to the word that says since when one does. Goes to `alive`
 * unless that is too long. Keeps R6 to R9.
 */
void classifier_gen_if_silent(struct gen *g, int since, int alive);
/* Goes to `found` if this process may have a connection of KEY. */
void classifier_gen_find_conn(struct gen *g, int found);
void classifier_gen_copy_v6_addr(struct gen *g, int to, int from);

/*
 * The part from g->group on: a port of which some listener is a group's. R1 has the port's byte, R8 the port as in the
 * packet, R9 the packet's protocol. The address is not checked yet.
 */
void classifier_gen_group(struct gen *g);
/* The functions that it calls; after the program's last instruction. */
void classifier_gen_group_functions(struct gen *g);

#endif
