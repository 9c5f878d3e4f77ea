#!/bin/sh
# One socket, several lives: tests/net/anew.py on the kernel's TCP and under finesse, over a veth against the kernel's TCP. What it prints must be the same.
: "${srcdir:=.}"
. "$srcdir/tests/net/lib.sh"
need nsenter ip python3 jq
pair_up
anew=$srcdir/tests/net/anew.py
hole=10.78.0.77
in_client ip neigh add $hole lladdr 02:00:00:00:00:77 dev client0
nsenter --net="/proc/$SERVER_NS/ns/net" python3 "$anew" peer "$scratch/peer" &
holders="$holders $!"
wait_until 5 test -S "$scratch/peer"

walk() { # output, runner
	"$2" timeout 1500 python3 "$anew" walk "$scratch/peer" $SERVER_IP $hole $CLIENT_IP ${ANEW_TESTS:-} >"$1" 2>&1
}
with_finesse() {
	FINESSE_CLOSE_POLICY=off finesse_client "$@"
}
accepted_by_kernel() { # of the namespace: connections that the kernel's listeners accepted
	in_client nstat -asz TcpPassiveOpens 2>/dev/null | awk '/^Tcp/ { n += $2 } END { print n + 0 }'
}

# Where a call must come first it waits a little, which is too short on a busy machine now and then, natively, too: what differs is wrong if it differs with longer waits as well.
for ANEW_SLOWER in 1 5 20; do
	export ANEW_SLOWER
	before=$(accepted_by_kernel)
	walk "$scratch/kernel" in_client
	natively=$(($(accepted_by_kernel) - before))
	(walk "$scratch/finesse" with_finesse)
	by_kernel=$(($(accepted_by_kernel) - before - natively))
	! cmp -s "$scratch/kernel" "$scratch/finesse" || break
done
if [ "$(tail -n 1 "$scratch/kernel")" != end ] || grep -q raised "$scratch/kernel"; then
	fail "on the kernel's TCP it does not go to its end: $(tail -n 3 "$scratch/kernel")"
elif diff -U 8 "$scratch/kernel" "$scratch/finesse" >"$scratch/diff"; then
	pass "$(wc -l <"$scratch/kernel") lines are the same"
else
	fail "- the kernel, + finesse"
	cat "$scratch/diff"
fi
# Not vacuous: nearly all listeners that began anew are the engine's. Two stay with the kernel.
if [ "$natively" -gt 0 ] && [ "$by_kernel" -le 2 ]; then pass "the kernel accepted $natively clients natively, $by_kernel here"; else fail "the kernel accepted $by_kernel clients, natively $natively"; fi
finish
