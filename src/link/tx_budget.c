/* The bound of what waits in the interface's queue; see tx_budget.h. */
#include "link/tx_budget.h"

void tx_budget_init(struct tx_budget *b)
{
	*b = (struct tx_budget){.bytes = TX_BUDGET_START};
}

void tx_budget_full(struct tx_budget *b, uint32_t holds)
{
	b->calm = 0;
	b->bytes = holds < b->bytes ? holds : b->bytes;
}

bool tx_budget_resume(struct tx_budget *b, uint32_t waiting)
{
	uint32_t before = b->bytes;
	if (waiting == 0) {
		b->calm = 0;
		b->bytes = before * 2 < TX_BUDGET_MAX ? before * 2 : TX_BUDGET_MAX;
	} else if (waiting <= before / 4) {
		b->calm = 0;
	} else if (++b->calm == TX_BUDGET_CALM) {
		b->calm = 0;
		if (before > TX_BUDGET_MIN)
			b->bytes = before / 2 > TX_BUDGET_MIN ? before / 2 : TX_BUDGET_MIN;
	}
	return b->bytes != before;
}
