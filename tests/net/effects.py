#!/usr/bin/python3
"""What calls and options do, seen from the program and from its peer: effects_end.py, natively and under finesse, line by line.

Each of its functions is one program. The peer is this process, on the kernel's TCP.
"""
import errno
import json
import select
import socket
import subprocess
import sys
import threading

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from lab import CLIENT_IP, Lab, LabError, SERVER_IP, compare_lines, finesse_command  # noqa: E402

END = [sys.executable, str(Path(__file__).resolve().parent / "effects_end.py")]
SERVER_IP6, CLIENT_IP6 = "fd77::1", "fd77::2"
BY_ENGINE = ["own_table", "own_table_by_close_range", "namespace_of_thread", "maxseg", "v6only", "no_fin_wait_2",
             "bind_beside_accepted", "bind_beside_accepted_dual", "bind_beside_time_wait", "bind_beside_client", "threads_of_a_port",
             "icmp_in_syn_sent", "nobody_in_syn_sent", "route_says_no", "icmp_while_established", "icmp_of_accepted", "protocol_names", "neighbour_comes_back", "flow_label"]
BY_KERNEL = ["option_siblings", "option_handover", "mapped_handover", "threads_part", "port_program", "port_shared_with_kernel"]  # in the end


class Peer:
    """The last connection is what is asked about; all stay open until the program ends."""

    def __init__(self, host):
        self.host, self.sockets, self.dropped = host, [], None

    def keep(self, s):
        s.settimeout(60)
        self.sockets.append(s)
        return s

    def connect(self, address, port):
        self.keep(self.host.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)).connect((address, port))

    def listen(self):
        s = self.keep(self.host.socket())
        s.bind((CLIENT_IP, 0))
        s.listen(1)
        return s.getsockname()[1]

    def listen_at(self, address):
        """… which this host has from now on."""
        self.host.add_address(address)
        s = self.keep(self.host.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
        s.bind((address, 0))
        s.listen(1)
        return s.getsockname()[1]

    def leave(self, address):
        self.sockets.pop().close()
        self.host.run(["ip", "address", "del", address + ("/64" if ":" in address else "/16"), "dev", self.host.interface])

    def accept(self):
        self.keep(self.sockets[-1].accept()[0])

    def recv(self, n):
        return self.sockets[-1].recv(n).decode()

    def send(self, text):
        return self.sockets[-1].send(text.encode())

    def shut(self):
        self.sockets[-1].shutdown(socket.SHUT_WR)

    def drop(self, v6, port=9):
        """What comes for this port stays without an answer, and the first packet is remembered: icmp() quotes it. None: no more."""
        if port != self.dropped:
            self.host.run(["sh", "-c", "nft delete table inet effects 2>/dev/null; true"])
        if port and port != self.dropped:
            self.host.run(["nft", "table inet effects { chain input { type filter hook input priority 0; tcp dport %d drop; }; }" % port])
        self.dropped = port
        if not port:
            return 0
        self.watch = self.host.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86dd if v6 else 0x800))
        self.watch.settimeout(60)
        self.watch.bind((self.host.interface, 0x86dd if v6 else 0x800))
        self.watched = (v6, port)
        return port

    def labels(self, n):
        """Of the next packets with text, n of them, which nobody answers: is there a flow label, and is it the one before's?"""
        v6, port = self.watched
        seen = []
        while len(seen) < n:
            packet = self.watch.recv(2000)[14:]
            text = int.from_bytes(packet[4:6], "big") - (packet[52] >> 4) * 4
            if packet[6] == 6 and int.from_bytes(packet[42:44], "big") == port and text > 0:
                seen.append(int.from_bytes(packet[:4], "big") & 0xfffff)
        return ["none" if not b else "first" if a is None else "same" if a == b else "other" for a, b in zip([None] + seen, seen)]

    def icmp(self, kind, code, word=0, quoted=None):
        """An error about it, from this host: of its TCP header `quoted` bytes."""
        v6, port = self.watched
        header = 40 if v6 else 20
        while True:
            packet = self.watch.recv(2000)[14:]
            if packet[6 if v6 else 9] == 6 and int.from_bytes(packet[header + 2:header + 4], "big") == port and packet[header + 13] & 0x0a:
                break
        end = header + int.from_bytes(packet[4:6], "big") if v6 else int.from_bytes(packet[2:4], "big")
        message = bytes([kind, code, 0, 0]) + word.to_bytes(4, "big") + packet[:end if quoted is None else header + quoted]
        if not v6:
            total = sum(int.from_bytes(message[i:i + 2].ljust(2, b"\0"), "big") for i in range(0, len(message), 2))
            total = (total & 0xffff) + (total >> 16)
            total = ~((total & 0xffff) + (total >> 16)) & 0xffff
            message = message[:2] + total.to_bytes(2, "big") + message[4:]
        family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if v6 else (socket.AF_INET, socket.IPPROTO_ICMP)
        with self.host.socket(family, socket.SOCK_RAW, protocol) as s:
            s.sendto(message, (SERVER_IP6 if v6 else SERVER_IP, 0))

    def reset(self):
        """The error of a reset that comes by itself."""
        p = select.poll()
        p.register(self.sockets[-1], 0)
        if not p.poll(60000):
            return "none"
        return errno.errorcode.get(self.sockets[-1].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "no error")

    def close(self):
        for s in self.sockets:
            s.close()


def program(lab, name, finesse):
    peer, out = Peer(lab.client), []
    before = lab.server.opens()
    p = lab.server.spawn(END + [name, CLIENT_IP, SERVER_IP, SERVER_IP6, CLIENT_IP6], finesse=finesse, settings=["--strict"] if name in BY_ENGINE else [],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    timer = threading.Timer(500, p.kill)  # whoever hangs differs
    timer.start()
    for line in iter(p.stdout.readline, b""):
        if not line.startswith(b"?"):
            out.append(line.decode().strip())
            continue
        verb, *args = json.loads(line[1:])
        p.stdin.write(json.dumps(getattr(peer, verb)(*args)).encode() + b"\n")
        p.stdin.flush()
    status = p.wait(timeout=20)
    timer.cancel()
    peer.close()
    out.append("%s ended with %d" % (name, status))
    if finesse and finesse_command() and name in BY_ENGINE and lab.server.opens() != before:
        raise LabError("%s: the kernel carried it" % name)
    return out


def everything(finesse):
    with Lab() as lab:
        for host, own in ((lab.server, SERVER_IP6), (lab.client, CLIENT_IP6)):
            host.add_address(own)
        return [line for name in BY_ENGINE + BY_KERNEL for line in program(lab, name, finesse)]


sys.exit(compare_lines(everything))
