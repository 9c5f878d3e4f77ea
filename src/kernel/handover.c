/*
 * Handover: a connection of ours is rebuilt as a kernel socket by TCP_REPAIR.
 *
 * In repair mode a socket sends no SYN, no data and no FIN: sequence numbers and queues are put in
 * place. The order is the kernel's: sequence numbers while still CLOSED, then connect (which makes
 * it ESTABLISHED, and sets rcv_nxt and snd_una from them), then options, queues, windows.
 * - SO_REUSEADDR comes before TCP_REPAIR, which forces it while it is on (so bind works beside a
 * listener); leaving repair clears it, and it is set again, as on an accepted socket, lest a
 * restarted server meets EADDRINUSE.
 * - TCP_MAXSEG before connect is how the peer's MSS gets into mss_cache; TCPOPT_MAXSEG alone leaves
 * it at 536.
 * - Window scaling is set always, to 0 where it was not agreed: connect chose a shift of its own.
 * - TCP_TIMESTAMP's lowest bit selects microseconds since Linux 6.7: it is kept clear, rounding up
 * (a timestamp must not go back).
 * - Unacknowledged data is written in repair mode: queued as sent. Unsent data is written after
 * leaving it: it goes out.
 * - ts_recent cannot be set; the peer's next segment does.
 * - CLOSE-WAIT: the FIN comes from a raw socket with a header of our own, source = the peer,
 * destination = us. The route to a local address is the loopback interface, where the packet keeps
 * its route, so no reverse-path or martian check applies (tests/probes/repair_probe); the
 * established socket is found whatever the interface.
 *
 * Privilege: only switching TCP_REPAIR, binding to a port below 1024, buffers beyond the limits and the raw socket need
 * it. A process without it asks for just these (kernel/privileged.h); the rest of a repair is anybody's.
 *
 * Owns nothing beyond a call. References: tcp(7), linux/net/ipv4/tcp.c do_tcp_setsockopt.
 */
#include "kernel/handover.h"

#include "base/fd.h"
#include "base/sockopt.h"
#include "base/sys.h"
#include "base/time.h"
#include "kernel/peer_packet.h"
#include "kernel/privileged.h"
#include "wire/tcp.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72 /* since Linux 5.14 */
#endif

#define KERNEL_MSS_MIN 88        /* TCP_MIN_MSS: what TCP_MAXSEG takes */
#define KERNEL_MSS_MAX 32767     /* MAX_TCP_WINDOW */
#define BUFFER_MAX     (1 << 30) /* the kernel doubles it into an int */
#define BUFFER_SLACK   65536     /* bookkeeping of half-filled buffers */
#define FIN_TRIES      5         /* it passes softirq within sendto; under load, soon after */
#define FIN_WAIT_MS    20
#define FIN_GIVEN_UP_US USEC_PER_SEC /* after one was lost, the next ones get one try, shortly: the caller holds the engine's lock */
#define FIN_WAIT_SHORT_MS 2
#define FIN_TTL        64
#define FIN_PACKET_MAX PEER_PACKET_MAX

union any_addr {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static int family_of(const struct ip_addr *a)
{
	return ip_addr_is_v4(a) ? AF_INET : AF_INET6;
}

static socklen_t addr_fill(union any_addr *to, int family, const struct ip_addr *a, uint16_t port, int ifindex)
{
	memset(to, 0, sizeof *to);
	if (family == AF_INET) {
		to->v4.sin_family = AF_INET;
		to->v4.sin_port = htons(port);
		memcpy(&to->v4.sin_addr, a->b + 12, 4);
		return sizeof to->v4;
	}
	to->v6.sin6_family = AF_INET6;
	to->v6.sin6_port = htons(port);
	memcpy(&to->v6.sin6_addr, a->b, 16);
	if (IN6_IS_ADDR_LINKLOCAL(&to->v6.sin6_addr))
		to->v6.sin6_scope_id = ifindex;
	return sizeof to->v6;
}

static int set_repair(int fd, int value)
{
	int err = sockopt_set_int(fd, IPPROTO_TCP, TCP_REPAIR, value);
	return err == -EPERM ? privileged_repair(fd, &(struct privileged_repair){.value = value}) : err;
}

/* What the buffer (SO_RCVBUF or SO_SNDBUF) is to be set to for `bytes` of payload; 0: it holds them already. */
static uint32_t buffer_lacks(int fd, int which, uint64_t bytes)
{
	int have = 0;
	socklen_t len = sizeof have;
	sys_getsockopt(fd, SOL_SOCKET, which, &have, &len);
	bytes += BUFFER_SLACK;
	if (bytes > BUFFER_MAX)
		bytes = BUFFER_MAX;
	return bytes * 2 <= (uint64_t)have ? 0 : bytes;
}

/*
 * More than the limits of the system allow, if we may; as much as anybody may have otherwise. Never less than it has.
 */
static void grow_buffer(int fd, int force, int plain, uint64_t payload)
{
	uint32_t bytes = buffer_lacks(fd, plain, payload);
	if (!bytes)
		return;
	if (sockopt_set_int(fd, SOL_SOCKET, force, bytes) < 0)
		sockopt_set_int(fd, SOL_SOCKET, plain, bytes);
	sockopt_set_int(fd, SOL_SOCKET, SO_BUF_LOCK, 0); /* autotuning goes on from here */
}

/* In repair mode, bound, and with buffers for what is to come. What this process may not do is asked for at once. */
static int repair_enter(int fd, const struct tcp_snapshot *s, int family, int ifindex)
{
	uint64_t rcv = (uint64_t)s->rcv_data_len + s->rcv_wnd, snd = 2 * (uint64_t)s->snd_data_len;
	union any_addr addr;
	socklen_t len = addr_fill(&addr, family, &s->key.laddr, s->key.lport, ifindex);
	struct privileged_repair all = {.value = TCP_REPAIR_ON, .addr = &addr.sa, .addr_len = len};
	int err = sockopt_set_int(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	if (!err)
		err = sys_bind(fd, &addr, len);
	if (err == -EPERM || err == -EACCES) {
		all.rcvbuf = buffer_lacks(fd, SO_RCVBUF, rcv);
		all.sndbuf = buffer_lacks(fd, SO_SNDBUF, snd);
		err = privileged_repair(fd, &all);
	}
	if (err < 0)
		return err;
	grow_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, rcv);
	grow_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, snd);
	return 0;
}

/* Not yet connected: everything that connect looks at. */
static int repair_prepare(int fd, const struct tcp_snapshot *s, int family, int ifindex)
{
	int mss = s->mss_clamp < KERNEL_MSS_MIN ? KERNEL_MSS_MIN : s->mss_clamp;
	int err;
	if (family != family_of(&s->key.laddr))
		sockopt_set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0); /* the namespace may have it otherwise */
	if ((err = sockopt_set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1)) < 0 ||
	    (err = repair_enter(fd, s, family, ifindex)) < 0)
		return err;
	if (s->mss_clamp)
		sockopt_set_int(fd, IPPROTO_TCP, TCP_MAXSEG, mss > KERNEL_MSS_MAX ? KERNEL_MSS_MAX : mss);
	if (s->nodelay)
		sockopt_set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (s->keepalive)
		sockopt_set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	if ((err = sockopt_set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)) < 0 ||
	    (err = sockopt_set_int(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, s->snd_una)) < 0 ||
	    (err = sockopt_set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE)) < 0 ||
	    (err = sockopt_set_int(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, s->rcv_nxt - s->rcv_data_len)) < 0)
		return err;
	return 0;
}

static int repair_connect(int fd, const struct tcp_snapshot *s, int family, int ifindex)
{
	union any_addr addr;
	socklen_t len = addr_fill(&addr, family, &s->key.raddr, s->key.rport, ifindex);
	int err = sys_connect(fd, &addr, len);
	return err == -EADDRNOTAVAIL ? -EADDRINUSE
				     : err; /* the kernel's word for a 4-tuple in use */
}

static int repair_options(int fd, const struct tcp_snapshot *s)
{
	struct tcp_repair_opt opt[4];
	unsigned n = 0;
	opt[n++] = (struct tcp_repair_opt){
	    TCPOPT_WINDOW, s->wscale ? s->snd_wscale | (uint32_t)s->rcv_wscale << 16 : 0};
	if (s->mss_clamp)
		opt[n++] = (struct tcp_repair_opt){TCPOPT_MAXSEG, s->mss_clamp};
	if (s->sack)
		opt[n++] = (struct tcp_repair_opt){TCPOPT_SACK_PERMITTED, 0};
	if (s->timestamps)
		opt[n++] = (struct tcp_repair_opt){TCPOPT_TIMESTAMP, 0};
	int err = sys_setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, opt, n * sizeof *opt);
	if (err >= 0)
		err = sockopt_set_int(fd, IPPROTO_TCP, TCP_MAXSEG, 0); /* it was for connect only */
	if (err >= 0 && s->timestamps)
		err = sockopt_set_int(fd, IPPROTO_TCP, TCP_TIMESTAMP, (s->ts_now + 1) & ~1u);
	return err < 0 ? err : 0;
}

/* Writes `len` bytes from `from` on of what `data` holds. */
static int write_range(int fd, const struct iovec data[2], uint32_t from, uint32_t len)
{
	while (len) {
		struct iovec piece = tcp_snapshot_piece(data, from, len);
		ssize_t n = sys_sendto(fd, piece.iov_base, piece.iov_len, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n == -EAGAIN || n == -ENOMEM || n == 0 ? -ENOBUFS : n;
		from += n;
		len -= n;
	}
	return 0;
}

/* The same of what was not acknowledged. */
static int write_unacked(int fd, const struct tcp_snapshot *s, uint32_t from, uint32_t len)
{
	int err = 0;
	while (len && !err) {
		struct iovec data[2] = {};
		uint32_t n = len < CHUNK_BYTES ? len : CHUNK_BYTES;
		chunks_span(&s->snd_data, from, n, data);
		err = write_range(fd, data, 0, n);
		from += n;
		len -= n;
	}
	return err;
}

/* snd_nxt may count a FIN. */
static uint32_t unacked_len(const struct tcp_snapshot *s)
{
	uint32_t sent = s->snd_nxt - s->snd_una;
	return sent < s->snd_data_len ? sent : s->snd_data_len;
}

static int repair_queues(int fd, const struct tcp_snapshot *s)
{
	int err;
	if ((err = sockopt_set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE)) < 0 ||
	    (err = write_range(fd, s->rcv_data, 0, s->rcv_data_len)) < 0 ||
	    (err = sockopt_set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)) < 0 ||
	    (err = write_unacked(fd, s, 0, unacked_len(s))) < 0)
		return err;
	return sockopt_set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
}

/* Who is not to be told any more could get something new from the kernel a second later (its tail-loss probe). */
static bool holds_back(const struct tcp_snapshot *s)
{
	return s->held && !s->fin_peer; /* in CLOSE-WAIT it asks nobody */
}

static int repair_windows(int fd, const struct tcp_snapshot *s)
{
	uint32_t sent = unacked_len(s);
	struct tcp_repair_window w = {
	    .snd_wl1 = s->snd_wl1,
	    .snd_wnd = holds_back(s) && s->snd_wnd > sent ? sent : s->snd_wnd, /* until the probe is answered */
	    .max_window = s->max_window > s->snd_wnd ? s->max_window : s->snd_wnd,
	    .rcv_wnd = s->rcv_wnd,
	    .rcv_wup = s->rcv_wup,
	};
	/* Ours may stand behind the peer's FIN, which is yet to come. */
	if ((int32_t)(w.rcv_wup - s->rcv_nxt) > 0)
		w.rcv_wup = s->rcv_nxt;
	if ((int32_t)(w.snd_wl1 - s->rcv_nxt) > 0)
		w.snd_wl1 = s->rcv_nxt;
	/* A closed window would shut the FIN out before Linux 6.12. */
	if (s->fin_peer && w.rcv_wnd <= s->rcv_nxt - w.rcv_wup)
		w.rcv_wnd = s->rcv_nxt - w.rcv_wup + 1;
	return sys_setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, sizeof w);
}

/* ---- the peer's FIN ---- */

/* IP header and TCP segment as the peer would send them. Returns the length. */
static size_t fin_build(const struct tcp_snapshot *s, uint8_t out[FIN_PACKET_MAX])
{
	const struct flow_key *k = &s->key;
	uint32_t window = s->snd_wnd >> (s->wscale ? s->snd_wscale : 0);
	struct tcp_segment seg = {
	    .sport = k->rport,
	    .dport = k->lport,
	    .seq = s->rcv_nxt,
	    .ack = s->snd_una,
	    .window = window > UINT16_MAX ? UINT16_MAX : window,
	    .flags = SEG_FIN | SEG_ACK,
	};
	if (s->timestamps) {
		seg.has = SEG_HAS_TIMESTAMPS;
		seg.ts_val = s->ts_recent;
		seg.ts_ecr = s->ts_now;
	}
	size_t tcp_len = tcp_build(&seg, out + peer_packet_ip_len(k));
	return peer_packet_finish(k, FIN_TTL, 0, out, tcp_len);
}

static bool is_close_wait(int fd)
{
	uint8_t state = 0; /* struct tcp_info starts with it */
	socklen_t len = sizeof state;
	return sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &len) == 0 &&
	       state == TCP_CLOSE_WAIT;
}

/* `raw` negative: this process may have none. */
static int send_fin(int fd, int raw, const void *packet, size_t len, const union any_addr *to, socklen_t to_len)
{
	if (raw < 0)
		return privileged_inject_fin(fd, packet, len);
	ssize_t n = sys_sendto(raw, packet, len, MSG_DONTWAIT, to, to_len);
	return n < 0 ? (int)n : 0;
}

static int inject_fin(int fd, const struct tcp_snapshot *s, int ifindex)
{
	static int64_t given_up_us; /* when one was lost last; a race over it costs one wait */
	bool hopeless = given_up_us && clock_now_us() - given_up_us < FIN_GIVEN_UP_US;
	uint8_t packet[FIN_PACKET_MAX];
	size_t len = fin_build(s, packet);
	union any_addr to;
	socklen_t to_len = addr_fill(&to, family_of(&s->key.laddr), &s->key.laddr, 0, ifindex);
	int raw = fd_socket(to.sa.sa_family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (raw < 0 && raw != -EPERM)
		return raw;
	int err = -ENETDOWN;
	for (int i = 0; i < (hopeless ? 1 : FIN_TRIES); i++) {
		int sent = send_fin(fd, raw, packet, len, &to, to_len);
		if (sent < 0) {
			err = sent;
			break;
		}
		struct pollfd p = {.fd = fd, .events = POLLRDHUP};
		struct timespec wait = {.tv_nsec = (hopeless ? FIN_WAIT_SHORT_MS : FIN_WAIT_MS) * 1000000L};
		if (!is_close_wait(fd))
			sys_ppoll(&p, 1, &wait, NULL);
		if (is_close_wait(fd)) {
			err = 0;
			break;
		}
	}
	if (raw >= 0)
		sys_close(raw);
	if (err == -ENETDOWN && !hopeless)
		given_up_us = clock_now_us();
	return err;
}

/* ---- the two steps ---- */

int handover_begin(const struct tcp_snapshot *s, int family, int ifindex)
{
	if (family == AF_UNSPEC)
		family = family_of(&s->key.laddr);
	int fd = fd_socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	if (fd < 0)
		return fd;
	int err;
	if ((err = repair_prepare(fd, s, family, ifindex)) < 0 || (err = repair_connect(fd, s, family, ifindex)) < 0 ||
	    (err = repair_options(fd, s)) < 0 || (err = repair_queues(fd, s)) < 0 ||
	    (err = repair_windows(fd, s)) < 0 ||
	    (s->fin_peer && (err = inject_fin(fd, s, ifindex)) < 0)) {
		sys_close(fd); /* in repair mode: silent */
		return err;
	}
	return fd;
}

int handover_follow(int fd, const struct tcp_snapshot *then, const struct tcp_snapshot *now, int ifindex)
{
	uint32_t came = now->rcv_nxt - then->rcv_nxt;
	int err;
	if ((int32_t)(then->snd_nxt - now->snd_una) < 0 || came > now->rcv_data_len)
		return -EAGAIN;
	if (came && ((err = sockopt_set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE)) < 0 ||
		     (err = write_range(fd, now->rcv_data, now->rcv_data_len - came, came)) < 0 ||
		     (err = sockopt_set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_NO_QUEUE)) < 0))
		return err;
	if ((err = repair_windows(fd, now)) < 0) /* the peer may have opened its own */
		return err;
	if (!now->fin_peer || then->fin_peer)
		return 0;
	/* A closed window would shut it out before Linux 6.12. It begins where the last ACK was. */
	return came + (then->rcv_nxt - then->rcv_wup) < then->rcv_wnd ? inject_fin(fd, now, ifindex) : -EAGAIN;
}

/* The kernel takes something for unacknowledged: also what was acknowledged between the steps. */
static bool waits_for_ack(int fd)
{
	int bytes = 0;
	return sys_ioctl(fd, SIOCOUTQ, &bytes) < 0 || bytes > 0;
}

int handover_finish(int fd, const struct tcp_snapshot *s)
{
	uint32_t sent = unacked_len(s);
	/*
	 * Leaving sends one window probe, if it may: its answer tells what the peer has. Where nothing is on its way to
	 * it, that is known, and no segment leaves that the kernel's TCP would not have sent.
	 */
	int err = set_repair(fd, holds_back(s) || waits_for_ack(fd) ? TCP_REPAIR_OFF : TCP_REPAIR_OFF_NO_WP);
	/*
	 * before anybody can know: who ends this process then leaves a TIME-WAIT that the port's next server does not
	 * mind
	 */
	sockopt_set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (err >= 0)
		err = write_unacked(fd, s, sent, s->snd_data_len - sent);
	if (err < 0) {
		set_repair(fd, TCP_REPAIR_ON);
		sys_close(fd);
		return err;
	}
	if (s->fin_ours)
		sys_shutdown(fd, SHUT_WR);
	return 0;
}

int handover_import(const struct tcp_snapshot *s, int ifindex)
{
	int fd = handover_begin(s, AF_UNSPEC, ifindex);
	if (fd < 0)
		return fd;
	int err = handover_finish(fd, s);
	return err < 0 ? err : fd;
}
