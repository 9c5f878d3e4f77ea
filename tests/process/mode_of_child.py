"""A server with a blocking listener executes a program, which inherits the listener, and then goes on to accept: each client is served, whether accept or select waits for
him.

The program must find the listener as the server made it, a blocking one. The mode is of both processes.
"""
import os
import select
import socket
import subprocess
import sys

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
from lab import both_ways, finesse_command, Lab, SERVER_IP  # noqa: E402

PORT, CLIENTS, PATIENCE = 8000, 8, 20
MODE = "import os, sys; sys.exit(not os.get_blocking(int(sys.argv[1])))"
SET_MODE = "import os, sys; sys.stdin.read(1); os.set_blocking(int(sys.argv[1]), True)"


def execute(fd, spawned):
    argv = [sys.executable, "-c", MODE, str(fd)]
    pid = os.posix_spawn(sys.executable, argv, os.environ) if spawned else os.fork()
    if pid == 0:
        os.execv(sys.executable, argv)
    return os.waitpid(pid, 0)[1]


def listen_behind_fork(s):
    """The program has the socket before it listens, and makes it a blocking one afterwards."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(r, 0)
        os.execv(sys.executable, [sys.executable, "-c", SET_MODE, str(s.fileno())])
    s.listen()
    os.write(w, b"x")
    os.waitpid(pid, 0)


def serve(behind_fork):
    s = socket.socket()
    s.set_inheritable(True)
    s.bind(("", PORT))
    if behind_fork:
        listen_behind_fork(s)
    else:
        s.listen()
    for n in range(CLIENTS):
        print("accepts", flush=True)
        if n % 2:
            select.select([s], [], [])
        c, _ = s.accept()
        c.sendall(b"x" if behind_fork or execute(s.fileno(), n >= CLIENTS / 2) == 0 else b"not a blocking one")
        c.close()


def is_asleep(pid):
    return Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[0] == "S"


def server_pid(p):
    """Of what the namespaces' command became or began."""
    pid = p.pid
    while True:
        children = Path("/proc/%d/task/%d/children" % (pid, pid)).read_text().split()
        if not children:
            return pid
        pid = int(children[0])


def served(lab, finesse, how):
    p = lab.server.spawn([sys.executable, __file__, how], finesse=finesse, stdout=subprocess.PIPE)
    for n in range(CLIENTS):
        if p.stdout.readline() != b"accepts\n":
            return "the server ended before client %d" % n
        while not is_asleep(server_pid(p)):
            pass
        with lab.client.socket(socket.AF_INET, socket.SOCK_STREAM) as c:
            c.settimeout(PATIENCE)
            c.connect((SERVER_IP, PORT))
            try:
                got = c.recv(100)
            except TimeoutError:
                return "client %d is not served" % n
        if got != b"x":
            return "the program found the listener: %r" % got
    return None if p.wait(PATIENCE) == 0 else "the server's status is %d" % p.returncode


def run(finesse):
    by_engine = finesse and bool(finesse_command())
    wrong = None
    for how in "listens", "listens behind fork":
        with Lab() as lab:
            wrong = wrong or served(lab, by_engine, how)
    return not wrong, wrong or "a listener that an executed program inherited: %d clients are served, twice" % CLIENTS


if len(sys.argv) == 2:
    serve(sys.argv[1] == "listens behind fork")
else:
    sys.exit(both_ways(run))
