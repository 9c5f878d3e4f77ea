/*
 * Files whose end takes long: of a packet socket, or of a program's attachment, the kernel waits for a grace period of
 * RCU or two, some 10 ms each, in whoever closes the last descriptor. An io_uring's files end in a work queue of the
 * kernel's instead. So who must not wait has an io_uring hold them while he closes his descriptors, and lets go of it
 * then:
 *
 *     int hold = late_hold(fds, n);
 *     … closes fds …
 *     late_let_go(hold);
 *
 * Where there is no io_uring nothing holds them, and the close takes as long as it takes.
 */
#ifndef FINESSE_BASE_LATE_H
#define FINESSE_BASE_LATE_H

/* A descriptor, or -errno, which late_let_go takes, too. Negative fds are left out. */
int late_hold(const int *fds, unsigned n);
void late_let_go(int hold);

#endif
