#!/usr/bin/python3
"""unseen_end.py ADDRESS PORT MODE…: accepts a connection for each mode (two for `two`), reads all that comes in that mode's way, and says what it was.

unseen_end.py rest FD AT: reads the rest of a connection that it inherited.
"""
import os
import random
import select
import socket
import subprocess
import sys
import time

from unseen import BYTES, pattern

MOST = 1 << 18


class Reader:
    """Reads of one connection, each compared with what was sent."""

    def __init__(self, s):
        self.s, self.at, self.buffer = s, 0, bytearray(MOST)

    def saw(self, n, start=None, where=None):
        begin = self.at if start is None else start
        if memoryview(where or self.buffer)[:n] != pattern(begin, n):
            raise SystemExit("at %d: %d bytes are wrong" % (begin, n))

    def read(self, size, flags=0):
        n = self.s.recv_into(self.buffer, size, flags)
        if not flags & socket.MSG_TRUNC:
            self.saw(n)
        if not flags & socket.MSG_PEEK:
            self.at += n
        return n

    def readv(self, sizes):
        pieces = [bytearray(size) for size in sizes]
        total = left = self.s.recvmsg_into(pieces)[0]
        for piece in pieces:
            n = min(left, len(piece))
            self.saw(n, where=piece)
            self.at += n
            left -= n
        return total


def chosen(r, s):
    r.s.setblocking(False)
    while True:
        select.select([s], [], [])
        if not r.read(1 << 17):
            return


def sizes(*choice):
    def read(r, _):
        rng = random.Random(1)
        while r.read(rng.choice(choice)):
            pass
    return read


def pieces(r, _):
    rng = random.Random(2)
    while r.readv([rng.choice((1, 700, 20000, 65160, 70000)) for _ in range(5)]):
        pass


def peek(r, _):
    rng = random.Random(3)
    while r.read(rng.choice((10, 9000, 131072)), socket.MSG_PEEK):
        r.read(rng.choice((1, 5000, 131072)))


def cut(r, _):
    rng = random.Random(4)
    while r.read(rng.choice((1, 5000, 131072)), rng.choice((0, socket.MSG_TRUNC))):
        pass


def whole(r, _):
    while r.read(200000, socket.MSG_WAITALL):
        pass


def slow(r, _):
    while r.read(MOST):
        time.sleep(0.003)


def forked(r, _):
    while r.at < BYTES // 2:
        r.read(50000)
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        while r.read(50000):
            pass
        os._exit(0 if r.at == BYTES else 1)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("the child did not get the rest")
    r.at = BYTES


def ended(r, s):
    poll = select.poll()
    poll.register(s, select.POLLRDHUP)
    poll.poll()
    while r.read(20000):
        pass


def rest(fd, at):
    r = Reader(socket.socket(fileno=fd))
    r.at = at
    while r.read(50000):
        pass
    return r.at == BYTES


def spawned(r, s):
    while r.at < BYTES // 2:
        r.read(50000)
    child = [sys.executable, __file__, "rest", str(s.fileno()), str(r.at)]
    if subprocess.run(child, pass_fds=[s.fileno()]).returncode:
        raise SystemExit("the program did not get the rest")
    r.at = BYTES


def two(r, s):
    other = Reader(accept())
    while other.read(1 << 16) | r.read(1 << 17):
        pass
    if other.at != BYTES:
        raise SystemExit("the other ended at %d" % other.at)


MODES = {"chosen": chosen, "small": sizes(1000, 3000, 8192), "mixed": sizes(1, 8191, 65160, 70000, 131072, MOST), "large": sizes(131072), "pieces": pieces, "peek": peek, "cut": cut,
         "whole": whole, "slow": slow, "two": two, "forked": forked, "ended": ended, "spawned": spawned}


def accept():
    s = listener.accept()[0]
    s.send(b"a")
    return s


if __name__ == "__main__":
    if sys.argv[1] == "rest":
        sys.exit(not rest(int(sys.argv[2]), int(sys.argv[3])))
    listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
    for mode in sys.argv[3:]:
        s = accept()
        r = Reader(s)
        MODES[mode](r, s)
        s.close()
        print("%s %d" % (mode, r.at), flush=True)
    sys.stdin.readline()
