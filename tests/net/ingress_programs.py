"""Drops what comes from an IPv4 address, by a program at an interface's ingress: ingress_programs.py tc|tcx INTERFACE ADDRESS. Says "attached", and stays: tcx's goes with this process, tc's remains."""
import ctypes
import os
import signal
import socket
import struct
import sys

BPF, PROG_LOAD, LINK_CREATE = {"x86_64": 321, "aarch64": 280}[os.uname().machine], 5, 28
SCHED_CLS, TCX_INGRESS = 3, 46
CLSACT_INGRESS = 0xFFFFFFF2
libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attr):
    fd = libc.syscall(BPF, command, ctypes.create_string_buffer(attr, 128), 128)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    return fd


def load(address):
    """Drops a frame (2) whose word at 26, an IPv4 packet's source, is the address; the rest goes on (-1)."""
    source = struct.unpack(">i", socket.inet_aton(address))[0]
    code = [(0xBF, 0x16, 0, 0), (0x20, 0, 0, 26), (0x55, 0, 2, source), (0xB7, 0, 0, 2), (0x95, 0, 0, 0), (0xB7, 0, 0, -1), (0x95, 0, 0, 0)]
    insns = ctypes.create_string_buffer(b"".join(struct.pack("<BBhi", *i) for i in code))
    licence = ctypes.create_string_buffer(b"GPL")
    return bpf(PROG_LOAD, struct.pack("<IIQQ", SCHED_CLS, len(code), ctypes.addressof(insns), ctypes.addressof(licence)))


def attribute(kind, value):
    return struct.pack("<HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def add_filter(prog, ifindex):
    options = attribute(6, struct.pack("<I", prog)) + attribute(7, b"drops\0") + attribute(8, struct.pack("<I", 1))  # TCA_BPF_FD, _NAME, _FLAGS: it decides itself
    body = struct.pack("<BxxxiIII", 0, ifindex, 0, CLSACT_INGRESS, 1 << 16 | socket.htons(3)) + attribute(1, b"bpf\0") + attribute(2, options)
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    s.send(struct.pack("<IHHII", 16 + len(body), 44, 0x605, 1, 0) + body)  # RTM_NEWTFILTER
    answer = struct.unpack("<i", s.recv(4096)[16:20])[0]
    if answer:
        raise OSError(-answer, "RTM_NEWTFILTER")


def main():
    how, interface, address = sys.argv[1:]
    prog, ifindex = load(address), socket.if_nametoindex(interface)
    if how == "tc":
        add_filter(prog, ifindex)
    else:
        bpf(LINK_CREATE, struct.pack("<IIII", prog, ifindex, TCX_INGRESS, 0))
    print("attached", flush=True)
    signal.pause()


main()
