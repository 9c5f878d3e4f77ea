/* A live connection becomes a kernel socket (TCP_REPAIR; DESIGN §5 "Handover"). */
#ifndef FINESSE_KERNEL_HANDOVER_H
#define FINESSE_KERNEL_HANDOVER_H

#include "tcp/snapshot.h"

/*
 * Returns a connected kernel TCP socket (close-on-exec) that goes on where the snapshot stands: unsent and unacknowledged
 * data queued, unread data readable, CLOSE-WAIT reached by an injected FIN (through `ifindex`, packet built here), our FIN sent by
 * shutdown when fin_ours. The caller must already have made the 4-tuple the kernel's in the classifier. -EPERM without CAP_NET_ADMIN; on
 * any failure nothing has been sent and no socket is left.
 */
int handover_import(const struct tcp_snapshot *snap, int ifindex);

#endif
