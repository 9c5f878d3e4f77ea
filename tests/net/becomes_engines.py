#!/usr/bin/python3
"""
A listener becomes the engine's, or its process forks, while clients come: at each system call that the server makes
meanwhile it is stopped, and then new clients come, and others speak whose handshake is over. So every moment is met,
and not by luck. Each says everything once: what Linux would not lose is not lost, and nobody waits for a repetition.

becomes_engines.py [--native] [WAY…]
"""
import subprocess
import sys

from becomes_kernels import PORT, Wire, main, trace
from lab import LabError
from sources import MARK, mac_of

AFTER = (1, 2, 4, 8, 16, 32)  # stops from the end of a handshake to the client's first word, one client after the other
AT_ONCE = 24  # not answered yet: of more the engine would send cookies, or the kernel would
STOPS = 400  # from the first client that was answered
SHOWN = 4


SERVER = """
import os, select, socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", %d))
way = sys.argv[1]
def told(word):
    print(word, flush=True)
    sys.stdin.readline()
def serves():
    poll, conns = select.poll(), {}
    poll.register(s.fileno(), select.POLLIN)
    poll.register(0, select.POLLIN)
    while True:
        for n, _ in poll.poll():
            if n == 0:
                os._exit(0)
            if n == s.fileno():
                c = s.accept()[0]
                conns[c.fileno()] = c
                poll.register(c.fileno(), select.POLLIN)
                continue
            try:
                data = conns[n].recv(1000)
                if data:
                    conns[n].sendall(data)
            except OSError:
                data = b""
            if not data:
                poll.unregister(n)
                conns.pop(n).close()
if way == "listens":
    told("ready")
    s.listen(4096)
else:
    s.listen(4096)
    told("ready")
    if os.fork():
        os._exit(0)
serves()
""" % PORT

WAYS = ("listens", "becomes a daemon")


def answered(wire, clients):
    """The kernel answers at once, in the very call that sends; an engine that is stopped does not."""
    wire.take()
    for c in clients:
        if c.reset:  # nobody listened yet: it is begun anew
            c.reset = False
            c.begin()
            c.say()
    wire.take()


def row(lab, way, finesse):
    lab.server.run(["ip", "neigh", "replace", MARK, "lladdr", mac_of(lab.client), "dev", "server0", "nud", "permanent"])
    server = lab.server.spawn([sys.executable, "-c", SERVER, way], finesse=finesse, settings=("--close-policy", "off"),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if server.stdout.readline() != b"ready\n":
        raise LabError("the server did not start")
    wire = Wire(lab)
    opened, speaks, first = [], {}, []
    early = [wire.add("a client from before") for _ in range(AT_ONCE if way != "listens" else 0)]
    for c in early:
        c.say()
    if wire.until(early, lambda c: c.state == "open"):
        raise LabError("the first handshakes were not answered")
    for i, c in enumerate(early):
        speaks.setdefault(i, []).append(c)
    came = list(early)

    def at_each(n):
        answered(wire, [c for c in came if c.state == "new" and way == "listens"])
        for c in came:
            if c.state == "open" and c not in opened:
                first.append(n)
                opened.append(c)
                if c not in early:
                    speaks.setdefault(n + AFTER[len(opened) % len(AFTER)], []).append(c)
        for c in speaks.pop(n, ()):
            c.met = n
            c.wants(b"hello")
            c.say()
        if len([c for c in came if c.state == "new"]) < AT_ONCE:
            came.append(wire.add("a new client, at call %d" % n))
            came[-1].say()
            wire.take()

    def begin():
        server.stdin.write(b"\n")
        server.stdin.flush()
        return lambda n: bool(first) and n - first[0] >= STOPS

    n = trace(server, at_each, begin)
    if not opened:
        return "no client was answered", n
    answered(wire, [c for c in came if c.state == "new" and way == "listens"])
    left = wire.until(came, lambda c: c.state == "open", again=False)
    said = ["%s: not answered" % c.what for c in left]
    opened = [c for c in came if c.state == "open"]
    for c in opened:
        if c.met is None:
            c.met = n
            c.wants(b"hello")
            c.say()
    left = wire.until(opened, lambda c: c.done, again=False)
    said += ["%s, spoke at call %d of %d: not heard" % (c.what, c.met, n) for c in left]
    said += ["%s: refused" % c.what for c in came if c.reset]
    return ", ".join(["%d of %d lost" % (len(said), len(came))] + said[:SHOWN]) if said else "", n


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], WAYS, row))
