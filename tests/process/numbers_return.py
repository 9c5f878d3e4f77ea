"""A program that is short of numbers when its engine would come up, and has them again later: what it connects and what it listens on works then, whoever serves it.

For each count of numbers that are left. What the broker passes comes as a whole, or not at all: of a part of it an engine came up that heard nothing.
"""
import os
import resource
import socket
import sys

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
from lab import CLIENT_IP, Lab, tally  # noqa: E402

PORT, PEER_PORT, MOST = 8000, 8001, 40
# Only a fault waits for so long. On a busy machine (load 47) a program has taken 5 s from its start to the answer.
WAIT_S = 60


def subject(left):
    """Prints what the peer said to it."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(n) for n in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + left, limit[1]))
    try:
        s = socket.socket()
        s.bind(("0.0.0.0", PORT))
        s.listen()
        s.close()
    except OSError:
        pass
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    s = socket.create_connection((CLIENT_IP, PEER_PORT), WAIT_S)
    print(s.recv(5).decode(), flush=True)


def main():
    wrong, opened = [], 0
    with Lab() as lab:
        peer = lab.client.socket()
        peer.bind((CLIENT_IP, PEER_PORT))
        peer.listen(64)
        for left in range(1, MOST):
            opened = lab.server.opens()[0]  # with the most numbers, the last time, it must be the engine
            p = lab.server.spawn([sys.executable, os.path.abspath(__file__), "subject", str(left)], True, stdout=-1)
            peer.settimeout(WAIT_S)
            try:
                s, _ = peer.accept()
                s.sendall(b"hello")
            except OSError as e:
                wrong.append("%d: %s" % (left, e))
            out = p.communicate()[0].decode().strip()
            lab.processes.remove(p)
            if out != "hello":
                wrong.append("%d: it read %r" % (left, out))
        if lab.server.opens()[0] != opened:
            wrong.append("%d: the kernel connected" % left)
    for line in wrong:
        print("FAILED: with " + line)
    if not wrong:
        print("ok: with 1 to %d numbers left" % (MOST - 1))
    return tally(1, len(wrong) > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["subject"]:
        subject(int(sys.argv[2]))
    else:
        sys.exit(main())
