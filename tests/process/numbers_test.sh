#!/bin/sh
# The program's descriptors get the lowest free number, also while the helper thread asks the kernel about the cgroup's and the interface's programs, twice a second.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter python3
pair_up
program=$FINESSE_BUILD_DIR/tests/process/numbers

nsenter --net="/proc/$SERVER_NS/ns/net" python3 -c '
import socket
l = socket.socket()
l.bind(("'$SERVER_IP'", 9000))
l.listen(16)
while True:
    c, _ = l.accept()
    while c.recv(1):
        c.sendall(b"x")
    c.close()' &
holders="$holders $!"
wait_until 10 sh -c "nsenter --net=/proc/$SERVER_NS/ns/net ss -Hltn 'sport = :9000' | grep -q ."

# Chance decides whether a number that is held for a moment is found; three times three seconds find it.
for try in 1 2 3; do
	said=$(in_client "$FINESSE_BUILD_DIR/finesse" run --strict --interface client0 -- "$program" $SERVER_IP 9000 3)
	if [ "$said" = "higher 0
answered" ]; then pass "try $try: always the lowest number"; else fail "try $try: $said"; fi
done
finish
