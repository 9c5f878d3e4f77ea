/* What src/link/packet_rx.c relies on. */
#include "tests/probes/probe.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <sys/mman.h>

#define PROTO     0x88b5 /* IEEE 802 local experimental */
#define SLOT      2048u
#define SLOTS     64u
#define RING      (SLOT * SLOTS)
#define BIG_FRAME 8000

static uint8_t *ring;
static uint32_t next_slot;

static int packet_socket(const char *ifname, uint16_t proto)
{
	struct sockaddr_ll sll = {.sll_family = AF_PACKET,
				  .sll_protocol = htons(proto),
				  .sll_ifindex = if_nametoindex(ifname)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
	must(fd >= 0);
	must(bind(fd, (struct sockaddr *)&sll, sizeof sll) == 0);
	return fd;
}

static void set(int fd, int option, int value)
{
	must(setsockopt(fd, SOL_PACKET, option, &value, sizeof value) == 0);
}

static void filter(int fd, uint16_t proto)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, SKF_AD_OFF + SKF_AD_PROTOCOL),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, proto, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, 0x40000),
	    BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog prog = {.len = 4, .filter = code};
	must(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog) == 0);
}

static int ring_socket(const char *ifname)
{
	struct sockaddr_ll sll = {.sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_ALL),
				  .sll_ifindex = if_nametoindex(ifname)};
	struct tpacket_req req = {.tp_block_size = RING,
				  .tp_block_nr = 1,
				  .tp_frame_size = SLOT,
				  .tp_frame_nr = SLOTS};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
	must(fd >= 0);
	filter(fd, PROTO);
	set(fd, PACKET_VERSION, TPACKET_V2);
	set(fd, PACKET_VNET_HDR, 1);
	set(fd, PACKET_COPY_THRESH, 1);
	set(fd, PACKET_IGNORE_OUTGOING, 1);
	must(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof req) == 0);
	ring = mmap(NULL, RING, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(ring != MAP_FAILED);
	must(bind(fd, (struct sockaddr *)&sll, sizeof sll) == 0);
	return fd;
}

static struct tpacket2_hdr *slot(uint32_t i)
{
	return (struct tpacket2_hdr *)(ring + i % SLOTS * SLOT);
}

static uint32_t status_of(uint32_t i)
{
	return __atomic_load_n(&slot(i)->tp_status, __ATOMIC_ACQUIRE);
}

static void give_back(uint32_t i)
{
	__atomic_store_n(&slot(i)->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
}

/* A frame whose first bytes, after the link header, are its number. */
static void send_frame(int fd, uint32_t number, uint32_t len)
{
	static uint8_t frame[65536];
	memset(frame, 0xff, 12);
	frame[12] = PROTO >> 8;
	frame[13] = PROTO & 0xff;
	memcpy(frame + ETH_HLEN, &number, sizeof number);
	must(send(fd, frame, len, 0) == (ssize_t)len);
}

static uint32_t number_in(const uint8_t *frame)
{
	uint32_t n;
	memcpy(&n, frame + ETH_HLEN, sizeof n);
	return n;
}

static void copies_follow_slots(int rx, int tx)
{
	static uint8_t copy[65536];
	bool in_step = true, flagged = true, whole = true;
	int bytes = 4 << 20;
	must(setsockopt(rx, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) == 0);
	for (uint32_t i = 0; i < 40; i++)
		send_frame(tx, i, i % 3 ? BIG_FRAME + i : 100);
	for (uint32_t i = 0; i < 40; i++, next_slot++) {
		struct tpacket2_hdr *s = slot(next_slot);
		must(probe_polls(rx, POLLIN, PROBE_WAIT_MS) && status_of(next_slot) & TP_STATUS_USER);
		flagged &= !!(status_of(next_slot) & TP_STATUS_COPY) == !!(i % 3);
		in_step &= number_in((uint8_t *)s + s->tp_mac) == i;
		if (status_of(next_slot) & TP_STATUS_COPY) {
			ssize_t n = recv(rx, copy, sizeof copy, MSG_DONTWAIT | MSG_TRUNC);
			whole &= n == (ssize_t)(s->tp_len + sizeof(struct virtio_net_hdr));
			in_step &= number_in(copy + sizeof(struct virtio_net_hdr)) == i;
		}
		give_back(next_slot);
	}
	fact(flagged, "frames larger than a slot are marked TP_STATUS_COPY, others are not");
	fact(in_step, "their copies come by recv in the order of the slots");
	fact(whole, "and whole, behind a virtio header");
	fact(recv(rx, copy, sizeof copy, MSG_DONTWAIT) == -1 && errno == EAGAIN,
	     "nothing else is queued on a socket with a ring");
}

static void full_buffer(int rx, int tx)
{
	static uint8_t copy[65536];
	int bytes = 30000;
	bool in_step = true, lengths = true;
	unsigned copies = 0, cut = 0;
	must(setsockopt(rx, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) == 0);
	for (uint32_t i = 0; i < 40; i++)
		send_frame(tx, i, BIG_FRAME);
	must(probe_polls(rx, POLLIN, PROBE_WAIT_MS));
	for (uint32_t i = 0; i < 40; i++, next_slot++) {
		struct tpacket2_hdr *s = slot(next_slot);
		must(status_of(next_slot) & TP_STATUS_USER);
		in_step &= number_in((uint8_t *)s + s->tp_mac) == i;
		lengths &= s->tp_len == BIG_FRAME && s->tp_snaplen < BIG_FRAME;
		if (status_of(next_slot) & TP_STATUS_COPY) {
			copies++;
			must(recv(rx, copy, sizeof copy, MSG_DONTWAIT) > 0);
			in_step &= number_in(copy + sizeof(struct virtio_net_hdr)) == i;
		} else {
			cut++;
		}
		give_back(next_slot);
	}
	fact(copies > 0 && cut > 0, "with a full receive buffer some frames have no copy, and no mark");
	fact(in_step && lengths, "slots and copies stay in step then, and slots tell the true length");
}

static void full_ring(int rx, int tx)
{
	struct tpacket_stats stats;
	socklen_t len = sizeof stats;
	must(getsockopt(rx, SOL_PACKET, PACKET_STATISTICS, &stats, &len) == 0);
	for (uint32_t i = 0; i < SLOTS + 10; i++)
		send_frame(tx, i, 100);
	must(probe_polls(rx, POLLIN, PROBE_WAIT_MS));
	must(getsockopt(rx, SOL_PACKET, PACKET_STATISTICS, &stats, &len) == 0);
	fact(stats.tp_drops == 10, "a full ring drops what comes, and counts it");
	must(getsockopt(rx, SOL_PACKET, PACKET_STATISTICS, &stats, &len) == 0);
	fact(stats.tp_drops == 0, "reading the statistics resets them");
	for (uint32_t i = 0; i < SLOTS; i++)
		give_back(next_slot++);
	fact(!probe_polls(rx, POLLIN, 0), "poll is quiet when every slot is given back");

	send_frame(tx, 1, 100);
	send_frame(tx, 2, 100);
	give_back(next_slot + 1);
	fact(!probe_polls(rx, POLLIN, 0) && status_of(next_slot) & TP_STATUS_USER,
	     "poll looks at the newest slot only: an older one that waits is not seen");
	give_back(next_slot);
	next_slot += 2;
}

static void who_sees_what(int rx, int tx, int tx_only)
{
	int own = packet_socket("vb", ETH_P_ALL);
	filter(own, PROTO);
	send_frame(tx_only, 7, 100);
	uint8_t frame[200];
	fact(probe_polls(own, POLLIN, PROBE_WAIT_MS) && recv(own, frame, sizeof frame, 0) == 100,
	     "an ETH_P_ALL socket sees what its interface sends");
	fact(!(status_of(next_slot) & TP_STATUS_USER), "unless PACKET_IGNORE_OUTGOING is set");
	send_frame(tx, 8, 100);
	must(probe_polls(rx, POLLIN, PROBE_WAIT_MS));
	give_back(next_slot++);
	fact(!probe_polls(tx_only, POLLIN, 0), "a socket bound to protocol 0 receives nothing");
	close(own);
}

int main(void)
{
	probe_namespace();
	probe_run("ip link set va mtu 9000 && ip link set vb mtu 9000");
	int rx = ring_socket("vb");
	int tx = packet_socket("va", 0);
	int tx_only = packet_socket("vb", 0);
	copies_follow_slots(rx, tx);
	full_ring(rx, tx);
	who_sees_what(rx, tx, tx_only);
	full_buffer(rx, tx);
	return probe_end();
}
