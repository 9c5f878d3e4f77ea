/*
 * The classifier's second backend: an nftables chain at the interface's netdev ingress, where bpf(2) is refused (user
 * namespaces) or tcx is missing (Linux before 6.6).
 *
 * The chain drops what is ours after the packet socket has seen it. It has no maps of ours to share with the socket's
 * filter, so that one (classifier_nft_filter.c) lets all TCP to this host through, and the engine ignores what is not
 * of its listeners and connections: classifier_is_exact says no.
 *
 * Owns a netlink socket and, through it, the table "finesse-PID-N" (flags owner): the kernel removes the table when the
 * socket is closed, however the process ends. In it a chain for each interface, and a set per family of listening
 * (address, port), of 4-tuples that are ours and of 4-tuples that are the kernel's. A wildcard listener is an element
 * for each address of the interfaces.
 *
 * Invariants: each change is one transaction. What is added for the engine is there before the engine answers; what is
 * taken away is the kernel's from then on. A fork child closes its copy of the socket (classifier_close, which sends
 * nothing), or the table would outlive us.
 *
 * Limits: one transaction, some tens of microseconds, for each connection that needs an entry of its own (client
 * connections, exceptions); the sets grow as needed. First fragments of what is ours are dropped, too; later ones go up
 * and die in the kernel's reassembly.
 */
#include "kernel/classifier_backend.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/list.h"
#include "base/sys.h"
#include "kernel/classifier_nft_filter.h"
#include "kernel/netlink.h"
#include "kernel/nft_batch.h"

#define PRIORITY (-500) /* before other chains of the hook: what they see is not ours */
#define REG(n)   (NFT_REG32_00 + (n))

/* nft's numbers of types (enum datatypes of its sources); a concatenation has the first part highest. */
#define NFT_TYPE_BITS	      6
#define NFT_TYPE_IPADDR	      7u
#define NFT_TYPE_IP6ADDR      8u
#define NFT_TYPE_INET_SERVICE 13u

/* The sets, by family. Ids are within the transaction that makes them. */
enum nft_set { NFT_LISTEN, NFT_FLOWS, NFT_EXCEPTIONS, NFT_SETS };
static const char *const names[2][NFT_SETS] = {
	{[NFT_LISTEN] = "listen4", [NFT_FLOWS] = "flows4", [NFT_EXCEPTIONS] = "exceptions4"},
	{[NFT_LISTEN] = "listen6", [NFT_FLOWS] = "flows6", [NFT_EXCEPTIONS] = "exceptions6"},
};

static uint32_t set_id(bool v6, enum nft_set set)
{
	return 1 + (v6 ? NFT_SETS : 0) + set;
}

struct nft_chain {
	int ifindex; /* 0: free */
	char name[24];
};

struct nft {
	struct classifier base;
	int fd;
	struct nft_chain chains[CLASSIFIER_INTERFACES_MAX];
	char table[40];
	struct nft_batch batch;
};

static struct nft *nft_of(struct classifier *c)
{
	return container_of(c, struct nft, base);
}

/* ---- keys: concatenated fields, each padded to a register's four bytes ---- */

struct nft_key {
	uint8_t bytes[40];
	size_t len;
};

static void key_put(struct nft_key *k, const void *field, size_t len)
{
	memcpy(k->bytes + k->len, field, len);
	k->len += (len + 3) & ~(size_t)3;
}

static void key_put_addr(struct nft_key *k, const struct ip_addr *a)
{
	if (ip_addr_is_v4(a))
		key_put(k, a->b + 12, 4);
	else
		key_put(k, a->b, 16);
}

static void key_put_port(struct nft_key *k, uint16_t port)
{
	uint16_t be = htons(port);
	key_put(k, &be, sizeof be);
}

static struct nft_key listen_key(const struct ip_addr *addr, uint16_t port)
{
	struct nft_key k = {.len = 0};
	key_put_addr(&k, addr);
	key_put_port(&k, port);
	return k;
}

static struct nft_key flow_key_of(const struct flow_key *key)
{
	struct nft_key k = {.len = 0};
	key_put_addr(&k, &key->raddr);
	key_put_port(&k, key->rport);
	key_put_addr(&k, &key->laddr);
	key_put_port(&k, key->lport);
	return k;
}

/* ---- the chain ---- */

/*
 * Untagged, of this family, TCP. The ethertype is read from the link header: there a tag that the device took off
 * shows. The packet's protocol says the same of what is untagged; it is asked for, too, so that nft knows what is
 * printed: else it takes the rest for raw bytes, and refuses its own text.
 */
static void match_tcp(struct nlmsghdr *rule, bool v6, bool has_eth)
{
	uint16_t ethertype = htons(v6 ? ETH_P_IPV6 : ETH_P_IP);
	uint8_t tcp = IPPROTO_TCP;
	if (has_eth) {
		nft_expr_payload(rule, NFT_PAYLOAD_LL_HEADER, offsetof(struct ethhdr, h_proto), 2, REG(0));
		nft_expr_cmp(rule, REG(0), NFT_CMP_EQ, &ethertype, sizeof ethertype);
	}
	nft_expr_meta(rule, NFT_META_PROTOCOL, REG(0));
	nft_expr_cmp(rule, REG(0), NFT_CMP_EQ, &ethertype, sizeof ethertype);
	nft_expr_meta(rule, NFT_META_L4PROTO, REG(0));
	nft_expr_cmp(rule, REG(0), NFT_CMP_EQ, &tcp, sizeof tcp);
}

static void add_rule(struct nft *c, const char *chain, bool v6, bool has_eth, enum nft_set set, int32_t verdict)
{
	uint32_t addr_len = v6 ? 16 : 4, saddr = v6 ? 8 : 12, daddr = v6 ? 24 : 16, reg = 0;
	struct nlmsghdr *rule = nft_rule_begin(&c->batch, chain);
	match_tcp(rule, v6, has_eth);
	if (set != NFT_LISTEN) {
		nft_expr_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, saddr, addr_len, REG(reg));
		reg += addr_len / 4;
		nft_expr_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, REG(reg++));
	}
	nft_expr_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, daddr, addr_len, REG(reg));
	reg += addr_len / 4;
	nft_expr_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, REG(reg));
	nft_expr_lookup(rule, names[v6][set], set_id(v6, set), REG(0));
	nft_expr_verdict(rule, verdict);
	nft_rule_end(&c->batch, rule);
}

static void add_not_for_us(struct nft *c, const char *chain)
{
	uint8_t host = PACKET_HOST;
	struct nlmsghdr *rule = nft_rule_begin(&c->batch, chain);
	nft_expr_meta(rule, NFT_META_PKTTYPE, REG(0));
	nft_expr_cmp(rule, REG(0), NFT_CMP_NEQ, &host, sizeof host);
	nft_expr_verdict(rule, NF_ACCEPT);
	nft_rule_end(&c->batch, rule);
}

/* The types are for who lists the rules (nft): what it prints can be read, and loaded again. */
static void add_sets(struct nft *c)
{
	for (int v6 = 0; v6 < 2; v6++) {
		uint32_t len = (v6 ? 16 : 4) + 4, type = (v6 ? NFT_TYPE_IP6ADDR : NFT_TYPE_IPADDR) << NFT_TYPE_BITS | NFT_TYPE_INET_SERVICE;
		uint32_t flow_type = type << 2 * NFT_TYPE_BITS | type;
		nft_add_set(&c->batch, names[v6][NFT_LISTEN], set_id(v6, NFT_LISTEN), type, len);
		nft_add_set(&c->batch, names[v6][NFT_FLOWS], set_id(v6, NFT_FLOWS), flow_type, 2 * len);
		nft_add_set(&c->batch, names[v6][NFT_EXCEPTIONS], set_id(v6, NFT_EXCEPTIONS), flow_type, 2 * len);
	}
}

static void add_chain(struct nft *c, const char *chain, const char *device, bool has_eth)
{
	nft_add_ingress_chain(&c->batch, chain, device, PRIORITY);
	add_not_for_us(c, chain);
	for (int v6 = 0; v6 < 2; v6++) {
		add_rule(c, chain, v6, has_eth, NFT_EXCEPTIONS, NF_ACCEPT);
		add_rule(c, chain, v6, has_eth, NFT_FLOWS, NF_DROP);
		add_rule(c, chain, v6, has_eth, NFT_LISTEN, NF_DROP);
	}
}

/* ---- opening ---- */

static void nft_close(struct classifier *base)
{
	struct nft *c = nft_of(base);
	fd_close(c->fd);
	free(c);
}

/* The kernel asks for CAP_NET_ADMIN at each change; but a table goes with its owner's socket. */
static void nft_let_go(struct classifier *base)
{
	struct nft *c = nft_of(base);
	fd_close(c->fd);
	c->fd = -1;
}

static void explain(int err, char *why, size_t why_len)
{
	if (err == -EPERM || err == -EACCES)
		snprintf(why, why_len, "classifier: nftables is refused: needs CAP_NET_ADMIN in the network namespace");
	else if (err == -EPROTONOSUPPORT || err == -EOPNOTSUPP || err == -ENOENT)
		snprintf(why, why_len, "classifier: this kernel has no nftables with netdev ingress (error %d)", -err);
	else
		snprintf(why, why_len, "classifier: nftables failed with error %d", -err);
}

static struct nft_chain *chain_of(struct nft *c, int ifindex)
{
	for (int i = 0; i < CLASSIFIER_INTERFACES_MAX; i++)
		if (c->chains[i].ifindex == ifindex)
			return &c->chains[i];
	return NULL;
}

/* `first`: the table is made in the same transaction. */
static int attach(struct nft *c, bool first, int ifindex, int packet_fd, bool has_eth)
{
	char device[IF_NAMESIZE];
	struct nft_chain *chain = chain_of(c, 0);
	if (!chain)
		return -E2BIG;
	if (!if_indextoname(ifindex, device))
		return -ENODEV;
	snprintf(chain->name, sizeof chain->name, "ingress-%d", ifindex);
	nft_batch_begin(&c->batch, c->table);
	if (first) {
		nft_add_table(&c->batch);
		add_sets(c);
	}
	add_chain(c, chain->name, device, has_eth);
	int err = nft_batch_commit(&c->batch, c->fd);
	if (err < 0)
		return err;
	chain->ifindex = ifindex;
	return classifier_nft_filter(packet_fd, has_eth);
}

static void nft_detach(struct classifier *base, int ifindex)
{
	struct nft *c = nft_of(base);
	struct nft_chain *chain = chain_of(c, ifindex);
	if (!chain)
		return;
	chain->ifindex = 0;
	nft_batch_begin(&c->batch, c->table);
	nft_del_chain(&c->batch, chain->name);
	nft_batch_commit(&c->batch, c->fd); /* -ENOENT: it went with its interface */
}

static int nft_attach(struct classifier *base, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len)
{
	nft_detach(base, ifindex); /* the chain of one that is back under the same index went with it */
	int err = attach(nft_of(base), false, ifindex, packet_fd, has_eth);
	if (err < 0) {
		nft_detach(base, ifindex);
		explain(err, why, why_len);
	}
	return err;
}

int classifier_nft_open(struct classifier **out, int ifindex, int packet_fd, bool has_eth, char *why, size_t why_len)
{
	struct nft *c = calloc(1, sizeof *c);
	if (!c)
		return -ENOMEM;
	c->base.ops = &classifier_nft_ops;
	static unsigned tables;
	snprintf(c->table, sizeof c->table, "finesse-%d-%u", (int)getpid(), tables++);
	c->fd = fd_move_high(netlink_open(NETLINK_NETFILTER));
	int err = c->fd < 0 ? c->fd : attach(c, true, ifindex, packet_fd, has_eth);
	if (err < 0) {
		explain(err, why, why_len);
		nft_close(&c->base);
		return err;
	}
	*out = &c->base;
	return 0;
}

/* ---- changes ---- */

/* Adds or takes away one element in a transaction that grows; a full one is committed first. */
static int change(struct nft *c, bool add, bool v6, enum nft_set set, const struct nft_key *k)
{
	if (!nft_batch_has_room(&c->batch)) {
		int err = nft_batch_commit(&c->batch, c->fd);
		nft_batch_begin(&c->batch, c->table);
		if (err < 0)
			return err;
	}
	if (add)
		nft_add_element(&c->batch, names[v6][set], k->bytes, k->len);
	else
		nft_del_element(&c->batch, names[v6][set], k->bytes, k->len);
	return 0;
}

static int change_one(struct nft *c, bool add, bool v6, enum nft_set set, const struct nft_key *k)
{
	nft_batch_begin(&c->batch, c->table);
	int err = change(c, add, v6, set, k);
	return err < 0 ? err : nft_batch_commit(&c->batch, c->fd);
}

static bool is_claimed(const struct classifier *c, const struct ip_addr *addr, uint16_t port)
{
	for (size_t i = 0; i < c->n_listeners; i++)
		if (c->listeners[i].port == port && classifier_claims(&c->listeners[i].addr, addr))
			return true;
	return false;
}

/* One listener came or went: its addresses' elements. An address that another listener claims as well keeps its own. */
static int change_listener(struct classifier *base, bool add, const struct ip_addr *of, uint16_t port)
{
	struct nft *c = nft_of(base);
	unsigned n = 0;
	nft_batch_begin(&c->batch, c->table);
	for (size_t i = 0; i < base->n_addrs; i++) {
		const struct ip_addr *addr = &base->addrs[i];
		if (!classifier_claims(of, addr) || (!add && is_claimed(base, addr, port)))
			continue;
		struct nft_key k = listen_key(addr, port);
		int err = change(c, add, !ip_addr_is_v4(addr), NFT_LISTEN, &k);
		if (err < 0)
			return err;
		n++;
	}
	return n ? nft_batch_commit(&c->batch, c->fd) : 0;
}

static int nft_add_listener(struct classifier *base, const struct ip_addr *addr, uint16_t port)
{
	return change_listener(base, true, addr, port);
}

static int nft_del_listener(struct classifier *base, const struct ip_addr *addr, uint16_t port)
{
	return change_listener(base, false, addr, port);
}

/* One address came or went: an element for each port that is claimed there, once. */
static int change_address(struct nft *c, bool add, const struct ip_addr *addr, unsigned *n)
{
	const struct classifier *base = &c->base;
	for (size_t i = 0; i < base->n_listeners; i++) {
		uint16_t port = base->listeners[i].port;
		bool seen = !classifier_claims(&base->listeners[i].addr, addr);
		for (size_t k = 0; k < i && !seen; k++)
			seen = base->listeners[k].port == port && classifier_claims(&base->listeners[k].addr, addr);
		if (seen)
			continue;
		struct nft_key k = listen_key(addr, port);
		int err = change(c, add, !ip_addr_is_v4(addr), NFT_LISTEN, &k);
		if (err < 0)
			return err;
		++*n;
	}
	return 0;
}

static int nft_set_addresses(struct classifier *base, const struct ip_addr *addrs, size_t n_addrs)
{
	struct nft *c = nft_of(base);
	unsigned n = 0;
	int err = 0;
	nft_batch_begin(&c->batch, c->table);
	for (size_t i = 0; i < n_addrs && !err; i++)
		if (!classifier_has_address(base->addrs, base->n_addrs, &addrs[i]))
			err = change_address(c, true, &addrs[i], &n);
	for (size_t i = 0; i < base->n_addrs && !err; i++)
		if (!classifier_has_address(addrs, n_addrs, &base->addrs[i]))
			err = change_address(c, false, &base->addrs[i], &n);
	return err || !n ? err : nft_batch_commit(&c->batch, c->fd);
}

static int change_flow(struct classifier *base, bool add, enum classifier_set set, const struct flow_key *key)
{
	struct nft_key k = flow_key_of(key);
	return change_one(nft_of(base), add, !ip_addr_is_v4(&key->laddr), set == SET_FLOWS ? NFT_FLOWS : NFT_EXCEPTIONS, &k);
}

static int nft_add_flow(struct classifier *base, enum classifier_set set, const struct flow_key *key)
{
	return change_flow(base, true, set, key);
}

static int nft_del_flow(struct classifier *base, enum classifier_set set, const struct flow_key *key)
{
	return change_flow(base, false, set, key);
}

const struct classifier_ops classifier_nft_ops = {
	.name = "nftables",
	.is_exact = false,
	.attach = nft_attach,
	.detach = nft_detach,
	.close = nft_close,
	.set_addresses = nft_set_addresses,
	.add_listener = nft_add_listener,
	.del_listener = nft_del_listener,
	.add_flow = nft_add_flow,
	.del_flow = nft_del_flow,
	.let_go = nft_let_go,
};
