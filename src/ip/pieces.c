/*
 * Theory of operation: packets in pieces
 *
 * The classifier gives the engine the first fragments of what is its own, and of what follows them all that carries TCP
 * to this host, since later fragments have no ports. Of those, what belongs to the kernel's connections never gets a
 * first fragment here, and ages.
 *
 * Owns DATAGRAMS places, each with room for the longest packet, in one mapping: pages that nobody wrote to cost
 * nothing. A place belongs to a packet from its first fragment to come (whichever that is) until the packet is whole,
 * or wrong, or old; where all are taken that goes which was begun first. There is no timer: a place that is old is
 * free.
 *
 * As Linux: what overlaps something else spoils the packet (RFC 5722), what is there already is passed over. ECN's bits
 * are put together by RFC 3168 §5.3.
 */
#include "ip/pieces.h"

#include <string.h>
#include <sys/mman.h>

#include "base/sys.h"
#include "base/time.h"
#include "wire/bytes.h"
#include "wire/checksum.h"
#include "wire/eth.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"
#include "wire/tcp.h"

#define DATAGRAMS      32
#define UNIT           8u                      /* offsets count in these */
#define PAYLOAD_MAX    65536u                  /* more than either length field can say */
#define HEADERS_MAX    (ETH_HDR_BYTES + 60u)   /* the longest of IPv4's */
#define V4_LIFE_US     (30 * USEC_PER_SEC)     /* Linux: net.ipv4.ipfrag_time */
#define V6_LIFE_US     (60 * USEC_PER_SEC)     /* RFC 8200 §4.5 */
#define V4_FLAGS_AT    6
#define V4_CHECKSUM_AT 10
#define V6_NEXT_AT     6
#define V6_FRAGMENT    44
#define FRAGMENT_BYTES 8
#define SEEN_NOT_ECT   (1 << ECN_NOT_ECT)
#define SEEN_CE        (1 << ECN_CE)

struct packet_id {
	uint8_t src[16], dst[16];
	uint32_t id;
	uint8_t v6, zero[3];
};

struct fragment {
	struct packet_id of;
	const uint8_t *headers; /* of link and IP */
	uint32_t headers_len;
	const uint8_t *bytes;
	uint32_t len, offset;
	bool more;
	uint8_t ecn, protocol;
};

struct datagram {
	struct packet_id of;
	int64_t until_us; /* 0: nobody's */
	uint64_t nth; /* of all that were begun; many may be in one turn */
	uint32_t have, end, total; /* bytes; end: of what lies farthest behind; total 0: the last has not come */
	uint32_t headers_len; /* 0: the beginning has not come */
	uint8_t headers[HEADERS_MAX], ecns, protocol;
	uint64_t units[PAYLOAD_MAX / UNIT / 64];
	uint8_t payload[PAYLOAD_MAX];
};

struct pieces {
	struct datagram datagrams[DATAGRAMS];
	uint64_t begun;
	uint8_t whole[HEADERS_MAX + PAYLOAD_MAX];
};

struct pieces *pieces_new(void)
{
	void *p = sys_mmap(NULL, sizeof(struct pieces), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return sys_is_error(p) ? NULL : p;
}

void pieces_free(struct pieces *r)
{
	if (r)
		sys_munmap(r, sizeof *r);
}

/* ---- a fragment ---- */

static bool read_v4(const uint8_t *ip, uint32_t len, struct fragment *f)
{
	struct ipv4_header h;
	if (ipv4_parse(ip, len, &h) != IPV4_OK || h.total_len > len || h.protocol != IP_PROTO_TCP)
		return false;
	memcpy(f->of.src, h.src, 4);
	memcpy(f->of.dst, h.dst, 4);
	f->of.id = h.id;
	f->headers_len += h.header_len;
	f->bytes = ip + h.header_len;
	f->len = h.total_len - h.header_len;
	f->offset = h.frag_offset;
	f->more = h.more_fragments;
	f->ecn = h.tos & 3;
	f->protocol = h.protocol;
	return true;
}

/*
 * Where another extension header comes before the fragment's: nobody sends that. A first fragment that does not have
 * the whole of TCP's header is none (RFC 8200 §4.5).
 */
static bool read_v6(const uint8_t *ip, uint32_t len, struct fragment *f)
{
	struct ipv6_header h;
	if (ipv6_parse(ip, len, &h) != IPV6_OK || h.next_header != V6_FRAGMENT || h.payload_len < FRAGMENT_BYTES || h.payload_len > len - IPV6_HDR_BYTES)
		return false;
	const uint8_t *fragment = ip + IPV6_HDR_BYTES;
	memcpy(f->of.src, h.src, 16);
	memcpy(f->of.dst, h.dst, 16);
	f->of.id = load_be32(fragment + 4);
	f->of.v6 = 1;
	f->headers_len += IPV6_HDR_BYTES;
	f->bytes = fragment + FRAGMENT_BYTES;
	f->len = h.payload_len - FRAGMENT_BYTES;
	f->offset = load_be16(fragment + 2) & 0xfff8;
	f->more = fragment[3] & 1;
	f->ecn = h.traffic_class & 3;
	f->protocol = fragment[0];
	return f->offset || f->protocol != IP_PROTO_TCP || f->len >= TCP_HDR_MIN;
}

static bool read_fragment(const struct link_rx *rx, bool has_eth, struct fragment *f)
{
	uint32_t link_len = has_eth ? ETH_HDR_BYTES : 0;
	*f = (struct fragment){.headers = rx->data, .headers_len = link_len};
	if (rx->len <= link_len || rx->len < rx->wire_len)
		return false;
	bool v6 = rx->data[link_len] >> 4 == 6;
	if (!(v6 ? read_v6 : read_v4)(rx->data + link_len, rx->len - link_len, f))
		return false;
	return f->len && f->offset + f->len < PAYLOAD_MAX && (!f->more || f->len % UNIT == 0);
}

/* ---- its packet ---- */

static struct datagram *find(struct pieces *r, int64_t now_us, const struct packet_id *of)
{
	struct datagram *oldest = &r->datagrams[0];
	for (struct datagram *d = r->datagrams; d < r->datagrams + DATAGRAMS; d++) {
		if (d->until_us <= now_us)
			d->until_us = d->nth = 0;
		else if (memcmp(&d->of, of, sizeof *of) == 0)
			return d;
		if (d->nth < oldest->nth)
			oldest = d;
	}
	oldest->of = *of;
	oldest->nth = ++r->begun;
	oldest->until_us = now_us + (of->v6 ? V6_LIFE_US : V4_LIFE_US);
	oldest->have = oldest->end = oldest->total = oldest->headers_len = 0;
	oldest->ecns = 0;
	memset(oldest->units, 0, sizeof oldest->units);
	return oldest;
}

/* How many of its units are there. */
static uint32_t units_there(const struct datagram *d, uint32_t first, uint32_t n)
{
	uint32_t there = 0;
	for (uint32_t i = first; i < first + n; i++)
		there += d->units[i / 64] >> i % 64 & 1;
	return there;
}

/* False: it contradicts what is there. */
static bool put_in(struct datagram *d, const struct fragment *f)
{
	uint32_t first = f->offset / UNIT, n = (f->len + UNIT - 1) / UNIT, end = f->offset + f->len;
	uint32_t there = units_there(d, first, n);
	if (there)
		return there == n;
	if (d->total ? !f->more || end > d->total : !f->more && end < d->end)
		return false;
	if (!f->more)
		d->total = end;
	d->end = end > d->end ? end : d->end;
	for (uint32_t i = first; i < first + n; i++)
		d->units[i / 64] |= 1ull << i % 64;
	memcpy(d->payload + f->offset, f->bytes, f->len);
	d->have += f->len;
	d->ecns |= 1 << f->ecn;
	if (f->offset == 0) {
		memcpy(d->headers, f->headers, f->headers_len);
		d->headers_len = f->headers_len;
		d->protocol = f->protocol;
	}
	return true;
}

/* ---- the whole ---- */

static void head_v4(uint8_t *ip, uint32_t header_len, uint32_t payload_len, bool ce)
{
	if (ce)
		ip[1] |= 3;
	store_be16(ip + 2, header_len + payload_len);
	store_be16(ip + V4_FLAGS_AT, 0);
	store_be16(ip + V4_CHECKSUM_AT, 0);
	checksum_store(ip + V4_CHECKSUM_AT, checksum_finish(checksum_add(0, ip, header_len)));
}

static void head_v6(uint8_t *ip, uint8_t protocol, uint32_t payload_len, bool ce)
{
	if (ce)
		ip[1] |= 3 << 4;
	store_be16(ip + 4, payload_len);
	ip[V6_NEXT_AT] = protocol;
}

static bool make_whole(struct pieces *r, const struct datagram *d, const struct link_rx *rx, bool has_eth, struct link_rx *whole)
{
	uint32_t link_len = has_eth ? ETH_HDR_BYTES : 0, ip_len = d->headers_len - link_len;
	bool ce = d->ecns & SEEN_CE;
	if (((d->ecns & SEEN_NOT_ECT) && d->ecns != SEEN_NOT_ECT) || (!d->of.v6 && ip_len + d->total > IPV4_LEN_MAX))
		return false;
	memcpy(r->whole, d->headers, d->headers_len);
	memcpy(r->whole + d->headers_len, d->payload, d->total);
	if (d->of.v6)
		head_v6(r->whole + link_len, d->protocol, d->total, ce);
	else
		head_v4(r->whole + link_len, ip_len, d->total, ce);
	*whole = *rx;
	whole->data = r->whole;
	whole->len = whole->wire_len = d->headers_len + d->total;
	whole->csum_ok = false;
	whole->gso_size = 0;
	return true;
}

bool pieces_add(struct pieces *r, int64_t now_us, const struct link_rx *rx, bool has_eth, struct link_rx *whole)
{
	struct fragment f;
	if (!read_fragment(rx, has_eth, &f))
		return false;
	struct datagram *d = find(r, now_us, &f.of);
	if (!put_in(d, &f)) {
		d->until_us = 0;
		return false;
	}
	if (!d->total || d->have != d->total)
		return false;
	d->until_us = 0;
	return make_whole(r, d, rx, has_eth, whole);
}
