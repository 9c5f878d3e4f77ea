/*
 * An ETH_P_ALL tap sees a frame before tcx drops it, an ETH_P_IP tap does not, and the stack does not
 * either; TCX_NEXT lets the next program decide, TC_ACT_OK ends the chain.
 */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>

#include "bpf_probe.h"

static int ip_tap(const char *ifname)
{
	struct sockaddr_ll sll = {.sll_family = AF_PACKET,
				  .sll_protocol = htons(ETHERTYPE_IP),
				  .sll_ifindex = if_nametoindex(ifname)};
	int fd = socket(AF_PACKET, SOCK_RAW, 0);
	must(bind(fd, (struct sockaddr *)&sll, sizeof sll) == 0);
	return fd;
}

int main(void)
{
	int peer, ifindex;
	uint8_t b[2048];
	enter_or_skip(&peer);
	ifindex = if_nametoindex("a");
	int all = packet_open("a"), ip = ip_tap("a");

	int drop = bpf_link_tcx_ingress(constant_program(BPF_PROG_TYPE_SCHED_CLS, 2), ifindex);
	fact(drop >= 0, "a program that drops attaches to tcx ingress");
	send_syn(peer, 81);
	fact(readable_within(all, 1000) && read(all, b, sizeof b) > 0, "an ETH_P_ALL tap sees a frame that tcx drops");

	int next = bpf_link_tcx_ingress(constant_program(BPF_PROG_TYPE_SCHED_CLS, -1), ifindex);
	fact(next >= 0, "a second program attaches in front");
	send_syn(peer, 82);
	fact(readable_within(all, 1000) && read(all, b, sizeof b) > 0, "it is seen again");

	int ok = bpf_link_tcx_ingress(constant_program(BPF_PROG_TYPE_SCHED_CLS, 0), ifindex);
	fact(ok >= 0, "a third program attaches in front");
	send_syn(peer, 83);
	/* The first answer is the third frame's: the two before it were dropped, behind TCX_NEXT too. */
	fact(is_answered(peer, 2000) == 83, "TC_ACT_OK ends the chain; behind TCX_NEXT the drop still counts");
	struct tcp_seen t;
	int n = read(ip, b, sizeof b);
	fact(frame_parse_tcp(b, n, true, &t) && t.dport == 83, "an ETH_P_IP tap does not see what tcx drops");
	return probe_end();
}
