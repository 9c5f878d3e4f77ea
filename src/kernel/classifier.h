/*
 * The classifier: decides, in the kernel, which frames are the engine's.
 *
 * One per engine, attached to each interface that the engine serves, by one of three backends. "ebpf-tcx": a program at
 * tcx ingress drops what is ours (the packet socket saw it before), and the same decision is the packet socket's
 * filter. "nftables": a netdev-ingress chain drops the same, and the packet socket's filter lets more through than is
 * ours (classifier_is_exact). "socket", for who has CAP_NET_RAW alone: a filter on the kernel's own listening sockets
 * swallows what is ours. Each lives as long as the process: after any death the kernel owns the ports again. What is
 * ours is ours on each of the interfaces, as a kernel socket takes a packet for its address whichever way it comes.
 * Functions return 0/positive or -errno; called under the engine's lock.
 */
#ifndef FINESSE_KERNEL_CLASSIFIER_H
#define FINESSE_KERNEL_CLASSIFIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/settings.h"

struct classifier;

#define CLASSIFIER_INTERFACES_MAX 16

/*
 * Attached to its first interface. `packet_fd`: the link's receive socket (SOCK_RAW). It gets its filter, for good: the
 * filter is locked (SO_LOCK_FILTER). `why` gets one line when it fails (which capability or feature is missing).
 */
int classifier_open(struct classifier **out, enum classifier_choice choice, int ifindex, int packet_fd, bool has_eth, char *why,
		    size_t why_len);
/*
 * Of own-address mode: what is for these addresses is ours, all of it; the kernel has neither them nor the MAC. Of one
 * interface only; no groups, and nobody judges.
 */
struct classifier_own {
	const struct ip_addr *addrs;
	size_t n;
	uint8_t mac[6], if_mac[6]; /* ours, the interface's; may be equal */
};
/* What an interface does with frames for a MAC that is not its own. */
enum own_mac {
	OWN_MAC_WORKS,
	OWN_MAC_IS_LOST,  /* macvlan, Wi-Fi: they take frames for one MAC only, their own */
	OWN_MAC_IS_NOTHING, /* ipvlan hands frames over by address: one that the kernel does not have never gets any */
};
enum own_mac classifier_own_mac(const char *ifname);
int classifier_open_own(struct classifier **out, const struct classifier_own *own, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len);
/* One interface more, with a packet socket of its own. -E2BIG: beyond CLASSIFIER_INTERFACES_MAX. */
int classifier_attach(struct classifier *c, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len);
/* The kernel has all that comes by this interface again. Its packet socket is closed by its owner. */
void classifier_detach(struct classifier *c, int ifindex);
/*
 * What holds the attachment to this interface, to be closed by the caller. -1: nothing does, but the classifier itself.
 */
int classifier_take_attachment(struct classifier *c, int ifindex);
void classifier_close(struct classifier *c);
void classifier_forget(struct classifier *c); /* in a fork child: close our copies only */
const char *classifier_backend(const struct classifier *c); /* "ebpf-tcx", "nftables", "socket", "own-address" */
/*
 * False: the packet socket also gets TCP that the kernel has; what is not of our listeners and connections must be
 * ignored.
 */
bool classifier_is_exact(const struct classifier *c);

/*
 * The same in two steps, since the kernel waits long for an attachment, but not for another program in its place.
 * "ebpf-tcx" alone has this; it fails where classifier_open would.
 *
 * A place is an attachment to an interface whose program leaves everything to the kernel, or to who is attached behind.
 * It is a descriptor, the caller's; while another process has it, too (classifier_fds), a classifier's death does not
 * end it: classifier_place_clear does.
 */
struct classifier_place; /* one that the kernel is making */
int classifier_prepare(struct classifier **out, bool has_eth);
/*
 * `c` was prepared; a copy of `place` becomes its attachment. `packet_fd`: as classifier_open's. -ENOLINK: the
 * interface is gone.
 */
int classifier_put(struct classifier *c, int ifindex, int place, int packet_fd, bool has_eth);
struct classifier_place *classifier_place_begin(int ifindex); /* NULL: it cannot be made */
bool classifier_place_is_made(const struct classifier_place *p); /* or failed: its end is not waited for */
int classifier_place_end(struct classifier_place *p); /* the descriptor; frees `p` */
int classifier_place_clear(int place);

/*
 * Another process opens a classifier (and its packet socket) for one that may not: classifier_fds are what that one
 * needs, still `c`'s; it says how many, 0 or all.
 * -EOPNOTSUPP: this backend's cannot be given away. Close `c` once they are sent: while two processes have them,
 * neither's death gives the ports back.
 */
#define CLASSIFIER_FDS 12
int classifier_fds(const struct classifier *c, int fds[CLASSIFIER_FDS]);
/*
 * The fds (all −1: there are none) are the classifier's from now on, also on failure. `ifindex`, `has_eth`: of the
 * interface to which it is attached.
 */
int classifier_adopt(struct classifier **out, const int fds[CLASSIFIER_FDS], int ifindex, bool has_eth);

/*
 * The host judges who may connect to our listening ports (judge.h): from now on no SYN is ours, and other segments are
 * if the engine may have their connection: by classifier_count_conn, of a group by its entry. Few are of none. NULL: no
 * more. -EOPNOTSUPP: this backend cannot.
 */
struct judge;
int classifier_set_judge(struct classifier *c, const struct judge *j);
/*
 * Where the host judges: it is not asked about SYNs (with no other flag, but ECN's) for those of the `n` ports from
 * `first` whose bit is set.
 */
void classifier_open_ports(struct classifier *c, bool v6, uint16_t first, unsigned n, const uint8_t *bits);
bool classifier_is_open(const struct classifier *c, bool v6, uint16_t port);
/*
 * Of these sources it is asked all the same, whatever the port: a family's, or NULL, none. `also`: what was there stays
 * beside.
 */
struct named_sources;
void classifier_name_sources(struct classifier *c, bool v6, const struct named_sources *named, bool also);
/* Is one of them among these? */
bool classifier_names(const struct classifier *c, const struct ip_addr *source);
bool classifier_names_others(const struct classifier *c, bool v6, const struct named_sources *than); /* … that is not in `than` (NULL: none is) */
/* Plain ACKs may bring back a cookie until then (monotonic microseconds): they are ours, also where the host judges. */
void classifier_note_cookies(struct classifier *c, int64_t until_us);

/* The interfaces' own addresses; replaces the set. */
int classifier_set_addresses(struct classifier *c, const struct ip_addr *addrs, size_t n);
/*
 * A listening port of ours; `addr` any means every address of the interfaces: 0.0.0.0 the IPv4 ones, :: both families.
 * Reference-counted per (addr, port).
 */
extern const struct ip_addr classifier_any_v6only; /* pass it instead of :: for a listener with IPV6_V6ONLY */
int classifier_add_listener(struct classifier *c, const struct ip_addr *addr, uint16_t port);
int classifier_del_listener(struct classifier *c, const struct ip_addr *addr, uint16_t port);
/* One 4-tuple of ours without a listener (client connections; connections that outlive their listener). */
int classifier_add_flow(struct classifier *c, const struct flow_key *key);
int classifier_del_flow(struct classifier *c, const struct flow_key *key);
/* Several; one that is not there is passed over. */
void classifier_del_flows(struct classifier *c, const struct flow_key *keys, size_t n);
/*
 * Of flows that were added, those that are in TIME-WAIT: they stay long, and should leave the places that cost no
 * system call to those who come. At most so many at once; one that is not there is passed over.
 */
#define CLASSIFIER_STAY_AT_ONCE 64
void classifier_flows_stay(struct classifier *c, const struct flow_key *keys, size_t n);
/* One 4-tuple on a listening port of ours that stays the kernel's. */
int classifier_add_exception(struct classifier *c, const struct flow_key *key);
int classifier_del_exception(struct classifier *c, const struct flow_key *key);

/*
 * An engine whose process is stopped looks at nothing. So "ebpf-tcx" gives SYNs that it would not look at to the
 * kernel: a first SYN waits for the engine, and what comes while that one has waited for CLASSIFIER_SILENT_NS or more,
 * and of no connection that the engine has, is the kernel's. With other backends, and where the host judges, they all
 * wait.
 */
void classifier_looked(struct classifier *c); /* the engine has looked at what had come: each turn */
/*
 * SYNs were given to the kernel since the last call. Then classifier_visit_given tells of each 4-tuple that was, at any
 * time; also of other exceptions.
 */
bool classifier_has_given(struct classifier *c);
struct classifier_given {
	void (*each)(struct classifier_given *v, const struct flow_key *key, bool in_group);
};
void classifier_visit_given(struct classifier *c, struct classifier_given *v);
/* The engine has this connection (by: 1), and no longer (-1). */
void classifier_count_conn(struct classifier *c, const struct flow_key *key, int by);

/*
 * The socket backend works at the kernel's own sockets, which it must be told of. With the others these do nothing, and
 * say 0 or false.
 */
/*
 * A kernel socket that listens on a port of ours is silent from now on; before classifier_add_listener. -EPERM: its
 * filter is locked. Where the kernel may have half-open connections of that socket: first to SYNs alone, then the
 * exceptions are added, then to all. So no ACK of theirs is lost.
 */
enum silence_begin {
	SILENCE_SYNS,
	SILENCE_ALL,
};
int classifier_silence(struct classifier *c, int listening_fd, const struct ip_addr *addr, uint16_t port, enum silence_begin how);
/* It is silent already, by whoever has it. */
bool classifier_is_silenced(const struct classifier *c, int listening_fd);
/* … and speaks again, but to flows that were added. */
enum silence_end {
	SILENCE_DIES,    /* the socket is about to be closed: nobody else has it */
	SILENCE_ENDS,    /* the program, or another process, still has it */
	SILENCE_GOES_ON, /* … and engines have its port still */
};
void classifier_end_silence(struct classifier *c, int listening_fd, enum silence_end how);
/*
 * All frames are the kernel's again, without a privilege: where a listener could not be taken back. Nothing can be
 * added afterwards.
 */
void classifier_let_go(struct classifier *c);
/*
 * What the kernel accepted speaks like any other, and has no filter of ours, which it inherited. A listener that is the
 * kernel's may have one of the program's.
 */
void classifier_accepted(const struct classifier *c, int listening_fd, bool listener_is_kernels, int fd);
/* The kernel is silent on this port of our own choice; before a flow there is added. -errno: it cannot be had. */
int classifier_hold_port(struct classifier *c, const struct ip_addr *addr, uint16_t port);
/* True: a flow that no listener covers takes its port as a whole, from everybody. */
bool classifier_holds_ports(const struct classifier *c);
/* The kernel does not answer what comes for this 4-tuple, and nobody of it is known: the engine has to. */
bool classifier_is_silent(const struct classifier *c, const struct flow_key *key);

#endif
