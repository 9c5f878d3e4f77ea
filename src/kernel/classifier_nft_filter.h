/*
 * The packet socket's filter beside the nftables classifier, in classic BPF (no privilege beyond the socket's).
 * Internal to src/kernel.
 */
#ifndef FINESSE_KERNEL_CLASSIFIER_NFT_FILTER_H
#define FINESSE_KERNEL_CLASSIFIER_NFT_FILTER_H

#include <stdbool.h>

/*
 * Untagged frames to this host that carry TCP (any fragment of it), an ICMP error, or IPv6 extension headers behind
 * which TCP may be. 0 or -errno.
 */
int classifier_nft_filter(int packet_fd, bool has_eth);

#endif
