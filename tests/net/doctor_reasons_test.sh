#!/bin/sh
# What makes a host's sockets the kernel's: `finesse doctor` names it beforehand, with its exit status, and `finesse stat` of a server that is started nonetheless names it, too.
# shellcheck source-path=SCRIPTDIR
. "${srcdir:-.}/tests/net/lib.sh"
need nft python3 tc setpriv
pair_up
STATUS_NOTHING=1
cat >"$scratch/server.py" <<'END'
import signal, socket
s = socket.socket(socket.AF_INET6)
s.bind(("::", 8080))
s.listen()
print("ready", flush=True)
signal.pause()
END

doctor_names() { # SITUATION WORD STATUS COMMAND…: runs doctor by the command
	what=$1 word=$2 status=$3
	shift 3
	said=$(in_server "$@" "$FINESSE_BUILD_DIR/finesse" doctor --interface server0 --server 8080)
	got=$?
	if [ $got = "$status" ] && echo "$said" | grep -v ^ok | grep -q "$word"; then
		pass "doctor: $what"
	else
		fail "doctor: $what: status $got: $(echo "$said" | grep -v ^ok)"
	fi
}

stat_has() {
	"$FINESSE_BUILD_DIR/finesse" stat "$server" | grep -q "$1"
}

stat_names() { # SITUATION WORD COMMAND…: of a server that is started by the command
	what=$1 word=$2
	shift 2
	: >"$scratch/server.log" # no word of an earlier one
	nsenter --net="/proc/$SERVER_NS/ns/net" "$@" "$FINESSE_BUILD_DIR/finesse" run --interface server0 -- python3 "$scratch/server.py" >"$scratch/server.log" 2>&1 9>&- &
	server=$!
	wait_until 60 grep -q ready "$scratch/server.log"
	if [ ! -d "/proc/$server" ]; then
		cat "$scratch/server.log"
		return
	fi
	if wait_until 60 stat_has "$word"; then pass "stat: $what"; else "$FINESSE_BUILD_DIR/finesse" stat "$server"; fi
	kill "$server"
	wait "$server" 2>/dev/null || true
}

both() { # SITUATION WORD
	doctor_names "$1" "$2" $STATUS_NOTHING
	stat_names "$1" "$2"
}

in_server nft 'add table inet t; add chain inet t in { type filter hook input priority 0; }; add rule inet t in tcp dport 8080 ct state established limit rate over 5/second drop'
both "a rule that limits what follows a SYN" "nftables chain inet t in"
in_server nft 'flush ruleset; add table inet t; add chain inet t out { type filter hook output priority 0; }; add rule inet t out tcp sport 8080 drop'
both "a rule on what goes out" "nftables chain inet t out drops"
in_server nft flush ruleset

in_server tc qdisc add dev server0 clsact
for kind in tc tcx; do
	: >"$scratch/attached"
	nsenter --net="/proc/$SERVER_NS/ns/net" python3 "${srcdir:-.}/tests/net/ingress_programs.py" $kind server0 10.78.0.3 >"$scratch/attached" 9>&- &
	program=$!
	wait_until 60 grep -q attached "$scratch/attached"
	[ $kind = tc ] && word="tc's filters" || word="(tcx)"
	both "a program of $kind at the ingress" "$word"
	kill $program
	wait $program 2>/dev/null || true
	in_server tc filter del dev server0 ingress
done

if in_server ip xfrm policy add dir in action block 2>/dev/null && in_server ip xfrm policy add src ::/0 dir in action block; then
	both "an IPsec policy" "IPsec policy (ip xfrm policy, dir in)"
	in_server ip xfrm policy flush
fi
for v in 4 6; do
	in_server ip -$v rule add ipproto tcp sport 8080 table main pref 50
done
both "a routing rule by port" "ip rule"
for v in 4 6; do
	in_server ip -$v rule del pref 50
done

for cap in net_admin net_raw; do
	name=CAP_$(echo $cap | tr a-z A-Z)
	doctor_names "without $name" "$name" $STATUS_NOTHING setpriv --bounding-set=-$cap --inh-caps=-$cap
	stat_names "without $name" "$name" setpriv --bounding-set=-$cap --inh-caps=-$cap
done

in_server ip addr flush dev server0
doctor_names "an interface without an address" "no address" $STATUS_NOTHING
in_server ip link del server0
both "an interface that is not there" "does not exist"
finish
