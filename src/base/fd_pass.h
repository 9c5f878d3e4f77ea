/*
 * Messages with descriptors (SCM_RIGHTS), between processes that hold the two ends of an AF_UNIX socket.
 *
 * The peer may be hostile. A message that brings more descriptors than were asked for costs it those: they are closed.
 * Where the kernel had no number for all of a message's, none of them comes: a part might be taken for a message of
 * another kind. Any thread may call.
 */
#ifndef FINESSE_BASE_FD_PASS_H
#define FINESSE_BASE_FD_PASS_H

#include <stddef.h>
#include <sys/types.h>

#define FD_PASS_MAX 16 /* descriptors in one message */

/*
 * Sends `len` bytes and copies of fds[n_fds], which stay the caller's. `flags`: sendmsg's; MSG_NOSIGNAL is implied. 0
 * or -errno.
 */
int fd_pass_send(int sock, const void *msg, size_t len, const int *fds, unsigned n_fds, int flags);
/*
 * The length, also of a message that was cut off at `len` (not of a stream); 0: end of file; -errno. *n_fds: the room
 * in fds, then how many came; those are the caller's, close-on-exec. `flags`: recvmsg's.
 */
ssize_t fd_pass_receive(int sock, void *msg, size_t len, int *fds, unsigned *n_fds, int flags);
/*
 * The same of a message that is there, and whose one descriptor must not be lost where the program has used up its
 * numbers (fd_make).
 */
ssize_t fd_pass_receive_surely(int sock, void *msg, size_t len, int *fds, unsigned *n_fds, int flags);

#endif
