/*
 * Where a program under finesse tells what it does: an abstract AF_UNIX stream socket in its network namespace. Who connects, as root or as the
 * program's own user, receives one JSON document and the end of file. (`finesse stat --json` prints an array of them, and adds what
 * the kernel carries.) Nothing is read. For monitoring tools
 * that do not want to run `finesse stat --json`.
 */
#ifndef FINESSE_STAT_H
#define FINESSE_STAT_H

/* printf format of the name behind the leading zero byte of sun_path; the pid as its own pid namespace counts. */
#define FINESSE_STAT_NAME   "finesse/stat/%d"
#define FINESSE_STAT_PREFIX "finesse/stat/"

#endif
