/*
 * A filter of system calls (seccomp) that the process was started under, as a service has whose unit says
 * SystemCallFilter=.
 *
 * Such a filter is made for what the program calls, not for what the engine calls. Where it answers with an error, the
 * engine falls back by itself. Where it ends the process, the engine must not make the call. Nobody can read a filter,
 * so a child tries: it inherits the filter and makes each call of sandbox.def with arguments that change nothing. If it
 * dies, its last call is the one that would have ended the program.
 *
 * A process asks once. Its children inherit the filter and the answer. A filter that the program adds itself is met in
 * preload/privilege.c. Without a filter nothing is tried.
 *
 * Not found out: a filter that looks at arguments; one that ends the process for clone or wait4, or for what the shim
 * itself and any program need (fcntl, getsockname, prlimit64, the names in /proc/self/fd); and any where /proc is not
 * there.
 *
 * One thread at a time calls these: the engine's lock is held.
 */
#ifndef FINESSE_KERNEL_SANDBOX_H
#define FINESSE_KERNEL_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

/* 0, or -EPERM and in `why` which call would end the process. */
int sandbox_check(char *why, size_t why_len);
/* May a helper thread run? */
bool sandbox_lets_helper(void);

#endif
