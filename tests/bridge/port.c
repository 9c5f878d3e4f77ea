/* A packet socket of the bridge; see port.h. */
#include "port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES (64 << 20) /* kernel buffers: a burst while this process is not scheduled */

static int fail(struct port *p, const char *what)
{
	int err = errno;
	fprintf(stderr, "bridge: %s: %s: %s\n", p->name, what, strerror(err));
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	return -err;
}

static int set_options(struct port *p, int ifindex)
{
	int one = 1, bytes = BUFFER_BYTES;
	struct packet_mreq promiscuous = {.mr_ifindex = ifindex, .mr_type = PACKET_MR_PROMISC};
	if (setsockopt(p->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) ||
	    setsockopt(p->fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one) ||
	    setsockopt(p->fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one) ||
	    setsockopt(p->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) ||
	    setsockopt(p->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) ||
	    setsockopt(p->fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes))
		return -1;
	return 0;
}

int port_open(struct port *p, const char *name)
{
	*p = (struct port){.name = name, .fd = -1};
	struct ifreq ifr = {0};
	if (strlen(name) >= sizeof ifr.ifr_name) {
		errno = ENODEV;
		return fail(p, "no such interface");
	}
	strcpy(ifr.ifr_name, name);
	struct sockaddr_ll sll = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	sll.sll_ifindex = (int)if_nametoindex(name);
	if (!sll.sll_ifindex)
		return fail(p, "no such interface");
	p->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (p->fd < 0)
		return fail(p, "packet socket");
	if (ioctl(p->fd, SIOCGIFMTU, &ifr) < 0)
		return fail(p, "MTU");
	p->frame_max = (uint32_t)ifr.ifr_mtu + ETH_HLEN;
	if (p->frame_max > PORT_FRAME_MAX) {
		errno = EMSGSIZE;
		return fail(p, "MTU above 9000");
	}
	if (set_options(p, sll.sll_ifindex) < 0)
		return fail(p, "socket options");
	if (bind(p->fd, (struct sockaddr *)&sll, sizeof sll) < 0)
		return fail(p, "bind");
	return 0;
}

void port_close(struct port *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

static bool refuse(struct port *p, uint64_t *counter, const char *why)
{
	if ((*counter)++ == 0)
		fprintf(stderr, "bridge: %s: frames are dropped: %s\n", p->name, why);
	return false;
}

static bool is_wire_frame(struct port *p, struct msghdr *m, uint32_t len)
{
	struct tpacket_auxdata aux = {0};
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
		if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA)
			memcpy(&aux, CMSG_DATA(c), sizeof aux);
	if (len > p->frame_max || (m->msg_flags & MSG_TRUNC))
		return refuse(p, &p->counters.oversized, "longer than the MTU (the sender's tso, gso are on)");
	if (aux.tp_status & TP_STATUS_CSUMNOTREADY)
		return refuse(p, &p->counters.unfinished, "checksum not computed (the sender's tx-checksumming is on)");
	if (aux.tp_status & TP_STATUS_VLAN_VALID)
		return refuse(p, &p->counters.tagged, "VLAN tag");
	return true;
}

/* What to add to the kernel's stamps. */
static int64_t since_real(void)
{
	struct timespec real, mono;
	clock_gettime(CLOCK_REALTIME, &real);
	clock_gettime(CLOCK_MONOTONIC, &mono);
	return (int64_t)(mono.tv_sec - real.tv_sec) * USEC_PER_SEC + (mono.tv_nsec - real.tv_nsec) / NSEC_PER_USEC;
}

/* Never before the frame before it, nor in the future: the two clocks are not read at one time. */
static int64_t came_at(struct port *p, struct msghdr *m, int64_t offset, int64_t now)
{
	struct timespec stamp;
	int64_t at = now;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS)
			continue;
		memcpy(&stamp, CMSG_DATA(c), sizeof stamp);
		at = (int64_t)stamp.tv_sec * USEC_PER_SEC + stamp.tv_nsec / NSEC_PER_USEC + offset;
	}
	if (at > now)
		at = now;
	if (at > p->came_us)
		p->came_us = at;
	return p->came_us;
}

int port_receive(struct port *p, struct impair *out, int64_t now)
{
	static uint8_t frames[PORT_BATCH][PORT_FRAME_MAX + 1];
	static _Alignas(struct cmsghdr) char control[PORT_BATCH][CMSG_SPACE(sizeof(struct tpacket_auxdata)) + CMSG_SPACE(sizeof(struct timespec))];
	struct mmsghdr m[PORT_BATCH];
	struct iovec iov[PORT_BATCH];
	for (int i = 0; i < PORT_BATCH; i++) {
		iov[i] = (struct iovec){frames[i], sizeof frames[i]};
		m[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1, .msg_control = control[i],
					       .msg_controllen = sizeof control[i]};
	}
	int n = recvmmsg(p->fd, m, PORT_BATCH, MSG_DONTWAIT, NULL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	int64_t offset = since_real();
	for (int i = 0; i < n; i++)
		if (is_wire_frame(p, &m[i].msg_hdr, m[i].msg_len))
			impair_send(out, came_at(p, &m[i].msg_hdr, offset, now), frames[i], m[i].msg_len);
	return n;
}

void port_send(struct port *p, struct impair *from, int64_t now)
{
	const struct impair_frame *f;
	p->blocked = false;
	while ((f = impair_peek(from, now))) {
		if (send(p->fd, f->bytes, f->len, MSG_DONTWAIT) < 0) {
			p->blocked = errno == EAGAIN || errno == EINTR; /* ENOBUFS: the interface's queue has dropped it */
			if (p->blocked)
				return;
			p->counters.unsent++;
		}
		int64_t late = now - f->at;
		p->counters.late += late > PORT_LATE_US;
		if (late > p->counters.latest_us)
			p->counters.latest_us = late;
		impair_pop(from);
	}
}
