#!/bin/sh
# Socket options: every option of the table (src/socket/options.def), set and read in every way on sockets in every state, natively and under finesse: the
# same results, errnos, lengths and values, but for options_differences. The kernel that runs is the oracle.
srcdir=${srcdir:-.}
. "$srcdir/tests/net/lib.sh"
need awk ip nstat
pair_up
walk=$FINESSE_BUILD_DIR/tests/net/options_walk
for end in server client; do
	"in_$end" sh -c 'echo 0 >/proc/sys/net/ipv6/conf/'$end'0/accept_dad'
done
in_server ip addr add fd78::1/64 dev server0 nodad
in_client ip addr add fd78::2/64 dev client0 nodad
# Nobody answers there, and nobody is asked who it is.
in_server ip neigh add 10.78.0.77 lladdr 02:00:00:00:00:77 dev server0 nud permanent
in_server ip neigh add fd78::77 lladdr 02:00:00:00:00:77 dev server0 nud permanent

# One run: output file, addresses, and "finesse" or nothing.
walk_once() {
	mkfifo "$scratch/stdin"
	as_client timeout 100 "$walk" peer <"$scratch/stdin" >"$scratch/peer" &
	holders="$holders $!"
	exec 5>"$scratch/stdin"
	wait_until 5 grep -q ready "$scratch/peer"
	if [ "$3" = finesse ]; then
		# shellcheck disable=SC2086
		(finesse_server timeout 100 "$walk" walk $2 >"$1")
	else
		# shellcheck disable=SC2086
		in_server timeout 100 "$walk" walk $2 >"$1"
	fi
	exec 5>&-
	rm "$scratch/stdin" "$scratch/peer"
	wait_until 5 sh -c "! nsenter --net=/proc/$CLIENT_NS/ns/net ss -Hltn | grep -q :7000"
}

# Lines that differ, without those that may.
differences() {
	diff "$1" "$2" | sed -n 's/^[<>] //p' |
		awk -F '\t+' 'NR == FNR { if ($0 !~ /^(#|$)/) may[$1]; next } { for (m in may) if ($0 ~ m) next; print }' "$srcdir/tests/net/options_differences" -
}

# Connections that the kernel of the server accepted by itself.
passive_opens() {
	in_server nstat -asz TcpPassiveOpens | awk '/^TcpPassiveOpens/ { print $2 }'
}

compare() { # name, addresses
	before=$(passive_opens)
	walk_once "$scratch/native" "$2" ''
	native_opens=$(($(passive_opens) - before))
	walk_once "$scratch/finesse" "$2" finesse
	finesse_opens=$(($(passive_opens) - before - native_opens))
	if ! grep -q '^end$' "$scratch/native" || [ "$(wc -l <"$scratch/native")" -lt 40000 ]; then
		fail "$1: the walk did not end natively"
	elif ! grep -q '^end$' "$scratch/finesse"; then
		fail "$1: the walk did not end under finesse: $(tail -n 1 "$scratch/finesse")"
	else
		differences "$scratch/native" "$scratch/finesse" >"$scratch/differences"
		if [ -s "$scratch/differences" ]; then
			fail "$1: $(wc -l <"$scratch/differences") lines differ"
			head -n 40 "$scratch/differences"
		else
			pass "$1: $(wc -l <"$scratch/native") lines compared, $(diff "$scratch/native" "$scratch/finesse" | grep -c '^<') differ as they may"
		fi
		# Not vacuous. Listeners with an option of the kernel's are the kernel's: some 100 of 600.
		if [ "$finesse_opens" -lt $((native_opens / 2)) ]; then
			pass "$1: the engine accepted (the kernel $native_opens natively, $finesse_opens under finesse)"
		else
			fail "$1: the kernel accepted $finesse_opens connections under finesse, $native_opens natively"
		fi
	fi
}
compare "IPv4" "$SERVER_IP $CLIENT_IP 10.78.0.77"
compare "IPv6" "fd78::1 fd78::2 fd78::77"
finish
