/*
 * The judge's maps, its filter program, and the reader of its ring. judge.h says what it is for, judge_prog.c has the
 * filter.
 *
 * Owns: the map of what was asked, an array of rings of which this process's is mapped, and the loaded program.
 *
 * The ring is BPF's ring buffer: a page that the reader writes (how far it has read), a page that the kernel writes
 * (how far it is), then the data, mapped twice in a row so that no record is ever split. A record's header has its
 * length and says while it is being written. The kernel wakes who polls when it writes a record at the place up to
 * which we say that we have read. That costs an interrupt, and is for nothing while the reader is awake. So the reader
 * says how far it is only before it sleeps, and when much is read.
 *
 * Limits: ASKED_MAX questions in flight; the oldest goes first, and its SYN is the kernel's. RING_BYTES of records that
 * nobody has read yet; what does not fit is lost as in a full queue. A question whose SYN the host drops stays until it
 * is the oldest.
 */
#include "kernel/judge_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "kernel/bpf_sys.h"
#include "kernel/classifier_group.h"

#define ASKED_MAX          16384
#define GROUP_ASKED_MAX    8192
#define RING_BYTES         (256 * 1024) /* some 2,000 SYNs: a power of two, and of whole pages */
#define UNSETTLED_MAX      (RING_BYTES / 4)
#define RECORD_HDR_BYTES   8
#define RECORD_BUSY        0x80000000u /* BPF_RINGBUF_BUSY_BIT */
#define RECORD_DISCARDED   0x40000000u /* BPF_RINGBUF_DISCARD_BIT */
#define VERIFIER_LOG_BYTES 65536

struct judge {
	struct judge_shared shared; /* shared with nobody: slot 0 is ours */
	int ring_fd;
	uint64_t *consumer;       /* mapped: how far we have read */
	const uint8_t *producer;  /* mapped: how far the kernel is, and behind a page the data */
	uint64_t at;              /* *consumer follows: judge_settle */
	uint64_t next;            /* where it goes when the segment is done */
};

static size_t page_bytes(void)
{
	return sysconf(_SC_PAGESIZE);
}

int judge_asked_map_like(void)
{
	return fd_move_high(bpf_map_create("fin_asked", BPF_MAP_TYPE_LRU_HASH, sizeof(struct classifier_flow),
					   sizeof(struct judge_asked), 1, 0));
}

static int map_ring(struct judge *j)
{
	void *p = sys_mmap(NULL, page_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, j->ring_fd, 0);
	if (sys_is_error(p))
		return (int)(intptr_t)p;
	j->consumer = p;
	p = sys_mmap(NULL, page_bytes() + 2 * RING_BYTES, PROT_READ, MAP_SHARED, j->ring_fd, page_bytes());
	if (sys_is_error(p))
		return (int)(intptr_t)p;
	j->producer = p;
	j->at = __atomic_load_n(j->consumer, __ATOMIC_RELAXED);
	return 0;
}

static int load_filter(const struct judge_maps *maps)
{
	struct bpf_asm *a = malloc(sizeof *a); /* too large for a thread's small stack */
	char *log = log_enabled(LOG_LEVEL_DEBUG, "judge") ? malloc(VERIFIER_LOG_BYTES) : NULL;
	int ret = a ? judge_assemble(a, maps) : -ENOMEM;
	if (ret > 0)
		ret = bpf_prog_load("finesse_judge", BPF_PROG_TYPE_SOCKET_FILTER, a->insns, ret, log, VERIFIER_LOG_BYTES);
	if (ret < 0 && log)
		log_debug("judge", "%s", log);
	free(log);
	free(a);
	return fd_move_high(ret);
}

static int open_shared(struct judge_shared *s, int ring_fd, uint32_t asked_max)
{
	s->asked_fd = fd_move_high(bpf_map_create("fin_asked", BPF_MAP_TYPE_LRU_HASH, sizeof(struct classifier_flow),
						  sizeof(struct judge_asked), asked_max, 0));
	if (s->asked_fd < 0)
		return s->asked_fd;
	s->rings_fd = fd_move_high(bpf_map_create_array_of_maps("fin_rings", CLASSIFIER_GROUP_SLOTS, ring_fd));
	if (s->rings_fd < 0)
		return s->rings_fd;
	const struct judge_maps maps = {.asked = s->asked_fd, .rings = s->rings_fd};
	s->prog_fd = load_filter(&maps);
	return s->prog_fd < 0 ? s->prog_fd : 0;
}

static int open_maps(struct judge *j)
{
	j->ring_fd = fd_move_high(bpf_map_create("fin_judged", BPF_MAP_TYPE_RINGBUF, 0, 0, RING_BYTES, 0));
	if (j->ring_fd < 0)
		return j->ring_fd;
	int err = open_shared(&j->shared, j->ring_fd, ASKED_MAX);
	return err ? err : judge_shared_join(&j->shared, j, 0);
}

static struct judge *judge_new(void)
{
	struct judge *j = calloc(1, sizeof *j);
	if (j)
		*j = (struct judge){.shared = {.asked_fd = -1, .rings_fd = -1, .prog_fd = -1}, .ring_fd = -1};
	return j;
}

int judge_open(struct judge **out, char *why, size_t why_len)
{
	struct judge *j = judge_new();
	int err = j ? open_maps(j) : -ENOMEM;
	if (!err)
		err = map_ring(j);
	if (err) {
		snprintf(why, why_len, "firewall: the host's rules cannot judge our connections: %s%s", strerrordesc_np(-err),
			 err == -EPERM ? " (CAP_BPF is missing)" : "");
		judge_close(j);
		return err;
	}
	*out = j;
	return 0;
}

void judge_close(struct judge *j)
{
	if (!j)
		return;
	if (j->consumer)
		sys_munmap(j->consumer, page_bytes());
	if (j->producer)
		sys_munmap((void *)j->producer, page_bytes() + 2 * RING_BYTES);
	judge_shared_close(&j->shared);
	fd_close(j->ring_fd);
	free(j);
}

int judge_attach(const struct judge *j, int listening_fd)
{
	return judge_shared_attach(&j->shared, listening_fd);
}

int judge_asked_map(const struct judge *j)
{
	return j->shared.asked_fd;
}

int judge_poll_fd(const struct judge *j)
{
	return j->ring_fd;
}

/* ---- what a group shares ---- */

int judge_shared_open(struct judge_shared *out)
{
	int like = fd_move_high(bpf_map_create("fin_judged", BPF_MAP_TYPE_RINGBUF, 0, 0, page_bytes(), 0)), err = like < 0 ? like : 0;
	*out = (struct judge_shared){.asked_fd = -1, .rings_fd = -1, .prog_fd = -1};
	if (!err)
		err = open_shared(out, like, GROUP_ASKED_MAX);
	fd_close(like);
	if (err)
		judge_shared_close(out);
	return err;
}

void judge_shared_close(struct judge_shared *s)
{
	fd_close(s->asked_fd);
	fd_close(s->rings_fd);
	fd_close(s->prog_fd);
	*s = (struct judge_shared){.asked_fd = -1, .rings_fd = -1, .prog_fd = -1};
}

int judge_shared_join(const struct judge_shared *s, const struct judge *j, unsigned slot)
{
	uint32_t at = slot;
	return bpf_map_update(s->rings_fd, &at, &j->ring_fd);
}

int judge_shared_attach(const struct judge_shared *s, int listening_fd)
{
	return sys_setsockopt(listening_fd, SOL_SOCKET, SO_ATTACH_BPF, &s->prog_fd, sizeof s->prog_fd);
}

/* ---- the ring ---- */

static uint64_t produced(const struct judge *j)
{
	return __atomic_load_n((const uint64_t *)(const void *)j->producer, __ATOMIC_ACQUIRE);
}

static const uint8_t *record_at(const struct judge *j, uint64_t at)
{
	return j->producer + page_bytes() + (at & (RING_BYTES - 1));
}

bool judge_pending(const struct judge *j)
{
	return j->at < produced(j);
}

static void read_record(const struct judge_record *r, struct judged_segment *out)
{
	*out = (struct judged_segment){
		.key = classifier_flow_key(&r->flow),
		.ifindex = r->ifindex,
		.src_mac = r->src_mac,
		.ttl = r->ttl,
		.tos = r->tos,
		.tcp = r->tcp,
		.tcp_len = r->tcp_len,
	};
}

bool judge_next(struct judge *j, struct judged_segment *out)
{
	while (j->at < produced(j)) {
		const uint8_t *header = record_at(j, j->at);
		uint32_t len = __atomic_load_n((const uint32_t *)(const void *)header, __ATOMIC_ACQUIRE);
		if (len & RECORD_BUSY)
			return false; /* the kernel wakes us again */
		j->next = j->at + ((RECORD_HDR_BYTES + (len & ~RECORD_DISCARDED) + 7) & ~7ull);
		if (!(len & RECORD_DISCARDED) && len == sizeof(struct judge_record)) {
			read_record((const void *)(header + RECORD_HDR_BYTES), out);
			return true;
		}
		judge_done(j);
	}
	return false;
}

void judge_done(struct judge *j)
{
	j->at = j->next;
	if (j->at - *j->consumer >= UNSETTLED_MAX)
		judge_settle(j);
}

/*
 * A record that is written from now on wakes the poll that follows; one that was written before lets it return at once.
 */
void judge_settle(struct judge *j)
{
	if (*j->consumer != j->at)
		__atomic_store_n(j->consumer, j->at, __ATOMIC_SEQ_CST);
}
