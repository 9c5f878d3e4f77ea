/* kernel/ports and the host's secret, in namespaces of their own. */
#include <check.h>

#include "tests/net/netns_test.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kernel/ports.h"
#include "tests/suite.h"

#define UPPER_PORTS (65536u - 61000u)

static const uint8_t secret[16] = "0123456789abcdef";
static struct ports *p;

/* This program's own, so that no test waits for time to pass: the clock is `later_s` ahead of the kernel's. */
static int64_t later_s;

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int ret = (int)syscall(SYS_clock_gettime, clock, now);
	now->tv_sec += later_s;
	return ret;
}

static void setup(void)
{
	ck_assert(netns_enter());
	ck_assert(private_run());
	ck_assert_int_eq(mkdir("/run/finesse", 0755), 0);
	ck_assert_int_eq(ports_open(&p, secret), 0);
}

static void teardown(void)
{
	ports_close(p);
}

/* Ports in use, per destination port (all flows of these tests differ in nothing else). */
struct used {
	struct ports_in_use u;
	uint16_t rport;
	bool all; /* everything is */
	bool port[65536];
	unsigned asked;
	unsigned kernels; /* so many ports are the kernel's to this destination, as far as anybody asks */
};

static bool in_use(struct ports_in_use *u, const struct flow_key *key)
{
	struct used *used = (struct used *)u;
	used->asked++;
	return used->all || (key->rport == used->rport && used->port[key->lport]);
}

static struct used *used_new(void)
{
	struct used *used = calloc(1, sizeof *used);
	ck_assert_ptr_nonnull(used);
	used->u.in_use = in_use;
	used->rport = 80;
	return used;
}

static struct flow_key key_to(uint16_t rport)
{
	struct flow_key k = {.rport = rport};
	ck_assert_int_eq(ip_addr_parse("10.0.0.1", &k.laddr), 0);
	ck_assert_int_eq(ip_addr_parse("10.0.0.2", &k.raddr), 0);
	return k;
}

static int pick(struct ports *from, struct used *used, uint16_t rport)
{
	struct flow_key k = key_to(rport);
	int ret = ports_pick(from, &k, &used->u);
	return ret < 0 ? ret : k.lport;
}

/* All there is to one destination: how many, none twice, none from `low` to `high`. */
static unsigned pick_all(struct used *used, int low, int high)
{
	unsigned count = 0;
	int port;
	while ((port = pick(p, used, 80)) > 0) {
		ck_assert_msg(!used->port[port], "port %d twice", port);
		ck_assert_msg(port >= 1024 && (port < low || port > high), "port %d is not ours",
			      port);
		used->port[port] = true;
		count++;
	}
	ck_assert_int_eq(port, -EADDRNOTAVAIL);
	return count;
}

START_TEST(starts_above_the_kernels_range)
{
	struct used *used = used_new();
	int port = pick(p, used, 80);
	ck_assert_int_ge(port, 61000);
	ck_assert_uint_eq(ports_leased(p), 64);
	free(used);
}
END_TEST

START_TEST(every_port_to_one_destination)
{
	struct used *used = used_new();
	for (unsigned i = 0; i < UPPER_PORTS; i++) {
		int port = pick(p, used, 80);
		ck_assert_int_ge(port, 61000);
		ck_assert(!used->port[port]);
		used->port[port] = true;
	}
	/* then what lies below the kernel's range */
	ck_assert_uint_eq(pick_all(used, 32768, 60999), 32768 - 1024);
	/* another destination has all of them again, without a new lease */
	unsigned leased = ports_leased(p);
	ck_assert_int_gt(pick(p, used, 81), 0);
	ck_assert_uint_eq(ports_leased(p), leased);
	/* and a freed port is found */
	used->port[61234] = false;
	ck_assert_int_eq(pick(p, used, 80), 61234);
	free(used);
}
END_TEST

START_TEST(picking_stays_cheap)
{
	struct used *used = used_new();
	for (unsigned i = 0; i < UPPER_PORTS; i++)
		used->port[pick(p, used, 80)] = true;
	/*
	 * Whenever blocks are leased, that is one search that failed, and one on from their middle: nine times for the
	 * 71 blocks.
	 */
	ck_assert_uint_lt(used->asked, UPPER_PORTS * 7);
	used->asked = 0;
	for (unsigned i = 0; i < UPPER_PORTS; i++)
		ck_assert_int_gt(pick(p, used, 81), 0);
	ck_assert_uint_eq(used->asked, UPPER_PORTS);
	free(used);
}
END_TEST

START_TEST(reserved_ports_are_kept)
{
	struct used *used = used_new();
	sh("echo 2000,61100-61199,65535 > /proc/sys/net/ipv4/ip_local_reserved_ports");
	ck_assert_uint_eq(pick_all(used, 32768, 60999), UPPER_PORTS + 32768 - 1024 - 102);
	ck_assert(!used->port[2000] && !used->port[65535]);
	for (unsigned i = 61100; i <= 61199; i++)
		ck_assert(!used->port[i]);
	free(used);
}
END_TEST

/* A kernel connection over loopback from this port; the caller's end. */
static int kernel_connection(uint16_t lport, int *server_end)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from = to;
	socklen_t len = sizeof to;
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
	from.sin_port = htons(lport);
	ck_assert_int_eq(listen(listener, 1), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&to, &len), 0);
	to.sin_addr = from.sin_addr;
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
	*server_end = accept(listener, NULL, NULL);
	close(listener);
	return fd;
}

/* Its connections, and the TIME-WAITs of those that were handed over to it. */
START_TEST(ports_of_kernel_sockets_are_left_out)
{
	struct used *used = used_new();
	int a, b;
	sh("ip link set lo up");
	kernel_connection(61300, &a);
	close(kernel_connection(61400, &b)); /* it closes first … */
	close(b);                            /* … and keeps the TIME-WAIT */
	ck_assert_uint_eq(pick_all(used, 32768, 60999), UPPER_PORTS + 32768 - 1024 - 2);
	ck_assert(!used->port[61300] && !used->port[61400]);
	used->port[62000] = false;
	ports_handed_over(p, 62000);
	ck_assert_int_eq(pick(p, used, 80), -EADDRNOTAVAIL);
	free(used);
}
END_TEST

static bool is_kernels(struct ports_in_use *u, const struct flow_key *key)
{
	struct used *used = (struct used *)u;
	used->port[key->lport] = used->kernels;
	return used->kernels && used->kernels--;
}

/*
 * The first connections ask about their own 4-tuples, and a port of the kernel's to another destination is good for
 * them; then whole ports count.
 */
START_TEST(the_first_ask_for_themselves)
{
	struct used *used = used_new();
	uint16_t picked[3];
	int end;
	used->u.is_kernels = is_kernels;
	used->kernels = 2;
	for (int i = 0; i < 3; i++) {
		picked[i] = pick(p, used, 80);
		ck_assert(!used->port[picked[i]]);
	}
	ck_assert_uint_eq(used->kernels, 0);
	sh("ip link set lo up");
	kernel_connection(picked[0], &end);
	for (int i = 0; i < 64; i++) {
		int port = pick(p, used, 80);
		ck_assert_int_gt(port, 0);
		ck_assert_int_ne(port, picked[0]); /* in all of the block */
		used->port[port] = true;
	}
	ck_assert_uint_eq(ports_leased(p), 128);
	free(used);
}
END_TEST

/* The peer may have half of a connection there: its answer to another SYN would be a reset. */
START_TEST(a_port_that_was_given_up_rests)
{
	struct used *used = used_new();
	pick_all(used, 32768, 60999);
	used->port[62000] = false;
	ports_given_up(p, 62000);
	for (later_s = 0; later_s <= 1; later_s++)
		ck_assert_int_eq(pick(p, used, 80), -EADDRNOTAVAIL);
	later_s = 6;
	ck_assert_int_eq(pick(p, used, 80), 62000);
	free(used);
}
END_TEST

START_TEST(the_kernels_range_is_read)
{
	struct used *used = used_new();
	sh("echo 1100 64999 > /proc/sys/net/ipv4/ip_local_port_range");
	ck_assert_uint_eq(pick_all(used, 1100, 64999), 65536 - 65000 + 76);
	free(used);
}
END_TEST

START_TEST(the_kernel_has_everything)
{
	struct used *used = used_new();
	sh("echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range");
	ck_assert_int_eq(pick(p, used, 80), -EADDRNOTAVAIL);
	ck_assert_int_eq(pick(p, used, 80), -EADDRNOTAVAIL);
	ck_assert_uint_eq(ports_leased(p), 0);
	free(used);
}
END_TEST

/* The same destination from one process again and again: ports differ (RFC 6056 §3.3.4), and
   another destination's counter does not follow. */
START_TEST(ports_advance)
{
	struct used *used = used_new();
	int first = pick(p, used, 80), second = pick(p, used, 80);
	ck_assert_int_ne(first, second);
	free(used);
}
END_TEST

#define CHILDREN 24

struct child {
	pid_t pid;
	int port;
};

/* Children that lease at the same time and hold what they got until killed. */
static void start_children(struct child *c, int n)
{
	int go[2], result[2];
	char byte;
	ck_assert_int_eq(pipe(go), 0);
	ck_assert_int_eq(pipe(result), 0);
	for (int i = 0; i < n; i++) {
		c[i].pid = fork();
		if (c[i].pid == 0) {
			struct child got = {.pid = getpid()};
			struct ports *own;
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(go[1]);
			ssize_t eof = read(go[0], &byte, 1);
			got.port = eof || ports_open(&own, secret) ? -1 : pick(own, used_new(), 80);
			_exit(write(result[1], &got, sizeof got) == sizeof got ? pause() : 1);
		}
	}
	close(go[0]);
	close(go[1]); /* all start now */
	for (int i = 0; i < n; i++)
		ck_assert_int_eq(read(result[0], &c[i], sizeof c[i]), sizeof c[i]);
	close(result[0]);
	close(result[1]);
}

static void stop_children(struct child *c, int n)
{
	for (int i = 0; i < n; i++)
		kill(c[i].pid, SIGKILL);
	for (int i = 0; i < n; i++)
		waitpid(c[i].pid, NULL, 0);
}

START_TEST(two_processes_never_share_a_block)
{
	struct child c[CHILDREN];
	start_children(c, CHILDREN);
	for (int i = 0; i < CHILDREN; i++) {
		ck_assert_int_ge(c[i].port, 61000);
		for (int j = 0; j < i; j++)
			ck_assert_int_ne(c[i].port / 64, c[j].port / 64);
	}
	stop_children(c, CHILDREN);
}
END_TEST

START_TEST(death_releases)
{
	struct used *used = used_new();
	struct child c;
	start_children(&c, 1);
	unsigned block = c.port / 64, all = UPPER_PORTS + 32768 - 1024, without = 64;
	if (block == 61000 / 64)
		without -= 61000 % 64;
	ck_assert_uint_eq(pick_all(used, 32768, 60999), all - without);
	ck_assert(!used->port[c.port]);
	stop_children(&c, 1); /* SIGKILL */
	ports_close(p);
	memset(used->port, 0, sizeof used->port);
	ck_assert_int_eq(ports_open(&p, secret), 0);
	ck_assert_uint_eq(pick_all(used, 32768, 60999), all);
	free(used);
}
END_TEST

/* A process that comes after another one does not get its block while there are others. */
START_TEST(released_blocks_are_reused_last)
{
	struct used *used = used_new();
	bool seen[65536 / 64] = {false};
	for (int i = 0; i < 71; i++) {
		int port = pick(p, used, 80);
		ck_assert_int_ge(port, 61000);
		ck_assert_msg(!seen[port / 64], "block of port %d again after %d leases", port, i);
		seen[port / 64] = true;
		ports_close(p);
		ck_assert_int_eq(ports_open(&p, secret), 0);
	}
	ck_assert(seen[pick(p, used, 80) / 64]);
	free(used);
}
END_TEST

START_TEST(a_child_leaves_the_leases_to_the_parent)
{
	struct used *used = used_new();
	int port = pick(p, used, 80), status;
	pid_t pid = fork();
	if (pid == 0) {
		ports_forget(p);
		_exit(ports_open(&p, secret) == 0 && pick(p, used_new(), 80) / 64 != port / 64 ? 0
											       : 1);
	}
	waitpid(pid, &status, 0);
	ck_assert_int_eq(status, 0);
	free(used);
}
END_TEST

/* ---- the secret ---- */

static void setup_secret(void)
{
	ck_assert(netns_enter());
	ck_assert(private_run());
}

START_TEST(secret_is_made_once)
{
	uint8_t a[64], b[64], zero[64] = {0};
	struct stat st;
	ck_assert_int_eq(host_secret(a), 0);
	ck_assert_int_eq(host_secret(b), 0);
	ck_assert_mem_eq(a, b, 64);
	ck_assert_mem_ne(a, zero, 64);
	ck_assert_int_eq(stat("/run/finesse/secret", &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(st.st_size, 64);
	ck_assert_int_eq(system("test $(ls -A /run/finesse | wc -l) = 1"), 0);
}
END_TEST

START_TEST(secret_of_a_race_is_one)
{
	int go[2], result[2];
	uint8_t first[65], other[65];
	char byte;
	ck_assert_int_eq(pipe(go), 0);
	ck_assert_int_eq(pipe(result), 0);
	for (int i = 0; i < CHILDREN; i++)
		if (fork() == 0) {
			close(go[1]);
			ssize_t eof = read(go[0], &byte, 1);
			first[64] = eof || host_secret(first) != 0;
			_exit(write(result[1], first, sizeof first) != sizeof first);
		}
	close(go[1]);
	for (int i = 0; i < CHILDREN; i++) {
		uint8_t *to = i ? other : first;
		ck_assert_int_eq(read(result[0], to, sizeof first), sizeof first);
		ck_assert_mem_eq(to, first, sizeof first);
	}
	ck_assert_uint_eq(first[64], 0);
	while (wait(NULL) > 0)
		;
}
END_TEST

START_TEST(secret_that_others_can_read_is_refused)
{
	uint8_t a[64], b[64];
	ck_assert_int_eq(host_secret(a), 0);
	ck_assert_int_eq(chmod("/run/finesse/secret", 0644), 0);
	ck_assert_int_eq(host_secret(b), 1);
	ck_assert_mem_ne(a, b, 64);
}
END_TEST

START_TEST(secret_that_is_short_is_refused)
{
	uint8_t a[64], b[64];
	ck_assert_int_eq(host_secret(a), 0);
	ck_assert_int_eq(truncate("/run/finesse/secret", 63), 0);
	ck_assert_int_eq(host_secret(b), 1);
}
END_TEST

START_TEST(secret_without_a_place_is_random)
{
	uint8_t a[64], b[64];
	ck_assert_int_eq(host_secret_in("/run/no/such/directory", a), 1);
	ck_assert_int_eq(host_secret_in("/run/no/such/directory", b), 1);
	ck_assert_mem_ne(a, b, 64);
	ck_assert_int_eq(mkdir("/run/finesse", 0755), 0);
	ck_assert_int_eq(chmod("/run/finesse", 0777), 0); /* anybody may have put it there */
	ck_assert_int_eq(host_secret(a), 1);
}
END_TEST

int main(void)
{
	skip_without_netns();
	Suite *suite = suite_create("ports");
	TCase *ports = tcase_create("ports"), *sec = tcase_create("secret");
	tcase_add_checked_fixture(ports, setup, teardown);
	tcase_add_test(ports, starts_above_the_kernels_range);
	tcase_add_test(ports, every_port_to_one_destination);
	tcase_add_test(ports, picking_stays_cheap);
	tcase_add_test(ports, reserved_ports_are_kept);
	tcase_add_test(ports, ports_of_kernel_sockets_are_left_out);
	tcase_add_test(ports, the_first_ask_for_themselves);
	tcase_add_test(ports, a_port_that_was_given_up_rests);
	tcase_add_test(ports, the_kernels_range_is_read);
	tcase_add_test(ports, the_kernel_has_everything);
	tcase_add_test(ports, ports_advance);
	tcase_add_test(ports, two_processes_never_share_a_block);
	tcase_add_test(ports, death_releases);
	tcase_add_test(ports, released_blocks_are_reused_last);
	tcase_add_test(ports, a_child_leaves_the_leases_to_the_parent);
	tcase_set_timeout(ports, 30);
	tcase_add_checked_fixture(sec, setup_secret, NULL);
	tcase_add_test(sec, secret_is_made_once);
	tcase_add_test(sec, secret_of_a_race_is_one);
	tcase_add_test(sec, secret_that_others_can_read_is_refused);
	tcase_add_test(sec, secret_that_is_short_is_refused);
	tcase_add_test(sec, secret_without_a_place_is_random);
	suite_add_tcase(suite, ports);
	suite_add_tcase(suite, sec);
	return suite_main(suite);
}
