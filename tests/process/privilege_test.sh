#!/bin/sh
# Servers that drop their privilege, in every way, before or after they listen: carried by the engine, and what the engine needs privilege for goes on.
# The server is under finesse, the client on the kernel's TCP.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter ss
pair_up
dropped=$FINESSE_BUILD_DIR/tests/process/dropped
# The client's other addresses: neighbours that the server has never heard of.
for i in 3 4 5 6 7 8 9; do in_client ip addr add 10.78.0.$i/24 dev client0; done
as_client "$dropped" before threads 7000 &
holders="$holders $!"

listens() {
	in_server ss -Hltn "sport = :$1" | grep -q .
}

port=8000
# start WHEN HOW: in $pid, listening on $port. Each on a port of its own: the last one's connections are in TIME-WAIT.
start() {
	port=$((port + 1))
	finesse_server "$dropped" "$1" "$2" "$port" 2>"$scratch/err" &
	pid=$!
	holders="$holders $pid"
	wait_until 10 listens "$port"
	[ "$2" = seccomp ] || wait_engine "$port" # the kernel has that one
}

# The same with the library alone: nobody made a broker.
start_alone() {
	port=$((port + 1))
	nsenter --net=/proc/$SERVER_NS/ns/net env LD_PRELOAD="$FINESSE_BUILD_DIR/libfinesse.so" FINESSE_INTERFACE=server0 \
		"$dropped" "$1" "$2" "$port" 2>"$scratch/err" &
	pid=$!
	holders="$holders $pid"
	wait_until 10 listens "$port"
}

stop() {
	kill -9 $pid
	wait $pid 2>/dev/null
}

accepted_by_engine() {
	in_server "$FINESSE_BUILD_DIR/finesse" stat --json $pid | grep -o '"connections_accepted": *[0-9]*' | tr -dc 0-9
}

ask() {
	in_client "$dropped" ask $SERVER_IP $port "$@"
}

# right WHAT: every answer is the word that was said, and the engine accepted $asked connections.
words() {
	wrong= asked=0
	for word in "$@"; do
		got=$(ask "$word")
		asked=$((asked + 1))
		[ "$got" = "$word" ] || wrong="$wrong $word:$got"
	done
	engine=$(accepted_by_engine)
}

for when in after before; do
	for how in setuid seteuid setreuid setresuid setuid_by_number capset capset_by_number keepcaps chroot new_user threads; do
		# In a user namespace of its own a process keeps nothing of the right to make sockets of this kind, nor the users of others.
		start $when $how
		words echo fork pass Fork Pass
		users=$(ask who)
		case $how in chroot) right_users="no /proc" ;; new_user) right_users=privileged ;; *) right_users=dropped ;; esac
		if [ -z "$wrong" ] && [ "$engine" = $asked ] && [ "$users" = "$right_users" ]; then
			pass "$when listen, $how: $asked of $asked, accepted by the engine; threads: $users"
		else
			fail "$when listen, $how: wrong:$wrong, $engine of $asked by the engine, threads: $users: $(head -c 300 "$scratch/err")"
		fi
		stop
	done
done

# Handed over from a port below 1024, which who dropped may not bind.
port=79
start after setuid
words exec fork Pass Exec
if [ -z "$wrong" ] && [ "$engine" = $asked ]; then pass "port 80: handed over after the drop"; else fail "port 80: wrong:$wrong, $engine of $asked by the engine"; fi
stop
port=8100

# A neighbour that nobody asked for yet.
start after setuid
got=$(ask connect $CLIENT_IP) other=$(ask connect 10.78.0.5)
opened=$(in_server "$FINESSE_BUILD_DIR/finesse" stat --json $pid | grep -o '"connections_opened": *[0-9]*' | tr -dc 0-9)
if [ "$got $other $opened" = "connected connected 2" ]; then
	pass "after the drop: connects to new neighbours, by the engine"
else
	fail "after the drop: connect: $got, $other; $opened by the engine"
fi
stop

# Without a broker: the engine came up before the drop and serves; what cannot be handed over ends.
for how in setuid chroot capset; do
	start_alone after $how
	words echo echo
	if [ -z "$wrong" ] && [ "$engine" = $asked ]; then pass "no broker, $how: served"; else fail "no broker, $how: wrong:$wrong, $engine of $asked by the engine"; fi
	stop
done
start_alone before setuid
words echo
if [ -z "$wrong" ]; then pass "no broker, dropped before listen: served by the kernel"; else fail "no broker, dropped before listen: $wrong"; fi
stop

# A filter of system calls: the kernel serves.
kernel_accepted() {
	in_server awk '$1 == "Tcp:" && $2 ~ /[0-9]/ { print $7 }' /proc/net/snmp
}
start after seccomp
before=$(kernel_accepted)
words echo fork
kernel=$(($(kernel_accepted) - before))
if [ -z "$wrong" ] && [ "$kernel" = 2 ]; then pass "seccomp: served by the kernel"; else fail "seccomp: wrong:$wrong, $kernel of 2 by the kernel"; fi
stop
# Who restricts itself before it has a socket cannot tell of it later.
start before seccomp
if in_server "$FINESSE_BUILD_DIR/finesse" stat $pid | grep -q "restricts its system calls (seccomp)"; then pass "seccomp before listen: stat says so"; else fail "seccomp before listen: stat"; fi
stop
finish
