#include "sim_pair.h"

static const struct sim_link networks[] = {
	{.delay_us = 50, .gro_us = 10},
	{.delay_us = 20000, .jitter_us = 2000},
	{.delay_us = 5000, .loss_ppm = 10000, .gro_us = 50},
	{.delay_us = 10000, .jitter_us = 1000, .loss_ppm = 50000, .reorder_ppm = 20000, .reorder_us = 8000},
	{.delay_us = 3000, .dup_ppm = 20000, .reorder_ppm = 50000, .reorder_us = 3000},
	{.delay_us = 2000, .corrupt_ppm = 10000, .gro_us = 20},
	{.delay_us = 10000, .rate_bps = 10000000, .queue_bytes = 30000},
	{.delay_us = 8000, .jitter_us = 4000, .loss_ppm = 20000, .reorder_ppm = 20000, .reorder_us = 20000,
	 .dup_ppm = 10000, .corrupt_ppm = 5000, .rate_bps = 20000000, .queue_bytes = 50000, .gro_us = 100},
};
_Static_assert(sizeof networks / sizeof *networks == NETWORKS, "each has its seeds");

struct sim *sim_seeded(uint64_t seed)
{
	static const uint16_t sizes[] = {1460, 1460, 536, 1448, 9000, 100};
	struct sim *sim = sim_new(seed);
	sim_set_link(sim, &networks[seed % NETWORKS]);
	if (sim_chance(sim, 300000)) /* another way back */
		sim->link[SERVER] = networks[sim_random(sim, NETWORKS)];
	sim->mss = sizes[sim_random(sim, sizeof sizes / sizeof *sizes)];
	sim->gso_max_bytes = sim_chance(sim, 500000) ? 64240 : 0;
	sim->iss_wraps = sim_chance(sim, 700000);
	sim->move_tw = sim_chance(sim, 500000);
	for (int i = 0; i < SIM_HOSTS; i++) {
		struct tcp_config *config = &sim->host[i].stack.config;
		config->timestamps = sim_chance(sim, 700000);
		config->sack = sim_chance(sim, 700000);
		config->window_scaling = sim_chance(sim, 700000);
	}
	for (int i = 0; i < SIM_HOSTS; i++)
		sim->cc[i] = sim_chance(sim, 700000) ? &tcp_cc_cubic : &tcp_cc_newreno;
	return sim;
}

void check_done(struct sim *sim, const struct sim_conn *c, uint64_t sent, uint64_t rcvd)
{
	sim_check(sim, c->error == 0, "host %d: error %d", c->host, c->error);
	sim_check(sim, c->gone, "host %d still has its connection", c->host);
	sim_check(sim, c->sent == sent, "host %d sent %llu", c->host, (unsigned long long)c->sent);
	sim_check(sim, c->rcvd == rcvd, "host %d read %llu of %llu", c->host, (unsigned long long)c->rcvd,
		  (unsigned long long)rcvd);
	sim_check(sim, c->last_state == TCPS_CLOSED || c->last_state == TCPS_TIME_WAIT, "in %s",
		  tcp_state_name(c->last_state));
}

/* A client with `up`, a server with `down`; to the end; nothing is left in the network afterwards. */
void run_pair(struct sim *sim, const struct sim_app *up, const struct sim_app *down, uint64_t to_server,
		     uint64_t to_client)
{
	sim_listen(sim, SERVER, PORT, down);
	struct sim_conn *c = sim_connect(sim, CLIENT, 0, PORT, up);
	sim_run_to_end(sim, LIMIT);
	struct sim_conn *s = sim_peer(sim, c);
	sim_check(sim, s, "nobody was accepted");
	check_done(sim, c, to_server, to_client);
	check_done(sim, s, to_client, to_server);
	sim_check(sim, c->first_fin != 0 && s->first_fin != 0 && c->first_fin + s->first_fin >= 0,
		  "first FIN: client says %d, server says %d", c->first_fin, s->first_fin);
	sim_run(sim, sim->now + HOUR);
	sim_check(sim, sim_next_event(sim) == TIME_NEVER, "something is left");
}

struct sim *sim_plain(uint64_t seed)
{
	struct sim *sim = sim_new(seed);
	struct sim_link link = {.delay_us = 10000};
	sim_set_link(sim, &link);
	sim->iss_wraps = sim->move_tw = true;
	return sim;
}
