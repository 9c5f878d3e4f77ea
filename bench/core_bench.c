/*
 * The TCP core alone, both ends of a connection in one process, in virtual time: what bench/core.sh counts the instructions of. Nothing here depends on the clock or
 * the machine, so that the same code gives the same count.
 *
 *   core_bench request|connection|bulk N
 *
 * request     64 bytes there and 1,024 back, on one connection
 * connection  handshake, one such request, the client closes first
 * bulk        64 KiB one way, read in one piece
 */
#include <stdbool.h>
#include <stdio.h>

#include "../tests/tcp/core_pair.h"

#define REQUEST_BYTES 64
#define ANSWER_BYTES  1024
#define BULK_BYTES    65536
#define ROUND_US      100 /* between two of them */

static struct pair pair;
static uint8_t buffer[BULK_BYTES];

static void must(bool right, const char *what)
{
	if (right)
		return;
	fprintf(stderr, "core_bench: %s\n", what);
	exit(1);
}

static void carry(struct side *from, struct side *to, size_t bytes)
{
	size_t sent = 0, got = 0;
	while (got < bytes) {
		ssize_t n = sent < bytes ? side_send(&pair, from, buffer, bytes - sent) : 0;
		sent += n > 0 ? n : 0;
		pair_run(&pair);
		n = side_recv(&pair, to, buffer, bytes - got);
		if (n <= 0) /* an ACK is delayed, or the window has to open */
			pair_advance(&pair, pair.now + ROUND_US);
		got += n > 0 ? n : 0;
	}
}

static void request(void)
{
	carry(&pair.a, &pair.b, REQUEST_BYTES);
	carry(&pair.b, &pair.a, ANSWER_BYTES);
	pair_advance(&pair, pair.now + ROUND_US);
}

static void bulk(void)
{
	carry(&pair.a, &pair.b, BULK_BYTES);
	pair_advance(&pair, pair.now + ROUND_US);
}

static void reopen(uint32_t n)
{
	struct tcp_open a = pair_open(true, ISS_A + n), b = pair_open(false, ISS_B + n);
	tcp_fini(&pair.a.conn);
	tcp_fini(&pair.b.conn);
	pair_connect_with(&pair, &a, &b);
}

static void connection(void)
{
	static uint32_t n;
	reopen(++n);
	request();
	tcp_close(&pair.a.conn, pair.now, false, false);
	pair_run(&pair);
	must(side_recv(&pair, &pair.b, buffer, 1) == 0, "the server did not see the end of file");
	tcp_close(&pair.b.conn, pair.now, false, false);
	pair_run(&pair);
	must(tcp_state(&pair.b.conn) == TCPS_CLOSED, "the server's connection is not over");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*once)(void);
	} kinds[] = {{"request", request}, {"connection", connection}, {"bulk", bulk}};
	for (unsigned i = 0; argc == 3 && i < sizeof kinds / sizeof *kinds; i++) {
		if (strcmp(argv[1], kinds[i].name))
			continue;
		pair_connect(&pair);
		for (long n = atol(argv[2]); n > 0; n--)
			kinds[i].once();
		pair_fini(&pair);
		return 0;
	}
	fprintf(stderr, "usage: core_bench request|connection|bulk N\n");
	return 2;
}
