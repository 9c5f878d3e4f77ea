/*
 * Ephemeral ports of our client connections.
 *
 * Why leased: two processes with an engine each must never use the same 4-tuple, and share no
 * memory. The port space outside the kernel's own ephemeral range is cut into blocks of 64; a
 * process that wants a block binds the abstract AF_UNIX datagram name "finesse/ports/FIRST". The
 * kernel makes that exclusive per network namespace and releases it on any death, at exec and at
 * close.
 *
 * Owns one AF_UNIX socket per leased block. Leases are taken when the ports that are leased do not
 * have a free one for a 4-tuple, and kept until ports_close: a process that was busy once will be
 * busy again. Each time as many blocks are taken as there are, up to 16: what a lease costs, a dump
 * of the kernel's sockets and a search of all that is leased, would otherwise come every 64
 * connections in a program whose connections leave TIME-WAITs.
 *
 * Which block: from 61000 up first, then downwards from the kernel's range to 1024, so that ports
 * where services live come last; never a port of the kernel's range, nor one of
 * ip_local_reserved_ports. Among free blocks the one that was longest seen free: at each lease
 * every process stamps the blocks that it finds held, and its own, with the time since boot in a
 * small file (/run/finesse/ports), so that a released block is reused last and the peer's
 * TIME-WAITs on its ports have time to end. The file is a hint: the binding decides. Without it (no
 * permission) the order starts at a random block.
 *
 * A port on which the kernel itself has a connection, or the TIME-WAIT of one that was handed over to it, is left out:
 * its segments would be taken from it, and when this process dies it would answer our peers with ACKs of the old
 * connection. One inet_diag dump whenever leases are taken, and again after KERNELS_AGAIN_S while there are any. But
 * the dump walks the kernel's whole table, some 0.8 ms, and is what a short program would pay most for. So the first
 * SINGLES connections ask about their own 4-tuple alone, where that is all that counts, and the dump comes with the one
 * after.
 *
 * A port whose connection was given up before the peer answered is left out for a few seconds: the peer may have half
 * of a connection there, and says RST to another SYN within its window (RFC 9293 §3.10.7.4). A small lease whose other
 * ports are busy would come to it at once; the kernel, which has 28,000, hardly ever does.
 *
 * Which port: RFC 6056 §3.3.4 (double hash) over the leased ports in lease order.
 *
 * Limits: -EADDRNOTAVAIL when all 64-port blocks are leased by others or full for this 4-tuple;
 * ports_pick's caller lets the kernel connect then (it has its own range), and counts it. That is
 * also what happens where ip_local_port_range leaves no whole block free (1024 65535): the
 * alternative, a pool of ports held by bind(0), would hold an fd per port. Two families share the
 * port space: a port is judged per 4-tuple, addresses included.
 */
#include "kernel/ports.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/abstract.h"
#include "base/time.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/siphash.h"
#include "base/quiet.h"
#include "base/sys.h"
#include "kernel/diag.h"

#define BLOCK_PORTS 64u
#define BLOCKS      (65536u / BLOCK_PORTS)
#define BLOCK_FLOOR (1024u / BLOCK_PORTS) /* below: privileged */
#define BLOCK_UPPER                                                                                \
	(61000u / BLOCK_PORTS) /* the first that has a port above Linux's default range */
#define LOWER_UNIT  16u        /* blocks leased as one below BLOCK_UPPER */
#define UNITS_MAX   (BLOCKS - BLOCK_UPPER > BLOCK_UPPER / LOWER_UNIT ? BLOCKS - BLOCK_UPPER : BLOCK_UPPER / LOWER_UNIT) /* of a tier */
#define TABLE_SIZE  64u        /* RFC 6056 §3.3.4: TABLE_LENGTH, "10 or more" */
#define STAMPS_PATH "/run/finesse/ports"
#define SINGLES     3u
#define KERNELS_AGAIN_S 60 /* Linux's TIME-WAIT */
#define GIVEN_UP_S      2  /* at least, and twice that at most: the peer's first SYN+ACK, or its second, finds nobody and ends what it has */

struct lease {
	uint16_t block;
	int fd;           /* -1: an earlier block's covers it */
	uint64_t kernels; /* a bit per port: the kernel has a socket there … */
	int64_t asked_s;  /* … or had, then */
	bool unasked;     /* what the kernel has there was not asked yet */
	uint64_t given_up[2]; /* … a connection was given up there, in this period or the one before */
	int64_t period_s;     /* … which began then */
};

struct ports {
	uint8_t secret[16];
	struct siphash_memo last_f, last_g;
	uint16_t table[TABLE_SIZE];
	struct lease *leases;
	unsigned n_leases;
	unsigned n_singles; /* connections that asked about their own 4-tuple */
	unsigned start; /* where the search for a free block begins among equals */
	bool exhausted; /* the last search found no block: asked again after a while only */
	int64_t exhausted_at_s;
	uint16_t range_low, range_high;
	/* A word per block, a bit per port: the kernel's own range, and reserved ports. */
	uint64_t unusable[BLOCKS];
	int64_t stamps[BLOCKS]; /* free_units: here, because the caller's thread may have little stack */
};

static int64_t boot_seconds(void)
{
	struct timespec ts;
	clock_get(CLOCK_BOOTTIME, &ts); /* the same for every process of the host; +1: 0 is never */
	return ts.tv_sec + 1;
}

/* ---- what the kernel keeps for itself ---- */

static ssize_t read_file(const char *path, char *out, size_t size)
{
	int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	size_t used = 0;
	ssize_t n = fd;
	if (fd < 0)
		return fd;
	while (used < size - 1 && (n = sys_read(fd, out + used, size - 1 - used)) > 0)
		used += n;
	sys_close(fd);
	out[used] = 0;
	return n < 0 ? n : (ssize_t)used;
}

static void mark(uint64_t *set, unsigned first, unsigned last)
{
	last = last <= 65535 ? last : 65535;
	for (unsigned n, port = first; port <= last; port += n) {
		bool whole = port % BLOCK_PORTS == 0 && last - port >= BLOCK_PORTS - 1;
		set[port / BLOCK_PORTS] |= whole ? UINT64_MAX : UINT64_C(1) << port % BLOCK_PORTS;
		n = whole ? BLOCK_PORTS : 1;
	}
}

void ports_kernels(uint16_t *first, uint16_t *last)
{
	char text[64];
	unsigned low, high;
	*first = 32768; /* Linux's default */
	*last = 60999;
	if (read_file("/proc/sys/net/ipv4/ip_local_port_range", text, sizeof text) > 0 &&
	    sscanf(text, "%u %u", &low, &high) == 2 && low <= high && high <= 65535) {
		*first = low;
		*last = high;
	}
}

static void read_range(struct ports *p)
{
	uint16_t low, high;
	ports_kernels(&low, &high);
	p->range_low = low;
	p->range_high = high;
	mark(p->unusable, p->range_low, p->range_high);
}

static void mark_reserved(uint64_t *set, const char *text)
{
	for (char *at = (char *)text; *at >= '0' && *at <= '9';) {
		unsigned long first = strtoul(at, &at, 10), last = first;
		if (*at == '-')
			last = strtoul(at + 1, &at, 10);
		mark(set, first, last);
		if (*at == ',')
			at++;
	}
}

#define RESERVED_PATH "/proc/sys/net/ipv4/ip_local_reserved_ports"

/* "8080,9000-9010". Mostly few: for a large buffer the kernel clears as much memory. */
int ports_reserved(uint64_t *set)
{
	const size_t size = 512 * 1024; /* every port, one by one, is 382 KB */
	char few[1024], *text;
	ssize_t n = read_file(RESERVED_PATH, few, sizeof few);
	if (n < (ssize_t)sizeof few - 1) {
		mark_reserved(set, n > 0 ? few : "");
		return 0;
	}
	text = malloc(size);
	if (!text)
		return -ENOMEM;
	if (read_file(RESERVED_PATH, text, size) > 0)
		mark_reserved(set, text);
	free(text);
	return 0;
}

static bool is_usable(const struct ports *p, unsigned port)
{
	return !(p->unusable[port / BLOCK_PORTS] >> port % BLOCK_PORTS & 1);
}

/* ---- leases ---- */

static unsigned unit_blocks(int tier)
{
	return tier ? LOWER_UNIT : 1;
}

/*
 * What is leased as one, by preference; its first block. Tier 0 from 61000 up, in rotation, block
 * by block; tier 1 from there down to the floor, in units of LOWER_UNIT blocks (an fd each: few).
 * -1 past the last.
 */
static int unit_at(const struct ports *p, int tier, unsigned i)
{
	const unsigned n_upper = BLOCKS - BLOCK_UPPER;
	const unsigned n_lower = BLOCK_UPPER / LOWER_UNIT - BLOCK_FLOOR / LOWER_UNIT;
	if (i >= (tier ? n_lower : n_upper))
		return -1;
	return tier ? (BLOCK_UPPER / LOWER_UNIT - 1 - i) * LOWER_UNIT
		    : BLOCK_UPPER + (i + p->start) % n_upper;
}

static bool has_usable(const struct ports *p, unsigned block, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (p->unusable[block + i] != UINT64_MAX)
			return true;
	return false;
}

static socklen_t block_name(struct sockaddr_un *un, unsigned block)
{
	return abstract_name(un, "finesse/ports/%u", block * BLOCK_PORTS);
}

struct mark {
	struct diag_visit visit;
	struct lease *leases;
	unsigned n;
};

static void mark_kernels(struct diag_visit *v, const struct diag_socket *s)
{
	struct mark *m = container_of(v, struct mark, visit);
	for (unsigned i = 0; i < m->n; i++)
		if (m->leases[i].block == s->key.lport / BLOCK_PORTS)
			m->leases[i].kernels |= UINT64_C(1) << s->key.lport % BLOCK_PORTS;
}

/* Without an answer nothing is marked: as if the kernel had nothing there. */
static void ask_kernels(struct lease *leases, unsigned n, int64_t now_s)
{
	struct mark m = {.visit.socket = mark_kernels, .leases = leases, .n = n};
	unsigned first = BLOCKS, last = 0;
	for (unsigned i = 0; i < n; i++) {
		leases[i].kernels = 0;
		leases[i].asked_s = now_s;
		leases[i].unasked = false;
		first = leases[i].block < first ? leases[i].block : first;
		last = leases[i].block > last ? leases[i].block : last;
	}
	int ret = diag_dump_ports(first * BLOCK_PORTS, (last + 1) * BLOCK_PORTS - 1, &m.visit);
	if (ret < 0)
		log_info("ports", "which ports the kernel has is not known (errno %d)", -ret);
}

static int take_unit(struct ports *p, unsigned block, unsigned n)
{
	struct sockaddr_un un;
	struct lease *leases = realloc(p->leases, (p->n_leases + n) * sizeof *leases);
	if (!leases)
		return -ENOMEM;
	p->leases = leases;
	int fd = sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	int ret = sys_bind(fd, &un, block_name(&un, block));
	if (ret < 0) {
		sys_close(fd);
		return ret;
	}
	fd = fd_move_high(fd);
	if (fd < 0)
		return fd;
	for (unsigned i = 0; i < n; i++)
		leases[p->n_leases + i] = (struct lease){.block = block + i, .fd = i ? -1 : fd, .unasked = true};
	p->n_leases += n;
	return 0;
}

/* Does somebody hold it? A datagram connect to a name that nobody bound is refused. */
static bool is_held(int probe_fd, unsigned block)
{
	struct sockaddr_un un;
	return sys_connect(probe_fd, &un, block_name(&un, block)) != -ECONNREFUSED;
}

static void load_stamps(int fd, int64_t stamps[BLOCKS])
{
	memset(stamps, 0, BLOCKS * sizeof *stamps);
	if (fd >= 0)
		sys_call(SYS_pread64, fd, stamps, BLOCKS * sizeof *stamps, 0, 0, 0);
}

static void store_stamp(int fd, unsigned block, int64_t stamp)
{
	if (fd >= 0)
		pwrite_quietly(fd, &stamp, sizeof stamp, (off_t)(block * sizeof stamp));
}

struct unit {
	int64_t stamp;
	uint16_t block;
};

/* The free units of a tier, by preference. */
static unsigned free_units(struct ports *p, int tier, int probe_fd, int stamps_fd, int64_t now_s, struct unit out[UNITS_MAX])
{
	unsigned n = 0;
	int block;
	load_stamps(stamps_fd, p->stamps);
	for (unsigned i = 0; (block = unit_at(p, tier, i)) >= 0; i++) {
		if (!has_usable(p, block, unit_blocks(tier)))
			continue;
		if (!is_held(probe_fd, block))
			out[n++] = (struct unit){.stamp = p->stamps[block], .block = block};
		else if (p->stamps[block] != now_s)
			store_stamp(stamps_fd, block, now_s);
	}
	return n;
}

/* Removes the unit that was seen held longest ago. */
static struct unit take_oldest(struct unit *units, unsigned n)
{
	unsigned best = 0;
	for (unsigned i = 1; i < n; i++)
		if (units[i].stamp < units[best].stamp)
			best = i;
	struct unit unit = units[best];
	memmove(units + best, units + best + 1, (n - best - 1) * sizeof *units);
	return unit;
}

static unsigned wanted_units(const struct ports *p, int tier)
{
	if (tier || !p->n_leases)
		return 1;
	return p->n_leases < LOWER_UNIT ? p->n_leases : LOWER_UNIT;
}

/* Leases units of the best tier that has free ones. 0 or -EADDRNOTAVAIL. */
static int take_best(struct ports *p, int probe_fd, int stamps_fd, int64_t now_s)
{
	struct unit units[UNITS_MAX];
	unsigned had = p->n_leases;
	for (int tier = 0; tier < 2; tier++) {
		unsigned want = wanted_units(p, tier);
		for (unsigned n = free_units(p, tier, probe_fd, stamps_fd, now_s, units); n && want; n--) {
			unsigned block = take_oldest(units, n).block;
			int ret = take_unit(p, block, unit_blocks(tier));
			if (ret == -EADDRINUSE) /* another process was faster */
				continue;
			if (ret < 0 && p->n_leases == had)
				return ret;
			if (ret < 0)
				break;
			store_stamp(stamps_fd, block, now_s);
			want--;
		}
		if (p->n_leases > had)
			return 0;
	}
	return -EADDRNOTAVAIL;
}

static int lease_more(struct ports *p)
{
	int64_t now_s = boot_seconds();
	if (p->exhausted && now_s == p->exhausted_at_s)
		return -EADDRNOTAVAIL;
	memset(p->unusable, 0, sizeof p->unusable);
	read_range(p);
	int ret = ports_reserved(p->unusable);
	if (ret < 0)
		return ret;
	int probe_fd = sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (probe_fd < 0)
		return probe_fd;
	int stamps_fd =
	    sys_openat(AT_FDCWD, STAMPS_PATH, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	ret = take_best(p, probe_fd, stamps_fd, now_s);
	p->exhausted = ret == -EADDRNOTAVAIL;
	p->exhausted_at_s = now_s;
	if (p->exhausted)
		log_info("ports", "no block of ports is free beside ip_local_port_range %u-%u",
			 p->range_low, p->range_high);
	if (stamps_fd >= 0)
		sys_close(stamps_fd);
	sys_close(probe_fd);
	return ret;
}

/* ---- the object ---- */

int ports_open(struct ports **out, const uint8_t secret[16])
{
	struct ports *p = calloc(1, sizeof *p);
	if (!p)
		return -ENOMEM;
	memcpy(p->secret, secret, sizeof p->secret);
	sys_call(SYS_getrandom, p->table, sizeof p->table, 0, 0, 0,
		 0); /* RFC 6056 §3.3.4: random at start */
	sys_call(SYS_getrandom, &p->start, sizeof p->start, 0, 0, 0, 0);
	*out = p;
	return 0;
}

void ports_close(struct ports *p)
{
	if (!p)
		return;
	for (unsigned i = 0; i < p->n_leases; i++)
		fd_close(p->leases[i].fd);
	free(p->leases);
	free(p);
}

/* A name stays bound as long as any copy of its socket lives: the parent's copies hold it. */
void ports_forget(struct ports *p)
{
	ports_close(p);
}

bool ports_has(const struct ports *p, uint16_t lport)
{
	for (unsigned i = 0; i < p->n_leases; i++)
		if (p->leases[i].block == lport / BLOCK_PORTS)
			return true;
	return false;
}

void ports_handed_over(struct ports *p, uint16_t lport)
{
	for (unsigned i = 0; i < p->n_leases; i++) {
		struct lease *l = &p->leases[i];
		if (l->block != lport / BLOCK_PORTS)
			continue;
		l->kernels |= UINT64_C(1) << lport % BLOCK_PORTS;
		l->asked_s = boot_seconds();
	}
}

/* The periods of GIVEN_UP_S go on. */
static void age_given_up(struct lease *l, int64_t now_s)
{
	int64_t age = now_s - l->period_s;
	if (age <= GIVEN_UP_S)
		return;
	l->given_up[1] = age <= 2 * GIVEN_UP_S ? l->given_up[0] : 0;
	l->given_up[0] = 0;
	l->period_s = now_s;
}

void ports_given_up(struct ports *p, uint16_t lport)
{
	for (unsigned i = 0; i < p->n_leases; i++) {
		struct lease *l = &p->leases[i];
		if (l->block != lport / BLOCK_PORTS)
			continue;
		age_given_up(l, boot_seconds());
		l->given_up[0] |= UINT64_C(1) << lport % BLOCK_PORTS;
	}
}

static bool is_given_up(struct lease *l, unsigned bit)
{
	if (!(l->given_up[0] | l->given_up[1]))
		return false;
	age_given_up(l, boot_seconds());
	return (l->given_up[0] | l->given_up[1]) >> bit & 1;
}

unsigned ports_leased(const struct ports *p)
{
	return p->n_leases * BLOCK_PORTS;
}

/* ---- picking ---- */

struct pick {
	struct flow_key *key;
	struct ports_in_use *use;
	uint32_t offset;
	uint16_t *index; /* table[G()] */
};

static void start_pick(struct ports *p, struct pick *k)
{
	struct {
		uint8_t label, addrs[32], rport[2];
	} in;
	_Static_assert(sizeof in == 35, "no padding in what is hashed");
	memcpy(in.addrs, k->key->laddr.b, 16);
	memcpy(in.addrs + 16, k->key->raddr.b, 16);
	memcpy(in.rport, &k->key->rport, 2);
	in.label = 'F'; /* F and G are two functions of the 3-tuple: one keyed hash, two labels */
	k->offset = siphash24_again(&p->last_f, &in, sizeof in, p->secret);
	in.label = 'G';
	k->index = &p->table[siphash24_again(&p->last_g, &in, sizeof in, p->secret) % TABLE_SIZE];
}

static bool is_kernels(struct lease *l, unsigned bit)
{
	int64_t now_s;
	if (!l->kernels)
		return false;
	if ((now_s = boot_seconds()) - l->asked_s > KERNELS_AGAIN_S)
		ask_kernels(l, 1, now_s);
	return l->kernels >> bit & 1;
}

/* What was not asked about yet is, unless this connection may ask for itself alone. */
static void ask_of_new(struct ports *p, const struct ports_in_use *u)
{
	unsigned first = p->n_leases;
	while (first && p->leases[first - 1].unasked)
		first--;
	if (first < p->n_leases && (!u->is_kernels || p->n_singles >= SINGLES))
		ask_kernels(p->leases + first, p->n_leases - first, boot_seconds());
}

/* This connection's own question. */
static bool is_kernels_flow(struct lease *l, struct pick *k, unsigned bit)
{
	if (!l->unasked || !k->use->is_kernels(k->use, k->key))
		return false;
	l->kernels |= UINT64_C(1) << bit;
	l->asked_s = boot_seconds();
	return true;
}

/* The `at`-th leased port. */
static bool try_port(struct ports *p, struct pick *k, unsigned at)
{
	struct lease *l = &p->leases[at / BLOCK_PORTS];
	unsigned port = l->block * BLOCK_PORTS + at % BLOCK_PORTS;
	k->key->lport = port;
	return is_usable(p, port) && !is_kernels(l, at % BLOCK_PORTS) && !is_given_up(l, at % BLOCK_PORTS) && !k->use->in_use(k->use, k->key) &&
	       !is_kernels_flow(l, k, at % BLOCK_PORTS);
}

/* RFC 6056 §3.3.4's loop over the leased ports. */
static int try_leased(struct ports *p, struct pick *k)
{
	unsigned n = p->n_leases * BLOCK_PORTS;
	uint64_t start = (uint64_t)k->offset + *k->index;
	for (unsigned i = 0; i < n; i++) {
		++*k->index;
		if (try_port(p, k, (start + i) % n))
			return 0;
	}
	return -EADDRNOTAVAIL;
}

/*
 * What was leased last has a free port, unless it is reserved or the kernel's as a whole. The next search for this
 * destination goes on behind it, not at the start of the blocks that are full.
 */
static int try_newest(struct ports *p, struct pick *k, unsigned had)
{
	unsigned all = p->n_leases * BLOCK_PORTS, old = had * BLOCK_PORTS, n = all - old;
	for (unsigned i = 0; i < n; i++) {
		unsigned at = old + (k->offset + i) % n;
		if (!try_port(p, k, at))
			continue;
		*k->index = (at + 1 + all - k->offset % all) % all;
		return 0;
	}
	return -EADDRNOTAVAIL;
}

int ports_pick(struct ports *p, struct flow_key *key, struct ports_in_use *u)
{
	struct pick k = {.key = key, .use = u};
	start_pick(p, &k);
	ask_of_new(p, u);
	int ret = try_leased(p, &k);
	while (ret == -EADDRNOTAVAIL) {
		unsigned had = p->n_leases;
		int more = lease_more(p);
		if (more < 0)
			return more;
		ask_of_new(p, u);
		ret = try_newest(p, &k, had);
	}
	p->n_singles += p->n_singles < SINGLES;
	return ret;
}
