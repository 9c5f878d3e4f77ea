/*
 * Frames in and out of one network interface.
 *
 * The one backend is `packet`: AF_PACKET's TPACKET_V2 receive ring with vnet_hdr; transmit by io_uring, or sendmmsg
 * where io_uring is forbidden. Everything runs under the engine's lock; a link may be drained and flushed by any
 * thread. Functions return 0/positive or -errno.
 *
 * Rules: receive slots go back in order before link_drain returns; transmits are MSG_DONTWAIT and stay in order; what
 * the kernel does not take is copied, kept (bounded, counted) and goes out when link_tx_fd() is writable.
 */
#ifndef FINESSE_LINK_LINK_H
#define FINESSE_LINK_LINK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct link;

#define LINK_HDR_MAX        128 /* link + IP + TCP headers of one transmitted frame, bytes */
#define LINK_TX_PAYLOAD_MAX 2   /* pieces of one transmitted payload: a ring buffer that wraps */

struct link_config {
	int ifindex;
	uint32_t rx_ring_bytes; /* 0: default */
	bool no_io_uring;       /* force the sendmmsg backend (tests; hosts that forbid io_uring) */
	bool veth;              /* what leaves is received on this host: packet_tx.c */
	bool later;             /* the ring, for which the kernel waits long, is made while the caller goes on: link_complete comes last. Until then nothing
				   may be done with the link but link_info, link_rx_fd and link_close; setsockopt on the latter's fd waits. */
};

struct link_info {
	int ifindex;
	char ifname[16];
	uint8_t mac[6];
	bool has_eth;    /* false: TUN, ARPHRD_NONE: frames start at the IP header */
	uint32_t mtu;
	bool gso_v4, gso_v6; /* super-segments may be handed to link_send */
	uint32_t gso_max_bytes; /* payload of one super-segment */
	const char *tx_backend; /* "io_uring", "sendmmsg" */
};

/* One received frame. Valid only inside the callback. */
struct link_rx {
	const uint8_t *data; /* link-layer header first (has_eth), else the IP header */
	uint32_t len;        /* bytes at data */
	uint32_t wire_len;   /* bytes the frame had: more than len when truncated */
	uint16_t ethertype;  /* host byte order; of the frame behind any VLAN tag the kernel stripped */
	bool vlan;           /* a VLAN tag was stripped */
	uint8_t pkttype;     /* PACKET_HOST, … */
	bool csum_ok;        /* transport checksum verified, or not yet computed (local sender): do not check */
	uint16_t gso_size;   /* payload bytes per original segment of a super-segment, or 0 */
	uint32_t at_sec, at_nsec; /* CLOCK_REALTIME when the kernel had it; 0: not known */
};

/*
 * A large frame may stay in the kernel until somebody wants its bytes, who then has them by one copy instead of two or
 * three. `begun`, where there is one, is shown the beginning of such a frame (len < wire_len), and answers whether it
 * takes it as it is. What it took, it fetches by link_fetch, in the order of the frames. It is told by `behind` that
 * another frame is to be read which is behind them all: until that returns it has fetched everything.
 */
struct link_rx_handler {
	void (*frame)(struct link_rx_handler *h, const struct link_rx *rx);
	bool (*begun)(struct link_rx_handler *h, const struct link_rx *rx);
	void (*behind)(struct link_rx_handler *h);
};

/* One frame to transmit. */
struct link_tx {
	const uint8_t *hdr; /* copied by link_send */
	uint16_t hdr_len;   /* <= LINK_HDR_MAX */
	const struct iovec *payload; /* NOT copied: must stay valid until the next link_flush returns */
	int n_payload;               /* 0..2 */
	/*
	 * From the frame's start, and the field's offset from csum_start; 0,0: no offload. With offload the field holds
	 * the pseudo-header's sum, not inverted. A super-segment always needs it.
	 */
	uint16_t csum_start, csum_offset;
	uint16_t gso_size;  /* 0: not a super-segment */
	bool v6;            /* selects the GSO type */
	bool ecn_cwr;
	uint32_t priority; /* for the qdisc, as SO_PRIORITY; not 0 only where the kernel takes it by message (Linux 6.14) */
};

enum link_counter {
#define LINK_COUNTER(name, text) LINKC_##name,
#include "link/link_counter.def"
#undef LINK_COUNTER
	LINKC_COUNT
};
const char *link_counter_name(enum link_counter c);

int link_open_packet(struct link **out, const struct link_config *config);
/* Of a link that was opened with `later`. What fails leaves it to link_close. */
int link_complete(struct link *l);
/*
 * Another process opens a link for one that may not: link_packet_fds are what that one needs, still `l`'s; it was
 * opened with the same rx_ring_bytes. The two fds of link_adopt_packet are the link's from now on, also on failure.
 */
void link_packet_fds(const struct link *l, int *rx_fd, int *tx_fd);
int link_adopt_packet(struct link **out, const struct link_config *config, int rx_fd, int tx_fd);
void link_close(struct link *l);
/*
 * At the process's end: whoever closes `fd` last waits for the kernel (a tcx link: an RCU grace period, some 10 ms),
 * and that shall not be the process. The link's io_uring holds it from now on, and the kernel takes that apart in a
 * work queue. `fd` is closed; without an io_uring it stays open. Once for each link.
 */
void link_keep(struct link *l, int fd);
/* In a fork child: unmap and close our copies without disturbing the parent. */
void link_forget(struct link *l);

const struct link_info *link_info(const struct link *l);
const uint64_t *link_counters(const struct link *l); /* [LINKC_COUNT] */
int link_refresh_info(struct link *l); /* MTU or MAC changed. -ENODEV: the interface is gone */

int link_rx_fd(const struct link *l);     /* becomes POLLIN when frames wait; the classifier attaches its filter here */
bool link_rx_pending(const struct link *l); /* in memory: a frame waits in the ring */
/* Hands up to `budget` frames to the handler. Returns how many. */
int link_drain(struct link *l, struct link_rx_handler *h, int budget);

#define LINK_FETCH_PIECES 4
/*
 * The oldest of the frames that `begun` took, without its first `skip` bytes: into at most LINK_FETCH_PIECES pieces;
 * what finds no room is dropped. `peek`: it stays. 0, or -EIO: it is lost, or cannot be looked at. While frames are not
 * fetched, link_rx_fd() is always POLLIN.
 */
int link_fetch(struct link *l, uint32_t wire_len, uint32_t skip, const struct iovec *pieces, int n, bool peek);

/* Queues. -EMSGSIZE, -ENOBUFS (counted). A full queue is flushed first. */
int link_send(struct link *l, const struct link_tx *tx);
/*
 * Hands all queued frames to the kernel in one call. Returns how many it took; the rest is kept (link_tx_blocked) or
 * counted.
 */
int link_flush(struct link *l);
/*
 * Frame number i of those that the last link_flush dropped, because the interface's queue refused them: its headers,
 * until the next link_send. NULL: no more.
 */
const uint8_t *link_bounced(const struct link *l, unsigned i, uint32_t *payload_len);
int link_tx_fd(const struct link *l); /* wait for POLLOUT here … */
bool link_tx_blocked(const struct link *l); /* … while this holds, then link_flush */

#endif
