/* Sockets that stayed with the kernel although they could have been ours, and why: for `finesse stat`. */
#include "socket/engine.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

#define FALLBACKS_MAX 64 /* distinct ones; beyond, they are counted in the last */

static struct fallback table[FALLBACKS_MAX];
static unsigned used;
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

static struct fallback *find(const char *what, const char *why)
{
	for (unsigned i = 0; i < used; i++)
		if (!strcmp(table[i].why, why) && !strcmp(table[i].what, what))
			return &table[i];
	if (used == FALLBACKS_MAX)
		return &table[FALLBACKS_MAX - 1];
	snprintf(table[used].what, sizeof table[used].what, "%s", used == FALLBACKS_MAX - 1 ? "others" : what);
	snprintf(table[used].why, sizeof table[used].why, "%s", used == FALLBACKS_MAX - 1 ? "too many to list" : why);
	return &table[used++];
}

void engine_note_fallback(const char *what, const char *why)
{
	char short_why[sizeof table[0].why];
	snprintf(short_why, sizeof short_why, "%s", why);
	engine_enter();
	pthread_mutex_lock(&table_lock);
	struct fallback *f = find(what, short_why);
	if (!f->count++)
		log_info("fallback", "%s stays with the kernel: %s", what, why);
	pthread_mutex_unlock(&table_lock);
	if (trace_on)
		trace_fallback(what, why);
	engine_leave();
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
