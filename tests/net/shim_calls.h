/* What the parts of shim_calls share. */
#ifndef TESTS_NET_SHIM_CALLS_H
#define TESTS_NET_SHIM_CALLS_H

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* Prints the call, its result, and errno where it failed. */
void say(const char *what, long r);
#define SAY(expr)                                                                                  \
	({                                                                                         \
		errno = 0;                                                                         \
		long r_ = (long)(expr);                                                            \
		say(#expr, r_);                                                                    \
		r_;                                                                                \
	})

struct sockaddr_in address(int port); /* of the loopback */
struct sockaddr *sa(struct sockaddr_in *a);
int listener(int *port); /* at the next port */
int client(int port);
void pair(int *c, int *s); /* c: the client's end, s: the server's */
void wait_readable(int fd);
int ctl(int ep, int op, int fd, unsigned events, unsigned tag); /* epoll_ctl */
int ready(int ep, int ms);                                      /* each event's tag and mask in decimal digits */

/* shim_waits.c */
void polls(void);
void epolls(void);

/* shim_files.c */
void copies(void);
void big_file(void);
void stdios(void);

/* shim_signals.c */
void signals(void);
void storm(void);

/* shim_children.c */
void processes(void);
void clones(void);

/* shim_libc.c */
void libc_inside(void);
void cancellations(void);

#endif
