/*
 * What the files of `finesse stat` share: finding processes, what the kernel knows of them, and a document for people.
 */
#ifndef FINESSE_CLI_STAT_H
#define FINESSE_CLI_STAT_H

#include <stdbool.h>
#include <stdio.h>

#include <jansson.h>

/* ---- stat_process.c ---- */
/*
 * The processes of this network namespace that have an engine's stat socket, or have loaded libfinesse.so, or belong to
 * those that have and are not
 * reached: sorted, each once. How many, at most `max`.
 */
size_t processes_find(long *pids, size_t max);
/* It is there and is no zombie. */
bool process_lives(long pid);
bool process_is_stopped(long pid);
/* It has loaded libfinesse.so. False where its maps cannot be read. */
bool process_is_ours(long pid);
/*
 * Why finesse is not in a process of a tree that runs under it; NULL: it is, or the process is of no such tree, or that
 * cannot be seen.
 */
const char *process_unreached(long pid);
/* "comm" as the kernel has it; "" when it is gone. */
void process_name(long pid, char *out, size_t size);

/* ---- stat_kernel.c ---- */
/*
 * Adds "kernel_sockets" to the document: the TCP sockets of `pid` that the kernel carries, and why. Nothing is added
 * where /proc does not show them.
 */
void kernel_sockets_add(json_t *document, long pid);

/* ---- stat_render.c ---- */
/* Members that are missing, or of another type, are left out. */
void stat_render(FILE *out, json_t *document);

#endif
