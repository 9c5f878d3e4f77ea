/*
 * Receive: a TPACKET_V2 ring of small slots, read in memory.
 *
 * The kernel fills slots in order and stops at the first that we have not given back. A frame
 * larger than a slot (a super-segment from GRO or from a local sender's GSO) is cut to the slot
 * and, as PACKET_COPY_THRESH is on, queued on the socket as well; TP_STATUS_COPY says so. The
 * kernel takes the slot and queues the copy under one lock, and nobody else reads the socket, so
 * the copies come by recv in the order of the slots that announce them. Should one be missing all
 * the same (its length differs from its slot's) the queue is emptied, the frame delivered as the
 * slot has it (len < wire_len), and counted. When the receive buffer is full the kernel queues no
 * copy and sets no TP_STATUS_COPY: truncated, counted apart.
 *
 * A copy may stay in the queue until its bytes are wanted (link.h's `begun` and link_fetch). None is read before those
 * that were left, so their order holds. They are a part of the receive buffer at most, or others would find no room in
 * it.
 *
 * Small slots keep the ring in the cache, and 4 MiB of them hold 2,048 frames where 64 KiB slots
 * would hold 64.
 */
#include "link/packet.h"

#include "base/fd.h"
#include "base/sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RX_BLOCK_BYTES    (64u << 10) /* unit of the kernel's allocation */
#define RX_RING_BYTES_MAX (1u << 30)
#define RX_COPY_BYTES                                                                              \
	(68u << 10) /* the largest IP packet without jumbograms, its link header, slack */
#define RX_COPY_BUF_BYTES                                                                          \
	(16u << 20)      /* receive buffer: some 200 super-segments waiting as copies */
#define RX_LEFT_PART  8  /* of the receive buffer, for copies that are left there */
#define SMALL_PAGE_BYTES 4096
#define RX_LOOK_AHEAD 16 /* slots */
#define CACHE_LINE_BYTES 64
#define RX_PREFETCH_LINES 3 /* of a slot: what the kernel says of the frame, its headers, and the first of its text */
#define RX_RECV_TRIES 4  /* recv reports an asynchronous error (ENETDOWN) once, before the data */

#ifndef TP_STATUS_CSUM_VALID
#define TP_STATUS_CSUM_VALID (1 << 7)
#endif

static int rx_option(int fd, int option, int value)
{
	return sys_setsockopt(fd, SOL_PACKET, option, &value, sizeof value);
}

/* Accepts nothing: the classifier replaces it. */
static int rx_reject_all(int fd)
{
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog prog = {.len = 1, .filter = code};
	return sys_setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog);
}

static void rx_grow_buffer(int fd)
{
	int bytes = RX_COPY_BUF_BYTES;
	if (sys_setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0)
		sys_setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

static uint32_t rx_ring_bytes(uint32_t asked)
{
	uint32_t bytes = asked ? asked : RX_RING_BYTES;
	return bytes - bytes % RX_BLOCK_BYTES;
}

/* The kernel waits for an RCU grace period, and holds the socket's lock. */
static int rx_begin_ring(struct packet_rx *rx, uint32_t bytes)
{
	if (bytes < RX_BLOCK_BYTES || bytes > RX_RING_BYTES_MAX)
		return -EINVAL;
	rx->ring_bytes = bytes;
	rx->req = (struct tpacket_req){
	    .tp_block_size = RX_BLOCK_BYTES,
	    .tp_block_nr = bytes / RX_BLOCK_BYTES,
	    .tp_frame_size = RX_SLOT_BYTES,
	    .tp_frame_nr = bytes / RX_SLOT_BYTES,
	};
	const long args[6] = {rx->fd, SOL_PACKET, PACKET_RX_RING, (long)&rx->req, sizeof rx->req};
	aside_begin(&rx->making, SYS_setsockopt, args);
	return 0;
}

static int rx_map_ring(struct packet_rx *rx, uint32_t bytes)
{
	void *ring = sys_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, rx->fd, 0);
	if (sys_is_error(ring))
		return -ENOMEM;
	rx->ring = ring;
	rx->ring_bytes = bytes;
	rx->n_slots = bytes / RX_SLOT_BYTES;
	return 0;
}

/*
 * What the buffer is, whoever made it. The kernel counts memory there, not bytes: a driver may give each wire segment
 * of a frame a page of its own, 3 times its bytes with pages of 4 KiB. RX_LEFT_PART has room for that; larger pages
 * leave room for fewer frames.
 */
static void rx_limit_left(struct packet_rx *rx)
{
	int bytes = 0;
	socklen_t len = sizeof bytes;
	sys_getsockopt(rx->fd, SOL_SOCKET, SO_RCVBUF, &bytes, &len);
	rx->left_most = bytes / RX_LEFT_PART / (sysconf(_SC_PAGESIZE) / SMALL_PAGE_BYTES);
}

static int rx_map_copies(struct packet_rx *rx)
{
	void *mem = sys_mmap(NULL, RX_COPIES * RX_COPY_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sys_is_error(mem))
		return -ENOMEM;
	rx->copies = mem;
	for (int i = 0; i < RX_COPIES; i++) {
		rx->copy_iovs[i] =
		    (struct iovec){rx->copies + (size_t)i * RX_COPY_BYTES, RX_COPY_BYTES};
		rx->copy_msgs[i].msg_hdr.msg_iov = &rx->copy_iovs[i];
		rx->copy_msgs[i].msg_hdr.msg_iovlen = 1;
	}
	rx_limit_left(rx);
	return 0;
}

static int rx_bind(int fd, int ifindex)
{
	struct sockaddr_ll sll = {
	    .sll_family = AF_PACKET,
	    .sll_protocol = htons(ETH_P_ALL), /* an ETH_P_IP tap does not see what tcx drops */
	    .sll_ifindex = ifindex,
	};
	return sys_bind(fd, &sll, sizeof sll);
}

int packet_rx_open(struct packet_link *p, uint32_t ring_bytes)
{
	struct packet_rx *rx = &p->rx;
	int err;
	/* Protocol 0: deaf until bound. */
	rx->fd = fd_move_high(sys_socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	if (rx->fd < 0)
		return rx->fd;
	rx_grow_buffer(rx->fd);
	if ((err = rx_map_copies(rx)) < 0)
		return err;
	/* Order matters: version and virtio header cannot change once there is a ring. */
	if ((err = rx_reject_all(rx->fd)) < 0 ||
	    (err = rx_option(rx->fd, PACKET_VERSION, TPACKET_V2)) < 0 ||
	    (err = rx_option(rx->fd, PACKET_VNET_HDR, 1)) < 0 ||
	    (err = rx_option(rx->fd, PACKET_COPY_THRESH, 1)) < 0 ||
	    (err = rx_option(rx->fd, PACKET_IGNORE_OUTGOING, 1)) < 0)
		return err;
	return rx_begin_ring(rx, rx_ring_bytes(ring_bytes));
}

int packet_rx_open_end(struct packet_link *p)
{
	struct packet_rx *rx = &p->rx;
	int err = aside_wait(&rx->making);
	if (!err)
		err = rx_map_ring(rx, rx->ring_bytes);
	return err ? err : rx_bind(rx->fd, p->link.info.ifindex);
}

int packet_rx_adopt(struct packet_link *p, uint32_t ring_bytes)
{
	int err = rx_map_copies(&p->rx);
	return err ? err : rx_map_ring(&p->rx, rx_ring_bytes(ring_bytes));
}

void packet_rx_close(struct packet_rx *rx)
{
	aside_wait(&rx->making);
	if (rx->ring)
		munmap(rx->ring, rx->ring_bytes);
	if (rx->copies)
		munmap(rx->copies, RX_COPIES * RX_COPY_BYTES);
	fd_close(rx->fd);
	memset(rx, 0, sizeof *rx);
	rx->fd = -1;
}

static struct tpacket2_hdr *rx_slot(const struct packet_rx *rx, uint32_t i)
{
	return (struct tpacket2_hdr *)(rx->ring + (size_t)i * RX_SLOT_BYTES);
}

/* What the kernel wrote before this status is visible once the status is. */
static uint32_t slot_status(const struct tpacket2_hdr *slot)
{
	return __atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE);
}

bool packet_rx_pending(const struct link *l)
{
	const struct packet_rx *rx = &packet_link_of_const(l)->rx;
	return slot_status(rx_slot(rx, rx->next)) & TP_STATUS_USER;
}

void packet_rx_count_drops(struct link *l)
{
	struct tpacket_stats stats; /* the kernel resets its own at each read */
	socklen_t len = sizeof stats;
	if (sys_getsockopt(packet_link_of(l)->rx.fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len) ==
	    0)
		link_count(l, LINKC_RxKernelDropped, stats.tp_drops);
}

/* How many of the frames that wait, from the next slot on, have a copy: 1 to RX_COPIES. */
static int rx_copies_wanted(const struct packet_rx *rx)
{
	int n = 1;
	for (uint32_t k = 1, i = rx->next; k < RX_LOOK_AHEAD && n < RX_COPIES; k++) {
		i = i + 1 == rx->n_slots ? 0 : i + 1;
		uint32_t status = slot_status(rx_slot(rx, i));
		if (!(status & TP_STATUS_USER))
			break;
		n += !!(status & TP_STATUS_COPY);
	}
	return n;
}

/* Reads up to `want` copies. How many, or -errno. */
static int rx_recv(struct packet_rx *rx, int want)
{
	int n = -EAGAIN;
	for (int i = 0; i < RX_RECV_TRIES; i++) {
		n = sys_recvmmsg(rx->fd, rx->copy_msgs, want, MSG_DONTWAIT | MSG_TRUNC);
		if (n >= 0 || n == -EAGAIN)
			break;
	}
	rx->n_copies = n > 0 ? n : 0;
	rx->used_copies = 0;
	return n;
}

/* The whole of the frame that the next slot has cut. Returns where its virtio header is, or NULL.
 */
static const uint8_t *rx_read_copy(struct link *l, struct link_rx_handler *h, uint32_t wire_len)
{
	struct packet_rx *rx = &packet_link_of(l)->rx;
	if (rx->n_left)
		h->behind(h);
	if (rx->used_copies == rx->n_copies)
		rx_recv(rx, rx_copies_wanted(rx));
	if (rx->used_copies < rx->n_copies) {
		int i = rx->used_copies++;
		if (rx->copy_msgs[i].msg_len == sizeof(struct virtio_net_hdr) + wire_len) {
			link_count(l, LINKC_RxCopied, 1);
			return rx->copies + (size_t)i * RX_COPY_BYTES;
		}
		while (rx_recv(rx, RX_COPIES) > 0) /* another frame's: start afresh */
			;
	}
	link_count(l, LINKC_RxCopyLost, 1);
	return NULL;
}

/* Copies that were read ahead are no longer in the queue. */
static bool rx_may_leave(const struct packet_rx *rx, const struct link_rx_handler *h, uint32_t wire_len)
{
	return h->begun && rx->used_copies == rx->n_copies && rx->left_bytes + wire_len <= rx->left_most;
}

static void rx_leave(struct link *l, uint32_t wire_len)
{
	struct packet_rx *rx = &packet_link_of(l)->rx;
	rx->n_left++;
	rx->left_bytes += wire_len;
	link_count(l, LINKC_RxCopied, 1);
	link_count(l, LINKC_RxLeft, 1);
}

/*
 * Of the frame at the queue's head, behind `skip` bytes, `pieces`. What is passed over goes where copies go that are
 * read ahead: none are, now.
 */
static bool rx_copy_out(struct packet_rx *rx, uint32_t wire_len, uint32_t skip, const struct iovec *pieces, int n, int flags)
{
	struct iovec iov[1 + LINK_FETCH_PIECES] = {{rx->copies, sizeof(struct virtio_net_hdr) + skip}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 1 + n};
	ssize_t got = -EIO;
	if (skip > wire_len || n > LINK_FETCH_PIECES)
		return false;
	memcpy(iov + 1, pieces, n * sizeof *pieces);
	for (int i = 0; i < RX_RECV_TRIES; i++) {
		got = sys_recvmsg(rx->fd, &msg, MSG_DONTWAIT | MSG_TRUNC | flags);
		if (got != -ENETDOWN) /* told once, and it takes no frame */
			break;
	}
	return got == (ssize_t)(sizeof(struct virtio_net_hdr) + wire_len);
}

/* Which frame is next is not known any more. */
static void rx_lose_all(struct packet_rx *rx)
{
	while (rx_recv(rx, RX_COPIES) > 0)
		;
	rx->n_left = 0;
	rx->left_bytes = 0;
}

int packet_rx_fetch(struct link *l, uint32_t wire_len, uint32_t skip, const struct iovec *pieces, int n, bool peek)
{
	struct packet_rx *rx = &packet_link_of(l)->rx;
	bool good = rx_copy_out(rx, wire_len, skip, pieces, n, peek ? MSG_PEEK : 0);
	if (!peek) {
		rx->n_left--;
		rx->left_bytes -= wire_len;
		link_count(l, LINKC_RxCopyLost, !good);
		if (!good)
			rx_lose_all(rx);
	}
	return good ? 0 : -EIO;
}

/* What a slot says of its frame, and as much of that as it has. */
static void rx_describe(struct tpacket2_hdr *slot, uint32_t status, struct link_rx *rx)
{
	const struct sockaddr_ll *sll =
	    (struct sockaddr_ll *)((uint8_t *)slot + TPACKET_ALIGN(sizeof *slot));
	*rx = (struct link_rx){
	    .data = (uint8_t *)slot + slot->tp_mac,
	    .len = slot->tp_snaplen,
	    .wire_len = slot->tp_len,
	    .ethertype = ntohs(sll->sll_protocol),
	    .vlan = status & TP_STATUS_VLAN_VALID,
	    .pkttype = sll->sll_pkttype,
	    .at_sec = slot->tp_sec,
	    .at_nsec = slot->tp_nsec,
	};
	struct virtio_net_hdr vnet;
	memcpy(&vnet, rx->data - sizeof vnet, sizeof vnet);
	rx->csum_ok = vnet.flags & (VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID) ||
		      status & (TP_STATUS_CSUMNOTREADY | TP_STATUS_CSUM_VALID);
	if (vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		rx->gso_size = vnet.gso_size;
}

static void rx_deliver(struct link *l, struct link_rx_handler *h, struct tpacket2_hdr *slot,
		       uint32_t status)
{
	struct link_rx rx;
	rx_describe(slot, status, &rx);
	link_count(l, LINKC_RxSuper, rx.gso_size != 0);
	link_count(l, LINKC_RxFrames, 1);
	link_count(l, LINKC_RxBytes, rx.wire_len);
	if (status & TP_STATUS_COPY) {
		if (rx_may_leave(&packet_link_of(l)->rx, h, rx.wire_len) && h->begun(h, &rx)) {
			rx_leave(l, rx.wire_len);
			return;
		}
		const uint8_t *copy = rx_read_copy(l, h, slot->tp_len);
		if (copy) {
			uint32_t room = RX_COPY_BYTES - sizeof(struct virtio_net_hdr);
			rx.data = copy + sizeof(struct virtio_net_hdr);
			rx.len = rx.wire_len < room ? rx.wire_len : room;
		}
	} else if (rx.len < rx.wire_len) {
		link_count(l, LINKC_RxTruncated, 1);
	}
	h->frame(h, &rx);
}

/*
 * The CPU that a frame arrived on wrote its slot last: what is read of it is fetched from there while the frame before
 * it is worked on. Of a slot that the kernel has yet to fill only the line that tells so, or the kernel would have to
 * take the others back.
 */
static void rx_prefetch(const struct packet_rx *rx)
{
	uint32_t next = rx->next + 1 < rx->n_slots ? rx->next + 1 : 0, second = next + 1 < rx->n_slots ? next + 1 : 0;
	const struct tpacket2_hdr *slot = rx_slot(rx, next);
	__builtin_prefetch(rx_slot(rx, second));
	if (slot_status(slot) & TP_STATUS_USER)
		for (unsigned line = 1; line < RX_PREFETCH_LINES; line++)
			__builtin_prefetch((const uint8_t *)slot + line * CACHE_LINE_BYTES);
}

int packet_rx_drain(struct link *l, struct link_rx_handler *h, int budget)
{
	struct packet_rx *rx = &packet_link_of(l)->rx;
	bool losing = false;
	int n = 0;
	while (n < budget) {
		struct tpacket2_hdr *slot = rx_slot(rx, rx->next);
		uint32_t status = slot_status(slot);
		if (!(status & TP_STATUS_USER))
			break;
		rx_prefetch(rx);
		rx_deliver(l, h, slot, status);
		losing |= !!(status & TP_STATUS_LOSING);
		__atomic_store_n(&slot->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		if (++rx->next == rx->n_slots)
			rx->next = 0;
		n++;
	}
	if (losing)
		packet_rx_count_drops(l); /* also ends the kernel's TP_STATUS_LOSING */
	return n;
}
