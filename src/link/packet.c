/*
 * A link over AF_PACKET.
 *
 * Owns: a receive socket (bound to every protocol, with a TPACKET_V2 ring), a transmit socket
 * (bound to no protocol, so that the kernel never hands it a frame), and an io_uring for the
 * transmit socket where the host allows one.
 *
 * Invariants
 * - Nothing reaches the ring until the classifier has put its filter on link_rx_fd(): the socket
 * starts with a filter that rejects everything, attached before it is bound.
 * - Every slot handed to the handler is given back, in order, before link_drain returns
 * (packet_rx.c).
 * - Frames leave in the order of link_send. One that the kernel does not take holds back all behind
 * it (packet_tx.c).
 * - Nothing here sleeps. Nothing here allocates after link_open_packet.
 *
 * Threads: all under the engine's lock, by any thread; hence the io_uring is not
 * IORING_SETUP_SINGLE_ISSUER. fork: the child's copies share ring memory and sockets with the
 * parent; link_forget unmaps and closes them and does nothing else. Limits: TX_QUEUE_FRAMES,
 * TX_PENDING_BYTES, RX_RING_BYTES, RX_COPY_BYTES. References: packet(7),
 * Documentation/networking/packet_mmap.rst, include/uapi/linux/virtio_net.h.
 */
#include "link/packet.h"

#include "base/fd.h"
#include "base/sys.h"
#include "base/zeroed.h"

#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#ifndef ARPHRD_RAWIP
#define ARPHRD_RAWIP 519
#endif

/*
 * Payload of one super-segment. The kernel splits what is over 65,536 bytes with its headers
 * (GSO_LEGACY_MAX_SIZE): Ethernet, IPv6, TCP with all its options.
 */
#define HEADERS_MAX     (14 + 40 + 60)
#define GSO_PAYLOAD_MAX (65536 - HEADERS_MAX)

/* Whether frames of this hardware type start with an Ethernet header, with none, or are not for us.
 */
static int has_eth_from_arphrd(unsigned type)
{
	switch (type) {
	case ARPHRD_ETHER:
	case ARPHRD_LOOPBACK:
		return 1;
	case ARPHRD_NONE:
	case ARPHRD_RAWIP:
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

/*
 * Of an interface that goes to another network namespace its packet sockets hear no more, also when it comes back under
 * the same index.
 */
int packet_ifindex(int fd)
{
	struct sockaddr_ll at;
	socklen_t len = sizeof at;
	return sys_getsockname(fd, (struct sockaddr *)&at, &len) == 0 ? at.sll_ifindex : 0;
}

int packet_refresh_info(struct link *l)
{
	struct link_info *info = &l->info;
	int fd = packet_link_of(l)->tx.fd;
	if (packet_ifindex(fd) != info->ifindex)
		return -ENODEV;
	struct ifreq req = {.ifr_ifindex = info->ifindex};
	int err = sys_ioctl(fd, SIOCGIFNAME, &req);
	if (err < 0)
		return -ENODEV;
	memcpy(info->ifname, req.ifr_name, sizeof info->ifname);

	if (sys_ioctl(fd, SIOCGIFMTU, &req) < 0)
		return -ENODEV;
	info->mtu = req.ifr_mtu;
	if (sys_ioctl(fd, SIOCGIFHWADDR, &req) < 0)
		return -ENODEV;
	int has_eth = has_eth_from_arphrd(req.ifr_hwaddr.sa_family);
	if (has_eth < 0)
		return has_eth;
	info->has_eth = has_eth;
	memset(info->mac, 0, sizeof info->mac);
	if (has_eth)
		memcpy(info->mac, req.ifr_hwaddr.sa_data, sizeof info->mac);
	/* The kernel segments where the device cannot. */
	info->gso_v4 = info->gso_v6 = true;
	info->gso_max_bytes = packet_link_of(l)->tx.one_piece ? TX_ONE_PIECE_BYTES - HEADERS_MAX : GSO_PAYLOAD_MAX;
	return 0;
}

void packet_close(struct link *l)
{
	struct packet_link *p = packet_link_of(l);
	packet_rx_close(&p->rx);
	packet_tx_close(&p->tx);
	zeroed_free(p, sizeof *p);
}

int packet_rx_fd(const struct link *l)
{
	return packet_link_of_const(l)->rx.fd;
}

int packet_tx_fd(const struct link *l)
{
	return packet_link_of_const(l)->tx.fd;
}

static struct packet_link *packet_link_new(const struct link_config *config)
{
	struct packet_link *p = zeroed_new(sizeof *p);
	if (!p)
		return NULL;
	p->link.info.ifindex = config->ifindex;
	p->rx.fd = p->tx.fd = -1;
	p->no_io_uring = config->no_io_uring;
	/* the caller knows: of the kernel, it is asked with its lock of the network, for which a link shall not wait */
	p->tx.one_piece = config->veth;
	return p;
}

static int packet_complete(struct packet_link *p)
{
	int err = packet_rx_open_end(p);
	if (!err && !p->no_io_uring)
		packet_tx_open_uring(p);
	return err;
}

int link_complete(struct link *l)
{
	return packet_complete(packet_link_of(l));
}

static int packet_opened(struct packet_link *p, int err, struct link **out)
{
	if (err)
		packet_close(&p->link);
	else
		*out = &p->link;
	return err;
}

int link_open_packet(struct link **out, const struct link_config *config)
{
	struct packet_link *p = packet_link_new(config);
	if (!p)
		return -ENOMEM;
	int err = packet_tx_open(p);
	if (!err)
		err = packet_refresh_info(&p->link);
	if (!err)
		err = packet_rx_open(p, config->rx_ring_bytes);
	if (!err && !config->later)
		err = packet_complete(p);
	return packet_opened(p, err, out);
}

int link_adopt_packet(struct link **out, const struct link_config *config, int rx_fd, int tx_fd)
{
	struct packet_link *p = packet_link_new(config);
	if (!p) {
		fd_close(rx_fd);
		fd_close(tx_fd);
		return -ENOMEM;
	}
	p->rx.fd = rx_fd;
	p->tx.fd = tx_fd;
	int err = packet_tx_adopt(p);
	if (!err)
		err = packet_refresh_info(&p->link);
	if (!err)
		err = packet_rx_adopt(p, config->rx_ring_bytes);
	if (!err && !p->no_io_uring)
		packet_tx_open_uring(p);
	return packet_opened(p, err, out);
}

void link_packet_fds(const struct link *l, int *rx_fd, int *tx_fd)
{
	*rx_fd = packet_link_of_const(l)->rx.fd;
	*tx_fd = packet_link_of_const(l)->tx.fd;
}
