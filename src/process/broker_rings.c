/*
 * The receive rings of members: who was just connecting to one that died.
 *
 * A SYN in the ring of a dead process is read by nobody, and its sender repeats it after a second. Of the processes of
 * a group the table of flows tells who that is (broker_deaths.c). Of one that serves alone nothing does but the ring
 * itself. It lives as long as its packet socket, of which the broker has a descriptor.
 */
#include "process/broker.h"

#include "base/late.h"
#include "base/list.h"
#include "base/sys.h"
#include "link/remains.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"
#include "wire/tcp.h"

/* Those whose interface is gone: nobody says so. */
static void drop_stale(struct broker_rings *r)
{
	struct broker_rings stale = {.n = 0}, rest = {.n = 0};
	for (unsigned i = 0; i < r->n; i++) {
		struct broker_rings *to = link_remains_at(r->fd[i]) > 0 ? &rest : &stale;
		to->fd[to->n++] = r->fd[i];
	}
	broker_rings_forget(&stale);
	*r = rest;
}

bool broker_rings_add(struct broker_rings *r, struct broker_fds *in)
{
	if (in->n == 1 && !link_remains_are(in->fd[0]))
		return false;
	drop_stale(r);
	if (in->n != 1 || r->n == BROKER_RINGS_MAX) /* we are out of descriptors, or have enough of its: it goes without */
		return true;
	r->fd[r->n++] = in->fd[0];
	in->n = 0;
	return true;
}

void broker_rings_end(struct broker_rings *r, bool placed)
{
	for (unsigned i = 0; i < r->n; i++)
		broker_deaths_add_ring(r->fd[i], placed);
	r->n = 0;
}

void broker_rings_forget(struct broker_rings *r)
{
	int hold = r->n ? late_hold(r->fd, r->n) : -1;
	for (unsigned i = 0; i < r->n; i++)
		sys_close(r->fd[i]);
	late_let_go(hold);
	r->n = 0;
}

/* ---- what is in one ---- */

struct collect {
	struct link_remains_visit visit;
	struct flow_key *out;
	unsigned n, max;
};

/* The TCP segment in an IP packet without more between them. NULL: there is none. */
static const uint8_t *segment_of(const uint8_t *p, size_t len, struct flow_key *k, size_t *tcp_len)
{
	struct ipv4_header v4;
	struct ipv6_header v6;
	if (p[0] >> 4 == 4) {
		if (ipv4_parse(p, len, &v4) != IPV4_OK || v4.protocol != IP_PROTO_TCP || v4.more_fragments || v4.frag_offset || v4.total_len > len || v4.total_len < v4.header_len)
			return NULL;
		k->raddr = ip_addr_from_v4(v4.src);
		k->laddr = ip_addr_from_v4(v4.dst);
		*tcp_len = v4.total_len - v4.header_len;
		return p + v4.header_len;
	}
	if (ipv6_parse(p, len, &v6) != IPV6_OK || v6.next_header != IP_PROTO_TCP || v6.payload_len > len - IPV6_HDR_BYTES)
		return NULL;
	k->raddr = ip_addr_from_v6(v6.src);
	k->laddr = ip_addr_from_v6(v6.dst);
	*tcp_len = v6.payload_len;
	return p + IPV6_HDR_BYTES;
}

static void collect_syn(struct link_remains_visit *v, const uint8_t *ip, size_t len)
{
	struct collect *c = container_of(v, struct collect, visit);
	struct tcp_segment seg;
	struct flow_key key;
	size_t tcp_len;
	const uint8_t *tcp = c->n < c->max ? segment_of(ip, len, &key, &tcp_len) : NULL;
	if (!tcp || tcp_parse(tcp, tcp_len, &seg) < 0 || (seg.flags & (SEG_SYN | SEG_ACK | SEG_RST | SEG_FIN)) != SEG_SYN)
		return;
	key.lport = seg.dport;
	key.rport = seg.sport;
	c->out[c->n++] = key;
}

unsigned broker_ring_syns(int rx_fd, struct flow_key *out, unsigned max)
{
	struct collect c = {.visit.packet = collect_syn, .out = out, .max = max};
	link_remains_visit(rx_fd, &c.visit);
	return c.n;
}
