# Sourced by the tests of TCP Fast Open, after pair_up: the program, IPv6 addresses, and servers of the server's namespace.
# shellcheck shell=sh disable=SC2034 # used by who sources it
program=${srcdir:-.}/tests/net/fastopen.py
V6_SERVER=fd00:78::1
in_server ip addr add $V6_SERVER/64 dev server0 nodad
in_client ip addr add fd00:78::2/64 dev client0 nodad

# start RUNNER ADDRESS PORT [PROCESSES [HOW]]
start() {
	"$1" python3 "$program" server "$2" "$3" "${4:-1}" "${5:-itself}" >"$scratch/server.log" 2>&1 9>&- &
	server=$!
	holders="$holders $server"
	wait_until 10 sh -c "nsenter --net=/proc/$SERVER_NS/ns/net ss -Hltn 'sport = :$3' | grep -q ."
	[ "$1" != with_finesse ] || wait_engine "$3"
}

stop() {
	kill "$server" 2>/dev/null
	wait "$server" 2>/dev/null || true
}

natively() { exec nsenter --net="/proc/$SERVER_NS/ns/net" "$@"; }
with_finesse() { FINESSE_STRICT=on finesse_server "$@"; }
