/*
 * What LD_PRELOAD cannot reach: static programs have no dynamic linker; set-id programs, those with file capabilities,
 * and all that a process executes whose real and effective users differ have one that does not listen (AT_SECURE,
 * ld.so(8)); programs of another architecture load another libc; Go makes its system calls itself.
 */
#ifndef FINESSE_BASE_REACH_H
#define FINESSE_BASE_REACH_H

enum reach_obstacle {
	REACH_NO_OBSTACLE,
	REACH_STATIC,
	REACH_GO,
	REACH_ARCHITECTURE,
	REACH_SET_USER,
	REACH_SET_GROUP,
	REACH_CAPABILITIES,
	REACH_TWO_USERS, /* of the process that executes it: real and effective ones */
};

/*
 * What keeps a program that this process would execute from being preloaded. `path` is the file that execve would open.
 * What cannot be known is none.
 */
enum reach_obstacle reach_obstacle(const char *path);
/* … whoever executes it: never one of privilege. */
enum reach_obstacle reach_obstacle_of_file(const char *path);

/* In words that follow the program's name; static. NULL: there is none. */
const char *reach_words(enum reach_obstacle obstacle);

#endif
