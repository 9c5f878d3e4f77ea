#!/bin/sh
# --strict: a listener or connection that finesse cannot carry is an error, and policy is none. And the line at the start.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
unset FINESSE_LOG # the default is looked at
need ip nsenter python3 ss jq
pair_up
program=$srcdir/tests/process/strict_program.py
finesse=$FINESSE_BUILD_DIR/finesse

nsenter --net="/proc/$CLIENT_NS/ns/net" python3 -c '
import socket, signal
l = socket.socket()
l.bind(("'$CLIENT_IP'", 9000))
l.listen(16)
signal.pause()' &
holders="$holders $!"
wait_until 10 sh -c "nsenter --net=/proc/$CLIENT_NS/ns/net ss -Hltn 'sport = :9000' | grep -q ."

# run OPTION...: the program's calls in $scratch/out, its log in $scratch/err, and what listens in $scratch/listens
run() {
	mkfifo "$scratch/go"
	sleep 100 >"$scratch/go" &
	writer=$!
	: >"$scratch/out"
	nsenter --net="/proc/$SERVER_NS/ns/net" "$finesse" run --interface server0 --except 'server any:8003' "$@" -- \
		python3 "$program" calls $SERVER_IP $CLIENT_IP <"$scratch/go" >"$scratch/out" 2>"$scratch/err" &
	pid=$!
	holders="$holders $writer $pid"
	wait_until 20 grep -q '^connect with' "$scratch/out"
	in_server ss -Hltn | awk '{ sub(/.*:/, "", $4); print $4 }' | sort >"$scratch/listens"
	in_server "$finesse" stat --json $pid >"$scratch/json"
	kill $writer
	wait $pid
	rm "$scratch/go"
}

# same FILE TEXT WHAT
same() {
	if [ "$(cat "$scratch/$1")" = "$2" ]; then pass "$3"; else fail "$3: $(cat "$scratch/$1" "$scratch/err")"; fi
}

run
same out 'listen 0
listen with SO_MARK 0
listen on loopback 0
listen by rule 0
listen with TCP_FASTOPEN 0
connect 0
connect with SO_MARK 0' "without --strict, all is served by one or the other"
run --strict
same out 'listen 0
listen with SO_MARK ENETDOWN
listen on loopback 0
listen by rule 0
listen with TCP_FASTOPEN 0
connect 0
connect with SO_MARK ENETDOWN' "with --strict, what finesse cannot carry fails, and policy does not"
same listens '8000
8002
8003
8004' "what failed does not listen"
if jq -e '.[0] | (.listeners | map(.port) | sort) == [8000, 8004] and .totals.connections_opened == 1' "$scratch/json" >/dev/null; then
	pass "the rest is carried by finesse"
else
	fail "carried: $(cat "$scratch/json" | head -c 1500)"
fi
if [ "$(grep -c 'SO_MARK is not' "$scratch/err")" = 1 ]; then pass "the reason is logged once"; else fail "the log: $(cat "$scratch/err")"; fi

# TCP_FASTOPEN of a listener has an effect only where the namespace says so (2): then the engine does it.
in_server sh -c 'echo 3 >/proc/sys/net/ipv4/tcp_fastopen'
run --strict
if grep -qx 'listen with TCP_FASTOPEN 0' "$scratch/out"; then pass "where servers may do TCP Fast Open, the engine does"; else fail "tcp_fastopen 3: $(cat "$scratch/out")"; fi
in_server sh -c 'echo 1 >/proc/sys/net/ipv4/tcp_fastopen'

# The line at the start: on a terminal one, at the level of the settings.
on_terminal() {
	in_server timeout 20 python3 "$program" terminal "$finesse" run --interface server0 "$@" -- python3 "$program" connects $CLIENT_IP >"$scratch/out" 2>&1
}
line='serving TCP of pid [0-9]* on server0 (10\.78\.0\.1'
on_terminal
if [ "$(wc -l <"$scratch/out")" = 1 ] && grep -q "$line" "$scratch/out"; then pass "a terminal: one line says what is served"; else fail "a terminal: $(cat "$scratch/out")"; fi
on_terminal --log error
if [ ! -s "$scratch/out" ]; then pass "not at the level error"; else fail "at the level error: $(cat "$scratch/out")"; fi
in_server timeout 20 "$finesse" run --interface server0 -- python3 "$program" connects $CLIENT_IP >"$scratch/out" 2>&1
if [ ! -s "$scratch/out" ]; then pass "a file: nothing"; else fail "a file: $(cat "$scratch/out")"; fi
in_server timeout 20 "$finesse" run --interface server0 --log info,engine -- python3 "$program" connects $CLIENT_IP >"$scratch/out" 2>&1
if grep -q "$line" "$scratch/out"; then pass "a file at the level info: the same line"; else fail "a file at the level info: $(cat "$scratch/out")"; fi
finish
