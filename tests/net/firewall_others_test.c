/*
 * firewall_check against what is not nftables': legacy tables by the same socket options that iptables uses, programs on
 * a cgroup of the test's own and at netfilter's hooks, IPVS, IPsec policies, and what cannot be told. Everything in a
 * network namespace of its own.
 */
#include "firewall_lab.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "kernel/bpf_asm.h"
#include "kernel/bpf_sys.h"
#include "kernel/firewall_internal.h"
#include "tests/suite.h"
#include "tests/untested.h"

/* ---- legacy iptables ---- */

/* The filter table as iptables would read it; asking creates it in this namespace. NULL: this kernel has none. */
static struct ipt_get_entries *filter_table(int fd, struct ipt_getinfo *info)
{
	socklen_t len = sizeof *info;
	memset(info, 0, sizeof *info);
	strcpy(info->name, "filter");
	if (getsockopt(fd, IPPROTO_IP, IPT_SO_GET_INFO, info, &len) < 0)
		return NULL;
	struct ipt_get_entries *e = calloc(1, sizeof *e + info->size);
	strcpy(e->name, "filter");
	e->size = info->size;
	len = sizeof *e + info->size;
	ck_assert_int_eq(getsockopt(fd, IPPROTO_IP, IPT_SO_GET_ENTRIES, e, &len), 0);
	return e;
}

/* Puts the table back with the hook's policy, or, if proto >= 0, with one rule for it before the policy. */
static void replace_filter(int fd, int hook, int verdict, int proto)
{
	struct ipt_getinfo info;
	struct ipt_get_entries *e = filter_table(fd, &info);
	uint32_t policy = info.underflow[hook], extra = 0;
	const struct ipt_entry *p = (const void *)((char *)e->entrytable + policy);
	uint32_t size = p->next_offset, new_size = info.size + (proto >= 0 ? size : 0);
	struct ipt_replace *r = calloc(1, sizeof *r + new_size);
	char *entries = (char *)r->entries;

	memcpy(entries, e->entrytable, policy);
	if (proto >= 0) {
		memcpy(entries + policy, p, size);
		((struct ipt_entry *)(entries + policy))->ip.proto = proto;
		extra = size;
	}
	memcpy(entries + policy + extra, p, info.size - policy);
	struct ipt_entry *judge = (struct ipt_entry *)(entries + policy); /* the rule, or else the policy */
	((struct xt_standard_target *)((char *)judge + judge->target_offset))->verdict = verdict;
	strcpy(r->name, "filter");
	r->valid_hooks = info.valid_hooks;
	r->num_entries = info.num_entries + (proto >= 0);
	r->size = new_size;
	for (int h = 0; h < NF_INET_NUMHOOKS; h++) {
		r->hook_entry[h] = info.hook_entry[h] + (info.hook_entry[h] > policy ? extra : 0);
		r->underflow[h] = info.underflow[h] + (info.underflow[h] >= policy ? extra : 0);
	}
	r->num_counters = info.num_entries;
	r->counters = calloc(info.num_entries, sizeof *r->counters);
	ck_assert_msg(setsockopt(fd, IPPROTO_IP, IPT_SO_SET_REPLACE, r, sizeof *r + new_size) == 0,
		      "replace: %s", strerror(errno));
	free(r->counters);
	free(r);
	free(e);
}

static void names(char *out, size_t len)
{
	int fd = open("/proc/net/ip_tables_names", O_RDONLY);
	ssize_t n = read(fd, out, len - 1);
	out[n > 0 ? n : 0] = '\0';
	close(fd);
}

#define ACCEPT (-NF_ACCEPT - 1)
#define DROP   (-NF_DROP - 1)

START_TEST(legacy_iptables)
{
	static const struct {
		int hook, verdict, proto, expected;
	} rows[] = {
		{NF_INET_LOCAL_IN, ACCEPT, -1, 0},   {NF_INET_LOCAL_IN, DROP, -1, 1},
		{NF_INET_LOCAL_OUT, DROP, -1, 1},    {NF_INET_FORWARD, DROP, -1, 0},
		{NF_INET_LOCAL_IN, DROP, 0, 1},      {NF_INET_LOCAL_IN, DROP, IPPROTO_TCP, 1},
		{NF_INET_LOCAL_IN, DROP, IPPROTO_UDP, 0}, {NF_INET_LOCAL_OUT, DROP, 0, 1},
		{NF_INET_FORWARD, DROP, 0, 0},       {NF_INET_LOCAL_IN, ACCEPT, IPPROTO_TCP, 0},
	};
	struct ipt_getinfo info;
	char text[256];
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);

	if (access("/proc/net/ip_tables_names", R_OK) < 0)
		return untested("a kernel with legacy iptables");
	ck_assert_int_eq(check("a"), 0);
	names(text, sizeof text);
	ck_assert_str_eq(text, ""); /* asking has not created a table */
	struct ipt_get_entries *e = filter_table(fd, &info);
	if (!e)
		return untested("the kernel's legacy filter table");
	free(e);
	ck_assert_int_eq(check("a"), 0); /* there, and empty */
	replace_filter(fd, rows[_i].hook, rows[_i].verdict, rows[_i].proto);
	int ret = check("a");
	ck_assert_msg(ret == rows[_i].expected, "row %d: %d (%s)", _i, ret, why);
	if (ret)
		ck_assert_msg(strstr(why, "iptables chain ip filter"), "%s", why);
	close(fd);
}
END_TEST
#define LEGACY_ROWS 10

/* ip6tables' structs differ: an empty table, then DROP as INPUT's policy. */
START_TEST(legacy_ip6tables)
{
	struct ip6t_getinfo info = {.name = "filter"};
	socklen_t len = sizeof info;
	int fd = socket(AF_INET6, SOCK_RAW, IPPROTO_RAW);

	if (getsockopt(fd, IPPROTO_IPV6, IP6T_SO_GET_INFO, &info, &len) < 0)
		return untested("a kernel with legacy ip6tables");
	ck_assert_int_eq(check("a"), 0);
	struct ip6t_get_entries *e = calloc(1, sizeof *e + info.size);
	strcpy(e->name, "filter");
	e->size = info.size;
	len = sizeof *e + info.size;
	ck_assert_int_eq(getsockopt(fd, IPPROTO_IPV6, IP6T_SO_GET_ENTRIES, e, &len), 0);
	struct ip6t_replace *r = calloc(1, sizeof *r + info.size);
	strcpy(r->name, "filter");
	r->valid_hooks = info.valid_hooks;
	r->num_entries = r->num_counters = info.num_entries;
	r->size = info.size;
	memcpy(r->hook_entry, info.hook_entry, sizeof r->hook_entry);
	memcpy(r->underflow, info.underflow, sizeof r->underflow);
	memcpy(r->entries, e->entrytable, info.size);
	r->counters = calloc(info.num_entries, sizeof *r->counters);
	struct ip6t_entry *policy = (void *)((char *)r->entries + info.underflow[NF_INET_LOCAL_IN]);
	((struct xt_standard_target *)((char *)policy + policy->target_offset))->verdict = DROP;
	ck_assert_int_eq(setsockopt(fd, IPPROTO_IPV6, IP6T_SO_SET_REPLACE, r, sizeof *r + info.size), 0);
	ck_assert_int_eq(check("a"), 1);
	ck_assert_msg(strstr(why, "ip6tables chain ip6 filter INPUT"), "%s", why);
	free(r->counters);
	free(r);
	free(e);
	close(fd);
}
END_TEST

/* ---- cgroup programs ---- */

/* A private cgroup2 mount with a new cgroup in it, which the calling process enters. -1: not to be had. */
static int enter_cgroup(const char *name)
{
	int fs = syscall(SYS_fsopen, "cgroup2", 0);
	if (fs < 0 || syscall(SYS_fsconfig, fs, 6 /* create */, NULL, NULL, 0) < 0)
		return -1;
	int root = syscall(SYS_fsmount, fs, 0, 0);
	if (root < 0 || mkdirat(root, name, 0755) < 0)
		return -1;
	int group = openat(root, name, O_RDONLY | O_DIRECTORY);
	int procs = openat(group, "cgroup.procs", O_WRONLY);
	ck_assert_int_eq(write(procs, "0", 1), 1);
	close(procs);
	return group;
}

/* Attaches "allow everything" to the cgroup; the attachment goes with the returned fd. */
static int attach_to_cgroup(int group, enum bpf_prog_type type, enum bpf_attach_type where)
{
	struct bpf_asm a;
	union bpf_attr attr;
	bpf_asm_init(&a);
	bpf_asm_mov_imm(&a, R0, 1);
	bpf_asm_exit(&a);
	memset(&attr, 0, sizeof attr);
	attr.prog_type = type;
	attr.insns = (uintptr_t)a.insns;
	attr.insn_cnt = bpf_asm_finish(&a);
	attr.license = (uintptr_t) "BSD";
	attr.expected_attach_type = where;
	int prog = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
	ck_assert_int_ge(prog, 0);
	memset(&attr, 0, sizeof attr);
	attr.link_create.prog_fd = prog;
	attr.link_create.target_fd = group;
	attr.link_create.attach_type = where;
	int link = syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof attr);
	ck_assert_msg(link >= 0, "%s", strerror(errno));
	close(prog);
	return link;
}

/* In a child, so that the cgroup is empty again when the test removes it. */
static int cgroup_child(const char *name)
{
	static const struct {
		enum bpf_prog_type type;
		enum bpf_attach_type where;
		const char *named;
	} kinds[] = {
		{BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_INGRESS, "ingress"},
		{BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_EGRESS, "egress"},
		{BPF_PROG_TYPE_CGROUP_SOCK, BPF_CGROUP_INET_SOCK_CREATE, NULL}, /* the kernel's own socket passed it */
		{BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, "connect4"},
		{BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_BIND, NULL},
	};
	int group = enter_cgroup(name);
	if (group < 0)
		return 77;
	if (check("a") != 0)
		return 1;
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		int link = attach_to_cgroup(group, kinds[i].type, kinds[i].where);
		int ret = check("a");
		if (ret != (kinds[i].named != NULL) || (ret && (!strstr(why, kinds[i].named) || !strstr(why, "cgroup"))))
			return 2 + i;
		close(link);
		if (check("a") != 0)
			return 20 + i;
	}
	return 0;
}

START_TEST(cgroup_programs)
{
	char name[64];
	int status;

	snprintf(name, sizeof name, "finesse-firewall-test-%d", (int)getpid());
	pid_t pid = fork();
	if (pid == 0)
		_exit(cgroup_child(name));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	int fs = syscall(SYS_fsopen, "cgroup2", 0);
	if (fs >= 0 && syscall(SYS_fsconfig, fs, 6, NULL, NULL, 0) >= 0) {
		int root = syscall(SYS_fsmount, fs, 0, 0);
		if (root >= 0)
			unlinkat(root, name, AT_REMOVEDIR);
	}
	ck_assert(WIFEXITED(status));
	ck_assert_msg(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77, "step %d (%s)",
		      WEXITSTATUS(status), why);
}
END_TEST

/* ---- IPsec policies ---- */

#define NOBODY "0.0.0.0", 0
struct xfrm_row {
	const char *policy;   /* of ip xfrm policy add */
	const char *raddr;    /* the flow: our end is 10.77.0.1:80, or fd77::1 */
	uint16_t rport;       /* 0, with no address: a listener, whoever comes */
	bool server, client;  /* what follows a SYN is the kernel's; what we open */
};

static const struct xfrm_row xfrm_rows[] = {
	{"dir in action block", "10.77.0.2", 4000, true, true},
	{"dir out action block", "10.77.0.2", 4000, true, true},
	{"dir fwd action block", "10.77.0.2", 4000, false, false},
	{"dir in action allow", "10.77.0.2", 4000, false, false},
	{"dir out action allow tmpl proto esp mode transport", "10.77.0.2", 4000, true, true},
	{"dir in action block", NOBODY, true, true}, /* no peer escapes */
	{"src 10.77.0.0/24 dir in action block", NOBODY, false, false}, /* some do */
	{"src 10.77.0.0/24 dir in action block", "10.77.0.255", 4000, true, true},
	{"src 10.77.0.0/24 dir in action block", "10.77.1.0", 4000, false, false},
	{"src 10.77.0.0/23 dir in action block", "10.77.1.0", 4000, true, true},
	{"dst 10.77.0.2/32 dir out action block", "10.77.0.2", 4000, true, true},
	{"dst 10.77.0.2/32 dir in action block", "10.77.0.2", 4000, false, false}, /* what comes goes to us */
	{"proto tcp dport 80 dir in action block", NOBODY, true, true},
	{"proto tcp dport 81 dir in action block", NOBODY, false, false},
	{"proto tcp sport 80 dir out action block", NOBODY, true, true},
	{"proto tcp dport 4000 dir out action block", "10.77.0.2", 4000, true, true},
	{"proto tcp dport 4000 dir out action block", "10.77.0.2", 4001, false, false},
	{"proto udp dir in action block", "10.77.0.2", 4000, false, false},
	{"dev a dir in action block", "10.77.0.2", 4000, true, true},
	{"dev lo dir in action block", "10.77.0.2", 4000, true, true}, /* of what is delivered here, by whichever interface it came */
	{"dir in action block mark 5", "10.77.0.2", 4000, false, false},
	{"dir in action block if_id 5", "10.77.0.2", 4000, false, false},
	{"src fd77::/64 dir in action block", "10.77.0.2", 4000, false, false},
	{"src fd77::/64 dir in action block", "fd77::2", 4000, true, true},
	{"src fd77::/66 dir in action block", "fd77::4000:0:0:2", 4000, false, false},
};

/* ---- what else is at netfilter's hooks ---- */

static int load_for_hook(void)
{
	struct bpf_asm a;
	bpf_asm_init(&a);
	bpf_asm_mov_imm(&a, R0, 1); /* NF_ACCEPT */
	bpf_asm_exit(&a);
	return bpf_prog_load_netfilter("passes", a.insns, bpf_asm_finish(&a));
}

static int attach_to_hook(const struct bpf_hook *at)
{
	int prog = load_for_hook();
	int link = prog < 0 ? prog : bpf_link_netfilter(prog, at);
	if (prog >= 0)
		close(prog);
	return link;
}

/* Of this namespace's hooks, where packets of ours pass. Others on this host may run this test, too. */
START_TEST(netfilter_programs)
{
	struct firewall_look look = FIREWALL_LOOK_NONE;
	const struct bpf_hook in = {.pf = 2, .hooknum = 1, .priority = -7654}, forward = {.pf = 2, .hooknum = 2, .priority = -7655};
	int before = firewall_untold_now(&look);
	int link = attach_to_hook(&forward);
	if (link == -EPERM || link == -EINVAL) /* before Linux 6.4, or no right to */
		return;
	ck_assert_int_ge(link, 0);
	ck_assert_int_eq(check("a"), 0);
	close(link);
	for (int again = 0; again < 2; again++) {
		ck_assert_int_ge(link = attach_to_hook(&in), 0);
		ck_assert_int_eq(check("a"), 1);
		ck_assert_msg(strstr(why, "hook of netfilter"), "%s", why);
		ck_assert_int_ne(firewall_untold_now(&look), before);
		ck_assert_int_ne(firewall_untold_now(&look), before);
		pid_t child = fork();
		if (child == 0)
			_exit(unshare(CLONE_NEWNET) ? 2 : check("lo") == 1);
		int status;
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "in another namespace: status %x", status);
		close(link);
		ck_assert_int_eq(firewall_untold_now(&look), before);
		ck_assert_int_eq(check("a"), 0);
	}
	firewall_look_close(&look);
}
END_TEST

/* It was seen when it was attached to nothing, and is seen again when it is. */
START_TEST(netfilter_program_attached_late)
{
	struct firewall_look look = FIREWALL_LOOK_NONE;
	const struct bpf_hook in = {.pf = 2, .hooknum = 1, .priority = -7656};
	int prog = load_for_hook();
	if (prog == -EPERM || prog == -EINVAL) /* as above */
		return;
	ck_assert_int_ge(prog, 0);
	int before = firewall_untold_now(&look);
	for (int again = 0; again < 2; again++) {
		int link = bpf_link_netfilter(prog, &in);
		ck_assert_int_ge(link, 0);
		ck_assert_int_ne(firewall_untold_now(&look), before);
		close(link);
		ck_assert_int_eq(firewall_untold_now(&look), before);
	}
	close(prog);
	ck_assert_int_eq(firewall_untold_now(&look), before);
	int link = attach_to_hook(&in);
	ck_assert_int_ge(link, 0);
	ck_assert_int_ne(firewall_untold_now(&look), before);
	close(link);
	firewall_look_close(&look);
}
END_TEST

/* A program that sandboxes itself may have no descriptor to look with. What came meanwhile is seen when it has. */
START_TEST(netfilter_program_that_cannot_be_looked_at)
{
	struct firewall_look look = FIREWALL_LOOK_NONE;
	const struct bpf_hook in = {.pf = 2, .hooknum = 1, .priority = -7656};
	struct rlimit some;
	int before = firewall_untold_now(&look);
	int link = attach_to_hook(&in);
	if (link == -EPERM || link == -EINVAL) /* as above */
		return;
	ck_assert_int_ge(link, 0);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &some), 0);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, some.rlim_max}), 0);
	firewall_untold_now(&look);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &some), 0);
	ck_assert_int_ne(firewall_untold_now(&look), before);
	close(link);
	firewall_look_close(&look);
}
END_TEST

/* As Linux writes /proc/net/ip_vs. */
#define IPVS_TEXT "IP Virtual Server version 1.2.1 (size=4096)\n" \
		  "Prot LocalAddress:Port Scheduler Flags\n" \
		  "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n" \
		  "TCP  C0000201:0050 rr \n" \
		  "  -> 0A4E0002:0050      Masq    1      %d          0         \n" \
		  "UDP  C0000202:0035 wlc persistent 300 FFFFFFFF\n" \
		  "TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:01BB sh \n" \
		  "TCP  C0000203:0000 rr persistent 360 FFFFFFFF\n" \
		  "FWM  00000007 rr \n"

START_TEST(ipvs_services)
{
	static const struct {
		const char *addr;
		uint16_t port;
		int concerned;
	} rows[] = {{"192.0.2.1", 80, 1}, {"192.0.2.1", 81, 0}, {"192.0.2.2", 53, 0}, {"192.0.2.3", 9, 1}, {"192.0.2.4", 80, 0},
		    {"2001:db8::1", 443, 1}, {"2001:db8::1", 80, 0}, {"0.0.0.0", 80, 1}};
	struct firewall_hooks h = {.program = false};
	struct firewall_ipvs later;
	char now[1024];
	snprintf(now, sizeof now, IPVS_TEXT, 1);
	firewall_parse_ipvs(now, &h.ipvs);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct firewall_flow f = {.key = {.lport = rows[i].port, .rport = 9999}};
		ck_assert_int_eq(ip_addr_parse(rows[i].addr, &f.key.laddr), 0);
		ck_assert_int_eq(ip_addr_parse("198.51.100.1", &f.key.raddr), 0);
		ck_assert_msg(firewall_hooks_have(&h, &f, false, why, sizeof why) == rows[i].concerned, "%s port %d", rows[i].addr, rows[i].port);
	}
	snprintf(now, sizeof now, IPVS_TEXT, 9); /* connections come and go */
	firewall_parse_ipvs(now, &later);
	ck_assert_uint_eq(later.digest, h.ipvs.digest);
	ck_assert_uint_ne(later.digest, 0);
	memcpy(strstr(now, "C0000203"), "C0000204", 8);
	firewall_parse_ipvs(now, &later);
	ck_assert_uint_ne(later.digest, h.ipvs.digest);
	firewall_parse_ipvs("TCP  what is this\n", &later);
	ck_assert(later.all);
	firewall_parse_ipvs("", &later);
	ck_assert(!later.all && !later.n && !later.digest);
}
END_TEST

START_TEST(ipsec_policies)
{
	const struct xfrm_row *r = &xfrm_rows[_i];
	struct firewall *f;
	struct firewall_flow flow = {.ifindex = if_nametoindex("a"), .ifname = "a", .v6 = strchr(r->raddr, ':')};
	ck_assert_int_eq(ip_addr_parse(r->raddr, &flow.key.raddr), 0);
	ck_assert_int_eq(ip_addr_parse(flow.v6 ? OUR_V6 : OUR_V4, &flow.key.laddr), 0);
	flow.key.lport = 80;
	flow.key.rport = r->rport;
	net_run("ip xfrm policy add %s", r->policy);
	ck_assert_msg(firewall_read(&f, why, sizeof why) == 0, "%s", why);
	ck_assert_msg(firewall_filters_server(f, &flow, why, sizeof why) == r->server, "%s: %s", r->policy, why);
	ck_assert_msg(firewall_filters_client(f, &flow, why, sizeof why) == r->client, "%s: %s", r->policy, why);
	if (r->server)
		ck_assert_msg(strstr(why, "IPsec policy"), "%s", why);
	firewall_free(f);
}
END_TEST

static void is_the_kernels(void)
{
	struct firewall *f, *copy;
	const struct firewall_flow flow = {.ifindex = if_nametoindex("a"), .ifname = "a"};
	ck_assert_int_eq(firewall_read(&f, why, sizeof why), 0);
	ck_assert_int_eq(firewall_filters_server(f, &flow, why, sizeof why), 1);
	int fd = firewall_save(f); /* for who may not read them */
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(firewall_load(&copy, fd), 0);
	why[0] = 0;
	ck_assert_int_eq(firewall_filters_server(copy, &flow, why, sizeof why), 1);
	ck_assert_msg(strstr(why, "IPsec policies"), "%s", why);
	firewall_free(copy);
	firewall_free(f);
	close(fd);
}

START_TEST(ipsec_without_a_policy)
{
	net_run("ip xfrm policy setdefault out block");
	is_the_kernels();
}
END_TEST

START_TEST(many_ipsec_policies)
{
	for (int i = 0; i < 65; i++)
		net_run("ip xfrm policy add src 10.99.0.%d dir in action block", i);
	is_the_kernels();
}
END_TEST

/* ---- what cannot be told ---- */

START_TEST(without_privilege_it_says_so)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		int bad = setresuid(65534, 65534, 65534) || check("a") >= 0 ||
			  !strstr(why, "could not ask");
		_exit(bad);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_lt(firewall_check(0, 4711, why, sizeof why), 0);
}
END_TEST

/* Absence of files in an absent /proc proves nothing. */
START_TEST(without_proc_it_says_so)
{
	ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
	ck_assert_int_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	ck_assert_int_eq(mount("none", "/proc", "tmpfs", 0, NULL), 0);
	ck_assert_int_lt(check("a"), 0);
	ck_assert_msg(strstr(why, "/proc"), "%s", why);
}
END_TEST

int main(void)
{
	skip_without_firewall();
	Suite *s = suite_create("firewall_others");
	TCase *tc = tcase_create("others");
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, legacy_iptables, 0, LEGACY_ROWS);
	tcase_add_test(tc, legacy_ip6tables);
	tcase_add_test(tc, cgroup_programs);
	tcase_add_test(tc, netfilter_programs);
	tcase_add_test(tc, netfilter_program_attached_late);
	tcase_add_test(tc, netfilter_program_that_cannot_be_looked_at);
	tcase_add_test(tc, ipvs_services);
	if (system("unshare --net ip xfrm policy add dir in action block 2>/dev/null") == 0) {
		tcase_add_loop_test(tc, ipsec_policies, 0, sizeof xfrm_rows / sizeof xfrm_rows[0]);
		tcase_add_test(tc, ipsec_without_a_policy);
		tcase_add_test(tc, many_ipsec_policies);
	}
	tcase_add_test(tc, without_privilege_it_says_so);
	tcase_add_test(tc, without_proc_it_says_so);
	suite_add_tcase(s, tc);
	return suite_main(s);
}
