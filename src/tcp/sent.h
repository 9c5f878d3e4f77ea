/*
 * The log of what is in flight: for each byte when it was sent last, whether that was not the first time, and whether
 * it is known to be lost. It is what RFC 8985 (RACK) asks of a sender, which keeps times by segment.
 *
 * Records lie in the order of sequence numbers. Each begins where the one before ends, the first at SND.UNA or before
 * it; together they cover what is in flight. What left at once, as a segment or a super-segment, is one record; when
 * there are more than SENT_SINGLE, what left within `grain_us`, and has the time of the last of it. There are at most
 * SENT_MAX records; beyond, or without memory, neighbours become one, with the later time of the two, and the mark of
 * the first.
 *
 * Up to SENT_FEW records lie in the structure itself; more are one block of `struct tcp_memory`. Pure: no clock, no
 * errors.
 */
#ifndef FINESSE_TCP_SENT_H
#define FINESSE_TCP_SENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"

#define SENT_FEW 2
#define SENT_MAX 2048 /* 64 KiB: as many as there may be holes (RANGES_MAX) */
#define SENT_SINGLE 256 /* so many are not joined: each super-segment goes again as it went, but for what was acknowledged of it */

/*
 * What the delivery rate is reckoned from (rate.c), as it was when the record's first byte left. Times and counts
 * modulo 2^32.
 */
struct sent_mark {
	uint32_t delivered;    /* bytes */
	uint32_t delivered_us; /* when the last of them were */
	uint32_t first_us;     /* when the flight began to be sent */
	bool app_limited;
	bool short_end; /* what leaves ends in a segment that is not whole */
	bool uneven;    /* its segments have another length than the connection's */
	bool push;      /* the last of them has PSH */
};

struct sent {
	int64_t at_us; /* monotonic */
	uint32_t end;  /* the number after the record's last byte */
	uint32_t from_us; /* of at_us's clock, modulo 2^32: when the first of it left */
	uint32_t delivered, delivered_us, first_us; /* struct sent_mark */
	bool again;    /* it was retransmitted */
	bool lost;     /* it was found lost, and has not been sent again since */
	uint8_t bits;  /* SENT_… */
};

/* Of a record's segments: while they are all whole but for the last, it is known where each begins. */
#define SENT_APP_LIMITED 1
#define SENT_SHORT_END   2
#define SENT_UNEVEN      4
#define SENT_PUSH        16 /* its last segment was a write's last: when it goes again it has PSH, too */
#define SENT_PROBE       8 /* a tail loss probe: Linux does not count it as sent again */

struct sent_log {
	struct sent *more; /* NULL: `few` */
	struct sent few[SENT_FEW];
	uint16_t first, n, cap; /* cap: of `more` */
};

/* Records are numbered from 0, the oldest. */
static inline struct sent *sent_at(struct sent_log *l, uint32_t i)
{
	return (l->more ? l->more : l->few) + l->first + i;
}
static inline const struct sent *sent_peek(const struct sent_log *l, uint32_t i)
{
	return (l->more ? l->more : l->few) + l->first + i;
}

/* New text and FIN up to `end` left now. `grain_us` 0: only what leaves at one time is one record. */
void sent_append(struct sent_log *l, struct tcp_memory *m, uint32_t end, int64_t now_us, int64_t grain_us, const struct sent_mark *mark);
/* [left, right) left once more, now. `una`: where the first record begins. */
void sent_again(struct sent_log *l, struct tcp_memory *m, uint32_t una, uint32_t left, uint32_t right, int64_t now_us,
		const struct sent_mark *mark);
/* What record i has before `right` is lost; the rest, if any, becomes a record of its own. */
void sent_mark_lost(struct sent_log *l, struct tcp_memory *m, uint32_t i, uint32_t right);
/* The peer has told of what is on one side of `seq` alone. `una`: where the first record begins. */
void sent_cut(struct sent_log *l, struct tcp_memory *m, uint32_t una, uint32_t seq);
/* Everything before `seq` is acknowledged. */
/* What was appended last, from `seq` on, did not leave. */
void sent_take_back(struct sent_log *l, uint32_t una, uint32_t seq);
void sent_drop_before(struct sent_log *l, struct tcp_memory *m, uint32_t seq);
/* The number of the record that holds `seq`; n when it is none's. */
uint32_t sent_find(const struct sent_log *l, uint32_t seq);
/* The length of a segment changed: where those in flight begin is not known any more. */
void sent_forget_segments(struct sent_log *l);
void sent_free(struct sent_log *l, struct tcp_memory *m);

#endif
