#include "tcp/close_policy.h"

static const struct {
	const char *name, *text;
} reasons[CLOSE_REASON_COUNT] = {
#define CLOSE_REASON(ident, name, text) {name, text},
#include "tcp/close_reason.def"
#undef CLOSE_REASON
};

const char *close_reason_name(enum close_reason reason)
{
	return reasons[reason].name;
}

const char *close_reason_text(enum close_reason reason)
{
	return reasons[reason].text;
}
