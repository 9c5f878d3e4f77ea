/* inet_diag: which TCP sockets the kernel itself owns. */
#ifndef FINESSE_KERNEL_DIAG_H
#define FINESSE_KERNEL_DIAG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

struct diag_visit {
	void (*socket)(struct diag_visit *v, const struct flow_key *key, int state /* TCP_ESTABLISHED … */);
};
/* Every non-listening TCP socket of this namespace with local port `lport`, TIME-WAIT and orphans included; both families; IPv4 as
   mapped. 0 or -errno. */
int diag_dump_port(uint16_t lport, struct diag_visit *v);
/* The same for the local ports first … last. */
int diag_dump_ports(uint16_t first, uint16_t last, struct diag_visit *v);
/* Does the kernel own this 4-tuple? 1, 0, -errno. */
int diag_owns(const struct flow_key *key);
/* The same for a segment that arrived on `ifindex`: also finds sockets that are bound to that interface (SO_BINDTODEVICE,
   link-local addresses), which a question without an interface cannot. */
int diag_owns_on(const struct flow_key *key, int ifindex);
/*
 * Ends the kernel's TIME-WAIT of this 4-tuple, whose next connection is ours: left there, it would answer the peer with ACKs of the old
 * connection when we are gone, instead of RST, and the peer would hang. 1: it is ended; 0: the kernel has nothing of this 4-tuple;
 * -EBUSY: it has a connection that lives; other -errno: it could not be ended (Linux before 6.5, or without CONFIG_INET_DIAG_DESTROY).
 */
int diag_end_time_wait(const struct flow_key *key, int ifindex);

#endif
