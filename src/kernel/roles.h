/*
 * May a socket listen once it was a client, or connect once it listened, when it is unconnected again (connect to
 * AF_UNSPEC, a refusal, shutdown)? Linux let it for decades. Newer kernels say EINVAL (seen: 6.18.44; not yet: those of
 * 6.18 before). The engine answers as the kernel under it would, so the kernel is asked, once, when a program does it.
 *
 * A socket of the process connects to itself, is unconnected, and listens. Nobody else can see that: the packets stay
 * in this host, on a port that the kernel chose for it.
 *
 * One thread at a time calls this: the engine's lock is held.
 */
#ifndef FINESSE_KERNEL_ROLES_H
#define FINESSE_KERNEL_ROLES_H

#include <stdbool.h>

#include "base/addr.h"

/*
 * `local`: an address of this host's, where there may be no loopback; any: none is known. False where the kernel could
 * not be asked, and it is asked again next time.
 */
bool roles_are_kept(const struct ip_addr *local);
/* A socket that is refused so takes a port before, if it has none. */
void roles_take_port(int fd);

#endif
