/*
 * Control data. Of sendmsg: Linux's sock_cmsg_send, for a TCP socket; of recvmsg: its put_cmsg.
 *
 * TCP uses none of it but the wish for time stamps (stamps.c). Other levels than SOL_SOCKET are passed over. What
 * cannot be right is an error all the same, and so is what the caller has no right to; a fresh kernel socket judges
 * that by the option of the same name.
 */
#include "socket/engine.h"
#include "socket/stamps.h"

#include "base/sys.h"
#include "base/user.h"

#include <errno.h>
#include <string.h>

#define SCM_PIDFD_NUMBER 4 /* SCM_PIDFD of linux/socket.h: libc may not know it yet */

/* The header at *at, which moves on; NULL: at the end, or where what is there cannot be right (*bad). */
static const struct cmsghdr *next(const struct msghdr *msg, size_t *at, bool *bad)
{
	size_t left = *at < msg->msg_controllen ? msg->msg_controllen - *at : 0;
	const struct cmsghdr *h = (const void *)((const char *)msg->msg_control + *at);
	*bad = left >= sizeof *h && (h->cmsg_len < sizeof *h || h->cmsg_len > left);
	if (left < sizeof *h || *bad)
		return NULL;
	*at += CMSG_ALIGN(h->cmsg_len);
	return h;
}

/* The option of a socket with this value: may the caller set it? */
static int judge(const struct sock *s, const struct cmsghdr *h)
{
	if (h->cmsg_len != CMSG_LEN(sizeof(uint32_t)))
		return -EINVAL;
	int fd = option_oracle(s->family, NULL);
	if (fd < 0)
		return -ENOMEM;
	int r = sys_setsockopt(fd, SOL_SOCKET, h->cmsg_type, CMSG_DATA(h), sizeof(uint32_t));
	sys_close(fd);
	return r;
}

static bool is_timestamping(const struct cmsghdr *h)
{
	return h->cmsg_level == SOL_SOCKET && (h->cmsg_type == SO_TIMESTAMPING_OLD || h->cmsg_type == SO_TIMESTAMPING_NEW);
}

/* SOF_TIMESTAMPING_TX_… of this message. */
static bool stamps_flags(const struct cmsghdr *h, uint32_t *flags)
{
	if (h->cmsg_len != CMSG_LEN(sizeof *flags))
		return false;
	memcpy(flags, CMSG_DATA(h), sizeof *flags);
	return !(*flags & ~STAMPS_OF_MESSAGE);
}

static int check_one(const struct sock *s, const struct cmsghdr *h)
{
	if (h->cmsg_level != SOL_SOCKET)
		return 0;
	if (is_timestamping(h))
		return stamps_flags(h, &(uint32_t){0}) ? 0 : -EINVAL;
	switch (h->cmsg_type) {
	case SO_MARK:
	case SO_PRIORITY:
		return judge(s, h);
	case SCM_RIGHTS:
	case SCM_CREDENTIALS:
	case SCM_PIDFD_NUMBER:
		return 0;
	default:
		return -EINVAL;
	}
}

int cmsg_check(const struct sock *s, const struct msghdr *msg)
{
	const struct cmsghdr *h;
	size_t at = 0;
	bool bad;
	while ((h = next(msg, &at, &bad))) {
		int r = check_one(s, h);
		if (r)
			return r;
	}
	return bad ? -EINVAL : 0;
}

bool cmsg_stamps(const struct msghdr *msg, uint32_t *flags)
{
	const struct cmsghdr *h;
	size_t at = 0;
	bool bad, any = false;
	while ((h = next(msg, &at, &bad)))
		if (is_timestamping(h) && stamps_flags(h, flags))
			any = true;
	return any;
}

bool sock_message_is_kernels(struct sock *s, const struct msghdr *msg)
{
	uint32_t flags;
	if (!cmsg_stamps(msg, &flags))
		return false;
	engine_lock(s->engine);
	bool kernels = !stamps_may_carry_message(s, flags);
	engine_unlock(s->engine);
	return kernels;
}

void cmsg_put(struct cmsg_out *out, int level, int type, const void *data, size_t len)
{
	struct cmsghdr h = {.cmsg_level = level, .cmsg_type = type, .cmsg_len = CMSG_LEN(len)};
	if (out->left < sizeof h) {
		out->truncated = true;
		return;
	}
	if (out->left < h.cmsg_len) {
		out->truncated = true;
		h.cmsg_len = out->left;
	}
	if (!user_may_write(out->at, h.cmsg_len))
		return; /* the call goes on without */
	memcpy(out->at, &h, sizeof h);
	memcpy(out->at + sizeof h, data, h.cmsg_len - sizeof h);
	size_t space = CMSG_SPACE(len) < out->left ? CMSG_SPACE(len) : out->left;
	out->at += space;
	out->left -= space;
	out->used += space;
}
