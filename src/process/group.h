/*
 * A listening port that several processes serve: the claim, who is in, and what they share. Knows names, descriptors
 * and maps, and no socket of the engine's; process/claim.c joins the two.
 *
 *        process A (first)                    process B                            process C
 *            │ bind finesse/listen/ADDR/PORT       │                                   │
 *            │ ok: alone                           │ bind: EADDRINUSE                  │
 *            │ ◀── connect, JOIN + its listening socket ──┤                            │
 *            │ begins the group: maps, slot 0      │                                   │
 *            │ ─── ADMIT id + name, spare, maps ──▶│ slot 1                            │
 *            │                                     │ ◀───────────── JOIN ──────────────┤ (whoever of the two is quicker answers)
 *            │                                     │ ────────────── ADMIT ────────────▶│ slot 2
 *          dies                                    │                                   │
 *                                                  │ the name lives on: B and C hold it, too
 *
 * - The claim is a listening AF_UNIX socket under an abstract name. The first process binds it. Everybody who joins
 *   gets a descriptor of that very
 *   socket, so the name is bound for exactly as long as a member lives, and each member answers at it. Two claims of a
 *   port cannot exist, and nobody's absence or silence says anything.
 * - A slot is owned by binding an abstract name of its own: the kernel gives it back on any death.
 * - While one process is alone, the group has no maps that anybody looks at, and costs nothing.
 * - The spare queue is a socketpair that all of them hold. A connection that waits for accept where nobody will accept
 *   it is sent there, as a kernel
 *   socket; whoever accepts next takes it.
 * - Who may join: who holds a listening socket for this very address, and it is the same socket as a member's (it came
 *   by fork, exec or SCM_RIGHTS), or both
 *   are of one SO_REUSEPORT group, or no member here listens any more. Bind's own rules guard the rest.
 *
 * A fork's child has none of it but the spare queue (group_after_fork), and so has a program that is executed with the
 * listener (spare_exec.h); each enters by itself when it first wants to accept.
 *
 * Functions return 0/positive or -errno and are called under the engine's lock.
 */
#ifndef FINESSE_PROCESS_GROUP_H
#define FINESSE_PROCESS_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/time.h"
#include "kernel/classifier.h"
#include "kernel/classifier_group.h"

struct sockaddr_un;

/* What a listening socket is bound to. */
struct group_place {
	struct ip_addr addr;
	uint16_t port;
	int family;  /* AF_INET, AF_INET6 */
	bool v6only; /* IPV6_V6ONLY */
};
bool group_place_equal(const struct group_place *a, const struct group_place *b);

enum group_state {
	GROUP_OUT,    /* has no part in it */
	GROUP_ALONE,  /* has the name; nobody ever joined */
	GROUP_SHARED, /* has a slot */
};

#define GROUP_GUESTS_MAX 16 /* processes that are connected and have not asked yet */

struct group;

/* Who uses a group. */
struct group_host {
	/* Is this listening socket of another process one of this port's? */
	bool (*admits)(struct group_host *h, int kfd);
	/*
	 * There are maps and a slot from now on: 0 once all flows are in and the port is the group's. -errno: it stays
	 * alone, and refuses.
	 */
	int (*begins)(struct group_host *h);
	/* It cannot be shared: from now on the kernel must serve the port for all. */
	void (*gives_up)(struct group_host *h);
	/* While an answer is waited for: answers those who wait for this process. */
	void (*attends)(struct group_host *h);
	/* There is a spare queue now. */
	void (*has_spare)(struct group_host *h);
	/* Somebody without an engine accepts from the port, too, from the spare queue and the kernel's. */
	void (*has_engineless)(struct group_host *h);
};

struct group {
	struct group_host *host;
	struct classifier *classifier;
	struct group_place place;
	enum group_state state;
	bool refuses;  /* could not be shared: whoever asks uses the kernel's queue */
	bool others_serve; /* this process could not enter, or has stopped, and engines have the port still */
	bool in_vain;  /* … since nobody answered: it is worth another try */
	uint64_t id;   /* names the slots */
	int name_fd;   /* the claim; -1 */
	int door_fd;   /* readable when somebody asks; -1 */
	int guests[GROUP_GUESTS_MAX];
	unsigned n_guests;
	int slot_fd;
	unsigned slot;
	struct classifier_group *maps; /* NULL: none made yet */
	int spare[2]; /* to send to, to receive from; -1 */
};

void group_init(struct group *g, struct group_host *host, const struct group_place *place);
/*
 * Enters: state ALONE or SHARED afterwards. `kfd`: the listening socket. `classifier` NULL: this process has no engine.
 * Then it only tells a group that exists, so that the port is not one process's alone, and gets the spare queue; state
 * stays OUT, and -ENOENT says that nobody else is there.
 * -EADDRINUSE: others serve the port, and this process may not or cannot; -ETIMEDOUT: nobody answered in time.
 */
int group_enter(struct group *g, struct classifier *classifier, int kfd);
/* Leaves: the name, the slot. The spare queue stays. */
void group_leave(struct group *g);
/* Nothing of it is left. */
void group_fini(struct group *g);
/* In a fork's child: closes what is the parent's. */
void group_after_fork(struct group *g);
/* door_fd is readable. */
void group_serve(struct group *g);
/*
 * Somebody may accept from the listening socket of whom nothing is known: it is a group from now on, of one. What the
 * host then says of who accepts is heeded.
 */
int group_begin(struct group *g);
/* Makes the maps, while that is possible: before privilege is dropped. */
int group_prepare(struct group *g);
/* Slots whose owner is dead are free from now on. How many there were. */
unsigned group_bury_dead(struct group *g);

/* ---- group_spare.c ---- */
int group_spare_make(struct group *g); /* 0 also when it is there */
/* `fd`, a connection, is whoever's that accepts next; stays the caller's to close. -EAGAIN: full. */
int group_spare_give(struct group *g, int fd);
bool group_spare_has(const struct group *g); /* another process may be quicker */
int group_spare_take(struct group *g); /* its fd, close-on-exec; -EAGAIN */
/* Either way: who may be accepted, and who is held back. */
bool group_spare_has_any(const struct group *g);
void group_spare_empty(struct group *g); /* closes them */
/*
 * The same for one that nobody may accept yet: TCP_DEFER_ACCEPT holds it back until its client has spoken, or until
 * then (clock_now_us).
 */
int group_spare_defer(struct group *g, int fd, int64_t until_us);
/* `from`: a duplicate of spare[0]. The fd, an internal one, or -errno. */
int group_spare_take_deferred(int from, int64_t *until_us);

/* ---- the messages ---- */
#define GROUP_FDS (3 + CLASSIFIER_GROUP_FDS) /* name, spare, maps */
struct group_join {
	uint32_t magic;
	uint32_t spare_only; /* the sender has no engine */
};
struct group_admit {
	uint32_t magic;
	int32_t result; /* 0, with `n_fds` descriptors; -errno */
	uint64_t id;
	uint32_t n_fds;
};
#define GROUP_MAGIC 0x666e3032 /* of this form of the messages */

/* ---- group_name.c ---- */
unsigned group_listen_name(const struct group_place *p, struct sockaddr_un *out); /* its length */
unsigned group_slot_name(uint64_t id, unsigned slot, struct sockaddr_un *out);

/* ---- claim.c ---- */
/*
 * This process is about to drop its privilege: every listener that it inherited is its own from now on, the engine is
 * up, and what sharing a port needs is made. Takes the engine's lock.
 */
void group_join_inherited(void);

#endif
