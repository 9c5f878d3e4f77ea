/* Ethernet, IPv4 and IPv6 headers: known frames, every truncation, every field that can lie, extension-header walks. */
#include <errno.h>
#include <string.h>

#include "frames.h"
#include "unit.h"
#include "wire/checksum.h"
#include "wire/eth.h"
#include "wire/ipv4.h"
#include "wire/ipv6.h"

#define V4(frame) ((frame) + ETH_HDR_BYTES)

START_TEST(test_eth)
{
	struct eth_header h;
	uint8_t back[ETH_HDR_BYTES];
	ck_assert_int_eq(eth_parse(frame_v4_syn, sizeof frame_v4_syn, &h), 0);
	ck_assert_uint_eq(h.ethertype, ETHERTYPE_IPV4);
	ck_assert_mem_eq(h.dst, "\xfa\x0b\x8b\x2c\xd3\xde", 6);
	ck_assert_mem_eq(h.src, "\x72\xbf\xad\xb1\xd7\xf4", 6);
	eth_build(h.dst, h.src, h.ethertype, back);
	ck_assert_mem_eq(back, frame_v4_syn, sizeof back);
	for (size_t n = 0; n <= ETH_HDR_BYTES; n++) {
		int r;
		WITH_EXACT_COPY(p, frame_v4_syn, n, r = eth_parse(p, n, &h));
		ck_assert_int_eq(r, n < ETH_HDR_BYTES ? -EBADMSG : 0);
	}
	ck_assert(ethertype_is_vlan(0x8100) && ethertype_is_vlan(0x88a8));
	ck_assert(!ethertype_is_vlan(0x0800));
}
END_TEST

START_TEST(test_v4_known)
{
	struct ipv4_header h;
	uint8_t back[IPV4_HDR_MIN];
	ck_assert_int_eq(ipv4_parse(V4(frame_v4_syn), 60, &h), IPV4_OK);
	ck_assert_uint_eq(h.header_len, 20);
	ck_assert_uint_eq(h.tos, 0);
	ck_assert_uint_eq(h.ttl, 64);
	ck_assert_uint_eq(h.protocol, IP_PROTO_TCP);
	ck_assert_uint_eq(h.total_len, 60);
	ck_assert_uint_eq(h.id, 0xf3d4);
	ck_assert_uint_eq(h.frag_offset, 0);
	ck_assert(h.dont_fragment && !h.more_fragments);
	ck_assert_mem_eq(h.src, "\x0a\x09\x01\x01", 4);
	ck_assert_mem_eq(h.dst, "\x0a\x09\x02\x02", 4);
	ipv4_build(&h, back);
	ck_assert_mem_eq(back, V4(frame_v4_syn), sizeof back);
}
END_TEST

/* A header of `ihl` words with options, checksum right. */
static void v4_header(uint8_t out[60], unsigned ihl, const void *options, size_t n)
{
	memset(out, 0, 60);
	memcpy(out, V4(frame_v4_syn), 20);
	if (n)
		memcpy(out + 20, options, n);
	out[0] = 0x40 | ihl;
	store_be16(out + 2, 60);
	store_be16(out + 10, 0);
	checksum_store(out + 10, checksum_finish(checksum_add(0, out, ihl < 5 ? 20 : ihl * 4)));
}

START_TEST(test_v4_truncated_at_every_length)
{
	uint8_t bytes[60];
	for (unsigned ihl = 0; ihl < 16; ihl++) {
		v4_header(bytes, ihl, NULL, 0);
		for (size_t n = 0; n <= 60; n++) {
			struct ipv4_header h;
			enum ipv4_result r;
			WITH_EXACT_COPY(p, bytes, n, r = ipv4_parse(p, n, &h));
			ck_assert_int_eq(r, n < 20	  ? IPV4_SHORT :
					    ihl < 5	  ? IPV4_BAD_IHL :
					    n < ihl * 4 ? IPV4_SHORT :
							  IPV4_OK);
		}
	}
}
END_TEST

START_TEST(test_v4_version_length_checksum)
{
	uint8_t bytes[60];
	struct ipv4_header h;
	for (unsigned version = 0; version < 16; version++) {
		v4_header(bytes, 5, NULL, 0);
		bytes[0] = version << 4 | 5;
		if (version != 4)
			ck_assert_int_eq(ipv4_parse(bytes, 60, &h), IPV4_BAD_VERSION);
	}
	for (unsigned total = 0; total < 80; total++) {
		v4_header(bytes, 10, NULL, 0);
		uint16_t old, new = be16_swap((uint16_t)total), sum;
		memcpy(&old, bytes + 2, 2);
		memcpy(&sum, bytes + 10, 2);
		memcpy(bytes + 2, &new, 2);
		checksum_store(bytes + 10, checksum_update16(sum, old, new));
		ck_assert_int_eq(ipv4_parse(bytes, 60, &h),
				 total && total < 40 ? IPV4_BAD_LENGTH : IPV4_OK);
	}
	for (unsigned bit = 32; bit < 160; bit++) { /* behind version, IHL and length */
		v4_header(bytes, 5, NULL, 0);
		bytes[bit / 8] ^= 1 << bit % 8;
		ck_assert_int_eq(ipv4_parse(bytes, 60, &h), IPV4_BAD_CHECKSUM);
	}
}
END_TEST

START_TEST(test_v4_fragment_fields)
{
	uint8_t back[IPV4_HDR_MIN];
	for (unsigned off = 0; off < 65536; off += 8)
		for (unsigned flags = 0; flags < 4; flags++) {
			struct ipv4_header h, in = {.src = (const uint8_t *)"\1\2\3\4",
						    .dst = (const uint8_t *)"\5\6\7\10",
						    .tos = 0x13,
						    .ttl = 1,
						    .protocol = 17,
						    .total_len = 20,
						    .frag_offset = off,
						    .dont_fragment = flags & 1,
						    .more_fragments = flags & 2};
			if (off % 2048)
				continue; /* every bit of the offset once is enough */
			ipv4_build(&in, back);
			ck_assert_int_eq(ipv4_parse(back, 20, &h), IPV4_OK);
			ck_assert_uint_eq(h.frag_offset, off);
			ck_assert_int_eq(h.dont_fragment, in.dont_fragment);
			ck_assert_int_eq(h.more_fragments, in.more_fragments);
			ck_assert_uint_eq(h.tos, 0x13);
		}
}
END_TEST

static bool source_route(const void *options, size_t n)
{
	uint8_t bytes[60];
	struct ipv4_header h;
	v4_header(bytes, 15, options, n);
	ck_assert_int_eq(ipv4_parse(bytes, 60, &h), IPV4_OK);
	bool r;
	WITH_EXACT_COPY(p, bytes, 60, r = ipv4_has_source_route(p, &h));
	return r;
}

START_TEST(test_v4_source_route)
{
	ck_assert(!source_route("", 0));
	ck_assert(!source_route("\1\1\1\0\x83", 5));         /* END hides the rest */
	ck_assert(!source_route("\x94\4\0\0", 4));            /* router alert */
	ck_assert(!source_route("\7\3\4\1", 4));              /* record route */
	ck_assert(source_route("\x83\7\4\1\2\3\4", 7));       /* loose */
	ck_assert(source_route("\1\x89\7\4\1\2\3\4", 8));     /* strict, behind a NOP */
	ck_assert(source_route("\x94\4\0\0\x83\3\4", 7));     /* behind another */
	ck_assert(source_route("\x94\1", 2));                 /* lengths that lie: 1, 0, past the end */
	ck_assert(source_route("\x94\0", 2));
	ck_assert(source_route("\x94\x29", 2));
	ck_assert(!source_route("\x94\x28", 2));
	uint8_t last[40];
	memset(last, 1, 40);
	last[39] = 0x94; /* no room for its length */
	ck_assert(source_route(last, 40));
}
END_TEST

START_TEST(test_v6_known)
{
	struct ipv6_header h;
	uint8_t back[IPV6_HDR_BYTES];
	ck_assert_int_eq(ipv6_parse(V4(frame_v6_syn), 80, &h), IPV6_OK);
	ck_assert_uint_eq(h.traffic_class, 0);
	ck_assert_uint_eq(h.payload_len, 40);
	ck_assert_uint_eq(h.next_header, IP_PROTO_TCP);
	ck_assert_uint_eq(h.hop_limit, 64);
	ck_assert_mem_eq(h.src, "\xfd\x09\0\1\0\0\0\0\0\0\0\0\0\0\0\1", 16);
	ck_assert_mem_eq(h.dst, "\xfd\x09\0\2\0\0\0\0\0\0\0\0\0\0\0\2", 16);
	ipv6_build(&h, back);
	ck_assert_mem_eq(back, V4(frame_v6_syn), sizeof back);
	h.traffic_class = 0xa5;
	h.flow_label = 0xfedcb;
	ipv6_build(&h, back);
	ck_assert_int_eq(ipv6_parse(back, 40, &h), IPV6_OK);
	ck_assert_uint_eq(h.traffic_class, 0xa5);
	ck_assert_uint_eq(h.flow_label, 0xfedcb);
}
END_TEST

START_TEST(test_v6_truncated_and_version)
{
	struct ipv6_header h;
	for (size_t n = 0; n <= IPV6_HDR_BYTES; n++) {
		enum ipv6_result r;
		WITH_EXACT_COPY(p, V4(frame_v6_syn), n, r = ipv6_parse(p, n, &h));
		ck_assert_int_eq(r, n < IPV6_HDR_BYTES ? IPV6_SHORT : IPV6_OK);
	}
	for (unsigned version = 0; version < 16; version++) {
		uint8_t bytes[IPV6_HDR_BYTES] = {version << 4};
		ck_assert_int_eq(ipv6_parse(bytes, 40, &h), version == 6 ? IPV6_OK : IPV6_BAD_VERSION);
	}
}
END_TEST

static struct ipv6_upper upper;

static enum ipv6_result walk(uint8_t next, const void *bytes, size_t n)
{
	enum ipv6_result r;
	WITH_EXACT_COPY(p, bytes, n, r = ipv6_walk(p, n, next, &upper));
	return r;
}

START_TEST(test_v6_walk_to_the_upper_layer)
{
	/* hop-by-hop (router alert, PadN), routing (segments left 0), destination options, atomic fragment, TCP */
	static const uint8_t chain[] = {43, 0, 5, 2, 0, 0, 1, 0, 60, 0, 4, 0, 0, 0, 0, 0,
					44, 1, 0, 1, 1, 0, 1, 8, 0,  0, 0, 0, 0, 0, 0, 0,
					6,  0, 0, 0, 1, 2, 3, 4};
	ck_assert_int_eq(walk(0, chain, sizeof chain), IPV6_OK);
	ck_assert_uint_eq(upper.protocol, 6);
	ck_assert_uint_eq(upper.offset, sizeof chain);
	ck_assert_uint_eq(upper.jumbo_len, 0);
	for (size_t n = 0; n < sizeof chain; n++)
		ck_assert_int_eq(walk(0, chain, n), IPV6_SHORT);
	ck_assert_int_eq(walk(6, "", 0), IPV6_OK); /* nothing to walk */
	ck_assert_uint_eq(upper.offset, 0);
	ck_assert_int_eq(walk(59, chain, sizeof chain), IPV6_OK); /* "no next header" is an upper layer: nobody's */
	ck_assert_uint_eq(upper.protocol, 59);
	ck_assert_int_eq(walk(51, chain, sizeof chain), IPV6_OK); /* AH, ESP, Mobility …: not ours to walk */
	ck_assert_uint_eq(upper.protocol, 51);
}
END_TEST

START_TEST(test_v6_walk_order_and_number)
{
	uint8_t chain[8 * 10] = {0};
	static const uint8_t late_hop[] = {0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0};
	for (unsigned i = 0; i < 10; i++)
		memcpy(chain + 8 * i, i == 9 ? "\6\0\1\4\0\0\0\0" : "\x3c\0\1\4\0\0\0\0", 8);
	ck_assert_int_eq(walk(60, chain, sizeof chain), IPV6_TOO_MANY);
	ck_assert_int_eq(walk(60, chain + 16, sizeof chain - 16), IPV6_OK); /* eight */
	ck_assert_uint_eq(upper.offset, 64);
	ck_assert_int_eq(walk(60, late_hop, sizeof late_hop), IPV6_BAD_OPTIONS);
}
END_TEST

START_TEST(test_v6_options)
{
	static const struct {
		uint8_t opt[6];
		enum ipv6_result result;
	} cases[] = {
		{{0, 0, 0, 0, 0, 0}, IPV6_OK},		/* Pad1 six times */
		{{1, 4, 0, 0, 0, 0}, IPV6_OK},		/* PadN */
		{{1, 5, 0, 0, 0, 0}, IPV6_BAD_OPTIONS}, /* past the end */
		{{1, 255, 0, 0, 0, 0}, IPV6_BAD_OPTIONS},
		{{1, 2, 0, 0, 0, 1}, IPV6_BAD_OPTIONS}, /* no room for a length */
		{{0x1e, 4, 0, 0, 0, 0}, IPV6_OK},	/* unknown, 00: skip */
		{{0x5e, 4, 0, 0, 0, 0}, IPV6_OPTION},	/* 01: discard */
		{{0x9e, 4, 0, 0, 0, 0}, IPV6_OPTION},	/* 10, 11: discard and tell */
		{{0xde, 4, 0, 0, 0, 0}, IPV6_OPTION},
		{{0x1e, 0, 0x5e, 2, 0, 0}, IPV6_OPTION}, /* behind another */
	};
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint8_t ext[8] = {6, 0};
		memcpy(ext + 2, cases[i].opt, 6);
		ck_assert_int_eq(walk(0, ext, 8), cases[i].result);
		ck_assert_int_eq(walk(60, ext, 8), cases[i].result);
	}
}
END_TEST

/* RFC 2675: only in hop-by-hop, 4 bytes, above 65535. */
START_TEST(test_v6_jumbo)
{
	uint8_t ext[8] = {6, 0, 0xc2, 4, 0, 1, 0, 0};
	ck_assert_int_eq(walk(0, ext, 8), IPV6_OK);
	ck_assert_uint_eq(upper.jumbo_len, 65536);
	ck_assert_int_eq(walk(60, ext, 8), IPV6_OPTION);
	store_be32(ext + 4, 65535);
	ck_assert_int_eq(walk(0, ext, 8), IPV6_BAD_OPTIONS);
	ext[3] = 3;
	ck_assert_int_eq(walk(0, ext, 8), IPV6_BAD_OPTIONS);
}
END_TEST

START_TEST(test_v6_routing_and_fragments)
{
	uint8_t ext[8] = {6, 0, 0, 0};
	for (unsigned left = 0; left < 256; left++) {
		ext[3] = left;
		ck_assert_int_eq(walk(43, ext, 8), left ? IPV6_ROUTED : IPV6_OK);
	}
	for (unsigned frag = 0; frag < 65536; frag += 1 + frag / 3) {
		store_be16(ext + 2, frag);
		bool atomic = !(frag & 0xfff9); /* the two bits between are reserved */
		ck_assert_int_eq(walk(44, ext, 8), atomic ? IPV6_OK : IPV6_FRAGMENT);
		ck_assert_uint_eq(upper.frag_offset, frag & 0xfff8);
		ck_assert_uint_eq(upper.protocol, 6);
		ck_assert_uint_eq(upper.offset, 8);
	}
	ext[1] = 255; /* the fragment header has no length field: reserved, ignored */
	store_be16(ext + 2, 0);
	ck_assert_int_eq(walk(44, ext, 8), IPV6_OK);
	ck_assert_int_eq(walk(43, ext, 8), IPV6_SHORT); /* the others have */
	ck_assert_int_eq(walk(60, ext, 8), IPV6_SHORT);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("wire/ip");
	TCase *tc = tcase_create("ip");
	tcase_add_test(tc, test_eth);
	tcase_add_test(tc, test_v4_known);
	tcase_add_test(tc, test_v4_truncated_at_every_length);
	tcase_add_test(tc, test_v4_version_length_checksum);
	tcase_add_test(tc, test_v4_fragment_fields);
	tcase_add_test(tc, test_v4_source_route);
	tcase_add_test(tc, test_v6_known);
	tcase_add_test(tc, test_v6_truncated_and_version);
	tcase_add_test(tc, test_v6_walk_to_the_upper_layer);
	tcase_add_test(tc, test_v6_walk_order_and_number);
	tcase_add_test(tc, test_v6_options);
	tcase_add_test(tc, test_v6_jumbo);
	tcase_add_test(tc, test_v6_routing_and_fragments);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
