/*
 * The face of a link: what link.h promises is checked here, then packet.c and its parts do it.
 */
#include "link/link.h"

#include "link/packet.h"

#include <errno.h>

const char *link_counter_name(enum link_counter c)
{
	static const char *const names[] = {
#define LINK_COUNTER(name, text) [LINKC_##name] = #name,
#include "link/link_counter.def"
#undef LINK_COUNTER
	};
	return names[c];
}

void link_close(struct link *l)
{
	if (l)
		packet_close(l);
}

void link_keep(struct link *l, int fd)
{
	packet_tx_keep(l, fd);
}

/*
 * Unmapping and closing copies disturbs nobody: sockets and ring live on in the parent, frames
 * queued here were copied at fork and are the parent's to send.
 */
void link_forget(struct link *l)
{
	if (l)
		packet_close(l);
}

const struct link_info *link_info(const struct link *l)
{
	return &l->info;
}

const uint64_t *link_counters(const struct link *l)
{
	/* Reading the kernel's drop counter changes no state that a caller can see. */
	packet_rx_count_drops((struct link *)l);
	return l->counters;
}

int link_refresh_info(struct link *l)
{
	return packet_refresh_info(l);
}

int link_rx_fd(const struct link *l)
{
	return packet_rx_fd(l);
}

bool link_rx_pending(const struct link *l)
{
	return packet_rx_pending(l);
}

int link_drain(struct link *l, struct link_rx_handler *h, int budget)
{
	return packet_rx_drain(l, h, budget);
}

int link_fetch(struct link *l, uint32_t wire_len, uint32_t skip, const struct iovec *pieces, int n, bool peek)
{
	return packet_rx_fetch(l, wire_len, skip, pieces, n, peek);
}

/*
 * A plain frame may fill the MTU; of a super-segment each piece may (its headers, repeated, and
 * gso_size bytes), and the whole is bounded by what leaves unsplit.
 */
static bool link_tx_fits(const struct link *l, const struct link_tx *tx, uint32_t payload_len)
{
	uint32_t l2 = link_header_bytes(l);
	if (!tx->gso_size)
		return tx->hdr_len + payload_len <= l->info.mtu + l2;
	if (!(tx->v6 ? l->info.gso_v6 : l->info.gso_v4))
		return false;
	return tx->hdr_len + tx->gso_size <= l->info.mtu + l2 &&
	       payload_len <= l->info.gso_max_bytes;
}

int link_send(struct link *l, const struct link_tx *tx)
{
	uint32_t payload_len = 0;
	if (tx->n_payload < 0 || tx->n_payload > LINK_TX_PAYLOAD_MAX ||
	    tx->hdr_len > LINK_HDR_MAX || tx->hdr_len < link_header_bytes(l))
		return -EINVAL;
	for (int i = 0; i < tx->n_payload; i++)
		payload_len += tx->payload[i].iov_len;
	if (!link_tx_fits(l, tx, payload_len)) {
		link_count(l, LINKC_TxDroppedTooBig, 1);
		return -EMSGSIZE;
	}
	return packet_tx_send(l, tx, payload_len);
}

int link_flush(struct link *l)
{
	return packet_tx_flush(l);
}

const uint8_t *link_bounced(const struct link *l, unsigned i, uint32_t *payload_len)
{
	return packet_tx_bounced(l, i, payload_len);
}

int link_tx_fd(const struct link *l)
{
	return packet_tx_fd(l);
}

bool link_tx_blocked(const struct link *l)
{
	return packet_tx_blocked(l);
}
