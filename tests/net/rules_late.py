#!/usr/bin/python3
"""Rules that come while a server is served that had no privilege when its engine came up. It may not hear of rules, so the broker tells it; what they drop is dropped on a live connection, too. IPsec policies are rules as well.

rules_late.py: one row for each set-up of rules at the beginning, and what comes later.
"""
import socket
import sys
import time

from lab import Lab, LabError, SERVER_IP, tally

PORT = 7002
SERVER = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
s = socket.create_server(("", %d))
c, _ = s.accept()
while data := c.recv(100):
    c.sendall(data)
""" % PORT
BOUND = 20  # seconds
BAN = "add table ip late; add chain ip late in { type filter hook input priority 0; }; add rule ip late in tcp dport %d drop" % PORT
BLOCK = "ip xfrm policy add src 0.0.0.0/0 dst %s/32 proto tcp dport %d dir in action block" % (SERVER_IP, PORT)
HARMLESS = "add table ip other; add chain ip other in { type filter hook input priority 0; }; add rule ip other in udp dport 53 accept"


def echoed(c, wait):
    c.sendall(b"x")
    c.settimeout(wait)
    try:
        return c.recv(100)
    except TimeoutError:
        return b""


def is_answered(c, token, wait):
    """Whether `token` comes back. What was sent before may come late."""
    c.sendall(token)
    end, came = time.monotonic() + wait, b""
    while token not in came:
        left = end - time.monotonic()
        if left <= 0:
            return False
        c.settimeout(left)
        try:
            data = c.recv(100)
        except TimeoutError:
            return False
        if not data:
            return False
        came += data
    return True


def is_kernels(lab):
    return bool(lab.server.text(["ss", "-Htn", "state", "established", "sport = :%d" % PORT]).strip())


def row(lab, before, late):
    if before:
        lab.server.run(["nft", before])
    server = lab.server.spawn([sys.executable, "-c", SERVER], finesse=True)
    lab.server.wait_listening(server, PORT, finesse=True)
    with lab.client.socket(socket.AF_INET, socket.SOCK_STREAM) as c:
        c.settimeout(BOUND)
        c.connect((SERVER_IP, PORT))
        for _ in range(3):
            if not echoed(c, BOUND):
                return "nothing came back before the rule"
        if is_kernels(lab):
            return "the kernel carries it from the beginning"
        lab.server.run(late)
        end = time.monotonic() + BOUND
        while not is_kernels(lab):
            if time.monotonic() > end:
                return "the rule was not noticed in %d s" % BOUND
            echoed(c, 0.05)
        if is_answered(c, b"late", 0.7):
            return "answered in spite of the rule"
    return None


def main():
    failed = 0
    rows = (
        ("no rules", None, ["nft", BAN]),
        ("rules that concern nobody", HARMLESS, ["nft", BAN]),
        ("an IPsec policy", None, BLOCK.split()),
        ("an IPsec policy beside rules that concern nobody", HARMLESS, BLOCK.split()),
    )
    for name, before, late in rows:
        try:
            with Lab() as lab:
                said = row(lab, before, late)
        except (LabError, OSError) as e:
            said = str(e)
        failed += said is not None
        print("FAILED: %s: %s" % (name, said) if said else "ok: " + name, flush=True)
    return tally(len(rows), failed)


if __name__ == "__main__":
    sys.exit(main())
