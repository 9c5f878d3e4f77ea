#!/usr/bin/python3
"""
A listener becomes the kernel's while clients come, and none of them is refused: at each system call that the server
makes meanwhile it is stopped, and then a new client comes, one says the last of its handshake, one that was accepted
before speaks, and one comes back whose connection is in TIME-WAIT. So every moment is met, and not by luck. Each of them
says again what was not answered, as TCP does, and is served in the end.

becomes_kernels.py [--native] [WAY…]
"""
import ctypes
import os
import select
import socket
import struct
import subprocess
import sys
import time

from lab import Lab, LabError, SERVER_IP, tally
from sources import MARK, mac_of, syn

PORT = 7003
BOUND = 60  # seconds
READY = 20  # clients of each kind that are there before
AT_ONCE = 30  # … that were not answered yet: of more the engine would send cookies, and whoever got one is nobody's when the kernel has the port
AGAIN = 0.3  # seconds until what was not answered is said again; decides nothing
QUIET = 1.5  # seconds without a system call: it is over
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

SERVER = """
import ctypes, os, select, socket, struct, sys
fd = int(sys.argv[1])
s = socket.socket(fileno=fd) if fd >= 0 else socket.create_server(("", %d), backlog=4096)
libc = ctypes.CDLL(None, use_errno=True)
code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0xFFFFFFFF))
def filters():
    s.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", 1, ctypes.addressof(code)))
def executes():
    s.set_inheritable(True)
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], str(s.fileno()), sys.argv[2]])
def restricts():
    allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
    libc.prctl(38, 1, 0, 0, 0)
    prog = ctypes.create_string_buffer(struct.pack("HL", 1, ctypes.addressof(allow)))
    if libc.prctl(22, 2, prog, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")
def stops():
    poll.unregister(s.fileno())  # whoever was accepted would end with an exec
def waits():
    pass
poll = select.poll()
conns = {}
print("ready", flush=True)
listening = False
while True:
    if not listening:
        poll.register(0, select.POLLIN)
        poll.register(s.fileno(), select.POLLIN)
        listening = True
    for n, _ in poll.poll():
        if n == 0:
            word = os.read(0, 100).decode().strip()
            if not word:
                sys.exit()
            globals()[word]()
            listening = word == "stops"
            print("done", flush=True)
        elif n == s.fileno():
            c = s.accept()[0]
            conns[c.fileno()] = c
            poll.register(c.fileno(), select.POLLIN)
        else:
            try:
                data = conns[n].recv(1000)
                if data:
                    conns[n].sendall(data)
            except OSError:
                data = b""
            if not data or b"bye" in data:
                poll.unregister(n)
                conns.pop(n).close()
""" % PORT

# What the server does, what others do, whether new connections are the kernel's afterwards.
WAYS = {
    "a filter of the program's": ("filters", None, True),
    "another program": ("executes", None, False),
    "system calls restricted": ("restricts", None, True),
    "a rule of routing": ("waits", ["ip", "rule", "add", "dport", "9", "lookup", "main"], True),
}

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_ulong] * 4
PTRACE_DETACH, PTRACE_SYSCALL, PTRACE_SEIZE, PTRACE_INTERRUPT, OPTIONS = 17, 24, 0x4206, 0x4207, 1  # PTRACE_O_TRACESYSGOOD
WALL = 0x40000000


class Client:
    """One connection by hand. `done`: what it wanted it has."""

    def __init__(self, wire, port, what):
        self.wire, self.port, self.what = wire, port, what
        self.seq, self.ack, self.reset, self.met = 1000 * port, 0, False, None
        self.begin()

    def begin(self):
        self.iss, self.text, self.state, self.done = self.seq, b"", "new", False

    def send(self, flags, seq, text=b""):
        self.wire.send(self.port, flags, seq, self.ack if flags & ACK else 0, text)

    def say(self):
        """What it has to say, once more."""
        if self.state == "new":
            self.send(SYN, self.iss)
        elif self.text:
            self.send(ACK | PSH, self.seq, self.text)

    def wants(self, text):
        self.text, self.done = text, False

    def hears(self, flags, seq, ack, text):
        if flags & RST:
            self.reset = True
            return
        if flags & SYN:
            if self.state == "new" and ack == (self.iss + 1) % 2**32:
                self.seq, self.ack, self.state = ack, (seq + 1) % 2**32, "open"
                if self.what != "the end of a handshake" or self.met is not None:
                    self.send(ACK, self.seq)
                    self.say()
            return
        if self.state == "new":
            return
        fresh = seq == self.ack
        if fresh:
            self.ack = (self.ack + len(text) + bool(flags & FIN)) % 2**32
        if self.text and ack == (self.seq + len(self.text)) % 2**32 and fresh and text:
            self.seq, self.done, self.text = ack, True, b""
        if text or flags & FIN:
            self.send(ACK, self.seq)
        if fresh and flags & FIN:
            self.state = "shut"
            self.send(ACK | FIN, self.seq)
            self.seq += 1


class Wire:
    def __init__(self, lab):
        self.s = lab.client.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.s.bind(("client0", 3))
        self.macs = b"".join(bytes.fromhex(mac_of(h).replace(":", "")) for h in (lab.server, lab.client))
        self.clients = {}

    def send(self, port, flags, seq, ack, text):
        self.s.send(syn(self.macs, MARK, SERVER_IP, port, PORT, flags, b"", seq % 2**32, ack, text))

    def add(self, what):
        port = 20000 + len(self.clients)
        self.clients[port] = c = Client(self, port, what)
        return c

    def take(self):
        while True:
            try:
                f = self.s.recv(2000, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if f[12:14] != b"\x08\x00" or f[23] != 6:
                continue
            total, tcp = struct.unpack("!H", f[16:18])[0], f[14 + f[14] % 16 * 4:]
            sport, dport, seq, ack, off, flags = struct.unpack("!HHIIBB", tcp[:14])
            if sport == PORT and dport in self.clients:
                self.clients[dport].hears(flags, seq, ack, tcp[off // 16 * 4:total - f[14] % 16 * 4])

    def until(self, clients, ready, again=True):
        """Those that are neither ready nor reset when time is up. What is not answered is said again, but for `again`."""
        end, said = time.monotonic() + BOUND, time.monotonic()
        while True:
            self.take()
            left = [c for c in clients if not c.reset and not ready(c)]
            if not left or time.monotonic() > end:
                return left
            if again and time.monotonic() - said > AGAIN:
                for c in left:
                    c.say()
                said = time.monotonic()
            select.select([self.s], [], [], 0.02)


def stopped(tids):
    """(thread, is it at a system call) of those that are stopped."""
    for tid in list(tids):
        try:
            got, status = os.waitpid(tid, WALL | os.WNOHANG)
        except ChildProcessError:
            tids.discard(tid)
            continue
        if not got:
            continue
        if not os.WIFSTOPPED(status):
            tids.discard(tid)
            continue
        number = os.WSTOPSIG(status)
        yield tid, number == 0x85, 0 if status >> 16 or number in (5, 0x85) else number


def trace(server, at_each, begin):
    """Calls `at_each` at each stop from `begin` on, until the server is quiet or has said that it is done."""
    tids = set(map(int, os.listdir("/proc/%d/task" % server.pid)))
    for tid in tids:
        if libc.ptrace(PTRACE_SEIZE, tid, 0, OPTIONS) or libc.ptrace(PTRACE_INTERRUPT, tid, 0, 0):
            raise LabError("ptrace: errno %d" % ctypes.get_errno())
    running = set()
    while running != tids:  # each stops, or has ended
        for tid, _, _ in stopped(tids):
            libc.ptrace(PTRACE_SYSCALL, tid, 0, 0)
            running.add(tid)
        running &= tids
    ends = begin()
    last, n, over = time.monotonic(), 0, False
    end = last + BOUND
    while not over and last < end:
        for tid, is_call, number in stopped(tids):
            if is_call:
                at_each(n)
                n += 1
            libc.ptrace(PTRACE_SYSCALL, tid, 0, number)
            last = time.monotonic()
        over = time.monotonic() - last > QUIET or ends(n) or not tids
    waits = set(tids)
    for tid in tids:
        libc.ptrace(PTRACE_INTERRUPT, tid, 0, 0)
    while waits and time.monotonic() < end + BOUND:
        for tid, _, number in stopped(tids):
            libc.ptrace(PTRACE_DETACH, tid, 0, number)
            waits.discard(tid)
        waits &= tids
    return n


def prepare(wire):
    kinds = {}
    for what in ("the end of a handshake", "a segment", "a new connection by the port of one in TIME-WAIT"):
        kinds[what] = [wire.add(what) for _ in range(READY)]
        for c in kinds[what]:
            c.say()
        if wire.until(kinds[what], lambda c: c.state == "open"):
            raise LabError("%s: the first handshake was not answered" % what)
    for c in kinds["a segment"]:
        c.wants(b"before")
        c.say()
    for c in kinds["a new connection by the port of one in TIME-WAIT"]:
        c.wants(b"bye")
        c.say()
    if wire.until(kinds["a segment"], lambda c: c.done) or wire.until(kinds["a new connection by the port of one in TIME-WAIT"], lambda c: c.state == "shut"):
        raise LabError("nothing came back before")
    return kinds


def meet(c, n):
    """It comes, at the stop `n`."""
    c.met = n
    if c.what == "a new connection by the port of one in TIME-WAIT":
        c.seq += 100000
        c.begin()
    c.wants(b"hello")
    c.say()


def row(lab, way, finesse):
    word, late, kernels = WAYS[way]
    lab.server.run(["ip", "neigh", "replace", MARK, "lladdr", mac_of(lab.client), "dev", "server0", "nud", "permanent"])
    server = lab.server.spawn([sys.executable, "-c", SERVER, "-1", SERVER], finesse=finesse, settings=("--close-policy", "off"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if server.stdout.readline() != b"ready\n":
        raise LabError("the server did not start")
    lab.server.wait_listening(server, PORT, finesse=finesse)
    wire = Wire(lab)
    kinds = prepare(wire)
    server.stdin.write(b"stops\n")
    server.stdin.flush()
    if server.stdout.readline() != b"done\n":
        raise LabError("the server did not stop accepting")
    if word == "executes":  # which ends those that it had accepted
        del kinds["a segment"]
    came = []

    def at_each(n):
        wire.take()
        for what, clients in kinds.items():
            if n < len(clients):
                came.append(clients[n])
                meet(clients[n], n)
        if len([c for c in came if c.state == "new"]) < AT_ONCE:
            came.append(wire.add("a new connection"))
            meet(came[-1], n)

    def begin():
        server.stdin.write(word.encode() + b"\n")
        server.stdin.flush()
        if late:
            lab.server.run(late)
        return lambda n: n >= (3000 if late else 400)

    n = trace(server, at_each, begin)
    if not came:
        return "no system call was met", n
    left = wire.until(came, lambda c: c.done)
    refused = [c for c in came if c.reset]
    said = ["%s at call %d of %d" % (c.what, c.met, n) for c in refused[:3]]
    if finesse and kernels and not lab.server.opens()[1]:
        said.append("nobody's connection is the kernel's")
    if refused:
        said.insert(0, "%d of %d refused" % (len(refused), len(came)))
    if left:
        said += ["%d not served" % len(left)] + ["%s at call %d, %s" % (c.what, c.met, c.state) for c in left[:3]]
    return ", ".join(said), n


def main(argv, all_ways, row):
    """Each way in a lab of its own. `row` returns what is wrong ('' if nothing is), and how many stops there were."""
    finesse = "--native" not in argv
    ways = [a for a in argv if not a.startswith("--")] or list(all_ways)
    failed = 0
    for way in ways:
        with Lab() as lab:
            said, n = row(lab, way, finesse)
        failed += bool(said)
        print("%s: %s%s" % ("FAILED" if said else "ok", way, ": " + said if said else ", %d stops" % n), flush=True)
    return tally(len(ways), failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], WAYS, row))
