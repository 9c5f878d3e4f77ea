"""A port that two processes serve by two pairs of listeners, one for all addresses and one for a single one: what a connection left goes from the group in which it began.

Natively and under finesse. A connection of all addresses leaves its TIME-WAIT at the first process. That process then closes the listener, while it has the other one. So the next connection of the
same ends is the second process's, from its first SYN on.
"""
import os
import socket
import subprocess
import sys
import time

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
from lab import both_ways, CLIENT_IP, finesse_command, Lab, SERVER_IP  # noqa: E402

PORT, PATIENCE, FIRST_PORT, TRIES = 8000, 20, 20000, 64


def serve():
    """A command a line: `listen ADDRESS`, `close ADDRESS`, `serve`: one connection of all addresses, which this end closes first."""
    listeners = {}
    for words in map(str.split, sys.stdin):
        if words[0] == "listen":
            s = listeners[words[1]] = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            s.bind((words[1], PORT))
            s.listen()
        elif words[0] == "close":
            listeners.pop(words[1]).close()
        elif words[0] == "serve":
            print("waits", flush=True)
            listeners["0.0.0.0"].settimeout(1 if len(words) > 1 else PATIENCE)
            try:
                c, _ = listeners["0.0.0.0"].accept()
                c.sendall(b"%d" % os.getpid())
                c.close()
            except TimeoutError:
                pass
        elif words[0] == "drain":
            listeners["0.0.0.0"].settimeout(0)
            try:
                while True:
                    listeners["0.0.0.0"].accept()[0].close()
            except BlockingIOError:
                pass
        print("done", flush=True)


class Server:
    def __init__(self, lab, finesse):
        self.p = lab.server.spawn([sys.executable, __file__, "serve"], finesse=finesse, settings=["--close-policy", "off"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def say(self, command):
        self.p.stdin.write(command.encode() + b"\n")
        self.p.stdin.flush()

    def hear(self, word):
        got = self.p.stdout.readline().strip()
        if got != word:
            raise SystemExit("FAILED: the server says %s, not %s" % (got, word))

    def do(self, command):
        self.say(command)
        self.hear(b"done")


def ask(lab, port):
    """Who answers, until the end of file."""
    s = lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
    with s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.settimeout(20)
        s.bind((CLIENT_IP, port))
        s.connect((SERVER_IP, PORT))
        got = b""
        while more := s.recv(64):
            got += more
        return got.decode()


def first_connection(lab, a, finesse):
    """A port whose connection the first process got, by its engine. The kernel chooses by a hash; and it has who comes before the process waits."""
    for port in range(FIRST_PORT, FIRST_PORT + TRIES):
        a.say("serve briefly")
        a.hear(b"waits")
        time.sleep(0.01)
        by_kernel = lab.server.opens()[1]
        s = lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
        with s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.settimeout(20)
            s.bind((CLIENT_IP, port))
            s.connect((SERVER_IP, PORT))
            a.hear(b"done")
            s.settimeout(0)
            try:
                if not s.recv(64):
                    continue
            except BlockingIOError:
                continue
            s.settimeout(20)
            while s.recv(64):
                pass
        if not finesse or lab.server.opens()[1] == by_kernel:
            return port
    raise SystemExit("FAILED: no connection reaches the first process")


def received(lab, server, finesse):
    """How many frames the process's engine got."""
    return lab.server.stat(server.p.pid)["counters"]["link"]["RxFrames"] if finesse and finesse_command() else 0


def run(finesse):
    with Lab() as lab:
        a, b = Server(lab, finesse), Server(lab, finesse)
        for server in a, b:
            server.do("listen 0.0.0.0")
        port = first_connection(lab, a, finesse and finesse_command())
        b.do("drain")
        for server in a, b:
            server.do("listen " + SERVER_IP)
        a.do("close 0.0.0.0")
        for server in a, b:
            server.do("close " + SERVER_IP)
        b.say("serve")
        b.hear(b"waits")
        frames = received(lab, a, finesse)
        try:
            who = ask(lab, port)
        except OSError as e:
            who = type(e).__name__
        frames = received(lab, a, finesse) - frames
        ok = who == str(b.p.pid) and frames == 0
        return ok, "the next connection of the same ends is the second process's (%s); the first one gets %d of its frames" % (who, frames)


if sys.argv[1:] == ["serve"]:
    serve()
else:
    sys.exit(both_ways(run))
