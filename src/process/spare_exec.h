/*
 * Who waits for accept in a port's spare queue goes on waiting while the server executes itself, or its successor:
 * spare_exec.c.
 */
#ifndef FINESSE_PROCESS_SPARE_EXEC_H
#define FINESSE_PROCESS_SPARE_EXEC_H

#include <stdbool.h>

#define SPARE_VARIABLE "FINESSE__SPARE"

struct group;

/* ---- before exec ---- */
/* The group's listening socket goes over exec: so does its spare queue, if it has one. Engine's lock held. */
void spare_exec_pass(const struct group *g);
/*
 * "NAME=value" for the program's environment, valid until the next call; the queues survive exec from now on. NULL:
 * there is none.
 */
const char *spare_exec_variable(void);
/* The exec has failed. */
void spare_exec_failed(void);

/* ---- afterwards ---- */
/* Once, at load: the variable's value. Was this program given any? Without a value it makes no system call. */
bool spare_exec_given(const char *value);
/* The group's own, if it came over exec. Lock held. */
void spare_exec_find(struct group *g);

#endif
