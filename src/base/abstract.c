#include "base/abstract.h"

#include <assert.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "base/sys.h"

socklen_t abstract_name(struct sockaddr_un *out, const char *fmt, ...)
{
	va_list ap;
	*out = (struct sockaddr_un){.sun_family = AF_UNIX}; /* the path begins with a zero byte */
	va_start(ap, fmt);
	int n = vsnprintf(out->sun_path + 1, sizeof out->sun_path - 1, fmt, ap);
	va_end(ap);
	assert(n > 0 && (size_t)n < sizeof out->sun_path - 1);
	return offsetof(struct sockaddr_un, sun_path) + 1 + n;
}

/* By the system call: somebody may have put another geteuid before libc's. */
bool abstract_peer_is_trusted(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof peer;
	if (sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return false;
	return peer.uid == 0 || peer.uid == (uid_t)sys_call(SYS_geteuid, 0, 0, 0, 0, 0, 0);
}
