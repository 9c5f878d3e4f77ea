#!/usr/bin/env python3
"""What a path does to connections that are open: the MTU of our own interface, of the route and of a router's link, and a neighbour
that is asked for while the interface has no link-local address. FINESSE="" plays all of it on the kernel's TCP."""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "net"))
from lab import Checks, Host, Lab, finesse_command, SERVER_IP  # noqa: E402

FINESSE = bool(finesse_command())

# Sends for `seconds`, or, without them, until a file "enough" is there; then END.; serves `connections` of them, one after the other.
SERVER = """
import os, socket, sys, time
s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(("0.0.0.0", 8000)); s.listen(16)
data = os.urandom(1 << 16)
for i in range(int(sys.argv[2])):
    c, _ = s.accept(); c.settimeout(60)
    end = time.time() + float(sys.argv[1] or "inf")
    while True:
        c.sendall(data)
        if time.time() >= end or os.path.exists("enough"): break
        time.sleep(0.02)
    c.sendall(b"END."); c.shutdown(1)
    try: c.recv(1)
    except OSError: pass
    c.close()
time.sleep(300)
"""
CLIENT = """
import socket, sys, time
c = socket.create_connection((sys.argv[1], 8000), 30); c.settimeout(30)
last = time.time(); worst = 0; tail = b""; n = 0
try:
    while True:
        d = c.recv(65536); now = time.time(); worst = max(worst, now - last); last = now
        if not d: break
        n += len(d); tail = (tail + d)[-4:]
except OSError as e:
    print("stalled after %d bytes: %s" % (n, e)); sys.exit(1)
print("%d bytes, longest pause %.2f s" % (n, worst))
sys.exit(0 if tail == b"END." and worst < 8 else 1)
"""

check = Checks()


def serve(lab, host, seconds, connections=1):
    p = host.spawn(["/usr/bin/python3", "-c", SERVER, seconds, connections], finesse=True)
    host.wait_listening(p, 8000, finesse=True)
    return p


def fetch(host, address, timeout=120):
    p = host.spawn(["/usr/bin/python3", "-c", CLIENT, address], stdout=subprocess.PIPE)
    return p, timeout


def result(host_and_timeout, what):
    p, timeout = host_and_timeout
    try:
        out, _ = p.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        p.kill()
        out, _ = p.communicate()
    check(p.returncode == 0, "%s: %s" % (what, out.decode().strip()))


def counter(host, p, kind, name):
    return host.stat(p.pid).get("counters", {}).get(kind, {}).get(name, 0) if FINESSE else 0


def until(what, condition, seconds=30):
    """Waits for it: whether it came."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            check(False, "never: " + what)
            return False
        time.sleep(0.02)
    return True


def is_connected(lab):
    return lab.client.text(["ss", "-Htn", "state", "established", "dport = :8000"]).strip()


def enough(lab):
    """The sender ends."""
    with open(os.path.join(lab.dir, "enough"), "w"):
        pass


def interface_mtu():
    """The MTU of the sender's interface falls and rises, alone or with the peer's, while data flows."""
    with Lab() as lab:
        for changes in ("s:1280 s:1500 s:1300", "b:9000 b:1400 b:1500", "b:600 b:1500"):
            for host in (lab.server, lab.client):
                host.run(["ip", "link", "set", host.interface, "mtu", 1500])
            p = serve(lab, lab.server, "")
            f = fetch(lab.client, SERVER_IP)
            until("a connection", lambda: is_connected(lab))
            for change in changes.split():
                time.sleep(0.4)
                side, mtu = change.split(":")
                for host in (lab.server, lab.client):
                    if side == "b" or host is lab.server:
                        host.run(["ip", "link", "set", host.interface, "mtu", mtu])
            time.sleep(0.4)
            enough(lab)
            result(f, "interface mtu " + changes)
            os.unlink(os.path.join(lab.dir, "enough"))
            p.kill()
            p.wait()


def route_mtu():
    """The route's MTU falls: segments get smaller at the next chance."""
    with Lab() as lab:
        p = serve(lab, lab.server, "")
        f = fetch(lab.client, SERVER_IP)
        until("a connection", lambda: is_connected(lab))
        time.sleep(0.4)
        lab.server.run(["ip", "route", "change", "10.77.0.0/16", "dev", lab.server.interface, "src", SERVER_IP, "mtu", "1000"])
        if FINESSE and until("segments of 948 bytes", lambda: [c["mss"] for c in lab.server.stat(p.pid).get("connections", [])] == [948]):
            check(True, "its segments: 948 bytes")
        enough(lab)
        result(f, "route mtu 1000")
        p.kill()
        p.wait()


def routed(lab, mtu):
    """A router between the hosts whose link to the client carries `mtu` bytes."""
    router = Host(lab, "")
    s, c = lab.server, lab.client
    s.run(["ip", "link", "del", s.interface])
    lab._veth(s, s.interface, router, "to-server")
    lab._veth(c, c.interface, router, "to-client")
    router.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; "
                "ip addr add 10.78.1.1/24 dev to-server; ip addr add 10.78.2.1/24 dev to-client; "
                "ip link set to-server up; ip link set to-client mtu %d up" % mtu])
    for host, ip, gateway in ((s, "10.78.1.2", "10.78.1.1"), (c, "10.78.2.2", "10.78.2.1")):
        host.run(["sh", "-c", "ip addr add %s/24 dev %s; ip link set %s up; ip route add default via %s"
                  % (ip, host.interface, host.interface, gateway)])
    return router


def unreachables_sent(router):
    for line in router.text(["nstat", "-asz", "IcmpOutDestUnreachs"]).splitlines():
        if line.startswith("IcmpOutDestUnreachs"):
            return int(line.split()[1])
    raise AssertionError("nstat")


def router_mtu(mtu):
    """A router says "fragmentation needed": this connection hears, and the next one to the host knows already."""
    with Lab() as lab:
        router = routed(lab, mtu)
        p = serve(lab, lab.server, 0.3, 2)
        result(fetch(lab.client, "10.78.1.2"), "a router's link of %d bytes" % mtu)
        first = unreachables_sent(router)
        result(fetch(lab.client, "10.78.1.2"), "the next connection over it")
        second = unreachables_sent(router)
        check(first > 0, "the router complained (%d)" % first)
        check(second == first, "and did not have to again (%d more)" % (second - first))
        p.kill()
        p.wait()


def no_link_local():
    """A neighbour is resolved from the connection's address when the interface has no link-local one."""
    with Lab() as lab:
        for host, ip in ((lab.server, "fd77::1"), (lab.client, "fd77::2")):
            host.run(["sh", "-c", "ip link set %s down; echo 1 >/proc/sys/net/ipv6/conf/%s/addr_gen_mode; ip link set %s up; "
                      "ip addr add %s/64 dev %s nodad" % ((host.interface,) * 3 + (ip, host.interface))])
        p = lab.server.spawn(["/usr/bin/python3", "-c", "import socket, time\ns = socket.create_server(('::', 8000), "
                                                        "family=socket.AF_INET6, dualstack_ipv6=True)\nwhile True: s.accept()[0].close()"])
        lab.server.wait_listening(p, 8000)
        took = []
        while len(took) < 8 and min(took, default=1) >= 0.5:  # a question without an answer is asked again a second later, each time; a busy machine is slow now and then
            lab.client.run(["ip", "-6", "neigh", "flush", "dev", lab.client.interface])
            took.append(float(lab.client.text(["/usr/bin/python3", "-c", "import socket, time\nsocket.create_connection((%r, 8000), 30)\n"  # the engine is there
                                               "t = time.time()\nsocket.create_connection(('fd77::1', 8000), 30)\nprint(time.time() - t)" % SERVER_IP], finesse=True)))
        check(min(took) < 0.5, "connect without a link-local address took %s s" % ", ".join("%.2f" % t for t in took))
        p.kill()
        p.wait()


def main():
    if os.geteuid():
        print("skipped: needs root")
        return 77
    interface_mtu()
    route_mtu()
    router_mtu(1400)
    router_mtu(500)
    no_link_local()
    return check.tally()


if __name__ == "__main__":
    sys.exit(main())
