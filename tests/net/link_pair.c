#include "tests/net/link_pair.h"
#include "tests/suite.h"

#include <errno.h>
#include <linux/filter.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

void seen_frame(struct link_rx_handler *h, const struct link_rx *rx)
{
	struct seen *s = (struct seen *)h;
	s->n++;
	s->last = *rx;
	ck_assert_uint_le(rx->len, sizeof s->bytes);
	memcpy(s->bytes, rx->data, rx->len);
	if (s->on_frame)
		s->on_frame(s, rx);
}

struct seen seen_a, seen_b;
struct link *link_a, *link_b;

void sh(const char *cmd)
{
	int rc = system(cmd);
	ck_assert_msg(rc == 0, "%s: %d", cmd, rc);
}

void accept_only(struct link *l, uint16_t ethertype)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, SKF_AD_OFF + SKF_AD_PROTOCOL),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ethertype, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, 0x40000),
	    BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog prog = {.len = 4, .filter = code};
	ck_assert_int_eq(
	    setsockopt(link_rx_fd(l), SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog), 0);
}

struct link *open_link(const char *ifname, bool no_io_uring)
{
	struct link_config config = {.ifindex = if_nametoindex(ifname), .veth = ifname[0] == 'v', .no_io_uring = no_io_uring};
	struct link *l = NULL;
	int err = link_open_packet(&l, &config);
	ck_assert_msg(err == 0, "link_open_packet(%s): %s", ifname, strerror(-err));
	return l;
}

void make_pair(void)
{
	sh("ip link add va type veth peer name vb && ip link set va up && ip link set vb up");
	sh("while ip -o link show | grep '[ab]@v[ab]:' | grep -q 'DOWN '; do sleep 0.01; done");
}

void open_pair(bool no_io_uring)
{
	make_pair();
	memset(&seen_a, 0, sizeof seen_a);
	memset(&seen_b, 0, sizeof seen_b);
	seen_a.handler.frame = seen_b.handler.frame = seen_frame;
	link_a = open_link("va", no_io_uring);
	link_b = open_link("vb", no_io_uring);
	ck_assert_str_eq(link_info(link_a)->tx_backend, no_io_uring ? "sendmmsg" : "io_uring");
	accept_only(link_a, TEST_PROTO);
	accept_only(link_b, TEST_PROTO);
}

void close_pair(void)
{
	link_close(link_a);
	link_close(link_b);
	sh("ip link del va");
}

void wait_frames(struct link *l, struct seen *s, unsigned want)
{
	while (s->n < want) {
		struct pollfd p = {.fd = link_rx_fd(l), .events = POLLIN};
		if (!link_rx_pending(l))
			ck_assert_msg(poll(&p, 1, WAIT_MS) == 1, "%u of %u frames", s->n, want);
		link_drain(l, &s->handler, 64);
	}
}

uint8_t pattern(uint32_t i)
{
	return i * 31 + (i >> 8) * 7 + (i >> 16);
}

uint32_t eth_header(uint8_t *h, uint16_t proto)
{
	memset(h, 0xff, 6);
	memset(h + 6, 0x02, 6);
	h[12] = proto >> 8;
	h[13] = proto;
	return ETH_HLEN;
}

void check_seq(struct seen *s, const struct link_rx *rx)
{
	uint32_t seq;
	memcpy(&seq, rx->data + ETH_HLEN, sizeof seq);
	ck_assert_uint_ge(seq, s->next_seq); /* never back */
	s->gaps += seq - s->next_seq;
	s->next_seq = seq + 1;
}

void send_seq(uint32_t seq)
{
	static uint8_t zeros[1000];
	uint8_t hdr[ETH_HLEN + 4];
	struct iovec iov = {zeros, sizeof zeros};
	struct link_tx tx = {.hdr = hdr, .hdr_len = sizeof hdr, .payload = &iov, .n_payload = 1};
	eth_header(hdr, TEST_PROTO);
	memcpy(hdr + ETH_HLEN, &seq, sizeof seq);
	ck_assert_int_eq(link_send(link_a, &tx), 0);
}

void own_namespace(void)
{
	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	sh("ip link set lo up && sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
}

int run_suite(Suite *(*make)(void))
{
	if (geteuid() != 0)
		return 77;
	pid_t pid = fork();
	if (pid == 0)
		_exit(unshare(CLONE_NEWNET) ? 77 : 0);
	int status;
	waitpid(pid, &status, 0);
	if (status)
		return 77;
	return suite_main(make());
}
