#!/bin/sh
# Behind a judging firewall each connection of a port that several processes share needs an entry in the classifier. Where there is no room for one more, the client is
# the kernel's, which gets its SYN from the engine; who comes when there is room again is the engine's. Those of one process need none. shellcheck
# source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need nft python3 nstat
pair_up
server_judges 8000

cat >"$scratch/server.py" <<'END'
import os, socket, sys
l = socket.socket()
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.bind(("", 8000))
l.listen(512)
for _ in range(int(sys.argv[1]) - 1):
    if not os.fork():
        break
print(sys.argv[1], flush=True)
while True:
    c = l.accept()[0]
    c.recv(1)
    c.sendall(b"x")
    c.close()
END
cat >"$scratch/client.py" <<'END'
import socket, sys
s = socket.create_connection((sys.argv[1], 8000), 60)
s.sendall(b"y")
print((s.recv(1) + s.recv(1)).decode())
END

opens() { in_server nstat -asz TcpPassiveOpens | awk '/TcpPassiveOpens/ {print $2}'; }
syn_repetitions() { in_client nstat -asz TcpExtTCPSynRetrans | awk '/SynRetrans/ {print $2}'; }
table() { python3 "${srcdir:-.}/tests/net/judged_full.py" "$server" "$1"; }

# client NAME OPENS: it is served, and so many connections are the kernel's from the beginning
client() {
	said=$(in_client timeout 100 python3 "$scratch/client.py" $SERVER_IP)
	if [ "$said" = x ] && [ "$(opens)" = "$2" ]; then pass "$1"; else fail "$1: got '$said', the kernel opened $(opens)"; fi
}

serves() { "$FINESSE_BUILD_DIR/finesse" stat --json "$1" 2>/dev/null | grep -q '"connections_accepted": *[1-9]'; }

# full PROCESSES
full() {
	finesse_server python3 "$scratch/server.py" "$1" >"$scratch/server$1.log" 2>&1 9>&- &
	server=$!
	wait_until 60 grep -q "^$1$" "$scratch/server$1.log"
	processes="$server $(cat /proc/"$server"/task/"$server"/children)"
	# Until its members accept, a group's port is the kernel's. All of them have when each has answered by its engine.
	for pid in $processes; do
		until serves "$pid"; do in_client timeout 100 python3 "$scratch/client.py" $SERVER_IP >"$scratch/warm"; done
	done
	before=$(opens)
	client "there is room" "$before"
	entries=$(table fill)
	[ "$entries" -ge 16384 ] && pass "the table was filled" || fail "the table was filled with $entries"
	if [ "$1" = 1 ]; then
		client "the table is full, and its own port needs none" "$before"
		kill $processes
		wait "$server" 2>/dev/null || true
		return
	fi
	# A SYN that the engine drops comes again each time, one that waits a second for its turn on a busy machine now and then: of a few clients, one comes with its first SYN.
	kernels=0 first=0
	while [ $kernels -lt 2 ] || { [ $first = 0 ] && [ $kernels -lt 12 ]; }; do
		repeated=$(syn_repetitions) kernels=$((kernels + 1))
		client "the table is full: client $kernels is the kernel's" $((before + kernels))
		[ "$(syn_repetitions)" != "$repeated" ] || first=$((first + 1))
	done
	[ $first -gt 0 ] && pass "the kernel has their first SYN" || fail "the SYNs of all $kernels came again"
	for pid in $processes; do "$FINESSE_BUILD_DIR/finesse" stat "$pid"; done | grep -q "table of connections is full" && pass "stat says why" || fail "stat does not say why"
	table empty >"$scratch/empty"
	client "there is room again" $((before + kernels))
	kill $processes
	wait "$server" 2>/dev/null || true
}
full 1
full 2
finish
