/*
 * TCP_SAVE_SYN: Linux's tcp_reqsk_record_syn. With 1 the IP and TCP headers of the SYN, with 2 those of the link, too;
 * never its text. A cookie's connection has none.
 *
 * The bytes are those of the frame in the packet ring. Where the host's rules judge a SYN, what arrives here is the
 * judge's record of it, which lacks the headers before TCP's: such a listener is the kernel's.
 */
#include "socket/engine.h"
#include "socket/saved_syn.h"

#include "base/user.h"
#include "wire/eth.h"
#include "wire/ipv6.h"

#include <errno.h>
#include <string.h>

#define SAVE_WITH_LINK 2

bool saved_syn_may_carry(const struct engine *e, int value)
{
	return !value || !e->judged;
}

/* Where TCP's header begins, from the IP header on, in a frame that was found right; 0: it is not all there. */
static uint32_t tcp_offset(const uint8_t *ip, uint32_t len, bool v6)
{
	struct ipv6_upper upper;
	if (!v6)
		return (ip[0] & 0xf) * 4;
	if (ipv6_walk(ip + IPV6_HDR_BYTES, len - IPV6_HDR_BYTES, ip[6], &upper) != IPV6_OK)
		return 0;
	return IPV6_HDR_BYTES + upper.offset;
}

void saved_syn_note(struct engine *e, struct sock *s)
{
	int how = option_values_number(s->values, OPTION_TCP_SAVE_SYN);
	const struct link_rx *f = e->frame;
	if (!how || !f)
		return;
	uint32_t link = iface_info(e->arrived)->has_eth ? ETH_HDR_BYTES : 0;
	const uint8_t *ip = f->data + link;
	uint32_t tcp = tcp_offset(ip, f->len - link, !ip_addr_is_v4(&s->flow.key.raddr));
	if (!tcp || link + tcp + TCP_HDR_MIN > f->len)
		return;
	uint32_t start = how == SAVE_WITH_LINK ? 0 : link, end = link + tcp + (ip[tcp + 12] >> 4) * 4;
	uint8_t *bytes = end <= f->len ? engine_alloc(e, end - start) : NULL;
	if (!bytes)
		return;
	memcpy(bytes, f->data + start, end - start);
	s->saved_syn = bytes;
	s->saved_syn_len = end - start;
}

void saved_syn_forget(struct engine *e, struct sock *s)
{
	if (s->saved_syn)
		engine_free(e, s->saved_syn, s->saved_syn_len);
	s->saved_syn = NULL;
}

/* Too little room: the length is told, and the bytes stay. */
int saved_syn_get(struct engine *e, struct sock *s, void *val, socklen_t *len)
{
	int room = *len;
	if (room < 0)
		return -EINVAL;
	if (!user_may_write(len, sizeof *len))
		return -EFAULT;
	*len = s->saved_syn_len;
	if (room < s->saved_syn_len)
		return -EINVAL;
	if (!user_may_write(val, s->saved_syn_len))
		return -EFAULT;
	memcpy(val, s->saved_syn, s->saved_syn_len);
	saved_syn_forget(e, s);
	return 0;
}
