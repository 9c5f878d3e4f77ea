#!/bin/sh
# Connections that change hands: children by clone, programs that are started with a connection, and those that are dead by then. The server is under
# finesse, the client on the kernel's TCP.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter ss
pair_up
server=$FINESSE_BUILD_DIR/tests/process/server

# start HOW: in $pid, listening
start() {
	finesse_server "$server" "$1" 8000 2>"$scratch/err" &
	pid=$!
	holders="$holders $pid"
	wait_until 10 sh -c "nsenter --net=/proc/$SERVER_NS/ns/net ss -Hltn 'sport = :8000' | grep -q ."
}

# The server and its children, by the namespace that is ours alone.
stop() {
	namespace=$(readlink /proc/$SERVER_NS/ns/net)
	for one in /proc/[0-9]*; do
		one=${one#/proc/}
		[ $one = $SERVER_NS ] || [ "$(readlink /proc/$one/ns/net 2>/dev/null)" != "$namespace" ] || kill -9 $one 2>/dev/null
	done
	wait $pid 2>/dev/null
	# What a ring holds goes a little later than its process.
	wait_until 10 sh -c "! nsenter --net=/proc/$SERVER_NS/ns/net ss -Hltn 'sport = :8000' | grep -q ."
}

accepted_by_engine() {
	in_server "$FINESSE_BUILD_DIR/finesse" stat --json $pid | grep -o '"connections_accepted": *[0-9]*' | tr -dc 0-9
}

for how in clone number clone3 posix_spawn system popen; do
	start $how
	right=$(in_client "$server" ask $SERVER_IP 8000 4)
	engine=$(accepted_by_engine)
	if [ "$right" = 4 ] && [ "$engine" = 4 ]; then
		pass "$how: 4 of 4 answered, accepted by the engine"
	else
		fail "$how: $right of 4 answered, $engine accepted by the engine: $(head -c 300 "$scratch/err")"
	fi
	stop
done

# More children than any set of descriptors would hold.
start number
right=$(in_client "$server" ask_many $SERVER_IP 8000 150)
if [ "$right" = 150 ]; then pass "150 children at once: all answered"; else fail "150 children at once: $right answered"; fi
stop

# A process waits on the connection that its child uses first: its wait goes on with the kernel's socket.
as_server "$server" plainly 8000 &
pid=$!
wait_until 10 sh -c "nsenter --net=/proc/$SERVER_NS/ns/net ss -Hltn 'sport = :8000' | grep -q ."
right=$(finesse_client "$server" forked_reader $SERVER_IP 8000)
if [ "$right" = 5 ]; then pass "a parent waits where its child writes: right in 5 of 5 ways"; else fail "a parent waits where its child writes: right in $right of 5 ways"; fi
stop

# A child never finds a lock that another thread had at fork.
right=$(finesse_server "$server" noisy_forks 300)
if [ "$right" = 300 ]; then pass "300 forks beside a thread that falls back: every child ended"; else fail "300 forks beside a thread that falls back: one hung after $right"; fi

# … nor one that the other thread takes for the process's first socket, while the process forks for the first time.
first=0
while [ $first -lt 40 ] && [ "$(finesse_server "$server" noisy_forks 2)" = 2 ]; do first=$((first + 1)); done
if [ $first = 40 ]; then pass "the first fork beside a thread's first socket, 40 times: every child ended"; else fail "the first fork beside a thread's first socket: a child hung after $first"; fi

# A signal that comes while a child prepares its first wait ends it.
interrupted=$FINESSE_BUILD_DIR/tests/process/interrupted
all_of() {
	[ -n "$1" ] && [ "${1% of *}" = "${1#* of }" ]
}
natively=$(in_server "$interrupted" 8001)
right=$(finesse_server "$interrupted" 8000)
if all_of "$natively" && all_of "$right"; then pass "a signal during a child's first wait: $right end with EINTR, natively $natively"
else fail "a signal during a child's first wait: $right end with EINTR, natively $natively"; fi

# One port, one engine: the process that listened is gone before the others first accept.
accepted_by_engines() {
	in_server "$FINESSE_BUILD_DIR/finesse" stat --json | grep -o '"connections_accepted": *[0-9]*' | tr -dc '0-9\n' | awk '{ n += $1 } END { print n + 0 }'
}

# Who is answered when none of the workers has waited for a while, as on a busy machine, is the kernel's queue's, and so may be the first: all are answered each time, and
# nearly all by the engine in one of some rounds. rounds OF LEAST: $right, of the last round, and $engine of it
rounds() {
	round=0 engine=0 right=$1
	while [ $round -lt 8 ] && [ "$right" = "$1" ] && [ "$engine" -lt "$2" ]; do
		round=$((round + 1)) before=$(accepted_by_engines)
		right=$(in_client "$server" ask $SERVER_IP 8000 "$1")
		engine=$(($(accepted_by_engines) - before))
	done
}

# The first process is gone: who connects while it goes may be reset.
start_daemon() {
	start "$1"
	wait $pid
}

start_daemon daemon
rounds 20 19
if [ "$right" = 20 ] && [ "$engine" -ge 19 ]; then pass "daemon: 20 of 20, $engine by the engine"; else fail "daemon: $right of 20, $engine by the engine"; fi
stop

start_daemon prefork_daemon
rounds 40 37
two=$(in_client timeout 100 "$server" ask_many $SERVER_IP 8000 2)
if [ "$right $two" = "40 2" ] && [ "$engine" -ge 37 ]; then
	pass "two workers of a daemon: 40 of 40, and two at once, $engine by the engine"
else
	fail "two workers of a daemon: $right of 40, $two of two at once, $engine by the engine"
fi
stop

GO=$scratch/go
export GO
start_daemon reloaded
rounds 5 4
first=$right alone=$engine
touch "$GO"
wait_until 10 sh -c "[ \$(nsenter --net=/proc/$SERVER_NS/ns/net $FINESSE_BUILD_DIR/finesse stat --json | grep -o '\"port\": *8000,' | wc -l) = 2 ]"
rounds 40 37
two=$(in_client timeout 100 "$server" ask_many $SERVER_IP 8000 2)
if [ "$first $right $two" = "5 40 2" ] && [ "$alone" -ge 4 ] && [ "$engine" -ge 37 ]; then
	pass "a second worker comes later: $alone by the engine, then 40 of 40, $engine by the engine, and two at once"
else
	fail "a second worker comes later: $first of 5, $alone by the engine, then $right of 40, $engine by the engine, $two of two at once"
fi
stop

# A reader of `finesse stat` that does not read keeps nobody waiting: a child still gets its connection from the helper thread.
start hoard
mkfifo "$scratch/held" "$scratch/asked"
sleep 1000 >"$scratch/held" &
end="$!"
as_client "$server" hold $SERVER_IP 8000 500 <"$scratch/held" >"$scratch/hold.out" &
wait_until 10 grep -q held "$scratch/hold.out"
sleep 1000 >"$scratch/asked" &
end="$end $!"
as_server "$server" stat_reader $pid <"$scratch/asked" >"$scratch/stat.out" &
wait_until 10 grep -q asked "$scratch/stat.out"
right=$(in_client timeout 30 "$server" ask $SERVER_IP 8000 1)
size=$(in_server "$FINESSE_BUILD_DIR/finesse" stat --json $pid | wc -c)
if [ "$right" = 1 ] && [ "$size" -gt 220000 ]; then
	pass "a slow reader of $size bytes of stat: a child is served meanwhile"
else
	fail "a slow reader of $size bytes of stat: ${right:-0} of 1 served meanwhile"
fi
kill $end
stop

# The end of a process does not cost a system call by TIME-WAIT.
if command -v strace >/dev/null; then
	FINESSE_CLOSE_POLICY=off
	export FINESSE_CLOSE_POLICY
	(finesse_server strace -f -o "$scratch/strace" -e trace=bpf "$server" closes 8000) &
	pid=$!
	wait_until 10 sh -c "nsenter --net=/proc/$SERVER_NS/ns/net ss -Hltn 'sport = :8000' | grep -q ."
	in_client "$server" ended $SERVER_IP 8000 500 || fail "500 connections that the server closes"
	wait $pid
	unset FINESSE_CLOSE_POLICY
	calls=$(grep -c 'bpf(' "$scratch/strace")
	if [ "$calls" -gt 0 ] && [ "$calls" -lt 400 ]; then pass "an end with 500 TIME-WAITs: $calls bpf calls in all"; else fail "an end with 500 TIME-WAITs: $calls bpf calls"; fi
fi

# Sockets that are used by io_uring are the kernel's, and the reason is told.
for how in uring uring_accept_libc uring_raw uring_late; do
	start $how
	right=$(in_client "$server" ask $SERVER_IP 8000 3)
	if [ "$right" = 3 ]; then pass "$how: 3 of 3 answered"; else fail "$how: $right of 3 answered: $(head -c 300 "$scratch/err")"; fi
	if in_server "$FINESSE_BUILD_DIR/finesse" stat --json $pid | grep -q 'the program uses io_uring'; then
		pass "$how: stat says why"
	else
		fail "$how: stat does not say why"
	fi
	stop
done

# … with who had connected before the ring was there (Linux before 6.8 cannot put them into its queue).
if grep -qw bpf_sk_assign_tcp_reqsk /proc/kallsyms; then
	for how in uring_waiting uring_waiting_child; do
		start $how
		as_client timeout 30 "$server" ask $SERVER_IP 8000 3 >"$scratch/right" &
		asking=$!
		wait_until 10 sh -c "nsenter --net=/proc/$CLIENT_NS/ns/net ss -Htn state established 'dport = :8000' | grep -q ."
		kill -USR1 $pid
		wait $asking
		right=$(cat "$scratch/right")
		if [ "$right" = 3 ]; then pass "$how: 3 of 3 answered"; else fail "$how: ${right:-none} of 3 answered: $(head -c 300 "$scratch/err")"; fi
		stop
	done
fi

# A ring with file operations only, as databases have it, changes nothing.
start uring_files
right=$(in_client "$server" ask $SERVER_IP 8000 3)
engine=$(accepted_by_engine)
if [ "$right" = 3 ] && [ "$engine" = 3 ]; then pass "a ring that reads files: 3 of 3 answered, all by the engine"
else fail "a ring that reads files: $right of 3 answered, $engine by the engine: $(head -c 300 "$scratch/err")"; fi
stop

# libuv's ring for epoll_ctl is refused, the one for files is made, and the engine serves.
start like_libuv
right=$(in_client "$server" ask $SERVER_IP 8000 3)
engine=$(accepted_by_engine)
found=$(cat "$scratch/err")
if [ "$right $engine $found" = "3 3 control ring no, file ring yes" ]; then
	pass "rings as libuv's: 3 of 3 answered by the engine"
else
	fail "rings as libuv's: $right answered, $engine by the engine, $found"
fi
stop

# Namespaces that only a process with one thread may enter: the helper thread is not in the way, and is there again.
start other_user
wait_until 10 grep -q unshare "$scratch/err"
right=$(in_client "$server" ask $SERVER_IP 8000 3)
engine=$(accepted_by_engine)
found=$(cat "$scratch/err")
if [ "$right $engine $found" = "3 3 setns done, by number done, unshare done" ]; then
	pass "namespaces for one thread: $found; 3 of 3 by the engine"
else
	fail "namespaces for one thread: $found; $right of 3, $engine by the engine"
fi
stop

# A thread in another network namespace reaches nobody through this one, and nobody reaches it.
start other_net
wait_until 10 grep -q new "$scratch/err"
right=$(in_client "$server" ask $SERVER_IP 8000 2)
there=$(in_client "$server" ask $SERVER_IP 8001 1)
engine=$(accepted_by_engine)
found=$(cat "$scratch/err")
if [ "$right $there $engine $found" = "2 0 2 old socket ECONNREFUSED, new socket ENETUNREACH" ]; then
	pass "another network namespace: $found, its listener out of reach"
else
	fail "another network namespace: $right answered, $there of its listener, $engine by the engine, $found"
fi
if in_server "$FINESSE_BUILD_DIR/finesse" stat --json $pid | grep -q 'another network namespace'; then
	pass "another network namespace: stat says why"
else
	fail "another network namespace: stat does not say why"
fi
stop

# The connection is dead when it is handed over: what gets it must learn that.
for how in exec fork_exec passed; do
	start $how
	in_client "$server" reset $SERVER_IP 8000 || fail "$how: the client was not served"
	wait_until 10 grep -qE 'end|nothing' "$scratch/err"
	found=$(cat "$scratch/err")
	if [ "$found" = "ECONNRESET, end" ]; then pass "$how after a reset: $found"; else fail "$how after a reset: $found"; fi
	stop
done
finish
