/*
 * The protocol readers on hostile bytes. The input is a row of pieces: a header byte (the top bit: from the client; the
 * rest, plus one: how long), then the piece. What holds: nothing is read outside the piece (sanitizers), the cut does
 * not matter (the same bytes one by one say the same), and who is silent for good stays so.
 */
#include <string.h>

#include "fuzz.h"
#include "steer/reader.h"

static void feed(struct reader *r, bool in, const uint8_t *p, size_t n)
{
	uint8_t *copy = malloc(n); /* exactly */
	if (!copy)
		abort();
	memcpy(copy, p, n);
	if (in)
		reader_in(r, copy, n);
	else
		reader_out(r, copy, n);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader whole = {0}, single = {0};
	while (size > 1) {
		bool in = data[0] & 0x80, was_silent = reader_is_silent(&whole);
		size_t n = (size_t)(data[0] & 0x7f) + 1;
		if (n > size - 1)
			n = size - 1;
		feed(&whole, in, data + 1, n);
		for (size_t i = 0; i < n; i++)
			feed(&single, in, data + 1 + i, 1);
		if (was_silent && !reader_is_silent(&whole))
			fuzz_fail(__FILE__, __LINE__, "silent for good");
		if (reader_says(&whole) != reader_says(&single))
			fuzz_fail(__FILE__, __LINE__, "the cut does not matter");
		data += 1 + n;
		size -= 1 + n;
	}
	return 0;
}
