"""A client for namespace.py: connects as often as it is told on standard input, and prints what the program can see of its namespace's settings.

Usage: namespace_end.py ADDRESS PORT PATIENCE. Each line of standard input is NAME=VALUE … to be written below /proc/sys/net first, or nothing; the answer is one line of JSON.
A change that is made while it runs is looked for in connection after connection, for PATIENCE seconds: the engine reads again what is some ms old.
"""
import json
import socket
import struct
import sys
import time

TCP_SYNCNT, TCP_LINGER2, TCP_WINDOW_CLAMP = 7, 8, 10
NUMBERS = {
    "SO_RCVBUF": (socket.SOL_SOCKET, socket.SO_RCVBUF),
    "KEEPIDLE": (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), "KEEPINTVL": (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    "KEEPCNT": (socket.IPPROTO_TCP, socket.TCP_KEEPCNT), "SYNCNT": (socket.IPPROTO_TCP, TCP_SYNCNT),
    "LINGER2": (socket.IPPROTO_TCP, TCP_LINGER2), "TTL": (socket.IPPROTO_IP, socket.IP_TTL),
}


def facts(sock):
    out = {name: sock.getsockopt(*which) for name, which in NUMBERS.items()}
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    options, scales = info[5], info[6]
    rto, = struct.unpack_from("=I", info, 8)
    out.update(options=options & 7, snd_wscale=scales & 15, rcv_wscale=scales >> 4, rto_ms=rto // 1000 // 100 * 100,
               congestion=sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode())
    return out


def connect(address):
    with socket.socket() as sock:
        sock.connect(address)
        sock.recv(1)
        return facts(sock)


def main():
    address, patience = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3])
    saw = None
    for line in sys.stdin:
        for setting in filter(None, line.strip().split(";")):
            name, value = setting.split("=", 1)
            with open("/proc/sys/net/" + name, "w") as f:
                f.write(value)
        before, end = saw, time.monotonic() + patience
        saw = connect(address)
        while saw == before and time.monotonic() < end:
            saw = connect(address)
        print(json.dumps(saw), flush=True)


main()
