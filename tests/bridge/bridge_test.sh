#!/bin/sh
# The bridge's own face: what it refuses, by name and with which status; and, as root, that it forwards, counts and ends.
# What the settings do to frames is tests/unit/impair_test's.
set -u
bridge=${builddir:-.}/tests/bridge/bridge
failed=0

refuses() { # STATUS TEXT ARGUMENTS…
	want=$1 text=$2
	shift 2
	out=$("$bridge" "$@" 2>&1)
	status=$?
	case $status:$out in
	"$want:"*"$text"*) ;;
	*)
		echo "bridge $*: status $status, said: $out"
		failed=1
		;;
	esac
}

refuses 2 usage
refuses 2 usage a b c d e
refuses 2 'bridge: loss: "2": takes 0% to 100%' a b loss=2
refuses 2 '"rat": not one of loss, delay' a b rat=1mbit
refuses 2 'jitter' a b delay=1ms jitter=x
refuses 1 'bridge: no-such-0: no such interface' no-such-0 no-such-1

if [ "$(id -u)" = 0 ] && [ -x /usr/bin/python3 ]; then
	FINESSE_BUILD_DIR=$(cd "${builddir:-.}" && pwd) /usr/bin/python3 - "${srcdir:-.}/tests/net" <<'PYTHON' || failed=1
import sys
sys.path.insert(0, sys.argv[1])
from lab import *

def ask(lab, count, size, wait):
    """Datagrams that an echo answers, over the bridge; how many came back."""
    code = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(float(sys.argv[4]))
got = 0
for i in range(int(sys.argv[2])):
    s.sendto(b"%6d" % i + bytes(int(sys.argv[3])), (sys.argv[1], 7000))
    try:
        while s.recv(2000)[:6] != b"%6d" % i: pass
        got += 1
    except TimeoutError: pass
print(got)
"""
    return int(lab.client.text(["/usr/bin/python3", "-c", code, SERVER_IP, str(count), str(size), str(wait)], timeout=300))

echo = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], 7000))
print("ready", flush=True)
while True: s.sendto(*s.recvfrom(2000))
"""
for settings, least, most in (("", 50, 50), (("loss=100%", ""), 0, 0), ("dup=100%,delay=2ms", 50, 50), (("corrupt=100%", ""), 0, 0)):
    with Lab(link=settings) as lab:
        for a, b in ((lab.server, lab.client), (lab.client, lab.server)):
            mac = json.loads(b.text(["ip", "-j", "link", "show", b.interface]))[0]["address"]
            a.run(["ip", "neigh", "replace", {lab.client: CLIENT_IP, lab.server: SERVER_IP}[b], "lladdr", mac, "dev", a.interface])
        p = lab.server.spawn(["/usr/bin/python3", "-c", echo, SERVER_IP], stdout=subprocess.PIPE)
        assert p.stdout.readline() == b"ready\n"
        count = 50 if least else 4
        got = ask(lab, count, 500, 20 if least else 0.5)
        assert least <= got <= most, "%r: %d of %d came back" % (settings, got, count)
        counters = lab.bridge_counters()
        c = counters["to-client"]
        assert c["frames"] >= count and not c["oversized"] + c["unfinished"] + c["unsent"], c
        assert "loss" not in str(settings) or c["lost"] == c["frames"], c
        assert "dup" not in str(settings) or c["delivered"] + c["in_flight"] == 2 * c["frames"], c
        assert "corrupt" not in str(settings) or c["corrupted"] >= count, c
PYTHON
fi
[ $failed = 0 ] && echo "bridge: all as it should be"
exit $failed
