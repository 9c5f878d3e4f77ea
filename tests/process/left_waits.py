#!/usr/bin/python3
"""Waits for an epoll that are left without a return, natively and under finesse: tests/process/left_waits.c says what."""
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../net"))
from lab import SERVER_IP, TOP, Lab, LabError, compare_lines

PORT = 7431


def peer(listener):
    held = []
    while True:
        held.append(listener.accept()[0])


def seen(finesse):
    with Lab() as lab:
        listener = lab.server.socket()
        listener.bind((SERVER_IP, PORT))
        listener.listen(64)
        threading.Thread(target=peer, args=(listener,), daemon=True).start()
        p = lab.client.run([str(TOP / "tests/process/left_waits"), SERVER_IP, str(PORT)], finesse=finesse, timeout=300, check=False)
        if finesse and lab.client.opens()[0]:
            raise LabError("the kernel connected")
        return (p.stdout + p.stderr).decode().splitlines()


if __name__ == "__main__":
    sys.exit(compare_lines(seen))
