/*
 * Before a process drops its privilege. Listeners that it inherited (a server's worker) become its own now, because
 * what the members of a group share can only be made with privilege. For all else, with a broker there is nothing to
 * hurry for, since it opens links for who may not (but for own addresses). Without one, the engine is brought up now,
 * whatever the sockets are for: the program has used TCP.
 */
#include "process/privilege.h"

#include "base/log.h"
#include "kernel/privileged.h"
#include "process/broker.h"
#include "process/group.h"
#include "socket/engine.h"

#include <linux/capability.h>

static int up(struct engine *e, char *why, size_t why_len)
{
	int err = engine_net(e, -1, why, why_len);
	return err ? err : engine_up(e, 0, why, why_len);
}

void privilege_before_drop(struct engine *e)
{
	char why[160];
	if (!privileged_has(1u << CAP_NET_RAW))
		return;
	group_join_inherited();
	engine_lock(e);
	if (e->up) /* a later connection may leave by any of them */
		ifaces_serve_all(e, 0);
	int err = broker_client_has_broker() && !e->settings.n_own ? 0 : up(e, why, sizeof why);
	engine_unlock(e);
	if (err)
		log_info("privilege", "no engine before the program drops its privilege: %s", why);
}
