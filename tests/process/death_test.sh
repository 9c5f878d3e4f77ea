#!/bin/sh
# A process dies and leaves idle connections: their peers, on the kernel's TCP, hear of it within a second or so.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter ss
pair_up
idle=$FINESSE_BUILD_DIR/tests/process/idle
BOUND_MS=2000

listens() {
	nsenter --net="/proc/$1/ns/net" ss -Hltn "sport = :$2" | grep -q .
}

held() {
	grep -q held "$1"
}

# judge WHAT N FILE: the peer's last line.
judge() {
	wait_until 10 grep -q ended "$3"
	ended=$(sed -n 's/ ended.*//p' "$3") ms=$(sed -n 's/.*, \([0-9]*\) ms/\1/p' "$3")
	if [ "$ended" = "$2" ] && [ "$ms" -lt $BOUND_MS ]; then
		pass "$1: $ended of $2 peers heard of it within $ms ms"
	else
		fail "$1: $ended of $2 peers heard of it in $ms ms"
	fi
}

# The peer's standard input: a pipe that ends when we say.
mkfifo "$scratch/go"

port=8000

# server_dies SIGNAL N SECONDS: a server that has N idle connections ends by the signal. They are all there within so many seconds.
server_dies() {
	# The server reads its input only when it has them all: it must not end by itself, so it gets one more than come.
	port=$((port + 1))
	finesse_server "$idle" server $port $(($2 + 1)) </dev/null >/dev/null 2>"$scratch/err" &
	pid=$!
	holders="$holders $pid"
	wait_until 10 listens $SERVER_NS $port
	: >"$scratch/out"
	in_client "$idle" client $SERVER_IP $port "$2" <"$scratch/go" >"$scratch/out" &
	holders="$holders $!"
	exec 7>"$scratch/go"
	wait_until "$3" held "$scratch/out"
	kill "-$1" $pid
	exec 7>&-
	wait $pid 2>/dev/null
	judge "server with $2 connections, SIG$1" "$2" "$scratch/out"
}

for signal in KILL SEGV ABRT; do
	server_dies $signal 50 20
done
server_dies KILL 3000 60 # many at once: rate-limited, but within the bound

# A client under finesse; the server is the kernel's.
port=$((port + 1))
: >"$scratch/out"
in_client "$idle" server $port 20 <"$scratch/go" >"$scratch/out" &
holders="$holders $!"
exec 7>"$scratch/go"
wait_until 10 listens $CLIENT_NS $port
finesse_server "$idle" client $CLIENT_IP $port 20 <"$scratch/go" >"$scratch/out2" 2>"$scratch/err" &
pid=$!
holders="$holders $pid"
wait_until 10 held "$scratch/out"
kill -KILL $pid
exec 7>&-
wait $pid 2>/dev/null
judge "client, SIGKILL" 20 "$scratch/out"

# The broker goes when all is told.
broker_is_gone() {
	for one in /proc/[0-9]*; do
		[ "$(cat "$one/comm" 2>/dev/null)" != finesse-broker ] || [ "$(readlink "$one/ns/net" 2>/dev/null)" != "$(readlink /proc/$SERVER_NS/ns/net)" ] || return 1
	done
}
wait_until 10 broker_is_gone && pass "no broker is left"
finish
