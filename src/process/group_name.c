/* The names that the kernel keeps for a group and its members. */
#include "process/group.h"

#include "base/abstract.h"

#include <inttypes.h>

unsigned group_listen_name(const struct group_place *p, struct sockaddr_un *out)
{
	char addr[IP_ADDR_STRLEN];
	return abstract_name(out, "finesse/listen/%s%s/%u", ip_addr_format(&p->addr, addr), p->family == AF_INET ? "" : p->v6only ? "/6" : "/46", p->port);
}

unsigned group_slot_name(uint64_t id, unsigned slot, struct sockaddr_un *out)
{
	return abstract_name(out, "finesse/member/%016" PRIx64 "/%u", id, slot);
}
