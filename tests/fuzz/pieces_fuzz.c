/*
 * Fuzz target for packets in pieces (ip/pieces.h): fragments of a few packets, in any order, twice, overlapping, with
 * time between them.
 *
 * The input is a little program: how a last packet is cut, and steps, each with its arguments; what is missing at its
 * end reads as 0. A fragment is raw, or has its lengths and its checksum made right, so that the fuzzer need not guess
 * them. Each byte of a packet is a function of the packet and of its place. Asserts, beside what the sanitizers see:
 *  - a packet that is called whole is a well-formed one, no longer than what was given of it, and each of its bytes was
 *    given and is right,
 *  - whatever came before, a packet of which each piece comes once, in time, is whole with the last of them and not
 *    before.
 */
#include <linux/if_packet.h>
#include <string.h>

#include "base/time.h"
#include "fuzz.h"
#include "ip/ip.h"
#include "ip/pieces.h"
#include "wire/bytes.h"
#include "wire/checksum.h"
#include "wire/eth.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"

#define STEPS_MAX   200
#define PACKETS     8 /* the lowest bit of a packet's number: IPv6 */
#define PLACES      0x10000
#define FRAME_MAX   (ETH_HDR_BYTES + IPV4_HDR_MAX + PLACES)
#define OPTIONS_MAX 10 /* words of IPv4's */
#define PARTS_MAX   6
#define V6_FRAGMENT 44
#define IPV4_HDR_MAX (IPV4_HDR_MIN + 4 * OPTIONS_MAX)

#define check(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fuzz_fail(__FILE__, __LINE__, #cond);                                      \
	} while (0)

enum step { STEP_FRAGMENT, STEP_RAW, STEP_WAIT, STEP_COUNT };

struct part {
	uint32_t at, len;
	bool more;
	uint8_t ecn, words; /* of options */
	uint8_t protocol;
};

static struct world {
	struct pieces *pieces;
	int64_t now;
	struct link_rx whole;
	bool raw; /* fragments that may lie have been given: bytes prove nothing */
	uint8_t given[PACKETS + 2][PLACES / 8];
	uint32_t longest[PACKETS + 2];
	const uint8_t *in;
	size_t left;
} w;

static uint8_t take8(void)
{
	if (!w.left)
		return 0;
	w.left--;
	return *w.in++;
}

static uint16_t take16(void)
{
	uint16_t high = take8();
	return high << 8 | take8();
}

static uint8_t byte_at(unsigned packet, uint32_t place)
{
	return (place * 2654435761u ^ packet * 40503u) >> 11;
}

/* ---- what is given ---- */

static uint32_t build_v4(uint8_t *ip, unsigned packet, const struct part *p)
{
	uint32_t headers = IPV4_HDR_MIN + p->words * 4;
	memset(ip, 1, headers); /* options: no operation */
	ip[0] = 4 << 4 | headers / 4;
	ip[1] = p->ecn;
	store_be16(ip + 2, headers + p->len);
	store_be16(ip + 4, packet);
	store_be16(ip + 6, p->at / 8 | p->more << 13);
	ip[8] = 64;
	ip[9] = p->protocol;
	store_be16(ip + 10, 0);
	store_be32(ip + 12, 0x0a000001);
	store_be32(ip + 16, 0x0a000002);
	checksum_store(ip + 10, checksum_finish(checksum_add(0, ip, headers)));
	return headers;
}

static uint32_t build_v6(uint8_t *ip, unsigned packet, const struct part *p)
{
	static const uint8_t ours[16] = {0xfd, [15] = 2}, peers[16] = {0xfd, [15] = 1};
	uint8_t *fragment = ip + IPV6_HDR_BYTES;
	struct ipv6_header h = {.traffic_class = p->ecn, .payload_len = 8 + p->len, .next_header = V6_FRAGMENT, .hop_limit = 64, .src = peers, .dst = ours};
	ipv6_build(&h, ip);
	fragment[0] = p->protocol;
	fragment[1] = 0;
	store_be16(fragment + 2, p->at | p->more);
	store_be32(fragment + 4, packet);
	return IPV6_HDR_BYTES + 8;
}

static bool give(const uint8_t *frame, uint32_t len)
{
	uint8_t *exact = malloc(len ? len : 1); /* so that a read past it is seen */
	struct link_rx rx = {.data = exact, .len = len, .wire_len = len, .pkttype = PACKET_HOST};
	check(exact);
	memcpy(exact, frame, len);
	bool whole = pieces_add(w.pieces, w.now, &rx, true, &w.whole);
	free(exact);
	return whole;
}

static bool give_part(unsigned packet, const struct part *p)
{
	static uint8_t frame[FRAME_MAX];
	bool v6 = packet & 1;
	memset(frame, 2, 12);
	store_be16(frame + 12, v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4);
	uint32_t headers = ETH_HDR_BYTES + (v6 ? build_v6 : build_v4)(frame + ETH_HDR_BYTES, packet, p);
	for (uint32_t i = 0; i < p->len && p->at + i < PLACES; i++) {
		frame[headers + i] = byte_at(packet, p->at + i);
		w.given[packet][(p->at + i) / 8] |= 1 << (p->at + i) % 8;
	}
	if (p->at + p->len > w.longest[packet])
		w.longest[packet] = p->at + p->len;
	return give(frame, headers + p->len);
}

/* ---- what is whole ---- */

static void check_whole(unsigned packet)
{
	bool v6 = packet & 1;
	const uint8_t *ip = w.whole.data + ETH_HDR_BYTES, *payload;
	uint32_t len = w.whole.len - ETH_HDR_BYTES;
	struct ipv4_header h4;
	struct ipv6_header h6;
	check(w.whole.wire_len == w.whole.len && w.whole.len > ETH_HDR_BYTES);
	if (v6) {
		check(ipv6_parse(ip, len, &h6) == IPV6_OK && h6.payload_len == len - IPV6_HDR_BYTES);
		payload = ip + IPV6_HDR_BYTES;
	} else {
		check(ipv4_parse(ip, len, &h4) == IPV4_OK && h4.total_len == len && !h4.more_fragments && !h4.frag_offset);
		payload = ip + h4.header_len;
	}
	len -= payload - ip;
	check(w.raw || len <= w.longest[packet]);
	for (uint32_t i = 0; !w.raw && i < len; i++)
		check(payload[i] == byte_at(packet, i) && (w.given[packet][i / 8] >> i % 8 & 1));
	struct ip_input in;
	ip_input_parse(&w.whole, true, &in); /* whatever it says of it */
}

/* ---- the steps ---- */

static void step_fragment(void)
{
	unsigned packet = take8() % PACKETS;
	uint16_t at = take16(), len = take16();
	uint8_t how = take8();
	struct part p = {.at = at & 0xfff8, .len = len, .more = how & 1, .ecn = how >> 1 & 3, .words = how >> 3 & 1 ? take8() % (OPTIONS_MAX + 1) : 0, .protocol = how & 0x80 ? take8() : 6};
	p.len = how & 0x40 ? p.len : p.len % 64;
	p.at = how & 0x20 ? p.at : p.at % 256;
	if (p.len > PLACES - 1 - IPV4_HDR_MAX)
		p.len = PLACES - 1 - IPV4_HDR_MAX;
	if (give_part(packet, &p))
		check_whole(packet);
}

static void step_raw(void)
{
	uint8_t frame[256];
	uint32_t len = take8();
	for (uint32_t i = 0; i < len; i++)
		frame[i] = take8();
	w.raw = true;
	if (give(frame, len)) {
		struct ip_input in;
		ip_input_parse(&w.whole, true, &in);
	}
}

/* A packet in at most PARTS_MAX parts; the first of them has the whole of TCP's header. */
struct cut {
	unsigned n, first; /* first: to come */
	struct part parts[PARTS_MAX];
};

static struct cut take_cut(void)
{
	struct cut c = {.n = 2 + take8() % (PARTS_MAX - 1)};
	uint32_t at = 0;
	c.first = take8() % c.n;
	for (unsigned i = 0; i < c.n; i++) {
		struct part *p = &c.parts[i];
		*p = (struct part){.at = at, .len = 24 + take8() % 100 * 8, .more = i + 1 < c.n, .protocol = 6};
		at += p->len;
	}
	c.parts[c.n - 1].len -= take8() % 8;
	return c;
}

static void give_cut(unsigned packet, const struct cut *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		bool whole = give_part(packet, &c->parts[(c->first + i) % c->n]);
		check(whole == (i + 1 == c->n));
	}
	check(w.raw || w.whole.len == ETH_HDR_BYTES + (packet & 1 ? IPV6_HDR_BYTES : IPV4_HDR_MIN) + w.longest[packet]);
	check_whole(packet);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!w.pieces)
		check((w.pieces = pieces_new()));
	w.in = data;
	w.left = size;
	w.raw = false;
	w.now += 100 * USEC_PER_SEC; /* what an input before this one left is old */
	memset(w.given, 0, sizeof w.given);
	memset(w.longest, 0, sizeof w.longest);
	struct cut last = take_cut();
	for (int i = 0; i < STEPS_MAX && w.left; i++) {
		switch (take8() % STEP_COUNT) {
		case STEP_FRAGMENT:
			step_fragment();
			break;
		case STEP_RAW:
			step_raw();
			break;
		case STEP_WAIT:
			w.now += take8() * USEC_PER_SEC / 4;
			break;
		}
	}
	give_cut(PACKETS, &last);
	give_cut(PACKETS + 1, &last);
	return 0;
}
