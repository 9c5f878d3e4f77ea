/*
 * What only a privileged process may ask of the kernel, asked of somebody else.
 *
 * The engine tries everything by itself first. Where the kernel says that this process may not (it dropped its
 * privilege), these functions ask who may: the broker (src/process), which registers itself here. With nobody to ask,
 * each returns -EPERM.
 *
 * Called under the engine's lock, but privileged_look. Each waits for an answer with a bound (BROKER_WAIT_MS), but
 * privileged_use_neighbour and privileged_watch(_ring), which wait for none.
 */
#ifndef FINESSE_KERNEL_PRIVILEGED_H
#define FINESSE_KERNEL_PRIVILEGED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/addr.h"
#include "kernel/classifier.h"
#include "kernel/classifier_group.h"
#include "kernel/sysctl.h"

#define PRIVILEGED_SECRET_BYTES 64

/* A link that somebody else opened and attached: link_adopt_packet and classifier_adopt take the fds. */
struct privileged_link {
	int rx_fd, tx_fd;
	bool veth; /* netstate_is_veth of the interface */
	int classifier[CLASSIFIER_FDS];
	uint8_t secret[PRIVILEGED_SECRET_BYTES]; /* the host's */
	struct sysctl_values sysctls; /* read now */
};

struct privileged_repair {
	int value; /* of TCP_REPAIR */
	uint32_t rcvbuf, sndbuf; /* the socket's buffers hold these bytes, if they may; 0: as they are */
	const struct sockaddr *addr; /* NULL: not bound. A port below 1024 needs a right, too */
	socklen_t addr_len;
};

#define PRIVILEGED_ENTER_MAX 3
struct privileged_enter {
	int map_fd;
	uint32_t key;
	int inner_fd;
};

/* 0/positive or -errno, each. */
struct privileged_ops {
	/*
	 * `why` gets a line when it fails. The fds are the caller's, internal ones. -EACCES: the host filters packets.
	 * `only_spare`: for who could do it himself, but 20 ms more slowly than taking one that is ready. -EAGAIN:
	 * there is none.
	 */
	int (*open_link)(int ifindex, bool only_spare, struct privileged_link *out, char *why, size_t why_len);
	/* All that a handover needs of the TCP socket `fd`, in one request: who ends hands over many. */
	int (*repair)(int fd, const struct privileged_repair *r);
	/* Sends `packet`, an IP packet with the FIN of the peer of the connected socket `fd`. */
	int (*inject_fin)(int fd, const void *packet, size_t len);
	/* Whoever is in this table (kernel/living.h) when this process has ended is told so. */
	int (*watch)(int table_fd);
	/*
	 * What is left in the receive ring of this packet socket when this process has died is somebody's who is just
	 * connecting.
	 */
	int (*watch_ring)(int rx_fd);
	int (*use_neighbour)(int ifindex, const struct ip_addr *addr);
	int (*make_group)(int fds[CLASSIFIER_GROUP_FDS]); /* classifier_group_make */
	/*
	 * Maps entered in maps of maps. The kernel waits long for each change, for which who is asked does not wait:
	 * they are found there from now on.
	 */
	int (*enter_maps)(const struct privileged_enter *maps, unsigned n);
	int (*read_firewall)(void); /* firewall_save's fd; -EAGAIN: who is asked is busy, and may be asked again in some seconds */
	/*
	 * firewall_untold_of this process, and firewall_generation. By a descriptor of look_begin's (or -errno),
	 * without the lock, by one thread at a time. Negative: look_failed.
	 */
	int (*look)(int fd, uint32_t *generation);
	int (*look_begin)(void);
	void (*look_cut)(void); /* by another thread than look's, which then ends at once: look_failed */
	bool (*look_failed)(void); /* false: there is nobody to ask any more */
	int (*establish)(const struct flow_key *key, bool client); /* conntrack_establish */
	/* 1: a TIME-WAIT of the kernel's is gone; 0: there was none. */
	int (*end_time_wait)(const struct flow_key *key, const uint32_t cookie[2], int ifindex);
};

extern const struct privileged_ops *privileged_ops; /* NULL: nobody is asked */

/*
 * Are all of these in effect, a bit for each CAP_… of linux/capability.h, all below 32? False also when it cannot be
 * told. Any thread, no lock.
 */
bool privileged_has(uint32_t capabilities);

int privileged_open_link(int ifindex, bool only_spare, struct privileged_link *out, char *why, size_t why_len);
int privileged_repair(int fd, const struct privileged_repair *r);
int privileged_inject_fin(int fd, const void *packet, size_t len);
int privileged_enter_maps(const struct privileged_enter *maps, unsigned n);
int privileged_watch(int table_fd);
int privileged_watch_ring(int rx_fd);
int privileged_use_neighbour(int ifindex, const struct ip_addr *addr);
int privileged_make_group(int fds[CLASSIFIER_GROUP_FDS]);
int privileged_read_firewall(void);
int privileged_look_begin(void);
int privileged_look(int fd, uint32_t *generation);
void privileged_look_cut(void);
bool privileged_look_failed(void);
int privileged_establish(const struct flow_key *key, bool client);
int privileged_end_time_wait(const struct flow_key *key, const uint32_t cookie[2], int ifindex);

#endif
