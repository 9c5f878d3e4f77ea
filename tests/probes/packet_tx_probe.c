/* What src/link/packet_tx.c relies on. */
#include "tests/probes/probe.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <liburing.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <sys/ioctl.h>

#define PROTO 0x88b5 /* IEEE 802 local experimental */
#define BATCH 200
#define LEN   1000
#define SMALL 2048

static uint8_t frames[BATCH][LEN];
static struct iovec iovs[BATCH];
static struct mmsghdr msgs[BATCH];
static struct io_uring uring;
static int tx, rx;

static int packet_socket(const char *ifname, uint16_t proto)
{
	struct sockaddr_ll sll = {.sll_family = AF_PACKET,
				  .sll_protocol = htons(proto),
				  .sll_ifindex = if_nametoindex(ifname)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(proto));
	must(fd >= 0);
	must(bind(fd, (struct sockaddr *)&sll, sizeof sll) == 0);
	return fd;
}

static void make_frames(void)
{
	for (uint32_t i = 0; i < BATCH; i++) {
		memset(frames[i], 0xff, 12);
		frames[i][12] = PROTO >> 8;
		frames[i][13] = PROTO & 0xff;
		memcpy(frames[i] + ETH_HLEN, &i, sizeof i);
		iovs[i] = (struct iovec){frames[i], LEN};
		msgs[i].msg_hdr.msg_iov = &iovs[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
	}
}

/* All in one enter that waits for nothing. Returns the completions that are there; results[i] each. */
static unsigned submit(int32_t results[BATCH])
{
	struct io_uring_cqe *cqe;
	unsigned n = 0;
	for (uint32_t i = 0; i < BATCH; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&uring);
		io_uring_prep_sendmsg(sqe, tx, &msgs[i].msg_hdr, MSG_DONTWAIT);
		sqe->user_data = i;
	}
	must(io_uring_submit(&uring) == BATCH);
	for (; io_uring_peek_cqe(&uring, &cqe) == 0; n++) {
		results[cqe->user_data] = cqe->res;
		io_uring_cqe_seen(&uring, cqe);
	}
	return n;
}

static unsigned count_tasks(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/task");
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

/* How many arrive, and whether in order. */
static unsigned receive_all(bool *in_order)
{
	uint8_t frame[LEN];
	uint32_t last = 0, number;
	unsigned n = 0;
	*in_order = true;
	while (recv(rx, frame, sizeof frame, MSG_DONTWAIT) == LEN) {
		memcpy(&number, frame + ETH_HLEN, sizeof number);
		*in_order &= n == 0 || number > last;
		last = number;
		n++;
	}
	return n;
}

static void in_one_enter(void)
{
	int32_t results[BATCH];
	bool in_order, ok = true;
	unsigned n = submit(results);
	fact(n == BATCH, "MSG_DONTWAIT sends are complete when the submitting enter returns");
	for (unsigned i = 0; i < BATCH; i++)
		ok &= results[i] == LEN;
	n = receive_all(&in_order);
	fact(ok && n == BATCH && in_order, "and left in order of submission");
	fact(count_tasks() == 1, "no kernel worker thread was made");
}

static void *submit_elsewhere(void *arg)
{
	int32_t results[BATCH];
	*(unsigned *)arg = submit(results);
	return NULL;
}

static void any_thread(void)
{
	pthread_t t;
	unsigned n = 0;
	bool in_order;
	must(pthread_create(&t, NULL, submit_elsewhere, &n) == 0);
	must(pthread_join(t, NULL) == 0);
	fact(n == BATCH && receive_all(&in_order) == BATCH,
	     "another thread may submit to the same ring");
}

static void full_send_buffer(void)
{
	int32_t results[BATCH];
	int bytes = 30000, outq = 0;
	socklen_t len = sizeof bytes;
	must(setsockopt(tx, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) == 0);
	must(getsockopt(tx, SOL_SOCKET, SO_SNDBUF, &bytes, &len) == 0);
	probe_run("tc qdisc add dev va root tbf rate 8kbit burst 2kb limit 10mb");
	unsigned n = submit(results), sent = 0;
	bool no_room = true;
	while (sent < BATCH && results[sent] == LEN)
		sent++;
	for (unsigned i = sent; i < BATCH; i++)
		no_room &= results[i] == -EAGAIN;
	fact(n == BATCH && sent > 0 && sent < BATCH && no_room,
	     "a full send buffer is EAGAIN, at once, for all that follows");
	must(ioctl(tx, SIOCOUTQ, &outq) == 0);
	/* the first ones went through the shaper's burst */
	fact(outq > bytes && (unsigned)outq <= sent * (2 * LEN + 8192),
	     "SIOCOUTQ tells what frames occupy: less than twice their length and 8 KiB each");
	fact(sendmmsg(tx, msgs, BATCH, MSG_DONTWAIT) == -1 && errno == EAGAIN,
	     "sendmmsg says EAGAIN, too");
	fact(!probe_polls(tx, POLLOUT, 0), "poll says that the socket is not writable");
	probe_run("tc qdisc del dev va root");
	fact(probe_polls(tx, POLLOUT, PROBE_WAIT_MS), "and that it is, when the frames are gone");
}

/* Of every length up to SMALL. */
static void small_frames(void)
{
	static uint8_t frame[SMALL];
	unsigned held = 0;
	int before = 0, after = 0, bytes = 16 << 20;
	bool bounded = true;
	must(setsockopt(tx, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) == 0);
	memcpy(frame, frames[0], ETH_HLEN);
	probe_run("ip link set va mtu 3000");
	probe_run("tc qdisc add dev va root tbf rate 8kbit burst 4kb limit 20mb"); /* lets the first few through */
	for (int len = 60; len <= SMALL; len++, before = after) {
		must(send(tx, frame, len, MSG_DONTWAIT) == len);
		must(ioctl(tx, SIOCOUTQ, &after) == 0);
		held += after >= before + len;
		bounded &= after <= before + 2 * len + 2048;
	}
	fact(held > SMALL / 2 && bounded, "a frame of 2 KiB at most occupies less than twice its length and 2 KiB");
	probe_run("tc qdisc del dev va root");
	must(probe_polls(tx, POLLOUT, PROBE_WAIT_MS));
}

static void dropping_queue(void)
{
	int bytes = 1 << 20;
	unsigned n = 0, dropped = 0;
	must(setsockopt(tx, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) == 0);
	probe_run("tc qdisc add dev va root tbf rate 8kbit burst 2kb limit 20kb");
	for (; n < BATCH; n++)
		if (send(tx, frames[n], LEN, MSG_DONTWAIT) < 0) {
			must(errno == ENOBUFS);
			dropped++;
		}
	fact(dropped > 100, "a frame that the interface's queue drops is ENOBUFS");
	fact(probe_polls(tx, POLLOUT, 0), "of which poll knows nothing");
	probe_run("tc qdisc del dev va root");
}

int main(void)
{
	struct io_uring_params params = {.flags = IORING_SETUP_SUBMIT_ALL};
	uint8_t big[1600];
	bool in_order;
	probe_namespace();
	if (io_uring_queue_init_params(256, &uring, &params) < 0)
		return PROBE_SKIP;
	tx = packet_socket("va", 0);
	rx = packet_socket("vb", PROTO);
	int bytes = 4 << 20;
	must(setsockopt(rx, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) == 0);
	must(setsockopt(tx, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) == 0);
	make_frames();
	in_one_enter();
	any_thread();
	memcpy(big, frames[0], LEN);
	fact(send(tx, big, 1514, 0) == 1514 && send(tx, big, 1515, 0) == -1 && errno == EMSGSIZE,
	     "a frame over the MTU is EMSGSIZE");
	must(recv(rx, big, sizeof big, 0) == 1514);
	full_send_buffer();
	receive_all(&in_order);
	dropping_queue();
	small_frames();
	return probe_end();
}
