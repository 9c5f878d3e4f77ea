"""A client for messages.py: what recvmsg tells beside the bytes, as lines of JSON. Usage: messages_end.py ADDRESS PORT."""
import ctypes
import errno
import select
import socket
import struct
import sys

from said import say, tried

POLLRDHUP = 0x2000
SO_ZEROCOPY, MSG_ZEROCOPY, MSG_ERRQUEUE, TCP_INQ = 60, 0x4000000, 0x2000, 36
SO_TIMESTAMP, SO_TIMESTAMPING, RX_SOFTWARE, SOFTWARE = 29, 37, 1 << 3, 1 << 4


def control(ancillary):
    return [[level, kind, data.hex()] for level, kind, data in ancillary]


def notices(sock, last):
    """Ranges of calls whose memory is free, until the one of number `last`; each with what else the message says."""
    covered, others = [], set()
    poll = select.poll()
    poll.register(sock, 0)
    while not covered or covered[-1] != last:
        if not poll.poll(5000):
            say("never told", last, covered)
            return
        data, ancillary, flags, address = sock.recvmsg(100, 200, MSG_ERRQUEUE)
        (level, kind, raw), = ancillary
        errno, origin, what, code, pad, first, end = struct.unpack_from("=IBBBBII", raw)
        covered += range(first, end + 1)
        others.add((len(data), level, kind, len(raw), errno, origin, what, code, pad, flags, str(address)))
    say("free", covered, sorted(others))


def raw_recvmsg(sock, control, room, flags):
    """The result, and what the header says then: the control data's length, and the flags."""
    libc = ctypes.CDLL(None, use_errno=True)
    text = ctypes.create_string_buffer(room)
    iov = (ctypes.c_size_t * 2)(ctypes.addressof(text), room)
    header = (ctypes.c_size_t * 7)(0, 0, ctypes.addressof(iov), 1, control, 100, 0)
    r = libc.recvmsg(sock.fileno(), header, flags)
    return [text.raw[:r].decode(), header[5], header[6] & 0xffffffff] if r >= 0 else errno.errorcode[ctypes.get_errno()]


def bad_control(address):
    """Linux has taken the bytes by then: control data that cannot be written is left out."""
    for option in (socket.IPPROTO_TCP, TCP_INQ, 1), (socket.SOL_SOCKET, SO_TIMESTAMP, 1), (socket.SOL_SOCKET, SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE):
        with socket.create_connection(address) as sock:
            sock.setsockopt(*option)
            sock.send(b"s123456789")  # comes back, and the end of file
            sock.shutdown(socket.SHUT_WR)
            sock.recv(10, socket.MSG_PEEK | socket.MSG_WAITALL)
            say("bad control", option[1], raw_recvmsg(sock, 8, 4, 0), raw_recvmsg(sock, 8, 4, socket.MSG_PEEK), sock.recv(10).decode())
    with socket.create_connection(address) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
        sock.send(b"y", MSG_ZEROCOPY)
        poll = select.poll()
        poll.register(sock, 0)
        poll.poll(5000)
        say("bad control of a notice", raw_recvmsg(sock, 8, 4, MSG_ERRQUEUE), raw_recvmsg(sock, 8, 4, MSG_ERRQUEUE))


def zerocopy(address):
    with socket.create_connection(address) as sock:
        say("no option", sock.send(b"x" * 100, MSG_ZEROCOPY))
        say("nothing", tried(sock.recvmsg, 10, 100, MSG_ERRQUEUE))
        sock.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
        say("on", sock.getsockopt(socket.SOL_SOCKET, SO_ZEROCOPY))
        say("sent", [sock.send(b"y" * 4000, MSG_ZEROCOPY) for _ in range(3)], sock.send(b"z", 0), tried(sock.send, b"", MSG_ZEROCOPY))
        notices(sock, 2)
        say("again", sock.send(b"y", MSG_ZEROCOPY))
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        while not poll.poll(5000)[0][1] & select.POLLERR:
            pass
        say("poll", poll.poll(0)[0][1])
        say("short room", sock.recvmsg(0, 8, MSG_ERRQUEUE)[2])
        say("poll", poll.poll(0)[0][1], tried(sock.recvmsg, 10, 100, MSG_ERRQUEUE), sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        sock.shutdown(socket.SHUT_WR)
        say("shut", tried(sock.send, b"y", MSG_ZEROCOPY), tried(sock.recvmsg, 10, 100, MSG_ERRQUEUE))


def left(address):
    with socket.create_connection(address) as sock:
        say("refused", tried(sock.setsockopt, socket.IPPROTO_TCP, TCP_INQ, 2))
        sock.send(b"s" * 3000)  # comes back, and the end of file
        sock.shutdown(socket.SHUT_WR)
        poll = select.poll()
        poll.register(sock, POLLRDHUP)
        poll.poll(5000)
        say("off", control(sock.recvmsg(10, 100)[1]))
        sock.setsockopt(socket.IPPROTO_TCP, TCP_INQ, 1)
        say("on", sock.getsockopt(socket.IPPROTO_TCP, TCP_INQ))
        say("peek", control(sock.recvmsg(1000, 100, socket.MSG_PEEK)[1]))
        data, ancillary, flags, _ = sock.recvmsg(990, 100)
        say("left", len(data), control(ancillary), flags)
        data, ancillary, flags, _ = sock.recvmsg(100, 17)
        say("little room", len(data), control(ancillary) if flags & 8 == 0 else "", flags)
        rest = sock.recvmsg(1890, 100)
        say("almost all", len(rest[0]), control(rest[1]))
        rest = sock.recvmsg(10, 100)
        say("all", len(rest[0]), control(rest[1]))
        end = sock.recvmsg(10, 100)
        say("end", len(end[0]), control(end[1]))


def congestion(address):
    with socket.create_connection(address) as sock:
        for name in (b"reno", b"newreno", b"nonsense", b"", b"renoandsomethinglong"):
            say("congestion", name.decode(), tried(sock.setsockopt, socket.IPPROTO_TCP, socket.TCP_CONGESTION, name),
                sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode())


where = sys.argv[1], int(sys.argv[2])
zerocopy(where)
bad_control(where)
left(where)
congestion(where)
