#!/usr/bin/python3
"""One end of options_wire.py: options_end.py listen|connect|watch … with JSON on the command line and standard output.

listen ADDRESS PORT BEFORE DURING AFTER WAIT
        options before listen, after it, and after accept; says "ready", accepts, greets, answers one message; ends with its standard input
connect ADDRESS PORT BEFORE DURING AFTER WAIT FIRST
        options before connect, while it connects, and when greeted; sends one message (FIRST: before the greeting), prints {"connected": …, "answer": …}
watch INTERFACE PORT                  says "ready"; prints what it saw of TCP with that port when its standard input ends

OPTIONS: [[level, number, value, length], …], where a value is a number, or a string of hexadecimal bytes; or "filter" for a program that drops all.
Length "child": a forked child sets it.
WAIT: seconds, for what may never come.
"""
import ctypes
import json
import os
import select
import socket
import struct
import sys

ETH_P_ALL = 3
SO_ATTACH_FILTER = 26


def attach_drop_all(s):
    program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    s.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))


def set_options(s, options):
    for level, number, value, length in options:
        if value == "filter":
            attach_drop_all(s)
        elif length == "child":
            child = os.fork()
            if child == 0:
                s.setsockopt(level, number, value)
                os._exit(0)
            os.waitpid(child, 0)
        elif isinstance(value, str):
            s.setsockopt(level, number, bytes.fromhex(value))
        else:
            s.setsockopt(level, number, struct.pack("i", value)[:length])


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listen(address, port, before, during, after, wait):
    s = socket.socket(family(address))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    set_options(s, before)
    s.bind((address, int(port)))
    s.listen(8)
    set_options(s, during)
    print("ready", flush=True)
    poll = select.poll()
    poll.register(s, select.POLLIN)
    poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
    held = []
    while True:
        for fd, _ in poll.poll():
            if fd == sys.stdin.fileno():
                return
            c, _ = s.accept()
            held.append(c)
            set_options(c, after)
            c.settimeout(wait)
            try:
                c.send(b"+")
                c.send(c.recv(100).upper())
            except OSError:  # an option may keep it away: the client tells
                pass


def connect(address, port, before, during, after, wait, first):
    s = socket.socket(family(address))
    set_options(s, before)
    s.settimeout(wait)
    result = {"connected": False, "answer": None}
    try:
        if during:
            s.setblocking(False)
            s.connect_ex((address, int(port)))
            set_options(s, during)
            s.settimeout(wait)
            select.select([], [s], [], wait)
        else:
            s.connect((address, int(port)))
        result["connected"] = True
        if first:
            s.send(b"hello")
        s.recv(1)  # the other end has set its options
        set_options(s, after)
        if not first:
            s.send(b"hello")
        result["answer"] = s.recv(100).decode()
    except OSError as e:
        result["error"] = "timed out" if isinstance(e, socket.timeout) else e.strerror
    print(json.dumps(result), flush=True)
    sys.stdin.read()


def parse(frame):
    kind = struct.unpack("!H", frame[12:14])[0]
    ip = frame[14:]
    if kind == 0x0800 and ip[9] == 6:
        seen = {"tos": ip[1], "ttl": ip[8], "df": bool(ip[6] & 0x40)}
        tcp = ip[(ip[0] & 15) * 4:struct.unpack("!H", ip[2:4])[0]]
    elif kind == 0x86DD and ip[6] == 6:
        seen = {"tos": (ip[0] & 15) << 4 | ip[1] >> 4, "ttl": ip[7], "df": True}
        tcp = ip[40:40 + struct.unpack("!H", ip[4:6])[0]]
    else:
        return None
    seen["sport"], seen["dport"] = struct.unpack("!HH", tcp[:4])
    header = (tcp[12] >> 4) * 4
    seen["flags"], seen["len"] = tcp[13], len(tcp) - header
    if seen["flags"] & 2:
        seen["mss"] = struct.unpack("!H", tcp[22:24])[0]  # both stacks send it first
    return seen


def watch(interface, port):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    s.bind((interface, ETH_P_ALL))
    print("ready", flush=True)
    seen, ended = [], False
    while True:
        ready, _, _ = select.select([s] if ended else [s, sys.stdin], [], [], 0 if ended else None)
        if ended and not ready:
            break  # all that was there at the end is read
        ended = ended or sys.stdin in ready
        if s in ready:
            segment = parse(s.recv(2048))
            if segment and int(port) in (segment["sport"], segment["dport"]):
                seen.append(segment)
    print(json.dumps(seen))


if __name__ == "__main__":
    role, *args = sys.argv[1:]
    if role == "watch":
        watch(*args)
    else:
        {"listen": listen, "connect": connect}[role](*args[:2], *[json.loads(a) for a in args[2:]])
