/*
 * What Linux's security modules (Landlock, SELinux, AppArmor) say of a connection that the program opens, and that the
 * kernel's TCP never sees.
 *
 * They judge bind and listen, since the program's own kernel socket is bound and listens. They judge connect(2) as
 * well, which the engine does not call. So they are asked: a kernel socket is bound to an address from which no route
 * leads. Its connect fails, whatever the destination, but the modules are heard before that. Nothing is sent, and
 * nothing is counted. Who asks is the calling thread, since Landlock restricts threads.
 *
 * A program that restricts itself by Landlock's rules for TCP is the kernel's from then on (preload/privilege.c): a
 * handover needs bind and connect, which the rules could refuse.
 *
 * A question is a system call for each connection. It is spared where no module can object: the process never said that
 * it wants no new privileges, which Landlock demands, and it has no label of SELinux's or AppArmor's. A process that a
 * superuser restricted by Landlock without that, before it started the program, is not found out.
 *
 * One thread at a time calls these: the engine's lock is held.
 */
#ifndef FINESSE_KERNEL_LSM_H
#define FINESSE_KERNEL_LSM_H

#include <stdbool.h>
#include <sys/socket.h>

/* May a module judge this process's connections? Where none may, the others answer 0 without asking. */
bool lsm_may_judge(void);
/*
 * Asked once. −EACCES, −EPERM: they refuse a bind or a connect that nobody else would refuse, so that what the engine
 * calls later (a handover's bind and connect) could fail as well.
 */
int lsm_bars(void);
/* 0: no module objects, or nobody can be asked. −errno: what connect(2) would say (EACCES, EPERM). */
int lsm_connect(const struct sockaddr *addr, socklen_t len);

#endif
