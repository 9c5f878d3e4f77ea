/* The targets link ip/ but no link: nothing that they do sends a frame. */
#include <stdlib.h>

#include "link/link.h"

int link_send(struct link *l, const struct link_tx *tx)
{
	abort();
}
