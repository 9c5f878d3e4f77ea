#include "base/budget.h"

#include <string.h>

#include "base/siphash.h"

/* 0 … n − 1, as nobody can foretell who does not know the secret. */
static uint32_t draw(struct budget *b, uint32_t n)
{
	b->drawn++;
	return siphash24(&b->drawn, sizeof b->drawn, b->secret) % n;
}

void budget_init(struct budget *b, const uint8_t secret[16])
{
	memset(b, 0, sizeof *b);
	memcpy(b->secret, secret, sizeof b->secret);
	b->since_us = -BUDGET_WINDOW_US;
}

static void new_window(struct budget *b, int64_t now)
{
	memset(b->left, 0, sizeof b->left);
	b->since_us = now;
	b->nonce = (uint64_t)draw(b, UINT32_MAX) << 32 | draw(b, UINT32_MAX);
	b->total_left = BUDGET_TOTAL_MIN + draw(b, 2 * BUDGET_TOTAL_MIN);
}

static uint16_t *place_of(struct budget *b, const struct ip_addr *whom)
{
	struct {
		uint8_t net[16];
		uint64_t nonce;
	} key = {.nonce = b->nonce};
	memcpy(key.net, whom->b, ip_addr_is_v4(whom) ? 15 : 7);
	return &b->left[siphash24(&key, sizeof key, b->secret) & (BUDGET_NETWORKS - 1)];
}

bool budget_take(struct budget *b, int64_t now, const struct ip_addr *whom)
{
	if (now - b->since_us >= BUDGET_WINDOW_US)
		new_window(b, now);
	uint16_t *left = place_of(b, whom);
	if (!*left)
		*left = 1 + BUDGET_NETWORK_MIN + draw(b, 2 * BUDGET_NETWORK_MIN);
	if (*left == 1 || !b->total_left)
		return false;
	--*left;
	b->total_left--;
	return true;
}
