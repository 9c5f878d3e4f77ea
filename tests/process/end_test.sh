#!/bin/sh
# A program's end gives its ports back to the kernel at once, though the kernel needs some 10 ms to take apart what kept it away from them, and does so after the program's end:
# who connects just then is refused, with no SYN lost, and a successor on the kernel's TCP is reached.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter python3 nstat
pair_up

cat >"$scratch/server.py" <<'END'
import os, socket
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 9000))
s.listen(8)
print(flush=True)
c = s.accept()[0]
c.sendall(c.recv(1))
c.recv(1)
os._exit(0) # with the listener open
END
# One program does all: the order of ends and connects is what is tested.
cat >"$scratch/rounds.py" <<'END'
import socket, subprocess, sys
address, namespace, finesse, server, rounds = sys.argv[1:6]
bad = 0
def start(*prefix):
    p = subprocess.Popen(["nsenter", "--net=" + namespace, *prefix, "python3", server], stdout=subprocess.PIPE)
    p.stdout.readline()
    return p
def talk(p):
    c = socket.create_connection((address, 9000), 30)
    c.sendall(b"x")
    ok = c.recv(1) == b"x"
    c.close()
    return p.wait(30) == 0 and ok
for i in range(int(rounds)):
    bad += not talk(start(finesse, "run", "--strict", "--interface", "server0", "--"))
    if i % 2:
        bad += not talk(start()) # the successor
        continue
    try:
        socket.create_connection((address, 9000), 30).close()
        bad += 1
    except ConnectionRefusedError:
        pass
print(bad)
END

# The kernel's counter in the client's namespace: of SYNs alone, since a server that waits for the processor is late with its ACKs.
sent_again() {
	in_client nstat -asz TcpExtTCPSynRetrans | awk '/^TcpExtTCPSynRetrans/ { print $2 }'
}

before=$(sent_again)
bad=$(in_client timeout 600 python3 "$scratch/rounds.py" $SERVER_IP "/proc/$SERVER_NS/ns/net" "$FINESSE_BUILD_DIR/finesse" "$scratch/server.py" 10)
if [ "$bad" = 0 ]; then
	pass "10 ends: who comes then is refused, or reaches the successor"
else
	fail "10 ends: $bad went wrong"
fi
again=$(($(sent_again) - before))
if [ "$again" = 0 ]; then
	pass "no SYN of the clients was lost"
else
	fail "the clients sent $again SYNs again"
fi
finish
