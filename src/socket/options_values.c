/*
 * Values that are noted for a socket, and the fresh kernel socket that judges a new one (options.h).
 *
 * A list is shared: a listener's by all sockets that were accepted from it. To note a value in a shared list copies it
 * first. Lists are short: they hold what differs from a fresh socket, of options whose value is not in the engine's own
 * state.
 */
#include "socket/engine.h"
#include "socket/options.h"
#include "socket/saved_syn.h"
#include "socket/fastopen.h"

#include "base/fd.h"
#include "base/sys.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

#ifndef MSG_PROBE
#define MSG_PROBE 0x10 /* include/linux/socket.h */
#endif
#define PRIORITY_FOR_ALL 6 /* TC_PRIO_INTERACTIVE */

static size_t values_size(unsigned n)
{
	return sizeof(struct option_values) + n * sizeof(struct option_value);
}

struct option_values *option_values_ref(struct option_values *values)
{
	if (values)
		values->refs++;
	return values;
}

void option_values_unref(struct engine *e, struct option_values *values)
{
	if (values && --values->refs == 0)
		engine_free(e, values, values_size(values->n));
}

static int number(const struct option_value *v)
{
	int n = 0;
	memcpy(&n, v->bytes, v->len < sizeof n ? v->len : sizeof n);
	return n;
}

static struct option_value *find(struct option_values *values, unsigned index)
{
	for (unsigned i = 0; values && i < values->n; i++)
		if (values->v[i].index == index)
			return &values->v[i];
	return NULL;
}

bool option_values_has(const struct option_values *values, unsigned index)
{
	return find((struct option_values *)values, index);
}

int option_values_number(const struct option_values *values, unsigned index)
{
	const struct option_value *v = find((struct option_values *)values, index);
	return v ? number(v) : 0;
}

int option_values_note(struct engine *e, struct option_values **values, const struct option_value *v)
{
	struct option_values *old = *values;
	struct option_value *there = find(old, v->index);
	if (there && old->refs == 1) {
		*there = *v;
		return 0;
	}
	unsigned had = old ? old->n : 0, n = had + !there;
	struct option_values *values_new = engine_alloc(e, values_size(n));
	if (!values_new)
		return -ENOMEM;
	values_new->refs = 1;
	values_new->n = n;
	if (had)
		memcpy(values_new->v, old->v, had * sizeof *v);
	*(there ? find(values_new, v->index) : &values_new->v[had]) = *v;
	option_values_unref(e, old);
	*values = values_new;
	return 0;
}

int option_oracle(int family, const struct option_values *values)
{
	int fd = fd_socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	if (fd >= 0)
		option_values_set(values, fd);
	return fd;
}

void option_values_set(const struct option_values *values, int fd)
{
	for (unsigned i = 0; values && i < values->n; i++) {
		const struct option_value *v = &values->v[i];
		const struct option *o = &option_table[v->index];
		sys_setsockopt(fd, o->level, o->number, v->bytes, v->len);
	}
}

/* Structures are given back whole: bytes that no value has stay zero. */
bool option_read(int fd, unsigned index, struct option_value *out)
{
	const struct option *o = &option_table[index];
	if (o->source == OPTION_UNREAD || o->type == OPTION_BULK)
		return false;
	*out = (struct option_value){.index = index};
	socklen_t len = o->type == OPTION_INT || o->type == OPTION_BYTE ? sizeof(int) : OPTION_VALUE_MAX;
	if (sys_getsockopt(fd, o->level, o->number, out->bytes, &len) < 0)
		return false;
	out->len = len;
	return true;
}

bool option_value_equal(const struct option_value *a, const struct option_value *b)
{
	return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

static bool is_our_interface(struct engine *e, int ifindex)
{
	return !ifindex || iface_find(e, ifindex);
}

static bool carry_device(struct engine *e, struct sock_ip *ip, int ifindex)
{
	ip->oif = ifindex;
	return is_our_interface(e, ifindex);
}

static bool carry_device_name(struct engine *e, struct sock_ip *ip, const struct option_value *v)
{
	char name[IF_NAMESIZE] = "";
	memcpy(name, v->bytes, v->len < sizeof name ? v->len : sizeof name - 1);
	int ifindex = name[0] ? (int)if_nametoindex(name) : 0;
	return (ifindex || !name[0]) && carry_device(e, ip, ifindex);
}

/* IP_PMTUDISC_PROBE and _INTERFACE ignore what routers say of the path; 5, _OMIT, allows fragments. */
static bool carry_mtu_discover(bool *fragment, int how)
{
	*fragment = how == IP_PMTUDISC_DONT;
	return how == IP_PMTUDISC_DONT || how == IP_PMTUDISC_WANT || how == IP_PMTUDISC_DO;
}

/* Linux's ip_tos2prio: best effort, bulk, interactive, interactive bulk. */
static uint8_t priority_of(uint8_t tos)
{
	static const uint8_t of[] = {0, 2, 6, 4};
	return of[tos >> 3 & 3];
}

/*
 * A UDP socket tells: sockets of all families judge such a message by one function of the kernel's. MSG_PROBE: nothing
 * is sent. Without a way to loopback the error is another one, which comes after the message was judged.
 */
static bool kernel_takes_priority(void)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SO_PRIORITY}};
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9 /* discard */), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct msghdr msg = {.msg_name = &to, .msg_namelen = sizeof to, .msg_control = &control, .msg_controllen = sizeof control};
	int fd = fd_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	int r = sys_sendmsg(fd, &msg, MSG_CONFIRM | MSG_PROBE | MSG_DONTWAIT);
	sys_close(fd);
	return r != -EINVAL;
}

static bool may_prioritize(void)
{
	static int known; /* 0: not yet. Whoever asks at the same time finds the same */
	int k = __atomic_load_n(&known, __ATOMIC_RELAXED);
	if (!k)
		__atomic_store_n(&known, k = kernel_takes_priority() ? 1 : -1, __ATOMIC_RELAXED);
	return k > 0;
}

uint8_t options_frame_priority(const struct sock *s)
{
	return s->ip.priority && s->ip.priority <= PRIORITY_FOR_ALL && may_prioritize() ? s->ip.priority : 0;
}

/* More than that needs privilege, which the process may drop before its next frame. */
static bool carry_priority(struct sock_ip *ip, int n)
{
	if (n < 0 || n > PRIORITY_FOR_ALL || (n && !may_prioritize()))
		return false;
	ip->priority = n;
	return true;
}

bool option_carry(struct engine *e, struct sock_ip *ip, const struct option_value *v)
{
	int n = number(v);
	switch (v->index) {
	case OPTION_SO_BINDTODEVICE:
		return carry_device_name(e, ip, v);
	case OPTION_SO_BINDTOIFINDEX:
		return carry_device(e, ip, n);
	case OPTION_IP_UNICAST_IF:
	case OPTION_IPV6_UNICAST_IF:
		return is_our_interface(e, ntohl(n));
	case OPTION_SO_PRIORITY:
		return carry_priority(ip, n);
	case OPTION_IP_TOS:
		ip->tos[0] = n;
		ip->priority = priority_of(n);
		return true;
	case OPTION_IPV6_TCLASS:
		ip->tos[1] = n;
		return true;
	case OPTION_IP_TTL:
		ip->ttl[0] = n;
		return true;
	case OPTION_IPV6_UNICAST_HOPS:
		ip->ttl[1] = n;
		return true;
	case OPTION_IP_MINTTL:
		ip->min_ttl[0] = n;
		return true;
	case OPTION_IPV6_MINHOPCOUNT:
		ip->min_ttl[1] = n;
		return true;
	case OPTION_IP_RECVERR:
		ip->recverr[0] = n;
		return true;
	case OPTION_IPV6_RECVERR:
		ip->recverr[1] = n;
		return true;
	case OPTION_IP_MTU_DISCOVER:
		return carry_mtu_discover(&ip->may_fragment, n);
	case OPTION_IPV6_MTU_DISCOVER:
		return carry_mtu_discover(&(bool){false}, n);
	case OPTION_TCP_SAVE_SYN:
		return saved_syn_may_carry(e, n);
	case OPTION_TCP_FASTOPEN:
		return fastopen_may_serve(e);
	default:
		return option_table[v->index].class != OPTION_KERNELS;
	}
}
