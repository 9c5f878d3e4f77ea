#!/usr/bin/env python3
"""Legitimate connects during a flood of SYNs with forged sources, by finesse and (--kernel) by the kernel's TCP beside it.

    flood.py [--rate N] [--connects N] [--kernel]

Short by default, as one of make check's tests."""
import argparse
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "net"))
from lab import Checks, CLIENT_IP, Lab, SERVER_IP, TOP  # noqa: E402

check = Checks()
FLOOD_S = 600  # at most: it is ended when the clients are through

SERVER = """
import socket
s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(("0.0.0.0", 8000)); s.listen(256)
while True:
    c, _ = s.accept()
    try:
        c.settimeout(5)
        c.sendall(c.recv(100)); c.recv(1)
    except OSError: pass
    c.close()
"""
# One connect after the other, with a message and its echo. The flood goes on all the while; a SYN or two may be lost where the machine is too busy to take frames in.
CLIENT = """
import json, socket, sys, time
good = bad = 0; worst = 0
for _ in range(int(sys.argv[2])):
    t = time.time()
    try:
        with socket.create_connection((sys.argv[1], 8000), 30) as c:
            c.settimeout(30); c.sendall(b"hello")
            good += c.recv(100) == b"hello"
    except OSError as e:
        bad += 1
    worst = max(worst, time.time() - t)
    time.sleep(0.005)
print(json.dumps({"good": good, "bad": bad, "worst": round(worst, 3)}))
"""


def mac(host):
    return json.loads(host.text(["ip", "-json", "link", "show", host.interface]))[0]["address"]


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def floods(host):
    """Until the flood runs."""
    def sent():
        return json.loads(host.text(["ip", "-s", "-json", "link", "show", host.interface]))[0]["stats64"]["tx"]["packets"]
    before = sent()
    while sent() - before < 1000:
        time.sleep(0.02)


def one(finesse, rate, connects, network, bits, sysctls=(), cookies=True):
    with Lab() as lab:
        lab.server.run(["ip", "route", "add", "default", "via", CLIENT_IP])
        for setting in sysctls:
            lab.server.run(["sysctl", "-qw", setting])
        p = lab.server.spawn(["/usr/bin/python3", "-c", SERVER], finesse=finesse)
        lab.server.wait_listening(p, 8000, finesse=finesse)
        f = lab.client.spawn([TOP / "tests/hostile/syn_flood", lab.client.interface, mac(lab.server), SERVER_IP, 8000, rate,
                              FLOOD_S, network, bits], stdout=subprocess.PIPE)
        floods(lab.client)
        before, began = cpu_seconds(p.pid), time.monotonic()
        c = json.loads(lab.client.text(["/usr/bin/python3", "-c", CLIENT, SERVER_IP, connects], timeout=120))
        cpu = cpu_seconds(p.pid) - before
        f.terminate()
        took = time.monotonic() - began
        sent = int(f.communicate(timeout=60)[0])
        total = c["good"] + c["bad"]
        name = "%s, %s/%d%s" % ("finesse" if finesse else "kernel", network, bits, " " + " ".join(sysctls) if sysctls else "")
        line = "%s: %d SYN/s: %d of %d connects, slowest %.3f s, server's CPU %.2f s" % (
            name, sent / took, c["good"], total, c["worst"], cpu)
        if not finesse:
            print("   " + line, flush=True)
        else:
            check(total == connects and not c["bad"], line)
            counters = lab.server.stat(p.pid)["counters"]["socket"]
            told = "cookies sent %d, came back %d, failed %d; evicted %d" % tuple(
                counters[n] for n in ("SyncookiesSent", "SyncookiesRecv", "SyncookiesFailed", "EmbryosEvicted"))
            check((counters["SyncookiesSent"] > 0) == cookies and counters["Accepted"] >= c["good"], told)
        p.kill()
        p.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, default=20000)
    parser.add_argument("--connects", type=int, default=150)
    parser.add_argument("--kernel", action="store_true")
    args = parser.parse_args()
    if os.geteuid():
        print("skipped: needs root")
        return 77
    for finesse in [False, True] if args.kernel else [True]:
        one(finesse, args.rate, args.connects, "198.18.0.0", 15)  # from behind the router
        one(finesse, args.rate, args.connects, "10.77.128.0", 17)  # neighbours that do not exist
        # Without cookies: a flood from one network leaves the others' handshakes alone.
        one(finesse, args.rate, args.connects, "198.18.5.0", 24, ["net.ipv4.tcp_syncookies=0"], cookies=False)
    return check.tally()


if __name__ == "__main__":
    sys.exit(main())
