#!/usr/bin/python3
"""A program for effects.py: says what it sees, a line for each thing, and asks its peer by lines that begin with "?"."""
import ctypes
import errno
import json
import os
import re
import select
import socket
import struct
import subprocess
import sys
import threading
import time

CLIENT_IP, SERVER_IP, SERVER_IP6, CLIENT_IP6 = sys.argv[2:6]
CLONE_FILES, CLONE_NEWNET, CLOSE_RANGE_UNSHARE, SO_NETNS_COOKIE = 0x400, 0x40000000, 2, 71
PEERS_LATER = "10.77.0.77", "fd77::77"
libc = ctypes.CDLL(None, use_errno=True)


def say(*what):
    print(sys.argv[1], *what, flush=True)


def peer(verb, *args):
    """What the peer answers: effects.py, class Peer."""
    print("?" + json.dumps([verb, *args]), flush=True)
    return json.loads(sys.stdin.readline())


def name(f, *args):
    """The result, or the error's name."""
    try:
        return f(*args)
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e))


def recvmmsg(s):
    """For one message."""
    text = ctypes.create_string_buffer(16)
    iov = (ctypes.c_size_t * 2)(ctypes.addressof(text), 16)
    message = (ctypes.c_size_t * 8)(0, 0, ctypes.addressof(iov), 1)
    r = libc.recvmmsg(s.fileno(), message, 1, socket.MSG_DONTWAIT, None)
    return r if r >= 0 else errno.errorcode[ctypes.get_errno()]


def listener(family=socket.AF_INET, options=(), port=0):
    l = socket.socket(family, socket.SOCK_STREAM)
    for o in options:
        l.setsockopt(*o)
    l.bind(("::" if family == socket.AF_INET6 else SERVER_IP, port))
    l.listen(64)
    l.settimeout(60)
    return l


def accepted(l, address=SERVER_IP):
    peer("connect", address, l.getsockname()[1])
    s, _ = l.accept()
    s.settimeout(60)
    return s


def connected(options=()):
    s = socket.socket()
    for o in options:
        s.setsockopt(*o)
    s.settimeout(60)
    port = peer("listen")
    s.connect((CLIENT_IP, port))
    peer("accept")
    return s


def serves(l, s):
    """A connection that there was, and a new one, still work."""
    s.send(b"old")
    say("old", peer("recv", 3))
    new = accepted(l)
    new.send(b"new")
    say("new", peer("recv", 3))
    new.close()
    say("end", peer("recv", 1))


def own_table():
    """The helper thread must not keep the old table: the pipe would not end."""
    l = listener()
    s = accepted(l)
    r, w = os.pipe()
    say("unshare", libc.unshare(CLONE_FILES))
    os.close(w)
    say("the pipe's end", os.read(r, 1))
    serves(l, s)


def own_table_by_close_range():
    l = listener()
    s = accepted(l)
    r, w = os.pipe()
    os.dup2(w, 200)
    os.close(w)
    say("close_range", libc.close_range(200, 300, CLOSE_RANGE_UNSHARE))
    say("the pipe's end", os.read(r, 1))
    serves(l, s)


def threads_part():
    """One thread closes its own number; the other thread's goes on."""
    l = listener()
    s = accepted(l)
    leave = threading.Event()
    parted = threading.Event()

    def part():
        say("unshare", libc.unshare(CLONE_FILES))
        os.close(s.fileno())
        parted.set()
        leave.wait(10)

    t = threading.Thread(target=part)
    t.start()
    parted.wait(10)
    serves(l, s)
    leave.set()
    t.join()


def namespace_of_thread():
    """A thread moves to another network namespace: connections say which they are of, and go on there."""
    def of(s):
        return s.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)

    l = listener()
    c = connected()
    s = accepted(l)
    here = of(s)

    def move():
        say("unshare", libc.unshare(CLONE_NEWNET))
        say("accepted, connected, listener, a new one", [of(x) == here for x in (s, c, l, socket.socket())])
        serves(l, s)

    t = threading.Thread(target=move)
    t.start()
    t.join()


def maxseg():
    """0 takes back what was set; 536 is 536."""
    for values in (0,), (700, 0), (536,), (0, 536), (700,):
        s = connected([(socket.IPPROTO_TCP, socket.TCP_MAXSEG, v) for v in values])
        say(values, s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
        l = listener(options=[(socket.IPPROTO_TCP, socket.TCP_MAXSEG, v) for v in values])
        say(values, "accepted", accepted(l).getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
        l.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 0)
        say(values, "then 0", accepted(l).getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))


def v6only():
    """An accepted socket has it from its listener."""
    for only in 0, 1:
        l = listener(socket.AF_INET6, [(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)])
        for address in (SERVER_IP6, SERVER_IP)[:2 - only]:
            say(only, address, accepted(l, address).getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))


def no_fin_wait_2():
    """An orphan whose TCP_LINGER2 is negative resets its peer as soon as its FIN is acknowledged, or when it is closed after that."""
    s = connected([(socket.IPPROTO_TCP, socket.TCP_LINGER2, -1)])
    s.close()
    say("close", peer("reset"))
    s = connected([(socket.IPPROTO_TCP, socket.TCP_LINGER2, -1)])
    s.shutdown(socket.SHUT_WR)
    say("shutdown", peer("recv", 1), peer("send", "x"), s.recv(1))
    s.close()
    say("close after it", peer("reset"))


REUSEPORT = (socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
MARK = (socket.SOL_SOCKET, 36, 5)  # the kernel's


def shares(listeners, clients):
    """How many clients each of them has."""
    for _ in range(clients):
        peer("connect", SERVER_IP, listeners[0].getsockname()[1])
    counts = [0] * len(listeners)
    while sum(counts) < clients:
        ready, _, _ = select.select(listeners, [], [], 5)
        if not ready:
            break
        for l in ready:
            l.accept()
            counts[listeners.index(l)] += 1
    return counts


def group(*options):
    """Listeners of one port."""
    out = []
    for o in options:
        out.append(listener(options=[REUSEPORT, *o], port=out[0].getsockname()[1] if out else 0))
    return out


def port_program():
    """SO_ATTACH_REUSEPORT_CBPF chooses among all sockets of the port, in the order in which they listened."""
    def choose(l, index):
        code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, index))  # ret
        l.setsockopt(socket.SOL_SOCKET, 51, struct.pack("HxxxxxxQ", 1, ctypes.addressof(code)))

    for index in 0, 1, 2:
        l = group((), (), ())
        choose(l[0], index)
        say("afterwards", index, shares(l, 4))
        first = group(())
        choose(first[0], index)
        l = first + [listener(options=[REUSEPORT], port=first[0].getsockname()[1]) for _ in range(2)]
        say("before the others", index, shares(l, 4))


def port_shared_with_kernel():
    """A socket that the kernel serves has its share of the clients, whether it listens first or last."""
    for options in ((MARK,), (), ()), ((), (), (MARK,)):
        counts = shares(group(*options), 48)  # that chance leaves one out: 1 in 10^8
        say(options, [n > 0 for n in counts], sum(counts))


REUSEADDR = (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
BINDERS = ((), (REUSEADDR,), (REUSEPORT,), (REUSEADDR, REUSEPORT))
LINGER_RESETS = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def options_text(options):
    return "+".join("reuseaddr" if o == REUSEADDR else "reuseport" for o in options) or "plain"


def try_bind(address, port, options):
    """What bind says, and listen after it."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as s:
        for o in options:
            s.setsockopt(*o)
        try:
            s.bind((address, port))
            s.listen(1)
        except OSError as e:
            return errno.errorcode[e.errno]
        return "ok"


class Neighbour:
    """Another process of this host."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, __file__, "neighbour"] + sys.argv[2:6], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def try_bind(self, *args):
        print(json.dumps(args), file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def neighbour():
    for line in sys.stdin:
        address, port, options = json.loads(line)
        print(try_bind(address, port, options), flush=True)


def binds(situation, port, addresses, tries, binders=BINDERS):
    for who, bind in tries:
        for address in addresses:
            say(situation, who, address, *("%s: %s" % (options_text(o), bind(address, port, o)) for o in binders))


EVERYWHERE = (SERVER_IP, "127.0.0.1", "0.0.0.0", "::", "::ffff:" + SERVER_IP, SERVER_IP6)


def bind_beside_accepted():
    """The listener is closed, connections of it live: their port is taken, by the rules of the listener's options."""
    other = Neighbour()
    tries = ("own", try_bind), ("other", other.try_bind)
    for options in BINDERS:
        l = listener(options=options)
        s, port = accepted(l), l.getsockname()[1]
        binds("listening %s" % options_text(options), port, (SERVER_IP, "0.0.0.0"), tries)
        l.close()
        binds("accepted %s" % options_text(options), port, EVERYWHERE, tries)
        s.setsockopt(*LINGER_RESETS)
        s.close()
        binds("reset %s" % options_text(options), port, ("0.0.0.0", "::"), tries)
    other.close()


def bind_beside_accepted_dual():
    """A listener of both families."""
    other = Neighbour()
    tries = ("own", try_bind), ("other", other.try_bind)
    for address in SERVER_IP, SERVER_IP6:
        l = listener(socket.AF_INET6, (REUSEADDR,))
        s, port = accepted(l, address), l.getsockname()[1]
        l.close()
        names = [a for a in EVERYWHERE if address == SERVER_IP or a != "0.0.0.0"]  # taken_ports.c says why
        binds("accepted by %s" % address, port, names, tries, BINDERS[:2])
        s.setsockopt(*LINGER_RESETS)
        s.close()
        binds("reset", port, ("0.0.0.0", "::"), tries)
    other.close()


def bind_beside_time_wait():
    """The server closed first; the listener before, or after it."""
    other = Neighbour()
    tries = ("own", try_bind), ("other", other.try_bind)
    for options in BINDERS:
        for when in "before", "after":
            l = listener(options=options)
            s, port = accepted(l), l.getsockname()[1]
            if when == "before":
                l.close()
            s.shutdown(socket.SHUT_WR)
            peer("recv", 1)
            peer("shut")
            s.recv(1)
            s.close()
            l.close()
            binds("time-wait %s %s" % (when, options_text(options)), port, EVERYWHERE, tries)
    other.close()


def threads_of_a_port():
    """A thread for each listener of a port (SO_REUSEPORT), all of which wait: each has some of the clients, who stay."""
    for n in 2, 4:
        listeners, kept = group(*[()] * n), [[] for _ in range(n)]

        def serve(i):
            while True:
                s, _ = listeners[i].accept()
                kept[i].append(s)
                s.send(b"x")
                if s.recv(1) == b"":
                    return
        for i in range(n):
            listeners[i].settimeout(None)
            threading.Thread(target=serve, args=(i,), daemon=True).start()
        for _ in range(60):
            peer("connect", SERVER_IP, listeners[0].getsockname()[1])
            peer("recv", 1)
            peer("send", "x")
        say(n, [len(k) > 0 for k in kept], sum(len(k) for k in kept))


def bound_client(port, options):
    """None: connect chooses its port."""
    s = socket.socket()
    s.settimeout(60)
    for o in options:
        s.setsockopt(*o)
    if port is not None:
        s.bind((SERVER_IP, port))
    s.connect((CLIENT_IP, peer("listen")))
    peer("accept")
    return s


def bind_beside_client():
    """A client's port: that connect chose, that bind chose, and that the program chose."""
    other, waiting = Neighbour(), set()
    for how in "connect", "bind 0", "bind":
        for options in (), (REUSEADDR,):
            port = 0
            if how == "bind":
                with socket.socket() as free:
                    free.bind((SERVER_IP, 0))
                    port = free.getsockname()[1]
            for end in "live", "reset", "time-wait":
                s = bound_client(None if how == "connect" else port, options)
                while how == "connect" and s.getsockname()[1] in waiting:  # connect may choose the port of a TIME-WAIT with somebody else
                    s = bound_client(None, options)
                taken = s.getsockname()[1]
                tries = (("own", try_bind), ("other", other.try_bind))[:1 if how == "connect" else 2]
                if end == "reset":
                    s.setsockopt(*LINGER_RESETS)
                elif end == "time-wait":
                    s.shutdown(socket.SHUT_WR)
                    peer("recv", 1)
                    peer("shut")
                    s.recv(1)
                    waiting.add(taken)
                if end != "live":
                    s.close()
                binds("%s %s %s" % (how, options_text(options), end), taken, EVERYWHERE if end == "live" else EVERYWHERE[:4], tries, BINDERS[:2])
                if end == "live":
                    s.setsockopt(*LINGER_RESETS)
                s.close()
    other.close()


RECVERR = (socket.IPPROTO_IP, 11, 1)
RECVERR6 = (socket.IPPROTO_IPV6, 25, 1)
ICMP_ERRORS = [(3, code, 0) for code in (0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)] + [(11, 0, 0), (12, 0, 7 << 24)]
ICMP6_ERRORS = [(1, code, 0) for code in range(7)] + [(3, 0, 0), (4, 0, 6), (4, 1, 40)]


def events(s):
    p = select.poll()
    p.register(s, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    return p.poll(0) and p.poll(0)[0][1]


def queued(s, room=100):
    """One message of the error queue, in words."""
    def text(family, data):
        at = 4 if family == socket.AF_INET else 8
        return family and (socket.inet_ntop(family, data[at:at + (4 if family == socket.AF_INET else 16)]), struct.unpack("!H", data[2:4])[0])

    try:
        data, control, flags, name = s.recvmsg(room, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except OSError as e:
        return errno.errorcode[e.errno]
    out = ["%d bytes" % len(data), "flags %#x" % flags, "to %s" % (name[0] if name else None)]
    for level, kind, value in control:
        ee = struct.unpack("IBBBBII", value[:16])
        family = struct.unpack("H", value[16:18])[0]
        out.append("%d:%d %s of %s" % (level, kind, ee[:4] + ee[5:], text(family, value[16:])))
    return ", ".join(out)


def error_of(s):
    return errno.errorcode.get(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)


def refused_by(address, error, options, room=100, quoted=None, asked=True):
    """A connect that ICMP answers. `asked`: SO_ERROR is read before the queue."""
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    for o in options:
        s.setsockopt(*o)
    s.setblocking(False)
    what = [address, error, [o[:2] for o in options]]
    port = peer("drop", ":" in address and "." not in address)
    r = name(s.connect, (address, port))
    peer("icmp", *error, quoted)
    p = select.poll()
    p.register(s, select.POLLOUT)
    p.poll(60000)
    say(*what, r, events(s), queued(s, room) if not asked else error_of(s), events(s))
    say(*what, queued(s, room), events(s))
    say(*what, queued(s), error_of(s), name(s.connect, (address, port)), name(s.getpeername))
    s.close()


def icmp_in_syn_sent():
    """What ICMP says to a SYN is the connect's error, and stands on the error queue, with and without IP_RECVERR."""
    for options in (), (RECVERR,):
        for error in ICMP_ERRORS:
            refused_by(CLIENT_IP, error, options)
        refused_by(CLIENT_IP, (3, 1, 0), options, asked=False)
        refused_by(CLIENT_IP, (3, 3, 0), options, room=5)
        refused_by(CLIENT_IP, (3, 3, 0), options, quoted=8)
        refused_by("::ffff:" + CLIENT_IP, (3, 3, 0), options)
    for options in (), (RECVERR6,):
        for error in ICMP6_ERRORS:
            refused_by(CLIENT_IP6, error, options)
        refused_by(CLIENT_IP6, (1, 3, 0), options, asked=False)


def nobody_in_syn_sent():
    """A neighbour that does not exist: what this host says to itself is told as what a router says."""
    tried = []
    for i, (prefix, options) in enumerate(((CLIENT_IP, ()), (CLIENT_IP, (RECVERR,)), ("::ffff:" + CLIENT_IP, ()), (CLIENT_IP6, ()), (CLIENT_IP6, (RECVERR6,)))):
        address = prefix + "%d" % (40 + i)  # longer than a host's that there is
        s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        for o in options:
            s.setsockopt(*o)
        s.setblocking(False)
        tried.append((s, address, options, name(s.connect, (address, 9))))
    for s, address, options, r in tried:
        p = select.poll()
        p.register(s, select.POLLOUT)
        p.poll(60000)
        say(address, len(options), r, events(s), error_of(s), events(s), queued(s), events(s), queued(s), error_of(s), name(s.connect, (address, 9)))
        s.close()


def route_says_no():
    """A route that refuses is no neighbour that does not answer: nobody says anything, and what was sent arrives when there is a way again."""
    for kind in "unreachable", "prohibit", "blackhole":
        for options in (), (RECVERR,):
            s = connected(options)
            s.setblocking(False)
            route = [kind, s.getpeername()[0] + "/32"]
            subprocess.run(["ip", "route", "add"] + route, check=True)
            say(kind, len(options), name(s.send, b"lost"), events(s), queued(s))
            subprocess.run(["ip", "route", "del"] + route, check=True)
            say(kind, len(options), "arrives", peer("recv", 4), events(s), queued(s))
            s.close()


def error_comes(s):
    """SO_ERROR, when it says something: of what only it tells."""
    for _ in range(6000):
        e = error_of(s)
        if e:
            return e
        time.sleep(0.01)
    return 0


def icmp_while_established():
    """With IP_RECVERR it is the socket's error, without it nothing is seen; the connection goes on."""
    for options in (), (RECVERR,):
        for error in (3, 1, 0), (3, 3, 0), (11, 0, 0):
            for read in "poll", "recv", "recvmmsg", "send":
                s = connected(options)
                s.setblocking(False)
                port = peer("drop", False, s.getpeername()[1])
                s.send(b"lost")
                peer("icmp", *error)
                p = select.poll()
                p.register(s, 0)
                if options:
                    p.poll(60000)
                say(error, len(options), events(s), queued(s))
                if read == "recv":
                    say(name(s.recv, 1), name(s.recv, 1))
                elif read == "recvmmsg":
                    say(recvmmsg(s), sorted({recvmmsg(s) for _ in range(200) if not time.sleep(.001)}))  # until ICMP was heard
                elif read == "send":
                    say(name(s.send, b"more"))
                say(error, len(options), error_of(s) if options else error_comes(s), error_of(s), events(s), s.getsockopt(*RECVERR[:2]))
                peer("drop", False, None)
                say(error, len(options), "arrives", peer("recv", 4), s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))
                s.close()


def icmp_of_accepted():
    """IP_RECVERR is the listener's legacy."""
    l = listener(options=(RECVERR,))
    s = accepted(l)
    say(s.getsockopt(*RECVERR[:2]))
    peer("drop", False, s.getpeername()[1])
    s.send(b"lost")
    peer("icmp", 3, 1)
    p = select.poll()
    p.register(s, 0)
    say(bool(p.poll(60000)), error_of(s), events(s))
    peer("drop", False, None)
    say("arrives", peer("recv", 4))


def options_of_table():
    """(level, number, name) of what reads as an int."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/socket/options.def")
    levels = {"SOL_SOCKET": socket.SOL_SOCKET, "IPPROTO_IP": 0, "IPPROTO_IPV6": 41, "IPPROTO_TCP": 6}
    for line in open(path):
        m = re.match(r"OPTION\((\w+), (\w+), (\d+), (INT|BYTE), \w+, (?!UNREAD|ASKED)", line)
        if m:
            yield levels[m.group(1)], int(m.group(3)), m.group(2)


# Sizes of autotuning, identities, and where it ran; the MTU is unknown to Linux until the next segment after some options; bind to an IPv6 address sets IPV6_V6ONLY.
# Those of multicast nobody can set on a stream: a connection that was handed over has the default.
OWN_VALUES = {"SO_SNDBUF", "SO_RCVBUF", "TCP_WINDOW_CLAMP", "SO_INCOMING_CPU", "SO_INCOMING_NAPI_ID", "IP_PROTOCOL", "SO_ERROR", "TCP_TIMESTAMP", "IP_MTU", "IPV6_MTU",
              "IPV6_V6ONLY", "IP_MULTICAST_TTL", "IPV6_MULTICAST_HOPS", "IPV6_MULTICAST_IF"}


def reading(s):
    return {n: name(s.getsockopt, level, number) for level, number, n in options_of_table() if n not in OWN_VALUES}


def changed(s, before):
    after = reading(s)
    return " ".join("%s=%s" % (n, after[n]) for n in after if after[n] != before[n]) or "nothing"


TCP = socket.IPPROTO_TCP
SIBLINGS = [(0, 1, 0x10), (0, 1, 0x08), (0, 1, 0xe0), (0, 1, 3), (1, 12, 4), (1, 12, 6), (0, 2, 9), (0, 21, 3), (0, 10, 0), (0, 10, 2), (1, 5, 1), (1, 9, 1), (TCP, 4, 5), (TCP, 5, 6),
            (TCP, 1, 1), (TCP, 3, 1), (TCP, 12, 0), (TCP, 12, 1), (TCP, 18, 700), (TCP, 8, 30), (TCP, 2, 700), (TCP, 9, 3), (TCP, 25, 9000), (1, 18, 50), (1, 2, 1), (1, 15, 1), (1, 8, 5000), (1, 7, 5000),
            (0, 11, 1), (0, 15, 1), (1, 46, 50), (1, 47, 10 ** 6), (1, 29, 1), (1, 37, 0x10), (0, 50, 0), (0, 24, 1), (1, 36, 0), (1, 60, 1), (TCP, 36, 1), (TCP, 7, 3), (TCP, 6, 3)]
SIBLINGS6 = [(41, 67, 0x10), (41, 16, 9), (41, 73, 3), (41, 23, 0), (41, 70, 0), (41, 72, 2), (41, 33, 1), (41, 25, 1), (0, 1, 0x10)]


def protocol_names():
    """What fgetxattr calls them."""
    for family, address in (socket.AF_INET, SERVER_IP), (socket.AF_INET6, SERVER_IP6), (socket.AF_INET6, SERVER_IP):
        l = listener(family)
        s = accepted(l, address)
        for x in l, s, connected():
            for size in 100, 4, 3, 0:
                value = ctypes.create_string_buffer(100)
                r = libc.fgetxattr(x.fileno(), b"system.sockprotoname", value, size)
                say(address, size, r, errno.errorcode[ctypes.get_errno()] if r < 0 else value.value)
            say(os.listxattr(x.fileno()), name(os.getxattr, x.fileno(), "user.none"), name(os.getxattr, x.fileno(), "system.sockprotonames"))


def neighbour_comes_back():
    """Who did not answer is asked again by the next connect."""
    for address in PEERS_LATER:
        for _ in range(2):
            s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            s.setblocking(False)
            r = name(s.connect, (address, 9))
            p = select.poll()
            p.register(s, select.POLLOUT)
            p.poll(60000)
            say(address, r, error_of(s))
            s.close()
            port = peer("listen_at", address)
            s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            s.settimeout(60)
            say(address, "again", name(s.connect, (address, port)), s.getpeername()[0])
            s.close()
            peer("leave", address)
            subprocess.run(["ip", "neigh", "flush", "all"], check=True)


def flow_label():
    """What times out goes another way next, where routers choose by the flow label. A tail loss probe is no time-out."""
    port = peer("listen_at", "fd77::7")
    s = socket.socket(socket.AF_INET6)
    s.connect(("fd77::7", port))
    peer("accept")
    peer("drop", True, port)
    s.send(b"x")
    say("sent, probed, sent again twice", peer("labels", 4))
    peer("drop", True, None)


def option_siblings():
    """What changes by setting an option, also of others; before and after it connects, and at an accepted socket."""
    for family, table in (socket.AF_INET, SIBLINGS), (socket.AF_INET6, SIBLINGS6):
        address = SERVER_IP if family == socket.AF_INET else SERVER_IP6
        plain = reading(accepted(listener(family), address))
        for option in table:
            l = listener(family)
            was = reading(l)
            r = name(l.setsockopt, *option)
            say(option, r, "listener:", changed(l, was))
            s = accepted(l, address)
            say(option, "accepted:", changed(s, plain))
            s = accepted(listener(family), address)
            r = name(s.setsockopt, *option)
            say(option, r, "connection:", changed(s, plain))


def option_handover():
    """What was set stays when a connection becomes the kernel's."""
    for option in SIBLINGS:
        s = accepted(listener())
        s.setsockopt(1, 36, 0)
        name(s.setsockopt, *option)
        before = reading(s)
        s.setsockopt(1, 36, 1)
        say(option, changed(s, before))

    s = accepted(listener(options=[(TCP, socket.TCP_MAXSEG, 700)]))
    s.setsockopt(1, 36, 1)
    say("TCP_MAXSEG of its listener", s.getsockopt(TCP, socket.TCP_MAXSEG))


def mapped_handover():
    """An AF_INET6 socket with a connection over IPv4 is one when it becomes the kernel's, too: by its names, its options, and what may be set."""

    def client():
        s = socket.socket(socket.AF_INET6)
        s.connect(("::ffff:" + CLIENT_IP, peer("listen")))
        peer("accept")
        return s

    for how, make in ("accepted", lambda: accepted(listener(socket.AF_INET6))), ("client", client):
        for option in [(41, 26, 1)] + SIBLINGS6 + SIBLINGS[:4]:
            s = make()
            s.setsockopt(1, 36, 0)
            first = name(s.setsockopt, *option)
            before = reading(s)
            s.setsockopt(1, 36, 1)
            say(how, option, first, changed(s, before), name(s.setsockopt, *option), s.getsockname()[0], s.getpeername()[0], len(s.getpeername()), s.getsockopt(1, 39))
            s.close()


globals()[sys.argv[1]]()
