/*
 * An engine's document as text, in the manner of ss -ti. Nothing is required of the document: what
 * is missing is left out, so that command and engine of different versions get along.
 */
#include "cli/stat.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#define WIDTH           100 /* columns, before a list goes on in the next line */
#define LOCAL_WIDTH_MIN 16

static const char *text(json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));
	return s ? s : "";
}

static int64_t number(json_t *object, const char *key)
{
	json_t *n = json_object_get(object, key);
	return json_is_integer(n) ? json_integer_value(n) : 0;
}

static bool has(json_t *object, const char *key)
{
	return json_object_get(object, key) != NULL;
}

/* "85 us", "3.42 ms", "1.2 s" */
static const char *duration(int64_t us, char out[24])
{
	if (us < 1000)
		snprintf(out, 24, "%" PRId64 " us", us);
	else if (us < 1000000)
		snprintf(out, 24, "%.4g ms", (double)us / 1e3);
	else
		snprintf(out, 24, "%.4g s", (double)us / 1e6);
	return out;
}

/* "512", "1.5M": for bytes. */
static const char *bytes(int64_t n, char out[24])
{
	static const char units[] = "kMGT";
	double d = (double)n;
	int unit = -1;
	while (d >= 10000 && units[unit + 1]) {
		d /= 1000;
		unit++;
	}
	if (unit < 0)
		snprintf(out, 24, "%" PRId64, n);
	else
		snprintf(out, 24, "%.4g%c", d, units[unit]);
	return out;
}

/* ---- words that flow into lines of WIDTH ---- */

struct flow {
	FILE *out;
	const char *indent;
	size_t column; /* 0: nothing in this line yet */
};

static void flow_word(struct flow *f, const char *word)
{
	size_t n = strlen(word);
	if (f->column && f->column + 2 + n > WIDTH) {
		fputc('\n', f->out);
		f->column = 0;
	}
	fprintf(f->out, "%s%s", f->column ? "  " : f->indent, word);
	f->column += n + (f->column ? 2 : strlen(f->indent));
}

static void flow_end(struct flow *f)
{
	if (f->column)
		fputc('\n', f->out);
	f->column = 0;
}

static void flow_duration(struct flow *f, json_t *object, const char *key, const char *label)
{
	char word[64], t[24];
	if (number(object, key) <= 0)
		return;
	snprintf(word, sizeof word, "%s %s", label, duration(number(object, key), t));
	flow_word(f, word);
}

/* `always`: even when it is 0. */
static void flow_number(struct flow *f, json_t *object, const char *key, const char *label,
			bool always)
{
	char word[64], t[24];
	if (!has(object, key) || (!always && number(object, key) == 0))
		return;
	snprintf(word, sizeof word, "%s %s", label, bytes(number(object, key), t));
	flow_word(f, word);
}

/* ---- the parts ---- */

/* The interfaces that are served by now. */
static void render_interfaces(FILE *out, json_t *d)
{
	json_t *all = json_object_get(d, "interfaces"), *name;
	size_t i;
	if (!json_array_size(all))
		fputs(text(d, "interface"), out);
	json_array_foreach(all, i, name)
		fprintf(out, "%s%s", i ? ", " : "", json_string_value(name));
}

/* Own-address mode: which addresses, and who answers for them. */
static void render_own(FILE *out, json_t *own)
{
	json_t *a;
	size_t i;
	if (!own)
		return;
	fputs("own addresses:", out);
	json_array_foreach(json_object_get(own, "addresses"), i, a)
		fprintf(out, "%s %s/%" PRId64 " %s", i ? "," : "", text(a, "address"), number(a, "prefix"), text(a, "state"));
	fprintf(out, "; MAC %s; %s\n", text(own, "mac"), json_is_true(json_object_get(own, "leads")) ? "answers for them" : "another process answers for them");
}

static void render_head(FILE *out, json_t *d)
{
	json_t *totals = json_object_get(d, "totals");
	fprintf(out, "%s, pid %" PRId64, text(d, "comm"), number(d, "pid"));
	if (json_is_false(json_object_get(d, "engine"))) {
		if (has(d, "unreached"))
			fprintf(out, ", is not reached by finesse: it %s\n", text(d, "unreached"));
		else
			fputs(", runs under finesse, without an engine of its own\n", out);
		return;
	}
	fprintf(out, ", finesse %s", text(d, "version"));
	if (has(d, "interface")) {
		fputs(" on ", out);
		render_interfaces(out, d);
		fprintf(out, " (classifier %s, firewall %s, transmit %s)", text(d, "classifier"), text(d, "firewall"), text(d, "tx"));
	} else
		fprintf(out, ", no engine: everything is the kernel's");
	fputc('\n', out);
	render_own(out, json_object_get(d, "own"));
	if (!totals)
		return;
	fprintf(out,
		"connections: %" PRId64 " opened, %" PRId64 " accepted; first FIN %" PRId64
		" times ours, %" PRId64 " times the peer's; %" PRId64 " in TIME-WAIT; %" PRId64
		" fell back to the kernel, %" PRId64 " were handed over to it\n",
		number(totals, "connections_opened"), number(totals, "connections_accepted"),
		number(totals, "first_fin_us"), number(totals, "first_fin_peer"),
		number(d, "time_wait"), number(totals, "fallbacks"), number(totals, "handed_over"));
}

static void render_memory(FILE *out, json_t *memory)
{
	char in_use[24], limit[24], mapped[24], rss[24];
	if (!memory)
		return;
	fprintf(out, "memory: %s in use of %s%s, %s mapped; the process has %s\n",
		bytes(number(memory, "in_use_bytes"), in_use), bytes(number(memory, "limit_bytes"), limit),
		json_is_true(json_object_get(memory, "pressure")) ? " (runs short)" : "",
		bytes(number(memory, "mapped_bytes"), mapped), bytes(number(memory, "rss_bytes"), rss));
	if (number(memory, "failures") > 0)
		fprintf(out, "    %" PRId64 " requests for memory refused\n", number(memory, "failures"));
}

/* "delay added: 12 up to 1 ms, 3 up to 16 ms" */
static void render_delays(FILE *out, json_t *delays)
{
	const char *step, *sep = "      delay added to waiting clients: ";
	json_t *count;
	json_object_foreach (delays, step, count) {
		char t[24];
		bool over = step[0] == '>';
		fprintf(out, "%s%" PRId64 " %s %s", sep, (int64_t)json_integer_value(count), over ? "over" : "up to",
			duration(strtoll(step + (over ? 1 : 2), NULL, 10), t));
		sep = ", ";
	}
	if (sep[0] == ',')
		fputc('\n', out);
}

/* "first FIN ours: 12 learned-off, 3 idle" */
static void render_reasons(FILE *out, json_t *reasons)
{
	const char *reason, *sep = "      first FIN ours: ";
	json_t *count;
	json_object_foreach (reasons, reason, count) {
		if (json_integer_value(count) == 0)
			continue;
		fprintf(out, "%s%" PRId64 " %s", sep, (int64_t)json_integer_value(count), reason);
		sep = ", ";
	}
	if (sep[0] == ',')
		fputc('\n', out);
}

static void render_steering(FILE *out, json_t *s)
{
	int64_t closes = number(s, "closes"), first = number(s, "client_first"),
		hold_us = number(s, "hold_us");
	char t[24];
	fprintf(out, "    close policy %s: %" PRId64 " closes", text(s, "policy"), closes);
	if (closes > 0)
		fprintf(out, ", the client first in %" PRId64 " (%.1f %%)", first,
			100.0 * (double)first / (double)closes);
	if (hold_us > 0)
		fprintf(out, "; holds up to %s", duration(hold_us, t));
	else if (json_is_true(json_object_get(s, "learned_off")))
		fprintf(out, "; does not hold: clients do not close first");
	fputc('\n', out);
	if (number(s, "held") > 0 || number(s, "asked") > 0 || number(s, "time_waits") > 0) {
		struct flow f = {out, "      ", 0};
		flow_number(&f, s, "held", "held", true);
		flow_number(&f, s, "held_now", "now", false);
		flow_number(&f, s, "hold_client_fin", "client closed", true);
		flow_number(&f, s, "hold_expired", "ran out", true);
		flow_number(&f, s, "hold_reset", "reset", false);
		flow_number(&f, s, "hold_data", "new data", false);
		flow_number(&f, s, "asked", "asked to close first", false);
		flow_number(&f, s, "answered", "answered", false);
		flow_number(&f, s, "time_waits", "TIME-WAITs here", false);
		flow_number(&f, s, "time_waits_avoided", "avoided", false);
		flow_number(&f, s, "over_budget", "over budget", false);
		flow_end(&f);
	}
	render_delays(out, json_object_get(s, "delay_added_us"));
	render_reasons(out, json_object_get(s, "server_first"));
}

static const char *listener_name(json_t *l, char out[80])
{
	bool v6 = strchr(text(l, "address"), ':') != NULL;
	snprintf(out, 80, "%s%s%s:%" PRId64, v6 ? "[" : "", text(l, "address"), v6 ? "]" : "",
		 number(l, "port"));
	return out;
}

/* The widest local name, so that columns stand below each other. */
static int local_width(json_t *listeners, json_t *connections, json_t *kernels)
{
	size_t width = LOCAL_WIDTH_MIN, i;
	char name[80];
	json_t *item;
	json_array_foreach (listeners, i, item) {
		listener_name(item, name);
		width = strlen(name) > width ? strlen(name) : width;
	}
	json_array_foreach (connections, i, item)
		width = strlen(text(item, "local")) > width ? strlen(text(item, "local")) : width;
	json_array_foreach (kernels, i, item)
		width = strlen(text(item, "local")) > width ? strlen(text(item, "local")) : width;
	return (int)width;
}

/* "shared by 3 processes:  17 waits  18 accepts, queue 2  19 is busy": SYNs go to who waits, or else to who accepts. */
static void render_group(FILE *out, json_t *group)
{
	json_t *members = json_object_get(group, "members"), *m;
	struct flow f = {out, "    ", 0};
	char word[96];
	size_t i, n = json_array_size(members);
	snprintf(word, sizeof word, "shared by %zu process%s:", n, n == 1 ? "" : "es");
	flow_word(&f, word);
	json_array_foreach(members, i, m) {
		const char *does = json_is_true(json_object_get(m, "waiting")) ? " waits" : json_is_true(json_object_get(m, "accepting")) ? " accepts" : " is busy";
		int len = snprintf(word, sizeof word, "%" PRId64 "%s", number(m, "pid"), does);
		if (number(m, "queue"))
			snprintf(word + len, sizeof word - len, ", queue %" PRId64, number(m, "queue"));
		flow_word(&f, word);
	}
	if (json_is_true(json_object_get(group, "engineless")))
		flow_word(&f, "and some without an engine");
	flow_end(&f);
}

static void render_listener(FILE *out, json_t *l, int width)
{
	char local[80];
	fprintf(out, "%-12s %8" PRId64 " %8" PRId64 "  %-*s  *", "LISTEN",
		number(l, "accept_queue"), number(l, "backlog"), width, listener_name(l, local));
	if (number(l, "syn_queue"))
		fprintf(out, "  %" PRId64 " in SYN-RECEIVED", number(l, "syn_queue"));
	fputc('\n', out);
	json_t *steering = json_object_get(l, "steering"), *group = json_object_get(l, "group");
	if (group)
		render_group(out, group);
	if (steering)
		render_steering(out, steering);
}

static void render_connection(FILE *out, json_t *c, int width)
{
	char word[96], a[24];
	struct flow f = {out, "    ", 0};
	const char *first = text(c, "first_fin");
	fprintf(out, "%-12s %8" PRId64 " %8" PRId64 "  %-*s  %s\n", text(c, "state"),
		number(c, "unread_bytes"), number(c, "unsent_bytes") + number(c, "in_flight_bytes"),
		width, text(c, "local"), text(c, "remote"));
	if (json_is_true(json_object_get(c, "held")))
		flow_word(&f, "FIN HELD");
	flow_word(&f, text(c, "role"));
	flow_word(&f, text(c, "cc"));
	if (number(c, "rtt_us") > 0) {
		snprintf(word, sizeof word, "rtt %s", duration(number(c, "rtt_us"), a));
		size_t n = strlen(word);
		snprintf(word + n, sizeof word - n, " ± %s", duration(number(c, "rttvar_us"), a));
		flow_word(&f, word);
	}
	flow_duration(&f, c, "min_rtt_us", "min");
	flow_duration(&f, c, "handshake_rtt_us", "handshake");
	flow_duration(&f, c, "rto_us", "rto");
	flow_number(&f, c, "mss", "mss", false);
	flow_number(&f, c, "cwnd_bytes", "cwnd", false);
	if (number(c, "ssthresh_bytes") < INT32_MAX)
		flow_number(&f, c, "ssthresh_bytes", "ssthresh", false);
	flow_number(&f, c, "bytes_out", "sent", true);
	flow_number(&f, c, "bytes_in", "received", true);
	flow_number(&f, c, "in_flight_bytes", "in flight", false);
	flow_number(&f, c, "retrans", "retransmitted", false);
	if (strcmp(first, "us") == 0 || strcmp(first, "peer") == 0 || text(c, "close_reason")[0]) {
		snprintf(word, sizeof word, "first FIN %s%s%s",
			 strcmp(first, "us") == 0     ? "ours"
			 : strcmp(first, "peer") == 0 ? "the peer's"
						      : "none yet",
			 text(c, "close_reason")[0] ? ": " : "", text(c, "close_reason"));
		flow_word(&f, word);
	}
	flow_end(&f);
}

/* One that the kernel carries: ss has the rest. */
static void render_kernel_socket(FILE *out, json_t *s, int width)
{
	fprintf(out, "%-12s %8s %8s  %-*s  %s\n", text(s, "state"), "-", "-", width, text(s, "local"), has(s, "remote") ? text(s, "remote") : "*");
	fprintf(out, "    carried by the kernel: %s\n", text(s, "why"));
}

static void render_fallbacks(FILE *out, json_t *fallbacks)
{
	json_t *f;
	size_t i;
	if (json_array_size(fallbacks) > 0)
		fputs("left to the kernel:\n", out);
	json_array_foreach (fallbacks, i, f) {
		fprintf(out, "    %s: %s", text(f, "what"), text(f, "why"));
		if (number(f, "count") > 1)
			fprintf(out, " (%" PRId64 " times)", number(f, "count"));
		fputc('\n', out);
	}
}

static void render_unheeded(FILE *out, json_t *unheeded)
{
	json_t *u, *value;
	size_t i;
	if (json_array_size(unheeded) > 0)
		fputs("settings of the namespace that are not obeyed:\n", out);
	json_array_foreach (unheeded, i, u) {
		value = json_object_get(u, "value");
		if (json_is_string(value))
			fprintf(out, "    %s = %s: %s\n", text(u, "setting"), json_string_value(value), text(u, "why"));
		else
			fprintf(out, "    %s = %" PRId64 ": %s\n", text(u, "setting"), number(u, "value"), text(u, "why"));
	}
}

/* The counters that are not 0, group by group. */
static void render_counters(FILE *out, json_t *counters)
{
	const char *group, *name;
	json_t *members, *value;
	json_object_foreach (counters, group, members) {
		struct flow f = {out, "    ", 0};
		char word[96], title[32];
		snprintf(title, sizeof title, "%s counters:", group);
		bool any = false;
		json_object_foreach (members, name, value) {
			if (json_integer_value(value) == 0)
				continue;
			if (!any)
				fprintf(out, "%s\n", title);
			any = true;
			snprintf(word, sizeof word, "%s %" PRId64, name,
				 (int64_t)json_integer_value(value));
			flow_word(&f, word);
		}
		flow_end(&f);
	}
}

void stat_render(FILE *out, json_t *d)
{
	json_t *listeners = json_object_get(d, "listeners"),
	       * connections = json_object_get(d, "connections"), *kernels = json_object_get(d, "kernel_sockets"), *item;
	int width = local_width(listeners, connections, kernels);
	size_t i;
	render_head(out, d);
	render_memory(out, json_object_get(d, "memory"));
	if (json_array_size(listeners) + json_array_size(connections) + json_array_size(kernels) > 0)
		fprintf(out, "%-12s %8s %8s  %-*s  %s\n", "State", "Recv-Q", "Send-Q", width,
			"Local", "Peer");
	json_array_foreach (listeners, i, item)
		render_listener(out, item, width);
	json_array_foreach (connections, i, item)
		render_connection(out, item, width);
	json_array_foreach (kernels, i, item)
		render_kernel_socket(out, item, width);
	render_fallbacks(out, json_object_get(d, "fallbacks"));
	render_unheeded(out, json_object_get(d, "unheeded"));
	render_counters(out, json_object_get(d, "counters"));
}
