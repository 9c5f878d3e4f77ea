/*
 * What LD_PRELOAD cannot reach: static programs have no dynamic linker; set-id programs, those with file capabilities, and all that a process executes whose real and
 * effective users differ have one that does not listen (AT_SECURE, ld.so(8)); programs of another architecture load another libc; Go makes its system calls itself.
 */
#ifndef FINESSE_BASE_REACH_H
#define FINESSE_BASE_REACH_H

/* What keeps a program that this process would execute from being preloaded, in words, after the program's name; NULL: nothing. `path` is the file that execve would open. */
const char *reach_obstacle(const char *path);
/* … whoever executes it. */
const char *reach_obstacle_of_file(const char *path);

#endif
