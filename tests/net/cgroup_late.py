#!/usr/bin/python3
"""A BPF program that is attached to a server's cgroup while it serves: what it drops is dropped on live connections, too, and they go on when it is gone.

cgroup_late.py DIRECTORY (a cgroup2 of this host's that may be written): one row each for a server that is root still, and one that has dropped its privilege.
"""
import socket
import sys
import time

from judged_rules import Cgroup
from lab import Lab, LabError, SERVER_IP, tally

PORT = 7001  # what judged_rules.py's programs are about
SERVER = """
import os, socket, sys
s = socket.create_server(("", %d))
c, _ = s.accept()
if sys.argv[1] == "dropped":
    os.setgid(65534); os.setuid(65534)
while data := c.recv(100):
    c.sendall(data)
""" % PORT
BOUND = 20  # seconds


def echoed(c, n, wait):
    """One more byte is sent; what came back by then, or after `wait` seconds."""
    c.sendall(bytes([n % 256]))
    c.settimeout(wait)
    try:
        data = c.recv(100)
    except TimeoutError:
        return b""
    if not data:
        raise LabError("the connection ended")
    return data


def is_kernels(lab):
    return bool(lab.server.text(["ss", "-Htn", "state", "established", "sport = :%d" % PORT]).strip())


def row(lab, cgroup, who):
    server = lab.server.spawn([sys.executable, "-c", SERVER, who], finesse=True)
    lab.server.wait_listening(server, PORT, finesse=True)
    c = lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
    c.settimeout(BOUND)
    c.connect((SERVER_IP, PORT))
    sent, got = 0, b""
    for _ in range(3):
        got += echoed(c, sent, BOUND)
        sent += 1
    if is_kernels(lab):
        return "the kernel carries it from the beginning"
    cgroup.attach("ingress: drop servers")
    attached = time.monotonic()
    while not is_kernels(lab):
        if time.monotonic() > attached + BOUND:
            return "the program was not noticed in %d s" % BOUND
        got += echoed(c, sent, 0.05)
        sent += 1
    took, before = time.monotonic() - attached, len(got)
    for _ in range(3):
        got += echoed(c, sent, 0.2)
        sent += 1
    if len(got) > before + 1:  # one may have been on its way
        return "answered in spite of the program"
    cgroup.detach()
    c.settimeout(BOUND)
    while len(got) < sent:  # the client's own repetition
        data = c.recv(100)
        if not data:
            return "the connection ended when the program was gone"
        got += data
    if got != bytes(n % 256 for n in range(sent)):
        return "damaged"
    c.close()
    server.wait(BOUND)
    lab.processes.remove(server)
    print("# %s: the kernel's %.2f s after the program was attached" % (who, took))
    return None


def main():
    failed = 0
    cgroup = Cgroup(sys.argv[1])
    try:
        for who in ("root", "dropped"):
            try:
                with Lab() as lab:
                    said = row(lab, cgroup, who)
            except (LabError, OSError) as e:
                said = str(e)
            failed += said is not None
            print("FAILED: %s: %s" % (who, said) if said else "ok: " + who)
            cgroup.detach()
    finally:
        cgroup.leave()
    return tally(2, failed)


if __name__ == "__main__":
    sys.exit(main())
