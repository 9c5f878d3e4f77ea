/* What ready_calls.c has of ready_steps.c. */
#ifndef FINESSE_TESTS_READY_STEPS_H
#define FINESSE_TESTS_READY_STEPS_H

/* `s` is a connection of the peer's; after this its bytes have arrived. */
void peer_sends(int s, int n);
/* With a listener and a connection to the peer, both non-blocking. */
void ready_calls(int l, int s);

#endif
