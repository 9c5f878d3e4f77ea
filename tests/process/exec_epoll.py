"""A server whose children are executed with its listener, and that takes the listener out of its epoll set meanwhile: it hears of it no more, until it puts it in again.

Natively and under finesse. dovecot's master does so: when a client comes, it starts a process that accepts, and looks away. A child has its parent's epoll set until it is executed.
"""
import os
import select
import socket
import subprocess
import sys

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
from lab import both_ways, Lab, SERVER_IP  # noqa: E402

PORT, QUIET_S, PATIENCE = 8000, 1, 20


def serve():
    """Prints what it hears: before the listener is taken out, while it is out, and when it is in again."""
    listener, epoll = socket.socket(), select.epoll()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", PORT))
    listener.listen()
    listener.setblocking(False)
    epoll.register(listener, select.EPOLLIN)
    print("listens", flush=True)
    heard = [len(epoll.poll(PATIENCE))]
    listener.accept()[0].close()
    os.set_inheritable(listener.fileno(), True)
    end, child_end = os.pipe()
    os.set_inheritable(child_end, True)
    child = os.fork()
    if child == 0:
        os.execvp("sh", ["sh", "-c", "echo executed >&%d; exec sleep 1000" % child_end])
    os.read(end, 16)
    epoll.unregister(listener)
    print("looks away", flush=True)
    sys.stdin.readline()
    heard.append(len(epoll.poll(QUIET_S)))
    epoll.register(listener, select.EPOLLIN)
    heard.append(len(epoll.poll(PATIENCE)))
    listener.accept()[0].sendall(b"hello")
    os.kill(child, 9)
    os.waitpid(child, 0)
    print("heard", *heard, flush=True)


def connect(lab):
    s = lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.settimeout(PATIENCE)
    s.connect((SERVER_IP, PORT))
    return s


def run(finesse):
    with Lab() as lab:
        p = lab.server.spawn([sys.executable, __file__, "serve"], finesse=finesse, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        p.stdout.readline()
        opens = lab.server.opens()[1]
        connect(lab).close()
        p.stdout.readline()
        by_kernel = lab.server.opens()[1] - opens
        with connect(lab) as s:
            p.stdin.write(b"\n")
            p.stdin.flush()
            got = s.recv(16)
        heard = p.stdout.readline().split()
        ok = heard == [b"heard", b"1", b"0", b"1"] and got == b"hello" and by_kernel == (not finesse)
        return ok, "a listener is told of while it is in the set, and only then: %s, %s; before the exec the kernel's TCP accepted %d" % (heard, got, by_kernel)


if sys.argv[1:] == ["serve"]:
    serve()
else:
    sys.exit(both_ways(run))
