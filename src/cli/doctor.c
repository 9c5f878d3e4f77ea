/*
 * finesse doctor: tries what the engine will try, in this network namespace and as this user, and
 * says what each result means. Nothing stays behind: every socket, ring and program is closed again
 * before the next line. `finesse run --strict` asks the same questions and prints only what is
 * missing.
 */
#include "cli/cli.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/settings.h"
#include "kernel/classifier.h"
#include "kernel/firewall.h"
#include "kernel/netstate.h"
#include "kernel/sysctl.h"

#ifndef CAP_BPF
#define CAP_BPF 39 /* Linux 5.8 */
#endif

#define KERNEL_MAJOR 6
#define KERNEL_MINOR 1
#define RING_BLOCK   65536 /* of the little ring that is tried */
#define NOFILE_LOW   1024
#define WHY_BYTES    256

enum finding {
	FINDING_OK,
	FINDING_NOTE,    /* works, with a limit */
	FINDING_MISSING, /* sockets stay on the kernel's TCP */
};

#define QUESTIONS_MAX 16

/* A socket of a program: would it be carried? */
struct question {
	bool server;
	struct ip_addr addr; /* the server's own, or where the client goes; any: any */
	uint16_t port;       /* 0: any */
	char text[64];
	int ifindex;         /* the interface that it is about; 0: any */
	bool answered;       /* its address alone decides */
};

static enum finding worst;
static bool strict;        /* for run: one line for each that is missing, on standard error */
static json_t *document;   /* --json: what is said becomes an array; NULL: lines */
static const char *remedy; /* of what is said next: the command that would change it, or NULL */
static struct question questions[QUESTIONS_MAX];
static unsigned n_questions;
static enum firewall_choice firewall_choice;
static enum classifier_choice classifier_choice;

static void say(enum finding finding, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void say(enum finding finding, const char *what, const char *fmt, ...)
{
	static const char *const words[] = {"ok", "note", "missing"};
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (finding > worst)
		worst = finding;
	if (document) {
		json_t *o = json_pack("{s:s,s:s,s:s}", "check", what, "finding", words[finding], "text", text);
		if (remedy)
			json_object_set_new(o, "command", json_string(remedy));
		json_array_append_new(document, o);
	} else if (!strict) {
		printf("%-8s %-16s %s%s%s\n", words[finding], what, text, remedy ? ". Otherwise: " : "", remedy ? remedy : "");
	} else if (finding == FINDING_MISSING) {
		fprintf(stderr, "finesse run: %s: %s\n", what, text);
	}
	remedy = NULL;
}

static const struct settings *own_mode; /* own addresses are asked about; NULL: the interface's */

static void check_capabilities(void)
{
	const struct {
		int bit, other; /* `other` implies it */
		const char *name, *ok, *missing;
		enum finding without;
	} caps[] = {
	    {CAP_NET_RAW, CAP_NET_RAW, "CAP_NET_RAW", "may read and write frames",
	     "no packet socket: run as root, or grant it with systemd's AmbientCapabilities",
	     FINDING_MISSING},
	    {CAP_NET_ADMIN, CAP_NET_ADMIN, "CAP_NET_ADMIN",
	     "may attach the classifier, resolve neighbours and hand sockets over",
	     "no classifier but socket, no handing over of live connections, no look at firewall rules: run as root, or grant it with systemd's AmbientCapabilities",
	     classifier_choice == CLASSIFIER_SOCKET ? FINDING_NOTE : FINDING_MISSING},
	    {CAP_BPF, CAP_SYS_ADMIN, "CAP_BPF", "may load the classifier's program",
	     "the classifier is nftables, which is a little slower", FINDING_NOTE},
	};
	unsigned long long effective = 0;
	char line[256];
	FILE *f = fopen("/proc/self/status", "re");
	while (f && fgets(line, sizeof line, f))
		sscanf(line, "CapEff: %llx", &effective);
	if (f)
		fclose(f);
	size_t n = own_mode ? 1 : sizeof caps / sizeof caps[0]; /* an own address needs the first only */
	for (size_t i = 0; i < n; i++) {
		bool has = effective & (1ull << caps[i].bit | 1ull << caps[i].other);
		say(has ? FINDING_OK : caps[i].without, caps[i].name, "%s",
		    has ? caps[i].ok : caps[i].missing);
	}
}

static void check_kernel(void)
{
	struct utsname u;
	int major = 0, minor = 0;
	uname(&u);
	sscanf(u.release, "%d.%d", &major, &minor);
	bool ok = major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR);
	say(ok ? FINDING_OK : FINDING_NOTE, "kernel", "%s %s%s", u.sysname, u.release,
	    ok ? "" : ": older than any that was tried (6.1)");
}

static void check_library(void)
{
	char path[PATH_MAX];
	if (cli_find_library(path, sizeof path) < 0) {
		say(FINDING_MISSING, "libfinesse.so", "neither next to finesse nor in %s", FINESSE_PKGLIBDIR);
		return;
	}
	const char *why_not = cli_cannot_preload(path);
	if (why_not)
		say(FINDING_MISSING, "libfinesse.so", "LD_PRELOAD cannot name %s: %s", path, why_not);
	else
		say(FINDING_OK, "libfinesse.so", "%s", path);
}

/* A packet socket that hears nothing (protocol 0), with the engine's ring and headers. */
static int packet_open(void)
{
	struct tpacket_req ring = {.tp_block_size = RING_BLOCK,
				   .tp_block_nr = 1,
				   .tp_frame_size = RING_BLOCK,
				   .tp_frame_nr = 1};
	int version = TPACKET_V2, one = 1;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring) < 0) {
		int err = errno;
		close(fd);
		return -err;
	}
	return fd;
}

static void check_packet(void)
{
	int fd = packet_open();
	if (fd >= 0) {
		say(FINDING_OK, "AF_PACKET", "receive ring (TPACKET_V2) with offload headers");
		close(fd);
	} else {
		say(FINDING_MISSING, "AF_PACKET", "%s", strerror(-fd));
	}
}

static void check_io_uring(void)
{
	struct io_uring_params params = {0};
	long fd = syscall(SYS_io_uring_setup, 4, &params);
	if (fd >= 0) {
		say(FINDING_OK, "io_uring", "transmits and waits in one system call");
		close((int)fd);
	} else {
		say(FINDING_NOTE, "io_uring", "%s: frames leave by sendmmsg, which is slower",
		    strerror(errno));
	}
}

static void check_repair(void)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	if (fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &one, sizeof one) == 0)
		say(FINDING_OK, "TCP_REPAIR",
		    "connections can be handed to the kernel (exec, exit, unsupported options)");
	else
		say(FINDING_NOTE, "TCP_REPAIR", "%s: connections cannot be handed to the kernel",
		    strerror(errno));
	if (fd >= 0)
		close(fd);
}

static bool has_ethernet(const char *name)
{
	char path[64 + IF_NAMESIZE];
	int type = 1; /* ARPHRD_ETHER */
	snprintf(path, sizeof path, "/sys/class/net/%s/type", name);
	FILE *f = fopen(path, "re");
	if (f) {
		if (fscanf(f, "%d", &type) != 1)
			type = 1;
		fclose(f);
	}
	return type == 1;
}

static bool judge_is_possible; /* the classifier is eBPF */

#define SOCKET_AND_BYPASS "finesse run --classifier socket --firewall bypass -- PROGRAM"

/* A filter on a TCP socket: stock kernels ask for no right, others for CAP_NET_ADMIN or CAP_BPF. */
static bool may_filter(void)
{
	struct sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog program = {.len = 1, .filter = nothing};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool may = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
	if (fd >= 0)
		close(fd);
	return may;
}

/*
 * Where the others are refused, the one that needs no more than CAP_NET_RAW may do. It takes nobody by surprise: it has
 * to be named.
 */
static void suggest_socket(int ifindex, const char *name)
{
	char why[WHY_BYTES] = "";
	struct classifier *c;
	int fd = packet_open();
	if (fd < 0)
		return;
	if (!may_filter()) {
		say(FINDING_NOTE, "classifier", "socket cannot do either: this kernel wants CAP_NET_ADMIN or CAP_BPF for a filter on a TCP socket");
		close(fd);
		return;
	}
	if (classifier_open(&c, CLASSIFIER_SOCKET, ifindex, fd, has_ethernet(name), why, sizeof why) == 0) {
		remedy = SOCKET_AND_BYPASS;
		classifier_close(c);
	}
	close(fd);
}

static void check_classifier(int ifindex, const char *name)
{
	char why[WHY_BYTES] = "";
	struct classifier *c;
	int fd = packet_open();
	if (fd < 0) {
		say(FINDING_MISSING, "classifier", "needs a packet socket");
		return;
	}
	int r = classifier_open(&c, classifier_choice, ifindex, fd, has_ethernet(name), why, sizeof why);
	if (r < 0) {
		if (classifier_choice == CLASSIFIER_AUTO)
			suggest_socket(ifindex, name);
		say(FINDING_MISSING, "classifier", "%s", why[0] ? why : strerror(-r));
	} else {
		judge_is_possible = classifier_is_exact(c);
		if (judge_is_possible)
			say(FINDING_OK, "classifier", "%s attaches to %s", classifier_backend(c), name);
		else if (classifier_holds_ports(c))
			say(FINDING_NOTE, "classifier", "socket serves %s: a client's port and a port whose listener is closed are held as a whole while it is used", name);
		else
			say(FINDING_NOTE, "classifier",
			    "%s attaches to %s: eBPF at tcx is refused here, or needs Linux 6.6; some more work per "
			    "client connection",
			    classifier_backend(c), name);
		classifier_close(c);
	}
	close(fd);
}

#define BYPASS "finesse run --firewall bypass -- PROGRAM"

/* What is said of a rule, without the words that say() has already. */
static const char *rule_of(const char *why)
{
	static const char prefix[] = "firewall: ";
	return strncmp(why, prefix, strlen(prefix)) == 0 ? why + strlen(prefix) : why;
}

static bool has_family(const struct question *q, bool v6)
{
	return ip_addr_is_any(&q->addr) || ip_addr_is_v4(&q->addr) == !v6;
}

/* 0: no rule concerns it; 1: the host judges who connects; -1: the kernel's. `why` names the rule. */
static int ask_family(struct firewall *f, const struct question *q, int ifindex, const char *name, bool v6, char *why)
{
	struct firewall_flow flow = {.ifindex = ifindex, .ifname = name, .v6 = v6};
	if (q->server) {
		flow.key.lport = q->port;
		flow.key.laddr = q->addr;
		if (firewall_filters_server(f, &flow, why, WHY_BYTES))
			return -1;
		return firewall_judges(f, &flow, why, WHY_BYTES) ? 1 : 0;
	}
	flow.key.rport = q->port;
	flow.key.raddr = q->addr;
	return firewall_filters_client(f, &flow, why, WHY_BYTES) ? -1 : 0;
}

enum families { BY_IPV4 = 1, BY_IPV6 = 2, BY_BOTH = 3 };

static enum families families_of(const struct question *q)
{
	return (has_family(q, false) ? BY_IPV4 : 0) | (has_family(q, true) ? BY_IPV6 : 0);
}

static int ask_question(struct firewall *f, const struct question *q, enum families families, int ifindex, const char *name, char *why)
{
	int result = 0;
	for (int v6 = 0; v6 < 2 && result >= 0; v6++) {
		int r = families & (v6 ? BY_IPV6 : BY_IPV4) ? ask_family(f, q, ifindex, name, v6, why) : 0;
		result = r < 0 || r > result ? r : result;
	}
	return result && firewall_choice == FIREWALL_KERNEL ? -1 : result;
}

static bool is_carried(int answer)
{
	return answer == 0 || (answer > 0 && judge_is_possible);
}

static bool answer_by(struct firewall *f, const struct question *q, enum families families, int ifindex, const char *name, enum finding refused)
{
	static const char *const by[] = {[BY_IPV4] = " by IPv4", [BY_IPV6] = " by IPv6", [BY_BOTH] = ""};
	const char *only = families == families_of(q) ? "" : by[families];
	char why[WHY_BYTES] = "";
	int r = ask_question(f, q, families, ifindex, name, why);
	if (r)
		remedy = BYPASS;
	if (r == 0)
		say(FINDING_OK, q->text, "carried on %s%s; no rule of the host could concern it", name, only);
	else if (is_carried(r))
		say(FINDING_OK, q->text, "carried on %s%s; the host's rules judge who may connect (%s)", name, only, rule_of(why));
	else
		say(refused, q->text, "the kernel's%s: %s%s", only, rule_of(why),
		    r > 0 ? ", and only the eBPF classifier lets the host judge" : "");
	return is_carried(r);
}

/* Each family by itself where one is carried and the other is not (ufw's rules for IPv6). */
static bool answer_question(struct firewall *f, const struct question *q, int ifindex, const char *name, enum finding refused)
{
	char why[WHY_BYTES];
	enum families all = families_of(q);
	if (all != BY_BOTH ||
	    is_carried(ask_question(f, q, BY_IPV4, ifindex, name, why)) == is_carried(ask_question(f, q, BY_IPV6, ifindex, name, why)))
		return answer_by(f, q, all, ifindex, name, refused);
	bool v4 = answer_by(f, q, BY_IPV4, ifindex, name, FINDING_NOTE);
	bool v6 = answer_by(f, q, BY_IPV6, ifindex, name, FINDING_NOTE);
	return v4 || v6;
}

static void check_firewall(int ifindex, const char *name)
{
	static const struct question any[] = {{.server = true, .text = "servers"}, {.server = false, .text = "clients"}};
	char why[WHY_BYTES] = "";
	struct firewall *f;
	if (firewall_choice == FIREWALL_BYPASS) {
		say(FINDING_NOTE, "firewall", "not asked: the setting is bypass");
		return;
	}
	if (firewall_read(&f, why, sizeof why)) {
		remedy = classifier_choice == CLASSIFIER_AUTO && !judge_is_possible && may_filter() ? SOCKET_AND_BYPASS : BYPASS;
		say(FINDING_MISSING, "firewall", "%s: sockets stay with the kernel", rule_of(why));
		return;
	}
	for (unsigned i = 0; i < n_questions; i++)
		if (!questions[i].answered && (!questions[i].ifindex || questions[i].ifindex == ifindex))
			answer_question(f, &questions[i], ifindex, name, FINDING_MISSING);
	if (!n_questions) {
		bool server = answer_question(f, &any[0], ifindex, name, FINDING_NOTE);
		bool client = answer_question(f, &any[1], ifindex, name, FINDING_NOTE);
		if (!server && !client)
			say(FINDING_MISSING, "firewall", "the host's rules leave all sockets with the kernel");
	}
	firewall_free(f);
}

/* One that is to be served, and what hangs on it. */
static void check_interface(struct netstate *n, int ifindex)
{
	char name[IF_NAMESIZE] = "?";
	struct ip_addr addrs[64];
	if_indextoname((unsigned)ifindex, name);
	int count = netstate_addresses(n, ifindex, addrs, sizeof addrs / sizeof addrs[0]);
	if (count > 0 && !netstate_may_serve(n, ifindex))
		say(FINDING_NOTE, "interface", "%s, %d address%s, is down: served when it is up", name, count, count == 1 ? "" : "es");
	else if (count > 0)
		say(FINDING_OK, "interface", "%s, %d address%s", name, count, count == 1 ? "" : "es");
	else
		say(FINDING_MISSING, "interface", "%s has no address, or loopback's alone, which are the kernel's", name);
	check_classifier(ifindex, name);
	check_firewall(ifindex, name);
}

/* The interface by which it comes or goes, or 0: `why` says why the kernel has it. */
static int way_of(struct netstate *n, const struct question *q, char *why)
{
	struct route route;
	if (ip_addr_is_loopback(&q->addr)) {
		snprintf(why, WHY_BYTES, "finesse serves no loopback");
		return 0;
	}
	if (q->server) {
		int ifindex = netstate_interface_of(n, &q->addr);
		snprintf(why, WHY_BYTES, "%s", ifindex ? "its interface is not served" : "no interface that could be served has this address");
		return ifindex;
	}
	int r = netstate_route(n, &q->addr, &(struct ip_addr){.b = {0}}, 0, 0, &route);
	if (r == 0 && !route.local && !route.kernels) {
		snprintf(why, WHY_BYTES, "the way there is by an interface that is not served");
		return route.ifindex;
	}
	snprintf(why, WHY_BYTES, "%s", r ? strerror(-r) : route.local ? "this host has the address" : route.kernels);
	return 0;
}

/* What an address decides: not each question is about each of the `n_served` interfaces. */
static void find_ways(struct netstate *n, const int *served, int n_served)
{
	char why[WHY_BYTES];
	for (struct question *q = questions; q < questions + n_questions; q++) {
		if (ip_addr_is_any(&q->addr))
			continue;
		q->ifindex = way_of(n, q, why);
		q->answered = true;
		for (int i = 0; i < n_served; i++)
			if (served[i] == q->ifindex)
				q->answered = false;
		if (q->answered)
			say(FINDING_MISSING, q->text, "the kernel's: %s", why);
	}
}

/* Those that the setting names. One that does not exist is told. */
static int named_interfaces(const struct settings *s, int out[CLASSIFIER_INTERFACES_MAX])
{
	char name[SETTINGS_INTERFACE_LEN];
	int n = 0;
	for (unsigned k = 0; n < CLASSIFIER_INTERFACES_MAX && settings_interface(s, k, name); k++) {
		out[n] = (int)if_nametoindex(name);
		if (!out[n])
			say(FINDING_MISSING, "interface", "%s does not exist", name);
		n += out[n] != 0;
	}
	return n;
}

/* Rules that choose a way by what a route is not asked for. */
static void check_rules(struct netstate *n)
{
	const char *why[2] = {netstate_rules_why(n, false), netstate_rules_why(n, true)};
	for (int v6 = 0; v6 < 2; v6++)
		if (why[v6])
			say(why[!v6] ? FINDING_MISSING : FINDING_NOTE, "ip rule", "IPv%d is the kernel's: %s", v6 ? 6 : 4, why[v6]);
}

/* All that would be served, as far as they can be attached. */
static void check_interfaces(const struct settings *s)
{
	int all[CLASSIFIER_INTERFACES_MAX], found;
	struct netstate *n;
	int r = netstate_open(&n);
	if (r < 0) {
		say(FINDING_MISSING, "interface", "netlink: %s", strerror(-r));
		return;
	}
	if (s->interface[0]) {
		found = named_interfaces(s, all);
	} else {
		found = netstate_interfaces(n, all, CLASSIFIER_INTERFACES_MAX);
		if (found < 0)
			say(FINDING_MISSING, "interface", "cannot list interfaces: %s", strerror(-found));
		else if (!found)
			say(FINDING_MISSING, "interface", "none is up and has an address besides loopback (--interface chooses one)");
		if (found > CLASSIFIER_INTERFACES_MAX)
			say(FINDING_NOTE, "interface", "%d could be served: only %d are, those that are used first", found, CLASSIFIER_INTERFACES_MAX);
	}
	found = found > CLASSIFIER_INTERFACES_MAX ? CLASSIFIER_INTERFACES_MAX : found;
	find_ways(n, all, found);
	for (int i = 0; i < found; i++)
		check_interface(n, all[i]);
	check_rules(n);
	netstate_close(n);
}

/*
 * Own-address mode: the interface, and that the kernel has none of the addresses. Who else on the link has one shows
 * when the engine claims it.
 */
static void check_own(const char *wanted)
{
	char why[WHY_BYTES] = "", name[IF_NAMESIZE] = "?", text[IP_ADDR_STRLEN];
	struct netstate *n;
	int r = netstate_open(&n);
	if (r < 0) {
		say(FINDING_MISSING, "interface", "netlink: %s", strerror(-r));
		return;
	}
	int ifindex = wanted ? (int)if_nametoindex(wanted) : netstate_default_interface(n, why, sizeof why);
	if (ifindex <= 0)
		say(FINDING_MISSING, "interface", "%s%s", wanted ? wanted : why, wanted ? " does not exist" : " (--interface chooses one)");
	else
		say(FINDING_OK, "interface", "%s", if_indextoname((unsigned)ifindex, name));
	for (unsigned i = 0; i < own_mode->n_own; i++) {
		const struct ip_addr *a = &own_mode->own[i].addr;
		if (netstate_is_local(n, a))
			say(FINDING_MISSING, "address", "%s: this host's kernel has it", ip_addr_format(a, text));
		else
			say(FINDING_OK, "address", "%s, claimed on the link by the first socket that needs it; no rule of the host's firewall applies", ip_addr_format(a, text));
	}
	netstate_close(n);
}

static void check_limits(void)
{
	struct rlimit files, memlock;
	getrlimit(RLIMIT_NOFILE, &files);
	getrlimit(RLIMIT_MEMLOCK, &memlock);
	say(files.rlim_cur < NOFILE_LOW ? FINDING_NOTE : FINDING_OK, "RLIMIT_NOFILE",
	    "%llu open files; each connection is one", (unsigned long long)files.rlim_cur);
	if (memlock.rlim_cur == RLIM_INFINITY)
		say(FINDING_OK, "RLIMIT_MEMLOCK", "unlimited");
	else
		say(FINDING_OK, "RLIMIT_MEMLOCK",
		    "%llu KiB; kernels since 5.12 charge io_uring and BPF elsewhere",
		    (unsigned long long)memlock.rlim_cur / 1024);
}

/* Settings of the namespace that kernel sockets obey and ours do not. */
static void check_settings(void)
{
	struct sysctls s = {0};
	struct sysctl_unheeded u;
	bool any = false;
	sysctls_open(&s);
	for (unsigned i = 0; i < SYSCTL_COUNT; i++) {
		if (!sysctls_unheeded(&s, i, &u))
			continue;
		say(FINDING_NOTE, "net.ipv4", "%s = %lld is not obeyed: %s", u.name, (long long)u.value, u.why);
		any = true;
	}
	sysctls_close(&s);
	if (!any)
		say(FINDING_OK, "net.ipv4", "the namespace has no setting but defaults that the engine does not obey");
}

static void check_everything(const struct settings *s)
{
	check_library();
	check_kernel();
	check_capabilities();
	check_packet();
	check_io_uring();
	if (own_mode) {
		char first[SETTINGS_INTERFACE_LEN];
		check_own(settings_interface(s, 0, first) ? first : NULL);
	} else {
		check_repair();
		check_interfaces(s);
	}
	check_limits();
	check_settings();
}

bool doctor_allows(const struct settings *s)
{
	strict = true;
	firewall_choice = s->firewall;
	own_mode = s->n_own ? s : NULL;
	classifier_choice = s->classifier;
	check_everything(s);
	return worst < FINDING_MISSING;
}

/* ADDR or [ADDR6]. */
static bool parse_address(char *text, struct ip_addr *out)
{
	struct in_addr v4;
	struct in6_addr v6;
	size_t len = strlen(text);
	if (inet_pton(AF_INET, text, &v4) == 1) {
		*out = ip_addr_from_v4(&v4);
		return true;
	}
	if (len < 2 || text[0] != '[' || text[len - 1] != ']')
		return false;
	text[len - 1] = 0;
	if (inet_pton(AF_INET6, text + 1, &v6) != 1)
		return false;
	*out = ip_addr_from_v6(&v6);
	return true;
}

/* [ADDR:]PORT */
static bool parse_question(bool server, const char *value)
{
	char text[48], *end;
	struct question *q = &questions[n_questions];
	if (n_questions == QUESTIONS_MAX || strlen(value) >= sizeof text)
		return false;
	strcpy(text, value);
	*q = (struct question){.server = server};
	char *colon = strrchr(text, ':');
	const char *port = colon ? colon + 1 : text;
	unsigned long n = strtoul(port, &end, 10);
	if (!*port || *end || n == 0 || n > UINT16_MAX)
		return false;
	if (colon) {
		*colon = 0;
		if (!parse_address(text, &q->addr))
			return false;
	}
	q->port = n;
	snprintf(q->text, sizeof q->text, "%s %s", server ? "server" : "client", value);
	n_questions++;
	return true;
}

/* The value of the option `name` at *i, or NULL: it is another one. *i moves over it. */
static const char *value_of(int argc, char **argv, int *i, const char *name)
{
	size_t len = strlen(name);
	if (strncmp(argv[*i], name, len) == 0 && argv[*i][len] == '=')
		return argv[*i] + len + 1;
	if (strcmp(argv[*i], name) == 0)
		return *i + 1 < argc ? argv[++*i] : "";
	return NULL;
}

static void print_document(void)
{
	json_t *all = json_pack("{s:b,s:o}", "served", worst < FINDING_MISSING, "checks", document);
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

int cli_doctor(int argc, char **argv)
{
	static struct settings settings; /* large; used once */
	char why[WHY_BYTES];
	const char *v;
	settings_default(&settings);
	for (int i = 1; i < argc; i++) {
		if ((v = value_of(argc, argv, &i, "--interface"))) {
			if (!*v)
				return cli_usage_error("doctor", "--interface needs a value");
			if (settings_set(&settings, "interface", v, why, sizeof why) < 0)
				return cli_usage_error("doctor", "%s", why);
		} else if ((v = value_of(argc, argv, &i, "--address"))) {
			if (settings_set(&settings, "address", v, why, sizeof why) < 0)
				return cli_usage_error("doctor", "--%s", why);
			own_mode = &settings;
		} else if ((v = value_of(argc, argv, &i, "--server"))) {
			if (!parse_question(true, v))
				return cli_usage_error("doctor", "--server takes [ADDR:]PORT, not '%s'", v);
		} else if ((v = value_of(argc, argv, &i, "--client"))) {
			if (!parse_question(false, v))
				return cli_usage_error("doctor", "--client takes [ADDR:]PORT, not '%s'", v);
		} else if (strcmp(argv[i], "--json") == 0) {
			document = document ? document : json_array();
		} else {
			return cli_usage_error("doctor", "there is no option '%s' (finesse doctor --help lists them)", argv[i]);
		}
	}
	check_everything(&settings);
	if (document)
		print_document();
	else
		puts(worst == FINDING_MISSING ? "sockets will stay on the kernel's TCP" : "sockets will be served by finesse");
	return worst == FINDING_MISSING ? EXIT_NOTHING : EXIT_OK;
}
