/*
 * The broker: one small process for each tree of `finesse run`, which does what the tree's processes may not do any
 * more once they have dropped their privilege.
 *
 *   finesse run ─ clone ─▶ broker          listens on an abstract AF_UNIX name; keeps its privilege
 *       │ exec                  ▲
 *       ▼                       │ HELLO token, then requests; fds by SCM_RIGHTS both ways
 *   program ─fork─▶ worker ─────┘          one connection for each process that has an engine, a member; another for what it asks aside
 *
 * It does exactly this, for members: opens a link (two packet sockets and a classifier, as fds); makes what the members
 * of a listener group share; switches TCP_REPAIR on a TCP socket that it is passed, and binds it; sends it the FIN of
 * its peer; has a neighbour resolved; ends a TIME-WAIT of the kernel's; reads the host's rules, and what programs the
 * member's cgroup has; tells conntrack of a connection that becomes the kernel's; tells the peers of a member that
 * died, has those who were just connecting to it try again, and ends its slots in listener groups (broker_deaths.c);
 * keeps who waits for accept at a listening socket that is on its way to another process (broker_passed.c).
 *
 * Who may ask: who connects from the broker's network namespace (an abstract name is of one namespace) and knows the
 * token, 128 random bits in the environment of the tree. The name itself is public (/proc/net/unix), so it is not the
 * token. The members look who serves them: the superuser, or their own user.
 *
 * Its life: no wait of the program's sees it (broker.c, make_process). It has no file of the program's, a session of
 * its own, and ignores the signals by which a terminal or a service manager ends a program. It ends when the tree's
 * first process has ended, no member is left, and no living process has the token in its environment: one of those may
 * still become a member.
 *
 * If it dies, connections go on. What needs it then fails as it does without a broker, and the socket is the kernel's.
 */
#ifndef FINESSE_PROCESS_BROKER_H
#define FINESSE_PROCESS_BROKER_H

#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "kernel/classifier.h"
#include "kernel/privileged.h"
#include "kernel/sysctl.h"

struct settings;

#define BROKER_VARIABLE    "FINESSE__BROKER" /* its value: BROKER_NAME_LEN digits of the name, then the token's */
#define BROKER_MARK        "finesse-broker-" /* the name's digits behind it: a mapping's name */
#define BROKER_NAME_PREFIX "finesse/broker/"
#define BROKER_NAME_LEN    16 /* hexadecimal digits */
#define BROKER_TOKEN_BYTES 16
#define BROKER_VALUE_LEN   (BROKER_NAME_LEN + 2 * BROKER_TOKEN_BYTES)

#define BROKER_WAIT_MS     1000 /* a member waits so long for an answer */
#define BROKER_PACKET_MAX  128  /* bytes: IPv6 and TCP headers with all options */
#define BROKER_ADDR_MAX    28   /* bytes: struct sockaddr_in6 */
#define BROKER_FDS_MAX     (2 + CLASSIFIER_FDS)
#define BROKER_WHY_BYTES   160
#define BROKER_GROUPS_MAX  64   /* listener groups that one member has made for it in its life */

enum broker_op {
	BROKER_HELLO = 1, /* no answer */
	BROKER_LINK,
	BROKER_REPAIR,
	BROKER_FIN,
	BROKER_NEIGHBOUR, /* no answer */
	BROKER_TIME_WAIT,
	BROKER_FIREWALL,  /* the host's rules, as a descriptor (kernel/firewall.h) */
	BROKER_ESTABLISH, /* conntrack: a connection of the member's becomes the kernel's */
	BROKER_GROUP,     /* what the members of a new listener group share, as descriptors */
	BROKER_TABLE, /* no answer: the table of the member's connections, as a descriptor */
	BROKER_RING, /* no answer: the packet socket that the member receives by, as a descriptor */
	/*
	 * no answer: the member passes a listening socket to another process; it and the port's spare queue as
	 * descriptors (group_spare.c)
	 */
	BROKER_PASSED,
	BROKER_ENTER,  /* maps to be entered in maps of maps, as pairs of descriptors */
	BROKER_SPARE,  /* the spare queue of the listening socket that comes along, as descriptors */
	BROKER_JOINED, /* no answer: the member has a slot of a listener group; the maps of members and flows as descriptors */
	BROKER_CGROUP, /* the kinds of BPF programs on the member's cgroup, and the rules' generation (kernel/firewall.h) */
	BROKER_BYE, /* no answer: the member ends, and has nothing left for which a peer waits */
};

/* A member's slot in a listener group. */
struct broker_slot {
	uint64_t group; /* group.h: it names the slot */
	uint32_t slot, generation;
};

struct broker_request {
	uint32_t op, id;
	union {
		uint8_t token[BROKER_TOKEN_BYTES];
		struct {
			int32_t ifindex;
			uint32_t only_spare; /* -EAGAIN when none is ready: who asks can make one, too */
		} link;
		struct {
			int32_t value;
			uint32_t rcvbuf, sndbuf; /* bytes of payload; 0: as they are */
			uint32_t addr_len; /* 0: it is not bound */
			uint8_t addr[BROKER_ADDR_MAX];
		} repair;
		struct {
			uint32_t len;
			uint8_t bytes[BROKER_PACKET_MAX]; /* FIN: the packet */
		} data;
		struct {
			int32_t ifindex;
			struct ip_addr addr;
		} neighbour;
		struct {
			int32_t ifindex;
			struct flow_key key;
			uint32_t cookie[2];
		} time_wait;
		struct {
			struct flow_key key;
			uint32_t client;
		} establish;
		struct broker_slot joined;
		struct {
			int64_t until_us; /* clock_now_us: the member waits no longer */
			uint32_t n, key[PRIVILEGED_ENTER_MAX];
		} enter;
	};
};

struct broker_answer {
	uint32_t op, id;
	int32_t result; /* 0/positive or -errno */
	uint32_t generation;         /* CGROUP: of the rules */
	uint32_t veth;               /* LINK: netstate_is_veth of its interface */
	uint8_t secret[64];          /* LINK: the host's */
	struct sysctl_values sysctls; /* LINK: the namespace's settings now */
	char why[BROKER_WHY_BYTES]; /* … or why not */
};

/* ---- broker.c: `finesse run` ---- */
/*
 * Makes the broker of the calling process's tree, if this process has the privilege that it needs, and writes the
 * variable's value. 0; -EPERM: it has not; other
 * -errno: it could not be made. The settings are those that the program gets.
 */
int broker_start(const struct settings *settings, char value[BROKER_VALUE_LEN + 1]);

/* ---- broker_tree.c ---- */
/* A pidfd of a living process with this value of the variable in its environment, or -ENOENT. */
int broker_tree_find(const char *value);

/* ---- broker_process.c: a process by its pidfd ---- */
int broker_process_pid(int pidfd); /* as the broker's /proc numbers it; -1: it is not there */
bool broker_process_ended(int pidfd);

/* ---- broker_ops.c: the broker's side of the requests ---- */
struct broker_ops_config {
	enum classifier_choice classifier;
	bool bypass_firewall;
	uint64_t netns; /* SO_NETNS_COOKIE; 0: cannot be told */
};
/* An attachment to an interface that outlives its member: broker_spares.c. */
struct broker_place {
	int fd; /* -1: none */
	int ifindex;
};
/* Who a member is, and what it has cost. */
struct broker_spent {
	int pidfd; /* -1: it cannot be said */
	struct broker_place place;
	unsigned groups; /* at most BROKER_GROUPS_MAX: the memory of their maps is the broker's, not the member's */
};
struct broker_fds {
	int fd[BROKER_FDS_MAX];
	int n;
};
/*
 * Does what is asked. `in`: what came along; closed by the caller. `out`: what goes along, to be closed by
 * broker_ops_sent once it is sent. False: a request that no member of ours makes.
 */
bool broker_ops_do(const struct broker_ops_config *c, struct broker_spent *spent, const struct broker_request *r, size_t len, const struct broker_fds *in,
		   struct broker_answer *answer, struct broker_fds *out);
void broker_ops_sent(void);
uint64_t broker_netns_of(int socket); /* as broker_ops_config.netns */
/* A link on this interface (0: the default route's) will be asked for soon. */
void broker_ops_prepare(const struct broker_ops_config *c, int ifindex);
bool broker_ops_is_answered(const struct broker_request *r);

/* ---- broker_rings.c ---- */
#define BROKER_RINGS_MAX 16 /* one for each interface that an engine has: IFACES_MAX */
struct broker_rings {
	int fd[BROKER_RINGS_MAX];
	unsigned n;
};
/* The descriptor is taken. False: that is no packet socket, or one too many. */
bool broker_rings_add(struct broker_rings *r, struct broker_fds *in);
/* The member is gone: who is left in them is seen to. */
void broker_rings_end(struct broker_rings *r, bool placed);
void broker_rings_forget(struct broker_rings *r);
/* The 4-tuples of the SYNs that nobody has read, at most `max`. How many. */
unsigned broker_ring_syns(int rx_fd, struct flow_key *out, unsigned max);

/* ---- broker_enter.c ---- */
/* Programs find them there when it returns. Of each pair of descriptors: the map of maps, and what is entered. */
int broker_enter(const struct broker_request *r, const struct broker_fds *in);

/* ---- broker_deaths.c ---- */
void broker_deaths_add(int table_fd); /* the member is gone; the fd is closed in time */
/* The same, of a ring. `placed`: its frames are the kernel's already. */
void broker_deaths_add_ring(int rx_fd, bool placed);
void broker_deaths_add_slot(const struct broker_slot *slot, int members_fd, int flows_fd); /* it is gone, or going; the fds are closed in time */
/* Does what is due. Milliseconds until it is to be called again, or -1: nothing is left to do. */
int broker_deaths_serve(void);

/* ---- broker_passed.c ---- */
/* The descriptors are taken. False: they are none of a listening socket and its spare queue. */
bool broker_passed_add(struct broker_fds *in);
int broker_passed_find(const struct broker_fds *in, struct broker_fds *out); /* -ENOENT: nobody passed it. What goes along stays the list's */

/* ---- broker_slots.c ---- */
#define BROKER_SLOTS_MAX BROKER_GROUPS_MAX
struct broker_slots {
	struct broker_joined *joined; /* NULL: none yet */
	unsigned n;
};
/* The descriptors are taken. False: that is no slot of a group, or one too many. */
bool broker_slots_add(struct broker_slots *s, const struct broker_slot *slot, struct broker_fds *in);
/* The member is gone: what it left is seen to. */
void broker_slots_end(struct broker_slots *s);

/* ---- broker_message.c ---- */
int broker_send(int fd, const void *msg, size_t len, const struct broker_fds *fds, int flags);
/* The length, 0 at the end of file, or -errno. The fds are close-on-exec. */
long broker_receive(int fd, void *msg, size_t len, struct broker_fds *fds, int flags);
/* The value of the variable, apart. False: it is none. */
bool broker_parse(const char *value, char name[BROKER_NAME_LEN + 1], uint8_t token[BROKER_TOKEN_BYTES]);
/* The abstract address of a broker. */
struct sockaddr_un;
unsigned broker_address(const char *name, struct sockaddr_un *out);

/* ---- broker_client.c: a member ---- */
/* Once, at load: the value of the variable; NULL: no broker. Makes no system call. */
void broker_client_configure(const char *value);
/* In a fork child, before anything else is asked: the connection is the parent's. */
void broker_client_after_fork(void);
/* This process ends, or the engine in it does: what it had is the kernel's or is over. */
void broker_client_bye(void);
/* Is there a broker that answered so far, or was not asked yet? */
bool broker_client_has_broker(void);
/*
 * Whoever gets this listening socket, by SCM_RIGHTS, finds who waits for accept in this spare queue, also when this
 * process is gone by then. Lock held.
 */
void broker_client_passes(int listening_fd, const int spare[2]);
/* The spare queue of a listening socket that came from elsewhere: internal descriptors, or -errno. Lock held. */
int broker_client_spare(int listening_fd, int spare[2]);
/* This process has a slot of a listener group: if it dies, the others and the clients hear of it at once. Lock held. */
void broker_client_joined(const struct broker_slot *slot, int members_fd, int flows_fd);
/*
 * This process and its forked children are of the tree, whatever becomes of their environment: broker_tree_find sees
 * it. Lock held.
 */
void broker_client_mark(void);

#endif
