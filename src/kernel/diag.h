/* inet_diag: which TCP sockets the kernel itself owns. */
#ifndef FINESSE_KERNEL_DIAG_H
#define FINESSE_KERNEL_DIAG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

struct diag_socket {
	struct flow_key key;
	int state;          /* TCP_ESTABLISHED … */
	uint32_t cookie[2]; /* names the very socket */
};

struct diag_visit {
	void (*socket)(struct diag_visit *v, const struct diag_socket *s);
};
/*
 * Every non-listening TCP socket of this namespace with local port `lport`, TIME-WAIT and orphans included; both
 * families; IPv4 as mapped. 0 or -errno.
 */
int diag_dump_port(uint16_t lport, struct diag_visit *v);
/* The same for the local ports first … last. */
int diag_dump_ports(uint16_t first, uint16_t last, struct diag_visit *v);
/* Every listening TCP socket of this namespace with this port. 0 or -errno. */
int diag_dump_listeners(uint16_t port, struct diag_visit *v);
/* Does the kernel own this 4-tuple? 1, 0, -errno. */
int diag_owns(const struct flow_key *key);
/*
 * The same for a segment that arrived on `ifindex`: also finds sockets that are bound to that interface
 * (SO_BINDTODEVICE, link-local addresses), which a question without an interface cannot.
 */
int diag_owns_on(const struct flow_key *key, int ifindex);
/* The same through a socket of diag_open, for who asks often. */
int diag_ask(int fd, const struct flow_key *key, int ifindex);
/* Does a socket listen for a SYN of this 4-tuple that arrives on `ifindex`? 1, 0, -errno. */
int diag_has_listener(int fd, const struct flow_key *key, int ifindex);
/* For diag_ask and diag_end: a socket to ask through, the caller's to close. -errno. */
int diag_open(void);
/* TCP_ESTABLISHED …, of the kernel's socket with this 4-tuple; 0: there is none. */
int diag_state(int fd, const struct flow_key *key, int ifindex);
/* How many bytes of the peer's stream it has received (a FIN counts one). 1; 0: there is no such socket; -errno. */
int diag_received(int fd, const struct flow_key *key, int ifindex, uint64_t *bytes);
/*
 * Ends that very socket of the kernel, seen on `ifindex`. 1: it is ended; 0: it was gone; -errno: it could not be ended
 * (TIME-WAIT: Linux before 6.5; any: without CONFIG_INET_DIAG_DESTROY or CAP_NET_ADMIN).
 */
int diag_end(int fd, const struct flow_key *key, const uint32_t cookie[2], int ifindex);
/*
 * 1: the kernel has nothing of this 4-tuple but a TIME-WAIT, which is ended where Linux can; 0: it has a connection;
 * -errno.
 */
int diag_end_time_wait(int fd, const struct flow_key *key, int ifindex);

#endif
