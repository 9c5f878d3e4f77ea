/*
 * Members of a listener group for tests: each a packet socket with a classifier of its own on one end of a veth, "a";
 * hand-made frames come from the other end, "b". A frame must reach exactly one member, or the kernel, which is seen by
 * its answer. Silence is asserted by fences: one frame that all members see, and one that the kernel answers.
 */
#ifndef FINESSE_TESTS_NET_GROUP_MEMBERS_H
#define FINESSE_TESTS_NET_GROUP_MEMBERS_H

#include <check.h>

#include "frames.h"
#include "kernel/classifier_group_internal.h"

#define WAIT_MS     5000 /* for what must come; on failure only */
#define OURS        80
#define CLOSED      81
#define MEMBERS_MAX 16
#define KERNEL      (-1)
#define NOBODY      (-2)

struct member {
	int tap;
	struct classifier *c;
	struct classifier_group *g;
	int n;              /* frames since the last settle, without the fence */
	struct tcp_seen last;
};

extern struct member members[MEMBERS_MAX];
extern int n_members; /* that settle looks at */
extern int peer;
extern int n_answers; /* the kernel's, since the last settle */
extern struct tcp_seen answer; /* … and its last one */

struct ip_addr addr(const char *text);
struct flow_key key_from(uint16_t sport);
void open_classifier(struct member *m, enum classifier_choice choice);
/* The member's view of a group that another one has. */
struct classifier_group *join(struct member *m, const struct classifier_group *other);
void join_group(struct member *m, unsigned slot);
void member_start(struct member *m, unsigned slot, const char *listen);
void group_start(int n);
void member_stop(struct member *m);
void group_stop(void);
/* All that was sent has had its effect. */
void settle(void);
/* Who gets the frame: a member's number, KERNEL, NOBODY. Never two. */
int who(const struct spec *s);
int who_gets(uint16_t sport, uint8_t flags);
int who_gets_at(const char *dst, uint16_t sport, uint8_t flags);
/* How many of `n` new SYNs each member gets; the kernel none. Ports from `first` on. */
void count_syns(uint16_t first, int n, int counts[MEMBERS_MAX]);
void setup(void); /* of each test: the namespace, and its other end */
int64_t now_us(void); /* monotonic */
int kernel_listener(void); /* on OURS */
/* Runs the suite; main's result. 77: this machine has not what it needs. */
int group_main(Suite *suite);

#endif
