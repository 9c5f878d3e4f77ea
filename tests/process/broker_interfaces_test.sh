#!/bin/sh
# A host with two interfaces and no default route: doctor looks at both, and the broker makes a link ready for the one that an engine would take first, and for those that are asked for.
srcdir=${srcdir:-.}
# shellcheck source=tests/net/lib.sh
. "$srcdir/tests/net/lib.sh"
need ip nsenter python3
pair_up
finesse=$FINESSE_BUILD_DIR/finesse
in_server ip link add second0 type veth peer name second1
in_server ip addr add 10.79.0.1/24 dev second0
in_server ip link set second0 up
in_server ip link set second1 up

# What doctor says of interfaces and classifiers, and its status.
doctor() {
	in_server "$finesse" doctor --json "$@" >"$scratch/doctor"
	status=$?
	python3 -c '
import json, sys
checks = json.load(open(sys.argv[1]))["checks"]
print(" ".join("%s:%s" % (c["finding"], c["text"].split(",")[0].split()[0]) for c in checks if c["check"] == "interface"),
      " ".join(sorted(c["text"].split()[-1] for c in checks if c["check"] == "classifier" and c["finding"] == "ok")))' "$scratch/doctor"
	return $status
}

# is WHAT FOUND EXPECTED
is() {
	if [ "$2" = "$3" ]; then pass "$1: $2"; else fail "$1: $2, not $3"; fi
}

is "doctor" "$(doctor; echo $?)" "$(printf 'ok:server0 ok:second0 second0 server0\n0')"
is "doctor --interface second0,server0" "$(doctor --interface second0,server0; echo $?)" "$(printf 'ok:second0 ok:server0 second0 server0\n0')"
is "doctor, one that is missing" "$(doctor --interface server0,nosuch0; echo $?)" "$(printf 'missing:nosuch0 ok:server0 server0\n1')"

# The places at this interface that a broker in the server's namespace has.
places_at() {
	in_server python3 -c '
import glob, os, re, socket, sys
here, number, n = os.readlink("/proc/self/ns/net"), socket.if_nametoindex(sys.argv[1]), 0
for process in glob.glob("/proc/[0-9]*"):
    try:
        if open(process + "/comm").read() == "finesse-broker\n" and os.readlink(process + "/ns/net") == here:
            for fd in glob.glob(process + "/fdinfo/*"):
                text = open(fd).read()
                n += "link_type:\ttcx" in text and bool(re.search(r"^ifindex:\t%d$" % number, text, re.M))
    except OSError:
        pass # it ended
print(n)' "$1"
}
has() {
	[ "$(places_at "$1")" -ge "$2" ]
}
nsenter --net="/proc/$SERVER_NS/ns/net" "$finesse" run -- sleep 60 9>&- &
holders="$holders $!"
wait_until 10 has server0 1 && pass "the broker has a place ready at server0, with no default route"
finish
