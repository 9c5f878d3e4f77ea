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
/* Does the kernel own this 4-tuple? 1, 0, -errno. */
int diag_owns(const struct flow_key *key);
/* The same for a segment that arrived on `ifindex`: also finds sockets that are bound to that interface (SO_BINDTODEVICE,
   link-local addresses), which a question without an interface cannot. */
int diag_owns_on(const struct flow_key *key, int ifindex);

#endif
