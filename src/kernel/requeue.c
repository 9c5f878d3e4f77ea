/*
 * Theory of operation: requeue.h. One map element at a time says which 4-tuple the program takes, and with what options
 * the handshake was made; it is there for the moment of requeue_give. Packets that are not in the map pass. The program
 * ends with the attachment: when requeue_close is called, or the process dies.
 *
 * The first segment is an ACK without text: of it the kernel makes the connection, whose sequence numbers are the
 * segment's, less one. Then comes what is unread, and the peer's FIN with the last of it. The kernel's answers go to
 * the peer, to whom they are old.
 */
#include "kernel/requeue.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/late.h"
#include "base/log.h"
#include "base/sys.h"
#include "kernel/bpf_asm.h"
#include "kernel/bpf_sys.h"
#include "kernel/btf.h"
#include "kernel/classifier_backend.h"
#include "kernel/diag.h"
#include "kernel/peer_packet.h"
#include "wire/tcp.h"

#define LOOPBACK      1 /* ifindex, in every network namespace */
#define TTL           64
#define TEXT_MAX      16384 /* of one segment: the loopback's MTU is 65536, unless somebody changed it */
#define TEXT_MAX_SLOW 1200  /* … and any path's */
#define LOOKS         25    /* a segment passes softirq within sendto mostly; under load, soon after */
#define LOOK_WAIT_NS  1000000
#define KEY_BYTES     36 /* struct bpf_sock_tuple: peer's address, ours, peer's port, ours, as in the packet */
#define STACK_KEY     (-40)
#define LOG_BYTES     65536

/* struct bpf_tcp_req_attrs of include/net/tcp.h, Linux 6.8. */
struct request {
	uint32_t rcv_tsval, rcv_tsecr;
	uint16_t mss;
	uint8_t rcv_wscale, snd_wscale, ecn_ok, wscale_ok, sack_ok, tstamp_ok, usec_ts_ok;
	uint8_t reserved[3];
};

struct requeue {
	int map, link, raw4, raw6, diag;
	uint8_t packet[PEER_PACKET_MAX + TEXT_MAX];
};

/* ---- the program ---- */

static void emit_family(struct bpf_asm *a, int map, int function, int addresses_at, int key_len)
{
	int none = bpf_asm_label(a), release = bpf_asm_label(a);
	bpf_asm_mov(a, R1, R6);
	bpf_asm_mov_imm(a, R2, ETH_HLEN + addresses_at);
	bpf_asm_mov(a, R3, FP);
	bpf_asm_alu_imm(a, BPF_ADD, R3, STACK_KEY);
	bpf_asm_mov_imm(a, R4, key_len);
	bpf_asm_call(a, BPF_FUNC_skb_load_bytes);
	bpf_asm_jump_if(a, BPF_JNE, R0, 0, none);
	bpf_asm_map(a, R1, map);
	bpf_asm_mov(a, R2, FP);
	bpf_asm_alu_imm(a, BPF_ADD, R2, STACK_KEY);
	bpf_asm_call(a, BPF_FUNC_map_lookup_elem);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, none);
	bpf_asm_mov(a, R7, R0);
	bpf_asm_mov(a, R1, R6);
	bpf_asm_mov(a, R2, FP);
	bpf_asm_alu_imm(a, BPF_ADD, R2, STACK_KEY);
	bpf_asm_mov_imm(a, R3, key_len);
	bpf_asm_mov_imm(a, R4, BPF_F_CURRENT_NETNS);
	bpf_asm_mov_imm(a, R5, 0);
	bpf_asm_call(a, BPF_FUNC_skc_lookup_tcp);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, none);
	bpf_asm_mov(a, R8, R0);
	bpf_asm_load(a, BPF_W, R1, R8, offsetof(struct bpf_sock, state));
	bpf_asm_jump_if(a, BPF_JNE, R1, BPF_TCP_LISTEN, release); /* it has the connection already */
	bpf_asm_mov(a, R1, R8);
	bpf_asm_call(a, BPF_FUNC_skc_to_tcp_sock);
	bpf_asm_jump_if(a, BPF_JEQ, R0, 0, release);
	bpf_asm_mov(a, R1, R6);
	bpf_asm_mov(a, R2, R0);
	bpf_asm_mov(a, R3, R7);
	bpf_asm_mov_imm(a, R4, sizeof(struct request));
	bpf_asm_call_kernel(a, function);
	bpf_asm_bind(a, release);
	bpf_asm_mov(a, R1, R8);
	bpf_asm_call(a, BPF_FUNC_sk_release);
	bpf_asm_bind(a, none);
	bpf_asm_mov_imm(a, R0, VERDICT_TCX_NEXT);
	bpf_asm_exit(a);
}

static int load_program(int map, int function)
{
	struct bpf_asm *a = malloc(sizeof *a); /* too large for a thread's small stack */
	if (!a)
		return -ENOMEM;
	bpf_asm_init(a);
	int v6 = bpf_asm_label(a);
	bpf_asm_mov(a, R6, R1);
	for (int i = 0; i < 5; i++)
		bpf_asm_store_imm(a, BPF_DW, FP, STACK_KEY + 8 * i, 0);
	bpf_asm_load(a, BPF_W, R7, R6, offsetof(struct __sk_buff, protocol));
	bpf_asm_jump_if(a, BPF_JNE, R7, htons(ETH_P_IP), v6);
	emit_family(a, map, function, offsetof(struct iphdr, saddr), 2 * 4 + 4);
	bpf_asm_bind(a, v6); /* anything else is not in the map */
	emit_family(a, map, function, offsetof(struct ip6_hdr, ip6_src), KEY_BYTES);
	int n = bpf_asm_finish(a);
	if (n < 0) {
		free(a);
		return n;
	}
	char *log = log_enabled(LOG_LEVEL_DEBUG, "requeue") ? malloc(LOG_BYTES) : NULL;
	int fd = bpf_prog_load_gpl("finesse_requeue", BPF_PROG_TYPE_SCHED_CLS, a->insns, n, log, LOG_BYTES);
	if (fd < 0 && log)
		log_debug("requeue", "%s", log);
	free(log);
	free(a);
	return fd;
}

static int attach(struct requeue *q)
{
	int function = btf_kernel_function("bpf_sk_assign_tcp_reqsk");
	if (function < 0)
		return function == -EPERM ? function : -EOPNOTSUPP;
	q->map = fd_move_high(bpf_map_create("fin_requeue", BPF_MAP_TYPE_HASH, KEY_BYTES, sizeof(struct request), 1, 0));
	int prog = q->map < 0 ? q->map : load_program(q->map, function);
	if (prog < 0)
		return prog == -EINVAL || prog == -EACCES ? -EOPNOTSUPP : prog; /* the verifier's no */
	q->link = fd_move_high(bpf_link_tcx_ingress(prog, LOOPBACK));
	sys_close(prog);
	return q->link < 0 ? q->link : 0;
}

/* ---- one connection ---- */

static void key_of(const struct flow_key *k, uint8_t key[KEY_BYTES])
{
	int skip = ip_addr_is_v4(&k->laddr) ? 12 : 0, len = sizeof k->laddr.b - skip;
	uint16_t ports[2] = {htons(k->rport), htons(k->lport)};
	memset(key, 0, KEY_BYTES);
	memcpy(key, k->raddr.b + skip, len);
	memcpy(key + len, k->laddr.b + skip, len);
	memcpy(key + 2 * len, ports, sizeof ports);
}

static struct request request_of(const struct tcp_snapshot *s)
{
	return (struct request){
	    .rcv_tsval = s->ts_recent,
	    .rcv_tsecr = s->ts_now,
	    .mss = s->mss_clamp,
	    .rcv_wscale = s->wscale ? s->rcv_wscale : 0,
	    .snd_wscale = s->wscale ? s->snd_wscale : 0,
	    .wscale_ok = s->wscale,
	    .sack_ok = s->sack,
	    .tstamp_ok = s->timestamps,
	};
}

static void copy_text(uint8_t *to, const struct iovec data[2], uint32_t from, uint32_t len)
{
	while (len) {
		struct iovec piece = tcp_snapshot_piece(data, from, len);
		memcpy(to, piece.iov_base, piece.iov_len);
		to += piece.iov_len;
		from += piece.iov_len;
		len -= piece.iov_len;
	}
}

static int say(struct requeue *q, const struct tcp_snapshot *s, uint32_t from, uint32_t len, bool fin)
{
	uint32_t window = s->snd_wnd >> (s->wscale ? s->snd_wscale : 0);
	struct tcp_segment seg = {
	    .sport = s->key.rport,
	    .dport = s->key.lport,
	    .seq = s->rcv_nxt - s->rcv_data_len + from,
	    .ack = s->snd_una,
	    .window = window > UINT16_MAX ? UINT16_MAX : window,
	    .flags = SEG_ACK | (fin ? SEG_FIN : 0) | (len ? SEG_PSH : 0),
	    .has = s->timestamps ? SEG_HAS_TIMESTAMPS : 0,
	    .ts_val = s->ts_recent,
	    .ts_ecr = s->ts_now,
	};
	size_t ip_len = peer_packet_ip_len(&s->key);
	size_t tcp_len = tcp_build(&seg, q->packet + ip_len);
	copy_text(q->packet + ip_len + tcp_len, s->rcv_data, from, len);
	size_t n = peer_packet_finish(&s->key, TTL, 0, q->packet, tcp_len + len);
	return peer_packet_send(ip_addr_is_v4(&s->key.laddr) ? q->raw4 : q->raw6, &s->key.laddr, q->packet, n, 0);
}

/* Has the kernel `bytes` of it, or more (its FIN counts one)? 1, 0, -errno. */
static int kernel_has(struct requeue *q, const struct flow_key *key, uint32_t bytes)
{
	for (int i = 0; i < LOOKS; i++) {
		uint64_t received = 0;
		int found = diag_received(q->diag, key, 0, &received);
		if (found < 0 || (found && received >= bytes))
			return found;
		sys_ppoll(NULL, 0, &(struct timespec){.tv_nsec = LOOK_WAIT_NS}, NULL);
	}
	return 0;
}

static int tell_text(struct requeue *q, const struct tcp_snapshot *s, uint32_t text_max)
{
	uint32_t at = 0;
	do {
		uint32_t left = s->rcv_data_len - at, len = left < text_max ? left : text_max;
		int err = say(q, s, at, len, s->fin_peer && len == left);
		if (err)
			return err;
		at += len;
	} while (at < s->rcv_data_len);
	return 0;
}

static int tell(struct requeue *q, const struct tcp_snapshot *s)
{
	int err = say(q, s, 0, 0, false);
	int has = err ? err : kernel_has(q, &s->key, 0);
	if (has <= 0)
		return has ? has : -ENOBUFS;
	uint32_t bytes = s->rcv_data_len + s->fin_peer;
	if (!bytes)
		return 0;
	err = tell_text(q, s, TEXT_MAX);
	if (err == -EMSGSIZE)
		err = tell_text(q, s, TEXT_MAX_SLOW);
	has = err ? err : kernel_has(q, &s->key, bytes);
	return has < 0 ? has : 0;
}

int requeue_give(struct requeue *q, const struct tcp_snapshot *s)
{
	uint8_t key[KEY_BYTES];
	struct request request = request_of(s);
	if (s->snd_data_len || s->fin_ours || IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)s->key.laddr.b)) /* the loopback has none of these */
		return -EINVAL;
	key_of(&s->key, key);
	int err = bpf_map_update(q->map, key, &request);
	if (err)
		return err;
	err = tell(q, s);
	bpf_map_delete(q->map, key);
	return err;
}

/* ---- opening and closing ---- */

static int raw_open(int family)
{
	return fd_move_high(sys_socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
}

int requeue_open(struct requeue **out)
{
	struct requeue *q = malloc(sizeof *q);
	if (!q)
		return -ENOMEM;
	*q = (struct requeue){.map = -1, .link = -1, .raw4 = raw_open(AF_INET), .raw6 = raw_open(AF_INET6), .diag = diag_open()};
	int err = q->raw4 < 0 ? q->raw4 : q->diag < 0 ? q->diag : 0;
	if (!err)
		err = attach(q);
	if (err) {
		requeue_close(q);
		return err;
	}
	*out = q;
	return 0;
}

void requeue_forget(struct requeue *q)
{
	fd_close(q->link);
	fd_close(q->map);
	fd_close(q->raw4);
	fd_close(q->raw6);
	fd_close(q->diag);
	free(q);
}

/*
 * The kernel waits for an RCU grace period when an attachment ends, and whoever closes is about to fork, mostly: a
 * server on its way to its workers, with clients before the door. So the kernel ends it in its own time. Whoever has
 * the descriptor else is a forked child, who forgets it at once.
 */
void requeue_close(struct requeue *q)
{
	int hold = q->link >= 0 ? late_hold(&q->link, 1) : -1;
	if (q->link >= 0 && hold < 0)
		bpf_link_detach(q->link);
	requeue_forget(q);
	late_let_go(hold);
}
