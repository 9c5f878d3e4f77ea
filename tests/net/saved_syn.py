#!/usr/bin/python3
"""TCP_SAVE_SYN and TCP_SAVED_SYN. One server, natively and under finesse: it must see the same of the SYNs of a kernel client."""
import socket
import subprocess
import sys

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from lab import Lab, LabError, SERVER_IP, compare_lines, finesse_command  # noqa: E402

END = [sys.executable, str(Path(__file__).resolve().parent / "saved_syn_end.py")]
PORT = 7303
SERVER_IP6, CLIENT_IP6 = "fd77::1", "fd77::2"


RULES = "add table inet t; add chain inet t i { type filter hook input priority 0; policy drop; }; " \
        "add rule inet t i ct state established accept; add rule inet t i tcp dport %d accept; add rule inet t i icmpv6 type 133-137 accept" % PORT


def server(lab, finesse, address, by_kernel=False):
    before = lab.server.opens()
    p = lab.server.spawn(END + [address, str(PORT)], finesse=finesse, settings=[] if by_kernel else ["--strict"], stdout=subprocess.PIPE)
    out, clients = [], []
    for line in iter(p.stdout.readline, b""):
        if line == b"connect\n":
            c = lab.client.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            c.settimeout(10)
            c.connect((address, PORT))
            clients.append(c)
        else:
            out.append(line.decode().strip())
    if p.wait(timeout=20):
        raise LabError("the server ended with status %d: %s" % (p.returncode, out))
    if finesse and finesse_command() and (lab.server.opens() != before) != by_kernel:
        raise LabError("the kernel %s" % ("did not carry it" if by_kernel else "carried it"))
    return out


def everything(finesse):
    with Lab() as lab:
        for host, own in ((lab.server, SERVER_IP6), (lab.client, CLIENT_IP6)):
            host.add_address(own)
            host.run(["sysctl", "-qw", "net.ipv4.tcp_ecn=2"])
        out = server(lab, finesse, SERVER_IP) + server(lab, finesse, SERVER_IP6)
        if finesse:  # the judge has no IP headers: the kernel serves, and the program sees the same
            lab.server.run(["nft", RULES])
            if server(lab, True, SERVER_IP, by_kernel=True) != out[:len(out) // 2]:
                raise LabError("behind a firewall it is not the same")
        return out


sys.exit(compare_lines(everything))
