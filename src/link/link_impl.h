/* What a backend of link.h is made of. Private to src/link. */
#ifndef FINESSE_LINK_LINK_IMPL_H
#define FINESSE_LINK_LINK_IMPL_H

#include "link/link.h"

struct link_ops {
	void (*close)(struct link *l);
	void (*forget)(struct link *l);
	int (*refresh_info)(struct link *l);
	int (*rx_fd)(const struct link *l);
	bool (*rx_pending)(const struct link *l);
	int (*drain)(struct link *l, struct link_rx_handler *h, int budget);
	int (*send)(struct link *l, const struct link_tx *tx, uint32_t payload_len);
	int (*flush)(struct link *l);
	int (*tx_fd)(const struct link *l);
	bool (*tx_blocked)(const struct link *l);
	int (*fetch)(struct link *l, uint32_t wire_len, uint32_t skip, const struct iovec *pieces, int n, bool peek); /* may be NULL: nothing is ever left in the kernel */
	void (*keep)(struct link *l, int fd);     /* may be NULL */
	void (*refresh_counters)(struct link *l); /* may be NULL */
};

/* First member of every backend's struct. */
struct link {
	const struct link_ops *ops;
	struct link_info info;
	uint64_t counters[LINKC_COUNT];
};

static inline void link_count(struct link *l, enum link_counter c, uint64_t n)
{
	l->counters[c] += n;
}

#define LINK_ETH_HLEN 14 /* IEEE 802.3, without a tag */

static inline uint32_t link_header_bytes(const struct link *l)
{
	return l->info.has_eth ? LINK_ETH_HLEN : 0;
}

#endif
