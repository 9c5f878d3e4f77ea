/*
 * Another process's receive ring: see remains.h. Its memory may change while it is read, so every number is read once,
 * and checked.
 */
#include "link/remains.h"

#include "base/sockopt.h"
#include "base/sys.h"
#include "link/packet.h"

#include <string.h>
#include <sys/mman.h>

int link_remains_at(int rx_fd)
{
	return packet_ifindex(rx_fd);
}

bool link_remains_are(int rx_fd)
{
	return sockopt_int(rx_fd, SOL_SOCKET, SO_DOMAIN) == AF_PACKET;
}

static size_t copy_packet(const uint8_t *slot, uint8_t out[RX_SLOT_BYTES])
{
	const struct tpacket2_hdr *h = (const struct tpacket2_hdr *)slot;
	uint32_t mac = __atomic_load_n(&h->tp_mac, __ATOMIC_RELAXED), net = __atomic_load_n(&h->tp_net, __ATOMIC_RELAXED);
	uint32_t end = mac + __atomic_load_n(&h->tp_snaplen, __ATOMIC_RELAXED);
	if (net < sizeof *h || net < mac || end <= net || end > RX_SLOT_BYTES)
		return 0;
	memcpy(out, slot + net, end - net);
	return end - net;
}

void link_remains_visit(int rx_fd, struct link_remains_visit *v)
{
	uint8_t packet[RX_SLOT_BYTES];
	const uint8_t *ring = sys_mmap(NULL, RX_RING_BYTES, PROT_READ, MAP_SHARED, rx_fd, 0);
	if (sys_is_error(ring))
		return;
	for (const uint8_t *slot = ring; slot < ring + RX_RING_BYTES; slot += RX_SLOT_BYTES) {
		uint32_t status = __atomic_load_n(&((const struct tpacket2_hdr *)slot)->tp_status, __ATOMIC_ACQUIRE);
		size_t len = status & TP_STATUS_USER ? copy_packet(slot, packet) : 0;
		if (len)
			v->packet(v, packet, len);
	}
	sys_munmap((void *)ring, RX_RING_BYTES);
}
