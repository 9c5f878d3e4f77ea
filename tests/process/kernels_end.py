#!/usr/bin/python3
"""Connections that the kernel had when a process took their port are in TIME-WAIT there, or live, when a second process serves the port, too. Their clients come again: each is answered, whichever process its
SYN goes to. Of those that live the clients have lost their ends: the kernel asks them (RFC 5961), they reset, and repeat their SYN."""
import socket
import subprocess
import sys
import time

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "net"))
from lab import Lab, SERVER_IP, LabError, read_all  # noqa: E402

PORT, CLIENT_PORT, CLIENTS = 8000, 40000, 16  # the chance that all go to the second process is 1 in 65,536
TCP_REPAIR = 19
PATIENCE = 30  # ends what hangs; shorter than TIME-WAIT, after which a lost client would be found
BEFORE = """
import socket, sys
s = socket.create_server(("", %d))
kept = [s.accept()[0] for i in range(%d)]
s.close()
print("closed", flush=True)
sys.stdin.readline()
for c in kept:
    c.close()
sys.stdin.readline()
""" % (PORT, CLIENTS)
SERVER = """
import ctypes, os, socket, sys
s = socket.create_server(("", %d))
def serve(c):
    c.sendall(b"%%d" %% os.getpid())
    c.close()
if not os.fork():
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL: it is not left behind
    serve(s.accept()[0])
    while True:
        serve(s.accept()[0])
sys.stdin.readline()
while True:
    serve(s.accept()[0])
""" % PORT


def connect(lab, port):
    return lab.client.connect(SERVER_IP, PORT, PATIENCE, port)


def text(lab, port):
    return read_all(connect(lab, port)).decode()


def listens(lab):
    while not lab.server.text(["ss", "-Hltn", "sport = :%d" % PORT]).strip():
        time.sleep(0.02)


def joined(lab, first):
    """Until the second process has answered."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if text(lab, 0) != first:
            return
    raise LabError("the second process never answers")


def forget(s):
    """The client's host has the connection no more, and nobody is told."""
    s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    s.close()


def come_again(lab):
    """All at once: some wait for their SYNs' repetitions."""
    sockets = []
    for i in range(CLIENTS):
        s = lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("", CLIENT_PORT + i))
        s.setblocking(False)
        s.connect_ex((SERVER_IP, PORT))
        sockets.append(s)
    for s in sockets:
        s.settimeout(PATIENCE)
    return [read_all(s).decode() for s in sockets]


def scenario(living):
    with Lab() as lab:
        before = lab.server.spawn([sys.executable, "-c", BEFORE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        listens(lab)
        kept = [connect(lab, CLIENT_PORT + i) for i in range(CLIENTS)]
        assert before.stdout.readline() == b"closed\n"
        p = lab.server.spawn([sys.executable, "-c", SERVER], finesse=True, stdin=subprocess.PIPE)
        listens(lab)
        first = text(lab, 0)
        p.stdin.write(b"\n")
        p.stdin.flush()
        joined(lab, first)
        if living:
            for s in kept:
                forget(s)
        else:
            before.stdin.write(b"\n")
            before.stdin.flush()
            for s in kept:
                if read_all(s):
                    raise LabError("a kept connection was not the kernel's")
        answers = come_again(lab) if living else [text(lab, CLIENT_PORT + i) for i in range(CLIENTS)]
        print("ok: %d clients came again, of connections %s, %d of them to the first process" %
              (CLIENTS, "that live" if living else "in TIME-WAIT", answers.count(first)))


def main():
    scenario(False)
    scenario(True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
