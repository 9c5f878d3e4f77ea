/*
 * Names of AF_UNIX sockets in the abstract namespace (unix(7)): per network namespace, and given back by the kernel on
 * any death of their owner.
 */
#ifndef FINESSE_BASE_ABSTRACT_H
#define FINESSE_BASE_ABSTRACT_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

/*
 * The address of the name, as printf makes it. Its length, for bind and connect. The name must fit: the caller's
 * formats are bounded.
 */
socklen_t abstract_name(struct sockaddr_un *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Anybody may take a name first: is who holds a connected socket's other end the superuser, or of our own user? */
bool abstract_peer_is_trusted(int fd);

#endif
