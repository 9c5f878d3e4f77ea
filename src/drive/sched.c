/* Who drives the engine: see sched.h. */
#include "drive/sched.h"

#include "base/time.h"

void sched_init(struct sched *s)
{
	s->seat = NULL;
	s->helper = HELPER_NONE;
	s->helper_until = TIME_NEVER;
	s->back_us = 0;
	list_init(&s->followers);
}

void sched_thread_init(struct sched_thread *t)
{
	list_init(&t->node);
	t->role = SCHED_OUT;
}

bool sched_wait(struct sched *s, struct sched_thread *t)
{
	if (!s->seat || s->seat == t) {
		s->seat = t;
		t->role = SCHED_LEADS;
		return true;
	}
	t->role = SCHED_FOLLOWS;
	list_unlink(&t->node);
	list_push_back(&s->followers, &t->node);
	return false;
}

/* The seat is free: the first follower gets it, or the helper. */
static struct sched_wake pass_seat(struct sched *s)
{
	struct sched_wake wake = {0};
	struct list *first = list_first(&s->followers);
	s->seat = NULL;
	if (first) {
		struct sched_thread *next = container_of(first, struct sched_thread, node);
		list_unlink(first);
		next->role = SCHED_PROMOTED;
		s->seat = wake.thread = next;
	} else if (s->helper == HELPER_SLEEPS) {
		s->helper = HELPER_AWAKE;
		wake.helper = true;
	}
	return wake;
}

struct sched_wake sched_leave(struct sched *s, struct sched_thread *t)
{
	struct sched_wake none = {0};
	t->role = SCHED_OUT;
	list_unlink(&t->node);
	return s->seat == t ? pass_seat(s) : none;
}

bool sched_signal(struct sched *s, struct sched_thread *t)
{
	(void)s;
	switch (t->role) {
	case SCHED_FOLLOWS:
		list_unlink(&t->node);
		t->role = SCHED_OUT;
		return true;
	case SCHED_LEADS:
		return true;
	case SCHED_PROMOTED: /* was woken for that, and looks at its events when it comes */
	case SCHED_OUT:
		break;
	}
	return false;
}

enum sched_helper sched_helper_look(struct sched *s, int64_t now, int64_t driven_us, int64_t grace_us, int64_t deadline, int64_t *until)
{
	int64_t grace_end = (driven_us > s->back_us ? driven_us : s->back_us) + grace_us;
	if (now < grace_end) {
		*until = grace_end;
		s->helper = HELPER_TICKS;
	} else if (s->seat) {
		*until = TIME_NEVER;
		s->helper = HELPER_SLEEPS;
	} else {
		*until = s->helper_until = deadline;
		s->helper = HELPER_LEADS;
	}
	return s->helper;
}

void sched_helper_awake(struct sched *s)
{
	s->helper = HELPER_AWAKE;
}

void sched_helper_found_back(struct sched *s, int64_t now)
{
	s->back_us = now;
}

bool sched_helper_is_late(const struct sched *s, int64_t deadline)
{
	return !s->seat && s->helper == HELPER_LEADS && deadline < s->helper_until;
}

bool sched_is_sound(const struct sched *s)
{
	if (s->helper == HELPER_NONE) /* nobody but threads in their waits can drive */
		return true;
	if (s->seat)
		return s->seat->role == SCHED_LEADS || s->seat->role == SCHED_PROMOTED;
	return s->helper != HELPER_SLEEPS && list_empty(&s->followers);
}
