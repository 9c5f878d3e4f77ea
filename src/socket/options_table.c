/* The table of socket options: options.def as data. Pure. */
#include "socket/options.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/time.h>

#define OPTION_INHERITED true
#define OPTION_FRESH     false

_Static_assert(OPTION_COUNT < OPTION_UNKNOWN, "an index fits into a byte");

const struct option option_table[OPTION_COUNT] = {
#define OPTION(level, name, number, type, class, source, heritage) \
	{#name, level, number, OPTION_##type, OPTION_##class, OPTION_##source, OPTION_##heritage},
#include "socket/options.def"
#undef OPTION
};

enum { LEVEL_SOL_SOCKET, LEVEL_IPPROTO_IP, LEVEL_IPPROTO_IPV6, LEVEL_IPPROTO_TCP, LEVELS };
#define NUMBERS 96

static const uint8_t index_of[LEVELS][NUMBERS] = {
#define OPTION(level, name, number, type, class, source, heritage) [LEVEL_##level][number] = OPTION_##name + 1,
#include "socket/options.def"
#undef OPTION
};

unsigned option_find(int level, int number)
{
	unsigned at = level == SOL_SOCKET   ? LEVEL_SOL_SOCKET :
		      level == IPPROTO_IP   ? LEVEL_IPPROTO_IP :
		      level == IPPROTO_IPV6 ? LEVEL_IPPROTO_IPV6 :
		      level == IPPROTO_TCP  ? LEVEL_IPPROTO_TCP :
					      LEVELS;
	if (at == LEVELS || number < 0 || number >= NUMBERS || !index_of[at][number])
		return OPTION_UNKNOWN;
	return index_of[at][number] - 1;
}

void candidate_note(struct candidate *c, unsigned index, const void *val, socklen_t len)
{
	int v = 0;
	struct timeval tv = {0};
	option_set_add(&c->set, index);
	switch (index) {
	case OPTION_TCP_MAXSEG:
		if (len < sizeof v)
			return;
		memcpy(&v, val, sizeof v);
		c->maxseg_unset = !v;
		break;
	case OPTION_SO_RCVTIMEO:
	case OPTION_SO_RCVTIMEO_NEW:
	case OPTION_SO_SNDTIMEO:
	case OPTION_SO_SNDTIMEO_NEW:
		if (len < sizeof tv)
			return;
		memcpy(&tv, val, sizeof tv);
		*(index == OPTION_SO_RCVTIMEO || index == OPTION_SO_RCVTIMEO_NEW ? &c->rcvtimeo_now : &c->sndtimeo_now) = tv.tv_sec < 0;
		break;
	default:
		break;
	}
}
