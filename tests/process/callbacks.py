#!/usr/bin/python3
"""Handlers that libc was told of before the first TCP socket, and numbers of calls that wait, natively and under finesse: tests/process/callbacks.c says what."""
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../net"))
from lab import CLIENT_IP, SERVER_IP, TOP, Lab, LabError, compare_lines

PORT = 7441


def serve(lab, conn, held):
    with conn.makefile("r") as lines:
        for line in lines:
            if int(line):
                held.append(lab.server.socket())
                held[-1].connect((CLIENT_IP, int(line)))


def peer(lab, listener):
    held = []
    while True:
        held.append(listener.accept()[0])
        threading.Thread(target=serve, args=(lab, held[-1], held), daemon=True).start()


def seen(finesse):
    with Lab() as lab:
        listener = lab.server.socket()
        listener.bind((SERVER_IP, PORT))
        listener.listen(64)
        threading.Thread(target=peer, args=(lab, listener), daemon=True).start()
        argv = ["timeout", "-s", "KILL", "40", str(TOP / "tests/process/callbacks"), CLIENT_IP, SERVER_IP, str(PORT)]
        p = lab.client.run(argv, finesse=finesse, timeout=60, check=False)
        if finesse and lab.client.opens()[0]:
            raise LabError("the kernel connected")
        return (p.stdout + p.stderr).decode().splitlines() + ["ended %d" % p.returncode]


if __name__ == "__main__":
    sys.exit(compare_lines(seen))
