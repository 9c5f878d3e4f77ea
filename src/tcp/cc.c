/* The congestion controls by name. */
#include "tcp/cc.h"
#include "tcp/tcp.h"

#include <string.h>

static const struct {
	const char *name;
	const struct tcp_cc_ops *ops;
} known[] = {
	{"cubic", &tcp_cc_cubic},
	{"reno", &tcp_cc_newreno}, /* Linux's name of it */
	{"newreno", &tcp_cc_newreno},
	{"dctcp", &tcp_cc_dctcp},
	{"bbr", &tcp_cc_bbr},
};

const struct tcp_cc_ops *tcp_cc_find(const char *name)
{
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		if (strcmp(known[i].name, name) == 0)
			return known[i].ops;
	}
	return NULL;
}
