/*
 * Transmit: a turn's frames are queued by reference and handed over in one system call.
 *
 * Two ways: one io_uring_enter with a SENDMSG for each frame, or sendmmsg. Both run the sends
 * inline, in order, with MSG_DONTWAIT: nothing is punted to a kernel thread. They differ when the
 * socket's send buffer fills up in mid-batch: sendmmsg stops there, while io_uring goes on, and a
 * later frame may find room that the device has just freed and overtake. So a batch goes to
 * io_uring only when it fits for certain: `unsent_bound` is an upper bound of what our frames
 * occupy in the send buffer (every batch adds its largest possible share; when the sum reaches the
 * buffer's size, SIOCOUTQ tells the truth). Otherwise sendmmsg.
 *
 * The send buffer is large until a look at it (whenever the bound exceeds the budget of tx_budget.h) finds
 * more than the budget waiting: a queue that is slower than we are. From then on the buffer is as
 * large as the budget, so that what we send next does not wait behind megabytes of our own.
 *
 * What the kernel does not take (EAGAIN) is copied to tx_pending, with all behind it, and goes
 * first at the next flush; the driver calls that when the socket is writable. ENOBUFS is the
 * interface's queue refusing a frame. Where frames of ours are in that queue, it is the same: what it
 * holds of ours is the send buffer's size from now on, so that the socket is writable again when half
 * of that has left. (The kernel's TCP does not count such a segment as sent, either.) Where nothing
 * of ours is accounted for (others fill the queue, or it cut super-segments up and dropped their last
 * pieces, which have the account) nobody would wake us: the frame is dropped and counted, and link_bounced tells of it.
 * Any other error concerns one frame, which is dropped and counted.
 *
 * One piece. The kernel copies a super-segment into memory of 32 KiB and smaller pieces. Each processor keeps lists of
 * such pieces (Linux: up to 32 KiB), from which it takes and to which it frees. Where the receiver is on this host and
 * on another processor (veth), the lists of his grow to tens of megabytes before the oldest piece comes back to us:
 * what we copy into is never in a cache, and that took more time than all the rest. Memory of 64 KiB is on no such
 * list: what was freed last is taken next. So there a super-segment asks for one piece, by a `hdr_len` that is the
 * whole frame's. A host whose memory is in small pieces may have none: ENOBUFS, as of a full queue. Then the frame asks
 * again for pieces, and so do the next TX_PIECES_FRAMES.
 */
#include "link/packet.h"

#include "base/fd.h"
#include "base/sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

/*
 * What a frame may occupy beyond twice its length: a page of slack, struct sk_buff, shared info. A small one is in one
 * piece (tests/probes/packet_tx_probe): its length, headroom and shared info, rounded up to what the kernel's allocator
 * has, which is less than twice as much, and struct sk_buff. One that is segmented later is never small: each segment
 * is accounted for like a frame.
 */
#define TX_OVERHEAD_BYTES       8192
#define TX_SMALL_BYTES          2048
#define TX_SMALL_OVERHEAD_BYTES 2048
/* A ring costs more than sendmmsg for a frame or two: 2.6 against 1.9 us each at two
 * (bench/link_bench). */
#define TX_URING_MIN     4
#define TX_PENDING_BATCH 32 /* frames of one sendmmsg from the pending store */
#define TX_PIECES_FRAMES 1024

static int tx_option(int fd, int level, int option, int value)
{
	return sys_setsockopt(fd, level, option, &value, sizeof value);
}

static void tx_read_buffer(struct packet_tx *tx)
{
	int got = 0;
	socklen_t len = sizeof got;
	sys_getsockopt(tx->fd, SOL_SOCKET, SO_SNDBUF, &got, &len);
	tx->sndbuf_bytes = got;
}

/* `bytes` as the kernel counts them; it doubles what it is told. */
static void tx_size_buffer(struct packet_tx *tx, uint32_t bytes)
{
	if (tx_option(tx->fd, SOL_SOCKET, SO_SNDBUFFORCE, bytes / 2) < 0)
		tx_option(tx->fd, SOL_SOCKET, SO_SNDBUF, bytes / 2);
	tx_read_buffer(tx);
}

/* The io_uring's files: the transmit socket, the receive socket, and what link_keep gives it. */
#define TX_URING_FILES 3
#define TX_URING_KEPT  2

/*
 * Not SINGLE_ISSUER: several threads submit, one at a time. A host without io_uring is no error.
 *
 * The receive socket is registered, too, though nothing is done with it there: the kernel gives up what an io_uring
 * holds in a work queue, when the process has ended; a packet socket that the process itself gives up waits for one RCU
 * grace period or two, some 10 ms each, at the end of every short program.
 */
static void tx_open_uring(struct packet_tx *tx, int rx_fd)
{
	const int files[TX_URING_FILES] = {tx->fd, rx_fd, -1};
	struct io_uring_params params = {.flags = IORING_SETUP_SUBMIT_ALL};
	int err = io_uring_queue_init_params(TX_QUEUE_FRAMES, &tx->uring, &params);
	if (err < 0)
		return;
	int fd = fd_move_high(tx->uring.ring_fd);
	if (fd < 0)
		return; /* closed; the mappings are the only loss, at a process with 65,536 open
			   files */
	tx->uring.ring_fd = tx->uring.enter_ring_fd = fd;
	err = io_uring_register_files(&tx->uring, files, TX_URING_FILES);
	if (err < 0) {
		fd_unmark(fd);
		io_uring_queue_exit(&tx->uring);
		return;
	}
	tx->has_uring = true;
}

void packet_tx_keep(struct link *l, int fd)
{
	struct packet_tx *tx = &packet_link_of(l)->tx;
	if (tx->has_uring && io_uring_register_files_update(&tx->uring, TX_URING_KEPT, &fd, 1) == 1)
		fd_close(fd);
}

static void tx_close_uring(struct packet_tx *tx)
{
	if (!tx->has_uring)
		return;
	fd_unmark(tx->uring.ring_fd);
	io_uring_queue_exit(&tx->uring);
	tx->has_uring = false;
}

static void tx_begin(struct packet_link *p, const struct sockaddr_ll *sll)
{
	struct packet_tx *tx = &p->tx;
	tx_budget_init(&tx->budget);
	tx->to_v4 = tx->to_v6 = *sll;
	tx->to_v4.sll_protocol = htons(ETH_P_IP);
	tx->to_v6.sll_protocol = htons(ETH_P_IPV6);
	p->link.info.tx_backend = "sendmmsg";
}

int packet_tx_open(struct packet_link *p)
{
	struct packet_tx *tx = &p->tx;
	struct sockaddr_ll sll = {
	    .sll_family = AF_PACKET,
	    .sll_protocol = 0, /* sends only: the kernel shows it no frame */
	    .sll_ifindex = p->link.info.ifindex,
	};
	int err = tx_pending_open(&tx->pending);
	if (err)
		return err;
	tx->fd = fd_move_high(sys_socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	if (tx->fd < 0)
		return tx->fd;
	if ((err = tx_option(tx->fd, SOL_PACKET, PACKET_VNET_HDR, 1)) < 0 ||
	    (err = sys_bind(tx->fd, &sll, sizeof sll)) < 0)
		return err;
	tx_begin(p, &sll);
	tx_size_buffer(tx, TX_BUDGET_MAX);
	return 0;
}

int packet_tx_adopt(struct packet_link *p)
{
	struct packet_tx *tx = &p->tx;
	struct sockaddr_ll sll = {.sll_family = AF_PACKET, .sll_ifindex = p->link.info.ifindex};
	tx_begin(p, &sll);
	tx_read_buffer(tx); /* who opened it made it large; we may not */
	return tx_pending_open(&tx->pending);
}

void packet_tx_open_uring(struct packet_link *p)
{
	tx_open_uring(&p->tx, p->rx.fd);
	if (p->tx.has_uring)
		p->link.info.tx_backend = "io_uring";
}

void packet_tx_close(struct packet_tx *tx)
{
	tx_close_uring(tx);
	tx_pending_close(&tx->pending);
	fd_close(tx->fd);
	tx->fd = -1;
	tx->n = 0;
}

static void tx_fill_vnet(struct virtio_net_hdr *v, const struct link_tx *tx)
{
	memset(v, 0, sizeof *v);
	if (tx->csum_start) {
		v->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		v->csum_start = tx->csum_start;
		v->csum_offset = tx->csum_offset;
	}
	if (tx->gso_size) {
		v->gso_type = tx->v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
		if (tx->ecn_cwr)
			v->gso_type |= VIRTIO_NET_HDR_GSO_ECN;
		v->gso_size = tx->gso_size;
		v->hdr_len = tx->hdr_len;
	}
}

/* This super-segment wants one piece of memory. */
static void tx_ask_one_piece(struct packet_tx *tx, struct virtio_net_hdr *v, uint32_t frame_len)
{
	if (!tx->one_piece || v->gso_type == VIRTIO_NET_HDR_GSO_NONE || frame_len > TX_ONE_PIECE_BYTES)
		return;
	if (tx->pieces_left)
		tx->pieces_left--;
	else
		v->hdr_len = frame_len;
}

/* A frame was refused. True: it wanted one piece of memory, and does not any more. */
static bool tx_ask_pieces(struct packet_tx *tx, const struct mmsghdr *m)
{
	struct virtio_net_hdr v;
	void *at = m->msg_hdr.msg_iov->iov_base;
	memcpy(&v, at, sizeof v);
	if (v.hdr_len <= LINK_HDR_MAX)
		return false;
	v.hdr_len = LINK_HDR_MAX; /* the headers, and some of the text */
	memcpy(at, &v, sizeof v);
	tx->pieces_left = TX_PIECES_FRAMES;
	return true;
}

static void tx_set_priority(struct msghdr *msg, union tx_control *control, uint32_t priority)
{
	control->header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof priority), .cmsg_level = SOL_SOCKET, .cmsg_type = SO_PRIORITY};
	memcpy(CMSG_DATA(&control->header), &priority, sizeof priority);
	msg->msg_control = control;
	msg->msg_controllen = sizeof *control;
}

static uint32_t tx_priority(const struct msghdr *msg)
{
	uint32_t priority = 0;
	if (msg->msg_control)
		memcpy(&priority, CMSG_DATA((struct cmsghdr *)msg->msg_control), sizeof priority);
	return priority;
}

/* While frames are kept back, new ones join them at once: nothing overtakes, and what does not fit
 * is told. */
static int tx_send_behind(struct link *l, const struct link_tx *tx)
{
	struct packet_tx *t = &packet_link_of(l)->tx;
	struct tx_head head;
	struct iovec iov[TX_IOV_MAX] = {{&head, sizeof head.vnet + tx->hdr_len}};
	tx_fill_vnet(&head.vnet, tx);
	memcpy(head.hdr, tx->hdr, tx->hdr_len);
	for (int k = 0; k < tx->n_payload; k++)
		iov[1 + k] = tx->payload[k];
	if (!tx_pending_push(&t->pending, iov, 1 + tx->n_payload, tx->v6, tx->priority)) {
		link_count(l, LINKC_TxDroppedPendingFull, 1);
		return -ENOBUFS;
	}
	link_count(l, LINKC_TxDeferred, 1);
	return 0;
}

int packet_tx_send(struct link *l, const struct link_tx *tx, uint32_t payload_len)
{
	struct packet_tx *t = &packet_link_of(l)->tx;
	/*
	 * Flush before the queue holds more than could be kept back, and on a slow interface soon enough to be told to
	 * stop.
	 */
	if (t->n == TX_QUEUE_FRAMES || t->queued_bytes > (t->shrunk ? t->budget.bytes / 2 : TX_PENDING_BYTES / 2))
		packet_tx_flush(l);
	if (t->pending.n)
		return tx_send_behind(l, tx);

	unsigned i = t->n++;
	struct tx_head *head = &t->heads[i];
	tx_fill_vnet(&head->vnet, tx);
	tx_ask_one_piece(t, &head->vnet, tx->hdr_len + payload_len);
	memcpy(head->hdr, tx->hdr, tx->hdr_len);

	struct iovec *iov = t->iovs[i];
	iov[0] = (struct iovec){head, sizeof head->vnet + tx->hdr_len};
	for (int k = 0; k < tx->n_payload; k++)
		iov[1 + k] = tx->payload[k];
	struct msghdr *msg = &t->msgs[i].msg_hdr;
	memset(msg, 0, sizeof *msg);
	msg->msg_iov = iov;
	msg->msg_iovlen = 1 + tx->n_payload;
	if (!l->info.has_eth) {
		msg->msg_name = tx->v6 ? &t->to_v6 : &t->to_v4;
		msg->msg_namelen = sizeof t->to_v4;
	}
	if (tx->priority)
		tx_set_priority(msg, &t->controls[i], tx->priority);
	t->v6[i] = tx->v6;
	t->len[i] = tx->hdr_len + payload_len;
	t->queued_bytes += sizeof *head + payload_len;
	return 0;
}

/* Nothing is written where an interrupt hits, so it is the same as no room. */
static bool tx_is_no_room(int err)
{
	return err == -EAGAIN || err == -EINTR;
}

static enum link_counter tx_drop_reason(int err)
{
	switch (err) {
	case -ENOBUFS:
		return LINKC_TxDroppedQdisc;
	case -ENETDOWN:
	case -ENXIO:
	case -ENODEV:
		return LINKC_TxDroppedDown;
	case -EMSGSIZE:
		return LINKC_TxDroppedTooBig;
	default:
		return LINKC_TxDroppedError;
	}
}

/* What of ours is in queues, from the kernel. */
static bool tx_look(struct packet_tx *tx)
{
	int outq = 0;
	if (sys_ioctl(tx->fd, SIOCOUTQ, &outq) < 0)
		return false;
	tx->unsent_bound = outq;
	if (!tx->shrunk && tx->unsent_bound > tx->budget.bytes) {
		tx->shrunk = true;
		tx_size_buffer(tx, tx->budget.bytes);
	}
	return true;
}

/* A frame was refused: what is to be made of it. */
static int tx_refused(struct packet_tx *tx, int err)
{
	if (err != -ENOBUFS || !tx_look(tx) || !tx->unsent_bound)
		return err;
	tx->shrunk = true;
	tx_budget_full(&tx->budget, tx->unsent_bound);
	tx_size_buffer(tx, tx->budget.bytes);
	return -EAGAIN;
}

/* result[i] for each of n messages: >= 0 or -errno. Behind one without room, none is tried. */
static void tx_sendmmsg(struct packet_tx *tx, struct mmsghdr *msgs, unsigned n, int32_t *result)
{
	unsigned i = 0;
	while (i < n) {
		int sent = sys_sendmmsg(tx->fd, msgs + i, n - i, MSG_DONTWAIT);
		if (sent > 0) {
			while (sent--)
				result[i++] = 0;
			continue;
		}
		if (sent == -ENOBUFS && tx_ask_pieces(tx, msgs + i))
			continue;
		int err = tx_refused(tx, sent ? sent : -EAGAIN);
		result[i++] = err;
		while (tx_is_no_room(err) && i < n)
			result[i++] = err;
	}
}

/*
 * All queued frames in one io_uring_enter. Every completion is there when it returns, since nothing
 * sleeps; the wait is for the case that this is wrong one day, as the frames are ours again
 * afterwards. -errno: nothing was submitted.
 */
static int tx_uring_submit(struct packet_tx *tx)
{
	struct io_uring_cqe *cqe;
	for (unsigned i = 0; i < tx->n; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&tx->uring);
		const struct msghdr *msg = &tx->msgs[i].msg_hdr;
		if (msg->msg_iovlen == 1 && !msg->msg_name && !msg->msg_control) /* cheaper */
			io_uring_prep_send(sqe, 0, msg->msg_iov->iov_base, msg->msg_iov->iov_len,
					   MSG_DONTWAIT);
		else
			io_uring_prep_sendmsg(sqe, 0, msg, MSG_DONTWAIT);
		sqe->flags = IOSQE_FIXED_FILE;
		sqe->user_data = i;
		tx->result[i] = -ECANCELED;
	}
	int submitted = io_uring_submit(&tx->uring);
	if (submitted < 0)
		return submitted;
	for (int seen = 0; seen < submitted; seen++) {
		int err;
		do
			err = io_uring_wait_cqe(&tx->uring, &cqe);
		while (err == -EINTR);
		if (err < 0)
			break;
		tx->result[cqe->user_data] = cqe->res;
		io_uring_cqe_seen(&tx->uring, cqe);
	}
	return submitted;
}

/* Those that an io_uring's batch left behind. */
static void tx_uring_refused(struct link *l, struct packet_tx *tx)
{
	int err = 0;
	for (unsigned i = 0; i < tx->n; i++) {
		if (tx->result[i] != -ENOBUFS)
			continue;
		if (!err && tx_ask_pieces(tx, tx->msgs + i)) {
			tx_sendmmsg(tx, tx->msgs + i, 1, tx->result + i);
			link_count(l, LINKC_TxReordered, tx->result[i] >= 0 && i + 1 < tx->n);
			err = tx_is_no_room(tx->result[i]) ? tx->result[i] : 0;
			continue;
		}
		err = err ? err : tx_refused(tx, -ENOBUFS);
		tx->result[i] = err;
	}
}

static uint32_t tx_most_occupied(const struct packet_tx *tx, unsigned i)
{
	bool small = tx->len[i] <= TX_SMALL_BYTES && tx->heads[i].vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE;
	return 2 * tx->len[i] + (small ? TX_SMALL_OVERHEAD_BYTES : TX_OVERHEAD_BYTES);
}

/* Whether this turn's frames fit the send buffer whatever the device does meanwhile. */
static bool tx_fits_for_certain(struct packet_tx *tx)
{
	uint64_t need = 0;
	for (unsigned i = 0; i < tx->n; i++)
		need += tx_most_occupied(tx, i);
	if (tx->unsent_bound + need > tx->budget.bytes && !tx_look(tx))
		return false;
	tx->unsent_bound += need;
	return tx->unsent_bound <= tx->sndbuf_bytes;
}

static void tx_hand_over(struct link *l, struct packet_tx *tx)
{
	bool may_uring = tx_fits_for_certain(tx) && tx->has_uring; /* counts these frames, too */
	if (may_uring && tx->n >= TX_URING_MIN) {
		int n = tx_uring_submit(tx);
		if (n == (int)tx->n) {
			tx_uring_refused(l, tx);
			return;
		}
		/* Refused although set up (a seccomp filter that came later), or short: sendmmsg
		 * from here on. */
		tx_close_uring(tx);
		l->info.tx_backend = "sendmmsg";
		unsigned done = n > 0 ? n : 0;
		tx_sendmmsg(tx, tx->msgs + done, tx->n - done, tx->result + done);
		return;
	}
	tx_sendmmsg(tx, tx->msgs, tx->n, tx->result);
}

static void tx_keep(struct link *l, struct packet_tx *tx, unsigned i)
{
	const struct msghdr *msg = &tx->msgs[i].msg_hdr;
	if (tx_pending_push(&tx->pending, msg->msg_iov, msg->msg_iovlen, tx->v6[i], tx_priority(msg)))
		link_count(l, LINKC_TxDeferred, 1);
	else
		link_count(l, LINKC_TxDroppedPendingFull, 1);
}

static void tx_count_sent(struct link *l, uint32_t len, const struct virtio_net_hdr *vnet)
{
	link_count(l, LINKC_TxFrames, 1);
	link_count(l, LINKC_TxBytes, len);
	if (vnet->gso_type != VIRTIO_NET_HDR_GSO_NONE)
		link_count(l, LINKC_TxSuper, 1);
}

/* Every queued frame meets its fate. Returns how many left. */
static int tx_settle(struct link *l, struct packet_tx *tx)
{
	bool kept = false;
	int sent = 0;
	for (unsigned i = 0; i < tx->n; i++) {
		int32_t r = tx->result[i];
		if (r >= 0) {
			tx_count_sent(l, tx->len[i], &tx->heads[i].vnet);
			link_count(l, LINKC_TxReordered, kept);
			sent++;
		} else if (tx_is_no_room(r)) {
			tx_keep(l, tx, i);
			kept = true;
		} else {
			link_count(l, tx_drop_reason(r), 1);
			if (r == -ENOBUFS)
				tx->bounced[tx->n_bounced++] = i;
		}
	}
	tx->n = 0;
	tx->queued_bytes = 0;
	return sent;
}

/* The oldest kept frames, one batch. Returns how many left the store, sent or dropped; *sent counts
 * the former. */
static unsigned tx_pending_batch(struct link *l, struct packet_tx *tx, int *sent)
{
	struct mmsghdr msgs[TX_PENDING_BATCH];
	struct iovec iovs[TX_PENDING_BATCH];
	union tx_control controls[TX_PENDING_BATCH];
	int32_t result[TX_PENDING_BATCH];
	unsigned n = 0, gone = 0;
	memset(msgs, 0, sizeof msgs);
	for (struct tx_pending_frame *f = tx_pending_first(&tx->pending); f && n < TX_PENDING_BATCH;
	     f = tx_pending_next(&tx->pending, f), n++) {
		iovs[n] = (struct iovec){f->data, f->len};
		msgs[n].msg_hdr.msg_iov = &iovs[n];
		msgs[n].msg_hdr.msg_iovlen = 1;
		if (!l->info.has_eth) {
			msgs[n].msg_hdr.msg_name = f->v6 ? &tx->to_v6 : &tx->to_v4;
			msgs[n].msg_hdr.msg_namelen = sizeof tx->to_v4;
		}
		if (f->priority)
			tx_set_priority(&msgs[n].msg_hdr, &controls[n], f->priority);
	}
	tx_sendmmsg(tx, msgs, n, result);
	for (; gone < n && !tx_is_no_room(result[gone]); gone++) {
		struct virtio_net_hdr vnet;
		memcpy(&vnet, iovs[gone].iov_base, sizeof vnet);
		if (result[gone] >= 0) {
			tx_count_sent(l, iovs[gone].iov_len - sizeof vnet, &vnet);
			(*sent)++;
		} else {
			link_count(l, tx_drop_reason(result[gone]), 1);
		}
		tx_pending_pop(&tx->pending);
	}
	return gone;
}

/* Frames wait for the socket: it may be writable now. */
static int tx_flush_pending(struct link *l, struct packet_tx *tx)
{
	int sent = 0;
	uint64_t waited = tx_look(tx) ? tx->unsent_bound : tx->sndbuf_bytes;
	while (tx->pending.n && tx_pending_batch(l, tx, &sent))
		;
	if (sent && tx->shrunk && tx_budget_resume(&tx->budget, waited))
		tx_size_buffer(tx, tx->budget.bytes);
	tx->unsent_bound = tx->sndbuf_bytes; /* these are not accounted for: ask before the next batch */
	return sent;
}

int packet_tx_flush(struct link *l)
{
	struct packet_tx *tx = &packet_link_of(l)->tx;
	tx->n_bounced = 0;
	int sent = tx->pending.n ? tx_flush_pending(l, tx) : 0;
	if (!tx->n) /* always so while frames are kept back: tx_send_behind */
		return sent;
	tx_hand_over(l, tx);
	link_count(l, LINKC_TxBatches, 1);
	return sent + tx_settle(l, tx);
}

const uint8_t *packet_tx_bounced(const struct link *l, unsigned i, uint32_t *payload_len)
{
	const struct packet_tx *tx = &packet_link_of_const(l)->tx;
	if (i >= tx->n_bounced)
		return NULL;
	unsigned frame = tx->bounced[i];
	*payload_len = tx->len[frame] - (tx->iovs[frame][0].iov_len - sizeof(struct virtio_net_hdr));
	return tx->heads[frame].hdr;
}

bool packet_tx_blocked(const struct link *l)
{
	return packet_link_of_const(l)->tx.pending.n > 0;
}
