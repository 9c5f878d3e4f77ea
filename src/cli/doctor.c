/*
 * finesse doctor: tries what the engine will try, in this network namespace and as this user, and
 * says what each result means. Nothing stays behind: every socket, ring and program is closed again
 * before the next line. `finesse run --strict` asks the same questions and prints only what is
 * missing.
 */
#include "cli/cli.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
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

static enum finding worst;
static bool strict; /* for run: one line for each that is missing, on standard error */

static void say(enum finding finding, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void say(enum finding finding, const char *what, const char *fmt, ...)
{
	static const char *const words[] = {"ok", "note", "missing"};
	FILE *out = strict ? stderr : stdout;
	va_list ap;
	if (finding > worst)
		worst = finding;
	if (strict && finding < FINDING_MISSING)
		return;
	if (strict)
		fprintf(out, "finesse run: %s: ", what);
	else
		fprintf(out, "%-8s %-16s ", words[finding], what);
	va_start(ap, fmt);
	vfprintf(out, fmt, ap);
	va_end(ap);
	fputc('\n', out);
}

static void check_capabilities(void)
{
	static const struct {
		int bit, other; /* `other` implies it */
		const char *name, *ok, *missing;
		enum finding without;
	} caps[] = {
	    {CAP_NET_RAW, CAP_NET_RAW, "CAP_NET_RAW", "may read and write frames",
	     "no packet socket: run as root, or grant it with setcap or systemd's "
	     "AmbientCapabilities",
	     FINDING_MISSING},
	    {CAP_NET_ADMIN, CAP_NET_ADMIN, "CAP_NET_ADMIN",
	     "may attach the classifier, resolve neighbours and hand sockets over",
	     "no classifier: run as root, or grant it with setcap or systemd's AmbientCapabilities",
	     FINDING_MISSING},
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
	for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
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
	if (cli_find_library(path, sizeof path) == 0)
		say(FINDING_OK, "libfinesse.so", "%s", path);
	else
		say(FINDING_MISSING, "libfinesse.so", "neither next to finesse nor in %s",
		    FINESSE_PKGLIBDIR);
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

static void check_classifier(int ifindex, const char *name)
{
	char why[WHY_BYTES] = "";
	struct classifier *c;
	int fd = packet_open();
	if (fd < 0) {
		say(FINDING_MISSING, "classifier", "needs a packet socket");
		return;
	}
	int r = classifier_open(&c, CLASSIFIER_AUTO, ifindex, fd, has_ethernet(name), why, sizeof why);
	if (r < 0) {
		say(FINDING_MISSING, "classifier", "%s", why[0] ? why : strerror(-r));
	} else {
		if (classifier_is_exact(c))
			say(FINDING_OK, "classifier", "%s attaches to %s", classifier_backend(c), name);
		else
			say(FINDING_NOTE, "classifier",
			    "%s attaches to %s: eBPF at tcx is refused here, or needs Linux 6.6; some more work per "
			    "client connection",
			    classifier_backend(c), name);
		classifier_close(c);
	}
	close(fd);
}

static void check_firewall(int ifindex)
{
	static const char prefix[] = "firewall: ";
	char why[WHY_BYTES] = "";
	if (firewall_check(ifindex, why, sizeof why) == 0)
		say(FINDING_OK, "firewall", "no rule of this host could concern TCP");
	else
		say(FINDING_MISSING, "firewall",
		    "%s: sockets stay with the kernel (--firewall bypass overrides)",
		    strncmp(why, prefix, strlen(prefix)) == 0 ? why + strlen(prefix) : why);
}

/* The interface to serve, and what hangs on it. */
static void check_interface(const char *wanted, bool firewall)
{
	char why[WHY_BYTES] = "", name[IF_NAMESIZE] = "?";
	struct netstate *n;
	struct ip_addr addrs[64];
	int r = netstate_open(&n), ifindex = 0;
	if (r < 0) {
		say(FINDING_MISSING, "interface", "netlink: %s", strerror(-r));
		return;
	}
	if (wanted)
		ifindex = (int)if_nametoindex(wanted);
	else
		ifindex = netstate_default_interface(n, why, sizeof why);
	if (ifindex <= 0) {
		say(FINDING_MISSING, "interface", "%s%s", wanted ? wanted : why,
		    wanted ? " does not exist" : " (--interface chooses one)");
	} else {
		if_indextoname((unsigned)ifindex, name);
		int count = netstate_addresses(n, ifindex, addrs, sizeof addrs / sizeof addrs[0]);
		if (count > 0)
			say(FINDING_OK, "interface", "%s, %d address%s", name, count,
			    count == 1 ? "" : "es");
		else
			say(FINDING_MISSING, "interface", "%s has no address", name);
		check_classifier(ifindex, name);
		if (firewall)
			check_firewall(ifindex);
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

static void check_everything(const char *interface, bool firewall)
{
	check_library();
	check_kernel();
	check_capabilities();
	check_packet();
	check_io_uring();
	check_repair();
	check_interface(interface, firewall);
	check_limits();
	check_settings();
}

bool doctor_allows(const struct settings *s)
{
	char first[SETTINGS_INTERFACE_LEN];
	strict = true;
	check_everything(settings_interface(s, 0, first) ? first : NULL, s->firewall != FIREWALL_BYPASS);
	return worst < FINDING_MISSING;
}

int cli_doctor(int argc, char **argv)
{
	const char *interface = NULL;
	for (int i = 1; i < argc; i++) {
		if (strncmp(argv[i], "--interface=", 12) == 0)
			interface = argv[i] + 12;
		else if (strcmp(argv[i], "--interface") == 0 && argv[i + 1])
			interface = argv[++i];
		else if (strcmp(argv[i], "--interface") == 0)
			return cli_usage_error("doctor", "--interface needs a value");
		else
			return cli_usage_error(
			    "doctor", "there is no option '%s' (finesse doctor [--interface NAME])",
			    argv[i]);
	}
	check_everything(interface, true);
	puts(worst == FINDING_MISSING ? "sockets will stay on the kernel's TCP"
				      : "sockets will be served by finesse");
	return worst == FINDING_MISSING ? EXIT_NOTHING : EXIT_OK;
}
