/*
 * The broker's links: made for a member that asks, or ahead of it. Its first thread calls these. 0 or -errno.
 */
#ifndef FINESSE_PROCESS_BROKER_SPARES_H
#define FINESSE_PROCESS_BROKER_SPARES_H

#include "process/broker.h"

struct classifier;
struct link;

struct broker_link {
	struct link *link;
	struct classifier *classifier;
	bool veth;                 /* its interface is one of a pair */
	struct broker_place place; /* where the classifier is attached, kept for who comes next; fd -1: it ends with the member */
};

/* A link on this interface will be asked for soon. */
void broker_spares_want(int ifindex);
/*
 * A link to give away: one that was made ahead, or a new one, unless `only_spare` (-EAGAIN then). Whatever comes back,
 * broker_link_close frees `out`, but not its place. `why`: BROKER_WHY_BYTES long, written on other errors.
 */
int broker_link_take(const struct broker_ops_config *c, int ifindex, bool only_spare, struct broker_link *out, char *why);
void broker_link_close(struct broker_link *l);
/*
 * A member is gone: the kernel has its frames from now on, and the place is for the next member. `in_order`: the member
 * has left them to the kernel itself.
 */
void broker_place_return(struct broker_place *place, bool in_order);
/*
 * Makes one of what is wanted, and gives up what nobody asked for lately. Milliseconds until it is to be called again,
 * or -1.
 */
int broker_spares_tend(void);
bool broker_spares_lack(void); /* of something that is wanted there is none, nor is one made: that is begun before anybody is served */

#endif
