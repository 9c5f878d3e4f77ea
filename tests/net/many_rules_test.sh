#!/bin/sh
# Twenty thousand rules, and one more while connections live: the one that it bans hears nothing more, the other goes on by the engine.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need nft python3 jq
pair_up
in_client ip addr add 10.78.0.3/24 dev client0
{
	echo "table ip many {"; echo "chain in {"; echo "type filter hook input priority 0;"
	echo "ct state established accept"
	i=0
	while [ $i -lt 20000 ]; do
		echo "ip saddr 10.100.$((i / 256)).$((i % 256)) tcp dport 8080 drop"
		i=$((i + 1))
	done
	echo "}"; echo "}"
} >"$scratch/rules"
in_server nft -f "$scratch/rules"
nsenter --net="/proc/$SERVER_NS/ns/net" "$FINESSE_BUILD_DIR/finesse" run --interface server0 -- python3 "${srcdir:-.}/tests/net/many_rules.py" serve 8080 >"$scratch/server.log" 2>&1 9>&- &
server=$!
holders="$holders $server"
wait_until 60 grep -q ready "$scratch/server.log"
for who in "2 3" "3 100"; do # the second is to be answered on and on
	k=${who% *}
	nsenter --net="/proc/$CLIENT_NS/ns/net" python3 "${srcdir:-.}/tests/net/many_rules.py" ask $SERVER_IP 8080 10.78.0.$k "${who#* }" >"$scratch/client$k" 2>&1 9>&- &
	holders="$holders $!"
	wait_until 60 grep -q answered "$scratch/client$k"
done

engine_has() { # so many connections
	[ "$("$FINESSE_BUILD_DIR/finesse" stat "$server" --json | jq '[.[].connections[] | select(.state == "ESTABLISHED" and .carrier == "engine")] | length')" = "$1" ]
}
if wait_until 60 engine_has 2; then pass "two connections, by the engine"; else "$FINESSE_BUILD_DIR/finesse" stat "$server"; fi
in_server nft insert rule ip many in ip saddr 10.78.0.2 drop
if wait_until 60 engine_has 1 && wait_until 60 grep -q silent "$scratch/client2"; then pass "the banned one hears nothing more"; fi
if engine_has 1 && ! grep -q silent "$scratch/client3"; then
	pass "the other one goes on, by the engine"
else
	fail "the other one: $(cat "$scratch/client3") $("$FINESSE_BUILD_DIR/finesse" stat "$server")"
fi
finish
