"""bindresvport, by which clients of RPC take a port below 1024: the connection from there is the engine's, the peer sees that port, and a second bind is refused."""
import ctypes
import os
import socket
import subprocess
import sys

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from lab import both_ways, finesse_command, Lab, SERVER_IP  # noqa: E402

PORT, PATIENCE = 8000, 20
WANTED = "below 1024 the peer's; again: Invalid argument; bound before: Invalid argument"


def bindresvport(s):
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.bindresvport(s.fileno(), None) and os.strerror(ctypes.get_errno())


def connect():
    s, t = socket.socket(), socket.socket()
    if bindresvport(s):
        raise SystemExit("no port")
    port = s.getsockname()[1]
    again = bindresvport(s)
    t.bind(("", 0))
    before = bindresvport(t)
    s.connect((SERVER_IP, PORT))
    same = s.recv(10) == b"%d" % port == b"%d" % s.getsockname()[1]
    print("%s 1024 %s peer's; again: %s; bound before: %s" % ("below" if port < 1024 else "above", "the" if same else "not the", again, before), flush=True)


def run(finesse):
    by_engine = finesse and bool(finesse_command())
    with Lab() as lab, lab.server.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((SERVER_IP, PORT))
        listener.listen()
        listener.settimeout(PATIENCE)
        p = lab.client.spawn([sys.executable, __file__, "connect"], finesse=by_engine, stdout=subprocess.PIPE)
        try:
            s, peer = listener.accept()
            s.sendall(b"%d" % peer[1])
        except TimeoutError:
            pass
        said = p.stdout.readline().decode().strip()
        p.wait(PATIENCE)
        kernel = lab.client.opens()[0]
    return said == WANTED and kernel == (0 if by_engine else 1), "%s; the kernel opened %d" % (said, kernel)


if len(sys.argv) == 2:
    connect()
else:
    sys.exit(both_ways(run))
