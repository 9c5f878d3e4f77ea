#!/usr/bin/python3
"""Time stamps (SO_TIMESTAMP*, SO_TIMESTAMPING with the error queue). One client, natively and under finesse: it must see the same."""
import socket
import subprocess
import sys

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from lab import Lab, LabError, SERVER_IP, compare_lines, finesse_command  # noqa: E402

END = [sys.executable, str(Path(__file__).resolve().parent / "stamps_end.py")]
PORT = 7302
SERVER_IP6, CLIENT_IP6 = "fd77::1", "fd77::2"
# Sends as many bytes as each line that comes says.
PEER = """
import socket, threading
s = socket.create_server(('', %d), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
s.setsockopt(socket.SOL_SOCKET, 29, 1)  # SO_TIMESTAMP: Linux notes times for all as long as anybody asks, and takes a moment to begin
print('ready', flush=True)
def serve(c):
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for line in c.makefile('rb'):
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        c.sendall(b'x' * int(line[-6:]))
    c.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
""" % PORT


def client(lab, finesse, address):
    before = lab.client.opens()
    out = lab.client.text(END + [address, str(PORT)], finesse=finesse, settings=["--strict"]).splitlines()
    if finesse and finesse_command() and lab.client.opens() != before:
        raise LabError("the kernel carried it")
    return out


def listener(lab, finesse, address):
    """Its clients are ours, by hand."""
    before = lab.server.opens()
    p = lab.server.spawn(END + ["listen", address, str(PORT + 1)], finesse=finesse, settings=["--strict"], stdout=subprocess.PIPE)
    out = [p.stdout.readline().decode().strip()]
    for _ in range(2):
        c = lab.client.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        c.settimeout(10)
        c.connect((address, PORT + 1))
        c.sendall(b"world")
        while c.recv(100):
            pass
        while not out[-1].startswith('["now'):
            out.append(p.stdout.readline().decode().strip())
            if not out[-1]:
                raise LabError("the listener has ended: %s" % out)
        out.append("")
    out += p.communicate(timeout=20)[0].decode().splitlines()
    if finesse and finesse_command() and lab.server.opens() != before:
        raise LabError("the kernel carried it")
    return out


def everything(finesse):
    with Lab() as lab:
        for host, own in ((lab.server, SERVER_IP6), (lab.client, CLIENT_IP6)):
            host.add_address(own)
        p = lab.server.spawn([sys.executable, "-c", PEER], stdout=subprocess.PIPE)
        if p.stdout.readline() != b"ready\n":
            raise LabError("the peer did not start")
        return [line for address in (SERVER_IP, SERVER_IP6) for call in (client, listener) for line in call(lab, finesse, address) if line]


sys.exit(compare_lines(everything))
