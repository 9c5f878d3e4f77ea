#!/bin/sh
# Two processes that gave their privilege away serve a port, under nftables: it cannot be shared there, so the kernel has to serve it, and the first of them cannot take its
# listener back from nftables any more.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter python3 nft
pair_up

cat >"$scratch/server.py" <<'END'
import os, select, socket
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("", 9000))
listener.listen()
listener.setblocking(False)
ready, says = os.pipe()
for worker in range(2):
    if os.fork() == 0:
        os.setresuid(65534, 65534, 65534)
        poll = select.epoll()
        poll.register(listener, select.EPOLLIN)
        try:
            listener.accept()
        except BlockingIOError:
            os.write(says, b"x")
        while True:
            for _ in poll.poll():
                try:
                    with listener.accept()[0] as c:
                        c.sendall(b"x")
                except BlockingIOError:
                    pass
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
