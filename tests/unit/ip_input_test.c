/* ip_input_parse: captured frames, every truncation, every lie, super-segments, ICMP errors. Each fate is met. */
#include <errno.h>
#include <linux/if_packet.h>
#include <string.h>

#include "frames.h"
#include "ip/ip.h"
#include "unit.h"
#include "wire/checksum.h"

static struct ip_input in;

/* Parses an exact copy; what `in` points to is gone afterwards. */
static const char *fate_of(struct link_rx rx, bool has_eth)
{
	const uint8_t *data = rx.data;
	memset(&in, 0xee, sizeof in);
	WITH_EXACT_COPY(p, data, rx.len, {
		rx.data = p;
		ip_input_parse(&rx, has_eth, &in);
	});
	ck_assert_int_eq(in.kind == IP_INPUT_NONE, in.fate != IP_FATE_Delivered);
	return ip_fate_name(in.fate);
}

static const char *fate(const uint8_t *frame, uint32_t len)
{
	return fate_of((struct link_rx){.data = frame, .len = len, .wire_len = len}, true);
}

#define ck_fate(expr, name) ck_assert_str_eq(expr, name)

/* ---- a frame to spoil: a captured one, with its checksums made right again ---- */

static uint8_t f[2048];
static uint32_t f_len;

static void load(const uint8_t *frame, uint32_t len)
{
	memset(f, 0, sizeof f);
	memcpy(f, frame, len);
	f_len = len;
}

static void fix_v4(void)
{
	uint8_t *ip = f + 14;
	store_be16(ip + 10, 0);
	checksum_store(ip + 10, checksum_finish(checksum_add(0, ip, (ip[0] & 0xf) * 4)));
}

static void fix_tcp(uint64_t pseudo, uint32_t at)
{
	store_be16(f + at + 16, 0);
	checksum_store(f + at + 16, checksum_finish(checksum_add(pseudo, f + at, f_len - at)));
}

static void fix_tcp_v4(void)
{
	fix_tcp(checksum_pseudo_v4(f + 26, f + 30, 6, f_len - 34), 34);
}

static void fix_tcp_v6(uint32_t at)
{
	fix_tcp(checksum_pseudo_v6(f + 22, f + 38, 6, f_len - at), at);
}

static void fix_icmp(bool v6)
{
	uint32_t at = v6 ? 54 : 34;
	uint64_t sum = v6 ? checksum_pseudo_v6(f + 22, f + 38, 58, f_len - at) : 0;
	store_be16(f + at + 2, 0);
	checksum_store(f + at + 2, checksum_finish(checksum_add(sum, f + at, f_len - at)));
}

static struct ip_addr addr(const char *text)
{
	struct ip_addr a;
	ck_assert_int_eq(ip_addr_parse(text, &a), 0);
	return a;
}

START_TEST(test_captured_frames)
{
	ck_fate(fate(frame_v4_syn, sizeof frame_v4_syn), "Delivered");
	ck_assert_int_eq(in.kind, IP_INPUT_TCP);
	struct ip_addr l = addr("10.9.2.2"), r = addr("10.9.1.1");
	ck_assert(ip_addr_equal(&in.key.laddr, &l));
	ck_assert(ip_addr_equal(&in.key.raddr, &r));
	ck_assert_uint_eq(in.key.lport, 80);
	ck_assert_uint_eq(in.key.rport, 35092);
	ck_assert_uint_eq(in.seg.flags, SEG_SYN);
	ck_assert_uint_eq(in.seg.mss, 1460);
	ck_assert_uint_eq(in.seg.wscale, 10);
	ck_assert_uint_eq(in.seg.ts_val, 2007846907);
	ck_assert_uint_eq(in.ecn, 0);
	ck_assert_uint_eq(in.gso_size, 0);

	ck_fate(fate(frame_v6_sack, sizeof frame_v6_sack), "Delivered");
	l = addr("fd09:1::1");
	r = addr("fd09:2::2");
	ck_assert(ip_addr_equal(&in.key.laddr, &l));
	ck_assert(ip_addr_equal(&in.key.raddr, &r));
	ck_assert_uint_eq(in.key.lport, 40968);
	ck_assert_uint_eq(in.seg.n_sack, 1);
	ck_assert_uint_eq(in.seg.sack[0].right - in.seg.sack[0].left, 716);

	ck_fate(fate(frame_v4_syn_ack, sizeof frame_v4_syn_ack), "Delivered");
	ck_fate(fate(frame_v4_sack, sizeof frame_v4_sack), "Delivered");
	ck_fate(fate(frame_v4_fin, sizeof frame_v4_fin), "Delivered");
	ck_fate(fate(frame_v4_rst, sizeof frame_v4_rst), "Delivered");
	ck_fate(fate(frame_v6_syn, sizeof frame_v6_syn), "Delivered");
	ck_fate(fate(frame_arp, sizeof frame_arp), "NotIp");

	struct link_rx rx = {.data = frame_v6_data, .len = sizeof frame_v6_data};
	ip_input_parse(&rx, true, &in);
	ck_assert_uint_eq(in.seg.payload_len, 5);
	ck_assert_mem_eq(in.seg.payload[0].iov_base, "hello", 5);
	ck_assert_ptr_eq(in.src_mac, frame_v6_data + 6);
	rx.data += 14;
	rx.len -= 14;
	ip_input_parse(&rx, false, &in); /* the same on a TUN device */
	ck_fate(ip_fate_name(in.fate), "Delivered");
	ck_assert_uint_eq(in.seg.payload_len, 5);
	ck_assert_ptr_null(in.src_mac);
}
END_TEST

START_TEST(test_link_level)
{
	struct link_rx rx = {.data = frame_v4_syn, .len = sizeof frame_v4_syn};
	for (unsigned type = 0; type < 8; type++) {
		rx.pkttype = type;
		ck_fate(fate_of(rx, true), type == PACKET_HOST ? "Delivered" : "OtherHost");
	}
	rx.pkttype = PACKET_HOST;
	rx.vlan = true;
	ck_fate(fate_of(rx, true), "VlanTagged");
	load(frame_v4_syn, sizeof frame_v4_syn);
	store_be16(f + 12, 0x8100);
	ck_fate(fate(f, f_len), "VlanTagged");
	store_be16(f + 12, 0x88a8);
	ck_fate(fate(f, f_len), "VlanTagged");
	store_be16(f + 12, 0x86dd); /* says IPv6, is IPv4; and the other way round */
	ck_fate(fate(f, f_len), "Ip6BadVersion");
	load(frame_v6_syn, sizeof frame_v6_syn);
	store_be16(f + 12, 0x0800);
	ck_fate(fate(f, f_len), "Ip4BadVersion");
	rx = (struct link_rx){.data = (const uint8_t *)"\x50\0", .len = 2};
	ck_fate(fate_of(rx, false), "NotIp");
	rx.len = 0;
	ck_fate(fate_of(rx, false), "LinkHeaderShort");
}
END_TEST

/* Frames that really end early: never delivered; and captures that do, with and without a verified checksum. */
START_TEST(test_truncated_at_every_length)
{
	static const struct {
		const uint8_t *frame;
		uint32_t len, headers;
	} all[] = {
		{frame_v4_data, sizeof frame_v4_data, 14 + 20 + 32},
		{frame_v6_data, sizeof frame_v6_data, 14 + 40 + 32},
		{frame_v4_host_unreachable, sizeof frame_v4_host_unreachable, UINT32_MAX},
		{frame_v6_no_route, sizeof frame_v6_no_route, UINT32_MAX},
	};
	for (unsigned i = 0; i < 4; i++)
		for (uint32_t n = 0; n < all[i].len; n++) {
			struct link_rx rx = {.data = all[i].frame, .len = n, .wire_len = n};
			ck_assert_str_ne(fate_of(rx, true), "Delivered");
			rx.wire_len = all[i].len;
			ck_assert_str_ne(fate_of(rx, true), "Delivered");
			rx.csum_ok = true;
			fate_of(rx, true);
			ck_assert_int_eq(in.fate == IP_FATE_Delivered, n >= all[i].headers);
			if (in.fate == IP_FATE_Delivered)
				ck_assert_uint_eq(in.seg.payload_len, n - all[i].headers);
		}
	ck_fate(fate(frame_v4_data, 13), "LinkHeaderShort");
	ck_fate(fate(frame_v4_data, 33), "Ip4HeaderShort");
	ck_fate(fate(frame_v4_data, 34), "Ip4Truncated");
	ck_fate(fate(frame_v6_data, 53), "Ip6HeaderShort");
	ck_fate(fate(frame_v6_data, 54), "Ip6Truncated");
}
END_TEST

/* A FIN stands behind the data: cut data has none. */
START_TEST(test_cut_payload_loses_fin)
{
	load(frame_v4_data, sizeof frame_v4_data);
	f[47] |= SEG_FIN;
	struct link_rx rx = {.data = f, .len = f_len, .wire_len = f_len, .csum_ok = true};
	ck_fate(fate_of(rx, true), "Delivered");
	ck_assert_uint_eq(in.seg.flags, SEG_FIN | SEG_ACK | SEG_PSH);
	rx.len--;
	ck_fate(fate_of(rx, true), "Delivered");
	ck_assert_uint_eq(in.seg.flags, SEG_ACK | SEG_PSH);
	ck_assert_uint_eq(in.seg.payload_len, 4);
	rx.csum_ok = false;
	ck_fate(fate_of(rx, true), "CaptureTruncated");
	rx.len = 14 + 20 + 31; /* within the TCP header */
	rx.csum_ok = true;
	ck_fate(fate_of(rx, true), "CaptureTruncated");
}
END_TEST

START_TEST(test_ethernet_padding_is_cut)
{
	load(frame_v4_rst, sizeof frame_v4_rst); /* 54 bytes */
	memset(f + f_len, 0x5a, 20);
	for (uint32_t pad = 0; pad <= 20; pad++) {
		ck_fate(fate(f, f_len + pad), "Delivered");
		ck_assert_uint_eq(in.seg.payload_len, 0);
		ck_assert_uint_eq(in.seg.flags, SEG_RST | SEG_ACK);
	}
	load(frame_v6_data, sizeof frame_v6_data);
	memset(f + f_len, 0x5a, 20);
	ck_fate(fate(f, f_len + 20), "Delivered");
	ck_assert_uint_eq(in.seg.payload_len, 5);
}
END_TEST

START_TEST(test_v4_lengths_that_lie)
{
	for (uint32_t total = 0; total < 65536; total = total < 100 ? total + 1 : total * 2) {
		load(frame_v4_data, sizeof frame_v4_data); /* 57 bytes of packet */
		store_be16(f + 16, total);
		fix_v4();
		ck_fate(fate(f, f_len), total < 20  ? "Ip4BadLength" :
					total < 40  ? "TcpBadHeader" :
					total < 52  ? "TcpBadHeader" : /* its options */
					total < 57  ? "TcpBadChecksum" :
					total == 57 ? "Delivered" :
						      "Ip4Truncated");
	}
	load(frame_v4_data, sizeof frame_v4_data);
	f[14] = 0x44;
	ck_fate(fate(f, f_len), "Ip4BadHeaderLength");
	f[14] = 0x4f; /* 60 bytes of header in 57 */
	ck_fate(fate(f, f_len), "Ip4HeaderShort");
}
END_TEST

START_TEST(test_v4_header)
{
	load(frame_v4_data, sizeof frame_v4_data);
	f[24] ^= 1;
	ck_fate(fate(f, f_len), "Ip4BadChecksum");
	for (unsigned frag = 1; frag < 0x4000; frag = frag * 2 + 1) {
		store_be16(f + 20, frag);
		fix_v4();
		ck_fate(fate(f, f_len), "Fragment");
	}
	store_be16(f + 20, 0x2000); /* the first of several: offset 0 */
	fix_v4();
	ck_fate(fate(f, f_len), "Fragment");
	store_be16(f + 20, 0xc000); /* DF and the reserved bit: nobody minds */
	for (unsigned ecn = 0; ecn < 4; ecn++) {
		f[15] = 0xb8 | ecn;
		fix_v4();
		ck_fate(fate(f, f_len), "Delivered");
		ck_assert_uint_eq(in.ecn, ecn);
	}
	for (unsigned protocol = 0; protocol < 256; protocol++) {
		f[23] = protocol;
		fix_v4();
		ck_fate(fate(f, f_len), protocol == 6 ? "Delivered" :
					protocol == 1 ? "IcmpBadChecksum" :
							"NotTcp"); /* ICMPv6 (58) too */
	}
}
END_TEST

/* Four option bytes between the IPv4 header and TCP. */
static const char *with_v4_option(uint32_t option)
{
	load(frame_v4_data, sizeof frame_v4_data);
	memmove(f + 38, f + 34, f_len - 34);
	store_be32(f + 34, option);
	f_len += 4;
	f[14] = 0x46;
	store_be16(f + 16, f_len - 14);
	fix_v4();
	return fate(f, f_len);
}

/* RFC 9293 MUST-50; source routes are refused. */
START_TEST(test_v4_options)
{
	ck_fate(with_v4_option(0x01010100), "Delivered");
	ck_assert_uint_eq(in.seg.payload_len, 5);
	ck_fate(with_v4_option(0x94040000), "Delivered"); /* router alert */
	ck_fate(with_v4_option(0x83030400), "Ip4SourceRoute");
	ck_fate(with_v4_option(0x89030400), "Ip4SourceRoute");
	ck_fate(with_v4_option(0x94050000), "Ip4SourceRoute"); /* malformed */
}
END_TEST

static const char *with_addresses(const char *src, const char *dst)
{
	struct ip_addr s = addr(src), d = addr(dst);
	bool v6 = !ip_addr_is_v4(&s) || !ip_addr_is_v4(&d) || strchr(src, ':');
	if (v6) {
		load(frame_v6_data, sizeof frame_v6_data);
		memcpy(f + 22, s.b, 16);
		memcpy(f + 38, d.b, 16);
		fix_tcp_v6(54);
		return fate(f, f_len);
	}
	load(frame_v4_data, sizeof frame_v4_data);
	memcpy(f + 26, s.b + 12, 4);
	memcpy(f + 30, d.b + 12, 4);
	fix_v4();
	fix_tcp_v4();
	return fate(f, f_len);
}

/* RFC 9293 MUST-57, MUST-63. */
START_TEST(test_addresses)
{
	static const char *const v4_bad[] = {"0.0.0.0", "127.0.0.1", "127.255.0.1",
					     "224.0.0.1", "239.255.255.250", "255.255.255.255"};
	static const char *const v6_bad[] = {"::",	"::1",		  "ff02::1",
					     "ff0e::7", "::ffff:10.9.2.2", "::10.9.2.2"};
	ck_fate(with_addresses("10.9.2.2", "10.9.1.1"), "Delivered");
	ck_fate(with_addresses("169.254.1.1", "10.9.1.1"), "Delivered");
	ck_fate(with_addresses("223.255.255.255", "240.0.0.1"), "Delivered"); /* as Linux: 240/4 is unicast */
	ck_fate(with_addresses("10.9.1.1", "10.9.1.1"), "BadSource");
	ck_fate(with_addresses("0.1.2.3", "10.9.1.1"), "Delivered"); /* as Linux since 5.3 */
	for (unsigned i = 0; i < 6; i++) {
		ck_fate(with_addresses(v4_bad[i], "10.9.1.1"), "BadSource");
		ck_fate(with_addresses("10.9.1.1", v4_bad[i]), "BadDestination");
	}
	ck_fate(with_addresses("fe80::1", "fd09::1"), "Delivered");
	ck_fate(with_addresses("fd09::1", "fd09::1"), "BadSource");
	for (unsigned i = 0; i < 6; i++) {
		ck_fate(with_addresses(v6_bad[i], "fd09::1"), "BadSource");
		ck_fate(with_addresses("fd09::1", v6_bad[i]), "BadDestination");
	}
}
END_TEST

/* RFC 9293 MUST-3. */
START_TEST(test_tcp_checksum)
{
	load(frame_v4_data, sizeof frame_v4_data);
	struct link_rx rx = {.data = f, .len = f_len, .wire_len = f_len};
	for (uint32_t bit = 34 * 8; bit < f_len * 8; bit++) {
		f[bit / 8] ^= 1 << bit % 8;
		rx.csum_ok = false;
		const char *name = fate_of(rx, true);
		bool offset = bit / 8 == 46; /* a spoilt data offset may be seen first */
		ck_assert(!strcmp(name, "TcpBadChecksum") || (offset && !strcmp(name, "TcpBadHeader")));
		rx.csum_ok = true; /* the link says: do not look */
		name = fate_of(rx, true);
		ck_assert(!strcmp(name, "Delivered") || (offset && !strcmp(name, "TcpBadHeader")));
		f[bit / 8] ^= 1 << bit % 8;
	}
	load(frame_v6_data, sizeof frame_v6_data);
	f[f_len - 1] ^= 1;
	ck_fate(fate(f, f_len), "TcpBadChecksum");
	load(frame_v6_data, sizeof frame_v6_data);
	f[38 + 15] ^= 2; /* the destination is in the pseudo-header */
	ck_fate(fate(f, f_len), "TcpBadChecksum");
}
END_TEST

START_TEST(test_v6_lengths_that_lie)
{
	for (uint32_t len = 0; len < 65536; len = len < 100 ? len + 1 : len * 2) {
		load(frame_v6_data, sizeof frame_v6_data); /* 37 bytes behind the fixed header */
		store_be16(f + 18, len);
		ck_fate(fate(f, f_len), len == 0  ? "Ip6BadLength" :
					len < 32  ? "TcpBadHeader" :
					len < 37  ? "TcpBadChecksum" :
					len == 37 ? "Delivered" :
						    "Ip6Truncated");
	}
}
END_TEST

/* The IPv6 frame with extension headers in front of TCP. */
static const char *with_extension(uint8_t next, const void *ext, uint32_t n)
{
	load(frame_v6_data, sizeof frame_v6_data);
	memmove(f + 54 + n, f + 54, f_len - 54);
	memcpy(f + 54, ext, n);
	f[20] = next;
	f_len += n;
	store_be16(f + 18, f_len - 54);
	return fate(f, f_len);
}

START_TEST(test_v6_extension_headers)
{
	ck_fate(with_extension(60, "\6\0\1\4\0\0\0\0", 8), "Delivered");
	ck_assert_uint_eq(in.seg.payload_len, 5);
	ck_fate(with_extension(0, "\x2b\0\1\4\0\0\0\0\6\0\4\0\0\0\0\0", 16), "Delivered");
	ck_fate(with_extension(44, "\6\0\0\0\1\2\3\4", 8), "Delivered"); /* atomic: RFC 6946 */
	ck_fate(with_extension(44, "\6\0\0\1\1\2\3\4", 8), "Fragment");
	ck_fate(with_extension(44, "\6\0\1\0\1\2\3\4", 8), "Fragment");
	ck_fate(with_extension(43, "\6\0\0\1\0\0\0\0", 8), "Ip6Routed");
	ck_fate(with_extension(60, "\6\0\x45\4\0\0\0\0", 8), "Ip6UnknownOption");
	ck_fate(with_extension(60, "\6\0\1\5\0\0\0\0", 8), "Ip6BadOptions");
	ck_fate(with_extension(60, "\6\xff\1\4\0\0\0\0", 8), "Ip6HeaderShort");
	ck_fate(with_extension(0, "\6\0\xc2\4\0\1\0\0", 8), "Ip6BadOptions"); /* jumbo, and a payload length */
	ck_fate(with_extension(51, "\6\0\1\4\0\0\0\0", 8), "NotTcp");
	uint8_t many[72];
	for (unsigned i = 0; i < 9; i++)
		memcpy(many + 8 * i, i == 8 ? "\6\0\1\4\0\0\0\0" : "\x3c\0\1\4\0\0\0\0", 8);
	ck_fate(with_extension(60, many, sizeof many), "Ip6TooManyHeaders");
}
END_TEST

/* ---- super-segments ---- */

static uint8_t big[200000];

/* A frame whose TCP header is that of a captured one, with this much behind the fixed IP header. */
static struct link_rx big_frame(bool v6, uint32_t ip_payload, uint16_t length_field)
{
	const uint8_t *from = v6 ? frame_v6_data : frame_v4_data;
	uint32_t headers = v6 ? 14 + 40 + 32 : 14 + 20 + 32;
	memset(big, 0x42, sizeof big);
	memcpy(big, from, headers);
	memcpy(f, big, headers);
	store_be16(f + (v6 ? 18 : 16), length_field);
	if (!v6)
		fix_v4();
	memcpy(big, f, headers);
	uint32_t len = (v6 ? 54 : 34) + ip_payload;
	return (struct link_rx){
		.data = big, .len = len, .wire_len = len, .csum_ok = true, .gso_size = 1448};
}

START_TEST(test_super_segments)
{
	ck_fate(fate_of(big_frame(false, 65515, 65535), true), "Delivered");
	ck_assert_uint_eq(in.seg.payload_len, 65515 - 32);
	ck_assert_uint_eq(in.gso_size, 1448);
	ck_fate(fate_of(big_frame(true, 65535, 65535), true), "Delivered");
	ck_assert_uint_eq(in.seg.payload_len, 65535 - 32);
	/* Over 64 KiB the length says 0. */
	ck_fate(fate_of(big_frame(false, 180000, 0), true), "Delivered");
	ck_assert_uint_eq(in.seg.payload_len, 180000 - 32);
	ck_fate(fate_of(big_frame(true, 180000, 0), true), "Delivered");
	ck_assert_uint_eq(in.seg.payload_len, 180000 - 32);
	/* Cut by a small slot. */
	struct link_rx rx = big_frame(false, 180000, 0);
	rx.len = 2000;
	ck_fate(fate_of(rx, true), "Delivered");
	ck_assert_uint_eq(in.seg.payload_len, 2000 - 66);
	/* 0 is believed of a super-segment only. */
	rx = big_frame(false, 180000, 0);
	rx.gso_size = 0;
	ck_fate(fate_of(rx, true), "Ip4BadLength");
	rx = big_frame(true, 180000, 0);
	rx.gso_size = 0;
	ck_fate(fate_of(rx, true), "Ip6BadLength");
}
END_TEST

START_TEST(test_v6_jumbograms)
{
	for (int gso = 0; gso < 2; gso++) {
		struct link_rx rx = big_frame(true, 100000, 0);
		rx.gso_size = gso ? 1428 : 0;
		memmove(big + 62, big + 54, 32);
		memcpy(big + 54, "\6\0\xc2\4", 4);
		store_be32(big + 58, 100000);
		big[20] = 0;
		ck_fate(fate_of(rx, true), "Delivered");
		ck_assert_uint_eq(in.seg.payload_len, 100000 - 8 - 32);
		store_be32(big + 58, 70000); /* padding behind */
		ck_fate(fate_of(rx, true), "Delivered");
		ck_assert_uint_eq(in.seg.payload_len, 70000 - 8 - 32);
		store_be32(big + 58, 100001);
		ck_fate(fate_of(rx, true), "Ip6Truncated");
		store_be32(big + 58, 65535);
		ck_fate(fate_of(rx, true), "Ip6BadOptions");
		memcpy(big + 56, "\1\4\0\0\0\0", 6); /* hop-by-hop without the jumbo option */
		ck_fate(fate_of(rx, true), gso ? "Delivered" : "Ip6BadLength");
	}
}
END_TEST

/* ---- ICMP ---- */

START_TEST(test_icmp_captured)
{
	ck_fate(fate(frame_v4_host_unreachable, sizeof frame_v4_host_unreachable), "Delivered");
	ck_assert_int_eq(in.kind, IP_INPUT_ICMP);
	struct ip_addr l = addr("10.9.1.1"), r = addr("10.9.3.3");
	ck_assert(ip_addr_equal(&in.icmp.key.laddr, &l));
	ck_assert(ip_addr_equal(&in.icmp.key.raddr, &r));
	ck_assert_uint_eq(in.icmp.key.lport, 57812);
	ck_assert_uint_eq(in.icmp.key.rport, 80);
	ck_assert_uint_eq(in.icmp.seq, load_be32(frame_v4_host_unreachable + 34 + 8 + 20 + 4));
	ck_assert_int_eq(in.icmp.err, EHOSTUNREACH);
	ck_assert(!in.icmp.hard && !in.icmp.frag_needed);

	ck_fate(fate(frame_v4_time_exceeded, sizeof frame_v4_time_exceeded), "Delivered");
	ck_assert_int_eq(in.icmp.err, EHOSTUNREACH);
	ck_fate(fate(frame_v6_no_route, sizeof frame_v6_no_route), "Delivered");
	ck_assert_int_eq(in.kind, IP_INPUT_ICMP);
	ck_assert_int_eq(in.icmp.err, ENETUNREACH);
	ck_assert_uint_eq(in.icmp.key.lport, 58944);
	ck_fate(fate(frame_v6_time_exceeded, sizeof frame_v6_time_exceeded), "Delivered");
	ck_assert_int_eq(in.icmp.err, EHOSTUNREACH);
	ck_assert(!in.icmp.hard);
}
END_TEST

static const char *icmp4(uint8_t type, uint8_t code, uint32_t word)
{
	load(frame_v4_host_unreachable, sizeof frame_v4_host_unreachable);
	f[34] = type;
	f[35] = code;
	store_be32(f + 38, word);
	fix_icmp(false);
	return fate(f, f_len);
}

static const char *icmp6(uint8_t type, uint8_t code, uint32_t word)
{
	load(frame_v6_no_route, sizeof frame_v6_no_route);
	f[54] = type;
	f[55] = code;
	store_be32(f + 58, word);
	fix_icmp(true);
	return fate(f, f_len);
}

/* RFC 9293 MUST-54: the errnos that Linux gives, by code (icmp(7), RFC 1122 §4.2.3.9 for hard and soft). */
START_TEST(test_icmp_meanings)
{
	static const struct {
		int err;
		bool hard;
	} v4[16] = {{ENETUNREACH, 0}, {EHOSTUNREACH, 0}, {ENOPROTOOPT, 1}, {ECONNREFUSED, 1},
		    {EMSGSIZE, 0},    {EOPNOTSUPP, 0},   {ENETUNREACH, 1}, {EHOSTDOWN, 1},
		    {ENONET, 1},      {ENETUNREACH, 1},  {EHOSTUNREACH, 1}, {ENETUNREACH, 0},
		    {EHOSTUNREACH, 0}, {EHOSTUNREACH, 1}, {EHOSTUNREACH, 1}, {EHOSTUNREACH, 1}},
	  v6[7] = {{ENETUNREACH, 0}, {EACCES, 1}, {EHOSTUNREACH, 0}, {EHOSTUNREACH, 0},
		   {ECONNREFUSED, 1}, {EACCES, 1}, {EACCES, 1}};
	for (unsigned code = 0; code < 256; code++) {
		ck_fate(icmp4(3, code, 0), code < 16 ? "Delivered" : "IcmpNoConcern");
		if (code < 16) {
			ck_assert_int_eq(in.icmp.err, v4[code].err);
			ck_assert_int_eq(in.icmp.hard, v4[code].hard);
			ck_assert_int_eq(in.icmp.frag_needed, code == 4);
		}
		ck_fate(icmp6(1, code, 0), code < 7 ? "Delivered" : "IcmpNoConcern");
		if (code < 7) {
			ck_assert_int_eq(in.icmp.err, v6[code].err);
			ck_assert_int_eq(in.icmp.hard, v6[code].hard);
		}
	}
	ck_fate(icmp4(12, 0, 0), "Delivered");
	ck_assert_int_eq(in.icmp.err, EPROTO);
	ck_fate(icmp6(4, 1, 0), "Delivered");
	ck_assert_int_eq(in.icmp.err, EPROTO);
	ck_assert(in.icmp.hard);
	ck_fate(icmp6(4, 0, 0), "Delivered");
	ck_assert(!in.icmp.hard);
	ck_fate(icmp4(4, 0, 0), "IcmpNoConcern"); /* source quench: RFC 6633 */
	ck_fate(icmp4(5, 0, 0x0a090101), "IcmpNoConcern"); /* redirect */
	ck_fate(icmp6(100, 0, 0), "IcmpNoConcern");
	ck_fate(icmp4(8, 0, 0), "IcmpNotError");
	ck_fate(icmp4(0, 0, 0), "IcmpNotError");
	ck_fate(icmp6(128, 0, 0), "IcmpNotError");
	ck_fate(icmp6(135, 0, 0), "IcmpNotError"); /* neighbour solicitation */
}
END_TEST

START_TEST(test_icmp_mtu)
{
	static const uint32_t v4[][2] = {{0, 1}, {1, 0}, {67, 0}, {68, 1}, {1300, 1}, {65535, 1}};
	static const uint32_t v6[][2] = {{0, 0}, {1279, 0}, {1280, 1}, {1300, 1}, {0xffffffff, 1}};
	for (unsigned i = 0; i < 6; i++) {
		ck_fate(icmp4(3, 4, v4[i][0]), v4[i][1] ? "Delivered" : "IcmpBadMtu");
		if (v4[i][1])
			ck_assert_uint_eq(in.icmp.mtu, v4[i][0]);
	}
	ck_fate(icmp4(3, 4, 0xffff0514), "Delivered"); /* the high 16 bits are unused */
	ck_assert_uint_eq(in.icmp.mtu, 1300);
	for (unsigned i = 0; i < 5; i++) {
		ck_fate(icmp6(2, 0, v6[i][0]), v6[i][1] ? "Delivered" : "IcmpBadMtu");
		if (v6[i][1]) {
			ck_assert_uint_eq(in.icmp.mtu, v6[i][0]);
			ck_assert(in.icmp.frag_needed);
			ck_assert_int_eq(in.icmp.err, EMSGSIZE);
		}
	}
}
END_TEST

START_TEST(test_icmp_refused)
{
	load(frame_v4_host_unreachable, sizeof frame_v4_host_unreachable);
	f[f_len - 1] ^= 1;
	ck_fate(fate(f, f_len), "IcmpBadChecksum");
	struct link_rx rx = {.data = f, .len = f_len, .wire_len = f_len, .csum_ok = true};
	ck_fate(fate_of(rx, true), "IcmpBadChecksum"); /* csum_ok is about TCP and UDP */
	rx.len--;
	ck_fate(fate_of(rx, true), "CaptureTruncated");
	load(frame_v4_host_unreachable, sizeof frame_v4_host_unreachable);
	f[34 + 8 + 9] = 17; /* about UDP */
	fix_icmp(false);
	ck_fate(fate(f, f_len), "IcmpNotTcp");
	f[34 + 8 + 9] = 6;
	f[34 + 8 + 15] ^= 1; /* quotes another host's packet */
	fix_icmp(false);
	ck_fate(fate(f, f_len), "IcmpBadQuote");
	f[34 + 8 + 15] ^= 1;
	f[34 + 8 + 7] = 1; /* a later fragment */
	fix_icmp(false);
	ck_fate(fate(f, f_len), "IcmpBadQuote");
	load(frame_v4_host_unreachable, sizeof frame_v4_host_unreachable);
	f_len = 34 + 8 + 20 + 7;
	store_be16(f + 16, f_len - 14);
	fix_v4();
	fix_icmp(false);
	ck_fate(fate(f, f_len), "IcmpShort");
}
END_TEST

/* Every fate has a name of its own. */
START_TEST(test_fate_names)
{
	for (unsigned a = 0; a < IP_FATE_COUNT; a++)
		for (unsigned b = 0; b < a; b++)
			ck_assert_str_ne(ip_fate_name(a), ip_fate_name(b));
	ck_assert_str_eq(ip_fate_name(IP_FATE_COUNT), "?");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ip/input");
	TCase *tc = tcase_create("input");
	tcase_add_test(tc, test_captured_frames);
	tcase_add_test(tc, test_link_level);
	tcase_add_test(tc, test_truncated_at_every_length);
	tcase_add_test(tc, test_cut_payload_loses_fin);
	tcase_add_test(tc, test_ethernet_padding_is_cut);
	tcase_add_test(tc, test_v4_lengths_that_lie);
	tcase_add_test(tc, test_v4_header);
	tcase_add_test(tc, test_v4_options);
	tcase_add_test(tc, test_addresses);
	tcase_add_test(tc, test_tcp_checksum);
	tcase_add_test(tc, test_v6_lengths_that_lie);
	tcase_add_test(tc, test_v6_extension_headers);
	tcase_add_test(tc, test_super_segments);
	tcase_add_test(tc, test_v6_jumbograms);
	tcase_add_test(tc, test_icmp_captured);
	tcase_add_test(tc, test_icmp_meanings);
	tcase_add_test(tc, test_icmp_mtu);
	tcase_add_test(tc, test_icmp_refused);
	tcase_add_test(tc, test_fate_names);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
