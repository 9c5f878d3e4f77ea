/*
 * What Linux's security modules (Landlock, SELinux, AppArmor) say of a connection that the program opens, and that the kernel's TCP never sees.
 *
 * They judge bind and listen, since the program's own kernel socket is bound and listens. They judge connect(2) as well, which the engine does not call. So they are asked: a
 * kernel socket that has been connected, and whose connection is over, answers EISCONN to every connect, and the modules are heard before that. Nothing is sent, and the dead socket
 * is in no table of the kernel's. Who asks is the calling thread, since Landlock restricts threads.
 *
 * A question is a system call for each connection. It is spared where no module can object: the process never said that it wants no new privileges, which Landlock
 * demands, and it has no label of SELinux's or AppArmor's. A process that a superuser restricted by Landlock without that, before it started the program, is not found out.
 *
 * One thread at a time calls these: the engine's lock is held.
 */
#ifndef FINESSE_KERNEL_LSM_H
#define FINESSE_KERNEL_LSM_H

#include <stdbool.h>
#include <sys/socket.h>

/* May a module judge this process's connections? */
bool lsm_may_judge(void);
/* Before a thread restricts itself: from then on they may, and what is needed to ask is made, since it could be refused afterwards. */
void lsm_prepare(void);
/* 0: no module objects. −errno: what connect(2) would say (EACCES, EPERM), or why nobody can be asked. */
int lsm_connect(const struct sockaddr *addr, socklen_t len);

#endif
