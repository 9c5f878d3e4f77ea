#!/bin/sh
# Twenty thousand rules, and a set of twenty thousand addresses that are kept out for a time, as blocklists are: one more while connections live, and the one that it bans hears nothing more,
# the other goes on by the engine. By the set, who is not in it is not even asked about.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need nft python3 jq
pair_up
in_client ip addr add 10.78.0.3/24 dev client0
many_rules() {
	echo "table ip many {"; echo "chain in {"; echo "type filter hook input priority 0;"
	echo "ct state established accept"
	i=0
	while [ $i -lt 20000 ]; do
		echo "ip saddr 10.100.$((i / 256)).$((i % 256)) tcp dport 8080 drop"
		i=$((i + 1))
	done
	echo "}"; echo "}"
}

many_elements() {
	echo "table ip many {"; echo "set blocked {"; echo "type ipv4_addr; flags timeout; timeout 4h"; echo "elements = {"
	i=0
	while [ $i -lt 20000 ]; do
		echo "10.100.$((i / 256)).$((i % 256)),"
		i=$((i + 1))
	done
	echo "} }"; echo "chain in {"; echo "type filter hook input priority -10;"; echo "ip saddr @blocked counter drop"; echo "}"; echo "}"
}

engine_has() { # so many connections
	[ "$("$FINESSE_BUILD_DIR/finesse" stat "$server" --json | jq '[.[].connections[] | select(.state == "ESTABLISHED" and .carrier == "engine")] | length')" = "$1" ]
}
asked() { "$FINESSE_BUILD_DIR/finesse" stat "$server" --json | sed -n 's/.*"Judged": *\([0-9]*\).*/\1/p' | awk '{ n += $1 } END { print n + 0 }'; }

# host NAME BAN ASKED: on a host with the rules that NAME makes, which is asked about so many of two clients, and then bans 10.78.0.2
host() {
	in_server nft flush ruleset
	"$1" >"$scratch/rules"
	in_server nft -f "$scratch/rules"
	nsenter --net="/proc/$SERVER_NS/ns/net" "$FINESSE_BUILD_DIR/finesse" run --interface server0 -- python3 "${srcdir:-.}/tests/net/many_rules.py" serve 8080 >"$scratch/server.log" 2>&1 9>&- &
	server=$!
	holders="$holders $server"
	wait_until 60 grep -q ready "$scratch/server.log"
	for who in "2 3" "3 100"; do # the second is to be answered on and on
		k=${who% *}
		nsenter --net="/proc/$CLIENT_NS/ns/net" python3 "${srcdir:-.}/tests/net/many_rules.py" ask $SERVER_IP 8080 10.78.0.$k "${who#* }" >"$scratch/$1.client$k" 2>&1 9>&- &
		holders="$holders $!"
		wait_until 60 grep -q answered "$scratch/$1.client$k"
	done
	if wait_until 60 engine_has 2; then pass "two connections, by the engine"; else "$FINESSE_BUILD_DIR/finesse" stat "$server"; fi
	[ "$(asked)" = "$3" ] && pass "$1: $3 were asked about" || fail "$1: not $3 but $(asked) were asked about"
	in_server nft "$2"
	if wait_until 60 engine_has 1 && wait_until 60 grep -q silent "$scratch/$1.client2"; then pass "the banned one hears nothing more"; fi
	if engine_has 1 && ! grep -q silent "$scratch/$1.client3"; then
		pass "the other one goes on, by the engine"
	else
		fail "the other one: $(cat "$scratch/$1.client3") $("$FINESSE_BUILD_DIR/finesse" stat "$server")"
	fi
	kill "$server"
	wait "$server" 2>/dev/null || true
}

host many_rules "insert rule ip many in ip saddr 10.78.0.2 drop" 2
host many_elements "add element ip many blocked { 10.78.0.2 }" 0
finish
