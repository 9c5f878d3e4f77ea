#!/bin/sh
# The broker's life: who sees it, what it holds, when it ends; and what goes on without it.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter setpriv ss python3 unshare
pair_up
dropped=$FINESSE_BUILD_DIR/tests/process/dropped

# The brokers of the server's namespace.
brokers() {
	namespace=$(readlink /proc/$SERVER_NS/ns/net)
	for one in /proc/[0-9]*; do
		[ "$(cat "$one/comm" 2>/dev/null)" = finesse-broker ] && [ "$(readlink "$one/ns/net" 2>/dev/null)" = "$namespace" ] && echo "${one#/proc/}"
	done
}

none_left() {
	[ -z "$(brokers)" ]
}

# is WHAT FOUND EXPECTED
is() {
	if [ "$2" = "$3" ]; then pass "$1: $2"; else fail "$1: $2, not $3"; fi
}

# No wait of the program's finds it, not even one for clones (__WALL).
waits='import os
for flags in 0, 0x40000000:
    try: print(os.waitpid(-1, flags | os.WNOHANG))
    except ChildProcessError: print("no child", end=" ")'
is "waits of the program" "$(finesse_server python3 -c "$waits")" "no child no child "
waits='import os
try: print(os.getpid(), os.waitpid(-1, 0))
except ChildProcessError: print(os.getpid(), "no child")'
is "the first process of a container waits" "$(nsenter --net=/proc/$SERVER_NS/ns/net unshare --pid --fork --mount-proc "$FINESSE_BUILD_DIR/finesse" run --interface server0 -- python3 -c "$waits")" "1 no child"

# It holds no pipe of the program's: the reader sees the end with the program's.
is "a pipe" "$(finesse_server sh -c 'echo out; exit 3' | cat)" out
# Another tree's process, whose environment tells nothing (setproctitle), is no reason to stay.
env -i LD_PRELOAD="$FINESSE_BUILD_DIR/libfinesse.so" nsenter --net=/proc/$SERVER_NS/ns/net sleep 1000 &
foreign=$!
holders="$holders $foreign"
wait_until 10 grep -q libfinesse.so "/proc/$foreign/maps"
finesse_server true &
wait $!
wait_until 10 none_left && pass "ends with a program that is over, while others run under finesse"
# Who began before the broker cannot be of its tree, and is not read: on a host with many processes that would be all that a short run costs.
if command -v strace >/dev/null; then
	nsenter --net=/proc/$SERVER_NS/ns/net strace -f -qq -e trace=openat -o "$scratch/opened" "$FINESSE_BUILD_DIR/finesse" run --interface server0 -- true # until the broker has ended, too
	is "whether an older process is asked when it began" "$(grep -q "\"/proc/$foreign/stat\"" "$scratch/opened" && echo yes)" yes
	is "opens of what an older process has" "$(grep -c "\"/proc/$foreign/\(environ\|maps\)\"" "$scratch/opened")" 0
fi
kill -9 $foreign

# It stays for a process that the program left behind, and is small.
(finesse_server sh -c 'setsid sleep 1000 >/dev/null 2>&1 & echo $!') >"$scratch/left"
left=$(cat "$scratch/left")
holders="$holders $left"
broker=$(brokers)
is "brokers beside a process that was left behind" "$(echo "$broker" | wc -w)" 1
is_small() {
	private=$(awk '/^Private_/ { kb += $2 } END { print kb }' "/proc/$broker/smaps_rollup")
	[ "$private" -le 1024 ]
}
# For two seconds it has a link ready, with a ring of 4 MB.
wait_until 10 is_small && pass "its own memory is 1 MB at most"
for signal in TERM INT HUP QUIT; do kill -$signal "$broker"; done
is "files that are not its own" "$(ls -l "/proc/$broker/fd" | grep -c 'pipe:\|/tmp\|tty')" 0
is "its session" "$(ps -o sid= -p "$broker" | tr -d ' ')" "$broker"
kill "$left"
wait_until 10 none_left && pass "ends with the last process of the tree, and by no signal of a terminal"

# It is too busy to answer in time (stopped): what needs it falls back, and it does not take the member for dead when it goes on. So what the member has lives, and it is asked again later.
held='import socket, sys
s = socket.create_connection((sys.argv[1], 8000), 10)
print("connected", flush=True)
sys.stdin.readline()
try:
    s.sendall(b"echo")
    print(s.recv(9).decode() or "end")
except OSError as e: print(type(e).__name__)'
# waits for something, as it does when all is done that it was told
waits() {
	[ "$(cut -d' ' -f3 "/proc/$broker/stat")" = S ]
}
finesse_server "$dropped" after setuid 8000 2>"$scratch/err" &
pid=$!
holders="$holders $pid"
wait_until 10 sh -c "nsenter --net=/proc/$SERVER_NS/ns/net ss -Hltn 'sport = :8000' | grep -q ."
is "a child" "$(in_client "$dropped" ask $SERVER_IP 8000 fork)" fork
is "a connection that may not be passed for now" "$(in_client "$dropped" ask $SERVER_IP 8000 crowd)" crowd
is "a child, then" "$(in_client "$dropped" ask $SERVER_IP 8000 fork)" fork
broker=$(brokers)
kill -STOP "$broker"
is "a child, with a broker that is stopped" "$(in_client "$dropped" ask $SERVER_IP 8000 fork)" ECONNRESET
mkfifo "$scratch/go"
as_client python3 -c "$held" $SERVER_IP <"$scratch/go" >"$scratch/held" &
holder=$!
exec 7>"$scratch/go"
wait_until 10 grep -q connected "$scratch/held"
kill -CONT "$broker"
wait_until 10 waits
echo >&7
exec 7>&-
wait $holder
is "a connection of whom the broker did not answer" "$(tail -n1 "$scratch/held")" echo
is "the next" "$(in_client "$dropped" ask $SERVER_IP 8000 echo)" echo
is_asked_again() {
	[ "$(in_client "$dropped" ask $SERVER_IP 8000 fork)" = fork ]
}
wait_until 30 is_asked_again && pass "the broker is asked again"
is "a connection that may not be passed, as no number is left" "$(in_client "$dropped" ask $SERVER_IP 8000 full)" full
kill -9 $pid
wait $pid
wait_until 10 none_left

# It is as busy when a process without privilege wants its link. Without one the process would be the kernel's for good, so it asks again, and waits longer.
passive_opens() {
	awk '/^Tcp: [0-9]/ { print $7 }' "/proc/$SERVER_NS/net/snmp"
}
mkfifo "$scratch/start"
FINESSE_LOG=info finesse_server sh -c 'read -r _; exec setpriv --reuid=65534 --regid=65534 --clear-groups "$0" after capset 8000' "$dropped" <"$scratch/start" 2>"$scratch/err" &
pid=$!
holders="$holders $pid"
exec 8>"$scratch/start"
has_broker() {
	[ -n "$(brokers)" ]
}
wait_until 10 has_broker
broker=$(brokers)
kill -STOP "$broker"
echo >&8
exec 8>&-
wait_until 30 grep -q 'does not answer in time' "$scratch/err"
kill -CONT "$broker"
wait_until 30 grep -q 'serving TCP\|fallback' "$scratch/err"
# That was said before it listened.
engine_listens() {
	in_server "$FINESSE_BUILD_DIR/finesse" stat --json $pid 2>/dev/null | python3 -c 'import json, sys
d = json.load(sys.stdin)
sys.exit(not any(l["port"] == 8000 for one in (d if isinstance(d, list) else [d]) for l in one.get("listeners", [])))' 2>/dev/null
}
wait_until 30 engine_listens
before=$(passive_opens)
is "who had to wait for its link" "$(in_client "$dropped" ask $SERVER_IP 8000 echo)" echo
is "who had to wait for its link: by the kernel's TCP" "$(($(passive_opens) - before))" 0
kill -9 $pid
wait $pid
wait_until 10 none_left

# It is killed: connections go on, new ones come, what cannot be handed over ends, and the server lives.
finesse_server "$dropped" after setuid 8000 2>"$scratch/err" &
pid=$!
holders="$holders $pid"
wait_until 10 sh -c "nsenter --net=/proc/$SERVER_NS/ns/net ss -Hltn 'sport = :8000' | grep -q ."
is "with a broker" "$(in_client "$dropped" ask $SERVER_IP 8000 fork)" fork
for one in $(brokers); do kill -9 "$one"; done
wait_until 10 none_left
is "without it" "$(in_client "$dropped" ask $SERVER_IP 8000 echo)" echo
is "without it, a child" "$(in_client "$dropped" ask $SERVER_IP 8000 fork)" ECONNRESET
is "without it, still" "$(in_client "$dropped" ask $SERVER_IP 8000 echo)" echo
kill -9 $pid
finish
