/* A process is about to drop its privilege. */
#ifndef FINESSE_PROCESS_PRIVILEGE_H
#define FINESSE_PROCESS_PRIVILEGE_H

/*
 * It has used TCP. What it will need and could not have any more is had now: the engine, where no broker would give it
 * a link later. Takes the engine's lock.
 */
struct engine;
void privilege_before_drop(struct engine *e);

#endif
