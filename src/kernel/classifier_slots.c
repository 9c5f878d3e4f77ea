/* Flows in the mapped slots of the ports map: entered and taken out by a store (classifier_prog.h). */
#include "kernel/classifier_prog.h"

#include <arpa/inet.h>
#include <string.h>

struct classifier_flow classifier_flow(const struct flow_key *key)
{
	return (struct classifier_flow){.raddr = key->raddr,
					.laddr = key->laddr,
					.rport_be = htons(key->rport),
					.lport_be = htons(key->lport)};
}

struct flow_key classifier_flow_key(const struct classifier_flow *f)
{
	return (struct flow_key){.laddr = f->laddr, .raddr = f->raddr, .lport = ntohs(f->lport_be), .rport = ntohs(f->rport_be)};
}

static struct classifier_slot *place_of(struct classifier_ports *ports, const struct flow_key *key, unsigned choice)
{
	return &ports->slots[(key->lport + choice * CLASSIFIER_SLOT_STEP) % CLASSIFIER_SLOTS];
}

static bool slot_has(const struct classifier_slot *s, const struct classifier_flow *f)
{
	return s->used && memcmp(&s->flow, f, sizeof *f) == 0;
}

static struct classifier_slot *slot_of(struct classifier_ports *ports, const struct flow_key *key, const struct classifier_flow *f)
{
	for (unsigned i = 0; i < CLASSIFIER_SLOT_CHOICES; i++)
		if (slot_has(place_of(ports, key, i), f))
			return place_of(ports, key, i);
	return NULL;
}

static struct classifier_slot *free_place(struct classifier_ports *ports, const struct flow_key *key)
{
	for (unsigned i = 0; i < CLASSIFIER_SLOT_CHOICES; i++)
		if (!place_of(ports, key, i)->used)
			return place_of(ports, key, i);
	return NULL;
}

bool classifier_slot_add(struct classifier_ports *ports, const struct flow_key *key)
{
	struct classifier_flow f = classifier_flow(key);
	if (slot_of(ports, key, &f))
		return true;
	struct classifier_slot *s = free_place(ports, key);
	if (!s)
		return false;
	s->flow = f;
	__atomic_store_n(&s->used, 1, __ATOMIC_RELEASE);
	ports->n_slots++;
	return true;
}

bool classifier_slot_has(struct classifier_ports *ports, const struct flow_key *key)
{
	struct classifier_flow f = classifier_flow(key);
	return slot_of(ports, key, &f) != NULL;
}

bool classifier_slot_clear(struct classifier_ports *ports, const struct flow_key *key)
{
	struct classifier_flow f = classifier_flow(key);
	struct classifier_slot *s = slot_of(ports, key, &f);
	if (!s)
		return false;
	__atomic_store_n(&s->used, 0, __ATOMIC_RELEASE);
	ports->n_slots--;
	return true;
}
