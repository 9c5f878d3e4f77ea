#!/usr/bin/python3
"""BPF programs that come to a process's cgroup late, or to which the process comes.

One that is attached to a server's cgroup while it serves: what it drops is dropped on live connections, too, and they go on when it is gone. One row each for a server that is root still,
and one that has dropped its privilege. And a client that enters a cgroup in which its tree's broker is not, and connects: where there is a program, not even its SYN is the engine's.

cgroup_late.py DIRECTORY (a cgroup2 of this host's that may be written)
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
CLIENT = """
import os, socket, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as f:
    f.write(str(os.getpid()))
with socket.create_connection((sys.argv[2], int(sys.argv[3]))) as s:
    s.sendall(b"x")
    print(s.recv(1) == b"x")
"""
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
    took, before = time.monotonic() - attached, sent
    for _ in range(3):
        got += echoed(c, sent, 0.2)
        sent += 1
    if len(got) > before:  # of what was sent after it; what was sent before may come late
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


def opens_of_client(lab, inner):
    """How many connections the kernel's TCP opens for a client that enters the cgroup."""
    server = lab.server.spawn([sys.executable, "-c", SERVER, "root"])
    lab.server.wait_listening(server, PORT)
    before = lab.client.opens()[0]
    said = lab.client.run([sys.executable, "-c", CLIENT, inner.dir, SERVER_IP, str(PORT)], finesse=True, timeout=BOUND).stdout
    server.wait(BOUND)
    lab.processes.remove(server)
    if said != b"True\n":
        raise LabError("the client was not answered")
    return lab.client.opens()[0] - before


def joined(lab, cgroup):
    inner = Cgroup(cgroup.dir, empty=True)
    try:
        if opens_of_client(lab, inner):
            return "the kernel carries a client in a cgroup without programs"
        inner.attach("egress: accept")
        if opens_of_client(lab, inner) != 1:
            return "the engine carries a client in a cgroup with a program"
    finally:
        inner.leave()
    return None


def main():
    failed = 0
    rows = [(who, lambda lab, cgroup, who=who: row(lab, cgroup, who)) for who in ("root", "dropped")] + [("joined", joined)]
    cgroup = Cgroup(sys.argv[1])
    try:
        for who, play in rows:
            try:
                with Lab() as lab:
                    said = play(lab, cgroup)
            except (LabError, OSError) as e:
                said = str(e)
            failed += said is not None
            print("FAILED: %s: %s" % (who, said) if said else "ok: " + who)
            cgroup.detach()
    finally:
        cgroup.leave()
    return tally(len(rows), failed)


if __name__ == "__main__":
    sys.exit(main())
