/* The names that the kernel keeps for a group and its members. */
#include "process/group.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

static unsigned name_done(struct sockaddr_un *out, int n)
{
	return offsetof(struct sockaddr_un, sun_path) + 1 + n;
}

unsigned group_listen_name(const struct group_place *p, struct sockaddr_un *out)
{
	char addr[IP_ADDR_STRLEN];
	*out = (struct sockaddr_un){.sun_family = AF_UNIX};
	return name_done(out, snprintf(out->sun_path + 1, sizeof out->sun_path - 1, "finesse/listen/%s%s/%u", ip_addr_format(&p->addr, addr),
				       p->family == AF_INET ? "" : p->v6only ? "/6" : "/46", p->port));
}

unsigned group_slot_name(uint64_t id, unsigned slot, struct sockaddr_un *out)
{
	*out = (struct sockaddr_un){.sun_family = AF_UNIX};
	return name_done(out, snprintf(out->sun_path + 1, sizeof out->sun_path - 1, "finesse/member/%016" PRIx64 "/%u", id, slot));
}
