"""A program for packet_options.py: IP_PKTOPTIONS and IPV6_2292PKTOPTIONS, as lines of JSON. Usage: packet_options_end.py ADDRESS PORT PEER-ADDRESS PEER-PORT."""
import ctypes
import socket
import sys

from said import say

ASKS4 = [socket.IP_RECVTOS, 12, 8]  # IP_RECVTTL, IP_PKTINFO
ASKS6 = [socket.IPV6_RECVPKTINFO, socket.IPV6_RECVHOPLIMIT, socket.IPV6_RECVTCLASS]
RFC2292 = [2, 8]  # IPV6_2292PKTINFO, IPV6_2292HOPLIMIT
FLOWINFO = [11]
PKTOPTIONS4, PKTOPTIONS6 = 9, 6
_libc = ctypes.CDLL(None, use_errno=True)


def get(sock, level, name, room):
    """getsockopt with so many bytes: its result or errno, the length that it tells, and the bytes."""
    buffer, length = ctypes.create_string_buffer(b"\xee" * 300, 300), ctypes.c_int(room)
    r = _libc.getsockopt(sock.fileno(), level, name, buffer, ctypes.byref(length))
    return ["errno %d" % ctypes.get_errno() if r else 0, length.value, "" if r else buffer.raw[:max(length.value, 0)].hex()]


def tell(what, sock):
    for level, name in (socket.IPPROTO_IP, PKTOPTIONS4), (socket.IPPROTO_IPV6, PKTOPTIONS6):
        say(what, level, [get(sock, level, name, room) for room in (300, 30, 4, 0, -1)])
    say(what, [sock.getsockopt(socket.IPPROTO_IPV6, n) for n in (17, 18)] if sock.family == socket.AF_INET6 else sock.getsockopt(socket.IPPROTO_IP, 33))


def ask(sock, more, on=1):
    for name in ASKS4:
        sock.setsockopt(socket.IPPROTO_IP, name, on)
    for name in ASKS6 + more if sock.family == socket.AF_INET6 else []:
        sock.setsockopt(socket.IPPROTO_IPV6, name, on)


def more(what, sock):
    """The peer sends a byte from farther away."""
    print("send", flush=True)
    sock.recv(1)
    tell(what + ", after data", sock)


def main():
    address, peer = (sys.argv[1], int(sys.argv[2])), (sys.argv[3], int(sys.argv[4]))
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(5)
        print("connect", flush=True)
        with server.accept()[0] as sock:
            tell("accepted", sock)
            more("not asked", sock)
            ask(sock, RFC2292)
            tell("asked late", sock)
            more("asked late", sock)
            ask(sock, RFC2292, 0)
            ask(sock, FLOWINFO)
            tell("asked for the flow", sock)
            more("asked for the flow", sock)
        ask(server, RFC2292)
        tell("listener", server)
        print("connect", flush=True)
        with server.accept()[0] as sock:
            tell("asked early", sock)
            more("asked early", sock)
            ask(sock, RFC2292, 0)
            tell("asked no more", sock)
    with socket.socket(family) as sock:
        ask(sock, FLOWINFO)
        tell("fresh", sock)
        sock.connect(peer)
        tell("connected", sock)
        more("connected", sock)


main()
