#!/bin/sh
# Kernel sockets of client connections are used again, and no program can tell: tests/net/reuse.py natively and under finesse. What it prints must be the same.
: "${srcdir:=.}"
. "$srcdir/tests/net/lib.sh"
need nsenter ip python3 jq setpriv
pair_up
reuse=$srcdir/tests/net/reuse.py
port=7400 closed=9
nsenter --net="/proc/$SERVER_NS/ns/net" python3 "$reuse" peer $port >"$scratch/peer" &
holders="$holders $!"
wait_until 5 grep -q listening "$scratch/peer"

walk() { # output, runner
	"$2" timeout 600 python3 "$reuse" walk $SERVER_IP $port $CLIENT_IP $closed >"$1" 2>"$1.again"
}
with_finesse() {
	FINESSE_CLOSE_POLICY=off finesse_client "$@"
}

walk "$scratch/kernel" in_client
(walk "$scratch/finesse" with_finesse)
if [ "$(tail -n 1 "$scratch/kernel")" != end ]; then
	fail "on the kernel's TCP it does not go to its end: $(tail -n 3 "$scratch/kernel" "$scratch/kernel.again")"
elif diff -U 2 "$scratch/kernel" "$scratch/finesse" >"$scratch/diff"; then
	pass "$(wc -l <"$scratch/kernel") lines are the same"
else
	fail "- the kernel, + finesse"
	cat "$scratch/diff" "$scratch/finesse.again"
fi
# Not vacuous: sockets came back.
natively=$(cat "$scratch/kernel.again") again=$(tail -n 1 "$scratch/finesse.again")
if [ "$natively" = 0 ] && [ "$again" -ge 20 ]; then pass "$again kernel sockets were used again"; else fail "used again: $again, natively $natively"; fi

# Where the limit cannot be raised, the numbers stay the program's: some may be a new block of something, not one for each kept socket.
(with_finesse timeout 60 setpriv --bounding-set -sys_resource --inh-caps -sys_resource python3 "$reuse" few $SERVER_IP $port >"$scratch/few" 2>&1)
read -r before after <"$scratch/few"
if [ "${after:-0}" -gt $((${before:-0} - 20)) ]; then pass "numbers: $before, later $after"; else fail "numbers: $(cat "$scratch/few")"; fi
finish
