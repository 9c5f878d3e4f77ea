/* Every setting: its default, what it takes, and every error by name; the three sources; the rules.
 */
#include "base/settings.h"
#include "tests/suite.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct settings s;
static char why[512];

static void setup(void)
{
	settings_default(&s);
	why[0] = 0;
}

static void takes(const char *name, const char *value)
{
	int r = settings_set(&s, name, value, why, sizeof why);
	ck_assert_msg(r == 0, "%s=%s: %d %s", name, value, r, why);
}

/* Refused, with an error that names the setting and quotes the value, and nothing changed. */
static void refuses(const char *name, const char *value)
{
	struct settings before = s;
	int r = settings_set(&s, name, value, why, sizeof why);
	ck_assert_msg(r == -EINVAL, "%s=%s: %d", name, value, r);
	ck_assert_msg(strncmp(why, name, strlen(name)) == 0, "%s", why);
	bool quoted = strlen(value) > 60 || strchr(value, ',') || strchr(value, '/') || settings_is_rule(name) ||
		      strstr(why, value); /* of a list, the bad element is */
	ck_assert_msg(quoted && strstr(why, "not '"), "'%s' not in: %s", value, why);
	ck_assert_ptr_eq(strchr(why, '\n'), NULL);
	ck_assert_uint_eq(before.n_rules, s.n_rules);
	memcpy(before.rules, s.rules, sizeof s.rules); /* room beyond n_rules is scratch */
	ck_assert_mem_eq(&before, &s, sizeof s);
}

START_TEST(defaults)
{
	ck_assert_str_eq(s.interface, "");
	ck_assert(s.firewall == FIREWALL_JUDGED && !s.strict);
	ck_assert_int_eq(s.close_policy, CLOSE_POLICY_ADAPTIVE);
	ck_assert_int_eq(s.close_hold_max_us, 1000000);
	ck_assert_uint_eq(s.close_client_budget, 4000);
	ck_assert(s.close_client_budget_grows);
	ck_assert_str_eq(s.congestion, "system");
	ck_assert_uint_eq(s.spin_us, 0);
	ck_assert_str_eq(s.log, "warn");
	ck_assert_uint_eq(s.n_rules, 0);
}
END_TEST

START_TEST(every_setting_takes)
{
	takes("interface", "veth0");
	ck_assert_str_eq(s.interface, "veth0");
	takes("interface", "fifteen-letters");
	takes("firewall", "bypass");
	ck_assert(s.firewall == FIREWALL_BYPASS);
	takes("firewall", "kernel");
	ck_assert(s.firewall == FIREWALL_KERNEL);
	takes("strict", "yes");
	ck_assert(s.strict);
	takes("close-policy", "off");
	ck_assert_int_eq(s.close_policy, CLOSE_POLICY_OFF);
	takes("close-policy", "hold:250");
	ck_assert_int_eq(s.close_policy, CLOSE_POLICY_HOLD);
	ck_assert_int_eq(s.close_hold_us, 250000);
	takes("close-policy", "hold:2s");
	ck_assert_int_eq(s.close_hold_us, 2000000);
	takes("close-policy", "hold:60000");
	takes("close-policy", "adaptive");
	ck_assert_int_eq(s.close_policy, CLOSE_POLICY_ADAPTIVE);
	takes("close-hold-max", "500ms");
	ck_assert_int_eq(s.close_hold_max_us, 500000);
	takes("close-hold-max", "2000us");
	ck_assert_int_eq(s.close_hold_max_us, 2000);
	takes("close-hold-max", "750");
	ck_assert_int_eq(s.close_hold_max_us, 750000);
	takes("close-client-budget", "0");
	ck_assert_uint_eq(s.close_client_budget, 0);
	takes("close-client-budget", "28000");
	ck_assert_uint_eq(s.close_client_budget, 28000);
	ck_assert(!s.close_client_budget_grows);
	takes("close-client-budget", "auto");
	ck_assert(s.close_client_budget_grows && s.close_client_budget == 4000);
	takes("congestion", "newreno");
	ck_assert_str_eq(s.congestion, "newreno");
	takes("congestion", "reno");
	ck_assert_str_eq(s.congestion, "reno");
	takes("congestion", "bbr");
	ck_assert_str_eq(s.congestion, "bbr");
	takes("congestion", "dctcp");
	ck_assert_str_eq(s.congestion, "dctcp");
	ck_assert_int_eq(s.classifier, CLASSIFIER_AUTO);
	takes("classifier", "nftables");
	ck_assert_int_eq(s.classifier, CLASSIFIER_NFTABLES);
	takes("classifier", "socket");
	ck_assert_int_eq(s.classifier, CLASSIFIER_SOCKET);
	takes("classifier", "ebpf");
	ck_assert_int_eq(s.classifier, CLASSIFIER_EBPF);
	ck_assert_uint_eq(s.memory_limit_bytes, 0);
	takes("memory-limit", "512M");
	ck_assert_uint_eq(s.memory_limit_bytes, UINT64_C(512) << 20);
	takes("memory-limit", "1T");
	ck_assert_uint_eq(s.memory_limit_bytes, UINT64_C(1) << 40);
	takes("memory-limit", "8388608");
	ck_assert_uint_eq(s.memory_limit_bytes, 8388608);
	takes("memory-limit", "auto");
	ck_assert_uint_eq(s.memory_limit_bytes, 0);
	takes("spin", "50");
	ck_assert_uint_eq(s.spin_us, 50);
	takes("spin", "1ms");
	ck_assert_uint_eq(s.spin_us, 1000);
	takes("log", "debug,engine,settings");
	ck_assert_str_eq(s.log, "debug,engine,settings");
	takes("interface", "i1,i2,i3,i4,i5,i6,i7,i8,i9,i10,i11,i12,i13,i14,i15,interfacename16");
}
END_TEST

static const char *const refused[][2] = {
    {"interface", ""},
    {"interface", "sixteen-letters!"},
    {"interface", "a/b"},
    {"interface", "a b"},
    {"interface", ".."},
    {"interface", "eth0:1"},
    {"interface", "eth0,eth1,eth0"},
    {"interface", "i1,i2,i3,i4,i5,i6,i7,i8,i9,i10,i11,i12,i13,i14,i15,i16,i17"},
    {"firewall", ""},
    {"firewall", "maybe"},
    {"strict", "On"},
    {"strict", "2"},
    {"close-policy", ""},
    {"close-policy", "hold"},
    {"close-policy", "hold:"},
    {"close-policy", "hold:0"},
    {"close-policy", "hold:-5"},
    {"close-policy", "hold:60001"},
    {"close-policy", "hold:5m"},
    {"close-policy", "hold: 5"},
    {"close-policy", "hold:1.5s"},
    {"close-policy", "Adaptive"},
    {"close-policy", "hold:99999999999999999999"},
    {"close-hold-max", ""},
    {"close-hold-max", "0"},
    {"close-hold-max", "999us"},
    {"close-hold-max", "61s"},
    {"close-hold-max", "s"},
    {"close-hold-max", "1 s"},
    {"close-hold-max", "+1s"},
    {"close-hold-max", "1sec"},
    {"close-client-budget", ""},
    {"close-client-budget", "-1"},
    {"close-client-budget", "1000001"},
    {"close-client-budget", "4k"},
    {"close-client-budget", "0x10"},
    {"memory-limit", ""},
    {"memory-limit", "M"},
    {"memory-limit", "3M"},
    {"memory-limit", "2T"},
    {"memory-limit", "8X"},
    {"memory-limit", "99999999999999999999G"},
    {"congestion", ""},
    {"congestion", "cubi"},
    {"congestion", "Cubic"},
    {"congestion", "Reno"},
    {"classifier", "bpf"},
    {"spin", ""},
    {"spin", "-1"},
    {"spin", "1001ms"},
    {"spin", "fast"},
    {"log", ""},
    {"log", "loud"},
    {"log", "warn,"},
    {"log", "warn,,tcp"},
    {"log", "warn, engine"},
    {"log", "warn,engin"},
    {"log", "warn,engine,tcp"},
    {"log", "Warn"},
};

START_TEST(every_setting_refuses)
{
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
		refuses(refused[i][0], refused[i][1]);
	char longest[200];
	memset(longest, 'a', sizeof longest);
	memcpy(longest, "warn,", 5);
	longest[sizeof longest - 1] = 0;
	refuses("log", longest);
	refuses("congestion", "vegas");
	ck_assert_ptr_ne(strstr(why, "cubic, reno, newreno, dctcp or bbr"), NULL);
	ck_assert_int_eq(settings_set(&s, "close_policy", "off", why, sizeof why), -ENOENT);
	ck_assert_ptr_ne(strstr(why, "close_policy"), NULL);
}
END_TEST

START_TEST(table)
{
	size_t n = 0;
	bool strict = false;
	for (const struct setting_info *i; (i = settings_info(n)); n++) {
		char variable[SETTINGS_VARIABLE_LEN];
		ck_assert(i->name[0] && i->help[0]);
		ck_assert_int_eq(i->flag, i->arg == NULL);
		ck_assert_uint_lt(strlen(settings_variable(i->name, variable)),
				  SETTINGS_VARIABLE_LEN - 1);
		strict |= strcmp(i->name, "strict") == 0;
		if (i->default_text)
			takes(i->name, i->default_text);
		else
			refuses(i->name, "");
	}
	ck_assert(strict);
	ck_assert_uint_ge(n, 11);
	ck_assert_ptr_eq(settings_info(n + 100), NULL);
}
END_TEST

/* ---- own addresses ---- */

START_TEST(addresses)
{
	static const char *const wrong[] = {"10.0.0.1", "10.0.0.1/", "10.0.0.1/33", "10.0.0.1/0", "10.0.0.1/-1", "10.0.0.1/24,", ",10.0.0.1/24", "10.0.0.1/24 ", "fd00::1/129",
					    "0.0.0.0/8", "127.0.0.1/8", "::1/64", "10.0.0.1/24,10.0.0.1/25", "10.0.0.1/0x18", "host/24"};
	static const char *const none[][2] = {{"224.0.0.1/24", "group"},	{"239.1.2.3/32", "group"},	    {"ff02::1/64", "group"},	   {"255.255.255.255/32", "broadcast"}, {"240.0.0.1/8", "reserved"},
					      {"0.1.2.3/8", "reserved"},	{"0.0.0.0/8", "unspecified"},	    {"::/64", "unspecified"},	   {"127.0.0.1/8", "loopback"},		{"::1/128", "loopback"},
					      {"10.0.0.255/24", "network's broadcast"}, {"10.0.0.0/24", "network's own"}, {"10.0.0.1/24,10.0.0.1/25", "twice"}};
	takes("address", "10.0.0.9/24,fd00::9/64");
	ck_assert_uint_eq(s.n_own, 2);
	ck_assert_uint_eq(s.own[0].prefix_len, 24);
	ck_assert(ip_addr_is_v4(&s.own[0].addr) && !ip_addr_is_v4(&s.own[1].addr));
	ck_assert_uint_eq(s.own[1].prefix_len, 64);
	for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++)
		refuses("address", wrong[i]);
	for (unsigned i = 0; i < sizeof none / sizeof *none; i++) {
		refuses("address", none[i][0]);
		ck_assert_msg(strstr(why, none[i][1]) != NULL, "%s", why);
	}
	ck_assert_uint_eq(s.n_own, 2); /* an error changes nothing */
	takes("address", "10.0.0.0/31,10.0.0.1/31,10.1.0.0/32,fe80::9/64,fd00::/64,240::1/64,10.255.255.255/7,10.0.0.9/24,fd00::9/64");
	takes("address", "10.0.0.9/24,fd00::9/64");
	takes("gateway", "fd00::1,10.0.0.1");
	ck_assert(ip_addr_is_v4(&s.gateway[0]) && !ip_addr_is_any(&s.gateway[1]));
	takes("gateway", "10.0.0.2");
	ck_assert(ip_addr_is_any(&s.gateway[1]));
	refuses("gateway", "10.0.0.1,10.0.0.2");
	refuses("gateway", "10.0.0.1/24");
	refuses("gateway", "0.0.0.0");
	refuses("gateway", "224.0.0.1");
	refuses("gateway", "127.0.0.1");
	refuses("gateway", "ff02::2");
	char many[OWN_ADDRESSES_MAX * 16 + 16] = "";
	for (unsigned i = 0; i <= OWN_ADDRESSES_MAX; i++)
		sprintf(many + strlen(many), "%s10.0.0.%u/24", i ? "," : "", i + 1);
	refuses("address", many);
}
END_TEST

/* Each is right by itself. */
START_TEST(together)
{
	static const char *const wrong[][3] = {{NULL, "10.0.0.1", "there is no address"},
					       {"10.0.0.9/24", "fd00::1", "family"},
					       {"10.0.0.9/24", "10.0.1.1", "no prefix"},
					       {"10.0.0.9/24", "10.0.0.9", "one of the own"},
					       {"10.0.0.9/32", "10.0.0.1", "no prefix"}};
	ck_assert_int_eq(settings_check(&s, why, sizeof why), 0);
	for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		settings_default(&s);
		if (wrong[i][0])
			takes("address", wrong[i][0]);
		takes("gateway", wrong[i][1]);
		ck_assert_int_eq(settings_check(&s, why, sizeof why), -EINVAL);
		ck_assert_msg(strncmp(why, "gateway ", 8) == 0 && strstr(why, wrong[i][2]), "%s", why);
	}
	settings_default(&s);
	takes("address", "10.0.0.9/24,fd00::9/64");
	takes("gateway", "10.0.0.1,fe80::1");
	ck_assert_int_eq(settings_check(&s, why, sizeof why), 0);
	takes("close-policy", "hold:1001");
	ck_assert_int_eq(settings_check(&s, why, sizeof why), -EINVAL);
	ck_assert_ptr_ne(strstr(why, "close-hold-max"), NULL);
	takes("close-hold-max", "1001");
	ck_assert_int_eq(settings_check(&s, why, sizeof why), 0);
}
END_TEST

START_TEST(tree)
{
	char *good[] = {"FINESSE__TREE=0123456789abcdef", NULL}, *bad[] = {"FINESSE__TREE=0123456789abcde/", NULL}, *longer[] = {"FINESSE__TREE=0123456789abcdef0", NULL};
	ck_assert_int_eq(settings_from_environment(&s, bad, why, sizeof why), 0);
	ck_assert_int_eq(settings_from_environment(&s, longer, why, sizeof why), 0);
	ck_assert_str_eq(s.tree, "");
	ck_assert_int_eq(settings_from_environment(&s, good, why, sizeof why), 0);
	ck_assert_str_eq(s.tree, "0123456789abcdef");
}
END_TEST

START_TEST(environment)
{
	char *good[] = {"PATH=/bin",
			"FINESSE_CLOSE_POLICY=hold:20",
			"FINESSE_STRICT=1",
			"FINESSE__OURS=x",
			"FINESSE_ONLY=server *:80,except server *:81",
			"FINESSE_EXCEPT=client *:443",
			"FINESSENCE=1",
			NULL};
	takes("only", "client *:1"); /* replaced by those of the environment */
	ck_assert_int_eq(settings_from_environment(&s, good, why, sizeof why), 0);
	ck_assert_int_eq(s.close_hold_us, 20000);
	ck_assert(s.strict);
	ck_assert_uint_eq(s.n_rules, 3);
	ck_assert(s.rules[0].except && s.rules[0].client);
	ck_assert(!s.rules[1].except && s.rules[1].port_first == 80);
	ck_assert(s.rules[2].except && s.rules[2].port_first == 81);
	char *none[] = {NULL};
	ck_assert_int_eq(settings_from_environment(&s, none, why, sizeof why), 0);
	ck_assert_uint_eq(s.n_rules, 3);
}
END_TEST

START_TEST(environment_errors)
{
	static const char *const wrong[][2] = {
	    {"FINESSE_CLOSE_POLICI=off", "FINESSE_CLOSE_POLICI "},
	    {"FINESSE_=x", "FINESSE_ "},
	    {"FINESSE_close_policy=off", "FINESSE_close_policy "},
	    {"FINESSE_SPIN", "FINESSE_SPIN "},
	    {"FINESSE_SPINN=3", "FINESSE_SPINN "},
	    {"FINESSE_CLOSE_HOLD_MAX=long", "FINESSE_CLOSE_HOLD_MAX takes"},
	    {"FINESSE_CONFIG=/x", "FINESSE_CONFIG "},
	    {"FINESSE_ONLY=", "FINESSE_ONLY: "},
	};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		char *env[] = {(char *)wrong[i][0], NULL};
		ck_assert_int_eq(settings_from_environment(&s, env, why, sizeof why), -EINVAL);
		ck_assert_msg(strncmp(why, wrong[i][1], strlen(wrong[i][1])) == 0, "%s", why);
	}
}
END_TEST

static char path[64];

static void file_holds(const void *text, size_t n)
{
	strcpy(path, "settings_test.XXXXXX");
	int fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, n), (ssize_t)n);
	close(fd);
}

START_TEST(file)
{
	static const char text[] =
	    "# ours\n\nclose-policy = off\r\n\tspin=20us  \nonly = server *:80\n"
	    "except = server any:81\nstrict = on"; /* no newline at the end */
	file_holds(text, strlen(text));
	takes("only", "client *:1");
	int r = settings_from_file(&s, path, why, sizeof why);
	unlink(path);
	ck_assert_msg(r == 0, "%s", why);
	ck_assert_int_eq(s.close_policy, CLOSE_POLICY_OFF);
	ck_assert_uint_eq(s.spin_us, 20);
	ck_assert_uint_eq(s.n_rules, 2);
	ck_assert(!s.rules[0].except && s.rules[1].except && s.strict);
}
END_TEST

START_TEST(file_errors)
{
	static const char *const wrong[][2] = {
	    {"spin = 1\nstrict\n", ":2: "},
	    {"\n\n\nspinn = 3\n", ":4: there is no setting 'spinn'"},
	    {"close-policy = hodl", ":1: close-policy takes"},
	    {"= 3", ":1: there is no setting ''"},
	    {"spin = 1\nlog = info\nspin = 1\n", ":3: spin is set in line 1 already"},
	    {"\xef\xbb\xbfspin = x\n", ":1: spin takes"},
	};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		file_holds(wrong[i][0], strlen(wrong[i][0]));
		int r = settings_from_file(&s, path, why, sizeof why);
		unlink(path);
		ck_assert_int_eq(r, -EINVAL);
		ck_assert_msg(strncmp(why, path, strlen(path)) == 0 && strstr(why, wrong[i][1]),
			      "%s", why);
	}
	static char big[70000];
	memset(big, '\n', sizeof big);
	file_holds(big, sizeof big);
	ck_assert_int_eq(settings_from_file(&s, path, why, sizeof why), -EFBIG);
	unlink(path);
	file_holds("spin = 1\n\0spin = x", 19);
	ck_assert_int_eq(settings_from_file(&s, path, why, sizeof why), -EINVAL);
	unlink(path);
	ck_assert_int_eq(settings_from_file(&s, path, why, sizeof why), -ENOENT);
	ck_assert_ptr_ne(strstr(why, path), NULL);
}
END_TEST

static bool allowed(bool server, const char *addr, uint16_t port)
{
	struct ip_addr a;
	ck_assert_int_eq(ip_addr_parse(addr, &a), 0);
	return settings_rules_allow(&s, server, &a, port);
}

START_TEST(rules_parse)
{
	static const char *const right[] = {
	    "server 10.0.0.1:80",
	    "client 10.0.0.0/8:443",
	    "server any:1-65535",
	    "server *:*",
	    "client *:any",
	    "server [fe80::1]:80",
	    "server [2001:db8::]/32:80-90",
	    "server [2001:db8::/32]:80",
	    "client [::]:*",
	    " except\tserver  *:80 ",
	    "only client *:80",
	    "server *:80,client *:80, except server 1.2.3.4:5",
	};
	static const char *const wrong[] = {
	    "",
	    "server",
	    "sever *:80",
	    "server *",
	    "server :80",
	    "server *:",
	    "server *:0",
	    "server *:65536",
	    "server *:90-80",
	    "server *:80-",
	    "server *:-80",
	    "server 10.0.0.256:80",
	    "server 10.0.0.1/33:80",
	    "server 10.0.0.1/:80",
	    "server */8:80",
	    "server fe80::1:80",
	    "server [fe80::1:80",
	    "server [10.0.0.1]:80",
	    "server [fe80::1]/129:80",
	    "server [fe80::1]x:80",
	    "server *:80 x",
	    "both *:80",
	    "server *:80,",
	    ",server *:80",
	    "only",
	    "only except server *:80",
	    "server *:8o",
	    "server [*]:80",
	    "server *:+80",
	};
	for (size_t i = 0; i < sizeof right / sizeof right[0]; i++)
		takes("only", right[i]);
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		refuses("except", wrong[i]);
	char longest[300];
	memset(longest, 'x', sizeof longest);
	longest[sizeof longest - 1] = 0;
	refuses("only", longest);
}
END_TEST

START_TEST(rules_bounded)
{
	for (int i = 0; i < TRAFFIC_RULES_MAX; i++)
		takes("only", "server *:80");
	ck_assert_int_eq(settings_set(&s, "only", "server *:80", why, sizeof why), -EINVAL);
	ck_assert_ptr_ne(strstr(why, "64"), NULL);
	ck_assert_uint_eq(s.n_rules, TRAFFIC_RULES_MAX);
}
END_TEST

START_TEST(rules_first_match_wins)
{
	ck_assert(allowed(true, "10.0.0.1", 80) && allowed(false, "::1", 1));
	takes("except", "server 10.0.0.0/9:80");
	ck_assert(!allowed(true, "10.0.0.1", 80) && !allowed(true, "10.127.0.1", 80));
	ck_assert(allowed(true, "10.128.0.1", 80) && allowed(true, "10.0.0.1", 81) &&
		  allowed(false, "10.0.0.1", 80));
	takes("only", "server any:80");
	ck_assert(!allowed(true, "10.0.0.1", 80) && allowed(true, "10.128.0.1", 80) &&
		  allowed(true, "fe80::1", 80));
	ck_assert(!allowed(true, "10.128.0.1", 81) && !allowed(false, "10.0.0.1", 80));
	takes("only", "client [2001:db8::]/33:443-444");
	ck_assert(allowed(false, "2001:db8:1::1", 444) && !allowed(false, "2001:db8:8000::1", 444));
	ck_assert(!allowed(false, "2001:db8::1", 445) && !allowed(true, "2001:db8::1", 443));
}
END_TEST

START_TEST(rules_order_in_one_variable)
{
	takes("only", "server 10.0.0.1:80,except server *:80,client *:*");
	ck_assert(allowed(true, "10.0.0.1", 80) && !allowed(true, "10.0.0.2", 80) &&
		  allowed(false, "10.0.0.2", 80));
}
END_TEST

START_TEST(rules_and_wildcard_listeners)
{
	takes("except", "server 10.0.0.1:81");
	ck_assert(!allowed(true, "0.0.0.0", 81) && !allowed(true, "::", 81) &&
		  allowed(true, "0.0.0.0", 80));
	takes("except", "server [fe80::]/16:82");
	ck_assert(allowed(true, "0.0.0.0", 82) && !allowed(true, "::", 82));
	takes("only", "server 10.0.0.1:83,server 0.0.0.0:84,server [::]:85");
	ck_assert(!allowed(true, "0.0.0.0", 83) && allowed(true, "10.0.0.1", 83));
	ck_assert(allowed(true, "0.0.0.0", 84) && !allowed(true, "::", 84) &&
		  allowed(true, "10.9.9.9", 84));
	ck_assert(allowed(true, "0.0.0.0", 85) && allowed(true, "::", 85));
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {defaults,
				      every_setting_takes,
				      every_setting_refuses,
				      table,
				      addresses,
				      together,
				      tree,
				      environment,
				      environment_errors,
				      file,
				      file_errors,
				      rules_parse,
				      rules_bounded,
				      rules_first_match_wins,
				      rules_order_in_one_variable,
				      rules_and_wildcard_listeners};
	Suite *suite = suite_create("settings");
	TCase *tc = tcase_create("settings");
	tcase_add_checked_fixture(tc, setup, NULL);
	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(suite, tc);
	return suite_main(suite);
}
