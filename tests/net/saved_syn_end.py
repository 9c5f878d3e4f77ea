"""A server for saved_syn.py: TCP_SAVE_SYN and TCP_SAVED_SYN, as lines of JSON. Usage: saved_syn_end.py ADDRESS PORT."""
import ctypes
import socket
import sys

from said import say, tried

SAVE_SYN, SAVED_SYN = 27, 28
_libc = ctypes.CDLL(None, use_errno=True)
# What no two connections have alike: IPv4's identification and checksum, the flow label, ports, sequence numbers, TCP's checksum, timestamps, MAC addresses.


def get(sock, room):
    """getsockopt with so many bytes: its result or errno, the length that it tells, and the bytes."""
    buffer, length = ctypes.create_string_buffer(b"\xee" * 200, 200), ctypes.c_int(room)
    r = _libc.getsockopt(sock.fileno(), socket.IPPROTO_TCP, SAVED_SYN, buffer, ctypes.byref(length))
    given = buffer.raw[:max(length.value, 0)] if r == 0 else b""
    return ["errno %d" % ctypes.get_errno() if r else 0, length.value, given]


def told(answer, link):
    """Of the bytes, what two runs have in common."""
    r, length, data = answer
    if not data:
        return [r, length]
    ip = data[link:]
    head = 40 if ip[0] >> 4 == 6 else (ip[0] & 15) * 4
    tcp = bytearray(ip[head:])
    options = tcp[20:]
    at = 0
    while at < len(options) and options[at]:
        if options[at] == 8:
            options[at + 2:at + 10] = bytes(8)
        at += 1 if options[at] == 1 else max(options[at + 1], 1)
    mac = [len(data[:link]), data[12:link].hex()]
    fixed = [ip[0] >> 4, ip[1:4].hex(), ip[6:10].hex(), ip[12:20].hex()] if head < 40 else [ip[0] >> 4, ip[4:40].hex()]
    return [r, length, mac, fixed, int.from_bytes(tcp[2:4], "big"), tcp[8:16].hex(), tcp[18:20].hex(), options.hex()]


def serve(address, save):
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        say("save", save, tried(server.setsockopt, socket.IPPROTO_TCP, SAVE_SYN, save), server.getsockopt(socket.IPPROTO_TCP, SAVE_SYN), told(get(server, 200), 0))
        server.bind(address)
        server.listen(5)
        say("listening", server.getsockopt(socket.IPPROTO_TCP, SAVE_SYN), told(get(server, 200), 0))
        say("now", flush(server, address, save))
        say("never", tried(server.setsockopt, socket.IPPROTO_TCP, SAVE_SYN, 3), tried(server.setsockopt, socket.IPPROTO_TCP, SAVE_SYN, -1))
        say("off", tried(server.setsockopt, socket.IPPROTO_TCP, SAVE_SYN, 0))
        print("connect", flush=True)
        with server.accept()[0] as sock:
            say("not saved", sock.getsockopt(socket.IPPROTO_TCP, SAVE_SYN), told(get(sock, 200), 0))


def flush(server, address, save):
    print("connect", flush=True)
    with server.accept()[0] as sock:
        link = 14 if save == 2 else 0
        out = [sock.getsockopt(socket.IPPROTO_TCP, SAVE_SYN)] + [told(get(sock, room), link) for room in (-1, 0, 4, 39, 200, 200)]
        return out + [tried(sock.setsockopt, socket.IPPROTO_TCP, SAVE_SYN, 1), tried(sock.setsockopt, socket.IPPROTO_TCP, SAVED_SYN, 1), sock.getsockopt(socket.IPPROTO_TCP, SAVE_SYN)]


def main():
    for save in (1, 2):
        serve((sys.argv[1], int(sys.argv[2])), save)


main()
