/* What the fake's halves share. */
#ifndef FINESSE_TESTS_UNIT_FAKE_ENGINE_H
#define FINESSE_TESTS_UNIT_FAKE_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>

struct sock {
	_Atomic int refs;
	int hidden; /* the kernel socket that does it all */
	int kfd;    /* listener: the application's */
	int result; /* of the connect that began it */
	bool listener, nonblock, dead, inherited;
	struct sock *next; /* all of them */
};

#endif
