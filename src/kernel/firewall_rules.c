/*
 * What the host's rules would do to a packet: theory of operation.
 *
 * nftables' expressions are a small program over registers, and legacy iptables' matches are translated into the same.
 * The evaluator runs that program on a packet of which only some bits are known: an established connection's segment
 * has known ports and addresses, but any length and any flags; before a connection exists, the peer is not known
 * either. So a comparison has four answers: yes, no, perhaps, and "it depends on the peer".
 *
 * The answer is one-sided. RULES_PASS is proved: whatever the unknown bits are, no rule drops, changes, queues or
 * answers the packet. What the evaluator does not know is "perhaps" (a match) or an act (a statement). With `for_some`,
 * it asks whether a peer could exist for which that holds: before a listener is taken, so that one whose rules name
 * addresses (a ban, a trusted network) is not refused for those it does not concern; each connection is asked about
 * later, with its peer known.
 *
 * With `strangers`, the question is of whoever the rules do not name: it is none of the addresses with which they
 * compare, and those are noted. So what holds for the rest of the world is told apart from who is kept out.
 *
 * Each base chain of a hook is walked by itself: accepting ends one chain, and the packet goes on to the next. Depth is
 * bounded as in the kernel (NFT_JUMP_STACK_SIZE).
 */
#include "kernel/firewall_rules.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/quiet.h"
#include "base/sys.h"
#include "kernel/named.h"

#define DEPTH_MAX 16
/* NF_CT_STATE_BIT of enum ip_conntrack_info. */
#define CT_ESTABLISHED 2u
#define CT_NEW         8u

/* ---- building ---- */

static void *grow(void **array, uint32_t *n, uint32_t *cap, size_t size, uint32_t max)
{
	if (*n == max)
		return NULL;
	if (*n == *cap) {
		uint32_t bigger = *cap ? *cap * 2 : 16;
		void *moved = realloc(*array, bigger * size);
		if (!moved)
			return NULL;
		*array = moved;
		*cap = bigger;
	}
	void *at = (uint8_t *)*array + *n * size;
	memset(at, 0, size);
	++*n;
	return at;
}

#define GROW(rs, what, max) grow((void **)&(rs)->what, &(rs)->n_##what, &(rs)->cap_##what, sizeof *(rs)->what, max)

struct rules_op *rules_add_op(struct ruleset *rs)
{
	return GROW(rs, ops, RULES_MAX * 16);
}

struct rules_rule *rules_add_rule(struct ruleset *rs, int chain)
{
	struct rules_rule *r = GROW(rs, rules, RULES_MAX);
	if (!r)
		return NULL;
	struct rules_chain *c = &rs->chains[chain];
	int32_t at = rs->n_rules - 1;
	r->first_op = rs->n_ops;
	r->next = -1;
	if (c->first_rule < 0)
		c->first_rule = at;
	else
		rs->rules[c->last_rule].next = at;
	c->last_rule = at;
	return r;
}

struct rules_chain *rules_add_chain(struct ruleset *rs)
{
	struct rules_chain *c = GROW(rs, chains, RULES_MAX);
	if (c)
		c->first_rule = c->last_rule = -1;
	return c;
}

struct rules_set *rules_add_set(struct ruleset *rs)
{
	return GROW(rs, sets, RULES_MAX);
}

struct rules_element *rules_add_element(struct ruleset *rs)
{
	return GROW(rs, elements, RULES_ELEMENTS_MAX);
}

void rules_clear(struct ruleset *rs)
{
	free(rs->ops);
	free(rs->rules);
	free(rs->chains);
	free(rs->sets);
	free(rs->elements);
	memset(rs, 0, sizeof *rs);
}

/* ---- to and from a file ---- */

#define SAVED_ARRAYS 5

struct saved {
	void **array;
	uint32_t *n, *cap;
	size_t size;
};

static void saved_arrays(struct ruleset *rs, struct saved out[SAVED_ARRAYS])
{
	unsigned i = 0;
#define SAVED(what) out[i++] = (struct saved){(void **)&rs->what, &rs->n_##what, &rs->cap_##what, sizeof *rs->what}
	SAVED(ops);
	SAVED(rules);
	SAVED(chains);
	SAVED(sets);
	SAVED(elements);
#undef SAVED
}

static int transfer(int fd, void *at, size_t len, bool out)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = out ? write_quietly(fd, (char *)at + done, len - done) : sys_read(fd, (char *)at + done, len - done);
		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		done += n;
	}
	return 0;
}

int rules_save(const struct ruleset *rs, int fd)
{
	struct saved arrays[SAVED_ARRAYS];
	int err = 0;
	saved_arrays((struct ruleset *)rs, arrays);
	for (unsigned i = 0; i < SAVED_ARRAYS && !err; i++) {
		err = transfer(fd, arrays[i].n, sizeof *arrays[i].n, true);
		if (!err)
			err = transfer(fd, *arrays[i].array, *arrays[i].n * arrays[i].size, true);
	}
	return err;
}

int rules_load(struct ruleset *rs, int fd)
{
	struct saved arrays[SAVED_ARRAYS];
	int err = 0;
	memset(rs, 0, sizeof *rs);
	saved_arrays(rs, arrays);
	for (unsigned i = 0; i < SAVED_ARRAYS && !err; i++) {
		uint32_t n = 0;
		err = transfer(fd, &n, sizeof n, false);
		if (!err && n > RULES_MAX * 16)
			err = -EBADMSG;
		if (err || n == 0)
			continue;
		*arrays[i].array = malloc(n * arrays[i].size);
		err = *arrays[i].array ? transfer(fd, *arrays[i].array, n * arrays[i].size, false) : -ENOMEM;
		*arrays[i].n = *arrays[i].cap = n;
	}
	if (err)
		rules_clear(rs);
	return err;
}

/* ---- one expression ---- */

enum answer { ANSWER_NO, ANSWER_YES, ANSWER_MAYBE, ANSWER_PEER };

struct registers {
	uint8_t value[RULES_REG_BYTES], known[RULES_REG_BYTES], peers[RULES_REG_BYTES];
	uint8_t address[RULES_REG_BYTES]; /* of a stranger: this is byte N - 1 of its address; 0: it is none */
	const struct rules_packet *p;
};

/* ---- strangers ---- */

#define V4_AT 12 /* in struct ip_addr */

/*
 * Of a stranger's address: do these bytes of a register compare it with `want`, as a prefix? Then those who have it are
 * named, and the stranger is none of them.
 */
static bool names_prefix(const struct registers *r, unsigned at, const uint8_t *want, unsigned len)
{
	struct ip_addr from = {{0}}, to;
	uint8_t asked[16] = {0};
	unsigned first = r->p->v6 ? 0 : V4_AT, i = first;
	if (!r->p->strangers)
		return false;
	if (!r->p->v6)
		from = ip_addr_from_v4(from.b);
	to = from;
	for (unsigned k = 0; k < len; k++) {
		unsigned byte = r->address[at + k];
		if (r->known[at + k] == 0xff)
			continue;
		if (!byte || (uint8_t)(r->known[at + k] | r->peers[at + k]) != 0xff)
			return false;
		asked[byte - 1] = r->peers[at + k];
		from.b[byte - 1] = want[k] & r->peers[at + k];
	}
	while (i < 16 && asked[i] == 0xff)
		i++;
	if (i < 16 && asked[i] && (uint8_t)(~asked[i] & (~asked[i] + 1))) /* no ones and then zeros */
		return false;
	for (unsigned k = i + 1; k < 16; k++)
		if (asked[k])
			return false;
	for (unsigned k = first; k < 16; k++)
		to.b[k] = from.b[k] | (uint8_t)~asked[k];
	named_enter_range(r->p->strangers, &from, &to);
	return true;
}

/* The same, of a range of whole addresses. */
static bool names_range(const struct registers *r, unsigned at, const uint8_t *low, const uint8_t *high, unsigned len)
{
	struct ip_addr from, to;
	unsigned first = r->p->v6 ? 0 : V4_AT;
	if (!r->p->strangers || len != 16 - first)
		return false;
	for (unsigned k = 0; k < len; k++)
		if (r->address[at + k] != first + k + 1 || r->peers[at + k] != 0xff)
			return false;
	from = r->p->v6 ? ip_addr_from_v6(low) : ip_addr_from_v4(low);
	to = r->p->v6 ? ip_addr_from_v6(high) : ip_addr_from_v4(high);
	named_enter_range(r->p->strangers, &from, &to);
	return true;
}

static enum answer invert(enum answer a)
{
	return a == ANSWER_NO ? ANSWER_YES : a == ANSWER_YES ? ANSWER_NO : a;
}

/* Of `len` bytes: does what is known differ from `want`? If not, what is missing? */
static enum answer equals(const struct registers *r, unsigned at, const uint8_t *want, unsigned len)
{
	bool missing = false, unknown = false;
	for (unsigned i = 0; i < len; i++) {
		if ((r->value[at + i] ^ want[i]) & r->known[at + i])
			return ANSWER_NO;
		missing |= r->known[at + i] != 0xff;
		unknown |= (uint8_t)(r->known[at + i] | r->peers[at + i]) != 0xff;
	}
	if (missing && names_prefix(r, at, want, len))
		return ANSWER_NO;
	return !missing ? ANSWER_YES : unknown ? ANSWER_MAYBE : ANSWER_PEER;
}

/* YES: all bits are known; otherwise as `equals` says what is missing. */
static enum answer is_known(const struct registers *r, unsigned at, unsigned len)
{
	bool missing = false, unknown = false;
	for (unsigned i = at; i < at + len; i++) {
		missing |= r->known[i] != 0xff;
		unknown |= (uint8_t)(r->known[i] | r->peers[i]) != 0xff;
	}
	return !missing ? ANSWER_YES : unknown ? ANSWER_MAYBE : ANSWER_PEER;
}

/* The least and the greatest that these bytes could be, whatever the bits are that are not known. */
static void bounds(const struct registers *r, unsigned at, unsigned len, uint8_t *least, uint8_t *greatest)
{
	for (unsigned i = 0; i < len; i++) {
		least[i] = r->value[at + i] & r->known[at + i];
		greatest[i] = least[i] | (uint8_t)~r->known[at + i];
	}
}

static enum answer in_range(const struct registers *r, unsigned at, const uint8_t *from, const uint8_t *to, unsigned len)
{
	uint8_t least[RULES_KEY_MAX], greatest[RULES_KEY_MAX];
	if (names_range(r, at, from, to, len))
		return ANSWER_NO;
	bounds(r, at, len, least, greatest);
	if (memcmp(greatest, from, len) < 0 || memcmp(least, to, len) > 0)
		return ANSWER_NO;
	if (memcmp(least, from, len) >= 0 && memcmp(greatest, to, len) <= 0)
		return ANSWER_YES;
	return is_known(r, at, len);
}

static bool holds(uint8_t cmp, const uint8_t *value, const uint8_t *constant, unsigned len)
{
	int d = memcmp(value, constant, len);
	return cmp == NFT_CMP_LT ? d < 0 : cmp == NFT_CMP_LTE ? d <= 0 : cmp == NFT_CMP_GT ? d > 0 : d >= 0;
}

/* The number that follows, or precedes. */
static void step(uint8_t *number, unsigned len, int by)
{
	uint8_t over = by > 0 ? 0 : 0xff; /* what a byte is when the one before it changes, too */
	while (len-- > 0 && (number[len] += by) == over)
		;
}

/*
 * A stranger's address on one side of a constant: named are those on the side that has fewer, and the stranger is on
 * the other one.
 */
static enum answer of_the_most(const struct registers *r, const struct rules_op *op)
{
	uint8_t lowest[RULES_VALUE_MAX] = {0}, highest[RULES_VALUE_MAX], low_end[RULES_VALUE_MAX], high_end[RULES_VALUE_MAX];
	bool upwards = op->cmp == NFT_CMP_GT || op->cmp == NFT_CMP_GTE, few_above = op->a[0] & 0x80;
	bool itself_above = op->cmp == NFT_CMP_GTE || op->cmp == NFT_CMP_LT; /* the constant is on the upper side */
	memset(highest, 0xff, sizeof highest);
	memcpy(low_end, op->a, sizeof low_end);
	memcpy(high_end, op->a, sizeof high_end);
	if (itself_above)
		step(low_end, op->len, -1);
	else
		step(high_end, op->len, 1);
	bool named = few_above ? names_range(r, op->from, high_end, highest, op->len) : names_range(r, op->from, lowest, low_end, op->len);
	return !named ? ANSWER_PEER : few_above == upwards ? ANSWER_NO : ANSWER_YES;
}

static enum answer compare(const struct registers *r, const struct rules_op *op)
{
	uint8_t least[RULES_VALUE_MAX], greatest[RULES_VALUE_MAX];
	if (op->cmp == NFT_CMP_EQ)
		return equals(r, op->from, op->a, op->len);
	if (op->cmp == NFT_CMP_NEQ)
		return invert(equals(r, op->from, op->a, op->len));
	bounds(r, op->from, op->len, least, greatest);
	bool always = holds(op->cmp, least, op->a, op->len);
	if (always == holds(op->cmp, greatest, op->a, op->len))
		return always ? ANSWER_YES : ANSWER_NO;
	enum answer missing = is_known(r, op->from, op->len);
	return missing == ANSWER_PEER ? of_the_most(r, op) : missing;
}

static void put(struct registers *r, unsigned at, const void *value, unsigned len)
{
	memcpy(r->value + at, value, len);
	memset(r->known + at, 0xff, len);
	memset(r->peers + at, 0, len);
	memset(r->address + at, 0, len);
}

static void forget(struct registers *r, unsigned at, unsigned len)
{
	memset(r->known + at, 0, len);
	memset(r->peers + at, 0, len);
	memset(r->address + at, 0, len);
}

/* What ends within a word of 32 bits is followed by zeros there. */
static void pad(struct registers *r, unsigned at, unsigned len)
{
	static const uint8_t zeros[4];
	unsigned end = (at + len + 3) & ~3u;
	if (end <= RULES_REG_BYTES)
		put(r, at + len, zeros, end - (at + len));
}

static void load_bits(struct registers *r, const struct rules_op *op, const struct rules_bits *bits)
{
	if (op->off + op->len > (int)sizeof bits->value)
		return forget(r, op->to, op->len);
	memcpy(r->value + op->to, bits->value + op->off, op->len);
	memcpy(r->known + op->to, bits->known + op->off, op->len);
	memcpy(r->peers + op->to, bits->peers + op->off, op->len);
	memset(r->address + op->to, 0, op->len);
}

/* … and which of them are the peer's address. */
static void load_network(struct registers *r, const struct rules_op *op, const struct rules_packet *p)
{
	bool in = p->hook <= RULES_INPUT;
	int len = p->v6 ? 16 : 4, at = p->v6 ? 8 : 12;
	at += in ? 0 : len; /* the source comes first */
	load_bits(r, op, &p->network);
	for (int k = 0; k < op->len && op->off + op->len <= (int)sizeof p->network.value; k++)
		if (op->off + k >= at && op->off + k < at + len)
			r->address[op->to + k] = op->off + k - at + (16 - len) + 1;
}

static void load_name(struct registers *r, unsigned at, const char *name)
{
	char padded[16] = "";
	snprintf(padded, sizeof padded, "%s", name);
	put(r, at, padded, sizeof padded);
}

static void load_word(struct registers *r, unsigned at, uint32_t word)
{
	put(r, at, &word, sizeof word);
}

/* What nftables puts into a register for it (net/netfilter/nft_meta.c, nft_ct.c). */
static void load(struct registers *r, const struct rules_op *op, const struct rules_packet *p)
{
	bool in = p->hook <= RULES_INPUT;
	uint8_t byte;
	uint16_t half;
	pad(r, op->to, op->len);
	switch (op->field) {
	case FIELD_NETWORK:
		return load_network(r, op, p);
	case FIELD_TRANSPORT:
		return load_bits(r, op, &p->transport);
	case FIELD_NFPROTO:
		byte = p->v6 ? NFPROTO_IPV6 : NFPROTO_IPV4;
		return put(r, op->to, &byte, 1);
	case FIELD_L4PROTO:
		byte = IPPROTO_TCP;
		return put(r, op->to, &byte, 1);
	case FIELD_ETHERTYPE:
		half = htons(p->v6 ? ETH_P_IPV6 : ETH_P_IP);
		return put(r, op->to, &half, 2);
	case FIELD_IIF:
		return load_word(r, op->to, in ? p->ifindex : 0);
	case FIELD_OIF:
		return load_word(r, op->to, in ? 0 : p->ifindex);
	case FIELD_IIFNAME:
		return load_name(r, op->to, in ? p->ifname : "");
	case FIELD_OIFNAME:
		return load_name(r, op->to, in ? "" : p->ifname);
	case FIELD_CT_STATE:
		return load_word(r, op->to, p->is_new ? CT_NEW : CT_ESTABLISHED);
	case FIELD_CT_DIRECTION:
		byte = p->is_reply;
		return put(r, op->to, &byte, 1);
	case FIELD_SADDR_TYPE:
		if (p->is_anybodys)
			return forget(r, op->to, op->len);
		return load_word(r, op->to, in ? RTN_UNICAST : RTN_LOCAL);
	case FIELD_DADDR_TYPE:
		return load_word(r, op->to, in ? RTN_LOCAL : RTN_UNICAST);
	case FIELD_SADDR_FOUND:
		if (p->is_anybodys)
			return forget(r, op->to, op->len);
		byte = 1;
		return put(r, op->to, &byte, 1);
	case FIELD_SADDR_OIF:
		if (p->is_anybodys)
			return forget(r, op->to, op->len);
		return load_word(r, op->to, p->ifindex);
	default:
		forget(r, op->to, op->len);
	}
}

/* ---- sets ---- */

/* The element in which a key is that is wholly known; NULL: in none. */
static const struct rules_element *search(const struct ruleset *rs, const struct rules_set *s, const uint8_t *key)
{
	uint32_t low = s->first, high = s->first + s->n; /* the last one that begins no later is before `low` */
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (memcmp(rs->elements[middle].key, key, s->key_len) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == s->first || memcmp(key, rs->elements[low - 1].end, s->key_len) > 0)
		return NULL;
	return &rs->elements[low - 1];
}

/* Is the key in the set, and where? */
static enum answer look_up(const struct ruleset *rs, const struct rules_op *op, const struct registers *r, const struct rules_element **found)
{
	const struct rules_set *s = op->target < 0 ? NULL : &rs->sets[op->target];
	*found = NULL;
	if (!s || s->is_open || op->from + s->key_len > RULES_REG_BYTES)
		return ANSWER_MAYBE;
	enum answer known = is_known(r, op->from, s->key_len), most = ANSWER_NO;
	if (known == ANSWER_YES && s->is_sorted) {
		const struct rules_element *el = search(rs, s, r->value + op->from);
		*found = el && !s->is_aging ? el : NULL;
		return !el ? ANSWER_NO : s->is_aging ? ANSWER_MAYBE : ANSWER_YES;
	}
	for (uint32_t i = s->first; i < s->first + s->n; i++) {
		const struct rules_element *el = &rs->elements[i];
		bool single = memcmp(el->key, el->end, s->key_len) == 0;
		enum answer a = single ? equals(r, op->from, el->key, s->key_len) : in_range(r, op->from, el->key, el->end, s->key_len);
		if (a == ANSWER_YES && s->is_aging)
			return ANSWER_MAYBE;
		if (a == ANSWER_YES) {
			*found = el;
			return a;
		}
		if (a != ANSWER_NO)
			most = known; /* what is missing of the key decides */
	}
	return most;
}

/* ---- chains ---- */

static const char *act_text(unsigned act)
{
	static const char *const texts[ACTS] = {
	    [ACT_UNKNOWN] = "has a rule that acts in a way that was not understood", [ACT_TARGET] = "has a target that was not understood",
	    [ACT_REJECT] = "rejects", [ACT_NAT] = "has a rule that changes an address or a port",
	    [ACT_MARK] = "has a rule that changes the packet's mark or class", [ACT_CHANGE] = "has a rule that changes the packet",
	    [ACT_ZONE] = "has a rule that sets a conntrack zone"};
	return texts[act < ACTS ? act : ACT_UNKNOWN];
}

enum walk { WALK_ON, WALK_ACCEPTED, WALK_TOUCHED };
/* Is the rest of the chain reached? */
enum leave { GOES_ON, LEAVES, MAY_LEAVE };

enum question { WHAT_TOUCHES, WHAT_COUNTS, WHAT_NOTES };

struct asking {
	const struct ruleset *rs;
	const struct rules_packet *p;
	enum question question;
	bool for_some;
	const char *what;
	const struct rules_chain *at;
};

static enum walk walk_chain(struct asking *q, int chain, int depth);

static enum walk touched(struct asking *q, const struct rules_chain *c, const char *what)
{
	q->what = what;
	q->at = c;
	return WALK_TOUCHED;
}

/* A rule acts on the packet. Who only asks what is counted goes on, as the packet may. */
static enum walk touch(struct asking *q, const struct rules_chain *c, const char *what, bool certainly, enum leave *leaves)
{
	if (q->question == WHAT_COUNTS) {
		*leaves = certainly ? LEAVES : GOES_ON;
		return certainly ? WALK_ACCEPTED : WALK_ON;
	}
	return touched(q, c, what);
}

/* A verdict that comes `certainly`, or only perhaps. */
static enum walk obey(struct asking *q, const struct rules_chain *c, int verdict, int target, bool certainly, int depth, enum leave *leaves)
{
	enum walk w;
	switch (verdict) {
	case VERDICT_ACCEPT:
		*leaves = certainly ? LEAVES : GOES_ON;
		return certainly ? WALK_ACCEPTED : WALK_ON;
	case VERDICT_DROP:
		return touch(q, c, "drops", certainly, leaves);
	case VERDICT_RETURN:
		*leaves = certainly ? LEAVES : MAY_LEAVE;
		return WALK_ON;
	case VERDICT_JUMP:
	case VERDICT_GOTO:
		if (target < 0 || depth == DEPTH_MAX)
			return touched(q, c, "has rules that were not understood");
		w = walk_chain(q, target, depth + 1);
		if (verdict == VERDICT_GOTO)
			*leaves = certainly ? LEAVES : MAY_LEAVE;
		else if (certainly && w == WALK_ACCEPTED)
			*leaves = LEAVES;
		return w == WALK_ACCEPTED && !certainly ? WALK_ON : w;
	default:
		return WALK_ON;
	}
}

/* Of a map whose key is not known: each verdict may come. */
static enum walk obey_any(struct asking *q, const struct rules_chain *c, const struct rules_set *s, bool for_peer, int depth, enum leave *leaves)
{
	for (uint32_t i = s->first; i < s->first + s->n; i++) {
		const struct rules_element *el = &q->rs->elements[i];
		bool trusting = for_peer && q->for_some;
		enum leave may = GOES_ON;
		enum walk w = obey(q, c, el->verdict, el->target, false, depth, &may);
		if (may != GOES_ON)
			*leaves = may;
		if (w == WALK_TOUCHED && !trusting)
			return w;
	}
	return WALK_ON;
}

/* A rule on its way: its registers, and whether all that it compared so far matched for certain. */
struct rule_walk {
	const struct rules_chain *chain;
	struct registers r;
	bool certainly;
	int depth;
	enum leave *leaves;
	enum walk end; /* once the rule has a verdict or acts */
};

static bool ends(struct rule_walk *w, enum walk end)
{
	w->end = end;
	return true;
}

static void mask(struct registers *r, const struct rules_op *op)
{
	pad(r, op->to, op->len);
	for (unsigned k = 0; k < op->len; k++) {
		r->value[op->to + k] = (r->value[op->from + k] & op->a[k]) ^ op->b[k];
		r->known[op->to + k] = r->known[op->from + k] | (uint8_t)~op->a[k];
		r->peers[op->to + k] = r->peers[op->from + k] & op->a[k];
		r->address[op->to + k] = op->b[k] ? 0 : r->address[op->from + k];
	}
}

/* A map's answer is a verdict: the rule ends with it, but where no element matches. */
static bool look_up_ends(struct asking *q, struct rule_walk *w, const struct rules_op *op, enum answer *a)
{
	const struct rules_element *el = NULL;
	*a = look_up(q->rs, op, &w->r, &el);
	if (q->question == WHAT_COUNTS && *a != ANSWER_NO && op->target >= 0 && q->rs->sets[op->target].counts)
		return ends(w, touched(q, w->chain, "counts connections"));
	*a = op->inverted ? invert(*a) : *a;
	if (op->has_data)
		forget(&w->r, op->to, RULES_VALUE_MAX);
	if (!op->is_map || *a == ANSWER_NO)
		return false;
	if (*a == ANSWER_YES && el)
		return ends(w, obey(q, w->chain, el->verdict, el->target, w->certainly, w->depth, w->leaves));
	if (op->target < 0 || q->rs->sets[op->target].is_open)
		return ends(w, touched(q, w->chain, "has a map that packets may change"));
	return ends(w, obey_any(q, w->chain, &q->rs->sets[op->target], *a == ANSWER_PEER, w->depth, w->leaves));
}

/* Whether the rule ends here; if not, whether the packet matches so far. */
static bool op_ends(struct asking *q, struct rule_walk *w, const struct rules_op *op, enum answer *a)
{
	*a = ANSWER_YES;
	switch (op->kind) {
	case OP_LOAD:
		load(&w->r, op, q->p);
		break;
	case OP_MASK:
		mask(&w->r, op);
		break;
	case OP_CLOBBER:
		forget(&w->r, 0, RULES_REG_BYTES);
		break;
	case OP_COMPARE:
		*a = compare(&w->r, op);
		break;
	case OP_RANGE:
		*a = in_range(&w->r, op->from, op->a, op->b, op->len);
		*a = op->inverted ? invert(*a) : *a;
		break;
	case OP_LOOKUP:
		return look_up_ends(q, w, op, a);
	case OP_COUNT:
		if (q->question == WHAT_COUNTS)
			return ends(w, touched(q, w->chain, "counts connections"));
		*a = ANSWER_MAYBE;
		break;
	case OP_NOTES:
		if (q->question == WHAT_NOTES)
			return ends(w, touched(q, w->chain, "notes who comes"));
		break;
	case OP_MAYBE:
		*a = ANSWER_MAYBE;
		break;
	case OP_NEVER:
		*a = ANSWER_NO;
		break;
	case OP_VERDICT:
		return ends(w, obey(q, w->chain, op->verdict, op->target, w->certainly, w->depth, w->leaves));
	case OP_ACTS:
		return ends(w, touch(q, w->chain, act_text(op->act), w->certainly, w->leaves));
	}
	return false;
}

static enum walk walk_rule(struct asking *q, const struct rules_chain *c, const struct rules_rule *rule, int depth, enum leave *leaves);

/* Some peer passes what was compared and some does not: whichever is better is found by looking at both. */
static enum walk better_peer(const struct asking *q, const struct rule_walk *w, const struct rules_rule *rest)
{
	struct asking other = *q;
	enum leave left = GOES_ON;
	if (walk_rule(&other, w->chain, rest, w->depth, &left) != WALK_ACCEPTED || !w->certainly)
		return WALK_ON; /* the peer that it does not concern */
	*w->leaves = left;
	return WALK_ACCEPTED;
}

static enum walk walk_rule(struct asking *q, const struct rules_chain *c, const struct rules_rule *rule, int depth, enum leave *leaves)
{
	struct rule_walk w = {.chain = c, .r.p = q->p, .certainly = true, .depth = depth, .leaves = leaves};
	for (uint32_t i = rule->first_op; i < rule->first_op + rule->n_ops; i++) {
		enum answer a;
		if (op_ends(q, &w, &q->rs->ops[i], &a))
			return w.end;
		if (a == ANSWER_NO)
			return WALK_ON;
		if (a == ANSWER_PEER && q->for_some)
			return better_peer(q, &w, &(struct rules_rule){.first_op = i + 1, .n_ops = rule->first_op + rule->n_ops - i - 1});
		if (a != ANSWER_YES)
			w.certainly = false;
	}
	return WALK_ON;
}

static enum walk walk_chain(struct asking *q, int chain, int depth)
{
	const struct rules_chain *c = &q->rs->chains[chain];
	bool may_have_left = false;
	for (int32_t at = c->first_rule; at >= 0; at = q->rs->rules[at].next) {
		enum leave leaves = GOES_ON;
		enum walk w = walk_rule(q, c, &q->rs->rules[at], depth, &leaves);
		if (w == WALK_ACCEPTED && may_have_left)
			return WALK_ON; /* or its end was reached before */
		if (w != WALK_ON || leaves == LEAVES)
			return w;
		may_have_left |= leaves == MAY_LEAVE;
	}
	return WALK_ON;
}

static bool is_of_packet(const struct rules_chain *c, const struct rules_packet *p)
{
	if (!c->is_base || c->hook != p->hook || (c->is_nat && !p->is_new))
		return false;
	if ((c->family == NFPROTO_IPV4 && p->v6) || (c->family == NFPROTO_IPV6 && !p->v6))
		return false;
	for (unsigned i = 0; i < c->n_devices; i++)
		if (strcmp(c->devices[i], p->ifname) == 0)
			return true;
	return c->n_devices == 0;
}

static const char *source_name(const struct rules_chain *c)
{
	return !c->is_legacy ? "nftables" : c->family == NFPROTO_IPV6 ? "ip6tables" : "iptables";
}

static const char *family_name(uint8_t family)
{
	return family == NFPROTO_INET ? "inet" : family == NFPROTO_IPV4 ? "ip" : family == NFPROTO_IPV6 ? "ip6" : "netdev";
}

static enum rules_outcome ask(const struct ruleset *rs, const struct rules_packet *p, bool for_some, enum question question, char *why, size_t why_len)
{
	for (uint32_t i = 0; i < rs->n_chains; i++) {
		const struct rules_chain *c = &rs->chains[i];
		struct asking q = {.rs = rs, .p = p, .for_some = for_some, .question = question};
		if (!is_of_packet(c, p))
			continue;
		enum walk w = walk_chain(&q, i, 0);
		if (w == WALK_ON && c->drops && question != WHAT_COUNTS)
			w = touched(&q, c, "has policy drop");
		if (w != WALK_TOUCHED)
			continue;
		snprintf(why, why_len, "firewall: %s chain %s %s %s %s", source_name(q.at), family_name(q.at->family), q.at->table, q.at->name, q.what);
		return RULES_TOUCH;
	}
	return RULES_PASS;
}

enum rules_outcome rules_ask(const struct ruleset *rs, const struct rules_packet *p, bool for_some, char *why, size_t why_len)
{
	return ask(rs, p, for_some, WHAT_TOUCHES, why, why_len);
}

enum rules_outcome rules_ask_count(const struct ruleset *rs, const struct rules_packet *p, bool for_some, char *why, size_t why_len)
{
	return ask(rs, p, for_some, WHAT_COUNTS, why, why_len);
}

enum rules_outcome rules_ask_notes(const struct ruleset *rs, const struct rules_packet *p, char *why, size_t why_len)
{
	return ask(rs, p, false, WHAT_NOTES, why, why_len);
}
