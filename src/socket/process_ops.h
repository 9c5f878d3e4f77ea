/*
 * process/ as the engine sees it: who else serves a listener's port. What that room does at moments of a socket's life;
 * all with the lock held.
 */
#ifndef FINESSE_SOCKET_PROCESS_OPS_H
#define FINESSE_SOCKET_PROCESS_OPS_H

#include "socket/engine.h"

struct process_ops {
	/*
	 * The port is ours, alone or with others. 0; -EADDRINUSE: others serve it and this process may not; other
	 * -errno: the kernel's queue has to do.
	 */
	int (*claim)(struct engine *e, struct sock *l);
	void (*release)(struct engine *e, struct sock *l); /* this listener takes no SYNs any more; lst->claimed is false already */
	void (*stops)(struct engine *e, struct sock *l);   /* … in a moment: what has come by now is still its */
	void (*detach)(struct engine *e, struct sock *l);  /* … and ends */
	int (*attach_judge)(const struct sock *l);         /* of a shared port: its socket gets the group's filter */
	bool (*is_shared)(const struct sock *l);           /* do several processes serve its port, each by an engine of its own? */
	bool (*others_serve)(const struct sock *l);        /* its claim failed, or was released: have engines the port still? */
	bool (*has_others)(const struct sock *l);          /* may somebody else accept from its listening socket? */
	/* A connection of a group that the host judges needs an entry in its table. -E2BIG: no room. */
	int (*enter)(const struct sock *l, const struct flow_key *key);
	void (*conn_began)(struct engine *e, struct sock *l, struct sock *s, bool by_cookie);
	void (*conn_left)(struct engine *e, struct sock *s, bool to_kernel); /* only where s->claim */
	void (*time_wait_began)(struct engine *e, struct sock *s);
	/* of in_group: nobody here has it any more. False: its port is of no group */
	bool (*flow_ends)(struct engine *e, const struct flow_key *key);
	/* an exception's: it is one for the port's group, too. False: it could not be entered */
	bool (*flow_is_kernels)(struct engine *e, const struct flow_key *key);
	void (*flows_end)(struct engine *e, const struct flow_key *keys, size_t n); /* many of in_group, of one port */
	/*
	 * A frame that no connection here knows, on a port of several processes that all get each frame: is another's
	 * to answer? `syn`: without ACK or RST.
	 */
	bool (*is_others)(struct engine *e, const struct flow_key *key, bool syn);
	void (*cookie_sent)(struct engine *e, struct sock *l);
	void (*comes_by)(struct engine *e, struct sock *l);      /* somebody wants to accept */
	void (*waits)(struct engine *e, struct sock *l, int by); /* so many threads more wait for a client */
	void (*queue_changed)(struct engine *e, struct sock *l);
	void (*turn_ends)(struct engine *e);
	void (*look_for_dead)(struct engine *e, struct sock *l); /* a client came by the kernel's queue */
	int (*spare_take)(struct engine *e, struct sock *l);     /* a connection that another process gave up: a kernel socket, or -EAGAIN */
	void (*spare_give_all)(struct engine *e, struct sock *l); /* what waits for accept goes to whoever accepts next. What cannot stays */
	/* who waits until his client speaks (TCP_DEFER_ACCEPT) does so at another process. Who cannot stays */
	void (*deferred_give_all)(struct engine *e, struct sock *l);
	void (*leaving)(struct engine *e);                       /* the process ends: each listener that others have, too, stops */
	void (*before_fork)(struct engine *e);
	void (*shares)(struct engine *e, struct sock *l);  /* its kernel socket goes to somebody of whom nothing is known */
	void (*passes)(struct engine *e, struct sock *l);  /* the process executes a program, which gets its kernel socket */
	void (*after_fork)(struct engine *e);              /* in the child */
	void (*given)(struct engine *e, struct sock *l);   /* it is as if a parent had listened */
	/*
	 * Who serves its port: the member in this slot (< CLASSIFIER_GROUP_SLOTS). False: nobody, or the port is of no
	 * group.
	 */
	bool (*member)(const struct sock *l, unsigned slot, struct classifier_member *out);
	bool (*has_engineless)(const struct sock *l); /* … and somebody without an engine? */
	void (*adopts)(struct engine *e, struct sock *l);  /* an inherited listener is this process's now: it has a queue_fd again */
};
extern const struct process_ops *const process_ops; /* process/claim.c */

#endif
