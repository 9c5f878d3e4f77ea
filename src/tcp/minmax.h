/*
 * The greatest, or the least, of what was measured in a window of time: three samples, the best and those that would
 * follow it when it grows too old. (Kathleen Nichols' algorithm, as in Linux's lib/win_minmax.c: an estimate, exact
 * where the best stays within the window.) Time is any count that wraps at 2^32: rounds, microseconds.
 */
#ifndef FINESSE_TCP_MINMAX_H
#define FINESSE_TCP_MINMAX_H

#include <stdbool.h>
#include <stdint.h>

struct minmax_sample {
	uint32_t at, value;
};
struct minmax {
	struct minmax_sample best[3]; /* [0] is the answer; later ones are younger and not better */
};

static inline uint32_t minmax_get(const struct minmax *m)
{
	return m->best[0].value;
}

static inline void minmax_reset(struct minmax *m, uint32_t at, uint32_t value)
{
	m->best[0] = m->best[1] = m->best[2] = (struct minmax_sample){at, value};
}

/* The window moved on over the best; and none of the others may be from the beginning of the window alone. */
static inline void minmax_age(struct minmax *m, uint32_t window, struct minmax_sample s)
{
	uint32_t age = s.at - m->best[0].at;
	if (age > window) {
		m->best[0] = m->best[1];
		m->best[1] = m->best[2];
		m->best[2] = s;
		if (s.at - m->best[0].at > window) {
			m->best[0] = m->best[1];
			m->best[1] = m->best[2];
		}
	} else if (m->best[1].at == m->best[0].at && age > window / 4) {
		m->best[1] = m->best[2] = s;
	} else if (m->best[2].at == m->best[1].at && age > window / 2) {
		m->best[2] = s;
	}
}

static inline void minmax_add_max(struct minmax *m, uint32_t window, uint32_t at, uint32_t value)
{
	struct minmax_sample s = {at, value};
	if (value >= m->best[0].value || at - m->best[2].at > window) {
		minmax_reset(m, at, value);
		return;
	}
	if (value >= m->best[1].value)
		m->best[1] = m->best[2] = s;
	else if (value >= m->best[2].value)
		m->best[2] = s;
	minmax_age(m, window, s);
}

static inline void minmax_add_min(struct minmax *m, uint32_t window, uint32_t at, uint32_t value)
{
	struct minmax_sample s = {at, value};
	if (value <= m->best[0].value || at - m->best[2].at > window) {
		minmax_reset(m, at, value);
		return;
	}
	if (value <= m->best[1].value)
		m->best[1] = m->best[2] = s;
	else if (value <= m->best[2].value)
		m->best[2] = s;
	minmax_age(m, window, s);
}

#endif
