#!/usr/bin/python3
"""Connecting beside something else, natively and under finesse: tests/net/connecting.c says what."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import SERVER_IP, TOP, HERE, Lab

PORT = 7410
LINK = "delay=4ms"  # between the hosts: the peer has half of a connection for so long
# what, how many connections
WALKS = [("given_up", 150), ("spawn", 40)]


def walk(lab, what, finesse):
    p = lab.client.run([str(TOP / "tests/net/connecting"), what, SERVER_IP, str(PORT)], finesse=finesse, timeout=60, check=False)
    return p.stdout.decode() + p.stderr.decode()


def main():
    if os.geteuid():
        print("skipped: needs root")
        sys.exit(77)
    checks = failures = 0
    for what, n in WALKS:
        with Lab(link=LINK) as lab:
            peer = lab.server.spawn([sys.executable, str(HERE / "reuse.py"), "peer", str(PORT)], stdout=subprocess.DEVNULL)
            lab.server.wait_listening(peer, PORT)
            for finesse in (False, True):
                said = walk(lab, what, finesse)
                right = said.startswith("done %d\n" % n)
                checks += 1
                failures += not right
                print("%s: %s, %s" % ("ok" if right else "FAILED", what, "finesse" if finesse else "kernel"), "" if right else said, flush=True)
    print("%d%%: Checks: %d, Failures: %d, Errors: 0" % (100 * (checks - failures) // checks, checks, failures))
    sys.exit(failures != 0)


main()
