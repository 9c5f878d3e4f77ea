/*
 * Own-address mode (setting `address`): the engine's side of ip/host.h. Internal to src/socket, as engine.h; lock held
 * in all of these.
 *
 * The engine serves these addresses and no others, on one interface: the first that the setting `interface` names, or
 * the default route's, or the only one that is up. TCP to and from them never meets the kernel's TCP, its routes, its
 * neighbours or its firewall. All else is the kernel's: other addresses, loopback, other interfaces.
 */
#ifndef FINESSE_SOCKET_OWN_H
#define FINESSE_SOCKET_OWN_H

#include "socket/engine.h"

struct own;

static inline bool own_mode(const struct engine *e)
{
	return e->settings.n_own != 0;
}
/* Its index; or -errno with the reason in `why`. */
int own_interface(struct engine *e, char *why, size_t why_len);
/* Is it an address of the setting's, whatever became of it? */
bool own_names(const struct engine *e, const struct ip_addr *a);

/*
 * After the link of `i` was opened: the classifier, the host, the claim. 0, or -errno with the reason, and nothing is
 * left behind but e->classifier, which is the caller's.
 */
int own_attach(struct engine *e, struct iface *i, char *why, size_t why_len);
void own_close(struct engine *e);
void own_forget(struct engine *e); /* in a fork child */
/* Addresses that may be used, or may be soon: fills `out`, returns how many. */
unsigned own_addresses(const struct engine *e, struct ip_addr *out, unsigned max);
const uint8_t *own_mac(const struct engine *e);

/* The engine's ways; as netstate_route and netstate_neighbour. */
int own_route(struct engine *e, const struct ip_addr *dst, const struct ip_addr *src, int oif, struct route *out);
int own_neighbour(struct engine *e, const struct ip_addr *nexthop, const struct ip_addr *src, uint8_t mac[6]);
/*
 * connect(2) to `dst` from `local` (any: not bound): 0 and *laddr; SOCK_KERNEL: not by an address of ours (`why` says
 * so unless it is policy);
 * -errno: what connect says. The engine is up afterwards.
 */
int own_plan(struct engine *e, const struct ip_addr *dst, const struct ip_addr *local, struct ip_addr *laddr, char *why, size_t why_len);

/* The kernel's addresses changed. */
void own_kernel_changed(struct engine *e);
/* A frame: true when it was none for the engine's TCP. Otherwise *rx is changed to what input takes. */
bool own_input(struct engine *e, struct link_rx *rx);
void own_tick(struct engine *e);
int64_t own_deadline(const struct engine *e);
/*
 * May a segment that nobody here knows be answered? Not if another process that shares the address may have its
 * connection.
 */
bool own_may_reset(struct engine *e, const struct ip_input *in);

/* What the host part has to say to `finesse stat`. */
struct own_report {
	const struct host *host;
	bool leads;
	unsigned followers;
};
void own_report(const struct engine *e, struct own_report *out);

#define OWN_MEMBER_DIED 0xff

/* ---- own_share.c: the processes of a tree that share the addresses ---- */
struct own_share {
	struct engine *e;
	int ifindex;
	int door_fd;               /* the leader's: others connect here; or -1 */
	int names[OWN_ADDRESSES_MAX]; /* the leader's: a name per address, which other trees cannot have */
	int up_fd;                 /* a follower's, to the leader; or -1 */
	struct control door, up;
	struct list members;       /* the leader's: struct own_member.node */
	unsigned n_members;
	bool full;                 /* no descriptor is left for one more */
	void (*leads)(struct engine *e);                          /* it is us from now on */
	void (*told)(struct engine *e, const uint8_t *states, unsigned n); /* by the leader; or one byte, OWN_MEMBER_DIED */
	void (*lost)(struct engine *e, const char *why);          /* another tree has an address now */
	unsigned (*states)(struct engine *e, uint8_t *states);    /* what a leader tells; 0: nothing yet */
};
/*
 * Who leads? 0: we do (`leads` is called), or follow. -EADDRINUSE: another tree has an address, `why` says which. Other
 * -errno.
 */
int own_share_open(struct engine *e, struct own_share *s, char *why, size_t why_len);
void own_share_tell(struct engine *e, struct own_share *s); /* the states changed */
/* `forked`: in a child, which shares what watches the descriptors with its parent. */
void own_share_close(struct engine *e, struct own_share *s, bool forked);

#endif
