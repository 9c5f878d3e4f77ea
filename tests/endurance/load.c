/*
 * load server ADDRESS PORT [--steady MS]
 * load client ADDRESS PORT [--count N] [--again N] [--parallel N] [--rounds N] [--first server|client] [--together] [--steady MS]
 *             [--locals FIRST-ADDRESS N]
 *
 * The server says `ready` and serves until a signal: SIGUSR1 makes it return from main, SIGTERM and SIGKILL are not
 * handled. The client prints one JSON document; status 0: every connection went as it should. See load.h.
 */
#include "load.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

volatile int load_ended;

static void on_usr1(int number)
{
	load_ended = 1;
}

int64_t load_now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void pattern(uint8_t *out, uint32_t n, uint64_t number)
{
	for (uint32_t i = 0; i < n; i++) {
		number = number * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		out[i] = (uint8_t)(number >> 56);
	}
}

void request_make(uint8_t request[REQUEST_BYTES], uint64_t number, enum then then)
{
	memcpy(request, &number, sizeof number);
	request[8] = (uint8_t)then;
	pattern(request + 9, REQUEST_BYTES - 9, number + then);
}

bool request_check(const uint8_t request[REQUEST_BYTES], uint64_t *number, enum then *then)
{
	uint8_t want[REQUEST_BYTES];
	memcpy(number, request, sizeof *number);
	*then = request[8];
	request_make(want, *number, *then);
	return *then <= THEN_CLIENT_CLOSES && memcmp(request, want, sizeof want) == 0;
}

void answer_make(uint8_t answer[ANSWER_BYTES], uint64_t number)
{
	pattern(answer, ANSWER_BYTES, ~number);
}

static void usage(void)
{
	fprintf(stderr, "usage: load server|client ADDRESS PORT [--count N] [--again N] [--parallel N] [--rounds N] [--first server|client] [--together] [--eager] "
			"[--steady MS] [--locals ADDRESS N]\n");
	exit(2);
}

static uint32_t number(const char *text)
{
	char *end;
	unsigned long n = strtoul(text ? text : "", &end, 10);
	if (!text || !*text || *end || n > 100000000)
		usage();
	return (uint32_t)n;
}

static void parse(struct load_options *o, char **argv)
{
	struct in_addr local;
	for (; *argv; argv++) {
		if (strcmp(*argv, "--count") == 0)
			o->count = number(*++argv);
		else if (strcmp(*argv, "--again") == 0)
			o->again = number(*++argv);
		else if (strcmp(*argv, "--parallel") == 0)
			o->parallel = number(*++argv);
		else if (strcmp(*argv, "--rounds") == 0)
			o->rounds = number(*++argv);
		else if (strcmp(*argv, "--steady") == 0)
			o->steady_ms = (int)number(*++argv);
		else if (strcmp(*argv, "--eager") == 0)
			o->eager = true;
		else if (strcmp(*argv, "--together") == 0)
			o->together = true;
		else if (strcmp(*argv, "--first") == 0 && argv[1])
			o->server_first = strcmp(*++argv, "server") == 0;
		else if (strcmp(*argv, "--locals") == 0 && argv[1] && inet_pton(AF_INET, *++argv, &local) == 1) {
			o->first_local = ntohl(local.s_addr);
			o->n_locals = number(*++argv);
		} else
			usage();
	}
	if (!o->count || !o->parallel || !o->rounds)
		usage();
	if (o->together || o->steady_ms)
		o->parallel = o->count;
}

int main(int argc, char **argv)
{
	struct load_options o = {.server.sin_family = AF_INET, .count = 1, .parallel = 1, .rounds = 1};
	struct rlimit files;
	if (argc < 4 || inet_pton(AF_INET, argv[2], &o.server.sin_addr) != 1)
		usage();
	o.server.sin_port = htons((uint16_t)number(argv[3]));
	parse(&o, argv + 4);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	struct sigaction usr1 = {.sa_handler = on_usr1}, ignore = {.sa_handler = SIG_IGN};
	sigaction(SIGUSR1, &usr1, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	if (strcmp(argv[1], "server") == 0)
		return serve(&o);
	if (strcmp(argv[1], "client") == 0)
		return load(&o);
	usage();
}
