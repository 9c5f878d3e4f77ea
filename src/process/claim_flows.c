/*
 * The connections of a claim: which claim one belongs to, and its entry in the group's table of flows where the port is
 * shared.
 */
#include "process/claim.h"
#include "socket/listener.h"

#include <errno.h>

#define TIME_WAIT_US (61 * USEC_PER_SEC)

static bool names(const struct claim *c, const struct flow_key *key)
{
	const struct group_place *p = &c->group.place;
	return p->port == key->lport && listener_name_matches(&p->addr, p->family, p->v6only, &key->laddr);
}

/* The claim that names the address comes before one of all. */
struct claim *claim_of_flow(struct engine *e, const struct flow_key *key)
{
	struct claim *found = NULL;
	list_for_each (pos, tmp, &e->claims) {
		struct claim *c = container_of(pos, struct claim, node);
		if (names(c, key) && (!found || ip_addr_is_any(&found->group.place.addr)))
			found = c;
	}
	return found;
}

/* 0 also where another living member has the entry: its frames are his. */
int claim_flow_enter(const struct sock *l, const struct flow_key *key)
{
	int err = classifier_group_add_flow(l->lst->claim->group.maps, key);
	return err == -EEXIST ? 0 : err;
}

void claim_conn_began(struct engine *e, struct sock *l, struct sock *s, bool by_cookie)
{
	struct claim *c = l->lst->claim;
	if (!c)
		return;
	s->claim = c;
	c->n_conns++;
	s->in_group = claim_is_shared(c);
	if (!s->in_group && !c->taken)
		sock_set_exact(e, s);
	if (s->in_group && (by_cookie || e->now < c->add_until_us || classifier_group_decides_here(c->group.maps)))
		classifier_group_add_flow(c->group.maps, &s->flow.key);
}

void claim_conn_left(struct engine *e, struct sock *s, bool to_kernel)
{
	struct claim *c = s->claim;
	s->claim = NULL;
	c->n_conns--;
	if (to_kernel && s->in_group)
		classifier_group_del_flow(c->group.maps, &s->flow.key);
	if (!c->n_conns)
		e->claims_changed = true;
}

void claim_time_wait_began(struct engine *e, struct sock *s)
{
	if (s->claim)
		s->claim->tw_until_us = e->now + TIME_WAIT_US;
}

bool claim_flow_ends(struct engine *e, const struct flow_key *key)
{
	bool shared = false;
	list_for_each (pos, tmp, &e->claims) {
		struct claim *c = container_of(pos, struct claim, node);
		if (c->group.place.port != key->lport || !claim_is_shared(c))
			continue;
		classifier_group_del_flow(c->group.maps, key); /* of another claim of the same port: it has none */
		shared = true;
	}
	return shared;
}

/* SYNs of the 4-tuple go to the kernel, whichever member would be chosen. */
bool claim_flow_is_kernels(struct engine *e, const struct flow_key *key)
{
	bool given = false;
	list_for_each (pos, tmp, &e->claims) {
		struct claim *c = container_of(pos, struct claim, node);
		if (c->group.place.port == key->lport && claim_is_shared(c))
			given |= classifier_group_give_flow(c->group.maps, key) == 0;
	}
	return given;
}

/* The group that has all flows of a port; NULL: several claims have flows of it, or none. */
static const struct claim *only_group(struct engine *e, uint16_t port)
{
	const struct claim *found = NULL;
	list_for_each (pos, tmp, &e->claims) {
		const struct claim *c = container_of(pos, struct claim, node);
		if (c->group.place.port != port)
			continue;
		if (found)
			return NULL;
		found = c;
	}
	return found && claim_is_shared(found) ? found : NULL;
}

/*
 * A TIME-WAIT does not remember the claim in which its connection began. Where only one can be meant, those that follow
 * each other go in one piece.
 */
void claim_flows_end(struct engine *e, const struct flow_key *keys, size_t n)
{
	for (size_t i = 0, first = 0; i < n; first = i) {
		const struct claim *c = only_group(e, keys[i].lport);
		while (i < n && keys[i].lport == keys[first].lport)
			i++;
		if (c)
			classifier_group_del_own_flows(c->group.maps, &keys[first], i - first);
		else
			for (size_t j = first; j < i; j++)
				claim_flow_ends(e, &keys[j]);
	}
}

void claim_cookie_sent(struct engine *e, struct sock *l)
{
	struct claim *c = l->lst->claim;
	if (c && claim_is_shared(c))
		classifier_group_note_cookies(c->group.maps, l->lst->cookies_until_us);
	(void)e;
}
