#!/usr/bin/python3
"""Watches TCP on one interface and tells who did what: a small capture for the demonstration and the tests.

Run inside the network namespace: capture.py INTERFACE [--all]. Says "ready" on standard output, captures until
standard input ends, then prints one JSON list of segments in the order seen. Without --all the kernel hands up only
segments with SYN, FIN or RST, so that watching thousands of connections costs little.
"""
import ctypes
import json
import select
import socket
import struct
import sys

ETH_P_ALL = 3
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


class SockFilter(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class SockFprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_uint16), ("filter", ctypes.POINTER(SockFilter))]


def attach_filter(sock, everything):
    """IPv4 TCP without IP options (what our tests send); only SYN, FIN, RST unless everything."""
    code = [
        (0x28, 0, 0, 12),              # ldh [12]: EtherType
        (0x15, 0, 5, 0x0800),          # IPv4
        (0x30, 0, 0, 23),              # ldb [23]: protocol
        (0x15, 0, 3, 6),               # TCP
        (0x30, 0, 0, 14 + 20 + 13),    # ldb: flags
        (0x45, 0, 1, 0xFF if everything else FIN | SYN | RST),
        (0x06, 0, 0, 128),             # the headers
        (0x06, 0, 0, 0),
    ]
    program = (SockFilter * len(code))(*[SockFilter(*c) for c in code])
    fprog = SockFprog(len(code), program)
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(fprog))
    return program  # lives as long as the call needs it


def options(raw):
    """MSS, window scale, SACK-permitted, timestamps of a SYN."""
    out = {}
    while raw:
        kind = raw[0]
        if kind == 0:
            break
        if kind == 1:
            raw = raw[1:]
            continue
        if len(raw) < 2 or raw[1] < 2 or raw[1] > len(raw):
            break
        body = raw[2:raw[1]]
        if kind == 2 and len(body) == 2:
            out["mss"] = struct.unpack("!H", body)[0]
        elif kind == 3 and len(body) == 1:
            out["wscale"] = body[0]
        elif kind == 4:
            out["sack"] = True
        elif kind == 8:
            out["timestamps"] = True
        raw = raw[raw[1]:]
    return out


def parse(frame, when):
    ip_len = struct.unpack("!H", frame[16:18])[0]
    tcp = frame[34:]
    sport, dport, seq, ack, offset, flags, window = struct.unpack("!HHIIBBH", tcp[:16])
    header = (offset >> 4) * 4
    segment = {
        "t": when,
        "src": socket.inet_ntoa(frame[26:30]), "sport": sport,
        "dst": socket.inet_ntoa(frame[30:34]), "dport": dport,
        "seq": seq, "ack": ack, "flags": flags, "window": window,
        "len": ip_len - 20 - header,
    }
    if flags & SYN:
        segment["options"] = options(tcp[20:header])
    return segment


def receive(sock, out):
    data, ancillary, _, _ = sock.recvmsg(256, 64)
    when = 0.0
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("ll", value[:16])
            when = seconds + nanoseconds / 1e9
    if len(data) >= 54:
        out.append((data, when))


def main():
    interface, everything = sys.argv[1], "--all" in sys.argv[2:]
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    attach_filter(sock, everything)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    except PermissionError:  # a user namespace: what the host allows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.bind((interface, ETH_P_ALL))
    sock.setblocking(False)
    print("ready", flush=True)
    frames = []
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
    ended = False
    while not ended:
        for fd, _ in poll.poll():
            ended |= fd == sys.stdin.fileno()
        try:
            while True:
                receive(sock, frames)
        except BlockingIOError:
            pass
    segments = [parse(data, when) for data, when in frames]
    drops = struct.unpack("II", sock.getsockopt(263, 6, 8))[1]  # SOL_PACKET, PACKET_STATISTICS
    json.dump({"segments": segments, "drops": drops}, sys.stdout)


if __name__ == "__main__":
    main()
