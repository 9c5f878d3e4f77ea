"""A server forks for each connection, as inetd does, and the child makes it a non-blocking one. The mode is of both processes: it stays what the last of them made it,
also when the connection has meanwhile become the kernel's, of which the parent's engine tells its program later than the child.
"""
import fcntl
import os
import socket
import subprocess
import sys

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
from lab import both_ways, finesse_command, Lab, SERVER_IP  # noqa: E402

PORT, CLIENTS, PATIENCE = 8000, 100, 20  # which of the processes is first is chance: each has its turns


def is_nonblock(fd):
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)


def set_nonblock(fd):
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_RDWR | os.O_NONBLOCK)


def in_child(fd, by_child, told, tells):
    if by_child:
        set_nonblock(fd)
        os.write(tells, b"x")
    os.read(told, 1)
    os._exit(not is_nonblock(fd))


def serve_one(c, by_child):
    """The parent, or the child, makes it non-blocking after the fork. Both find it so."""
    told, tells_child = os.pipe()
    told_by_child, tells = os.pipe()
    pid = os.fork()
    if pid == 0:
        in_child(c.fileno(), by_child, told, tells)
    if by_child:
        os.read(told_by_child, 1)
        c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # whatever happened to it, this process knows of it now
    else:
        set_nonblock(c.fileno())
    os.write(tells_child, b"x")
    right = os.waitpid(pid, 0)[1] == 0 and is_nonblock(c.fileno())
    for fd in told, tells_child, told_by_child, tells:
        os.close(fd)
    return right


def serve():
    s = socket.create_server(("", PORT))
    print("listens", flush=True)
    for n in range(CLIENTS):
        c, _ = s.accept()
        c.sendall(b"x" if serve_one(c, n % 2) else b"-")
        c.close()


def run(finesse):
    finesse = finesse and bool(finesse_command())
    with Lab() as lab:
        p = lab.server.spawn([sys.executable, __file__, "serve"], finesse=finesse, stdout=subprocess.PIPE)
        p.stdout.readline()
        answers = [answer(lab) for n in range(CLIENTS)]
        wrong = [n for n, got in enumerate(answers) if got != b"x"]
        if wrong:
            return False, "the mode is another one in %d connections of %d, the first is %d (%r)" % (len(wrong), CLIENTS, wrong[0], answers[wrong[0]])
        return p.wait(PATIENCE) == 0, "%d connections are non-blocking in both processes" % CLIENTS


def answer(lab):
    with lab.client.connect(SERVER_IP, PORT, PATIENCE) as c:
        return c.recv(1)


if len(sys.argv) == 2:
    serve()
else:
    sys.exit(both_ways(run))
