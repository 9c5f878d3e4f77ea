"""Clients that come by another way wait in the kernel's queue for accept. They are taken in their turn, also where the engine's queue always has somebody.

Natively and under finesse: clients by loopback connect first, many over the wire after them; then the server accepts all, and says when it had the last one of loopback.
"""
import socket
import subprocess
import sys

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
from lab import both_ways, Lab, SERVER_IP  # noqa: E402

PORT, PATIENCE, BY_LOOPBACK, BY_WIRE, ROUNDS = 8000, 20, 5, 60, 3


def serve():
    """A line is a round: accepts all, and prints how many it had before the last one of loopback."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", PORT))
    listener.listen(128)
    listener.settimeout(PATIENCE)
    print("listens", flush=True)
    for _ in sys.stdin:
        last = 0
        for n in range(BY_LOOPBACK + BY_WIRE):
            c, (peer, _) = listener.accept()
            c.close()
            if peer == "127.0.0.1":
                last = n
        print(last, flush=True)


def connect(host, address):
    s = host.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.settimeout(PATIENCE)
    s.connect((address, PORT))
    return s


def run(finesse):
    with Lab() as lab:
        p = lab.server.spawn([sys.executable, __file__, "serve"], finesse=finesse, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        p.stdout.readline()
        before, opens = [], lab.server.opens()[1]
        for _ in range(ROUNDS):
            clients = [connect(lab.server, "127.0.0.1") for _ in range(BY_LOOPBACK)] + [connect(lab.client, SERVER_IP) for _ in range(BY_WIRE)]
            p.stdin.write(b"\n")
            p.stdin.flush()
            before.append(int(p.stdout.readline()))
            for s in clients:
                s.close()
        by_kernel = lab.server.opens()[1] - opens
        # Two queues that take turns let one of the other by for each; and some, where the last look was just before.
        ok = max(before) <= 2 * BY_LOOPBACK + BY_WIRE // 2 and (not finesse or by_kernel == ROUNDS * BY_LOOPBACK)
        return ok, "before the last one of %d by loopback %s of %d by the wire are accepted, at most; %d by the kernel's TCP" % (BY_LOOPBACK, max(before) - BY_LOOPBACK + 1, BY_WIRE, by_kernel)


if sys.argv[1:] == ["serve"]:
    serve()
else:
    sys.exit(both_ways(run))
