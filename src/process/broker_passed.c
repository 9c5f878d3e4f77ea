/*
 * Spare queues of listening sockets that went to another process by SCM_RIGHTS.
 *
 * With the kernel's TCP a client waits for accept at the listening socket, whoever has it. Ours wait in the process
 * that had it, and in the spare queue, which fork and exec hand on. A message of the program's own can carry nothing of
 * ours. So who passes a listening socket leaves the queue here, and who gets one fetches it. Both show the listening
 * socket: the kernel's cookie of it is the key.
 *
 * Limits: PASSED_MAX of them; the oldest goes. One is kept for PASSED_US: the receiver has his own descriptors from the
 * first accept on.
 */
#include "process/broker.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/sockopt.h"
#include "base/sys.h"
#include "base/time.h"

#define PASSED_MAX 64
#define PASSED_US  (60 * USEC_PER_SEC)

static struct passed {
	uint64_t cookie; /* 0: free */
	int spare[2];
	int64_t until_us;
} passed[PASSED_MAX];

/* 0: it is no listening socket. */
static uint64_t listener_cookie(int fd)
{
	return sockopt_int(fd, SOL_SOCKET, SO_ACCEPTCONN) == 1 ? sockopt_cookie(fd) : 0;
}

static void forget(struct passed *p)
{
	if (!p->cookie)
		return;
	sys_close(p->spare[0]);
	sys_close(p->spare[1]);
	p->cookie = 0;
}

/* NULL: there is none. The ones whose time is over are forgotten on the way. */
static struct passed *find(uint64_t cookie)
{
	int64_t now = clock_now_us();
	struct passed *found = NULL;
	for (int i = 0; i < PASSED_MAX; i++) {
		if (passed[i].cookie && passed[i].until_us <= now)
			forget(&passed[i]);
		if (passed[i].cookie == cookie)
			found = &passed[i];
	}
	return found;
}

static struct passed *place_for(uint64_t cookie)
{
	struct passed *p = find(cookie);
	if (!p)
		p = find(0); /* a free one */
	if (p)
		return p;
	p = &passed[0];
	for (int i = 1; i < PASSED_MAX; i++)
		if (passed[i].until_us < p->until_us)
			p = &passed[i];
	return p;
}

static bool is_spare(int fd)
{
	return sockopt_int(fd, SOL_SOCKET, SO_DOMAIN) == AF_UNIX && sockopt_int(fd, SOL_SOCKET, SO_TYPE) == SOCK_SEQPACKET;
}

bool broker_passed_add(struct broker_fds *in)
{
	uint64_t cookie = in->n == 3 ? listener_cookie(in->fd[0]) : 0;
	if (!cookie || !is_spare(in->fd[1]) || !is_spare(in->fd[2]))
		return false;
	struct passed *p = place_for(cookie);
	forget(p);
	*p = (struct passed){.cookie = cookie, .spare = {in->fd[1], in->fd[2]}, .until_us = clock_now_us() + PASSED_US};
	in->n = 1;
	return true;
}

int broker_passed_find(const struct broker_fds *in, struct broker_fds *out)
{
	uint64_t cookie = in->n == 1 ? listener_cookie(in->fd[0]) : 0;
	const struct passed *p = cookie ? find(cookie) : NULL;
	if (!p)
		return -ENOENT;
	memcpy(out->fd, p->spare, sizeof p->spare);
	out->n = 2;
	return 0;
}
