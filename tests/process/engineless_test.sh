#!/bin/sh
# A server that waits for clients itself and starts a program for each, which accepts it, but cannot have an engine (it may make no thread: dovecot's login processes). What the
# server's engine took meanwhile must reach that program.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter python3 nstat
pair_up

cat >"$scratch/server.py" <<'END'
import os, select, socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 9000))
s.listen(64)
s.set_inheritable(True)
poll = select.poll()
poll.register(s, select.POLLIN)
login = "import os, resource, socket; resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)); os.setuid(65534); c = socket.socket(fileno=%d).accept()[0]; c.sendall(c.recv(10)); c.recv(1)" % s.fileno()
while True:
    poll.poll()
    if os.fork() == 0:
        os.execv("/usr/bin/python3", ["python3", "-c", login])
    if os.wait()[1]:
        sys.exit(1)
END
cat >"$scratch/clients.py" <<'END'
import socket, sys
bad = 0
for _ in range(8):
    with socket.create_connection((sys.argv[1], 9000), 10) as c:
        c.sendall(b"x")
        try:
            bad += c.recv(1) != b"x"
        except OSError:
            bad += 1
print(bad)
END
[ -x /usr/bin/python3 ] || { echo "skipped: needs /usr/bin/python3"; exit 77; }

for how in natively finesse; do
	if [ $how = finesse ]; then
		finesse_server python3 "$scratch/server.py" >"$scratch/log" 2>&1 &
	else
		nsenter --net="/proc/$SERVER_NS/ns/net" python3 "$scratch/server.py" >"$scratch/log" 2>&1 &
	fi
	server=$!
	holders="$holders $server"
	wait_until 10 sh -c "nsenter --net=/proc/$SERVER_NS/ns/net ss -Hltn 'sport = :9000' | grep -q ."
	bad=$(in_client timeout 100 python3 "$scratch/clients.py" $SERVER_IP)
	if [ "$bad" = 0 ]; then
		pass "$how: 8 clients, each answered by a program of its own"
	else
		fail "$how: $bad of 8 clients heard nothing: $(tail -3 "$scratch/log")"
	fi
	kill -9 "$server"
	wait "$server" 2>/dev/null
done
finish
