/*
 * The engine's inside, for the files of src/socket, and those of src/process and src/ready that work on it.
 *
 * One engine per process: one lock, one set of tables, a link for each interface that it serves. What is in here is
 * touched with the lock held, but for what says otherwise. engine.c makes it, turn.c moves frames and segments through
 * it, drive/wait.c blocks in it, the other files are the verbs of sock.h, one idea each.
 */
#ifndef FINESSE_SOCKET_ENGINE_H
#define FINESSE_SOCKET_ENGINE_H

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

/* ---- engine.c ---- */
void engine_lock(struct engine *e);
void engine_lock_only(struct engine *e); /* what verbs put off stays so: for who neither looks at connections nor moves them */
void engine_unlock(struct engine *e);
void engine_init_tables(struct engine *e); /* once; lock held */
/*
 * Before any fork, also of a process that has no socket yet: so workers have it in common. Without it, each has its
 * own. Lock held.
 */
void engine_make_budget_table(struct engine *e);
/*
 * e->net can be asked. Before the engine is up, of the network namespace of the calling thread, which `kfd` (or -1) had
 * better be of. 0, or -errno with the reason in `why`. Lock held.
 */
int engine_net(struct engine *e, int kfd, char *why, size_t why_len);
/*
 * After engine_net: make the engine if it is not there, and serve this interface (0: if it is made, the first that
 * there is). 0, or -errno with the reason in `why`, which is empty where the settings leave the interface to the
 * kernel. Lock held.
 */
int engine_up(struct engine *e, int ifindex, char *why, size_t why_len);
/*
 * What a decision says that began when `noted` was fallbacks_noted, and came out as SOCK_KERNEL: that, or with the
 * setting `strict` an error, if there is another reason than policy.
 */
int engine_refusal(const struct engine *e, unsigned noted);
void *engine_alloc(struct engine *e, size_t size); /* zeroed; NULL when out of memory */
void engine_free(struct engine *e, void *p, size_t size);
/* ---- control.c ---- */
/*
 * `c->ready` is called while `fd` has any of `events` (EPOLLIN …), level-triggered. The fd stays the caller's. 0 or
 * -errno. Lock held in all of these.
 */
int control_add(struct engine *e, struct control *c, int fd, uint32_t events);
void control_del(struct engine *e, struct control *c); /* before the fd is closed: a child may have a copy */
unsigned control_fds(struct engine *e, struct pollfd *out);
void control_serve(struct engine *e);
void control_after_fork(struct engine *e);

/* ---- cmsg.c ---- */
/*
 * What a message carries beside its bytes (msg_control can be read): 0 or -errno. Asks the kernel; only for who sends
 * some.
 */
int cmsg_check(const struct sock *s, const struct msghdr *msg);

/* ---- namespace.c: what the network namespace's settings say ---- */
void namespace_open(struct engine *e); /* once the TCP stack is there */
void namespace_close(struct engine *e); /* also in a fork child */
/* A socket is being decided: settings older than `age_us` are read again. */
void namespace_refresh(struct engine *e, int64_t age_us);
int namespace_backlog(const struct engine *e, int backlog); /* as Linux's listen takes it */

/* Control data for recvmsg, in the program's memory. */
struct cmsg_out {
	uint8_t *at;
	size_t left, used; /* bytes */
	bool truncated;    /* MSG_CTRUNC */
};
/*
 * As Linux, which goes on where there is no room (then it says so), or bad memory: the bytes of the call are taken by
 * then.
 */
void cmsg_put(struct cmsg_out *out, int level, int type, const void *data, size_t len);
bool cmsg_stamps(const struct msghdr *msg, uint32_t *flags); /* sendmsg asks for time stamps: which */

/* ---- admit.c ---- */
/*
 * Why the engine does not take this kernel socket, whatever it is for; NULL: it may. Ask again when the engine came up:
 * before, it has no namespace. Lock held.
 */
const char *engine_refuses(const struct engine *e, int kfd);
bool engine_is_of_netns(const struct engine *e, int kfd); /* the namespace that engine_net asks */
void engine_note_netns(struct engine *e); /* the calling thread's is the engine's */

/* ---- judged.c: the host's firewall ---- */
/* May this interface be served? 0; otherwise -errno and the reason: -EPERM, CAP_NET_ADMIN is missing to ask. */
int firewall_admits(struct engine *e, int ifindex, char *why, size_t why_len);
/* After the interfaces: where rules could concern a SYN, the host judges from now on. 0 or -errno with the reason. */
int judged_start(struct engine *e, char *why, size_t why_len);
void judged_again(struct engine *e); /* the rules are others: of which ports has the host to be asked? */
/*
 * May this SYN for a listener be answered? It came by the judge, or nobody has to be asked; what was in the ring when
 * the host began to judge comes again, and climbs.
 */
bool judged_admits(struct engine *e, const struct tcp_segment *syn, const struct flow_key *key);
void judged_stop(struct engine *e); /* also in a fork child */
/* Could a rule touch what a listener's connections send or get, whoever the peer is? `why` names it. */
bool judged_refuses_listener(struct engine *e, const struct ip_addr *addr, uint16_t port, bool v6, bool v6only, char *why, size_t why_len);
/* … one on all addresses, if this interface were served, too? */
bool judged_refuses_interface(struct engine *e, int ifindex, const char *ifname, uint16_t port, char *why, size_t why_len);
bool judged_refuses(struct engine *e, const struct flow_key *key, bool client, char *why, size_t why_len); /* … this connection's */
int judged_attach(struct engine *e, const struct sock *l); /* the judge's filter, if it judges */
/*
 * A connection that begins at a listener: of a group, its segments are ours by an entry. 0; or -E2BIG: there is no room
 * for one, and it is in no table.
 */
int judged_enter(struct engine *e, const struct sock *l, struct sock *s);
bool judged_admits_cookie(struct engine *e, const struct flow_key *key); /* may the one that an ACK brought back open a connection? */
/*
 * A segment that found no connection. True: nothing answers it, since the host was not asked; it is the kernel's when
 * it comes again.
 */
bool judged_leaves_stray(struct engine *e, const struct ip_input *in);
/* For people: "judges"; "none": no rule concerns TCP; "bypass"; "unknown": the rules changed, and cannot be read. */
const char *judged_how(const struct engine *e);
void judged_drain(struct engine *e);
bool judged_pending(const struct engine *e);

/* ---- rejudge.c: the rules change while connections live ---- */
void rejudge_start(struct engine *e);
void rejudge_begin(struct engine *e); /* the engine is up */
void rejudge_look(struct engine *e); /* look_us has come */
void rejudge_all(struct engine *e); /* what rules look at is otherwise: an interface has another name */
bool rejudge_routes(struct engine *e); /* a route is the kernel's alone now, and soon its connections; false: nobody can see to that */
void rejudge_pause(struct engine *e); /* until nothing of it runs beside the caller */
void rejudge_stop(struct engine *e);
void rejudge_forget(struct engine *e); /* in a fork child */
/* A connection becomes the kernel's: conntrack has it as established from now on. */
void rejudge_tell_conntrack(struct engine *e, const struct sock *s);

/* ---- iface.c: the served interfaces ---- */
#define ifaces_for_each(e, i) \
	for ((i) = (struct iface *)(e)->ifaces; (i) < (e)->ifaces + (e)->n_ifaces; (i)++) \
		if ((i)->link)
static inline const struct link_info *iface_info(const struct iface *i)
{
	return link_info(i->link);
}
/*
 * The engine's first: `ifindex`, or with 0 the default route's, or else any. 0, or -errno with the reason in `why`, and
 * nothing is attached.
 */
int ifaces_open(struct engine *e, int ifindex, char *why, size_t why_len);
void ifaces_close(struct engine *e);
/* This process listens: if it dies, whoever connects just then is told to try again. Where there is a broker. */
void ifaces_watch_rings(struct engine *e);
void ifaces_retire(struct engine *e); /* the process ends: the kernel has everything, and the process need not wait for it */
void ifaces_forget(struct engine *e); /* in a fork child */
int ifaces_load_addresses(struct engine *e); /* anew, all. 0 or -errno */
void ifaces_changed(struct engine *e, unsigned what); /* netstate says so: NETSTATE_… */
/* Attached now if it is not. NULL: `why` says why not; empty: the settings leave it to the kernel. */
struct iface *iface_serve(struct engine *e, int ifindex, char *why, size_t why_len);
/* A listener is for all of them, those that come later, too. What cannot be served is noted. */
void ifaces_serve_all(struct engine *e, uint16_t port); /* port: of one that is being made; or 0 */
struct iface *iface_find(struct engine *e, int ifindex); /* NULL: it is not served */
struct iface *iface_first(const struct engine *e);       /* never NULL while the engine is up */
const uint8_t *iface_mac(const struct engine *e, const struct iface *i); /* what our frames by it come from */
/* The interface in whose scope a link-local address of ours is (RFC 4007). */
int iface_scope(const struct engine *e, const struct ip_addr *laddr);
bool engine_owns_address(const struct engine *e, const struct ip_addr *a); /* wildcard: no */

/* ---- turn.c: what a turn does; when it does it is drive/'s business ---- */
extern const struct drive_ops turn_ops;
void turn_init(struct engine *e); /* once */
static inline void turn_begin(struct engine *e) /* time, frames, timers */
{
	drive_begin(&e->drive);
}
static inline void turn_end(struct engine *e) /* output, deadlines, transmit */
{
	drive_end(&e->drive);
}
int64_t turn_deadline(struct engine *e);
void turn_net_changed(struct engine *e); /* netlink has news */
void turn_net_look(struct engine *e); /* … before a route is asked for, unless that was done a moment ago */
void turn_ways_changed(struct engine *e); /* routes or neighbours: destinations look again, and who stalled goes on */
/* What takes time within a turn is no part of a round trip: the clock is read anew. */
void turn_now(struct engine *e);
void turn_frames(struct engine *e); /* within a turn: what has come since it began; turn_end follows */
bool turn_conclude(struct engine *e, struct sock *s); /* its last segments leave now; false: they must wait */
/* The usual bracket of a verb. */
void turn_enter(struct engine *e);
void turn_leave(struct engine *e);
/*
 * … of one that need not see what others have sent, and whose own output may go out with its thread's next wait:
 * drive/putoff.c.
 */
void turn_enter_verb(struct engine *e);
void turn_enter_look(struct engine *e);
void turn_leave_verb(struct engine *e);
void turn_leave_empty(struct engine *e); /* … that found nothing (EAGAIN) */
/* … and of a wait. */
void turn_enter_wait(struct engine *e);
void sock_shape_path(const struct sock *s, bool v6, struct ip_path *path); /* as its options want packets */
void sock_mark_dirty(struct engine *e, struct sock *s);
void sock_unqueue(struct sock *s); /* it has nothing to say */
void sock_notify(struct engine *e, struct sock *s); /* readiness changed: tell the watches */

/* ---- kernel_tw.c: TIME-WAITs that the kernel had on a listener's port ---- */
/* NULL: no memory. */
struct kernel_tw *kernel_tw_new(struct engine *e);
void kernel_tw_free(struct kernel_tw **t); /* *t is NULL afterwards, and may be before */
/* -ENOMEM. All are added before the first is ended. */
int kernel_tw_add(struct kernel_tw *t, const struct flow_key *key, const uint32_t cookie[2]);
/*
 * A connection of ours takes the 4-tuple: 0, or -errno when the kernel has a TIME-WAIT there that it cannot be made to
 * give up.
 */
int kernel_tw_end(struct kernel_tw *t, const struct flow_key *key, int ifindex);
bool kernel_tw_is_over(const struct kernel_tw *t, int64_t now); /* none is left */

/* ---- input.c ---- */
void input_frame(struct engine *e, struct iface *i, const struct link_rx *rx);
/* 1: the kernel has a connection with this 4-tuple, or its TIME-WAIT; 0; -errno */
int engine_kernel_owns(struct engine *e, const struct flow_key *key, int ifindex);
void input_packet(struct engine *e, struct iface *i, const struct ip_input *in);
void input_unreachable(struct engine *e, struct sock *s, const struct ip_icmp_error *icmp);
/*
 * An answer to whom nothing is kept of, with this TOS or traffic class; on behalf of the listener `l`, or of nobody
 * (NULL).
 */
void send_back(struct engine *e, const struct sock *l, uint8_t tos, const struct ip_input *in, const struct tcp_segment *seg);
void sock_process_events(struct engine *e, struct sock *s);
void sock_tcp_input(struct engine *e, struct sock *s, const struct tcp_segment *seg); /* tcp_input, with the time where somebody asked for it */
/* Linux's wake-up by data, urgent data and clients (sock_def_readable). */
#define SOCK_WAKES_READERS (POLLIN | POLLPRI | POLLRDNORM | POLLRDBAND)
/* sock_notify that is about these poll events only. */
void sock_notify_events(struct engine *e, struct sock *s, uint32_t poll_events);

/* ---- dest.c ---- */
/* `oif`: the interface that the socket is bound to, or in whose scope a link-local address is; 0: any. */
struct dest *dest_get(struct engine *e, const struct ip_addr *laddr, const struct ip_addr *raddr, int oif); /* NULL: no memory */
void dest_put(struct engine *e, struct dest *d);
struct dest *dest_find(struct engine *e, const struct ip_addr *laddr, const struct ip_addr *raddr, int oif); /* NULL: nobody has it; no reference */
/* … of who sent the frame that is being looked at, for the listener `l` or nobody. */
int dest_oif(const struct engine *e, const struct sock *l, const struct ip_addr *raddr);
#define DEFAULT_TTL 64 /* RFC 1700; where the kernel does not tell */
/*
 * 0: dest->path is good. -EAGAIN: neighbour being resolved. -ENETUNREACH, -EHOSTUNREACH, -EXDEV (leaves by another
 * interface).
 */
int dest_resolve(struct engine *e, struct dest *d);
/*
 * … for a connection that begins: a neighbour that did not answer is asked again. What becomes of it, dest_resolve
 * tells.
 */
void dest_resolve_anew(struct engine *e, struct dest *d);

/* ---- pmtu.c: what routers said of the path to a host ---- */
#define PMTU_MIN_V4 552 /* bytes; Linux's ip_rt_min_pmtu */
/*
 * A router said that packets over `mtu` (0: it did not say) do not pass: for connections to come, too, during ten
 * minutes.
 */
void pmtu_learn(struct engine *e, const struct ip_addr *raddr, uint32_t mtu);
/* 0: nothing is known. *locked: less than we shrink to, so our packets may be fragmented. */
uint32_t pmtu_get(struct engine *e, const struct ip_addr *raddr, int64_t *until_us, bool *locked);

/* ---- conn.c: life of a struct sock ---- */
static inline bool sock_is_connected(const struct sock *s)
{
	return s->live && tcp_state(&s->tcp) >= TCPS_ESTABLISHED;
}

struct sock *sock_new(struct engine *e, enum sock_kind kind, int family);
void sock_note_handshake(struct engine *e, struct sock *s);
void sock_note_fin(struct engine *e, const struct sock *s, const struct ip_input *in); /* `in` was just taken: does the peer run finesse, too? */
void sock_fill_open(struct engine *e, struct sock *s, const struct tcp_options *opt, struct tcp_open *open);
/* The same without a socket. `path_mtu` 0: not known. */
void fill_open(struct engine *e, const struct iface *i, const struct flow_key *key, uint32_t path_mtu, const struct tcp_options *opt,
	       struct tcp_open *open);
int sock_enter_demux(struct engine *e, struct sock *s);
/* After dest_resolve: the connection learns what became of the path's MTU. */
void sock_follow_path(struct engine *e, struct sock *s);
/* Leaves with the broker what it is to tell the peer if this process dies now (kernel/living.h). */
void sock_say_last_word(struct engine *e, struct sock *s);
void sock_leave_demux(struct engine *e, struct sock *s);
void sock_becomes_kernels(struct engine *e, struct sock *s); /* the same; its frames are the kernel's from now on */
/* The protocol is done with it: leaves the tables, drops the engine's reference. */
void sock_retire(struct engine *e, struct sock *s);
void sock_put(struct engine *e, struct sock *s); /* sock_unref with the lock held */
void sock_set_exact(struct engine *e, struct sock *s);
void time_wait_add(struct engine *e, struct sock *s);
void time_wait_free(struct engine *e, struct time_wait *tw);
void time_wait_make_way(struct engine *e, struct time_wait *tw); /* the same, for a connection of its 4-tuple that begins now */
void time_wait_expire(struct engine *e);
int64_t time_wait_deadline(const struct engine *e);
int time_waits_init(struct time_waits *t, struct flow_hasher *hasher);
void time_waits_fini(struct time_waits *t);
struct time_wait *time_wait_find(struct engine *e, const struct flow_key *key);
/* As tcp_tw_input; after TW_GONE the record is gone, after TW_REUSE the caller frees it once the SYN was admitted. */
enum tw_verdict time_wait_input(struct engine *e, struct time_wait *tw, const struct flow_key *key, const struct tcp_segment *seg,
				struct tcp_segment *reply, uint32_t *iss_min);
bool time_wait_stamp(const struct time_wait *tw, uint32_t *ts_recent); /* false: its connection had no time stamps */
bool time_wait_may_reuse(struct engine *e, const struct time_wait *tw, int64_t after_us, uint32_t *iss_min);
void time_wait_keep(struct engine *e, uint16_t port);
void time_waits_count(struct engine *e, int by); /* all there are, as connections (classifier_count_conn); later ones are while the host judges */
struct time_wait_visit {
	void (*each)(struct time_wait_visit *v, const struct flow_key *key);
};
/* Those on this port; `but_reusable`: whose connection did not have SO_REUSEADDR. */
void time_waits_visit_port(const struct engine *e, uint16_t lport, bool but_reusable, struct time_wait_visit *v);
/* The port becomes a group's: each record without an entry of its own in the classifier gets one there. */
void time_waits_enter_group(struct engine *e, uint16_t port, struct time_wait_visit *v);
bool time_wait_is_in_group(const struct time_wait *tw);
uint8_t time_wait_tos(const struct time_wait *tw); /* the connection's IP_TOS or IPV6_TCLASS when it ended */
/*
 * This process listens there no more, others do: a client's next connection from the same port is theirs. Most of them;
 * the rest is met by input.c.
 */
void time_waits_leave_group(struct engine *e, uint16_t port);
void count_first_fin(struct engine *e, struct sock *s);

/* ---- exceptions.c ---- */
/* This 4-tuple on a port of ours stays the kernel's while the kernel has it. 0, -ENOMEM, -E2BIG. */
int exception_add(struct engine *e, const struct flow_key *key);
/* The same for a SYN that may be forged: strangers do not fill the table. */
void exception_add_for_stranger(struct engine *e, const struct flow_key *key);
/* Those that the classifier gave to the kernel while this process was stopped. */
void exceptions_take_given(struct engine *e);
/*
 * A SYN came: is its 4-tuple the kernel's still? Where it may have come to nobody else, a TIME-WAIT of the kernel's
 * makes way for it.
 */
bool exception_holds(struct engine *e, const struct flow_key *key, int ifindex);
void exceptions_sweep(struct engine *e); /* when it is time */
int64_t exceptions_deadline(const struct engine *e);

/* parting.c */
/* What is left: an entry of its own, one in its group's table, its count (classifier_count_conn). */
enum parting_left { PARTING_EXACT = 1, PARTING_GROUP = 2, PARTING_COUNT = 4 };
void parting_add(struct engine *e, const struct flow_key *key, unsigned left);
bool partings_have(const struct engine *e, const struct flow_key *key); /* walks along all: for what strangers cannot bring about too often */
void partings_sweep(struct engine *e);
int64_t partings_deadline(const struct engine *e);
void partings_forget(struct engine *e); /* in a fork child */

/* ---- taken_ports.c: what bind sees of our connections ---- */
void taken_ports_listener_closes(struct engine *e, const struct sock *l);
void taken_ports_time_wait(struct engine *e, struct sock *s); /* one begins: what holds the port of `s` may go on */
void taken_ports_count(struct engine *e, const struct flow_key *key, int more); /* one more or less has this name */
int taken_ports_fd(struct engine *e, const struct ip_addr *addr, uint16_t port); /* the table's; or -1 */
void taken_ports_forget(struct engine *e); /* in a fork child */

/* ---- connect.c, fork.c ---- */
/* Waiting for a handshake that began before; or, with `begun`, by this call. */
int connect_call(struct engine *e, struct sock *s, const struct sockaddr *addr, bool begun, bool nonblock, bool fastopen, bool *dissolve);
void fork_not_early(struct engine *e, struct sock *s); /* its handshake is complete: a child that asked for it before that gets its answer */

/* ---- options_values.c ---- */
/* The engine does what this value asks, and *ip says how; false: the kernel has to. The engine is up. */
/* Of its frames. The kernel must take it by message, so that each can have its own (Linux 6.14); otherwise 0. */
uint8_t options_frame_priority(const struct sock *s);
bool option_carry(struct engine *e, struct sock_ip *ip, const struct option_value *v);

/* ---- options_decide.c ---- */
#define BUF_LOCK_SND 1 /* SO_BUF_LOCK */
#define BUF_LOCK_RCV 2
bool options_may_be_set(const struct candidate *c, unsigned index); /* the kernel has to be asked for it */
/* The interface that it is bound to; 0: none. */
int options_device(int kfd, const struct candidate *c);
extern const char options_device_unserved[]; /* why such a socket is the kernel's */
/* Was something set on the kernel socket that the engine cannot do? Then `why` says what. */
bool options_refused(struct engine *e, int kfd, const struct candidate *c, char *why, size_t why_len);
bool options_refused_listener(struct engine *e, int kfd, const struct candidate *c, char *why, size_t why_len); /* … of one that listens, or will */
/* What was set on it is the socket's now. -ENOMEM. */
int options_take(struct engine *e, int kfd, const struct candidate *c, struct sock *s, struct tcp_options *opt);
/* What accepted sockets will inherit follows what was set on their listener. -ENOMEM. */
int options_for_accepted(struct sock *l);
void options_inherit(struct sock *s, const struct sock *l);
/* A kernel socket gets what was set on a connection, but SO_SNDBUF. What it does not take is logged. */
void options_to_kernel(struct engine *e, const struct sock *s, int fd);
/* Its SO_SNDBUF by itself: what was accepted before is perhaps more than that, and has to be written first. */
void options_sndbuf_to_kernel(const struct sock *s, int fd);
/* ---- names.c ---- */
int name_to_addr(const struct sockaddr *sa, socklen_t len, struct ip_addr *addr, uint16_t *port);
void name_from_addr(const struct engine *e, int family, const struct ip_addr *addr, uint16_t port, struct sockaddr *out, socklen_t *len);
/* To an address without a port. */
void bind_address_only(int fd, const struct sockaddr *name, socklen_t len);
int name_of_kernel(int kfd, struct ip_addr *addr, uint16_t *port, int *family);
/* Link-local addresses are of an interface (RFC 4007). */
bool name_is_link_local(const struct ip_addr *a);
/* An option of a kernel socket; 0 also where it has none. */
int kernel_int(int kfd, int level, int name);
bool kernel_v6only(int kfd, int family);

/* ---- ready/mask.c ---- */
short sock_mask(struct engine *e, struct sock *s); /* lock held; kernel queue of listeners not looked at */

/* ---- waiting: drive/drive.h for this engine ---- */
static inline void wait_begin(struct wait *wait, struct engine *e, int64_t timeout_us) /* timeout_us 0: for ever */
{
	drive_wait_begin(wait, &e->drive, timeout_us);
}
static inline int wait_begin_timespec(struct wait *wait, struct engine *e, const struct timespec *timeout)
{
	return drive_wait_begin_timespec(wait, &e->drive, timeout);
}
static inline int wait_begin_epoll(struct wait *wait, struct engine *e, const struct timespec *timeout)
{
	return drive_wait_begin_epoll(wait, &e->drive, timeout);
}
static inline struct waiter *waiter_self(struct engine *e)
{
	return drive_waiter(&e->drive);
}
static inline int engine_wait(struct engine *e, struct waiter *w, struct pollfd *kfds, unsigned n_kfds, const struct wait *wait,
			      const sigset_t *mask)
{
	return drive_wait(&e->drive, w, kfds, n_kfds, wait, mask);
}
static inline void watch_add(struct watch *w, struct sock *s)
{
	list_push_back(&s->watches, &w->node);
}
static inline void watch_remove(struct watch *w)
{
	list_unlink(&w->node);
}
/* Wait for anything to happen to one socket: as drive_wait. */
int sock_wait(struct engine *e, struct sock *s, const struct wait *wait);
/* While a thread waits for a client of a listener; undone when it leaves the wait by longjmp or is cancelled. */
struct listener_wait {
	struct undo undo;
	struct engine *e;
	struct sock *l;
	bool away; /* it does not: a handler runs, or has closed the listener */
};
void listener_wait_begin(struct listener_wait *w, struct engine *e, struct sock *l);
void listener_wait_end(struct listener_wait *w);

/* ---- service.c: the helper thread's other work ---- */
int helper_start(struct engine *e); /* lock held */
void helper_stop(struct engine *e); /* lock held; joins with the lock dropped */
void helper_leave(struct engine *e); /* the same where the process ends */
void helper_after_fork(struct engine *e);
unsigned service_fds(struct drive *d, struct pollfd *out, unsigned max);
void service_run(struct drive *d, const struct pollfd *fds, unsigned n);

/* ---- stat.c ---- */
int stat_listen(void);           /* the stat socket, or -errno */
void stat_serve(struct engine *e, int fd); /* answer whoever connected; lock held */
void stat_after_fork(void);

/* ---- handover.c ---- */
/*
 * The connection becomes a kernel socket: its fd, or -errno and nothing changed. `why` is noted; NULL: not. Lock held.
 */
int conn_handover(struct engine *e, struct sock *s, const char *why);
/*
 * The same, and what its peer says meanwhile goes along: frames come in, so the caller is in no list of sockets that
 * they could change, and has a reference.
 */
int conn_handover_alone(struct engine *e, struct sock *s, const char *why);
/*
 * Where that failed: the connection ends here, and a kernel socket shows its end (kernel/ended.h); one that is being
 * opened begins anew there. Its fd, or -errno (-EMFILE). Lock held.
 */
int conn_end(struct engine *e, struct sock *s);
/* connect.c: `s` is about to be given up; its port rests for a while if the peer has not answered. */
void connect_given_up(struct engine *e, const struct sock *s);
void stream_close(struct engine *e, struct sock *s, bool exiting);
#define EXIT_DRAIN_SHORT_US (10 * USEC_PER_SEC)
/* engine_on_exit, lock held. What is unsent, and cannot be handed over, is sent for so long at most */
void exit_locked(struct engine *e, bool for_good, int64_t drain_us);
extern const char exit_kept_out[];                 /* engine.kept_out, afterwards */

#endif
