/*
 * Which slots of listener groups a member has: so that they end with it.
 *
 * A member tells of each group that it enters, and not when it leaves one. So a slot that has another owner by now is
 * forgotten when the next one comes.
 */
#include "process/broker.h"

#include <stdlib.h>

#include "base/sys.h"
#include "kernel/classifier_remains.h"

struct broker_joined {
	struct broker_slot slot;
	int members_fd, flows_fd;
};

static struct classifier_remains remains_of(const struct broker_joined *j)
{
	return (struct classifier_remains){.members_fd = j->members_fd, .flows_fd = j->flows_fd, .slot = j->slot.slot, .generation = j->slot.generation};
}

static void forget_left(struct broker_slots *s)
{
	unsigned kept = 0;
	for (unsigned i = 0; i < s->n; i++) {
		struct classifier_remains r = remains_of(&s->joined[i]);
		if (classifier_remains_has_slot(&r)) {
			s->joined[kept++] = s->joined[i];
			continue;
		}
		sys_close(r.members_fd);
		sys_close(r.flows_fd);
	}
	s->n = kept;
}

bool broker_slots_add(struct broker_slots *s, const struct broker_slot *slot, struct broker_fds *in)
{
	if (in->n != 2)
		return false;
	struct broker_joined j = {.slot = *slot, .members_fd = in->fd[0], .flows_fd = in->fd[1]};
	struct classifier_remains r = remains_of(&j);
	if (!classifier_remains_are(&r))
		return false;
	if (!s->joined)
		s->joined = calloc(BROKER_SLOTS_MAX, sizeof *s->joined);
	forget_left(s);
	if (!s->joined || s->n == BROKER_SLOTS_MAX)
		return false;
	s->joined[s->n++] = j;
	in->n = 0;
	return true;
}

void broker_slots_end(struct broker_slots *s)
{
	for (unsigned i = 0; i < s->n; i++)
		broker_deaths_add_slot(&s->joined[i].slot, s->joined[i].members_fd, s->joined[i].flows_fd);
	free(s->joined);
	*s = (struct broker_slots){.n = 0};
}
