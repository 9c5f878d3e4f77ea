/* socket/trace_text: each sentence, from facts made up here; socket/trace_queue against a plain count of lines. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "socket/trace_queue.h"
#include "socket/trace_text.h"
#include "tests/suite.h"

static struct trace_about about;
static struct tcp_status st;
static struct trace_close c;
static struct trace_line line;

static void setup(void)
{
	about = (struct trace_about){.at_us = 12000345, .pid = 7, .key = {.lport = 80, .rport = 61000}};
	ip_addr_parse("10.0.0.1", &about.key.laddr);
	ip_addr_parse("10.0.0.2", &about.key.raddr);
	about.server = true;
	memset(&st, 0, sizeof st);
	memset(&c, 0, sizeof c);
}

#define SERVER "+12.000345 finesse[7] 10.0.0.1:80 <- 10.0.0.2:61000 "
#define CLIENT "+12.000345 finesse[7] 10.0.0.1:80 -> 10.0.0.2:61000 "

static void expect(const char *text)
{
	ck_assert_uint_eq(line.len, strlen(text) + 1);
	ck_assert_int_eq(line.text[line.len - 1], '\n');
	ck_assert_int_eq(memcmp(line.text, text, strlen(text)), 0);
}

static void expect_closed(const char *text)
{
	trace_text_closed(&line, &about, &st, &c);
	expect(text);
}

START_TEST(opening)
{
	st = (struct tcp_status){.iss = 4294967295u, .irs = 1, .mss_advertised = 1460, .mss_snd = 1448, .sack = true, .handshake_rtt_us = 999};
	trace_text_opened(&line, &about, &st);
	expect(SERVER "opened: ISN 4294967295, theirs 1; MSS 1460 announced, 1448 sent at most; SACK, handshake 999 us");
	st.wscale = st.timestamps = st.close_request = true;
	st.rcv_wscale = 7;
	st.handshake_rtt_us = 1500000;
	trace_text_opened(&line, &about, &st);
	expect(SERVER "opened: ISN 4294967295, theirs 1; MSS 1460 announced, 1448 sent at most; window scale 7, theirs 0; SACK, timestamps, close request, handshake 1.5 s");
	st.handshake_rtt_us = 0; /* Karn: not measured */
	about.server = false;
	ip_addr_parse("fd00::1", &about.key.laddr);
	trace_text_opened(&line, &about, &st);
	ck_assert_ptr_nonnull(memmem(line.text, line.len, "[fd00::1]:80 -> 10.0.0.2:61000 ", 31));
	ck_assert_ptr_nonnull(memmem(line.text, line.len, "handshake repeated\n", 19));
}
END_TEST

START_TEST(closing)
{
	st.fin_reason = CLOSE_REASON_EOF_DELIMITED;
	trace_text_closing(&line, &about, &st, &c);
	expect(SERVER "closing: our FIN follows the data (the client waits for our EOF)");
	st.hold_us = 40000;
	st.fin_reason = CLOSE_REASON_HELD;
	trace_text_closing(&line, &about, &st, &c);
	expect(SERVER "closing: our FIN waits at most 40.0 ms (held for the client)");
	st.reset = 1;
	st.fin_reason = CLOSE_REASON_UNREAD;
	trace_text_closing(&line, &about, &st, &c);
	expect(SERVER "closing: RST at once (unread data: RST, as Linux)");
	st.fin_reason = CLOSE_REASON_POLICY_OFF; /* SO_LINGER 0: no policy was asked */
	trace_text_closing(&line, &about, &st, &c);
	expect(SERVER "closing: RST at once");
	st.reset = 0;
	st.hold_us = 0;
	about.server = false;
	trace_text_closing(&line, &about, &st, &c);
	expect(CLIENT "closing: our FIN follows the data");
}
END_TEST

START_TEST(first_fin)
{
	c.first_fin = -1;
	trace_text_first_fin(&line, &about, &st, &c);
	expect(SERVER "FIN: the client's is the first");
	st.hold_us = 1;
	trace_text_first_fin(&line, &about, &st, &c);
	expect(SERVER "FIN: the client's is the first, ours had waited for it");
	c.first_fin = 1;
	st.fin_reason = CLOSE_REASON_EXPIRED;
	trace_text_first_fin(&line, &about, &st, &c);
	expect(SERVER "FIN: ours is the first (held, and the client did not close in time)");
	about.server = false;
	trace_text_first_fin(&line, &about, &st, &c);
	expect(CLIENT "FIN: ours is the first");
	c.first_fin = -1;
	st.hold_us = 0;
	trace_text_first_fin(&line, &about, &st, &c);
	expect(CLIENT "FIN: the server's is the first");
}
END_TEST

START_TEST(summary)
{
	st.bytes_in = 5;
	c.first_fin = -1;
	c.end = TRACE_END_CLOSED;
	expect_closed(SERVER "closed: first FIN by the client (we had not closed); 5 bytes in, 0 out; TIME-WAIT is the client's");
	c.send_closed = true;
	st.fin_reason = CLOSE_REASON_PEER_FIRST;
	st.total_retrans = 3;
	expect_closed(SERVER "closed: first FIN by the client (the peer had closed before); 5 bytes in, 0 out, 3 segments repeated; TIME-WAIT is the client's");
	st.total_retrans = 0;
	st.reset = -1; /* a client that closes and then resets keeps no TIME-WAIT */
	expect_closed(SERVER "closed: first FIN by the client (the peer had closed before); 5 bytes in, 0 out; no TIME-WAIT: reset by the client");
	st.reset = 0;
	about.server = false;
	c.first_fin = 1;
	c.end = TRACE_END_TIME_WAIT;
	expect_closed(CLIENT "closed: first FIN by us, the client; 5 bytes in, 0 out; TIME-WAIT is ours");
	c.end = TRACE_END_KERNEL;
	st.state = TCPS_FIN_WAIT_2;
	expect_closed(CLIENT "handed over: first FIN by us, the client; 5 bytes in, 0 out; goes on in the kernel, in FIN-WAIT-2");
}
END_TEST

START_TEST(summary_without_a_fin)
{
	about.server = false;
	c.end = TRACE_END_CLOSED;
	c.error = ECONNREFUSED;
	st.reset = -1;
	expect_closed(CLIENT "closed: no FIN from either side; 0 bytes in, 0 out; no TIME-WAIT: Connection refused");
	c.error = ECONNRESET;
	expect_closed(CLIENT "closed: no FIN from either side; 0 bytes in, 0 out; no TIME-WAIT: reset by the server");
	st.reset = 1;
	expect_closed(CLIENT "closed: no FIN from either side; 0 bytes in, 0 out; no TIME-WAIT: reset by us, the client");
	st.reset = 0;
	c.error = ETIMEDOUT;
	expect_closed(CLIENT "closed: no FIN from either side; 0 bytes in, 0 out; no TIME-WAIT: Connection timed out");
	c.error = 0;
	expect_closed(CLIENT "closed: no FIN from either side; 0 bytes in, 0 out; no TIME-WAIT: given up");
}
END_TEST

START_TEST(other_lines)
{
	trace_text_fallback(&line, 1, 7, "a listener", "it is shared");
	expect("+0.000001 finesse[7] a listener stays with the kernel's TCP: it is shared");
	trace_text_lost(&line, 0, 7, 12);
	expect("+0.000000 finesse[7] 12 lines were lost here: they were not read in time");
}
END_TEST

START_TEST(a_line_too_long_is_cut_and_ends)
{
	char why[2 * TRACE_LINE_BYTES];
	memset(why, 'x', sizeof why - 1);
	why[sizeof why - 1] = 0;
	trace_text_fallback(&line, 1, 7, "a socket", why);
	ck_assert_uint_le(line.len, sizeof line.text);
	ck_assert_uint_gt(line.len, sizeof line.text - 4);
	ck_assert_int_eq(line.text[line.len - 1], '\n');
	ck_assert_int_eq(line.text[line.len - 2], 'x');
}
END_TEST

/*
 * Numbered lines of odd lengths in; writes that take all, some bytes or nothing out: each accepted line once, whole, in
 * order; each refused one counted.
 */
START_TEST(queue_keeps_whole_lines_in_order)
{
	static struct trace_queue q;
	static char out[64 << 20];
	size_t got = 0;
	uint32_t rnd = 1, accepted = 0, refused = 0, wrong = 0; /* an assertion per step would take seconds on a busy machine */
	for (int step = 0; step < 200000; step++) {
		char text[400];
		const char *bytes = NULL;
		rnd = rnd * 1664525 + 1013904223;
		int n = snprintf(text, sizeof text, "%u%*s\n", accepted, (int)(rnd >> 8) % 300, "");
		if (trace_queue_push(&q, text, n))
			accepted++;
		else
			refused++;
		if (step / 2000 % 2 && !(rnd >> 28)) /* nobody reads, or slowly */
			continue;
		size_t take = step / 2000 % 2 ? trace_queue_peek(&q, &bytes) : 0;
		wrong += take > TRACE_WRITE_BYTES;
		if (take && rnd >> 30 == 1)
			take = 1 + (rnd >> 4) % take; /* a short write */
		else if (take)
			wrong += bytes[take - 1] != '\n';
		if (take)
			memcpy(out + got, bytes, take);
		got += take;
		trace_queue_pop(&q, take);
	}
	for (const char *bytes; q.len;) {
		size_t n = trace_queue_peek(&q, &bytes);
		ck_assert_uint_gt(n, 0);
		memcpy(out + got, bytes, n);
		got += n;
		trace_queue_pop(&q, n);
	}
	ck_assert_uint_gt(refused, 1000);
	ck_assert_uint_eq(q.lost, refused);
	const char *p = out;
	for (uint32_t i = 0; i < accepted && p; i++) {
		wrong += strtoul(p, NULL, 10) != i;
		p = memchr(p, '\n', out + got - p);
		p = p ? p + 1 : NULL;
	}
	ck_assert_uint_eq(wrong, 0);
	ck_assert_ptr_eq(p, out + got);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trace");
	TCase *t = tcase_create("trace");
	tcase_set_timeout(t, 60); /* a busy machine */
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, opening);
	tcase_add_test(t, closing);
	tcase_add_test(t, first_fin);
	tcase_add_test(t, summary);
	tcase_add_test(t, summary_without_a_fin);
	tcase_add_test(t, other_lines);
	tcase_add_test(t, a_line_too_long_is_cut_and_ends);
	tcase_add_test(t, queue_keeps_whole_lines_in_order);
	suite_add_tcase(s, t);
	return suite_main(s);
}
