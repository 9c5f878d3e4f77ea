#!/usr/bin/python3
"""
Nobody listens on a port that connections of ours still have: a client's own, and one whose listener was closed. Whoever
connects there is refused at once, as by the kernel, whatever keeps the kernel silent on that port meanwhile.

refused.py [--native]
"""
import socket
import subprocess
import sys

from lab import CLIENT_IP, Lab, LabError, SERVER_IP, tally

PORT, PEER = 7004, 7005
PATIENCE = 20  # ends what hangs
PROGRAM = """
import socket, sys
s = socket.create_server(("", %d))
c = socket.create_connection(("%s", %d), %d)
print(c.getsockname()[1], flush=True)
a = s.accept()[0]
s.close()
print("closed", flush=True)
sys.stdin.readline()
""" % (PORT, CLIENT_IP, PEER, PATIENCE)


def says_of(lab, port):
    try:
        lab.client.connect(SERVER_IP, port, PATIENCE)
    except OSError as e:
        return type(e).__name__
    return "connected"


def row(classifier):
    """What is wrong: '' or a sentence."""
    with Lab() as lab:
        peer = lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
        peer.bind((CLIENT_IP, PEER))
        peer.listen()
        peer.settimeout(PATIENCE)
        p = lab.server.spawn([sys.executable, "-c", PROGRAM], finesse=bool(classifier),
                             settings=("--classifier", classifier), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        conns = [peer.accept()[0], None]
        own = int(p.stdout.readline())
        lab.server.wait_listening(p, PORT, finesse=bool(classifier))
        conns[1] = lab.client.connect(SERVER_IP, PORT, PATIENCE)
        if p.stdout.readline() != b"closed\n":
            raise LabError("the program did not close its listener")
        if classifier and lab.server.opens() != (0, 0):
            raise LabError("the connections are the kernel's")
        said = {"a client's port": says_of(lab, own), "a closed listener's": says_of(lab, PORT)}
    return ", ".join("%s: %s" % (k, v) for k, v in said.items() if v != "ConnectionRefusedError")


def main(argv):
    ways, failed = [""] if "--native" in argv else ["ebpf", "nftables", "socket"], 0
    for way in ways:
        said = row(way)
        failed += bool(said)
        print("%s: %s%s" % ("FAILED" if said else "ok", way or "kernel", ": " + said if said else ""), flush=True)
    return tally(len(ways), failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
