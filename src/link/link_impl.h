/* What all files of a link know of it. Private to src/link. */
#ifndef FINESSE_LINK_LINK_IMPL_H
#define FINESSE_LINK_LINK_IMPL_H

#include "link/link.h"

/* First member of struct packet_link. */
struct link {
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
