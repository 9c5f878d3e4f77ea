/* Conversations, and what a reader must say at their end: whole, byte by byte, and cut in two at every place. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "steer/reader.h"
#include "tests/suite.h"

#define TURNS_MAX 8

/* Turns alternate from the first; '<' before the first turn: the server speaks first. */
struct talk {
	const char *name;
	enum reader_says says;
	bool server_first;
	const char *turns[TURNS_MAX];
};

#define OVER    READER_MESSAGE_OVER
#define EOF_    READER_EOF_DELIMITED
#define SILENT  READER_SILENT
#define KEPT    READER_KEPT_ALIVE
#define GET     "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
#define GET_10  "GET / HTTP/1.0\r\n\r\n"
#define CLOSING "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
#define OK      "HTTP/1.1 200 OK\r\n"
#define SHUT    "Connection: close\r\n"
#define X16     "xxxxxxxxxxxxxxxx"
#define X128    X16 X16 X16 X16 X16 X16 X16 X16
#define X512    X128 X128 X128 X128

static const struct talk talks[] = {
	/* HTTP: length */
	{"length, closed", OVER, false, {GET, OK SHUT "Content-Length: 5\r\n\r\nhello"}},
	{"length, kept alive", KEPT, false, {GET, OK "Content-Length: 5\r\n\r\nhello"}},
	{"length, one byte missing", EOF_, false, {GET, OK SHUT "Content-Length: 5\r\n\r\nhell"}},
	{"length 0", OVER, false, {GET, OK SHUT "Content-Length: 0\r\n\r\n"}},
	{"only the request says close", KEPT, false, {CLOSING, OK "Content-Length: 5\r\n\r\nhello"}},
	{"header names in any case", OVER, false, {GET, OK "CONNECTION:Close\r\ncOnTeNt-LeNgTh:5\r\n\r\nhello"}},
	{"close in a list", OVER, false, {GET, OK "Connection: foo , close\t, bar\r\nContent-Length: 1\r\n\r\nx"}},
	{"closed is not close", KEPT, false, {GET, OK "Connection: closed\r\nContent-Length: 1\r\n\r\nx"}},
	{"close enough is not close", KEPT, false, {GET, OK "Connection: close enough\r\nContent-Length: 1\r\n\r\nx"}},
	{"bare line feeds", OVER, false, {"GET / HTTP/1.1\nHost: x\n\n", "HTTP/1.1 200 OK\nConnection: close\nContent-Length: 1\n\nx"}},
	{"a folded value", OVER, false, {GET, OK "Connection: foo,\r\n close\r\nContent-Length:\r\n\t1\r\n\r\nx"}},
	{"no reason phrase", OVER, false, {GET, "HTTP/1.1 200\r\n" SHUT "Content-Length: 1\r\n\r\nx"}},
	{"empty lines before a request", OVER, false, {"\r\n" CLOSING, OK SHUT "Content-Length: 1\r\n\r\nx"}},
	/* … that cannot be trusted */
	{"two lengths", SILENT, false, {GET, OK SHUT "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"}},
	{"a list of lengths", SILENT, false, {GET, OK SHUT "Content-Length: 5, 5\r\n\r\nhello"}},
	{"two numbers", SILENT, false, {GET, OK SHUT "Content-Length: 5 5\r\n\r\nhello"}},
	{"a negative length", SILENT, false, {GET, OK SHUT "Content-Length: -5\r\n\r\nhello"}},
	{"no digits", SILENT, false, {GET, OK SHUT "Content-Length: \r\n\r\n"}},
	{"a length beyond 2^64", SILENT, false, {GET, OK SHUT "Content-Length: 18446744073709551616\r\n\r\n"}},
	{"a large length", EOF_, false, {GET, OK SHUT "Content-Length: 18446744073709551615\r\n\r\nx"}},
	{"a line without a colon", SILENT, false, {GET, OK SHUT "nonsense\r\n\r\n"}},
	{"a bare CR in a name", SILENT, false, {GET, OK "Content-Length: 0\r\nConn\rection: close\r\n\r\n"}},
	{"a bare CR in a length", SILENT, false, {GET, OK SHUT "Content-Length: 1\r0\r\n\r\n0123456789"}},
	{"a bare CR in a chunk size", SILENT, false, {GET, OK SHUT "Transfer-Encoding: chunked\r\n\r\n1\r0\r\n0123456789abcdef\r\n0\r\n\r\n"}},
	{"a blank before the colon", SILENT, false, {GET, OK SHUT "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n5\r\nab"}},
	/* HTTP/1.0 */
	{"1.0 response, chunked", SILENT, false, {GET, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"}},
	{"1.0 response", OVER, false, {GET_10, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi"}},
	{"1.0 request, 1.1 response", OVER, false, {GET_10, OK "Content-Length: 2\r\n\r\nhi"}},
	{"1.0 kept alive", KEPT, false, {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", OK "Connection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi"}},
	{"1.0, to the end of file", EOF_, false, {GET_10, "HTTP/1.0 200 OK\r\n\r\nhello"}},
	{"to the end of file, nothing yet", EOF_, false, {GET, OK SHUT "\r\n"}},
	{"0.9", SILENT, false, {"GET /\r\n", "hello"}},
	{"2", SILENT, false, {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "x"}},
	/* chunks */
	{"chunked", OVER, false, {GET, OK SHUT "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"}},
	{"chunked with trailers", OVER, false, {GET, OK SHUT "Transfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n"}},
	{"chunked, the end is missing", EOF_, false, {GET, OK SHUT "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"}},
	{"chunked, kept alive", KEPT, false, {GET, OK "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"}},
	{"chunked overrides the length", OVER, false, {GET, OK SHUT "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"}},
	{"… whatever follows that", OVER, false, {GET, OK SHUT "Content-Length: 3 \r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"}},
	{"chunked is not the last coding", EOF_, false, {GET, OK SHUT "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"}},
	{"no chunk size", SILENT, false, {GET, OK SHUT "Transfer-Encoding: chunked\r\n\r\n\r\n"}},
	{"bad chunk size", SILENT, false, {GET, OK SHUT "Transfer-Encoding: chunked\r\n\r\nxyz\r\n"}},
	{"chunk without its CRLF", SILENT, false, {GET, OK SHUT "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n"}},
	{"chunk beyond 2^64", SILENT, false, {GET, OK SHUT "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n"}},
	/* without a body */
	{"HEAD", OVER, false, {"HEAD / HTTP/1.1\r\n\r\n", OK SHUT "Content-Length: 500\r\n\r\n"}},
	{"HEAD, chunked", OVER, false, {"HEAD / HTTP/1.1\r\n\r\n", OK SHUT "Transfer-Encoding: chunked\r\n\r\n"}},
	{"204", OVER, false, {GET, "HTTP/1.1 204 No Content\r\n" SHUT "\r\n"}},
	{"304", OVER, false, {GET, "HTTP/1.1 304 Not Modified\r\n" SHUT "Content-Length: 77\r\n\r\n"}},
	{"100, then the answer", OVER, false, {"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "abc", OK SHUT "Content-Length: 1\r\n\r\nx"}},
	{"103, then the answer", OVER, false, {GET, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" OK SHUT "Content-Length: 0\r\n\r\n"}},
	/* other protocols from here on */
	{"101", SILENT, false, {"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\n\r\nHTTP/1.1 200 OK\r\n"}},
	{"CONNECT", SILENT, false, {"CONNECT x:443 HTTP/1.1\r\n\r\n", OK SHUT "\r\n"}},
	{"CONNECT refused", OVER, false, {"CONNECT x:443 HTTP/1.1\r\n\r\n", "HTTP/1.1 403 No\r\n" SHUT "Content-Length: 0\r\n\r\n"}},
	/* several */
	{"kept alive, then closed", OVER, false, {GET, OK "Content-Length: 1\r\n\r\nx", CLOSING, OK SHUT "Content-Length: 1\r\n\r\ny"}},
	{"pipelined", OVER, false, {GET "HEAD / HTTP/1.1\r\n\r\n" CLOSING, OK "Content-Length: 1\r\n\r\nx" OK "Content-Length: 100\r\n\r\n" OK SHUT "Content-Length: 1\r\n\r\ny"}},
	{"pipelined, the last is missing", EOF_, false, {GET CLOSING, OK "Content-Length: 1\r\n\r\nx"}},
	{"a request's body is no request", OVER, false, {"POST / HTTP/1.1\r\nContent-Length: 24\r\nConnection: close\r\n\r\nHEAD / HTTP/1.1\r\nA: b\r\n\r\n", OK SHUT "Content-Length: 2\r\n\r\nok"}},
	{"a chunked request", OVER, false, {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n", OK SHUT "Content-Length: 2\r\n\r\nok"}},
	{"a request of both lengths", SILENT, false, {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", OK SHUT "Content-Length: 0\r\n\r\n"}},
	{"the answer comes before the body", OVER, false, {"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc", "HTTP/1.1 413 Too Large\r\n" SHUT "Content-Length: 0\r\n\r\n"}},
	{"an answer to nothing", SILENT, false, {GET, OK "Content-Length: 0\r\n\r\n" OK SHUT "Content-Length: 0\r\n\r\n"}},
	{"no answer yet", EOF_, false, {CLOSING}},
	{"within the header section", EOF_, false, {GET, OK SHUT "Content-Len"}},
	/* TLS */
	{"TLS", READER_TLS, false, {"\x16\x03\x01\x02\x00", "\x16\x03\x03"}},
	{"not TLS", SILENT, false, {"\x16\x04\x01\x02\x00", "\x16\x03\x03"}},
	{"TLS, one byte", SILENT, false, {"\x16"}},
	/* redis */
	{"redis QUIT", OVER, false, {"*1\r\n$4\r\nPING\r\n", "+PONG\r\n", "*1\r\n$4\r\nQUIT\r\n", "+OK\r\n"}},
	{"redis QUIT inline", OVER, false, {"PING\r\n", "+PONG\r\n", "quit\r\n", "+OK\r\n"}},
	{"redis, no QUIT", SILENT, false, {"*1\r\n$4\r\nPING\r\n", "+PONG\r\n"}},
	{"redis, QUIT was before", SILENT, false, {"*1\r\n$4\r\nQUIT\r\n", "+OK\r\n", "*1\r\n$4\r\nPING\r\n", "+PONG\r\n"}},
	{"redis, half a QUIT", SILENT, false, {"*1\r\n$4\r\nQUI", "+OK\r\n"}},
	{"quitter is not quit", SILENT, false, {"quitter\r\n", "+OK\r\n"}},
	{"redis, values are counted", SILENT, false, {"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$7\r\n\nQUIT\r\n\r\n", "+OK\r\n"}},
	{"redis, QUIT after a value", OVER, false, {"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "$3\r\na\nb\r\n", "*1\r\n$4\r\nQUIT\r\n", "+OK\r\n"}},
	{"redis, no value", OVER, false, {"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "$-1\r\n", "*1\r\n$4\r\nQUIT\r\n", "+OK\r\n"}},
	{"redis, an empty value", OVER, false, {"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "$0\r\n\r\n", "*1\r\n$4\r\nQUIT\r\n", "+OK\r\n"}},
	{"redis, within a line", SILENT, false, {"*1\r\n$4\r\nQUIT\r\n", "+O"}},
	{"redis QUIT behind a long value", OVER, false, {"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$512\r\n" X512 "\r\n*1\r\n$4\r\nQUIT\r\n", "+OK\r\n+OK\r\n"}},
	{"redis, a length beyond 2^64", SILENT, false, {"*1\r\n$18446744073709551620\r\nabc"}},
	/* none of theirs, however it goes on */
	{"a cookie", SILENT, false, {"x7qk2mzzt3abcdefghijklmnopqrstuvwxyz\nquit\r\n"}},
	{"a long word", SILENT, false, {"abcdefghijklmnopq\r\nquit\r\n"}},
	{"a greeting of something else", SILENT, true, {"2x7qk2m\n", "quit\r\n", "221 bye\r\n"}},
	/* memcached */
	{"memcached quit", OVER, false, {"get a\r\n", "END\r\n", "quit\r\n"}},
	{"memcached", SILENT, false, {"get a\r\n", "END\r\n"}},
	{"memcached quit behind a long value", OVER, false, {"get a\r\n", "END\r\n", "set a 0 0 512\r\n" X512 "\r\nquit\r\n", "STORED\r\n"}},
	{"memcached, a long value behind quit", SILENT, false, {"get a\r\n", "END\r\n", "quit\r\nset a 0 0 512\r\n" X512 "\r\n"}},
	/* SMTP, FTP */
	{"SMTP 221", OVER, true, {"220 mail ready\r\n", "QUIT\r\n", "221 bye\r\n"}},
	{"SMTP 221 of two lines", OVER, true, {"220-mail\r\n220 ready\r\n", "QUIT\r\n", "221-so long\r\n221 bye\r\n"}},
	{"SMTP, the second line is missing", SILENT, true, {"220 ready\r\n", "QUIT\r\n", "221-so long\r\n"}},
	{"SMTP 421", OVER, true, {"220 mail ready\r\n", "EHLO x\r\n", "250 x\r\n421 closing\r\n"}},
	{"SMTP 421 at once", OVER, true, {"421 busy\r\n"}},
	{"SMTP 250", SILENT, true, {"220 mail ready\r\n", "EHLO x\r\n", "250 x\r\n"}},
	{"SMTP, went on", SILENT, true, {"220 x\r\n", "QUIT\r\n", "221 bye\r\n", "EHLO x\r\n"}},
	{"SMTP, a long line behind 221", SILENT, true, {"220 x\r\n", "QUIT\r\n", "221 bye\r\n" X512 "\r\n"}},
	{"SMTP 221 behind a long line", OVER, true, {"220 x\r\n", "QUIT\r\n", "250 " X512 "\r\n221 bye\r\n"}},
	{"SMTP, half a line", SILENT, true, {"220 x\r\n", "QUIT\r\n", "221 by"}},
	/* POP3, IMAP */
	{"POP3", OVER, true, {"+OK ready\r\n", "STAT\r\n", "+OK 1 2\r\n", "QUIT\r\n", "+OK bye\r\n"}},
	{"POP3, no QUIT", SILENT, true, {"+OK ready\r\n", "STAT\r\n", "+OK 1 2\r\n"}},
	{"POP3, refused", SILENT, true, {"+OK ready\r\n", "QUIT\r\n", "-ERR no\r\n"}},
	{"IMAP", OVER, true, {"* OK ready\r\n", "a1 LOGOUT\r\n", "* BYE see you\r\na1 OK done\r\n"}},
	{"IMAP, thrown out", OVER, true, {"* OK ready\r\n", "a1 NOOP\r\n", "a1 OK\r\n* BYE idle\r\n"}},
	{"IMAP", SILENT, true, {"* OK ready\r\n", "a1 NOOP\r\n", "* 3 EXISTS\r\na1 OK done\r\n"}},
	/* nothing known */
	{"nothing", SILENT, false, {NULL}},
	{"binary", SILENT, false, {"\x01\x02\x03", "\x04"}},
	{"SSH", SILENT, true, {"SSH-2.0-x\r\n", "SSH-2.0-y\r\n"}},
};
#define TALKS ((int)(sizeof talks / sizeof talks[0]))

static void say(struct reader *r, bool in, const char *p, size_t n)
{
	/* on the heap, exactly: a sanitizer sees the end */
	char *copy = malloc(n ? n : 1);
	memcpy(copy, p, n);
	if (in)
		reader_in(r, copy, n);
	else
		reader_out(r, copy, n);
	free(copy);
}

/* The conversation in pieces: `step` bytes each, 0: whole turns; or one turn cut at `cut`. */
static enum reader_says talk_over(const struct talk *t, size_t step, int cut_turn, size_t cut)
{
	struct reader r = {0};
	for (int i = 0; i < TURNS_MAX && t->turns[i]; i++) {
		bool in = (i % 2 == 0) != t->server_first;
		const char *p = t->turns[i];
		size_t n = strlen(p);
		if (i == cut_turn) {
			say(&r, in, p, cut);
			p += cut;
			n -= cut;
		}
		for (size_t k; n; p += k, n -= k) {
			k = step && step < n ? step : n;
			say(&r, in, p, k);
		}
	}
	return reader_says(&r);
}

START_TEST(what_it_says)
{
	const struct talk *t = &talks[_i];
	for (size_t step = 0; step < 4; step++)
		ck_assert_msg(talk_over(t, step, -1, 0) == t->says, "%s: says %d in pieces of %zu", t->name, talk_over(t, step, -1, 0), step);
	for (int i = 0; i < TURNS_MAX && t->turns[i]; i++)
		for (size_t cut = 0; cut <= strlen(t->turns[i]); cut++)
			ck_assert_msg(talk_over(t, 0, i, cut) == t->says, "%s: says %d when turn %d is cut at %zu", t->name,
				      talk_over(t, 0, i, cut), i, cut);
}
END_TEST

START_TEST(a_large_body_is_counted)
{
	static const char block[65536];
	struct reader r = {0};
	say(&r, true, CLOSING, strlen(CLOSING));
	const char *head = OK SHUT "Content-Length: 6553600000\r\n\r\n";
	say(&r, false, head, strlen(head));
	for (int i = 0; i < 100000; i++) {
		ck_assert_int_eq(reader_says(&r), READER_EOF_DELIMITED);
		reader_out(&r, block, sizeof block);
	}
	ck_assert_int_eq(reader_says(&r), READER_MESSAGE_OVER);
}
END_TEST

START_TEST(more_requests_than_the_queue_holds)
{
	struct reader r = {0};
	for (int i = 0; i < 32; i++)
		say(&r, true, GET, strlen(GET));
	ck_assert(!reader_is_silent(&r));
	say(&r, true, GET, strlen(GET));
	ck_assert(reader_is_silent(&r));
}
END_TEST

START_TEST(lost_bytes)
{
	struct reader r = {0};
	say(&r, true, CLOSING, strlen(CLOSING));
	reader_lost(&r);
	say(&r, false, OK "Content-Length: 0\r\n\r\n", strlen(OK "Content-Length: 0\r\n\r\n"));
	ck_assert_int_eq(reader_says(&r), READER_SILENT);
}
END_TEST

/* Of a large piece only the end is read: the verdict is that of the same bytes in small ones. */
START_TEST(a_large_piece_is_read_at_its_end)
{
	static const char *const ends[] = {"\r\n*1\r\n$4\r\nQUIT\r\n", "\r\n", "\nquit", "\nquit\r\n", "\nquit\r\nmore\r\n", "QUIT\r\n", ""};
	char bulk[6000];
	uint32_t seed = 5;
	for (unsigned i = 0; i < 7 * 200; i++) {
		struct reader whole = {0}, pieces = {0};
		size_t n = 100 + i * 3;
		for (size_t k = 0; k < n; k++) {
			seed = seed * 1664525 + 1013904223;
			bulk[k] = i % 3 ? (char)(seed >> 24) : 'x'; /* lines of all lengths, or none */
		}
		memcpy(bulk + n, ends[i % 7], strlen(ends[i % 7]));
		n += strlen(ends[i % 7]);
		say(&whole, true, "*1\r\n", 4);
		say(&pieces, true, "*1\r\n", 4);
		say(&whole, true, bulk, n);
		for (size_t at = 0; at < n; at += 100)
			say(&pieces, true, bulk + at, n - at < 100 ? n - at : 100);
		say(&whole, false, "+OK\r\n", 5);
		say(&pieces, false, "+OK\r\n", 5);
		ck_assert_int_eq(reader_says(&whole), reader_says(&pieces));
		ck_assert(i % 7 || reader_says(&whole) == READER_MESSAGE_OVER);
	}
}
END_TEST

/* A line that is all there is taken at once: it leaves what its bytes would have left, also when it is damaged. */
static uint32_t http_state_of(const struct reader *r)
{
	uint32_t h = r->kind;
	if (r->kind != READER_KIND_HTTP)
		return h;
	for (int i = 0; i < 2; i++) {
		const struct http_half *half = i ? &r->http.out : &r->http.in;
		const uint64_t fields[] = {half->left, half->state, half->header, half->minor, half->flags, half->status};
		for (size_t k = 0; k < sizeof fields / sizeof *fields; k++)
			h = (h ^ (uint32_t)fields[k]) * 16777619;
	}
	return ((h ^ r->head) * 16777619 ^ r->close) * 16777619 ^ r->n_requests;
}

static void say_bytes(struct reader *r, bool in, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		say(r, in, bytes + i, 1);
}

START_TEST(whole_lines_are_as_their_bytes)
{
	static const char request[] = "GET /a?b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\nX-Y:\r\n\r\nabc";
	static const char response[] = "HTTP/1.0 200 OK\r\nServer: n\r\ncontent-length: 12\r\nTransfer-Encodin: a\n\tb\r\nConnection: keep-alive\r\n\r\nhello world.";
	static const char damage[] = "\r\n \t:0aHc\x80";
	uint32_t seed = 11;
	for (unsigned i = 0; i < 20000; i++) {
		char a[sizeof request], b[sizeof response];
		struct reader whole = {0}, single = {0};
		memcpy(a, request, sizeof a);
		memcpy(b, response, sizeof b);
		for (unsigned k = i % 4; k; k--) {
			seed = seed * 1664525 + 1013904223;
			char *at = seed >> 31 ? &a[(seed >> 8) % (sizeof a - 1)] : &b[(seed >> 8) % (sizeof b - 1)];
			*at = damage[(seed >> 20) % (sizeof damage - 1)];
		}
		say(&whole, true, a, sizeof a - 1);
		say_bytes(&single, true, a, sizeof a - 1);
		ck_assert_uint_eq(http_state_of(&whole), http_state_of(&single));
		say(&whole, false, b, sizeof b - 1);
		say_bytes(&single, false, b, sizeof b - 1);
		ck_assert_uint_eq(http_state_of(&whole), http_state_of(&single));
		ck_assert_int_eq(reader_says(&whole), reader_says(&single));
	}
}
END_TEST

START_TEST(it_is_small)
{
	ck_assert_uint_le(sizeof(struct reader), 64);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("readers");
	TCase *tc = tcase_create("readers");
	tcase_add_loop_test(tc, what_it_says, 0, TALKS);
	tcase_add_test(tc, a_large_body_is_counted);
	tcase_add_test(tc, more_requests_than_the_queue_holds);
	tcase_add_test(tc, lost_bytes);
	tcase_add_test(tc, a_large_piece_is_read_at_its_end);
	tcase_add_test(tc, whole_lines_are_as_their_bytes);
	tcase_add_test(tc, it_is_small);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
