/*
 * Where a program under finesse tells what it does: for monitoring tools that do not want to run `finesse stat --json`.
 *
 * A process with an engine listens on an abstract AF_UNIX stream socket in its network namespace. Whoever connects as
 * root, or as the program's own user, receives one JSON object (finesse(1), JSON) and the end of file; anybody else the
 * end of file alone. Nothing that is sent to it is read. A reader has five seconds, and of more than eight at once the
 * oldest is cut off: an object that does not parse is asked for again.
 *
 * `finesse stat --json` prints an array of such objects, and adds what only the kernel knows: kernel_sockets, and
 * processes without an engine.
 */
#ifndef FINESSE_STAT_H
#define FINESSE_STAT_H

/*
 * printf format of the name behind the leading zero byte of sun_path, without an end of its own; the pid as its own pid
 * namespace counts.
 */
#define FINESSE_STAT_NAME   "finesse/stat/%d"
#define FINESSE_STAT_PREFIX "finesse/stat/" /* what /proc/net/unix shows of it begins with "@" and this */

#endif
