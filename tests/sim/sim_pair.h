/* What the simulator's tests share: networks, and a client and a server to the end of both. */
#ifndef FINESSE_TESTS_SIM_PAIR_H
#define FINESSE_TESTS_SIM_PAIR_H

#include "sim.h"

#define CLIENT 0
#define SERVER 1
#define PORT   80
#define SEEDS  100
#define LIMIT  (3600 * USEC_PER_SEC) /* of virtual time for one scenario */
#define HOUR   (3600 * USEC_PER_SEC)

#define NETWORKS 8 /* one after the other by seed */

/* The seed chooses the network, the options and the knobs. */
struct sim *sim_seeded(uint64_t seed);

/* One network, exact expectations. */
struct sim *sim_plain(uint64_t seed);

/* c has sent and read so many bytes, ended without an error, and is gone. */
void check_done(struct sim *sim, const struct sim_conn *c, uint64_t sent, uint64_t rcvd);

/* A client with `up`, a server with `down`; to the end; nothing is left in the network afterwards. */
void run_pair(struct sim *sim, const struct sim_app *up, const struct sim_app *down, uint64_t to_server, uint64_t to_client);

#endif
