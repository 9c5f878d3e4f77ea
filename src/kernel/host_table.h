/*
 * Words that all engines of this host share: a file under /run/finesse, mapped. They are read and written whole, so
 * there is no lock; what they mean is their owner's. Who may not open the file has words of its own.
 */
#ifndef FINESSE_KERNEL_HOST_TABLE_H
#define FINESSE_KERNEL_HOST_TABLE_H

#include <stddef.h>
#include <stdint.h>

/* `dir`: NULL is /run/finesse. 0 and *words: shared; 1: this process's own; -ENOMEM. Nobody unmaps them. */
int host_table_map(uint64_t **words, const char *dir, const char *name, size_t bytes);

#endif
