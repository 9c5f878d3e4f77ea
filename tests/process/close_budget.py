#!/usr/bin/python3
"""close-client-budget is one for all processes that a server forked: each client-first close costs the client a port, whichever of them it was left by."""
import select
import subprocess
import sys
import time

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "net"))
from lab import Lab, SERVER_IP, LabError  # noqa: E402

PORT, WORKERS, BUDGET, SERVED = 8000, 4, 20, 25  # … by each process
HOLD_MS = 50000  # nobody is let go before all are counted
PATIENCE = 20  # ends what hangs
MORE = 0.5  # seconds in which one more may be closed first; nobody fails by it
SERVER = """
import ctypes, os, signal, socket, sys
early = sys.argv[1] == "early"
s = socket.create_server(("", %d), backlog=64) if early else None
for i in range(%d):
    if not os.fork():
        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL: it is not left behind
        s = s or socket.create_server(("", %d), backlog=64, reuse_port=True)
        os.write(1, b"ready\\n")
        left = %d if early else -1
        while left:
            c = s.accept()[0]
            c.recv(1)
            c.sendall(b"%%d\\n" %% i)
            c.close()
            left -= 1
        signal.pause()
sys.stdin.readline()
""" % (PORT, WORKERS, PORT, SERVED)
WAYS = {"early": "the socket was there before the fork", "late": "each made its own after the fork"}


def answered(lab):
    """A connection that has its answer, and by whom."""
    s = lab.client.connect(SERVER_IP, PORT, PATIENCE)
    s.sendall(b"?")
    got = b""
    while not got.endswith(b"\n"):
        more = s.recv(16)
        if not more:
            raise LabError("end of file before the answer")
        got += more
    return s, got


def ended(sockets, expected):
    """Those of which the server has closed first: so many, and those that come soon after."""
    over, end = set(), time.monotonic() + PATIENCE
    while len(over) < len(sockets):
        left = end - time.monotonic() if len(over) < expected else MORE
        ready = select.select([s for s in sockets if s not in over], [], [], max(left, 0))[0]
        if not ready:
            break
        for s in ready:
            if s.recv(1):
                raise LabError("more than the answer")
            over.add(s)
    return over


def scenario(way):
    """How many were left to close first is right."""
    settings = ("--close-policy", "hold:%d" % HOLD_MS, "--close-hold-max", "60s", "--close-client-budget", str(BUDGET))
    most = BUDGET + WORKERS - 1  # processes that close at the same moment may each take the last one
    with Lab() as lab:
        server = lab.server.spawn([sys.executable, "-c", SERVER, way], True, settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(WORKERS):
            if server.stdout.readline() != b"ready\n":
                raise LabError("the server does not listen")
        pairs = [answered(lab) for _ in range(WORKERS * SERVED)]
        sockets, by = [s for s, _ in pairs], {who for _, who in pairs}
        over = ended(sockets, len(sockets) - most)
        for s in sockets:
            s.close()
        lab.stop(server)
    left = len(sockets) - len(over)
    print("%s: %d clients of %d processes: %d were left to close first, of a budget of %d" %
          (WAYS[way], len(sockets), len(by), left, BUDGET), flush=True)
    return BUDGET <= left <= most


def main():
    failed = [way for way in WAYS if not scenario(way)]
    if failed:
        print("FAIL: the budget is another")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
