/* Reads small files of /proc and /sys by raw system calls. */
#ifndef FINESSE_KERNEL_PROCFILE_H
#define FINESSE_KERNEL_PROCFILE_H

#include <stdbool.h>

#define PROCFILE_BYTES_MAX (1024 * 1024) /* more is -EFBIG */

/* The whole file, NUL-terminated, in *out, which the caller frees. 0 or -errno. */
int procfile_read(const char *path, char **out);
/*
 * The same in two steps, for one that is read again and again: an internal descriptor or -errno, and what the file says
 * now. A negative fd is handed through.
 */
int procfile_open(const char *path);
/*
 * For who looks again and again whether it has come: an open that fails holds the program's lowest free number while it
 * looks.
 */
int procfile_open_if_there(const char *path);
int procfile_read_open(int fd, char **out);

#endif
