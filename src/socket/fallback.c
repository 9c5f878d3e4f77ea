/*
 * Sockets that stayed with the kernel although they could have been ours, or went there, and why: for `finesse stat`
 * and the log.
 *
 * Owns: a table of (what, why) with counts, and the latest connections that were handed over. A reason is never lost
 * among many sockets: of one reason, so many are named, and the rest are counted together. The log has each reason
 * once, as a warning where a socket was never the engine's. Lock: its own, because a fall-back happens with and without
 * the engine's.
 */
#include "socket/engine.h"
#include "socket/fallback.h"
#include "socket/trace.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

#define FALLBACKS_MAX  64 /* distinct ones; beyond, they are counted in the last */
#define OF_ONE_REASON  8  /* … that are named; beyond, they are counted as others of this reason */
#define HANDOVERS_KEPT 64 /* the latest */

static struct fallback table[FALLBACKS_MAX];
static unsigned used;
static struct handed_over handed_over[HANDOVERS_KEPT];
static unsigned n_handed_over; /* so many have been */
ENGINE_THREAD unsigned fallbacks_noted;
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

static struct fallback *add(const char *what, const char *why)
{
	snprintf(table[used].what, sizeof table[used].what, "%s", what);
	snprintf(table[used].why, sizeof table[used].why, "%s", why);
	return &table[used++];
}

/* *first: nothing with this reason was seen before. */
static struct fallback *find(const char *what, const char *why, bool *first)
{
	unsigned of_this_reason = 0;
	for (unsigned i = 0; i < used; i++) {
		if (strcmp(table[i].why, why) != 0)
			continue;
		of_this_reason++;
		if (!strcmp(table[i].what, what) || of_this_reason > OF_ONE_REASON)
			return &table[i];
	}
	*first = !of_this_reason;
	if (used == FALLBACKS_MAX)
		return &table[FALLBACKS_MAX - 1];
	if (used == FALLBACKS_MAX - 1)
		return add("others", "too many to list");
	return add(of_this_reason == OF_ONE_REASON ? "others" : what, why);
}

static void note(const char *what, const char *why, enum log_level level)
{
	char short_why[sizeof table[0].why];
	bool first = false;
	snprintf(short_why, sizeof short_why, "%s", why);
	engine_enter();
	pthread_mutex_lock(&table_lock);
	if (find(what, short_why, &first)->count++ == 0)
		log_line(first ? level : LOG_LEVEL_INFO, "fallback", "%s is the kernel's: %s", what, why);
	pthread_mutex_unlock(&table_lock);
	if (trace_on)
		trace_fallback(what, why);
	engine_leave();
}

/* With the setting `strict` nothing but policy may leave a socket to the kernel. */
void engine_note_fallback(const char *what, const char *why)
{
	fallbacks_noted++;
	note(what, why, engine_of_process()->settings.strict ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN);
}

static const char *policy_of(const struct engine *e, bool server, const struct ip_addr *addr, uint16_t port)
{
	if (ip_addr_is_loopback(addr) || (!server && ip_addr_is_any(addr)))
		return "loopback is the kernel's";
	if (!settings_rules_allow(&e->settings, server, addr, port))
		return "the rules of only and except leave it there";
	return server ? "no interface that is served has the address" : "its way leads to this host itself, or over an interface that is not served";
}

static int keeps(bool server, const struct ip_addr *addr, uint16_t port, const char *why)
{
	char what[64], text[IP_ADDR_STRLEN];
	if (!trace_on)
		return SOCK_KERNEL;
	snprintf(what, sizeof what, "%s %s:%u", server ? "listen" : "connect", ip_addr_format(addr, text), port);
	engine_enter();
	trace_fallback(what, why);
	engine_leave();
	return SOCK_KERNEL;
}

int policy_keeps(const struct engine *e, bool server, const struct ip_addr *addr, uint16_t port)
{
	return trace_on ? keeps(server, addr, port, policy_of(e, server, addr, port)) : SOCK_KERNEL;
}

int policy_keeps_source(const struct ip_addr *addr, uint16_t port)
{
	return keeps(false, addr, port, "it is bound to an address that no interface which is served has");
}

/* It was served, and goes on: news, not a warning. */
void leaving_note(const char *what, const char *why)
{
	note(what, why, engine_of_process()->settings.strict ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO);
}

void handover_remember(const struct flow_key *key, const char *why)
{
	pthread_mutex_lock(&table_lock);
	struct handed_over *h = &handed_over[n_handed_over++ % HANDOVERS_KEPT];
	h->key = *key;
	snprintf(h->why, sizeof h->why, "%s", why);
	pthread_mutex_unlock(&table_lock);
}

void handover_note(const struct flow_key *key, const char *why)
{
	handover_remember(key, why);
	leaving_note("a connection", why);
}

void fallback_fork_prepare(void)
{
	pthread_mutex_lock(&table_lock);
}

void fallback_fork_done(void)
{
	pthread_mutex_unlock(&table_lock);
}

unsigned fallback_count(void)
{
	unsigned n = 0;
	pthread_mutex_lock(&table_lock);
	for (unsigned i = 0; i < used; i++)
		n += table[i].count;
	pthread_mutex_unlock(&table_lock);
	return n;
}

const struct fallback *fallback_at(unsigned i)
{
	return i < used ? &table[i] : NULL;
}

const struct handed_over *handed_over_at(unsigned i)
{
	return i < n_handed_over && i < HANDOVERS_KEPT ? &handed_over[i] : NULL;
}
