#!/usr/bin/python3
"""Calls that wait while their process is stopped and continued, natively and under finesse: tests/process/stopped.c says what."""
import os
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../net"))
from lab import SERVER_IP, TOP, Lab, LabError, compare_lines

PORT = 7421
NOBODY_IP, NOBODY = "10.77.0.9", "02:00:00:00:00:99"  # SYNs go there, and nothing comes back


def peer(listener):
    held = []
    while True:
        held.append(listener.accept()[0])
        held[-1].send(b"x")


def seen(finesse):
    with Lab() as lab:
        lab.client.run(["ip", "neigh", "add", NOBODY_IP, "lladdr", NOBODY, "dev", lab.client.interface, "nud", "permanent"])
        listener = lab.server.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # fixed: it does not grow while it is filled
        listener.bind((SERVER_IP, PORT))
        listener.listen(64)
        threading.Thread(target=peer, args=(listener,), daemon=True).start()
        p = lab.client.run([str(TOP / "tests/process/stopped"), SERVER_IP, str(PORT), *sys.argv[1:]], finesse=finesse, timeout=900, check=False)
        if finesse and lab.client.opens()[0]:
            raise LabError("the kernel connected")
        lines = (p.stdout + p.stderr).decode().splitlines()
        for line in lines:
            if line.endswith(": ") or "did not wait" in line or (not finesse and "unlike the table" in line):
                raise LabError("nothing was tested, %s: %s" % ("under finesse" if finesse else "natively", line))
        return lines


if __name__ == "__main__":
    sys.exit(compare_lines(seen))
