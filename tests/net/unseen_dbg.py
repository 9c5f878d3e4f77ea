#!/usr/bin/python3
"""Text that stays in the kernel until it is read (socket/unseen.c): every byte of a kernel client's super-segments reaches the program, in whatever way it reads."""
import socket
import subprocess
import sys
import threading

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from lab import Lab, LabError, SERVER_IP  # noqa: E402

END = [sys.executable, str(Path(__file__).resolve().parent / "unseen_end.py")]
PORT = 7304
BYTES = 6000000
CYCLE = b"".join(((i * 2654435761) & 0xffffffff).to_bytes(4, "big") for i in range(65537))  # its length divides no segment's
TWICE = CYCLE * 3


def pattern(at, n):
    begin = at % len(CYCLE)
    return TWICE[begin:begin + n]


def send(s):
    at = 0
    while at < BYTES:
        at += s.send(pattern(at, min(BYTES - at, 1 << 17)))
    s.shutdown(socket.SHUT_WR)


def connect(lab):
    c = lab.client.socket(socket.AF_INET)
    c.settimeout(60)
    c.connect((SERVER_IP, PORT))
    return c


def left_in_kernel(stat):
    return stat["counters"]["link"].get("RxLeft", 0)


def main():
    modes = "chosen small mixed large pieces peek cut whole slow two forked".split()
    with Lab() as lab:
        p = lab.server.spawn(END + [SERVER_IP, str(PORT)] + modes, finesse=True, settings=["--strict"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        lab.server.wait_listening(p, PORT, True)
        for mode in modes:
            clients = [connect(lab) for _ in range(2 if mode == "two" else 1)]
            threads = [threading.Thread(target=send, args=(c,)) for c in clients]
            for t in threads:
                t.start()
            line = p.stdout.readline().decode().strip()
            if line != "%s %d" % (mode, BYTES):
                raise LabError("%s: the server says %r" % (mode, line))
            for t in threads:
                t.join()
            print(mode, left_in_kernel(lab.server.stat(p.pid)), file=sys.stderr)
        if not left_in_kernel(lab.server.stat(p.pid)):
            raise LabError("no frame was left in the kernel: nothing was tested")
        p.stdin.write(b"\n")
        p.stdin.flush()
        if p.wait(timeout=20):
            raise LabError("the server ended with status %d" % p.returncode)
    return 0


if __name__ == "__main__":
    sys.exit(main())
