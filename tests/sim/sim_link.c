/* The link: bytes in flight, ordered by arrival, in a heap. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define IP_HDR_BYTES  20
#define GLUE_MAX      65535 /* bytes, as GRO's */

struct sim_packet {
	int64_t at;
	uint64_t order; /* ties arrive in the order of sending */
	int to;
	uint16_t icmp_mss; /* not 0: ICMP about the segment in `bytes`, back to who sent it */
	uint16_t checksum;
	uint32_t len;
	uint8_t bytes[];
};

static bool is_earlier(const struct sim_packet *a, const struct sim_packet *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void heap_push(struct sim *sim, struct sim_packet *p)
{
	if (sim->heap_len == sim->heap_cap) {
		sim->heap_cap = sim->heap_cap ? 2 * sim->heap_cap : 64;
		sim->heap = realloc(sim->heap, sim->heap_cap * sizeof *sim->heap);
	}
	int i = sim->heap_len++;
	while (i > 0 && is_earlier(p, sim->heap[(i - 1) / 2])) {
		sim->heap[i] = sim->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	sim->heap[i] = p;
}

static struct sim_packet *heap_pop(struct sim *sim)
{
	struct sim_packet *top = sim->heap[0], *last = sim->heap[--sim->heap_len];
	int i = 0;
	for (;;) {
		int child = 2 * i + 1;
		if (child >= sim->heap_len)
			break;
		if (child + 1 < sim->heap_len && is_earlier(sim->heap[child + 1], sim->heap[child]))
			child++;
		if (!is_earlier(sim->heap[child], last))
			break;
		sim->heap[i] = sim->heap[child];
		i = child;
	}
	sim->heap[i] = last;
	return top;
}

/* RFC 1071, enough to find one flipped bit. */
static uint16_t checksum(const uint8_t *bytes, uint32_t len)
{
	uint32_t sum = 0;
	for (uint32_t i = 0; i < len; i++)
		sum += (i & 1) ? bytes[i] : (uint32_t)bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static void trace(struct sim *sim, const char *fate, int from, const struct tcp_segment *seg)
{
	const uint64_t prime = 0x100000001b3; /* FNV-1a */
	uint64_t words[] = {(uint64_t)sim->now, (uint64_t)fate[0], (uint64_t)from, seg->seq, seg->ack,
			    seg->flags, seg->window, seg->payload_len, seg->ts_val, seg->n_sack};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		sim->trace_hash = (sim->trace_hash ^ words[i]) * prime;
	if (!sim->trace)
		return;
	fprintf(stderr, "%12.6f %c %-6s %c%c%c%c%c seq %u ack %u win %u len %u ts %u/%u", sim->now / 1e6,
		from ? '<' : '>', fate, seg->flags & SEG_SYN ? 'S' : '-', seg->flags & SEG_FIN ? 'F' : '-',
		seg->flags & SEG_RST ? 'R' : '-', seg->flags & SEG_PSH ? 'P' : '-',
		seg->flags & SEG_ACK ? 'A' : '-', seg->seq, seg->ack, seg->window, seg->payload_len,
		seg->ts_val, seg->ts_ecr);
	for (int i = 0; i < seg->n_sack; i++)
		fprintf(stderr, " sack %u-%u", seg->sack[i].left, seg->sack[i].right);
	fputc('\n', stderr);
}

static void copy_payload(uint8_t *out, const struct tcp_segment *seg, uint32_t off, uint32_t len)
{
	for (int i = 0; i < 2 && len; i++) {
		uint32_t piece = (uint32_t)seg->payload[i].iov_len;
		if (off >= piece) {
			off -= piece;
			continue;
		}
		uint32_t n = piece - off < len ? piece - off : len;
		memcpy(out, (const uint8_t *)seg->payload[i].iov_base + off, n);
		out += n;
		len -= n;
		off = 0;
	}
}

/* When the last bit is through the bottleneck; TIME_NEVER: the queue was full. */
static int64_t pass_bottleneck(struct sim *sim, int from, uint32_t bytes)
{
	const struct sim_link *l = &sim->link[from];
	if (!l->rate_bps)
		return sim->now;
	int64_t start = sim->busy_until[from] > sim->now ? sim->busy_until[from] : sim->now;
	uint64_t queued = (uint64_t)(start - sim->now) * l->rate_bps / 8 / USEC_PER_SEC;
	if (queued + bytes > l->queue_bytes && queued)
		return TIME_NEVER;
	sim->busy_until[from] = start + (int64_t)(bytes * UINT64_C(8) * USEC_PER_SEC / l->rate_bps) + 1;
	return sim->busy_until[from];
}

static void launch(struct sim *sim, int from, const uint8_t *bytes, uint32_t len, int64_t out)
{
	const struct sim_link *l = &sim->link[from];
	struct sim_packet *p = malloc(sizeof *p + len);
	*p = (struct sim_packet){.order = sim->order++, .to = !from, .checksum = checksum(bytes, len), .len = len};
	memcpy(p->bytes, bytes, len);
	int64_t at = out + l->delay_us + (l->jitter_us ? sim_random(sim, (uint32_t)l->jitter_us) : 0);
	if (sim_chance(sim, l->reorder_ppm)) {
		at += 1 + sim_random(sim, (uint32_t)l->reorder_us);
		sim->reordered++;
	} else {
		if (at < sim->last_arrival[from])
			at = sim->last_arrival[from];
		sim->last_arrival[from] = at;
	}
	if (sim_chance(sim, l->corrupt_ppm)) {
		p->bytes[sim_random(sim, len)] ^= 1 << sim_random(sim, 8);
		sim->corrupted++;
	}
	p->at = at;
	heap_push(sim, p);
}

/* A router drops the segment and says why. */
static bool is_too_big(struct sim *sim, int from, const uint8_t *bytes, size_t hdr, uint32_t payload)
{
	const struct sim_link *l = &sim->link[from];
	if (!l->path_mss || hdr - TCP_HDR_MIN + payload <= l->path_mss)
		return false;
	struct sim_packet *p = malloc(sizeof *p + hdr);
	*p = (struct sim_packet){.order = sim->order++, .to = from, .icmp_mss = l->path_mss,
				 .checksum = checksum(bytes, (uint32_t)hdr), .len = (uint32_t)hdr,
				 .at = sim->now + l->delay_us};
	memcpy(p->bytes, bytes, hdr);
	heap_push(sim, p);
	sim->too_big++;
	return true;
}

static void send_one(struct sim *sim, int from, const struct tcp_segment *seg, uint32_t off)
{
	const struct sim_link *l = &sim->link[from];
	uint8_t bytes[TCP_HDR_MAX + 65536];
	size_t hdr = tcp_build(seg, bytes);
	sim_check(sim, hdr - TCP_HDR_MIN + seg->payload_len <= sim->mss, "options %zu + payload %u",
		  hdr - TCP_HDR_MIN, seg->payload_len);
	if (is_too_big(sim, from, bytes, hdr, seg->payload_len)) {
		trace(sim, "big", from, seg);
		return;
	}
	copy_payload(bytes + hdr, seg, off, seg->payload_len);
	uint32_t len = (uint32_t)hdr + seg->payload_len;
	int64_t out = pass_bottleneck(sim, from, len + IP_HDR_BYTES);
	if (out == TIME_NEVER) {
		sim->overflowed++;
		trace(sim, "full", from, seg);
		return;
	}
	if (sim_chance(sim, l->loss_ppm)) {
		sim->lost++;
		trace(sim, "lost", from, seg);
		return;
	}
	trace(sim, "sent", from, seg);
	launch(sim, from, bytes, len, out);
	if (sim_chance(sim, l->dup_ppm)) {
		sim->duplicated++;
		launch(sim, from, bytes, len, out);
	}
}

/* The middlebox: false, the segment does not pass. */
static bool strip_options(const struct sim_link *link, struct tcp_segment *seg)
{
	bool syn = seg->flags & SEG_SYN, has = seg->has & (SEG_HAS_CLOSE_CAPABLE | SEG_HAS_CLOSE_REQUEST);
	if (link->strip == SIM_DROP_SYN && syn && has)
		return false;
	if (link->strip == SIM_STRIP_ALL || (link->strip == SIM_STRIP_SYN && syn) || (link->strip == SIM_STRIP_LATER && !syn))
		seg->has &= ~(SEG_HAS_CLOSE_CAPABLE | SEG_HAS_CLOSE_REQUEST);
	return true;
}

void sim_link_send(struct sim *sim, int from, const struct tcp_segment *original, uint16_t gso_size)
{
	struct tcp_segment passed = *original, *seg = &passed;
	if (!strip_options(&sim->link[from], seg))
		return;
	sim_check(sim, seg->payload[0].iov_len + seg->payload[1].iov_len == seg->payload_len,
		  "payload_len %u", seg->payload_len);
	sim->host[from].segs_out++;
	if (sim->host[from].dead)
		return;
	if (!gso_size) {
		send_one(sim, from, seg, 0);
		return;
	}
	sim_check(sim, seg->payload_len <= sim->gso_max_bytes && seg->payload_len > gso_size,
		  "a super-segment of %u bytes in pieces of %u", seg->payload_len, gso_size);
	sim_check(sim, !(seg->flags & (SEG_SYN | SEG_RST | SEG_URG)), "super-segment with flags");
	for (uint32_t off = 0; off < seg->payload_len; off += gso_size) {
		struct tcp_segment one = *seg;
		uint32_t left = seg->payload_len - off;
		one.seq = seg->seq + off;
		one.payload_len = left < gso_size ? left : gso_size;
		if (left > gso_size)
			one.flags &= ~(SEG_FIN | SEG_PSH);
		/* the pieces share the super-segment's iovecs: send_one copies from the offset */
		send_one(sim, from, &one, off);
	}
}

int64_t sim_link_next(const struct sim *sim)
{
	return sim->heap_len ? sim->heap[0]->at : TIME_NEVER;
}

/* As GRO: same flow, next in sequence, nothing but ACK and PSH, the same options. */
static bool may_glue(const struct tcp_segment *a, const struct tcp_segment *b)
{
	return a->sport == b->sport && a->dport == b->dport && b->seq == a->seq + a->payload_len &&
	       a->payload_len && b->payload_len && a->flags == SEG_ACK &&
	       (b->flags & ~SEG_PSH) == SEG_ACK && a->ack == b->ack && a->window == b->window &&
	       a->has == b->has && a->ts_val == b->ts_val && a->ts_ecr == b->ts_ecr && !a->n_sack && !b->n_sack &&
	       a->payload_len + b->payload_len <= GLUE_MAX;
}

bool sim_link_receive(struct sim *sim, int *to, struct tcp_segment *seg)
{
	static uint8_t bytes[TCP_HDR_MAX + 2 * 65536];
	while (sim->heap_len && sim->heap[0]->at <= sim->now) {
		struct sim_packet *p = heap_pop(sim);
		*to = p->to;
		bool good = checksum(p->bytes, p->len) == p->checksum;
		uint16_t icmp_mss = p->icmp_mss;
		uint32_t len = p->len;
		memcpy(bytes, p->bytes, len);
		free(p);
		if (!good || sim->host[*to].dead)
			continue;
		sim_check(sim, tcp_parse(bytes, len, seg) == 0, "cannot parse what tcp_build made");
		if (icmp_mss) {
			trace(sim, "icmp", *to, seg);
			sim_frag_needed(sim, *to, seg, icmp_mss);
			continue;
		}
		uint8_t *end = bytes + len;
		while (sim->link[!*to].gro_us && sim->heap_len && sim->heap[0]->to == *to &&
		       sim->heap[0]->at <= sim->now + sim->link[!*to].gro_us) {
			struct tcp_segment more;
			p = sim->heap[0];
			if (p->icmp_mss || checksum(p->bytes, p->len) != p->checksum ||
			    tcp_parse(p->bytes, p->len, &more) != 0 || !may_glue(seg, &more))
				break;
			memcpy(end, more.payload[0].iov_base, more.payload_len);
			end += more.payload_len;
			seg->payload[0].iov_len += more.payload_len;
			seg->payload_len += more.payload_len;
			seg->flags |= more.flags;
			sim->glued++;
			free(heap_pop(sim));
		}
		sim->host[*to].segs_in++;
		trace(sim, "rcvd", !*to, seg);
		return true;
	}
	return false;
}

void sim_link_clear(struct sim *sim)
{
	while (sim->heap_len)
		free(heap_pop(sim));
	free(sim->heap);
	sim->heap = NULL;
	sim->heap_cap = 0;
}
