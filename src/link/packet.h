/* The AF_PACKET link: its parts. Private to src/link; packet.c has the theory of operation. */
#ifndef FINESSE_LINK_PACKET_H
#define FINESSE_LINK_PACKET_H

#include <liburing.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <stddef.h>

#include "base/aside.h"
#include "link/link_impl.h"
#include "link/tx_budget.h"
#include "link/tx_pending.h"

#define RX_SLOT_BYTES 2048u      /* a frame of 1514 bytes and the kernel's headers before it */
#define RX_RING_BYTES (4u << 20) /* default: 2,048 slots */

#define RX_COPIES 4 /* read at once: a system call can cost more than the copy */

struct packet_rx {
	int fd;
	uint8_t *ring;
	uint32_t ring_bytes, n_slots;
	uint32_t next; /* the slot that the kernel fills, or filled, first */
	/* Frames that were larger than a slot, read ahead of their slots; used up in order. */
	uint8_t *copies;
	int n_copies, used_copies;
	struct iovec copy_iovs[RX_COPIES];
	struct mmsghdr copy_msgs[RX_COPIES];
	uint32_t n_left;     /* frames whose copies are left in the kernel … */
	uint32_t left_bytes; /* … their bytes */
	uint32_t left_most;  /* … how many there may be */
	struct aside making; /* the ring, until packet_rx_open_end */
	struct tpacket_req req;
};

/* The interface that a packet socket is bound to; 0 or less: it is gone. */
int packet_ifindex(int fd);

#define TX_QUEUE_FRAMES 256 /* of one turn; beyond it the queue is flushed early */

/* One queued frame: what precedes the payload is contiguous, and so one piece for the kernel. */
struct tx_head {
	struct virtio_net_hdr vnet;
	uint8_t hdr[LINK_HDR_MAX];
};
_Static_assert(offsetof(struct tx_head, hdr) == sizeof(struct virtio_net_hdr), "no gap");

#define TX_IOV_MAX (1 + LINK_TX_PAYLOAD_MAX)

/*
 * The longest frame whose memory is one piece: 64 KiB, of which the kernel has the rest (struct skb_shared_info, and
 * the headroom that an interface asks for). A byte more would take 128 KiB.
 */
#define TX_ONE_PIECE_BYTES (65536 - 320 - 256)

/* SO_PRIORITY of one frame. */
union tx_control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(uint32_t))];
};

struct packet_tx {
	int fd;
	bool has_uring;
	bool one_piece;       /* for a super-segment's memory: packet_tx.c */
	uint32_t pieces_left; /* … but for so many, since there was none */
	struct io_uring uring;
	struct sockaddr_ll to_v4,
	    to_v6;             /* header-less interfaces: the protocol is told, not parsed */
	uint32_t sndbuf_bytes; /* the kernel's idea of it */
	struct tx_budget budget;
	bool shrunk;           /* the send buffer is the budget: the interface was found slower than we are */
	uint64_t unsent_bound; /* never less than what the socket's frames in queues occupy */
	struct tx_pending pending;
	unsigned n;
	uint32_t queued_bytes; /* what the n frames would occupy in `pending`, roughly */
	struct tx_head heads[TX_QUEUE_FRAMES];
	struct iovec iovs[TX_QUEUE_FRAMES][TX_IOV_MAX];
	struct mmsghdr msgs[TX_QUEUE_FRAMES];
	union tx_control controls[TX_QUEUE_FRAMES]; /* of those that have a priority */
	bool v6[TX_QUEUE_FRAMES];
	uint32_t len[TX_QUEUE_FRAMES]; /* without the virtio header */
	int32_t result[TX_QUEUE_FRAMES];
	unsigned n_bounced; /* of the last flush: link_bounced */
	uint16_t bounced[TX_QUEUE_FRAMES];
};

struct packet_link {
	struct link link; /* first */
	struct packet_rx rx;
	struct packet_tx tx;
	bool no_io_uring;
};

static inline struct packet_link *packet_link_of(struct link *l)
{
	return (struct packet_link *)l;
}
static inline const struct packet_link *packet_link_of_const(const struct link *l)
{
	return (const struct packet_link *)l;
}

void packet_close(struct link *l);
int packet_refresh_info(struct link *l);
int packet_rx_fd(const struct link *l);
int packet_tx_fd(const struct link *l);

int packet_rx_open(struct packet_link *p, uint32_t ring_bytes); /* … and then, once: */
int packet_rx_open_end(struct packet_link *p);
int packet_rx_adopt(struct packet_link *p, uint32_t ring_bytes); /* rx.fd is there, with a ring of these bytes */
void packet_rx_close(struct packet_rx *rx);
bool packet_rx_pending(const struct link *l);
int packet_rx_drain(struct link *l, struct link_rx_handler *h, int budget);
int packet_rx_fetch(struct link *l, uint32_t wire_len, uint32_t skip, const struct iovec *pieces, int n, bool peek); /* link_fetch */
void packet_rx_count_drops(struct link *l);

int packet_tx_open(struct packet_link *p);
int packet_tx_adopt(struct packet_link *p); /* tx.fd is there */
void packet_tx_open_uring(struct packet_link *p); /* after both sockets; without it sendmmsg does */
void packet_tx_keep(struct link *l, int fd); /* link_keep */
void packet_tx_close(struct packet_tx *tx);
int packet_tx_send(struct link *l, const struct link_tx *tx, uint32_t payload_len);
int packet_tx_flush(struct link *l);
bool packet_tx_blocked(const struct link *l);
const uint8_t *packet_tx_bounced(const struct link *l, unsigned i, uint32_t *payload_len);

#endif
