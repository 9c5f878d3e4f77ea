/*
 * What the parts of ends_walk share: the two ends' ports, the words to the peer, and calls that say what came of them.
 */
#ifndef TESTS_NET_ENDS_WALK_H
#define TESTS_NET_ENDS_WALK_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

#define PEER_PORT   7000
#define CLOSED_PORT 9
#define OWN_PORT    7100

extern const char *peer_ip, *hole_ip; /* the hole never answers */
extern int slower; /* how much longer than on an idle machine it waits for others, where it cannot ask */

void say(const char *format, ...) __attribute__((format(printf, 1, 2))); /* to standard output, at once */
void said(const char *what, long r); /* a call's result, and errno's name where it failed */
#define SAY(expr)                                                                                                                          \
	({                                                                                                                                 \
		long r_ = (long)(expr);                                                                                                    \
		said(#expr, r_);                                                                                                           \
		r_;                                                                                                                        \
	})

struct sockaddr_in address(const char *ip, int port);
void settle(int times); /* the peer's segments come, a thread gets into its call: times SETTLE_US */
void section(const char *name); /* begins what is bounded by HANG_S */
void tell(const char *format, ...) __attribute__((format(printf, 1, 2))); /* the peer does that, and has done it */
long receive(int fd, size_t n, int flags); /* and says what */
int events(int fd); /* poll's, now */
int connect_to(int fd, const char *ip, int port);
void set_blocking(int fd, bool on);
int connected(void); /* to the peer, which has accepted */
int listening(void); /* at OWN_PORT */
void describe(int fd); /* says what all can ask of it */
int accepted(int l, const char *then); /* the peer connects, does `then` unless it is NULL, and is accepted */
int refused(void); /* its connect has failed, unasked; it is blocking now */
int unspecified(int fd); /* dissolves its connection */
long end_listening(int l, int how); /* by shutdown, or by unspecified */
long by_send(int fd); /* one byte */
int error_of(int fd);
int peer_name(int fd);
int number(int fd, int level, int name);

/* ends_peer.c: the other host, told what to do over a Unix socket of that name. */
struct sockaddr_un socket_name(const char *path);
int be_peer(const char *path);

/* ends_connecting.c */
int connecting(void); /* to the hole, not blocking */
void connects_ended(void);
void reconnects(void);

#endif
