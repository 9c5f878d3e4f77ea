/*
 * A bad network between two interfaces: what comes in at one goes out at the other, impaired.
 *
 *   bridge A B [SETTINGS [SETTINGS-BACK]]      "loss=1%,delay=20ms,…" (src/base/impair_config.h); one setting serves both directions
 *
 * Says `ready` on stdout when it forwards. At SIGTERM or SIGINT one JSON document on stdout, with the counters of each
 * direction; status
 * 0. A bad setting: status 2. No privilege, an interface that is not there or goes away: 1.
 *
 * One thread: receive a batch from each side, hand on what is due, sleep until the next frame comes or is due.
 * Offloads: see port.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/time.h"
#include "link/impair.h"
#include "port.h"

static volatile sig_atomic_t ended;

static void on_end(int number)
{
	ended = 1;
}

/* From port[d] to port[!d]. */
struct bridge {
	struct port port[2];
	struct impair way[2];
};

static void tell_way(const struct bridge *b, int d)
{
	const struct impair_counters *c = &b->way[d].counters;
	const struct port_counters *in = &b->port[d].counters, *out = &b->port[!d].counters;
	printf("{\"from\":\"%s\",\"to\":\"%s\",\"frames\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"delivered\":%" PRIu64 ",\"lost\":%" PRIu64
	       ",\"duplicated\":%" PRIu64 ",\"reordered\":%" PRIu64 ",\"corrupted\":%" PRIu64 ",\"overflowed\":%" PRIu64,
	       b->port[d].name, b->port[!d].name, c->frames, c->bytes, c->delivered, c->lost, c->duplicated, c->reordered,
	       c->corrupted, c->overflowed);
	printf(",\"in_flight\":%zu,\"oversized\":%" PRIu64 ",\"unfinished\":%" PRIu64 ",\"tagged\":%" PRIu64 ",\"unsent\":%" PRIu64 ",\"late\":%" PRIu64 ",\"latest_us\":%" PRId64 "}",
	       b->way[d].count, in->oversized, in->unfinished, in->tagged, out->unsent,
	       out->late, out->latest_us);
}

/* Sleeps until a frame comes, one is due, a blocked side can send, or the end. */
static void wait_for_work(struct bridge *b, const sigset_t *unblocked)
{
	int64_t now = clock_now_us(), due = TIME_NEVER;
	struct pollfd fds[2];
	for (int d = 0; d < 2; d++) {
		struct port *out = &b->port[!d];
		fds[!d] = (struct pollfd){.fd = out->fd, .events = (short)(POLLIN | (out->blocked ? POLLOUT : 0))};
		if (!out->blocked && impair_next(&b->way[d]) < due)
			due = impair_next(&b->way[d]);
	}
	int64_t us = due > now ? due - now : 0;
	struct timespec timeout = {.tv_sec = us / USEC_PER_SEC, .tv_nsec = us % USEC_PER_SEC * NSEC_PER_USEC};
	ppoll(fds, 2, due == TIME_NEVER ? NULL : &timeout, unblocked);
}

static int forward(struct bridge *b, const sigset_t *unblocked)
{
	while (!ended) {
		int came = 0;
		for (int d = 0; d < 2; d++) {
			int n = port_receive(&b->port[d], &b->way[d], clock_now_us());
			if (n < 0) {
				fprintf(stderr, "bridge: %s: %s\n", b->port[d].name, strerror(-n));
				return 1;
			}
			came += n;
		}
		for (int d = 0; d < 2; d++)
			port_send(&b->port[!d], &b->way[d], clock_now_us());
		if (!came)
			wait_for_work(b, unblocked);
	}
	return 0;
}

static sigset_t catch_end(void)
{
	struct sigaction action = {.sa_handler = on_end};
	sigset_t end, before;
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigaddset(&end, SIGINT);
	sigprocmask(SIG_BLOCK, &end, &before);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigdelset(&before, SIGTERM);
	sigdelset(&before, SIGINT);
	return before;
}

int main(int argc, char **argv)
{
	struct bridge b;
	struct impair_config config[2];
	char why[160];
	if (argc < 3 || argc > 5) {
		fprintf(stderr, "usage: bridge INTERFACE INTERFACE [SETTINGS [SETTINGS-BACK]]\n");
		return 2;
	}
	for (int d = 0; d < 2; d++) {
		const char *text = argc < 4 ? "" : argv[3 + (d && argc == 5)];
		if (impair_config_parse(&config[d], text, why, sizeof why) < 0) {
			fprintf(stderr, "bridge: %s\n", why);
			return 2;
		}
		impair_init(&b.way[d], &config[d], (unsigned)d, true);
	}
	sigset_t unblocked = catch_end();
	prctl(PR_SET_TIMERSLACK, 1000 /* ns; the default of 50 us would be jitter of our own */, 0, 0, 0);
	if (port_open(&b.port[0], argv[1]) < 0)
		return 1;
	if (port_open(&b.port[1], argv[2]) < 0)
		return 1;
	printf("ready\n");
	fflush(stdout);
	int status = forward(&b, &unblocked);
	for (int d = 0; d < 2; d++) {
		printf("%s", d ? "," : "{\"ways\":[");
		tell_way(&b, d);
	}
	printf("]}\n");
	for (int d = 0; d < 2; d++) {
		port_close(&b.port[d]);
		impair_fini(&b.way[d]);
	}
	return status;
}
