/*
 * Headers that ip_send_tcp puts in front of a segment, read back by ip_input_parse and byte by byte. link_send is ours.
 */
#include <errno.h>
#include <string.h>

#include "frames.h"
#include "ip/ip.h"
#include "unit.h"
#include "wire/checksum.h"

static struct {
	int calls, result;
	struct link_tx tx;
	uint8_t frame[70000];
	uint32_t len;
} sent;

int link_send(struct link *l, const struct link_tx *tx)
{
	sent.calls++;
	sent.tx = *tx;
	memcpy(sent.frame, tx->hdr, tx->hdr_len);
	sent.len = tx->hdr_len;
	for (int i = 0; i < tx->n_payload; i++) {
		memcpy(sent.frame + sent.len, tx->payload[i].iov_base, tx->payload[i].iov_len);
		sent.len += tx->payload[i].iov_len;
	}
	return sent.result;
}

/* What the kernel or the NIC does with csum_start and csum_offset. */
static void complete_checksum(void)
{
	uint8_t *start = sent.frame + sent.tx.csum_start;
	uint16_t sum = checksum_finish(checksum_add(0, start, sent.len - sent.tx.csum_start));
	checksum_store(start + sent.tx.csum_offset, sum);
}

static const struct ip_path path = {
	.src_mac = {0xfa, 0x0b, 0x8b, 0x2c, 0xd3, 0xde},
	.dst_mac = {0x72, 0xbf, 0xad, 0xb1, 0xd7, 0xf4},
	.has_eth = true,
	.ttl = 64,
	.dont_fragment = true,
	.mtu = 1500,
};
static uint8_t payload[66000];
static uint16_t ip_id;

static void setup(void)
{
	memset(&sent, 0, sizeof sent);
	for (size_t i = 0; i < sizeof payload; i++)
		payload[i] = i * 31;
	ip_id = 0xfffe;
}

static struct flow_key key_of(bool v6)
{
	struct flow_key key = {.lport = 80, .rport = 35092};
	ip_addr_parse(v6 ? "fd09:2::2" : "10.9.2.2", &key.laddr);
	ip_addr_parse(v6 ? "fd09:1::1" : "10.9.1.1", &key.raddr);
	return key;
}

static struct tcp_segment segment_of(uint32_t first, uint32_t second)
{
	return (struct tcp_segment){
		.seq = 1000,
		.ack = 2000,
		.flags = SEG_ACK | SEG_PSH,
		.window = 500,
		.has = SEG_HAS_TIMESTAMPS,
		.ts_val = 11,
		.ts_ecr = 22,
		.payload = {{payload, first}, {payload + first, second}},
		.payload_len = first + second,
	};
}

/* Parses what was sent as the peer would: nothing verified yet. */
static struct ip_input receive(bool has_eth)
{
	struct link_rx rx = {.data = sent.frame, .len = sent.len, .wire_len = sent.len};
	struct ip_input in;
	complete_checksum();
	ip_input_parse(&rx, has_eth, &in);
	return in;
}

START_TEST(test_round_trip)
{
	static const uint32_t sizes[][2] = {{0, 0}, {1, 0}, {5, 0}, {1000, 448}, {1, 1}, {1447, 1}};
	for (int v6 = 0; v6 < 2; v6++)
		for (int eth = 0; eth < 2; eth++)
			for (unsigned i = 0; i < 6; i++) {
				struct flow_key key = key_of(v6);
				struct tcp_segment seg = segment_of(sizes[i][0], sizes[i][1]);
				struct ip_path p = path;
				p.has_eth = eth;
				p.tos = 0xb8;
				seg.ecn = ECN_ECT_0;
				ck_assert_int_eq(ip_send_tcp(NULL, &p, &key, &seg, 0, 0, &ip_id), 0);
				struct ip_input in = receive(eth);
				ck_assert_str_eq(ip_fate_name(in.fate), "Delivered");
				ck_assert_int_eq(in.kind, IP_INPUT_TCP);
				ck_assert(ip_addr_equal(&in.key.laddr, &key.raddr));
				ck_assert(ip_addr_equal(&in.key.raddr, &key.laddr));
				ck_assert_uint_eq(in.key.lport, key.rport);
				ck_assert_uint_eq(in.key.rport, key.lport);
				ck_assert_uint_eq(in.ecn, ECN_ECT_0);
				ck_assert_uint_eq(in.seg.ecn, ECN_ECT_0);
				ck_assert_uint_eq(in.seg.seq, 1000);
				ck_assert_uint_eq(in.seg.ts_ecr, 22);
				ck_assert_uint_eq(in.seg.payload_len, seg.payload_len);
				ck_assert_mem_eq(in.seg.payload[0].iov_base, payload, seg.payload_len);
				ck_assert_int_eq(sent.tx.n_payload,
						 (sizes[i][0] != 0) + (sizes[i][1] != 0));
				ck_assert_uint_eq(sent.tx.gso_size, 0);
				ck_assert_int_eq(sent.tx.v6, v6);
			}
}
END_TEST

/* The header that Linux sent for the same segment, but for id, TTL and the partial checksum. */
/* RFC 9293 MUST-2, MUST-68, MUST-69: checksum, lengths and padding, all of them. */
START_TEST(test_same_bytes_as_linux)
{
	struct link_rx rx = {.data = frame_v4_data, .len = sizeof frame_v4_data};
	struct ip_input in;
	uint8_t want[sizeof frame_v4_data];
	ip_input_parse(&rx, true, &in);
	struct flow_key key = {in.key.raddr, in.key.laddr, in.key.rport, in.key.lport};
	struct ip_path p = path;
	p.ttl = 63; /* captured behind the router */
	ip_id = load_be16(frame_v4_data + 18);
	ck_assert_int_eq(ip_send_tcp(NULL, &p, &key, &in.seg, 0, 0, &ip_id), 0);
	complete_checksum();
	ck_assert_uint_eq(sent.len, sizeof frame_v4_data);
	memcpy(want, frame_v4_data, sizeof want);
	ck_assert_mem_eq(sent.frame, want, sizeof want);
}
END_TEST

START_TEST(test_v4_fields)
{
	struct flow_key key = key_of(false);
	struct tcp_segment seg = segment_of(10, 0);
	struct ip_path p = path;
	ck_assert_int_eq(ip_send_tcp(NULL, &p, &key, &seg, 0, 0, &ip_id), 0);
	ck_assert_uint_eq(load_be16(sent.frame + 14 + 4), 0xfffe);
	ck_assert_uint_eq(load_be16(sent.frame + 14 + 6), 0x4000);
	ck_assert_uint_eq(ip_id, 0xffff);
	p.dont_fragment = false;
	p.ttl = 3;
	p.tos = 0xff; /* the ECN bits are not the socket's */
	seg.ecn = ECN_ECT_1;
	ck_assert_int_eq(ip_send_tcp(NULL, &p, &key, &seg, 0, 0, &ip_id), 0);
	ck_assert_uint_eq(load_be16(sent.frame + 14 + 6), 0);
	ck_assert_uint_eq(sent.frame[14 + 8], 3);
	ck_assert_uint_eq(sent.frame[14 + 1], 0xfd);
	ck_assert_uint_eq(ip_id, 0); /* wraps */
	ck_assert_uint_eq(sent.tx.csum_start, 34);
	ck_assert_uint_eq(sent.tx.csum_offset, 16);
}
END_TEST

START_TEST(test_super_segments)
{
	for (int v6 = 0; v6 < 2; v6++) {
		struct flow_key key = key_of(v6);
		struct tcp_segment seg = segment_of(40000, 24240);
		seg.flags |= SEG_CWR;
		ip_id = 100;
		ck_assert_int_eq(ip_send_tcp(NULL, &path, &key, &seg, 1448, 0, &ip_id), 0);
		ck_assert_uint_eq(sent.tx.gso_size, 1448);
		ck_assert(sent.tx.ecn_cwr);
		ck_assert_uint_eq(ip_id, v6 ? 100 : 100 + 45); /* 64240 / 1448 = 44.4 */
		struct ip_input in = receive(true);
		ck_assert_str_eq(ip_fate_name(in.fate), "Delivered");
		ck_assert_uint_eq(in.seg.payload_len, 64240);

		seg = segment_of(1448, 0); /* no more than one: an ordinary segment */
		ip_id = 100;
		ck_assert_int_eq(ip_send_tcp(NULL, &path, &key, &seg, 1448, 0, &ip_id), 0);
		ck_assert_uint_eq(sent.tx.gso_size, 0);
		ck_assert(!sent.tx.ecn_cwr);
		ck_assert_uint_eq(ip_id, v6 ? 100 : 101);
	}
}
END_TEST

/* The IP length field holds 65535: one byte more is refused and nothing is sent. */
START_TEST(test_length_limits)
{
	for (int v6 = 0; v6 < 2; v6++) {
		struct flow_key key = key_of(v6);
		uint32_t most = 65535 - (v6 ? 0 : 20) - 32; /* TCP header with timestamps */
		struct tcp_segment seg = segment_of(most, 0);
		ck_assert_int_eq(ip_send_tcp(NULL, &path, &key, &seg, 1448, 0, &ip_id), 0);
		ck_assert_str_eq(ip_fate_name(receive(true).fate), "Delivered");
		sent.calls = 0;
		seg = segment_of(most, 1);
		uint16_t id = ip_id;
		ck_assert_int_eq(ip_send_tcp(NULL, &path, &key, &seg, 1448, 0, &ip_id), -EMSGSIZE);
		ck_assert_int_eq(sent.calls, 0);
		ck_assert_uint_eq(ip_id, id);
	}
}
END_TEST

START_TEST(test_link_error_is_passed_on)
{
	struct flow_key key = key_of(false);
	struct tcp_segment seg = segment_of(1, 0);
	sent.result = -ENOBUFS;
	ck_assert_int_eq(ip_send_tcp(NULL, &path, &key, &seg, 0, 0, &ip_id), -ENOBUFS);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ip/output");
	TCase *tc = tcase_create("output");
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, test_round_trip);
	tcase_add_test(tc, test_same_bytes_as_linux);
	tcase_add_test(tc, test_v4_fields);
	tcase_add_test(tc, test_super_segments);
	tcase_add_test(tc, test_length_limits);
	tcase_add_test(tc, test_link_error_is_passed_on);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
