/* The words of a bad network: a table of what each takes, and one parser of a decimal number with a unit. */
#include "base/impair_config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"

#define DELAY_MAX_US UINT64_C(10000000)
#define RATE_MIN_BPS UINT64_C(8000)         /* a full frame takes 1.5 s */
#define RATE_MAX_BPS UINT64_C(100000000000) /* beyond what one process moves */
#define BYTES_MAX    UINT64_C(1000000000)
#define DIGITS_MAX   18                     /* fit in 64 bits */

struct unit {
	const char *suffix;
	uint64_t scale;
};

static const struct unit shares[] = {{"%", IMPAIR_PPM / 100}, {NULL, 0}};
static const struct unit times[] = {{"us", 1}, {"ms", USEC_PER_MSEC}, {"s", USEC_PER_SEC}, {NULL, 0}};
static const struct unit rates[] = {{"bit", 1}, {"kbit", 1000}, {"mbit", 1000000}, {"gbit", 1000000000}, {NULL, 0}};
static const struct unit plain[] = {{"", 1}, {NULL, 0}};

enum word { LOSS, REORDER, DUP, CORRUPT, DELAY, JITTER, RATE, QUEUE, BURST, BATCH, SEED, N_WORDS };

static const struct {
	const char *name;
	const struct unit *units;
	uint64_t min, max;
	const char *takes;
} words[N_WORDS] = {
	[LOSS] = {"loss", shares, 0, IMPAIR_PPM, "0% to 100%"},
	[REORDER] = {"reorder", shares, 0, IMPAIR_PPM, "0% to 100%"},
	[DUP] = {"dup", shares, 0, IMPAIR_PPM, "0% to 100%"},
	[CORRUPT] = {"corrupt", shares, 0, IMPAIR_PPM, "0% to 100%"},
	[DELAY] = {"delay", times, 0, DELAY_MAX_US, "a time to 10s: 20ms"},
	[JITTER] = {"jitter", times, 0, DELAY_MAX_US, "a time to 10s: 5ms"},
	[RATE] = {"rate", rates, RATE_MIN_BPS, RATE_MAX_BPS, "8kbit to 100gbit"},
	[QUEUE] = {"queue", plain, 0, BYTES_MAX, "bytes, to 1000000000"},
	[BURST] = {"burst", plain, 0, BYTES_MAX, "bytes, to 1000000000"},
	[BATCH] = {"batch", times, 0, DELAY_MAX_US, "a time to 10s: 5ms"},
	[SEED] = {"seed", plain, 0, UINT64_C(999999999999999999), "a number of up to 18 digits"},
};

/* "1.5ms": digits, perhaps a point and digits that the unit has places for, and the unit; all of the text. */
static int parse_scaled(const char *text, const struct unit *units, uint64_t *out)
{
	uint64_t n = 0, divisor = 1;
	int digits = 0;
	bool point = false;
	const char *p = text;
	for (; (*p >= '0' && *p <= '9') || (*p == '.' && digits && !point); p++) {
		if (*p == '.') {
			point = true;
			continue;
		}
		if (++digits > DIGITS_MAX)
			return -EINVAL;
		n = n * 10 + (uint64_t)(*p - '0');
		divisor *= point ? 10 : 1;
	}
	if (!digits || p[-1] == '.')
		return -EINVAL;
	for (; units->suffix; units++) {
		uint64_t scaled;
		if (strcmp(units->suffix, p) != 0)
			continue;
		if (__builtin_mul_overflow(n, units->scale, &scaled) || scaled % divisor)
			return -EINVAL;
		*out = scaled / divisor;
		return 0;
	}
	return -EINVAL;
}

static int parse_word(const char *name, const char *value, uint64_t *values, bool *given, char *why, size_t why_len)
{
	for (int w = 0; w < N_WORDS; w++) {
		if (strcmp(words[w].name, name) != 0)
			continue;
		if (given[w]) {
			snprintf(why, why_len, "%s: given twice", name);
			return -EINVAL;
		}
		if (parse_scaled(value, words[w].units, &values[w]) < 0 || values[w] < words[w].min ||
		    values[w] > words[w].max) {
			snprintf(why, why_len, "%s: \"%s\": takes %s", name, value, words[w].takes);
			return -EINVAL;
		}
		given[w] = true;
		return 0;
	}
	snprintf(why, why_len, "\"%s\": not one of loss, delay, jitter, reorder, dup, corrupt, rate, queue, burst, batch, seed", name);
	return -EINVAL;
}

int impair_config_parse(struct impair_config *out, const char *text, char *why, size_t why_len)
{
	uint64_t values[N_WORDS] = {[SEED] = 1};
	bool given[N_WORDS] = {false};
	char copy[256];
	if (strlen(text) >= sizeof copy) {
		snprintf(why, why_len, "longer than %zu characters", sizeof copy - 1);
		return -EINVAL;
	}
	strcpy(copy, text);
	for (char *word = copy, *end = copy; end && *text; word = end + 1) {
		end = strchr(word, ',');
		if (end)
			*end = '\0';
		char *value = strchr(word, '=');
		if (value)
			*value++ = '\0';
		int r = parse_word(word, value ? value : "", values, given, why, why_len);
		if (r < 0)
			return r;
	}
	*out = (struct impair_config){
		.loss_ppm = (uint32_t)values[LOSS],
		.reorder_ppm = (uint32_t)values[REORDER],
		.dup_ppm = (uint32_t)values[DUP],
		.corrupt_ppm = (uint32_t)values[CORRUPT],
		.delay_us = (int64_t)values[DELAY],
		.jitter_us = (int64_t)values[JITTER],
		.rate_bps = values[RATE],
		.queue_bytes = given[QUEUE] ? (int64_t)values[QUEUE] : -1,
		.burst_bytes = values[BURST],
		.batch_us = (int64_t)values[BATCH],
		.seed = values[SEED],
	};
	return 0;
}
