#!/bin/sh
# Programs that close every descriptor: what is finesse's survives, `finesse trace` goes on, and to the program the numbers look closed.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter python3
pair_up
program=$FINESSE_BUILD_DIR/tests/process/closing
finesse=$FINESSE_BUILD_DIR/finesse

nsenter --net="/proc/$SERVER_NS/ns/net" python3 -c '
import socket
l = socket.socket()
l.bind(("'$SERVER_IP'", 9000))
l.listen(16)
while True:
    c, _ = l.accept()
    c.sendall(c.recv(1))
    c.close()' &
holders="$holders $!"
wait_until 10 sh -c "nsenter --net=/proc/$SERVER_NS/ns/net ss -Hltn 'sport = :9000' | grep -q ."

# opened FILE: connections whose opening the trace tells
opened() {
	grep -c ' opened:' "$1"
}

for how in close_range number unshare closefrom loop asked listed; do
	in_client "$program" $how $SERVER_IP 9000 >"$scratch/native"
	in_client "$finesse" trace -o "$scratch/trace.$how" --interface client0 -- "$program" $how $SERVER_IP 9000 >"$scratch/ours"
	if cmp -s "$scratch/native" "$scratch/ours"; then
		pass "$how: all numbers look closed, as natively"
	else
		fail "$how: natively $(cat "$scratch/native"), under finesse $(cat "$scratch/ours")"
	fi
	if [ "$(opened "$scratch/trace.$how")" = 2 ]; then
		pass "$how: the trace tells of both connections"
	else
		fail "$how: the trace: $(cat "$scratch/trace.$how")"
	fi
done

# The trace on standard error, which is a copy of the program's.
in_client "$finesse" trace --interface client0 -- "$program" closefrom $SERVER_IP 9000 2>"$scratch/stderr" >"$scratch/ours"
if [ "$(opened "$scratch/stderr")" = 2 ]; then pass "on standard error, too"; else fail "on standard error: $(cat "$scratch/stderr")"; fi

if ! command -v sshd >/dev/null || ! command -v ssh >/dev/null; then
	echo "left out: ssh and sshd are not installed"
	finish
fi
sshd=$(command -v sshd)
mkdir -p -m 755 /run/sshd # its own, which the package makes at boot
ssh-keygen -q -t ed25519 -N '' -f "$scratch/host"
ssh-keygen -q -t ed25519 -N '' -f "$scratch/key"
cp "$scratch/key.pub" "$scratch/authorized"
cat >"$scratch/config" <<END
Port 2222
ListenAddress $SERVER_IP
HostKey $scratch/host
AuthorizedKeysFile $scratch/authorized
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
END
nsenter --net="/proc/$SERVER_NS/ns/net" "$finesse" trace -o "$scratch/sshd" --interface server0 -- "$sshd" -D -e -f "$scratch/config" 2>"$scratch/sshd.err" &
holders="$holders $!"
wait_until 10 sh -c "nsenter --net=/proc/$SERVER_NS/ns/net ss -Hltn 'sport = :2222' | grep -q ."
said=$(in_client timeout 30 "$finesse" trace -o "$scratch/ssh" --interface client0 -- ssh -F none -i "$scratch/key" -p 2222 \
	-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "root@$SERVER_IP" echo in </dev/null 2>"$scratch/ssh.err")
if [ "$said" = in ]; then pass "ssh logs in"; else fail "ssh said '$said': $(tail -n 3 "$scratch/ssh.err" "$scratch/sshd.err")"; fi
if [ "$(opened "$scratch/ssh")" = 1 ]; then pass "the trace of ssh goes on"; else fail "the trace of ssh: $(cat "$scratch/ssh")"; fi
if [ "$(opened "$scratch/sshd")" = 1 ]; then pass "the trace of sshd goes on"; else fail "the trace of sshd: $(cat "$scratch/sshd")"; fi
finish
