#!/usr/bin/python3
"""
Clients of a server all of whose processes are stopped: as the kernel's, they are connected while it is, up to the backlog, and are served when it goes on. So is who was connected before.

The clients have the kernel's TCP. No clock decides: how often they repeated a SYN says whether they had to wait.
"""
import os
import select
import signal
import socket
import sys
import time

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "net"))
from lab import finesse_command, Lab, SERVER_IP, LabError  # noqa: E402

PORT, PATIENCE = 8000, 120  # what hangs ends so; it decides nothing
FIRST, LATER = 6, 12
SERVER = """
import os, socket, sys
s = socket.create_server(("", %d), backlog=64)
workers = int(sys.argv[1])
for i in range(workers):
    if not os.fork():
        break
else:
    if workers:
        os.wait()
import selectors
q = selectors.DefaultSelector()
q.register(s, selectors.EVENT_READ)
s.setblocking(False)
while True:
    for key, _ in q.select():
        if key.fileobj is not s:
            data = key.fileobj.recv(100)
            if data:
                key.fileobj.sendall(data)
            else:
                q.unregister(key.fileobj)
                key.fileobj.close()
            continue
        try:
            q.register(s.accept()[0], selectors.EVENT_READ)
        except BlockingIOError:
            pass
""" % PORT


def until(what, is_so):
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            raise LabError("never: " + what)
        time.sleep(0.01)


def children(pid):
    return [int(c) for t in os.listdir("/proc/%d/task" % pid) for c in Path("/proc/%d/task/%s/children" % (pid, t)).read_text().split()]


def is_stopped(pid):
    return all(Path("/proc/%d/task/%s/stat" % (pid, t)).read_text().rsplit(")", 1)[1].split()[0] == "T" for t in os.listdir("/proc/%d/task" % pid))


def send_signal(pids, sig):
    for pid in pids:
        os.kill(pid, sig)
    if sig == signal.SIGSTOP:
        until("all are stopped", lambda: all(is_stopped(p) for p in pids))


def begin(lab):
    s = lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.setblocking(False)
    s.connect_ex((SERVER_IP, PORT))
    return s


def wait_connected(what, clients):
    def are():
        writable = select.select([], clients, [], 0)[1]
        for s in writable:
            err = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if err:
                raise LabError("%s: %s" % (what, os.strerror(err)))
        return len(writable) == len(clients)
    until(what, are)


def answered(what, s, word):
    s.settimeout(PATIENCE)
    s.sendall(word)
    got = b""
    while len(got) < len(word):
        try:
            more = s.recv(100)
        except OSError as e:
            raise LabError("%s: %s" % (what, e)) from None
        if not more:
            raise LabError("%s: end of file" % what)
        got += more
    if got != word:
        raise LabError("%s: %r" % (what, got))


def new_one(lab):
    s = begin(lab)
    wait_connected("a new client is connected", [s])
    answered("a new client", s, b"new")
    return s


def serve(lab, pids, workers, finesse, told):
    before = [new_one(lab) for _ in range(8)]  # some at each worker
    for i in range(2):
        send_signal(pids, signal.SIGSTOP)
        repeated = lab.client.syns_repeated()
        first = [begin(lab) for _ in range(FIRST)]
        wait_connected("%s: those that come first are connected while it is stopped" % told, first)
        if lab.client.syns_repeated() - repeated > FIRST:
            raise LabError("%s: %d clients repeated their SYNs %d times" % (told, FIRST, lab.client.syns_repeated() - repeated))
        wait_connected("later ones are connected", [begin(lab) for _ in range(workers)])  # whoever has not been asked yet is asked
        repeated = lab.client.syns_repeated()
        later = [begin(lab) for _ in range(LATER)]
        wait_connected("%s: those that come later are connected" % told, later)
        if not workers and lab.client.syns_repeated() != repeated:
            raise LabError("%s: who comes later repeats its SYN" % told)
        for s in before:
            s.setblocking(True)
            s.sendall(b"while it is stopped")
        send_signal(pids, signal.SIGCONT)
        for s in before:
            answered("%s: who was connected before" % told, s, b"")
            got = b""
            while len(got) < len(b"while it is stopped"):
                got += s.recv(100)
        for s in first + later:
            answered("%s: who connected while it was stopped" % told, s, b"at last")
        if finesse and finesse_command():
            until("the engine has a new client", lambda: (lab.server.opens()[1], new_one(lab), lab.server.opens()[1])[::2] == (lab.server.opens()[1],) * 2)
        before += first[:1] + later[:1] + [new_one(lab)]
    for s in before:
        answered("%s: who is connected still" % told, s, b"still")


def one_server(workers, finesse):
    told = "%s, %s" % ("%d workers" % workers if workers else "alone", "under finesse" if finesse else "natively")
    with Lab() as lab:
        p = lab.server.spawn([sys.executable, "-c", SERVER, str(workers)], finesse=finesse)
        until("it listens", lambda: lab.server.text(["ss", "-Hltn", "sport = :%d" % PORT]).strip())
        until("the workers are there", lambda: len(children(p.pid)) >= workers)
        pids = (children(p.pid) if workers else []) + [p.pid]
        try:
            serve(lab, pids, workers, finesse, told)
        finally:
            send_signal(pids, signal.SIGKILL)
    print("ok: " + told, flush=True)


def main():
    for workers in (0, 1, 2):
        for finesse in (False, True):
            one_server(workers, finesse)
    return 0


if __name__ == "__main__":
    sys.exit(main())
