#!/usr/bin/python3
"""IP_PKTOPTIONS and IPV6_2292PKTOPTIONS: what a socket tells of the packets that it got. One program, natively and under finesse: it must see the same of the same peer."""
import socket
import subprocess
import sys

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from lab import CLIENT_IP, Lab, LabError, SERVER_IP, compare_lines, finesse_command  # noqa: E402

END = [sys.executable, str(Path(__file__).resolve().parent / "packet_options_end.py")]
PORT, PEER_PORT = 7304, 7305
SERVER_IP6, CLIENT_IP6 = "fd77::1", "fd77::2"


def shape(sock, ttl, tos):
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)


def run(lab, finesse, bound, address, peer):
    """The program is bound to `bound`; its peer finds it at `address`, and is itself at `peer`."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    before = lab.server.opens()
    to = peer if ":" in peer or ":" not in bound else "::ffff:" + peer
    with lab.client.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shape(listener, 81, 0x28)
        listener.bind((peer, PEER_PORT))
        listener.listen(1)
        listener.settimeout(10)
        p = lab.server.spawn(END + [bound, str(PORT), to, str(PEER_PORT)], finesse=finesse, settings=["--strict"], stdout=subprocess.PIPE)
        out, c, connects = [], None, 0
        for line in iter(p.stdout.readline, b""):
            if line == b"connect\n":
                c = lab.client.socket(family)
                c.settimeout(10)
                shape(c, 77, 0x48)
                c.connect((address, PORT))
                connects += 1
            elif line == b"send\n":
                if connects == 2 and any('"connected"' in o for o in out):
                    c = listener.accept()[0]
                shape(c, 55, 0x88)
                c.send(b"x")
            else:
                out.append(line.decode().strip())
    if p.wait(timeout=20):
        raise LabError("the program ended with status %d: %s" % (p.returncode, out))
    if finesse and finesse_command() and lab.server.opens() != before:
        raise LabError("the kernel carried it")
    return out


def everything(finesse):
    with Lab() as lab:
        for host, own in ((lab.server, SERVER_IP6), (lab.client, CLIENT_IP6)):
            host.add_address(own)
            host.run(["sysctl", "-qw", "net.ipv4.tcp_ecn=2", "net.ipv6.auto_flowlabels=0"])
        return (run(lab, finesse, SERVER_IP, SERVER_IP, CLIENT_IP) + run(lab, finesse, SERVER_IP6, SERVER_IP6, CLIENT_IP6)
                + run(lab, finesse, "::", SERVER_IP, CLIENT_IP))


sys.exit(compare_lines(everything))
