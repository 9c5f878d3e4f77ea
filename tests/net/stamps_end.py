"""One end for stamps.py: time stamps of what it receives and sends, as lines of JSON. Usage: stamps_end.py ADDRESS PORT, or stamps_end.py listen ADDRESS PORT."""
import fcntl
import select
import socket
import struct
import sys
import termios
import time

from said import say, tried

MSG_ERRQUEUE, MSG_ZEROCOPY, SO_ZEROCOPY, TCP_INQ, SIOCGSTAMP = 0x2000, 0x4000000, 60, 36, 0x8906
STAMP, STAMPNS, STAMPING, STAMP_NEW, STAMPNS_NEW, STAMPING_NEW = 29, 35, 37, 63, 64, 65
NAMES = {29: "TIMESTAMP", 35: "TIMESTAMPNS", 37: "TIMESTAMPING", 63: "TIMESTAMP_NEW", 64: "TIMESTAMPNS_NEW", 65: "TIMESTAMPING_NEW", 54: "OPT_STATS"}
TX_SOFTWARE, RX_SOFTWARE, SOFTWARE = 1 << 1, 1 << 3, 1 << 4
OPT_ID, TX_SCHED, TX_ACK, OPT_CMSG, OPT_TSONLY, OPT_STATS, OPT_PKTINFO, OPT_TX_SWHW, BIND_PHC, OPT_ID_TCP, OPT_RX_FILTER, TX_COMPLETION = (1 << n for n in range(7, 19))
TX_ALL = TX_SCHED | TX_SOFTWARE | TX_ACK
KINDS = {0: "SND", 1: "SCHED", 2: "ACK"}
WAIT_MS = 5000


def family(address):
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def connect(address):
    return socket.create_connection(address)


def ask(sock, n):
    """The peer sends n bytes."""
    sock.sendall(b"%d\n" % n)


def wait_for(sock, events):
    poll = select.poll()
    poll.register(sock, events)
    got = poll.poll(WAIT_MS)
    return got[0][1] if got else 0


def wait_readable(sock, n):
    """Until n bytes are there."""
    end = time.monotonic() + WAIT_MS / 1000
    while len(sock.recv(n, socket.MSG_PEEK)) < n and time.monotonic() < end:
        pass


def stamp_of(kind, data):
    """The time that it tells, in seconds; 0: none. And whether the rest of it is as it must be."""
    if kind in (STAMP, STAMP_NEW):
        sec, usec = struct.unpack("=qq", data)
        return sec + usec / 1e6
    times = struct.unpack("=%dq" % (len(data) // 8), data)
    return times[0] + times[1] / 1e9


def told(ancillary, since):
    """Control messages by name; those that tell a time say whether it may be right."""
    out = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind in NAMES and kind != 54:
            at = stamp_of(kind, data)
            out.append([NAMES[kind], len(data), "in time" if since - 0.001 <= at <= time.time() + 0.001 else "%f, %f" % (at - since, time.time() - at)])
        elif level == socket.SOL_SOCKET and kind in NAMES:
            out.append([NAMES[kind], stats(data)])
        else:
            out.append([level, kind, len(data)])
    return out


def stats(data):
    """The attributes of OPT_STATS: their types and lengths."""
    out, at = [], 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        out.append([kind, length])
        at += (length + 3) & ~3
    return out


def values(sock):
    return [tried(sock.getsockopt, socket.SOL_SOCKET, o) for o in (STAMP, STAMPNS, STAMPING, STAMP_NEW, STAMPNS_NEW, STAMPING_NEW)]


def receive(address):
    for option, value in ((STAMP, 1), (STAMPNS, 1), (STAMP_NEW, 1), (STAMPNS_NEW, 1), (STAMPING, RX_SOFTWARE | SOFTWARE), (STAMPING_NEW, RX_SOFTWARE | SOFTWARE),
                          (STAMPING, RX_SOFTWARE), (STAMPING, RX_SOFTWARE | SOFTWARE | OPT_RX_FILTER)):
        with connect(address) as sock:
            say("set", NAMES[option], value, tried(sock.setsockopt, socket.SOL_SOCKET, option, value), values(sock))
            since = time.time()
            ask(sock, 10)
            wait_readable(sock, 10)
            say("peek", told(sock.recvmsg(3, 200, socket.MSG_PEEK)[1], since))
            data, ancillary, flags, _ = sock.recvmsg(3, 200)
            say("read", len(data), told(ancillary, since), flags)
            data, ancillary, flags, _ = sock.recvmsg(3, 0)
            say("no room", len(data), told(ancillary, since), flags)
            data, ancillary, flags, _ = sock.recvmsg(3, 20)
            say("little room", len(data), flags)
            sock.setsockopt(socket.IPPROTO_TCP, TCP_INQ, 1)
            say("with TCP_INQ", told(sock.recvmsg(0, 200)[1], since), told(sock.recvmsg(10, 200)[1], since))
            say("SIOCGSTAMP", tried(fcntl.ioctl, sock, SIOCGSTAMP, bytes(16)))
            sock.shutdown(socket.SHUT_WR)
            wait_for(sock, select.POLLIN)
            data, ancillary, flags, _ = sock.recvmsg(10, 200)
            say("end of file", len(data), told(ancillary, since), flags)
            say("off", tried(sock.setsockopt, socket.SOL_SOCKET, option, 0), values(sock))


def before_connect(address):
    with socket.socket(family(address)) as sock:
        say("before connect", [tried(sock.setsockopt, socket.SOL_SOCKET, STAMPING, v) for v in (RX_SOFTWARE | SOFTWARE | OPT_ID, RX_SOFTWARE | SOFTWARE)],
            tried(sock.setsockopt, socket.SOL_SOCKET, STAMPNS_NEW, 1), values(sock))
        sock.connect(address)
        say("connected", values(sock))
        since = time.time()
        ask(sock, 10)
        say("both", told(sock.recvmsg(30, 200)[1], since))
        for level, option in ((socket.SOL_SOCKET, STAMP), (socket.SOL_SOCKET, STAMP_NEW)):
            say("other", tried(sock.setsockopt, level, option, 1), values(sock))
        say("off", tried(sock.setsockopt, socket.SOL_SOCKET, STAMPNS, 0), values(sock))
        say("wrong", [tried(sock.setsockopt, socket.SOL_SOCKET, STAMPING, v) for v in (1 << 30, OPT_ID_TCP, OPT_STATS, BIND_PHC)],
            tried(sock.setsockopt, socket.SOL_SOCKET, STAMPING, b"\x10\0"), tried(sock.setsockopt, socket.SOL_SOCKET, STAMPING, struct.pack("=ii", SOFTWARE, 0)), values(sock))


def which(address):
    """Two segments, one after the other, and what is read of them."""
    with connect(address) as sock:
        sock.setsockopt(socket.SOL_SOCKET, STAMPNS, 1)
        ask(sock, 10)
        wait_readable(sock, 10)
        time.sleep(0.02)
        middle = time.time()
        time.sleep(0.02)
        ask(sock, 10)
        wait_readable(sock, 20)
        say("of two segments that were joined",
            [["later" if stamp_of(kind, data) > middle else "earlier" for _, kind, data in sock.recvmsg(n, 200, flags)[1]] for n, flags in ((5, socket.MSG_PEEK), (5, 0), (5, 0), (10, 0))])


def notices(sock, n, since, payload=False):
    """n messages of the error queue."""
    out = []
    for _ in range(n):
        if not wait_for(sock, 0) & select.POLLERR:
            return out + ["never told"]
        data, ancillary, flags, address = sock.recvmsg(100000, 1000, MSG_ERRQUEUE)
        one = []
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET:
                one += told([(level, kind, raw)], since)
            else:
                errno, origin, what, code, pad, info, number = struct.unpack_from("=IBBBBII", raw)
                one.append([level, kind, len(raw), errno, origin, what, code, pad, KINDS.get(info, info) if origin == 4 else info, number, raw[16:].hex().rstrip("0")])
        out.append([len(data), one, flags, str(address)])
    return out


def wait_acknowledged(sock):
    end = time.monotonic() + WAIT_MS / 1000
    while struct.unpack("=i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0] and time.monotonic() < end:
        pass


def left(sock):
    return tried(lambda: len(sock.recvmsg(10, 100, MSG_ERRQUEUE)[0]))


def kinds(messages):
    """Of each: what it is about, and the number."""
    return [[one[8:10] for one in m[1] if len(one) > 3] if isinstance(m, list) else m for m in messages]


def send(address):
    for flags in (TX_ALL | SOFTWARE | OPT_ID | OPT_TSONLY, TX_ALL | SOFTWARE | OPT_TSONLY, TX_ALL | OPT_TSONLY | OPT_ID,
                  TX_ALL | SOFTWARE | OPT_ID | OPT_CMSG | OPT_TSONLY, TX_ALL | SOFTWARE | OPT_TX_SWHW | OPT_ID | OPT_ID_TCP | OPT_TSONLY | TX_COMPLETION):
        with connect(address) as sock:
            sock.send(b"0\n")
            wait_acknowledged(sock)
            say("set", hex(flags), tried(sock.setsockopt, socket.SOL_SOCKET, STAMPING, flags), values(sock))
            since = time.time()
            sock.send(b"0" * 99 + b"\n")
            say("stamps", notices(sock, 3, since), left(sock), wait_for_nothing(sock))
            sock.send(b"0" * 49 + b"\n")
            say("again", notices(sock, 3, since))
    with connect(address) as sock:
        sock.setsockopt(socket.SOL_SOCKET, STAMPING_NEW, TX_ALL | SOFTWARE | OPT_ID | OPT_TSONLY)
        sock.setsockopt(socket.SOL_SOCKET, STAMPNS, 1)
        since = time.time()
        sock.send(b"0\n")
        say("with TIMESTAMPNS", values(sock), notices(sock, 3, since))
    with connect(address) as sock:
        sock.setsockopt(socket.SOL_SOCKET, STAMPING, TX_ACK | SOFTWARE | OPT_ID | OPT_TSONLY)
        since = time.time()
        sock.sendall(b"0" * 199999 + b"\n")
        say("much", kinds(notices(sock, 1, since)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        for _ in range(3):
            sock.send(b"0" * 10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        say("corked", kinds(notices(sock, 1, since)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        for _ in range(3):
            sock.send(b"0" * 10, socket.MSG_EOR)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        say("records", kinds(notices(sock, 3, since)), left(sock))


def by_message(address):
    with connect(address) as sock:
        say("reports only", tried(sock.setsockopt, socket.SOL_SOCKET, STAMPING, SOFTWARE | OPT_ID | OPT_TSONLY))
        since = time.time()

        def message(kind, value):
            return tried(sock.sendmsg, [b"0\n"], [(socket.SOL_SOCKET, kind, value)])
        say("none", sock.send(b"0\n"))
        wait_acknowledged(sock)
        say("by message", message(STAMPING, struct.pack("=I", TX_ALL)), kinds(notices(sock, 3, since)))
        say("new", message(STAMPING_NEW, struct.pack("=I", TX_ACK)), kinds(notices(sock, 1, since)))
        say("refused", message(STAMPING, struct.pack("=I", RX_SOFTWARE)), message(STAMPING, b"\2"), message(81, struct.pack("=I", 7)), left(sock))


def wait_for_nothing(sock):
    poll = select.poll()
    poll.register(sock, 0)
    return poll.poll(0)[0][1] if poll.poll(0) else 0


def with_zerocopy(address):
    with connect(address) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
        sock.setsockopt(socket.SOL_SOCKET, STAMPING, TX_ACK | SOFTWARE | OPT_ID | OPT_TSONLY)
        since = time.time()
        out = []
        for _ in range(2):
            sock.send(b"0" * 99 + b"\n", MSG_ZEROCOPY)
            wait_acknowledged(sock)
        out = notices(sock, 4, since)
        say("zerocopy and stamps", [m[1][-1] for m in out])


def epoll(address):
    with connect(address) as sock, select.epoll() as ep:
        ep.register(sock, select.EPOLLIN | select.EPOLLET)
        sock.setsockopt(socket.SOL_SOCKET, STAMPING, TX_ACK | SOFTWARE | OPT_TSONLY)
        sock.send(b"0\n")
        got = ep.poll(WAIT_MS / 1000)
        say("epoll", [e for _, e in got], ep.poll(0))
        sock.send(b"0\n")
        got = ep.poll(WAIT_MS / 1000)
        say("again", [e for _, e in got], ep.poll(0), [bool(x) for x in select.select([sock], [], [sock], 0)])


def handed_over(address):
    """SO_MARK makes the connection the kernel's: what was asked for goes with it."""
    with connect(address) as sock:
        sock.setsockopt(socket.SOL_SOCKET, STAMPING_NEW, TX_ALL | RX_SOFTWARE | SOFTWARE | OPT_ID | OPT_TSONLY)
        sock.setsockopt(socket.SOL_SOCKET, STAMPNS_NEW, 1)
        say("marked", tried(sock.setsockopt, socket.SOL_SOCKET, 36, 7), sock.getsockopt(socket.SOL_SOCKET, 36), values(sock))
        since = time.time()
        sock.send(b"0" * 8 + b"1\n")
        say("stamps", kinds(notices(sock, 3, since)), told(sock.recvmsg(1, 200)[1], since))


def limit(address):
    with connect(address) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.setsockopt(socket.SOL_SOCKET, STAMPING, TX_SCHED | SOFTWARE | OPT_ID | OPT_TSONLY)
        for _ in range(40):
            sock.send(b"0\n")
            wait_acknowledged(sock)
        n = 0
        while left(sock) == 0:
            n += 1
        say("unread, as SO_RCVBUF bounds them", 8 < n < 40)  # how many is the kernel's memory management's


def listen(address):
    """What an accepted socket has of its listener."""
    with socket.socket(family(address)) as server:
        for option, value in ((STAMPNS_NEW, 1), (STAMPING_NEW, RX_SOFTWARE | SOFTWARE | TX_ALL | OPT_TSONLY)):
            server.setsockopt(socket.SOL_SOCKET, option, value)
        server.bind(address)
        server.listen(5)
        since = time.time()
        say("listening", values(server))
        for _ in range(2):
            with server.accept()[0] as sock:
                say("accepted", values(sock))
                wait_readable(sock, 5)
                say("read", told(sock.recvmsg(5, 200)[1], since))
                sock.send(b"hello")
                say("sent", notices(sock, 3, since) if values(server)[2] else left(sock))
            say("now only", tried(server.setsockopt, socket.SOL_SOCKET, STAMPING, 0), values(server))


def keeps_times(sock):
    """Linux takes a moment until it notes when frames come, and goes on for as long as anybody asks: stamps.py's peer does, to the end."""
    end = time.monotonic() + WAIT_MS / 1000
    sock.setsockopt(socket.SOL_SOCKET, STAMP, 1)
    while time.monotonic() < end:
        ask(sock, 1)
        if sock.recvmsg(1, 100)[1]:
            return
    say("no times")


def main():
    if sys.argv[1] == "listen":
        return listen((sys.argv[2], int(sys.argv[3])))
    address = (sys.argv[1], int(sys.argv[2]))
    with connect(address) as sock:
        keeps_times(sock)
        run(address)


def run(address):
    for case in (receive, before_connect, which, send, by_message, with_zerocopy, epoll, limit, handed_over):
        case(address)


main()
