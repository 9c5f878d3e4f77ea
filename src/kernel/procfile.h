/* Reads small files of /proc and /sys by raw system calls. */
#ifndef FINESSE_KERNEL_PROCFILE_H
#define FINESSE_KERNEL_PROCFILE_H

#include <stdbool.h>

#define PROCFILE_BYTES_MAX (1024 * 1024) /* more is -EFBIG */

/* The whole file, NUL-terminated, in *out, which the caller frees. 0 or -errno. */
int procfile_read(const char *path, char **out);

#endif
