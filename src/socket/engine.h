/*
 * The engine's inside, for the files of src/socket, and those of src/process and src/ready that work on it.
 *
 * One engine per process: one lock, one set of tables, a link for each interface that it serves. What is in here is
 * touched with the lock held, but for what says otherwise. engine.c makes it, turn.c moves frames and segments through
 * it, drive/wait.c blocks in it, the other files are the verbs of sock.h, one idea each.
 */
#ifndef FINESSE_SOCKET_ENGINE_H
#define FINESSE_SOCKET_ENGINE_H

#include "socket/objects.h"

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
