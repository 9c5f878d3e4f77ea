/*
 * A plain TCP server and a plain TCP client that open, use and close connections by the million; one process and one
 * thread each. They know nothing of finesse.
 *
 * A request is REQUEST_BYTES, its answer ANSWER_BYTES; both are a pattern made from the connection's number, and both
 * ends check every byte. The request says who is to close first after it: the server (it closes when the answer is
 * written; the client reads to the end of file), the client, or nobody yet.
 */
#ifndef FINESSE_TESTS_ENDURANCE_LOAD_H
#define FINESSE_TESTS_ENDURANCE_LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#define REQUEST_BYTES 128
#define ANSWER_BYTES  512
#define EVENTS_MAX    256 /* of one epoll_wait */

enum then { THEN_MORE, THEN_SERVER_CLOSES, THEN_CLIENT_CLOSES };

struct load_options {
	struct sockaddr_in server;
	uint32_t count, parallel, rounds;
	uint32_t again;    /* so many more, half as many at once, when a byte comes on stdin; then it stays until the end of file there */
	bool server_first; /* closes first; else the client does */
	bool eager;        /* the client closes when it has the answer, although the server was to close: who is quicker is first */
	bool together;     /* nobody closes before all have had all their answers */
	int steady_ms;     /* > 0: both ends send that often, for ever; ends with the connections */
	uint32_t first_local, n_locals; /* the client's addresses, in a row; 0: the kernel's choice */
};

int serve(const struct load_options *o);
int load(const struct load_options *o);

void request_make(uint8_t request[REQUEST_BYTES], uint64_t number, enum then then);
/* Says what a request holds; false: it is damaged. */
bool request_check(const uint8_t request[REQUEST_BYTES], uint64_t *number, enum then *then);
void answer_make(uint8_t answer[ANSWER_BYTES], uint64_t number);

/* Set by SIGUSR1: the process ends by returning from main, in the middle of it all. */
extern volatile int load_ended;

int64_t load_now_ms(void);

#endif
