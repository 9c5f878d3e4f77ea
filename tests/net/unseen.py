#!/usr/bin/python3
"""Text that stays in the kernel until it is read (socket/unseen.c): every byte of a kernel client's super-segments reaches the program, in whatever way it reads."""
import socket
import subprocess
import sys
import threading
import time

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from lab import Lab, LabError, SERVER_IP  # noqa: E402

END = [sys.executable, str(Path(__file__).resolve().parent / "unseen_end.py")]
PORT = 7304
ASKED_S = 60  # until the engine has answered how many frames were left
BYTES = 6000000
CYCLE = b"".join(((i * 2654435761) & 0xffffffff).to_bytes(4, "big") for i in range(65537))  # its length divides no segment's
TWICE = CYCLE * 3


def pattern(at, n):
    begin = at % len(CYCLE)
    return TWICE[begin:begin + n]


def length(mode):
    """`ended`: what a receive buffer takes, since nothing is read before the end."""
    return 50000 if mode == "ended" else BYTES


def send(s, n):
    s.recv(1)  # it is accepted: before that nothing is left in the kernel
    at = 0
    while at < n:
        at += s.send(pattern(at, min(n - at, 1 << 17)))
    s.shutdown(socket.SHUT_WR)


def connect(lab):
    c = lab.client.socket(socket.AF_INET)
    c.settimeout(60)
    c.connect((SERVER_IP, PORT))
    return c


def left_in_kernel(host, p):
    """So many frames since the engine came up."""
    end = time.monotonic() + ASKED_S
    while time.monotonic() < end:
        stat = host.stat(p.pid)
        if stat:
            return stat["counters"]["link"].get("RxLeft", 0)
        if p.poll() is not None:
            raise LabError("the server ended with status %d" % p.returncode)
        time.sleep(0.1)
    raise LabError("`finesse stat` had no answer in %d s" % ASKED_S)


def must_leave(mode, mtu):
    """Frames are left from 8192 bytes on. The few of `ended` may be smaller on a busy machine, unless each segment is as large."""
    return mode != "ended" or mtu == 9000


MODES = "chosen small mixed large pieces peek cut whole slow two forked ended spawned".split()


def every_way(mtu):
    with Lab() as lab:
        for host in (lab.server, lab.client):
            host.run(["ip", "link", "set", host.interface, "mtu", str(mtu)])
        p = lab.server.spawn(END + [SERVER_IP, str(PORT)] + MODES, finesse=True, settings=["--strict"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        lab.server.wait_listening(p, PORT, True)
        left = 0
        for mode in MODES:
            clients = [connect(lab) for _ in range(2 if mode == "two" else 1)]
            threads = [threading.Thread(target=send, args=(c, length(mode))) for c in clients]
            for t in threads:
                t.start()
            line = p.stdout.readline().decode().strip()
            if line != "%s %d" % (mode, length(mode)):
                raise LabError("%s: the server says %r" % (mode, line))
            for t in threads:
                t.join()
            before, left = left, left_in_kernel(lab.server, p)
            if left == before and must_leave(mode, mtu):
                raise LabError("%s: no frame was left in the kernel: nothing was tested" % mode)
        p.stdin.write(b"\n")
        p.stdin.flush()
        if p.wait(timeout=20):
            raise LabError("the server ended with status %d" % p.returncode)


def main():
    for mtu in (1500, 9000):
        every_way(mtu)
    return 0


if __name__ == "__main__":
    sys.exit(main())
