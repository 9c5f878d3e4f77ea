/* The setting `trace`: what socket/trace.c is told of. Lock held, but for fall-backs. */
#ifndef FINESSE_SOCKET_TRACE_H
#define FINESSE_SOCKET_TRACE_H

#include "socket/engine.h"

extern bool trace_on; /* hooks are called only then */
void trace_open(const struct settings *settings); /* once, when the program is loaded */
void trace_opened(struct sock *s);
void trace_steps(struct sock *s); /* whatever is new of its closing */
void trace_closed(struct sock *s);
void trace_fallback(const char *what, const char *why);
void trace_flush(void);
int64_t trace_deadline(void); /* when a full pipe is tried again */
void trace_drain(void);       /* at exit: what is queued goes out, within a bound */
void trace_after_fork(void);

#endif
