/*
 * IP_PKTOPTIONS and IPV6_2292PKTOPTIONS: what a socket tells of the packets that it got (packet_seen.c). Everything
 * under the engine's lock.
 */
#ifndef FINESSE_SOCKET_PACKET_SEEN_H
#define FINESSE_SOCKET_PACKET_SEEN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct engine;
struct ip_input;
struct sock;

struct packet_seen {
	bool has_ttl, has_ifindex; /* otherwise it is as on a fresh socket */
	bool kept;                 /* IPv6: the packet itself is kept */
	uint8_t ttl, tos;
	int ifindex;               /* of the interface that it came by */
	uint32_t flowinfo;         /* IPv6: traffic class and flow label */
};

/* `in` may be the one that opens `s`, which a listener gives to accept: the last one counts. */
void packet_seen_opening(struct engine *e, struct sock *s, const struct ip_input *in);
/* `s` begins with a SYN, and has its listener's values. */
void packet_seen_syn(struct sock *s);
/* `s`, which has noted values, has taken `in`. */
void packet_seen_note(struct engine *e, struct sock *s, const struct ip_input *in);
/*
 * `control` is what a fresh socket with the same values answers, of IPPROTO_IP or IPPROTO_IPV6: it becomes the answer
 * of `s`.
 */
void packet_seen_tell(const struct sock *s, int level, void *control, socklen_t len);

#endif
