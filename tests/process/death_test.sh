#!/bin/sh
# A process dies and leaves idle connections: their peers, on the kernel's TCP, read end of file, as from the kernel.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter ss python3
pair_up
idle=$FINESSE_BUILD_DIR/tests/process/idle
BOUND_MS=30000

listens() {
	nsenter --net="/proc/$1/ns/net" ss -Hltn "sport = :$2" | grep -q .
}

held() {
	grep -q held "$1"
}

# judge WHAT N FILE: the peer's last line.
judge() {
	wait_until 60 grep -q ended "$3"
	ended=$(sed -n 's/ ended.*//p' "$3") ms=$(sed -n 's/.*, \([0-9]*\) ms.*/\1/p' "$3") resets=$(sed -n 's/.* ms, \([0-9]*\) .*/\1/p' "$3")
	if [ "$ended" = "$2" ] && [ "$ms" -lt $BOUND_MS ] && [ "$resets" = 0 ]; then
		pass "$1: $ended of $2 peers read end of file within $ms ms"
	else
		fail "$1: $ended of $2 peers heard of it in $ms ms, $resets by a reset"
	fi
}

# The peer's standard input: a pipe that ends when we say.
mkfifo "$scratch/go" "$scratch/never"
exec 6<>"$scratch/never" # the servers' standard input, which does not end: they must not end by themselves

port=8000

# server_dies SIGNAL N SECONDS: a server that has N idle connections ends by the signal. They are all there within so many seconds.
server_dies() {
	port=$((port + 1))
	: >"$scratch/accepted"
	finesse_server "$idle" server $port "$2" <&6 >"$scratch/accepted" 2>"$scratch/err" &
	pid=$!
	holders="$holders $pid"
	wait_until 10 listens $SERVER_NS $port
	: >"$scratch/out"
	as_client "$idle" client $SERVER_IP $port "$2" <"$scratch/go" >"$scratch/out" &
	holders="$holders $!"
	exec 7>"$scratch/go"
	wait_until "$3" held "$scratch/out"
	wait_until 10 held "$scratch/accepted"
	kill "-$1" $pid
	exec 7>&-
	wait $pid 2>/dev/null
	judge "server with $2 connections, SIG$1" "$2" "$scratch/out"
}

for signal in KILL SEGV ABRT; do
	server_dies $signal 50 20
done
server_dies KILL 3000 60 # many at once: rate-limited, but within the bound

# One of two workers: its clients read end of file, not a reset, and the other's nothing.
cat >"$scratch/workers.py" <<'END'
import os, select, socket, sys, time
listener = socket.create_server(("", int(sys.argv[1])), backlog=64)
for _ in range(2):
    if os.fork() == 0:
        poll, kept = select.epoll(), []
        listener.setblocking(False)
        poll.register(listener, select.EPOLLIN)
        while True:
            poll.poll()
            try:
                kept.append(listener.accept()[0])
            except BlockingIOError:
                continue
            kept[-1].sendall(b"%d\n" % os.getpid())
            time.sleep(0.001)  # the other one's turn
for _ in range(2):
    os.wait()
END
cat >"$scratch/of_a_worker.py" <<'END'
import os, select, signal, socket, sys, time
clients = {}
while len(clients) < 1000 and (len(clients) < 60 or len(set(clients.values())) < 2):
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
    clients[s] = int(s.makefile().readline())
victim = min(clients.values())
os.kill(victim, signal.SIGKILL)
start = time.monotonic()
mine, ended, resets = [s for s in clients if clients[s] == victim], 0, 0
for s in mine:
    s.settimeout(30)
    try:
        ended += s.recv(1) == b""
    except ConnectionResetError:
        ended, resets = ended + 1, resets + 1
    except TimeoutError:
        pass
ms = (time.monotonic() - start) * 1000
disturbed = len(select.select([s for s in clients if clients[s] != victim], [], [], 0)[0])
for worker in set(clients.values()) - {victim}:
    os.kill(worker, signal.SIGKILL)
print("%d of %d" % (len(set(clients.values())), disturbed))
print("%d ended, %d ms, %d by reset" % (ended - (len(mine) - 1), ms, resets))
END
port=$((port + 1))
finesse_server python3 "$scratch/workers.py" $port <&6 2>"$scratch/err" &
workers=$!
holders="$holders $workers"
wait_until 10 listens $SERVER_NS $port
in_client timeout 300 python3 "$scratch/of_a_worker.py" $SERVER_IP $port >"$scratch/out"
judge "one of two workers (of all its clients but one)" 1 "$scratch/out"
grep -q '^2 of 0$' "$scratch/out" && pass "the other worker's clients are not disturbed" || fail "workers and clients disturbed: $(head -1 "$scratch/out")"
wait $workers

# A client under finesse; the server is the kernel's.
port=$((port + 1))
: >"$scratch/out"
as_client "$idle" server $port 20 <"$scratch/go" >"$scratch/out" &
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

# The kernel has a TIME-WAIT with the very ends of the dead process's connection: it must not answer in place of the RST.
cat >"$scratch/time_wait.py" <<'END'
import ctypes, os, socket, sys
address, namespace = sys.argv[1:]
ready_r, ready_w = os.pipe()
if os.fork() == 0: # the server, which closes first
    ctypes.CDLL(None).setns(os.open(namespace, os.O_RDONLY), 0)
    s = socket.socket()
    s.bind((address, 9000))
    s.listen(1)
    os.write(ready_w, b"x")
    c = s.accept()[0]
    c.shutdown(socket.SHUT_WR)
    c.recv(1)
    os._exit(0)
os.read(ready_r, 1)
c = socket.socket()
c.bind(("", 9001))
c.connect((address, 9000))
c.recv(1)
c.close()
os.wait()
END
in_client timeout 20 python3 "$scratch/time_wait.py" $SERVER_IP "/proc/$SERVER_NS/ns/net"
waits() {
	in_server ss -Htan state time-wait "( sport = :9000 and dport = :9001 )" | grep -q .
}
no_more() {
	! waits
}
if ! python3 -c 'import os, sys; sys.exit(tuple(map(int, os.uname().release.split(".")[:2])) < (6, 5))'; then
	pass "a TIME-WAIT of this kernel's cannot be ended"
elif waits; then
	# shellcheck disable=SC2016 # the variable is the broker's
	(finesse_server sh -c 'exec "$0" "$FINESSE__BROKER" "$@"' "$FINESSE_BUILD_DIR/tests/process/dead_member" $SERVER_IP 9000 $CLIENT_IP 9001)
	wait_until 10 no_more && pass "a TIME-WAIT of the kernel's with the same ends is gone"
else
	fail "no TIME-WAIT"
fi

# The broker goes when all is told.
broker_is_gone() {
	for one in /proc/[0-9]*; do
		[ "$(cat "$one/comm" 2>/dev/null)" != finesse-broker ] || [ "$(readlink "$one/ns/net" 2>/dev/null)" != "$(readlink /proc/$SERVER_NS/ns/net)" ] || return 1
	done
}
wait_until 10 broker_is_gone && pass "no broker is left"
finish
