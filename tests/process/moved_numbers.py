#!/usr/bin/python3
"""Numbers of a connection that goes to the kernel, natively and under finesse: tests/process/moved_numbers.c says what."""
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../net"))
from lab import SERVER_IP, TOP, Lab, LabError, compare_lines

PORT = 7461


def peer(listener, first):
    conn = listener.accept()[0]
    with conn.makefile("rb") as f:
        first.append("peer: %r" % f.read())
    while True:
        conn = listener.accept()[0]
        while conn.recv(4096):
            pass


def seen(finesse):
    with Lab() as lab:
        listener = lab.server.socket()
        listener.bind((SERVER_IP, PORT))
        listener.listen(64)
        first = []
        threading.Thread(target=peer, args=(listener, first), daemon=True).start()
        argv = ["timeout", "-s", "KILL", "100", str(TOP / "tests/process/moved_numbers"), SERVER_IP, str(PORT)]
        p = lab.client.run(argv, finesse=finesse, timeout=120, check=False)
        if finesse and lab.client.opens()[0]:
            raise LabError("the kernel connected")
        return (p.stdout + p.stderr).decode().splitlines() + first + ["ended %d" % p.returncode]


if __name__ == "__main__":
    sys.exit(compare_lines(seen))
