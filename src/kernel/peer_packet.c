#include "kernel/peer_packet.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/sys.h"
#include "wire/checksum.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"

size_t peer_packet_ip_len(const struct flow_key *key)
{
	return ip_addr_is_v4(&key->laddr) ? IPV4_HDR_MIN : IPV6_HDR_BYTES;
}

size_t peer_packet_finish(const struct flow_key *key, uint8_t ttl, uint8_t tos, uint8_t *packet, size_t tcp_len)
{
	bool v4 = ip_addr_is_v4(&key->laddr);
	size_t ip_len = peer_packet_ip_len(key);
	const uint8_t *src = v4 ? key->raddr.b + 12 : key->raddr.b;
	const uint8_t *dst = v4 ? key->laddr.b + 12 : key->laddr.b;
	uint8_t *tcp = packet + ip_len;
	memset(tcp + offsetof(struct tcphdr, check), 0, 2);
	uint64_t sum = v4 ? checksum_pseudo_v4(src, dst, IPPROTO_TCP, tcp_len) : checksum_pseudo_v6(src, dst, IPPROTO_TCP, tcp_len);
	checksum_store(tcp + offsetof(struct tcphdr, check), checksum_finish(checksum_add(sum, tcp, tcp_len)));
	if (v4)
		ipv4_build(&(struct ipv4_header){.src = src, .dst = dst, .ttl = ttl, .tos = tos, .protocol = IPPROTO_TCP,
						 .total_len = ip_len + tcp_len, .dont_fragment = true}, packet);
	else
		ipv6_build(&(struct ipv6_header){.src = src, .dst = dst, .hop_limit = ttl, .traffic_class = tos, .next_header = IPPROTO_TCP,
						 .payload_len = tcp_len}, packet);
	return ip_len + tcp_len;
}

int peer_packet_send(int raw, const struct ip_addr *to, const uint8_t *packet, size_t len, int ifindex)
{
	struct sockaddr_in to4 = {.sin_family = AF_INET};
	struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_scope_id = ifindex};
	memcpy(&to4.sin_addr, to->b + 12, sizeof to4.sin_addr);
	memcpy(&to6.sin6_addr, to->b, sizeof to6.sin6_addr);
	int n = ip_addr_is_v4(to) ? sys_sendto(raw, packet, len, MSG_DONTWAIT, &to4, sizeof to4)
					   : sys_sendto(raw, packet, len, MSG_DONTWAIT, &to6, sizeof to6);
	return n < 0 ? n : 0;
}

int peer_packet_repeat(const struct flow_key *key, uint8_t ttl, uint8_t tos, const uint8_t *tcp, size_t tcp_len, int ifindex)
{
	size_t ip_len = peer_packet_ip_len(key);
	if (tcp_len < sizeof(struct tcphdr) || ip_len + tcp_len > UINT16_MAX)
		return -EINVAL;
	uint8_t *packet = malloc(ip_len + tcp_len);
	int raw = packet ? sys_socket(ip_addr_is_v4(&key->laddr) ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW) : -ENOMEM;
	int err = raw < 0 ? raw : 0;
	if (!err) {
		memcpy(packet + ip_len, tcp, tcp_len);
		size_t len = peer_packet_finish(key, ttl, tos, packet, tcp_len);
		err = peer_packet_send(raw, &key->laddr, packet, len, ifindex);
		sys_close(raw);
	}
	free(packet);
	return err;
}
