/* The application on a connection: reads, checks and writes a pattern, and closes, when events say so. */
#include <errno.h>
#include <string.h>

#include "sim.h"

#define BULK_BYTES         65536 /* per call, unless the application says less */
#define NO_MEMORY_PAUSE_US 10000

/* A byte that its position in the stream determines: no shift, repeat or gap of a plausible size goes unseen. */
uint8_t sim_pattern(uint8_t salt, uint64_t position)
{
	uint64_t x = position * UINT64_C(0x9e3779b97f4a7c15) + salt;
	return (uint8_t)(x >> 32 ^ x >> 56 ^ salt);
}

void sim_app_start(struct sim_conn *c, const struct sim_app *app)
{
	c->app = *app;
	if (!c->app.write_max)
		c->app.write_max = BULK_BYTES;
	if (!c->app.read_max)
		c->app.read_max = BULK_BYTES;
	c->close_at = c->connected_at = c->gone_at = TIME_NEVER;
}

void sim_app_events(struct sim_conn *c, uint32_t events)
{
	struct sim *sim = c->sim;
	sim_check(sim, !(events & TCP_EV_READABLE) || !c->eof, "readable after the FIN");
	if (events & TCP_EV_CONNECTED) {
		sim_check(sim, !c->connected, "connected twice");
		c->connected = c->want_read = c->want_write = true;
		c->connected_at = sim->now;
		c->read_at = sim->now + c->app.read_start_us;
	}
	if (events & (TCP_EV_READABLE | TCP_EV_PEER_FIN))
		c->want_read = true;
	if (events & TCP_EV_WRITABLE)
		c->want_write = true;
	if (events & TCP_EV_ERROR) {
		int err = tcp_take_error(&c->tcp);
		sim_check(sim, err > 0, "TCP_EV_ERROR without an error");
		if (!c->error)
			c->error = err;
	}
	if (events & TCP_EV_CLOSED)
		sim_check(sim, tcp_state(&c->tcp) == TCPS_CLOSED, "in %s", tcp_state_name(tcp_state(&c->tcp)));
	if (events & TCP_EV_TIME_WAIT)
		sim_check(sim, tcp_state(&c->tcp) == TCPS_TIME_WAIT, "in %s", tcp_state_name(tcp_state(&c->tcp)));
}

static void on_error(struct sim_conn *c, ssize_t err)
{
	if (!c->error)
		c->error = (int)-err;
}

static void check_bytes(struct sim_conn *c, const uint8_t *buf, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		sim_check(c->sim, buf[i] == sim_pattern(c->salt_in, c->rcvd + i),
			  "host %d, byte %llu of the stream is wrong", c->host,
			  (unsigned long long)(c->rcvd + i));
}

static bool app_read(struct sim_conn *c)
{
	static uint8_t buf[BULK_BYTES];
	struct sim *sim = c->sim;
	if (!c->want_read || c->eof || c->read_at > sim->now || (c->app.echo && c->echo_len))
		return false;
	uint8_t *into = c->app.echo ? c->echo_buf : buf;
	uint32_t room = c->app.echo && c->app.read_max > sizeof c->echo_buf ? sizeof c->echo_buf
									     : c->app.read_max;
	/* now and then in two pieces */
	uint32_t first = sim_chance(sim, 250000) ? sim_random(sim, room) : room;
	struct iovec iov[2] = {{into, first}, {into + first, room - first}};
	uint32_t readable = tcp_readable_bytes(&c->tcp);
	ssize_t n = tcp_recv(&c->tcp, sim->now, iov, 2, false, false);
	if (n == -EAGAIN) {
		sim_check(sim, readable == 0, "EAGAIN with %u readable", readable);
		c->want_read = false;
		return false;
	}
	if (n < 0) {
		on_error(c, n);
		return false;
	}
	sim_check(sim, n <= room && n == (readable < room ? readable : room), "read %zd of %u, room %u", n,
		  readable, room);
	if (n == 0) {
		sim_check(sim, tcp_peer_fin(&c->tcp), "EOF without a FIN");
		c->eof = true;
		return true;
	}
	check_bytes(c, into, (uint32_t)n);
	c->rcvd += (uint64_t)n;
	if (c->app.echo) {
		c->echo_len = (uint32_t)n;
		c->echo_off = 0;
	}
	if (c->app.read_pause_us)
		c->read_at = sim->now + c->app.read_pause_us;
	return true;
}

/* How much there is to send now, and the bytes. */
static uint32_t fill(struct sim_conn *c, uint8_t *buf)
{
	if (c->app.echo) {
		memcpy(buf, c->echo_buf + c->echo_off, c->echo_len);
		return c->echo_len;
	}
	uint64_t left = c->app.send_bytes - c->sent;
	uint32_t most = c->app.random_writes ? 1 + sim_random(c->sim, c->app.write_max) : c->app.write_max;
	uint32_t n = left < most ? (uint32_t)left : most;
	for (uint32_t i = 0; i < n; i++)
		buf[i] = sim_pattern(c->salt_out, c->sent + i);
	return n;
}

static bool is_all_sent(const struct sim_conn *c)
{
	return c->app.echo ? c->eof && !c->echo_len : c->sent == c->app.send_bytes;
}

static bool app_write(struct sim_conn *c)
{
	static uint8_t buf[BULK_BYTES];
	struct sim *sim = c->sim;
	if (!c->want_write || c->shut || c->write_at > sim->now || (c->app.send_after_eof && !c->eof))
		return false;
	uint32_t n = fill(c, buf);
	if (!n)
		return false;
	uint32_t first = sim_random(sim, n + 1);
	struct iovec iov[2] = {{buf, first}, {buf + first, n - first}};
	uint32_t space = tcp_send_space(&c->tcp, n);
	ssize_t took = tcp_send(&c->tcp, sim->now, iov, 2, false, false);
	if (took == -ENOMEM) { /* a program would try again after a while */
		c->write_at = sim->now + NO_MEMORY_PAUSE_US;
		return false;
	}
	if (took == -EAGAIN) {
		sim_check(sim, space == 0 || sim->host[c->host].memory.limit_bytes, "EAGAIN with space for %u",
			  space);
		c->want_write = false;
		return false;
	}
	if (took < 0) {
		on_error(c, took);
		return false;
	}
	sim_check(sim, took > 0 && took <= n, "sent %zd of %u", took, n);
	c->sent += (uint64_t)took;
	if (c->app.echo) {
		c->echo_off += (uint32_t)took;
		c->echo_len -= (uint32_t)took;
	}
	if (c->app.write_pause_us)
		c->write_at = sim->now + c->app.write_pause_us;
	return true;
}

static bool may_close(const struct sim_conn *c)
{
	switch (c->app.close) {
	case SIM_CLOSE_DONE:
		return is_all_sent(c) && c->rcvd >= c->app.expect_bytes;
	case SIM_CLOSE_EOF:
		return is_all_sent(c) && c->eof;
	default:
		return false;
	}
}

static bool app_close(struct sim_conn *c)
{
	struct sim *sim = c->sim;
	if (c->error || (tcp_state(&c->tcp) == TCPS_CLOSED && !c->connected)) {
		sim_close(c); /* also a half-open connection that was reset: nobody accepts it any more */
		return true;
	}
	if (!c->connected)
		return false;
	if (c->app.shut_when_sent && !c->shut && is_all_sent(c)) {
		c->shut = true;
		int err = tcp_shutdown(&c->tcp, sim->now);
		sim_check(sim, err == 0, "shutdown: %d in %s", err, tcp_state_name(tcp_state(&c->tcp)));
		return true;
	}
	if (!may_close(c))
		return false;
	if (c->close_at == TIME_NEVER)
		c->close_at = sim->now + c->app.close_delay_us;
	if (c->close_at > sim->now)
		return false;
	sim_close(c);
	return true;
}

void sim_app_run(struct sim_conn *c)
{
	c->ran_at = c->sim->now;
	while (!c->closed) {
		bool did = false;
		if (c->connected && !c->error) {
			did |= app_read(c);
			did |= app_write(c);
		}
		if (!c->closed)
			did |= app_close(c);
		if (!did)
			break;
	}
}

/* A time that the application has not acted on yet. */
static int64_t later(const struct sim_conn *c, int64_t at)
{
	return at > c->ran_at ? at : TIME_NEVER;
}

int64_t sim_app_next(const struct sim_conn *c)
{
	if (c->closed || !c->connected)
		return TIME_NEVER;
	int64_t next = TIME_NEVER, at;
	if (c->want_read && !c->eof && (at = later(c, c->read_at)) < next)
		next = at;
	if (c->want_write && !is_all_sent(c) && (at = later(c, c->write_at)) < next)
		next = at;
	if (c->close_at != TIME_NEVER && (at = later(c, c->close_at)) < next)
		next = at;
	return next;
}
