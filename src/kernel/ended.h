/*
 * A kernel socket whose connection is over, for who must have a kernel socket where there is no connection left to hand
 * over.
 */
#ifndef FINESSE_KERNEL_ENDED_H
#define FINESSE_KERNEL_ENDED_H

#include <stdbool.h>
#include <sys/uio.h>

/*
 * What a program finds on a connection that ended: the bytes of `data` (two pieces) that it has not read; then, with
 * `error`, that error once; then end of file. Writes get EPIPE. poll says IN and HUP. The error is ECONNREFUSED, EPIPE
 * (of a reset behind the peer's FIN: only SO_ERROR tells it, a read finds the end of file) or else ECONNRESET: no
 * kernel socket can be brought to have another one at once (ETIMEDOUT takes an RTO, and what ICMP tells a raw socket).
 *
 * Returns a blocking, close-on-exec socket with a low number, or -errno (-EMFILE). It is a TCP socket of `family`
 * (AF_INET, AF_INET6) that was connected over the loopback interface, so getsockname names that. Where there is no
 * loopback it is an AF_UNIX socket in the same condition. Bytes that the kernel has no room for are lost, and then the
 * end is a reset.
 */
int ended_socket(int family, const struct iovec data[2], int error);

#endif
