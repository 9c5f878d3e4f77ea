#!/usr/bin/python3
"""SO_PRIORITY and IP_TOS set the priority of frames, by which qdiscs and VLANs choose, for a client's and an accepted socket, set before and after connect: natively and under finesse, whatever the kernel does.

Each row is a connection on which the program sets something and then sends messages; rules at the interface's egress count the frames of each priority. As root; 77 otherwise.
"""
import json
import os
import subprocess
import sys

from lab import SERVER_IP, Checks, Lab, LabError

PYTHON = "/usr/bin/python3"
PORT = 7000
MESSAGES = 30  # more than handshakes, ends and neighbours' questions are
SO_PRIORITY, IP_TOS = "SO_PRIORITY", "IP_TOS"
ROWS = [  # what the program sets before connect, and after
    ((), ()),
    (((SO_PRIORITY, 6),), ()),
    ((), ((SO_PRIORITY, 6),)),
    ((), ((SO_PRIORITY, 2),)),
    (((IP_TOS, 0x10),), ()),
    ((), ((IP_TOS, 0x10),)),
    (((SO_PRIORITY, 6), (IP_TOS, 0x08)), ()),
    (((IP_TOS, 0x08), (SO_PRIORITY, 6)), ()),
    ((), ((IP_TOS, 0x08), (SO_PRIORITY, 6))),
    ((), ((SO_PRIORITY, 6), (IP_TOS, 0x08), (SO_PRIORITY, 6))),
    (((SO_PRIORITY, 6),), ((SO_PRIORITY, 0),)),
]
# One connection after the other: settings come by line, and a line with the priority that the program reads goes back when the messages are out and answered.
PROGRAM = """
import json, socket, sys
options = {"SO_PRIORITY": (socket.SOL_SOCKET, socket.SO_PRIORITY), "IP_TOS": (socket.IPPROTO_IP, socket.IP_TOS)}
def apply(s, settings):
    for name, value in settings:
        s.setsockopt(*options[name], value)
role, address, messages = sys.argv[1], (sys.argv[2], int(sys.argv[3])), int(sys.argv[4])
if role == "server":
    listener = socket.create_server(address)
    listener.setsockopt(*options["SO_PRIORITY"], 4)
print("ready", flush=True)
for line in sys.stdin:
    before, after = json.loads(line)
    if role == "client":
        s = socket.socket()
        apply(s, before)
        s.connect(address)
    else:
        s, _ = listener.accept()
    apply(s, after)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(messages):
        s.sendall(b"x")
        assert s.recv(1) == b"y"
    print(s.getsockopt(*options["SO_PRIORITY"]), flush=True)
    s.close()
"""
# The other end, on the kernel's TCP.
PEER = """
import socket, sys
role, address, n = sys.argv[1], (sys.argv[2], int(sys.argv[3])), int(sys.argv[4])
if role == "client":
    listener = socket.create_server(address)
    print("ready", flush=True)
for _ in range(n):
    s = listener.accept()[0] if role == "client" else socket.create_connection(address)
    while s.recv(1):
        s.sendall(b"y")
    s.close()
"""


PRIORITIES = (0, 2, 4, 6)  # 4: the listener's, and no row's


def bands(host):
    """Frames of each priority so far."""
    rules = [r["rule"]["expr"] for r in json.loads(host.text(["nft", "-j", "list", "ruleset"]))["nftables"] if "rule" in r]
    return dict(zip(PRIORITIES, (e["counter"]["packets"] for r in rules for e in r if "counter" in e)))


def make_counters(host):
    host.run(["nft", "add", "table", "netdev", "t"])
    host.run(["nft", "add", "chain", "netdev", "t", "c", "{ type filter hook egress device %s priority 0; }" % host.interface])
    for p in PRIORITIES:
        host.run(["nft", "add", "rule", "netdev", "t", "c", "meta", "priority", "0:%d" % p, "counter"])


def rows_of(role):
    return [r for r in ROWS if role == "client" or not r[0]]


def run(role, finesse):
    """What each row saw: (the priority that the program reads, the bands with its messages)."""
    seen = []
    with Lab() as lab:
        host, other = (lab.client, lab.server) if role == "client" else (lab.server, lab.client)
        make_counters(host)
        arguments = [SERVER_IP, str(PORT)]
        peer = ours = None
        if role == "client":
            peer = other.spawn([PYTHON, "-c", PEER, role, *arguments, str(len(rows_of(role)))], stdout=subprocess.PIPE)
            peer.stdout.readline()
        ours = host.spawn([PYTHON, "-c", PROGRAM, role, *arguments, str(MESSAGES)], finesse, ("--firewall", "bypass"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if ours.stdout.readline() != b"ready\n":
            raise LabError("the program did not start")
        if role == "server":
            peer = other.spawn([PYTHON, "-c", PEER, role, *arguments, str(len(rows_of(role)))], stdout=subprocess.PIPE)
        opened = host.opens()
        for row in rows_of(role):
            before = bands(host)
            ours.stdin.write(json.dumps(row).encode() + b"\n")
            ours.stdin.flush()
            priority = ours.stdout.readline().decode().strip()
            after = bands(host)
            seen.append("%s -> %s, frames of %s" % (row, priority, [b for b in sorted(after) if after[b] - before[b] >= MESSAGES]))
        if role == "server":
            seen.append("the listener's SYN-ACKs -> 4: %s" % (bands(host)[4] >= len(rows_of(role))))
        carried = host.opens() == opened
        ours.stdin.close()
    return seen, carried


def main():
    if os.geteuid() != 0:
        print("skipped: needs root")
        return 77
    if tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2]) < (6, 14):
        print("skipped: the kernel takes no priority by message, and the engine tells the qdisc none")
        return 77
    check = Checks()
    for role in ("client", "server"):
        try:
            native, _ = run(role, False)
        except LabError as e:
            print("skipped: no counters at egress: %s" % e)
            return 77
        ours, carried = run(role, True)
        for a, b in zip(native, ours):
            check(a == b, "%s: natively %s; under finesse %s" % (role, a, b))
        check(len(set(line.rsplit(" ", 1)[1] for line in native)) > 1, "%s: natively not all rows have one priority" % role)
        check(carried, "%s: the engine carried all connections" % role)
    return check.tally()


if __name__ == "__main__":
    sys.exit(main())
