/* What src/kernel/handover.c relies on. */
#include "tests/probes/probe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>

#define LPORT 8080
#define RPORT 4444
#define MSS   1300

static void set(int fd, int option, int value)
{
	must(setsockopt(fd, IPPROTO_TCP, option, &value, sizeof value) == 0);
}

static struct tcp_info info_of(int fd)
{
	struct tcp_info i;
	socklen_t len = sizeof i;
	must(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) == 0);
	return i;
}

static int reuse_of(int fd)
{
	int v = -1;
	socklen_t len = sizeof v;
	must(getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &v, &len) == 0);
	return v;
}

static struct sockaddr_in addr(const char *text, uint16_t port)
{
	return (struct sockaddr_in){
	    .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(text)};
}

/* 10.7.0.1:8080 – 10.7.0.99:4444 as an established socket, in repair, out of nothing. */
static int conjure(bool tell_mss)
{
	struct sockaddr_in l = addr("10.7.0.1", LPORT), r = addr("10.7.0.99", RPORT);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	must(fd >= 0);
	set(fd, TCP_REPAIR, TCP_REPAIR_ON);
	if (tell_mss)
		set(fd, TCP_MAXSEG, MSS);
	set(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
	set(fd, TCP_QUEUE_SEQ, 1000);
	set(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
	set(fd, TCP_QUEUE_SEQ, 5000);
	must(bind(fd, (struct sockaddr *)&l, sizeof l) == 0);
	must(connect(fd, (struct sockaddr *)&r, sizeof r) == 0);
	struct tcp_repair_opt opt[2] = {{TCPOPT_MAXSEG, MSS}, {TCPOPT_WINDOW, 0}};
	must(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, opt, sizeof opt) == 0);
	return fd;
}

static uint16_t checksum(uint32_t sum, const void *data, size_t len)
{
	const uint8_t *b = data;
	for (size_t i = 0; i < len; i += 2)
		sum += b[i] << 8 | b[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(~sum);
}

static void send_fin(int raw)
{
	struct {
		struct iphdr ip;
		struct tcphdr tcp;
	} p = {.ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP}};
	struct sockaddr_in to = addr("10.7.0.1", 0);
	p.ip.tot_len = htons(sizeof p);
	p.ip.saddr = inet_addr("10.7.0.99");
	p.ip.daddr = to.sin_addr.s_addr;
	p.tcp.source = htons(RPORT);
	p.tcp.dest = htons(LPORT);
	p.tcp.seq = htonl(5000);
	p.tcp.ack_seq = htonl(1000);
	p.tcp.doff = 5;
	p.tcp.fin = p.tcp.ack = 1;
	p.tcp.window = htons(500);
	uint32_t pseudo = IPPROTO_TCP + sizeof p.tcp;
	for (int i = 0; i < 8; i += 2)
		pseudo += ((uint8_t *)&p.ip.saddr)[i] << 8 | ((uint8_t *)&p.ip.saddr)[i + 1];
	p.tcp.check = checksum(pseudo, &p.tcp, sizeof p.tcp);
	must(sendto(raw, &p, sizeof p, 0, (struct sockaddr *)&to, sizeof to) == sizeof p);
}

int main(void)
{
	struct sockaddr_in l = addr("10.7.0.1", LPORT);
	probe_namespace();
	probe_run("ip addr add 10.7.0.1/24 dev va && "
		  "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.lo.rp_filter=1");
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	must(bind(listener, (struct sockaddr *)&l, sizeof l) == 0 && listen(listener, 5) == 0);

	int fd = conjure(true);
	fact(info_of(fd).tcpi_state == TCP_ESTABLISHED,
	     "repair makes an established socket, beside a listener without SO_REUSEADDR");
	unsigned mss = info_of(fd).tcpi_snd_mss;
	fact(mss <= MSS && mss >= MSS - 12, "TCP_MAXSEG before connect sets the MSS to send with");
	uint32_t ts = 0x10000001;
	set(fd, TCP_TIMESTAMP, ts & ~1u);
	socklen_t len = sizeof ts;
	must(getsockopt(fd, IPPROTO_TCP, TCP_TIMESTAMP, &ts, &len) == 0);
	fact(!(ts & 1) && ts - 0x10000000 < 1000, "TCP_TIMESTAMP with a clear low bit stays in ms");

	int raw = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
	must(raw >= 0);
	send_fin(raw);
	fact(probe_polls(fd, POLLRDHUP, PROBE_WAIT_MS) && info_of(fd).tcpi_state == TCP_CLOSE_WAIT,
	     "a FIN with the peer's source address reaches the socket by loopback (rp_filter on)");

	must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
	set(fd, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
	fact(reuse_of(fd) == 0, "leaving repair clears SO_REUSEADDR");
	set(fd, TCP_REPAIR, TCP_REPAIR_ON);
	must(close(fd) == 0);

	fd = conjure(false);
	fact(info_of(fd).tcpi_snd_mss <= 536, "without it, the MSS to send with stays 536");
	close(fd);
	return probe_end();
}
