/*
 * The data plane of listener groups: several processes (members) that serve one listening port, each with an engine of
 * its own. classifier_group.c has the theory of operation.
 *
 * A group of eBPF classifiers is two kernel maps, which every member has as file descriptors: who accepts (in memory
 * that the members share), and which connection belongs to whom. The members' programs decide by them, frame by frame,
 * and agree. Who may join, and who owns which slot, is the control plane's business (src/process/group.h).
 *
 * Of "socket" classifiers it is one piece of memory that the members share, by which each engine decides for itself
 * (classifier_group_cells.h).
 *
 * Functions return 0/positive or -errno and are called under the engine's lock. Only classifier_group_make needs
 * privilege (CAP_BPF): the others work after a process has dropped it. A member that dies in any way needs no call:
 * what was its own is the kernel's at once.
 */
#ifndef FINESSE_KERNEL_CLASSIFIER_GROUP_H
#define FINESSE_KERNEL_CLASSIFIER_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "kernel/classifier.h"

#define CLASSIFIER_GROUP_FDS   5    /* descriptors that make a group known to another process */
#define CLASSIFIER_GROUP_SLOTS 64   /* members of one group at a time: slots 0 to this, exclusive */

struct classifier_group; /* this process's view of one group; belongs to a classifier and does not outlive it */

/*
 * Makes what the members of a new group share (some 4 MB of kernel memory, some 4 ms): internal descriptors, the
 * caller's. Needs CAP_BPF, CAP_NET_ADMIN.
 */
int classifier_group_make(int fds[CLASSIFIER_GROUP_FDS]);
/*
 * A new group of which this process is the first. Where it may not make one, the broker does (kernel/privileged.h).
 * -EOPNOTSUPP: the classifier has no groups; -EPERM: no privilege;
 * -ENOSPC: this classifier has too many groups.
 */
int classifier_group_new(struct classifier *c, struct classifier_group **out);
/*
 * Another process's group. The fds belong to the group from now on, also when it fails: -EOPNOTSUPP, -ENOSPC as above;
 * -EINVAL: these are no maps of a group, or those of another version of finesse.
 */
int classifier_group_open(struct classifier *c, const int *fds, unsigned n_fds, struct classifier_group **out);
/* For SCM_RIGHTS: how many. The fds stay the group's. */
unsigned classifier_group_fds(const struct classifier_group *g, int fds[CLASSIFIER_GROUP_FDS]);
/* Leaves the slot and closes. The group's listeners must be deleted before. */
void classifier_group_free(struct classifier_group *g);
/*
 * The host judges (classifier_set_judge): this listening socket gets the group's filter. -EOPNOTSUPP: the group cannot,
 * or this process has no ring.
 */
int classifier_group_attach_judge(const struct classifier_group *g, int listening_fd);
/*
 * In a fork child: closes this process's copies, and changes nothing that the members share. classifier_forget does it
 * for all groups.
 */
void classifier_group_forget(struct classifier_group *g);

/*
 * Slots, one per member. The caller makes sure that no other living process owns the slot. Taking one ends what its
 * last owner had: its flows count no more. A new owner is not accepting, not waiting, has not done so lately, and its
 * queue is empty.
 */
int classifier_group_take_slot(struct classifier_group *g, unsigned slot); /* -EBUSY: this process has one; -EINVAL: no such slot */
void classifier_group_leave_slot(struct classifier_group *g);              /* without a slot it does nothing */
/*
 * The slot's owner is dead (the caller knows): SYNs go to the living at once instead of to the kernel's queue. Never
 * the own slot.
 */
void classifier_group_reap_slot(struct classifier_group *g, unsigned slot);
int classifier_group_slot(const struct classifier_group *g); /* the own one, or -1 */
uint32_t classifier_group_generation(const struct classifier_group *g); /* of the own slot: who has it now */
/* What the slot's owner says of itself, who may be dead. False: the slot is free. */
struct classifier_member {
	uint32_t pid; /* in the owner's pid namespace */
	bool accepting, waiting;
	uint32_t queue; /* connections that wait for accept, embryos included */
};
bool classifier_group_member(const struct classifier_group *g, unsigned slot, struct classifier_member *out);
/* It has an owner, who may be dead. */
bool classifier_group_slot_is_taken(const struct classifier_group *g, unsigned slot);

/*
 * Listeners: frames for (addr, port) are decided by the group, in this process. `addr` and the reference count as in
 * classifier_add_listener. A member keeps the listener here for as long as it has connections of the port, also when
 * the program's own socket is closed.
 * -EEXIST: it is a listener of this process outside the group (then convert) or of another group.
 */
int classifier_group_add_listener(struct classifier_group *g, const struct ip_addr *addr, uint16_t port);
/* classifier_del_listener. */
int classifier_group_del_listener(struct classifier_group *g, const struct ip_addr *addr, uint16_t port);
/*
 * An existing listener of this process becomes the group's; its count stays. The caller has added its flows before:
 * what is not in the flows when this returns is the kernel's. -ENOENT: there is none.
 */
int classifier_group_convert_listener(struct classifier_group *g, const struct ip_addr *addr, uint16_t port);

/* What the others' programs go by: stores to shared memory, no system call. Nothing happens without a slot. */
void classifier_group_set_accepting(struct classifier_group *g, bool on); /* may be chosen for new connections; off: waiting is off, too */
void classifier_group_set_waiting(struct classifier_group *g, bool on);   /* a thread waits now; counts while accepting */
void classifier_group_set_lately(struct classifier_group *g, bool on);    /* may be chosen where nobody accepts; for cells, serving is enough */
/* has a listener: may be chosen where nobody accepts, and answers strangers */
void classifier_group_set_serving(struct classifier_group *g, bool on);
void classifier_group_set_queue(struct classifier_group *g, uint32_t n);  /* connections that wait for accept, embryos included */
bool classifier_group_others_waiting(const struct classifier_group *g);   /* a dead member counts until it is reaped */
bool classifier_group_has_others(const struct classifier_group *g);       /* is another slot taken? The same */
/*
 * This member answers SYNs by cookies, and the answers may come until `until_us` (CLOCK_MONOTONIC). Until then, in all
 * members, a segment without an entry is decided by a hash over the accepting members: a SYN (and gets no entry) or an
 * ACK. A member adds each connection that becomes established meanwhile (classifier_group_add_flow). The latest
 * `until_us` of all members counts; it is never taken back. Segments of the kernel's connections need an entry
 * (classifier_group_give_flow) or an exception meanwhile.
 */
void classifier_group_note_cookies(struct classifier_group *g, int64_t until_us);

/*
 * Every member gets every frame, and asks whose it is (classifier_group_is_others); each adds every connection that it
 * has. False: the kernel decides, and adds those that begin with a SYN here.
 */
bool classifier_group_decides_here(const struct classifier_group *g);
/*
 * Is a frame of the group's port, which no connection of this process knows, another's to answer? `syn`: a SYN without
 * ACK or RST. Only where it decides here.
 */
bool classifier_group_is_others(struct classifier_group *g, const struct flow_key *key, bool syn, int64_t now_us);

/*
 * Flows. The program adds the entry of a connection that begins with a SYN here; the member deletes it when the
 * connection is over (after TIME-WAIT), or when its embryo is dropped.
 * add: an entry of this member; twice is once. -EEXIST: it is another living member's. -E2BIG: the map is full.
 * give: the 4-tuple is the kernel's (handed over; accepted from the kernel's queue), and its SYNs are too; replaces an
 * entry of this member.
 * del: -ENOENT: there is none of this member, added or given.
 */
int classifier_group_add_flow(struct classifier_group *g, const struct flow_key *key);
int classifier_group_give_flow(struct classifier_group *g, const struct flow_key *key);
int classifier_group_del_flow(struct classifier_group *g, const struct flow_key *key);
/*
 * Of flows whose entries, where they are there, are this member's: nobody looks whose they are. One system call for
 * many.
 */
void classifier_group_del_own_flows(struct classifier_group *g, const struct flow_key *keys, size_t n);
/*
 * Deletes entries whose member is gone, a bounded number of them per call; any member may. 1: call again, 0: all seen.
 * Not needed for being right: a dead member's entry is the kernel's until a SYN replaces it.
 */
int classifier_group_sweep(struct classifier_group *g);

#endif
