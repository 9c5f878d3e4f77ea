/* The claims of this process's listening ports: what the files of this room share. Engine's lock held in all. */
#ifndef FINESSE_PROCESS_CLAIM_H
#define FINESSE_PROCESS_CLAIM_H

#include "process/group.h"
#include "socket/engine.h"

/* A claim lives from the first listener of its port until the last connection that began there has ended. */
struct claim {
	struct list node; /* engine.claims */
	struct engine *e;
	struct group group;
	struct group_host host;
	struct control door;
	bool watched;          /* `door` is */
	struct list listeners; /* listener.claim_node: of this process */
	unsigned n_conns;      /* connections and embryos that have this claim */
	unsigned n_waiting;    /* threads that wait now, in a wait that a client of this port ends */
	bool taken;            /* the classifier gives us the port's frames */
	bool accepting, waiting, lately; /* … as told to the group */
	bool has_engineless;   /* somebody accepts who has no engine, and tells the group nothing */
	int64_t tw_until_us;   /* the last TIME-WAIT goes then */
	int64_t add_until_us;  /* frames from before the group began may still be in the ring */
	struct time_wait_visit tw_visit;
	int64_t looked_us;     /* for dead members */
	int64_t retry_us;      /* who has the port did not answer: when he is asked again; TIME_NEVER: somebody has to come by first */
	int64_t retry_after_us; /* … how long after the last time */
	struct list held;      /* claim_deferred.c: connections that wait for their client to speak */
	unsigned n_held;
	struct control deferrals; /* … and where others leave theirs; fd: or one of these */
	int64_t help_us;       /* when it is looked next whether others would take what waits */
	int64_t spare_us;      /* … whether anybody listens who could take what waits in the spare queue; TIME_NEVER: this process does */
	int64_t spare_after_us; /* … how long after the last time */
};

static inline bool claim_is_shared(const struct claim *c)
{
	return c->group.state == GROUP_SHARED;
}

static inline struct group_place claim_place(const struct sock *l)
{
	return (struct group_place){.addr = l->lst->addr, .port = l->lst->port, .family = l->family, .v6only = l->v6only};
}

/* ---- claim.c ---- */
bool claim_is_used(const struct claim *c); /* a thread of this process has accepted from it, or waited to */
void claim_end_if_over(struct claim *c);   /* frees it, once no listener and no connection has it */

void claim_gives_back(struct claim *c);    /* SYNs are the kernel's, if it is this process's alone; connections stay */

/* ---- claim_flows.c: of process_ops ---- */
struct claim *claim_of_flow(struct engine *e, const struct flow_key *key); /* NULL: it has none */
int claim_flow_enter(const struct sock *l, const struct flow_key *key);
void claim_conn_began(struct engine *e, struct sock *l, struct sock *s, bool by_cookie);
void claim_conn_left(struct engine *e, struct sock *s, bool to_kernel);
void claim_time_wait_began(struct engine *e, struct sock *s);
bool claim_flow_ends(struct engine *e, const struct flow_key *key);
bool claim_flow_is_kernels(struct engine *e, const struct flow_key *key);
void claim_flows_end(struct engine *e, const struct flow_key *keys, size_t n);
void claim_cookie_sent(struct engine *e, struct sock *l);

/* ---- claim_fork.c: of process_ops ---- */
void claim_before_fork(struct engine *e);
void claim_after_fork(struct engine *e);
void claim_shares(struct engine *e, struct sock *l);
void claim_passes(struct engine *e, struct sock *l);

/* ---- claim_share.c: what a group wants to know ---- */
extern const struct group_host claim_host;
void claim_shows(struct claim *c); /* accepting, waiting, queue: as it is now */
bool claim_is_marked(const struct listener *lst); /* its socket cannot be shared: the kernel serves it */
void claim_serves(struct engine *e, struct control *door);

/* ---- claim_deferred.c ---- */
enum { DEFERRALS_NOT_YET = -1, DEFERRALS_NEVER = -2 }; /* … it could not be watched */
void claim_deferred_init(struct claim *c);
void claim_deferred_follows(struct claim *c); /* somebody wants to accept: what others leave is this process's to hold */
void claim_deferred_stops(struct claim *c);   /* … no more */
void claim_deferred_leaves(struct claim *c);  /* nor what it holds */
void claim_deferred_after_fork(struct claim *c);
int64_t claim_deferred_deadline(const struct claim *c);
void claim_deferred_expire(struct claim *c);
void claim_moves_deferred(struct engine *e, struct sock *l);

/* ---- claim_spare.c ---- */
/* Moves what waits for accept to the spare queue; what cannot be moved stays, unless the listener ends. */
void claim_moves_queue(struct engine *e, struct sock *l);
/* Who ends while it waits there is reset, not closed in order. */
void claim_spare_resets(int fd);
/*
 * When no process listens any more, they are. Only the kernel knows: so a process looks that has closed its listeners,
 * and the queue still.
 */
void claim_spare_looks(struct claim *c);
/* One that was taken from there: SO_LINGER as it inherits it from `kfd`, the listening socket. */
void claim_spare_taken(int fd, int kfd);

#endif
