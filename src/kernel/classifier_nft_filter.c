#include "kernel/classifier_nft_filter.h"

#include <linux/filter.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/sys.h"

#define ANCILLARY(what) (SKF_AD_OFF + (what))
#define IPV4_PROTOCOL   9
#define IPV6_NEXT       6
#define IPV6_BYTES      40

/* Jumps count instructions after the next one; the two verdicts are the last. */
int classifier_nft_filter(int packet_fd, bool has_eth)
{
	unsigned l2 = has_eth ? ETH_HLEN : 0;
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ANCILLARY(SKF_AD_PKTTYPE)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_HOST, 0, 23),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ANCILLARY(SKF_AD_VLAN_TAG_PRESENT)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 21),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ANCILLARY(SKF_AD_PROTOCOL)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 9, 0), /* to 15 */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 18),
		/* 7: IPv4 */
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, l2 + IPV4_PROTOCOL),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 17, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ICMP, 0, 15),
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, l2),
		BPF_STMT(BPF_LD | BPF_B | BPF_IND, l2),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ICMP_DEST_UNREACH, 13, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ICMP_TIME_EXCEEDED, 12, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ICMP_PARAMETERPROB, 11, 10),
		/*
		 * 15: IPv6. Not what has a routing header: rules about those may be there that nobody asks
		 * (firewall_is_foreign_header)
		 */
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, l2 + IPV6_NEXT),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 9, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_HOPOPTS, 8, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_FRAGMENT, 7, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_DSTOPTS, 6, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ICMPV6, 0, 4),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, l2 + IPV6_BYTES),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, ICMPV6_DEST_UNREACH, 0, 2),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, ICMPV6_PARAMPROB, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0),
		/* 25 */
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
	};
	struct sock_fprog prog = {.len = sizeof code / sizeof code[0], .filter = code};
	return sys_setsockopt(packet_fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog);
}
