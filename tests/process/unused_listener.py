"""Two listeners of one port (SO_REUSEPORT) in one process that accepts from one of them alone, as each of nginx's workers has the sockets of the others.

Who came before the process first looked may stand in either's queue. The kernel's is another worker's to empty. The engine's is this process's alone: so there nobody is left.
"""
import socket
import subprocess
import sys

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
from lab import both_ways, finesse_command, Lab, SERVER_IP  # noqa: E402

PORT, CLIENTS, PATIENCE = 8000, 8, 20


def listener():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("", PORT))
    s.listen()
    return s


def serve(used, patience):
    listeners = [listener(), listener()]
    print("listens", flush=True)
    sys.stdin.readline()
    n = 0
    listeners[used].settimeout(patience)
    try:
        while n < CLIENTS:
            c, _ = listeners[used].accept()
            c.sendall(b"x")
            c.close()
            n += 1
    except (BlockingIOError, TimeoutError):
        pass
    print(n, flush=True)


def accepted(lab, finesse, used):
    p = lab.server.spawn([sys.executable, __file__, str(used), str(PATIENCE if finesse else 0)], finesse=finesse, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if p.stdout.readline() != b"listens\n":
        raise SystemExit("FAILED: the server does not listen")
    clients = [lab.client.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(CLIENTS)]
    for c in clients:
        c.settimeout(PATIENCE)
        c.connect((SERVER_IP, PORT))
    p.stdin.write(b"\n")
    p.stdin.close()
    n = int(p.stdout.readline())
    for c in clients:
        c.close()
    p.wait(PATIENCE)
    return n


def run(finesse):
    by_engine = finesse and bool(finesse_command())
    with Lab() as lab:
        n = [accepted(lab, by_engine, used) for used in (0, 1)]
        kernel = lab.server.opens()[1]
    ok = n == [CLIENTS, CLIENTS] and not kernel if by_engine else kernel == 2 * CLIENTS
    return ok, "of %d clients one listener of two has %s, and the kernel accepted %d" % (CLIENTS, " or ".join(map(str, n)), kernel)


if len(sys.argv) == 3:
    serve(int(sys.argv[1]), float(sys.argv[2]))
else:
    sys.exit(both_ways(run))
