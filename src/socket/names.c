/* struct sockaddr ↔ struct ip_addr, in the family that the application's socket has. */
#include "socket/engine.h"

#include "base/sys.h"
#include "base/user.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

int name_to_addr(const struct sockaddr *sa, socklen_t len, struct ip_addr *addr, uint16_t *port)
{
	if (len < sizeof sa->sa_family)
		return -EINVAL;
	if (!user_may_read(sa, len < sizeof(struct sockaddr_storage) ? len : sizeof(struct sockaddr_storage)))
		return -EFAULT;
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)sa;
		if (len < sizeof *in)
			return -EINVAL;
		*addr = ip_addr_from_v4(&in->sin_addr);
		*port = ntohs(in->sin_port);
		return 0;
	}
	if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)sa;
		if (len < 24) /* SIN6_LEN_RFC2133: without the scope, as Linux accepts it */
			return -EINVAL;
		*addr = ip_addr_from_v6(&in6->sin6_addr);
		*port = ntohs(in6->sin6_port);
		return 0;
	}
	return -EAFNOSUPPORT;
}

bool name_is_link_local(const struct ip_addr *a)
{
	return a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

void name_from_addr(const struct engine *e, int family, const struct ip_addr *addr, uint16_t port, struct sockaddr *out, socklen_t *len)
{
	struct sockaddr_storage ss = {.ss_family = family};
	socklen_t full;
	if (family == AF_INET) {
		struct sockaddr_in *in = (void *)&ss;
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, addr->b + 12, 4);
		full = sizeof *in;
	} else {
		struct sockaddr_in6 *in6 = (void *)&ss;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, addr->b, 16);
		if (name_is_link_local(addr))
			in6->sin6_scope_id = iface_scope(e, addr);
		full = sizeof *in6;
	}
	if (out && len) {
		memcpy(out, &ss, *len < full ? *len : full);
		*len = full;
	}
}

int name_of_kernel(int kfd, struct ip_addr *addr, uint16_t *port, int *family)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	int err = sys_getsockname(kfd, &ss, &len);
	if (err)
		return err;
	*family = ss.ss_family;
	return name_to_addr((struct sockaddr *)&ss, len, addr, port);
}

int kernel_int(int kfd, int level, int name)
{
	int v = 0;
	socklen_t len = sizeof v;
	return sys_getsockopt(kfd, level, name, &v, &len) ? 0 : v;
}

bool kernel_v6only(int kfd, int family)
{
	return family == AF_INET6 && kernel_int(kfd, IPPROTO_IPV6, IPV6_V6ONLY);
}
