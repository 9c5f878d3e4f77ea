#!/usr/bin/python3
"""The engine has a TIME-WAIT when its listener becomes the kernel's. The client's next connection by the same port is the kernel's, and nobody refuses it."""
import subprocess
import sys

from lab import Lab, LabError, SERVER_IP, read_all

PORT, CLIENT_PORT = 8000, 40000
PATIENCE = 30  # ends what hangs; shorter than TIME-WAIT
SERVER = """
import ctypes, os, socket, struct, sys
s = socket.create_server(("", %d))
s.accept()[0].close()
sys.stdin.readline()
code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0xFFFFFFFF))  # all may come: but a filter of the program's is the kernel's to run
s.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", 1, ctypes.addressof(code)))  # SO_ATTACH_FILTER
print("kernel", flush=True)
c, _ = s.accept()
c.sendall(b"again")
c.close()
sys.stdin.readline()
""" % PORT


def main(finesse=True):
    with Lab() as lab:
        p = lab.server.spawn([sys.executable, "-c", SERVER], finesse=finesse, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        lab.server.wait_listening(p, PORT, finesse=finesse)
        if read_all(lab.client.connect(SERVER_IP, PORT, PATIENCE, CLIENT_PORT)):
            raise LabError("the first connection says something")
        if finesse and lab.server.stat(p.pid).get("time_wait") != 1:
            raise LabError("the engine has no TIME-WAIT")
        p.stdin.write(b"\n")
        p.stdin.flush()
        if p.stdout.readline() != b"kernel\n":
            raise LabError("the filter was refused")
        got = read_all(lab.client.connect(SERVER_IP, PORT, PATIENCE, CLIENT_PORT))
        if got != b"again":
            raise LabError("the second connection says %r" % got)
        print("ok: the same port connects again")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] != ["--native"]))
