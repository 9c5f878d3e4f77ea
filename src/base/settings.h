/*
 * The settings: one table, base/settings.def, gives each its name, default and help; it
 * is the same name on the command line
 * (--close-policy), in the environment (FINESSE_CLOSE_POLICY) and in a file (close-policy = …).
 *
 * Pure but for settings_from_file and settings_file_visit, which read one file; no state, safe in
 * any thread. Times are written 2s, 500ms or 50us; a plain number has the unit that the table
 * names. Variables that begin with FINESSE__ (two underscores) are the project's own, between its
 * parts, and no settings.
 *
 * Rules: only and except may be given again and again, and each holds a list with commas; the first
 * rule that matches wins; what no rule matches is served unless there is an `only`. A rule may
 * begin with its own word, `only` or `except`, so that one variable can keep an order between the
 * two; from the environment, FINESSE_EXCEPT comes before FINESSE_ONLY. A source (environment, file)
 * that has rules replaces the rules of the one before it.
 */
#ifndef FINESSE_BASE_SETTINGS_H
#define FINESSE_BASE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

enum classifier_choice { CLASSIFIER_AUTO, CLASSIFIER_EBPF, CLASSIFIER_NFTABLES, CLASSIFIER_SOCKET };

/* To whom the option of close requests goes in a SYN: nobody, hosts that are known to run finesse, everybody. */
enum close_request_choice { CLOSE_REQUEST_OFF, CLOSE_REQUEST_ON, CLOSE_REQUEST_ALWAYS };

enum firewall_choice { FIREWALL_JUDGED, FIREWALL_KERNEL, FIREWALL_BYPASS };

enum close_policy_kind { CLOSE_POLICY_OFF, CLOSE_POLICY_HOLD, CLOSE_POLICY_ADAPTIVE };

/* One line of `only`/`except`: server|client ADDR[/LEN]:PORT[-PORT]; first match wins. */
struct traffic_rule {
	bool except, client, server;
	struct ip_addr addr;
	uint8_t prefix_len; /* of the 128-bit mapped form */
	uint16_t port_first, port_last;
};
#define TRAFFIC_RULES_MAX 64

/* One of `address`: the engine's own, which the kernel does not have. */
struct own_address {
	struct ip_addr addr;
	uint8_t prefix_len; /* of its own family */
};
#define OWN_ADDRESSES_MAX 16
#define SETTINGS_TREE_VARIABLE "FINESSE__TREE"
#define SETTINGS_TREE_LEN      16 /* hexadecimal digits */

struct settings {
	char interface[256]; /* names, separated by commas; "": each that has an address */
	struct own_address own[OWN_ADDRESSES_MAX];
	unsigned n_own;            /* not 0: own-address mode */
	/*
	 * names the tree of processes that share own addresses: FINESSE__TREE, which `finesse run` makes; "": none did
	 */
	char tree[SETTINGS_TREE_LEN + 1];
	struct ip_addr gateway[2]; /* of own addresses: IPv4, IPv6; any: none */
	enum firewall_choice firewall;
	enum close_policy_kind close_policy;
	int64_t close_hold_us;        /* of hold:MS */
	int64_t close_hold_max_us;    /* 1 s */
	uint32_t close_client_budget;   /* 4000 */
	bool close_client_budget_grows; /* auto: more where a client has the ports */
	enum close_request_choice close_request; /* on */
	char congestion[16];
	enum classifier_choice classifier;
	uint64_t memory_limit_bytes; /* 0: auto */
	uint32_t spin_us;
	char log[128];
	bool strict;
	char trace[256]; /* a file; "": none */
	struct traffic_rule rules[TRAFFIC_RULES_MAX];
	unsigned n_rules;
};

void settings_default(struct settings *s);
/* One setting by its name ("close-policy"). 0; -EINVAL and one line in `why` that names the setting
 * and what it takes. -ENOENT: no such name. */
int settings_set(struct settings *s, const char *name, const char *value, char *why,
		 size_t why_len);
/* All FINESSE_* of the environment. 0 or -EINVAL with `why`; an unknown FINESSE_ variable is an
 * error too. */
int settings_from_environment(struct settings *s, char *const *environ_, char *why, size_t why_len);
/* What the settings say together, when each is right by itself. 0 or -EINVAL with `why`. */
int settings_check(const struct settings *s, char *why, size_t why_len);
int settings_from_file(struct settings *s, const char *path, char *why, size_t why_len);
/* The lines of a settings file, in order. The visitor returns 0, or -EINVAL/-ENOENT and its reason,
 * which gets FILE:LINE before it. A setting that comes twice is an error, but for rules. */
struct settings_visit {
	int (*setting)(struct settings_visit *v, const char *name, const char *value, char *why,
		       size_t why_len);
};
int settings_file_visit(const char *path, struct settings_visit *v, char *why, size_t why_len);
/* "close-policy" to "FINESSE_CLOSE_POLICY"; `out` holds SETTINGS_VARIABLE_LEN bytes. Returns out.
 */
#define SETTINGS_VARIABLE_LEN 48
const char *settings_variable(const char *name, char *out);
/* The nth name of the setting `interface`. False: there are not so many. */
#define SETTINGS_INTERFACE_LEN 16
bool settings_interface(const struct settings *s, unsigned nth, char name[SETTINGS_INTERFACE_LEN]);
#define SETTINGS_INTERFACES_MAX 16
/*
 * ADDR/PREFIX,… and ADDR[,ADDR] (one of each family) of `address` and `gateway`. 0, or -EINVAL and what is wrong with
 * one of them, if it is an address at all.
 */
int settings_parse_addresses(struct settings *s, const char *value, char *why, size_t why_len);
int settings_parse_gateways(struct settings *s, const char *value, char *why, size_t why_len);
int settings_check_gateways(const struct settings *s, char *why, size_t why_len);
/* Is it one of the two whose values add up (only, except)? */
bool settings_is_rule(const char *name);
/* Adds the rules of one `only` or `except` value; settings_set does it by this. 0, -EINVAL with
 * `why`; then nothing is added. */
int settings_add_rules(struct settings *s, bool except, const char *value, char *why,
		       size_t why_len);
/* May traffic (we are the server at local addr:port, or client to remote addr:port) be ours by the
   rules? For a server on a wildcard address: may all of it be, so an `only` must cover every
   address and an `except` need only touch one. */
bool settings_rules_allow(const struct settings *s, bool server, const struct ip_addr *addr,
			  uint16_t port);

/* For --help and the man page: iterate the table. NULL past the end. */
struct setting_info {
	const char *name, *arg, *default_text, *help;
	bool flag; /* takes no argument on the command line: on */
};
const struct setting_info *settings_info(size_t i);

#endif
