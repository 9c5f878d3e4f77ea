/*
 * What the engine is made of: engine, sock, listener, dest, iface. What the files of src/socket do with them is in
 * engine.h, which also says who may touch them when.
 */
#ifndef FINESSE_SOCKET_OBJECTS_H
#define FINESSE_SOCKET_OBJECTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/budget.h"
#include "base/list.h"
#include "base/pool.h"
#include "base/settings.h"
#include "base/siphash.h"
#include "base/time.h"
#include "base/timers.h"
#include "drive/drive.h"
#include "ip/ip.h"
#include "kernel/classifier.h"
#include "kernel/firewall.h"
#include "kernel/netstate.h"
#include "kernel/fastopen_cache.h"
#include "kernel/peers.h"
#include "kernel/ports.h"
#include "kernel/privileged.h"
#include "kernel/sysctl.h"
#include "link/link.h"
#include "socket/options.h"
#include "socket/packet_seen.h"
#include "socket/sock.h"
#include "steer/reader.h"
#include "steer/steer.h"
#include "tcp/fastopen.h"
#include "tcp/syn_cookie.h"
#include "tcp/tcp.h"

#define CONGESTION_NAME_MAX 16 /* Linux: TCP_CA_NAME_MAX */

/* What happened in the socket layer itself; stable names for JSON (socket/sock_counter.def). */
enum sock_counter {
#define SOCK_COUNTER(name, text) SOCKC_##name,
#include "socket/sock_counter.def"
#undef SOCK_COUNTER
	SOCKC_COUNT
};

struct engine;

/* An interface that the engine serves: iface.c. */
#define IFACES_MAX CLASSIFIER_INTERFACES_MAX
_Static_assert(IFACES_MAX == SETTINGS_INTERFACES_MAX, "as many can be named as are served");
#define UNSEEN_MAX 64 /* a power of two */
/* A frame whose text is unseen: unseen.c. */
struct unseen {
	struct sock *s; /* NULL: nobody wants it any more */
	uint32_t seq, len;
	uint32_t wire_len, skip; /* of the frame; its bytes before these */
	bool begun;              /* some were read */
};
struct unseen_queue {
	struct unseen at[UNSEEN_MAX];
	uint32_t first, n;
};

struct iface {
	struct engine *engine;
	struct link *link; /* NULL: the place is free */
	bool gone;         /* the interface does not exist any more; its place is kept while there is no other */
	bool is_watched;   /* privileged_watch_ring */
	int rp_filter;     /* net.ipv4.conf: of it and of all; as it was read last */
	int64_t rp_filter_until_us;
	struct link_rx_handler rx_handler;
	struct unseen_queue unseen;
};
struct iface_declined {
	int ifindex; /* 0: none */
	int64_t until_us;
	char why[160];
};

/* Where a remote address is reached: route and neighbour, cached; shared by the connections to it. */
struct dest {
	struct dest *hash_next;
	struct ip_addr raddr, laddr;
	int oif; /* the interface that it must be reached by; 0: any */
	struct route route;
	struct iface *iface; /* by which it is reached; NULL: by none of ours */
	struct ip_path path;
	int64_t checked_us;  /* neighbour last asked for */
	int64_t solicited_us; /* … by ourselves */
	unsigned generation; /* of engine.net_generation when it was resolved */
	unsigned refs;
	bool resolved;
	bool served; /* it has been reached by one of ours: there may be connections */
	uint16_t ip_id;
	uint32_t route_mtu;     /* the interface's and the route's; path.mtu may be less: pmtu.c */
	int64_t route_until_us; /* a path MTU learned expires then */
};

enum sock_kind {
	SOCK_KIND_LISTENER,
	SOCK_KIND_CONN,
	SOCK_KIND_DEAD,      /* handed over: every verb says EBADF */
	SOCK_KIND_INHERITED, /* after fork: the parent's engine serves it */
};

struct kernel_tw;
struct own; /* own.h */

#define TIMEOUT_NOW_US 1 /* SO_RCVTIMEO and SO_SNDTIMEO below zero: give up at once */

#define EMBRYO_NETS 64 /* places by hash: who floods is found by the fullest */

/* Something that the helper thread watches (control.c): part of its owner. */
struct control {
	void (*ready)(struct engine *e, struct control *c); /* lock held; may end the watch */
	int fd;
};

/* rejudge.c: what watches the host's rules. */
struct rejudge {
	struct control news, ipsec, timer; /* … nftables' and IPsec's notifications */
	bool on, armed, stale;
	bool asks_broker; /* … since this process may not see them */
	bool looks;      /* the timer's next turn looks at the cgroup's programs */
	bool later;      /* … and at connections that could not be judged yet */
	bool holds;      /* who becomes the kernel's just now may have been banned: it is told nothing new before it was heard */
	struct rules_reader *reader; /* it reads the rules; NULL: nobody does */
	struct rules_reader *resting; /* … and did before, when nobody does now; NULL: nobody did */
	uint32_t generation; /* of the rules, as the broker told it last */
	bool late; /* what changed in them will not be known soon: no port is open */
	int64_t unread_us; /* since then the rules changed whenever they were read; 0: they did not */
	int64_t look_us; /* the next look, with the turn that comes then */
	struct firewall_look look;
};

/* TCP Fast Open of a listener (fastopen.c). */
struct fastopen {
	unsigned most;       /* TCP_FASTOPEN: so many connections may wait for their handshake's end; 0: none */
	unsigned pending;
	bool no_cookie;      /* TCP_FASTOPEN_NO_COOKIE */
	struct fastopen_keys keys;
	int64_t keys_us;     /* when the namespace's were read; TIME_NEVER: they are the listener's own */
	int64_t *resets;     /* a ring of `room`: until when the place of one that its peer reset is kept */
	unsigned room, first, n_resets;
};

/* A listener with SO_REUSEPORT that an option made the kernel's: siblings.c. */
#define SIBLINGS_MAX 64
struct sibling {
	uint64_t cookie; /* 0: none */
	struct ip_addr addr;
	uint16_t port;
};

struct listener {
	struct sock *owner;
	struct ip_addr addr;
	uint16_t port;
	int kfd;              /* our own duplicate of the kernel listener, non-blocking; -1 while the last embryos go on after its close */
	struct fd_share accepts; /* of the threads in accept one watches it */
	int backlog;
	unsigned n_accept, n_embryonic;
	unsigned embryo_nets[EMBRYO_NETS]; /* embryos by network of the peer */
	int64_t cookies_until_us; /* a cookie that was sent may come back until then */
	int64_t flooded_us;       /* last told in the log */
	int64_t unroutable_us;    /* SYNs that no way leads back for are counted since then */
	unsigned unroutable;
	struct list accept_queue; /* sock.accept_node, handshake complete */
	struct list embryos;      /* sock.accept_node, SYN-RECEIVED, or deferred */
	struct list deferred;     /* sock.defer_node: of the embryos, those that wait for data */
	int64_t defer_us;         /* TCP_DEFER_ACCEPT; 0: off */
	struct list defers;       /* engine.deferring */
	struct list node;         /* engine.listeners, or engine.draining */
	struct close_policy *policy;
	struct tcp_options options; /* what accepted sockets inherit */
	struct option_values *inherited; /* … and the values noted for them */
	struct candidate candidate;      /* which options were set on kfd */
	bool claimed; /* the port is ours, alone or with others */
	struct claim *claim;     /* process/claim.c */
	struct list claim_node;  /* claim.listeners */
	unsigned n_waiting;      /* threads that wait now, in a wait that a client of this listener ends */
	int64_t others_us;       /* when accept last looked into the kernel's queue and the spare one; 0: never */
	unsigned own_since;      /* accepted from the own queue since then */
	int64_t kernels_first_us; /* until then accept looks there first: the kernel had connections of the port when it was claimed */
	bool others_had;         /* … and found somebody */
	bool others_next;        /* … so they have the next turn */
	uint64_t turn;           /* when its last connection began, among all: who had none for longest is next, where nothing else decides */
	int64_t seen_us;         /* when somebody here last accepted from it, or waited to; 0: never */
	int queue_fd;            /* an epoll of the kernel's queue and the spare one; -1: there is none, kfd is all */
	bool from_elsewhere;     /* other processes may have the listening socket: it came by fork, exec or SCM_RIGHTS, or went there */
	bool mode_shared;        /* a forked child had the socket, and may have made it blocking again, or a program that it executed */
	bool closing;            /* it takes what has come for it, and is offered no more (process_ops.stops) */
	/*
	 * nobody has accepted yet, and it was shared by fork, or may be: the port is the kernel's until somebody here
	 * does
	 */
	bool asleep;
	bool requeues; /* … with who waits for accept: socket/requeue.c */
	bool kernels; /* … and will not be again: an option of the kernel's was set */
	struct fastopen fastopen;
	struct kernel_tw *kernel_tw; /* TIME-WAITs of the kernel's on this port; NULL: none any more */
};

/* What options say of a socket's packets. [0] IPv4, [1] IPv6. */
struct sock_ip {
	uint8_t tos[2];     /* IP_TOS, IPV6_TCLASS */
	uint32_t priority;  /* SO_PRIORITY, which IP_TOS sets, too; not all of them go on frames */
	uint8_t ttl[2];     /* IP_TTL, IPV6_UNICAST_HOPS; 0: the path's */
	uint8_t min_ttl[2]; /* IP_MINTTL, IPV6_MINHOPCOUNT: the peer's packets must have it */
	bool recverr[2];    /* IP_RECVERR, IPV6_RECVERR */
	bool may_fragment;  /* IP_PMTUDISC_DONT */
	int oif;            /* SO_BINDTODEVICE: packets go out and come in by it alone; 0: by any */
};

struct sock {
	struct engine *engine; /* whose it is; never changes */
	struct flow flow; /* connections: in engine.demux while in_demux */
	struct tcp_conn tcp;
	enum sock_kind kind;
	int refs; /* atomic: fds, children, calls in progress, the engine itself while the connection lives */
	struct list node;        /* engine.socks */
	struct list dirty;       /* engine.dirty, stalled or held */
	bool queued;             /* in engine.dirty, where it keeps its place */
	struct list accept_node; /* listener's queues */
	struct list defer_node;  /* listener.deferred */
	int64_t defer_until_us;
	struct list watches;
	struct timer timer;
	struct dest *dest;
	uint32_t path_mtu;       /* of dest, as tcp knows it */
	struct sock *listener;   /* until accepted: whose queue it is on */
	struct sock *fastopen_of; /* opened by Fast Open, its handshake is not complete: the listener that counts it; a reference */
	struct listener *lst;    /* SOCK_KIND_LISTENER; SOCK_KIND_DEAD while it drains */
	struct claim *claim;     /* connections that began at a listener: whose flow it is, while in_demux */
	struct close_policy *policy; /* accepted connections: a reference */
	struct reader reader;        /* … and what their protocol says of the close */
	bool read_protocol;
	uint8_t embryo_net;          /* embryos: in listener.embryo_nets */
	bool traced_closing, traced_fin, traced_closed; /* trace.c: what was told */
	int family;              /* AF_INET or AF_INET6, as the application made it */
	bool v6only;
	bool nonblock, nonblock_given /* sock_mode_changed */, accepted, in_demux, live /* tcp is open: fini owed */, reported /* connect's end was told */;
	bool keeps_address;      /* accepted from a listener that is bound to an address: it is bound there, too, when it is dissolved */
	bool disconnecting;      /* shut down after its connect had failed: Linux's SS_DISCONNECTING */
	unsigned connecting;     /* calls that wait for the handshake */
	unsigned fastopen_calls; /* … among them, with MSG_FASTOPEN; as one that never ends: TCP_FASTOPEN_CONNECT, whose SYN asked for a cookie */
	bool fastopen_hole_over; /* a black hole was suspected for long enough: text from this peer tells that it is none */
	int connect_result;      /* … what they say once it is dead: disconnect.c */
	bool closed;             /* no fd left in this process */
	bool shut_rd;
	bool oob_inline;
	bool exact;              /* has its own entry in the classifier */
	bool in_group;           /* … and in the flows of the group that its port is of */
	bool first_fin_counted;
	bool ending, ends_in_time_wait; /* the protocol is done but for its last segment */
	bool reuseaddr;
	struct sock_ip ip;
	struct option_values *values; /* options that were set, but for those in fields of their own; or NULL */
	bool wants_kernel;            /* an option of the kernel's was set during the handshake */
	struct packet_seen seen;
	uint8_t *saved_syn;           /* … its headers, until TCP_SAVED_SYN is read; or NULL */
	int saved_syn_len;
	bool incoming_cpu_set;        /* by SO_INCOMING_CPU, … */
	int incoming_cpu;             /* … to this, … */
	uint32_t incoming_cpu_segs;   /* … when so many segments had come */
	int lowat_told;               /* SO_RCVLOWAT as the kernel would say; 0: lowat */
	struct list err_owed, errqueue; /* errqueue.c: calls whose bytes are not acknowledged; notices that nobody has read */
	uint32_t n_err_owed, errqueue_bytes, zc_next;
	bool errqueue_news;             /* … who watches is to be told of one */
	struct stamps *stamps;        /* stamps.c; NULL: never asked for */
	uint64_t cookie;              /* SO_COOKIE of an accepted connection, once it was asked for */
	int lowat;
	int64_t rcvtimeo_us, sndtimeo_us; /* 0: for ever; TIMEOUT_NOW_US */
	bool linger_on;
	int linger_s;
	unsigned child_refs; /* processes forked from us that hold it */
	int port_fd;         /* holds the local port that the kernel gave a client; or -1 */
	bool was_bound, port_chosen; /* before connect; to a port that the program named */
	bool bound_again;    /* … or what bind gave it when the connection was over: its name is the socket's */
	int kept_fd;         /* handed over, and kept for children that may still ask; or -1 */
	struct fork_parent *parent; /* SOCK_KIND_INHERITED: whom to ask */
	uint32_t living;     /* its place in engine.living, or 0 */
	uint32_t id;         /* names it towards fork children */
	uint32_t n_unseen;       /* frames of it in the interfaces' queues: unseen.c */
	uint32_t ready_seq;      /* counts readiness events: epoll's edges */
	uint32_t exclusive_told; /* the last one that an EPOLLEXCLUSIVE registration took */
	uint32_t notify_events;  /* while sock_notify runs: which poll events it is about; 0: any */
};

/* TIME-WAIT, without a socket: time_wait.c. */
struct time_wait;
struct time_waits {
	struct list queue; /* by expiry */
	struct time_wait **buckets, **old; /* old: while the table changes its size, what has not moved */
	uint32_t n, n_buckets, n_old, moved;
	size_t bytes;
	struct flow_hasher *hasher;
	unsigned n_entered;                               /* entries of our own in the classifier that it has not been told of yet: */
	struct flow_key entered[CLASSIFIER_STAY_AT_ONCE]; /* … so many it is told of at once. Some may have gone by then */
};

#define CR_NETWORKS  64 /* a power of two */
#define DEST_BUCKETS 1024 /* a power of two */

/* taken_ports.c */
#define TAKEN_PORTS_MAX 64
struct taken_port {
	struct ip_addr addr;
	uint16_t port;
	unsigned n; /* connections and TIME-WAITs of this name */
	int fd;     /* a kernel socket that is bound to it */
};
struct taken_ports {
	struct taken_port at[TAKEN_PORTS_MAX]; /* the oldest first */
	unsigned n;
};

struct engine {
	struct drive drive; /* its lock is the engine's */
	struct settings settings;
	bool configured, up;
	int64_t now; /* of this turn */
	struct pool pool;
	struct iface ifaces[IFACES_MAX];
	unsigned n_ifaces;      /* places in use, and free ones between */
	struct iface_declined declined[IFACES_MAX]; /* by ifindex % IFACES_MAX: could not be attached */
	bool serves_all;        /* a listener is for every interface: new ones are attached, too */
	struct iface *arrived;  /* the way of the frame that is being looked at */
	const struct link_rx *frame; /* … itself; NULL: it is none of a link's */
	struct list stamps_due; /* stamps.c: who sent in this turn */
	struct tcp_emit emit;
	struct unreached *unreached; /* while what finds no next hop is sent into the void, or NULL */
	uint64_t listen_turns; /* connections that began at a listener */
	struct classifier *classifier;
	struct firewall *firewall; /* the host's rules as they were read; NULL: not asked */
	struct judge *judge;       /* … who may connect, by them; NULL: nobody need be asked */
	bool judged_full; /* of the segment at hand: there was no room in the group's table */
	bool judging;     /* … it came by the judge */
	bool judged;
	bool firewall_unknown; /* the rules changed, and cannot be read any more: nothing is taken */
	struct rejudge rejudge;
	struct living *living; /* which connections the broker is to end when this process has died; NULL: there is no broker */
	bool living_tried;
	struct netstate *net;
	struct own *own; /* own-address mode, while the engine is up; otherwise NULL */
	struct ports *ports;
	struct steer *steer;
	struct budget_table *budget_table; /* of the policy: what clients were left with. In memory that forked processes share */
	struct tcp_stack tcp;
	struct sysctls sysctls;            /* the namespace's settings: namespace.c */
	const struct tcp_cc_ops *default_cc; /* of who chose none */
	bool cc_is_not_ours;               /* the namespace's default is one that we lack */
	struct flow_hasher flow_hasher; /* of demux, exceptions and time_waits */
	struct demux demux;
	struct timers timers;
	struct list socks, listeners, dirty, stalled, held;
	struct sibling siblings[SIBLINGS_MAX]; /* the last ones; guarded as listeners */
	unsigned sibling_next;
	struct list draining;   /* listener.node: closed, with embryos */
	struct list deferring;  /* listener.defers: connections may wait there for their client to speak */
	struct requeue *requeue; /* NULL: not open; while a listener drains into the kernel's queue */
	int requeue_err;         /* why it could not be opened; 0: not tried */
	struct list claims;     /* process/claim.c */
	unsigned n_shared_claims;
	bool claims_changed;
	int64_t claims_us;      /* when they want a turn */
	struct time_waits time_waits;
	struct dest *dests[DEST_BUCKETS];
	struct pmtu *pmtus; /* pmtu.c; NULL until one is learned */
	uint8_t hash_secret[16];
	struct siphash_memo last_pair, last_net; /* of two addresses, and of a peer's network; by hash_secret */
	unsigned net_generation;
	int64_t net_looked_us; /* when there was no more news of the network */
	bool net_polled;       /* … nor at the wait that this turn begins after */
	bool own_netlink;      /* engine_note_netlink; atomic */
	uint32_t n_conns, next_id;
	struct ip_addr *addrs;       /* the interfaces' own */
	struct iface **addr_ifaces;  /* … and whose each is */
	unsigned n_addrs;
	unsigned n_gone_addrs; /* behind them in `addrs`: not the interfaces' any more, and connections have them */
	uint8_t host_secret[PRIVILEGED_SECRET_BYTES]; /* the broker's answer; zeroed: it was not asked */
	int64_t up_failed_us; /* when engine_up last failed, for this interface: not tried again at once */
	int up_failed_ifindex;
	char up_why[160];
	int control_fd; /* control.c; 0: not made */
	const char *kept_out; /* admit.c: no socket is taken any more, and why */
	uint64_t netns;       /* … the network namespace that the engine lives in */
	int stat_fd; /* service.c: `finesse stat` asks here; or -1 */
	uint32_t default_rcvbuf, default_sndbuf; /* what an untouched kernel socket says */
	char default_congestion[CONGESTION_NAME_MAX];
	int64_t cr_off_until[CR_NETWORKS];       /* conn.c: networks that seem to drop SYNs with the option of close requests */
	struct peers peers; /* who runs finesse, too */
	struct fastopen_cache fastopen_cache; /* opened by the first client of Fast Open */
	struct tcp_options default_options;      /* the same, as of default_options_us */
	int64_t default_options_us;
	int64_t tick_us;         /* the kernel's timer tick, in which it keeps timeouts */
	int rcvlowat_max;        /* the kernel's greatest SO_RCVLOWAT without SO_RCVBUF */
	uint8_t default_ttl[2];  /* of IPv4 and IPv6, as the namespace has it */
	uint32_t tcp_info_bytes; /* the length of the kernel's TCP_INFO */
	struct pieces *pieces; /* NULL: no fragment has come */
	uint64_t ip_fates[IP_FATE_COUNT];
	uint64_t counters[SOCKC_COUNT];
	struct demux exceptions; /* exceptions.c */
	struct list exception_list, swept;
	struct list partings;
	struct taken_ports taken_ports;
	int64_t sweep_us;
	struct syn_cookies cookies;
	int64_t ways_us; /* way_back.c: since then so many sources of cookies were asked about */
	unsigned ways;
	struct budget answers; /* to segments of no connection */
	int diag_fd;           /* to ask inet_diag through; 0: not open */
	struct list handed_over; /* sock.dirty: the shim is to be told */
	unsigned telling;        /* … and is being told of so many */
	struct list children; /* fork.c: processes that inherited sockets of ours */
	unsigned n_inherited; /* sockets here that belong to a parent's engine */
	bool exiting;
	uint32_t death; /* death.c. A futex, atomic; no lock */
	bool dies;      /* … atomic: by a signal, and not by exit */
};

#endif
