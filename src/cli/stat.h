/* One engine's document, for people. */
#ifndef FINESSE_CLI_STAT_H
#define FINESSE_CLI_STAT_H

#include <stdio.h>

#include <jansson.h>

/* Members that are missing, or of another type, are left out. */
void stat_render(FILE *out, json_t *document);

#endif
