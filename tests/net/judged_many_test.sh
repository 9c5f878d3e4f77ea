#!/bin/sh
# Behind a judging firewall each connection needs an entry in the classifier. A server that has dropped its privilege serves more of them than the classifier's first map holds.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need nft python3 nstat
pair_up
FIRST=16384 # CLASSIFIER_SET_FIRST
in_client ip addr add 10.78.0.3/24 dev client0
server_judges 8000

# It closes first: each connection stays in TIME-WAIT, and in the set.
cat >"$scratch/server.py" <<'END'
import os, socket
l = socket.socket()
l.bind(("", 8000))
l.listen(512)
os.setuid(65534)
print("ready", flush=True)
while True:
    c = l.accept()[0]
    c.sendall(b"x")
    c.close()
END
cat >"$scratch/clients.py" <<'END'
import socket, sys
address, count, after = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def one(source, port):
    s = socket.socket()
    s.settimeout(10)
    s.bind((source, port))
    try:
        s.connect((address, 8000))
        ok = s.recv(1) == b"x" and s.recv(1) == b""
    except OSError:
        ok = False
    s.close()
    return ok
half = count // 2
print(sum(one(a, 20000 + i) for a in sys.argv[4:] for i in range(half)), sum(one(sys.argv[4], 50000 + i) for i in range(after)))
END

FINESSE_CLOSE_POLICY=off finesse_server python3 "$scratch/server.py" >"$scratch/server.log" 2>&1 9>&- &
server=$!
wait_until 10 grep -q ready "$scratch/server.log"
said=$(in_client timeout 1500 python3 "$scratch/clients.py" $SERVER_IP $FIRST 64 10.78.0.2 10.78.0.3)
kernels=$(in_server nstat -az TcpPassiveOpens | awk '/TcpPassiveOpens/ { print $2 }')
if [ "$said" = "$FIRST 64" ] && [ "$kernels" = 0 ]; then
	pass "$FIRST and 64 connections were served, none by the kernel"
else
	fail "of $FIRST and 64 connections $said were served, $kernels of them by the kernel"
fi
kill "$server"
wait "$server" 2>/dev/null || true
finish
