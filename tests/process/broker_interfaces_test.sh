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

# Says when a broker in the server's namespace has a place at this interface. It gives it up after two seconds: so who looks is there before, and looks all the time.
cat >"$scratch/look.py" <<'END'
import glob, os, re, socket, sys, time
here, number = os.readlink("/proc/self/ns/net"), socket.if_nametoindex(sys.argv[1])
def place():
    for process in glob.glob("/proc/[0-9]*"):
        try:
            if open(process + "/comm").read() == "finesse-broker\n" and os.readlink(process + "/ns/net") == here:
                for fd in glob.glob(process + "/fdinfo/*"):
                    text = open(fd).read()
                    if "link_type:\ttcx" in text and re.search(r"^ifindex:\t%d$" % number, text, re.M):
                        return True
        except OSError:
            pass # it ended
    return False
print("looks", flush=True)
while not place():
    time.sleep(0.005)
print("place", flush=True)
END
nsenter --net="/proc/$SERVER_NS/ns/net" python3 "$scratch/look.py" server0 >"$scratch/seen" 9>&- &
holders="$holders $!"
wait_until 60 grep -q looks "$scratch/seen"
for _ in 1 2 3 4 5; do
	grep -q place "$scratch/seen" && break
	nsenter --net="/proc/$SERVER_NS/ns/net" "$finesse" run -- sleep 60 9>&- &
	holders="$holders $!"
	looks=0
	while [ $looks -lt 250 ] && ! grep -q place "$scratch/seen"; do
		looks=$((looks + 1))
		sleep 0.02
	done
done
if grep -q place "$scratch/seen"; then
	pass "the broker has a place ready at server0, with no default route"
else
	fail "the broker has no place at server0"
fi
finish
