#!/usr/bin/python3
"""Runs in the client's network: three connections by each of two processes, and which of the SYNs and SYN-ACKs carried the option of close requests (kind 253).

peers.py INTERFACE SERVER NATIVE-PORT FINESSE-PORT FINESSE-COMMAND...
"""
import select
import socket
import subprocess
import sys

CLIENT = """
import socket, sys
for i in range(3):
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
    s.sendall(b"x")
    while s.recv(100): pass
    s.close()
"""


def has_option(tcp):
    options = tcp[20:(tcp[12] >> 4) * 4]
    while options and options[0]:
        if options[0] == 253:
            return True
        options = options[1:] if options[0] == 1 else options[options[1]:]
    return False


def syns(watch, port):
    """For each handshake's segments, in order: `S` a SYN, `A` a SYN-ACK; a + behind where it had the option."""
    words = ""
    while select.select([watch], [], [], 0.2)[0]:
        frame = watch.recv(2048)
        if frame[12:14] != b"\x08\x00" or frame[23] != 6:
            continue
        tcp = frame[14 + (frame[14] & 15) * 4:]
        if port in (int.from_bytes(tcp[0:2], "big"), int.from_bytes(tcp[2:4], "big")) and tcp[13] & 2:
            words += ("A" if tcp[13] & 16 else "S") + ("+" if has_option(tcp) else "")
    return words


def main():
    interface, server, native, finesse = sys.argv[1:5]
    watch = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    watch.bind((interface, 3))
    for port in native, native, finesse, finesse:
        subprocess.run(sys.argv[5:] + ["/usr/bin/python3", "-c", CLIENT, server, port], check=True, timeout=30)
        print(syns(watch, int(port)), flush=True)


main()
