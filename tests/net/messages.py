#!/usr/bin/python3
"""What recvmsg tells beside the bytes: zero-copy notices in the error queue, TCP_INQ; and which names TCP_CONGESTION takes. One client, natively and under finesse: it must see the same."""
import subprocess
import sys

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from lab import Lab, LabError, SERVER_IP, compare_lines, finesse_command  # noqa: E402

END = [sys.executable, str(Path(__file__).resolve().parent / "messages_end.py")]
PORT = 7301
ECHO = """
import socket, threading
s = socket.create_server(('%s', %d), backlog=64)
print('ready', flush=True)
def echo(c):
    got = b''.join(iter(lambda: c.recv(65536), b''))
    if got.startswith(b's'):
        c.sendall(got)
    c.close()
while True:
    threading.Thread(target=echo, args=(s.accept()[0],), daemon=True).start()
""" % (SERVER_IP, PORT)


LISTENER = '''
import json, socket, struct, sys, time
s = socket.create_server(('%s', %d), backlog=5)
def queue():
    return struct.unpack_from('=II', s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)
print(json.dumps(['a new listener', queue()]), flush=True)
end = time.monotonic() + 5
while queue()[0] < 2 and time.monotonic() < end:
    pass
two = queue()
s.accept()
print(json.dumps(['two wait, one was accepted', two, queue()]), flush=True)
sys.stdin.read()  # who waits is reset when this ends, be the client's connect over or not
''' % (SERVER_IP, PORT)


def listener(finesse):
    """TCP_INFO of a listener: how many wait for accept, and may."""
    with Lab() as lab:
        p = lab.server.spawn([sys.executable, "-c", LISTENER], finesse=finesse, settings=["--strict"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        first = p.stdout.readline().decode()
        clients = [lab.client.socket() for _ in range(2)]
        for c in clients:
            c.connect((SERVER_IP, PORT))
        said = [first.strip(), p.stdout.readline().decode().strip()]
        p.stdin.close()
        return said


def run(finesse):
    with Lab() as lab:
        p = lab.server.spawn([sys.executable, "-c", ECHO], stdout=subprocess.PIPE)
        if p.stdout.readline() != b"ready\n":
            raise LabError("the server did not start")
        lab.client.run(["sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno"])
        before = lab.client.opens()
        out = lab.client.text(END + [SERVER_IP, str(PORT)], finesse=finesse, settings=["--strict"]).splitlines()
        if finesse and finesse_command() and lab.client.opens() != before:
            raise LabError("the kernel carried it")
        return out


sys.exit(compare_lines(lambda finesse: run(finesse) + listener(finesse)))
