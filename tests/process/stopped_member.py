#!/usr/bin/python3
"""The process that serves a port is stopped, and another one that has the listening socket wants to accept: it asks in vain. When the first one goes on it is asked again, and joined."""
import os
import signal
import socket
import subprocess
import sys
import time

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "net"))
from lab import finesse_command, Lab, SERVER_IP, LabError  # noqa: E402

PORT, PATIENCE = 8000, 120  # what hangs ends so; it decides nothing
SERVER = """
import os, socket, sys
s = socket.create_server(("", %d))
def serve(c):
    c.sendall(b"%%d" %% os.getpid())
    c.recv(1)
    c.close()
child = os.fork()
if not child:
    serve(s.accept()[0])  # the engine is up, and the port is its own
    print("serves", os.getpid(), flush=True)
    while True:
        serve(s.accept()[0])
sys.stdin.readline()
print("asks", os.getpid(), flush=True)
while True:
    serve(s.accept()[0])
""" % PORT


def ask(lab):
    """Which process answers."""
    with lab.client.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.settimeout(PATIENCE)
        s.connect((SERVER_IP, PORT))
        pid = int(s.recv(100))
        s.sendall(b"x")
        while s.recv(100):
            pass
        return pid


def engine_answers(lab, who, what):
    """Until then: whoever else there is answers, and the kernel may."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        before = lab.server.opens()[1]
        pid = ask(lab)
        if pid == who and lab.server.opens()[1] == before:
            print("ok: " + what)
            return
    raise LabError("never: " + what)


def asked_in_vain(lab, pid):
    """Who asked in vain says so."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if b"does not answer" in lab.server.run(finesse_command() + ["stat", "--json", str(pid)], check=False).stdout:
            return
        time.sleep(0.05)
    raise LabError("it did not ask, or was answered")


def main():
    with Lab() as lab:
        p = lab.server.spawn([sys.executable, "-c", SERVER], finesse=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        while not lab.server.text(["ss", "-Hltn", "sport = :%d" % PORT]).strip():
            time.sleep(0.02)
        child = ask(lab)
        assert p.stdout.readline() == b"serves %d\n" % child
        engine_answers(lab, child, "the first one serves")
        os.kill(child, signal.SIGSTOP)
        p.stdin.write(b"\n")
        p.stdin.flush()
        parent = int(p.stdout.readline().split()[1])
        asked_in_vain(lab, parent)
        os.kill(child, signal.SIGCONT)
        engine_answers(lab, parent, "the second one has joined")
        os.kill(child, signal.SIGKILL)
        engine_answers(lab, parent, "the second one serves alone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
