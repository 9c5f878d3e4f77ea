#!/bin/sh
# `finesse stat` tells the truth: every process, each socket's carrier and why, and nothing of those that are gone.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
unset FINESSE_LOG # the default is looked at
need ip nsenter python3 jq
pair_up
program=$srcdir/tests/process/stat_program.py
finesse=$FINESSE_BUILD_DIR/finesse

stat() {
	in_server "$finesse" stat "$@" 2>"$scratch/err"
}

# check TEXT JQ-FILTER: of the last document
check() {
	if jq -e "$2" "$scratch/json" >/dev/null 2>&1; then
		pass "$1"
	else
		fail "$1: $(jq -c 'map(del(.counters, .memory))' "$scratch/json" | head -c 2000) $(head -c 300 "$scratch/err")"
	fi
}

nsenter --net="/proc/$CLIENT_NS/ns/net" python3 -c '
import socket, signal
l = socket.socket()
l.bind(("'$CLIENT_IP'", 9000))
l.listen()
signal.pause()' &
holders="$holders $!"
wait_until 10 sh -c "nsenter --net=/proc/$CLIENT_NS/ns/net ss -Hltn 'sport = :9000' | grep -q ."

mkfifo "$scratch/go"
sleep 1000 >"$scratch/go" &
writer=$!
holders="$holders $writer"
finesse_server python3 "$program" carriers $SERVER_IP $CLIENT_IP <"$scratch/go" >"$scratch/out" 2>"$scratch/said" &
pid=$!
finesse_server sleep 1000 &
idle=$!
holders="$holders $pid $idle"
wait_until 10 grep -q ready "$scratch/out"
both_listed() { # the library is mapped before its constructor has run
	stat --json | jq -e "map(.pid) | sort == ([$pid, $idle] | sort)"
}
wait_until 20 both_listed

stat --json >"$scratch/json"
check "both processes are listed, the one without an engine, too" "map(.pid) | sort == ([$pid, $idle] | sort)"
check "the one without TCP says so" ".[] | select(.pid == $idle) | .engine == false and .kernel_sockets == []"
jq "map(select(.pid == $pid))" "$scratch/json" >"$scratch/one" && mv "$scratch/one" "$scratch/json"
check "the engine carries one listener and one connection" '.[0] | (.listeners | map([.carrier, .port])) == [["engine", 8000]] and (.connections | map([.carrier, .remote])) == [["engine", "'$CLIENT_IP':9000"]]'
check "the listener with SO_MARK is the kernel's, which says why" '.[0].kernel_sockets[] | select(.local == "'$SERVER_IP':8001") | .state == "LISTEN" and .carrier == "kernel" and (.why | test("SO_MARK"))'
check "so is the one on loopback" '.[0].kernel_sockets[] | select(.local == "127.0.0.1:8002") | .why | test("loopback")'
check "the connection with SO_MARK was handed over, which says why" '.[0].kernel_sockets[] | select(.remote == "'$CLIENT_IP':9000") | .state == "ESTABLISHED" and (.why | test("option"))'
check "these are all of the kernel's" '.[0].kernel_sockets | length == 3'
check "it is counted, with its reason" '.[0] | .totals.handed_over == 1 and (.handed_over | length) == 1 and ([.fallbacks[] | select(.what == "a connection")] | map(.count)) == [1]'
# Beside what differs from process to process (reasons, counters, bounds, sizes), each member is in the manual.
manual=$srcdir/man/finesse.1
jq -r '[.[] | paths | map(select(type == "string")) | select(any(.[:-1][]; . == "counters" or . == "server_first" or . == "hold_us" or . == "objects") | not) | .[-1] // empty] | unique[]' "$scratch/json" >"$scratch/members"
unknown=$(while read -r member; do sed -n '/^\.SH JSON/,/^\.SH ENV/p' "$manual" | grep -qw -e "$member" || echo "$member"; done <"$scratch/members")
if [ "$(wc -l <"$scratch/members")" -gt 60 ] && [ -z "$unknown" ]; then
	pass "the manual names all members of the document"
else
	fail "the manual does not know of $(wc -l <"$scratch/members") members:" $unknown
fi
stat $pid >"$scratch/text"
if grep -q '^LISTEN .*:8001' "$scratch/text" && [ "$(grep -c 'carried by the kernel: ' "$scratch/text")" = 3 ]; then
	pass "the text says the same"
else
	fail "the text: $(cat "$scratch/text")"
fi
stat $pid --json >"$scratch/json"
check "one process: an array of one" "length == 1 and .[0].pid == $pid"
# Each reason is a warning once.
if [ "$(grep -c 'finesse: fallback: ' "$scratch/said")" = 1 ]; then pass "the log warns once per reason"; else fail "the log: $(cat "$scratch/said")"; fi
# A stopped process is not waited for: there may be many.
kill -STOP $pid
wait_until 5 grep -q 'State:.*stopped' /proc/$pid/status
stat --json >"$scratch/json"
status=$?
kill -CONT $pid
if [ $status = 1 ] && [ "$(cat "$scratch/err")" = "finesse stat: pid $pid: is stopped, and does not answer" ]; then
	pass "a stopped process is told"
else
	fail "a stopped process: status $status, $(cat "$scratch/err")"
fi
check "the others are listed" "map(.pid) == [$idle]"
kill -9 $pid $idle
wait $pid $idle 2>/dev/null

for how in fork number spawn; do
	[ $how != number ] || [ "$(uname -m)" = x86_64 ] || continue
	: >"$scratch/out"
	mkfifo "$scratch/$how"
	sleep 1000 >"$scratch/$how" &
	writer=$!
	finesse_server python3 "$program" parent_exits $how $SERVER_IP <"$scratch/$how" >"$scratch/out" 2>"$scratch/said" &
	pid=$!
	holders="$holders $pid"
	wait_until 10 grep -q ready "$scratch/out"
	kill $writer
	wait $pid
	stat --json >"$scratch/json"
	status=$?
	check "$how: the parent, which exited, is not listed; its child is" "length == 1 and .[0].pid != $pid"
	if [ $status = 0 ] && [ ! -s "$scratch/err" ] && ! grep -q "finesse/stat/$pid\$" /proc/$SERVER_NS/net/unix; then
		pass "$how: nobody holds the parent's stat socket"
	else
		fail "$how: status $status, $(cat "$scratch/err") $(grep finesse /proc/$SERVER_NS/net/unix)"
	fi
	child=$(jq '.[0].pid' "$scratch/json")
	kill -9 "$child"
	wait_until 5 sh -c "! kill -0 $child"
done
finish
