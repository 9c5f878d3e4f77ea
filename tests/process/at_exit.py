#!/usr/bin/python3
"""The last moments of a program, natively and under finesse: tests/process/at_exit.c says what."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../net"))
from lab import SERVER_IP, TOP, Lab, LabError, compare_lines

PORT = 7451
WAYS = ["thread", "full", "full@worker", "stream", "exit", "_exit", "quick", "exec", "shared", "_exit@handler", "exec@handler", "close@handler", "poll@handler"]


def all_of(conn):
    """What the peer reads, and how it ends."""
    conn.settimeout(20)
    text = b""
    try:
        while True:
            piece = conn.recv(100)
            if not piece:
                return text.decode() + ", end of file"
            text += piece
    except OSError as e:
        return "%s, %s" % (text.decode(), e)


def one(lab, listener, how, finesse):
    p = lab.client.spawn(["timeout", "-s", "KILL", "40", str(TOP / "tests/process/at_exit"), how, SERVER_IP, str(PORT)], finesse=finesse, stdout=-1, stderr=-1)
    conns = [listener.accept()[0] for _ in range(2)]
    out, err = p.communicate(timeout=60)
    return (out + err).decode().splitlines() + ["peer: " + all_of(c) for c in conns] + ["ended %d" % p.returncode]


def seen(finesse):
    with Lab() as lab:
        listener = lab.server.socket()
        listener.bind((SERVER_IP, PORT))
        listener.listen(64)
        listener.settimeout(30)
        lines = [how + ": " + line for how in WAYS for line in one(lab, listener, how, finesse)]
        if finesse and lab.client.opens()[0]:
            raise LabError("the kernel connected")
        return lines


if __name__ == "__main__":
    sys.exit(compare_lines(seen))
