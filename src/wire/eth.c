#include "wire/eth.h"

#include <errno.h>

int eth_parse(const uint8_t *bytes, size_t len, struct eth_header *out)
{
	if (len < ETH_HDR_BYTES)
		return -EBADMSG;
	out->dst = bytes;
	out->src = bytes + ETH_MAC_BYTES;
	out->ethertype = load_be16(bytes + 12);
	return 0;
}

void eth_build(const uint8_t dst[6], const uint8_t src[6], uint16_t ethertype,
	       uint8_t out[ETH_HDR_BYTES])
{
	memcpy(out, dst, ETH_MAC_BYTES);
	memcpy(out + ETH_MAC_BYTES, src, ETH_MAC_BYTES);
	store_be16(out + 12, ethertype);
}
