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
SERVER = """
import ctypes, os, signal, socket, sys
s = socket.create_server(("", %d), backlog=64)
for i in range(%d):
    if not os.fork():
        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL: it is not left behind
        for n in range(%d):
            c = s.accept()[0]
            c.recv(1)
            c.sendall(b"%%d\\n" %% i)
            c.close()
        signal.pause()
sys.stdin.readline()
""" % (PORT, WORKERS, SERVED)


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


def ended(sockets, seconds):
    """Those of which the server has closed first, when there are none for so long."""
    over = set()
    while len(over) < len(sockets):
        ready = select.select([s for s in sockets if s not in over], [], [], seconds)[0]
        if not ready:
            break
        for s in ready:
            if s.recv(1):
                raise LabError("more than the answer")
            over.add(s)
    return over


def main():
    settings = ("--close-policy", "hold:%d" % HOLD_MS, "--close-hold-max", "60s", "--close-client-budget", str(BUDGET))
    with Lab() as lab:
        server = lab.server.spawn([sys.executable, "-c", SERVER], True, settings, stdin=subprocess.PIPE)
        end = time.monotonic() + PATIENCE
        while not lab.server.text(["ss", "-Hltn", "sport = :%d" % PORT]).strip():
            if time.monotonic() > end:
                raise LabError("the server does not listen")
            time.sleep(0.02)
        pairs = [answered(lab) for _ in range(WORKERS * SERVED)]
        sockets, by = [s for s, _ in pairs], {who for _, who in pairs}
        over = ended(sockets, 2)
        for s in sockets:
            s.close()
        lab.stop(server)
    left = len(sockets) - len(over)
    print("%d clients of %d processes: %d were left to close first, of a budget of %d" % (len(sockets), len(by), left, BUDGET))
    # Processes that close at the same moment may each take the last one.
    if not BUDGET <= left < BUDGET + WORKERS:
        print("FAIL: the budget is another")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
