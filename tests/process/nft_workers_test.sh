#!/bin/sh
# Two processes that gave their privilege away serve a port, under nftables: it cannot be shared there, so the kernel has to serve it, and the first of them cannot take its
# listener back from nftables any more.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter python3 nft
pair_up

cat >"$scratch/workers.py" <<'END'
import ctypes, os, select, socket

PR_SET_PDEATHSIG = 1 # which a change of the user takes back


def listen(port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", port))
    s.listen()
    s.setblocking(False)
    return s


def work(listener, ready, served):
    """In a worker: gives its privilege away, says `ready()`, and serves; `served(poll, client)`, of each client."""
    os.setresuid(65534, 65534, 65534)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 9)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    try:
        listener.accept()
    except BlockingIOError:
        ready()
    while True:
        for _ in poll.poll():
            try:
                client = listener.accept()[0]
            except BlockingIOError:
                continue
            client.sendall(b"x")
            served(poll, client)
END
cat >"$scratch/server.py" <<'END'
import os, workers
listener = workers.listen(9000)
ready, says = os.pipe()
for worker in range(2):
    if os.fork() == 0:
        workers.work(listener, lambda: os.write(says, b"x"), lambda poll, client: client.close())
    os.read(ready, 1)
print("ready", flush=True)
os.wait()
END
cat >"$scratch/clients.py" <<'END'
import socket, sys
bad = 0
for _ in range(4):
    try:
        with socket.create_connection((sys.argv[1], 9000), 5) as c:
            bad += c.recv(1) != b"x"
    except OSError:
        bad += 1
print(bad)
END

# One that has a client when the second worker wants the port, as at a reload.
cat >"$scratch/reload.py" <<'END'
import os, workers
listener = workers.listen(9001)
tells, says = os.pipe()
held = []
def served(poll, client):
    held.append(client)
    if worker == 0 and len(held) == 1:
        poll.unregister(listener)
        listener.close() # it winds up, and keeps its client
    os.write(says, b"a")
for worker in range(2):
    if os.fork() == 0:
        workers.work(listener, lambda: os.write(says, b"x"), served)
    os.read(tells, 1)
    print("worker %d" % worker, flush=True)
    os.read(tells, 1)
os.wait()
END
cat >"$scratch/two.py" <<'END'
import socket, sys
first = socket.create_connection((sys.argv[1], 9001), 20)
print("first", first.recv(1) == b"x", flush=True)
sys.stdin.readline()
second = socket.create_connection((sys.argv[1], 9001), 10)
print("second", second.recv(1) == b"x", flush=True)
END
finesse_server env FINESSE_CLASSIFIER=nftables python3 "$scratch/reload.py" >"$scratch/log" 2>&1 &
server=$!
holders="$holders $server"
wait_until 30 grep -q 'worker 0' "$scratch/log"
mkfifo "$scratch/go"
as_client timeout 60 python3 "$scratch/two.py" $SERVER_IP <"$scratch/go" >"$scratch/said" 2>&1 &
client=$!
exec 9>"$scratch/go"
wait_until 30 grep -q 'worker 1' "$scratch/log"
echo >&9
wait $client
exec 9>&-
if grep -q 'second True' "$scratch/said"; then
	pass "a worker without privilege closes its listener, and keeps a client: the next one's client is answered"
else
	fail "a worker without privilege closes its listener, and keeps a client: $(tail -1 "$scratch/said"), $(tail -3 "$scratch/log")"
fi

finesse_server env FINESSE_CLASSIFIER=nftables python3 "$scratch/server.py" >"$scratch/log" 2>&1 &
server=$!
holders="$holders $server"
wait_until 30 grep -q ready "$scratch/log"
bad=$(in_client timeout 60 python3 "$scratch/clients.py" $SERVER_IP)
if [ "$bad" = 0 ]; then
	pass "two workers without privilege, nftables: 4 clients are answered"
else
	fail "two workers without privilege, nftables: $bad of 4 clients heard nothing: $(tail -3 "$scratch/log")"
fi
finish
