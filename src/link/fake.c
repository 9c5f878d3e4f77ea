/*
 * A link for tests: frames are bytes in memory. Sent frames go to the test's callback at
 * link_flush, injected frames to the handler at link_drain; both in order. While blocked, sent
 * frames are copied and wait, as with a full send buffer. The two fds poll as those of a real link:
 * eventfds, readable while frames wait, not writable while blocked.
 */
#include "base/fd.h"
#include "base/list.h"
#include "base/sys.h"
#include "link/link_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define FAKE_QUEUE_FRAMES   256  /* as of a turn of the packet backend */
#define FAKE_PENDING_FRAMES 1024 /* kept back while blocked */
#define FAKE_FRAME_BYTES    (64 * 1024 + 256)
#define EVENTFD_FULL        (UINT64_MAX - 1) /* not writable */

struct fake_frame {
	struct list node;
	struct link_rx rx; /* of an injected frame */
	struct link_tx tx; /* of a sent one that waits: hdr and payload point into bytes */
	struct iovec payload;
	uint32_t len;
	uint8_t bytes[];
};

struct fake_queued {
	struct link_tx tx;
	uint8_t hdr[LINK_HDR_MAX];
	struct iovec payload[LINK_TX_PAYLOAD_MAX];
};

struct fake_link {
	struct link link; /* first */
	struct link_fake_out *out;
	int rx_fd, tx_fd;
	bool blocked;
	struct list rx;
	struct list pending;
	unsigned n_pending, n_queued;
	struct fake_queued queued[FAKE_QUEUE_FRAMES];
	uint8_t scratch[FAKE_FRAME_BYTES];
};

static struct fake_link *fake_of(const struct link *l)
{
	return (struct fake_link *)l;
}

static void fake_free_list(struct list *head)
{
	list_for_each(pos, tmp, head) free(container_of(pos, struct fake_frame, node));
	list_init(head);
}

static void fake_close(struct link *l)
{
	struct fake_link *f = fake_of(l);
	fake_free_list(&f->rx);
	fake_free_list(&f->pending);
	fd_close(f->rx_fd);
	fd_close(f->tx_fd);
	free(f);
}

static int fake_refresh_info(struct link *l)
{
	return 0;
}

static int fake_rx_fd(const struct link *l)
{
	return fake_of(l)->rx_fd;
}

static int fake_tx_fd(const struct link *l)
{
	return fake_of(l)->tx_fd;
}

static bool fake_rx_pending(const struct link *l)
{
	return !list_empty(&fake_of(l)->rx);
}

static bool fake_tx_blocked(const struct link *l)
{
	return fake_of(l)->n_pending > 0;
}

static int fake_drain(struct link *l, struct link_rx_handler *h, int budget)
{
	struct fake_link *f = fake_of(l);
	int n = 0;
	while (n < budget && !list_empty(&f->rx)) {
		struct fake_frame *frame =
		    container_of(list_first(&f->rx), struct fake_frame, node);
		list_unlink(&frame->node);
		link_count(l, LINKC_RxFrames, 1);
		link_count(l, LINKC_RxBytes, frame->rx.wire_len);
		h->frame(h, &frame->rx);
		free(frame);
		n++;
	}
	uint64_t count;
	if (list_empty(&f->rx))
		sys_read(f->rx_fd, &count, sizeof count);
	return n;
}

static int fake_flush(struct link *l);

static int fake_send(struct link *l, const struct link_tx *tx, uint32_t payload_len)
{
	struct fake_link *f = fake_of(l);
	if (tx->hdr_len + payload_len > FAKE_FRAME_BYTES)
		return -EMSGSIZE;
	if (f->n_queued == FAKE_QUEUE_FRAMES)
		fake_flush(l);
	if (f->n_pending + f->n_queued >= FAKE_PENDING_FRAMES) {
		link_count(l, LINKC_TxDroppedPendingFull, 1);
		return -ENOBUFS;
	}
	struct fake_queued *q = &f->queued[f->n_queued++];
	q->tx = *tx;
	memcpy(q->hdr, tx->hdr, tx->hdr_len);
	for (int i = 0; i < tx->n_payload; i++)
		q->payload[i] = tx->payload[i];
	q->tx.hdr = q->hdr;
	q->tx.payload = q->payload;
	return 0;
}

static uint32_t fake_assemble(const struct link_tx *tx, uint8_t *to)
{
	uint32_t len = tx->hdr_len;
	memcpy(to, tx->hdr, tx->hdr_len);
	for (int i = 0; i < tx->n_payload; i++) {
		if (tx->payload[i].iov_len)
			memcpy(to + len, tx->payload[i].iov_base, tx->payload[i].iov_len);
		len += tx->payload[i].iov_len;
	}
	return len;
}

static void fake_emit(struct link *l, const uint8_t *frame, uint32_t len, const struct link_tx *tx)
{
	struct fake_link *f = fake_of(l);
	link_count(l, LINKC_TxFrames, 1);
	link_count(l, LINKC_TxBytes, len);
	link_count(l, LINKC_TxSuper, tx->gso_size != 0);
	f->out->sent(f->out, frame, len, tx);
}

static void fake_keep(struct link *l, const uint8_t *bytes, uint32_t len, const struct link_tx *tx)
{
	struct fake_link *f = fake_of(l);
	struct fake_frame *frame = malloc(sizeof *frame + len);
	if (!frame) {
		link_count(l, LINKC_TxDroppedPendingFull, 1);
		return;
	}
	memcpy(frame->bytes, bytes, len);
	frame->len = len;
	frame->tx = *tx;
	frame->tx.hdr = frame->bytes;
	frame->payload = (struct iovec){frame->bytes + tx->hdr_len, len - tx->hdr_len};
	frame->tx.payload = &frame->payload;
	frame->tx.n_payload = len > tx->hdr_len;
	list_push_back(&f->pending, &frame->node);
	f->n_pending++;
	link_count(l, LINKC_TxDeferred, 1);
}

static int fake_flush(struct link *l)
{
	struct fake_link *f = fake_of(l);
	int sent = 0;
	while (!f->blocked && !list_empty(&f->pending)) {
		struct fake_frame *frame =
		    container_of(list_first(&f->pending), struct fake_frame, node);
		list_unlink(&frame->node);
		f->n_pending--;
		fake_emit(l, frame->bytes, frame->len, &frame->tx);
		free(frame);
		sent++;
	}
	for (unsigned i = 0; i < f->n_queued; i++) {
		const struct link_tx *tx = &f->queued[i].tx;
		uint32_t len = fake_assemble(tx, f->scratch);
		if (f->blocked) {
			fake_keep(l, f->scratch, len, tx);
		} else {
			fake_emit(l, f->scratch, len, tx);
			sent++;
		}
	}
	link_count(l, LINKC_TxBatches, sent > 0);
	f->n_queued = 0;
	return sent;
}

static const struct link_ops fake_ops = {
    .close = fake_close,
    .forget = fake_close,
    .refresh_info = fake_refresh_info,
    .rx_fd = fake_rx_fd,
    .rx_pending = fake_rx_pending,
    .drain = fake_drain,
    .send = fake_send,
    .flush = fake_flush,
    .tx_fd = fake_tx_fd,
    .tx_blocked = fake_tx_blocked,
};

int link_open_fake(struct link **out, const struct link_info *info, struct link_fake_out *o)
{
	struct fake_link *f = calloc(1, sizeof *f);
	if (!f)
		return -ENOMEM;
	f->link.ops = &fake_ops;
	f->link.info = *info;
	f->link.info.tx_backend = "fake";
	f->out = o;
	list_init(&f->rx);
	list_init(&f->pending);
	f->rx_fd = fd_move_high(sys_eventfd2(0, EFD_CLOEXEC | EFD_NONBLOCK));
	f->tx_fd = fd_move_high(sys_eventfd2(0, EFD_CLOEXEC | EFD_NONBLOCK));
	int err = f->rx_fd < 0 ? f->rx_fd : f->tx_fd < 0 ? f->tx_fd : 0;
	if (err) {
		fake_close(&f->link);
		return err;
	}
	*out = &f->link;
	return 0;
}

int link_fake_inject(struct link *l, const struct link_rx *rx)
{
	struct fake_link *f = fake_of(l);
	struct fake_frame *frame = malloc(sizeof *frame + rx->len);
	if (!frame)
		return -ENOMEM;
	memcpy(frame->bytes, rx->data, rx->len);
	frame->rx = *rx;
	frame->rx.data = frame->bytes;
	list_push_back(&f->rx, &frame->node);
	uint64_t one = 1;
	sys_write(f->rx_fd, &one, sizeof one);
	return 0;
}

void link_fake_block_tx(struct link *l, bool blocked)
{
	struct fake_link *f = fake_of(l);
	uint64_t count = EVENTFD_FULL;
	if (blocked == f->blocked)
		return;
	f->blocked = blocked;
	if (blocked)
		sys_write(f->tx_fd, &count, sizeof count);
	else
		sys_read(f->tx_fd, &count, sizeof count);
}
