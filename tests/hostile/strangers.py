#!/usr/bin/env python3
"""What strangers see and cost: frames with forged addresses against a server under finesse, without a connection of theirs."""
import json
import os
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "net"))
from lab import Checks, Lab, LabError, finesse_command, CLIENT_IP, SERVER_IP  # noqa: E402

SYN, RST, ACK = 2, 4, 16

PATIENCE = 20  # seconds, for what must come

check = Checks()


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    s = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff


def frame(macs, src, dst, sport, dport, seq, ack, flags, window=1000, payload=b""):
    src, dst = socket.inet_aton(src), socket.inet_aton(dst)
    tcp = struct.pack("!HHIIBBHHH", sport, dport, seq & 0xffffffff, ack & 0xffffffff, 5 << 4, flags, window, 0, 0) + payload
    pseudo = src + dst + struct.pack("!BBH", 0, 6, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 1, 0x4000, 64, 6, 0, src, dst)
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return macs[0] + macs[1] + b"\x08\x00" + ip + tcp


def mac(host):
    link = json.loads(host.text(["ip", "-json", "link", "show", host.interface]))[0]
    return bytes.fromhex(link["address"].replace(":", ""))


class Raw:
    """A packet socket in a host's namespace."""

    def __init__(self, host):
        self.s = host.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self.s.bind((host.interface, 0x0800))

    def first(self, wanted):
        """The first segment that is wanted."""
        for segment in self.segments(PATIENCE):
            if wanted(*segment):
                return segment
        raise LabError("a segment that was to come did not")

    def send(self, f):
        self.s.send(f)

    def received(self, seconds):
        return (s[:4] for s in self.segments(seconds))

    def segments(self, seconds):
        """(source port, destination address, destination port, flags, seq) of the TCP segments that come within `seconds`."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.s.settimeout(left)
            try:
                f = self.s.recv(2000)
            except socket.timeout:
                return
            if f[23] == 6 and f[14] == 0x45:
                sport, dport = struct.unpack("!HH", f[34:38])
                yield sport, socket.inet_ntoa(f[30:34]), dport, f[47], struct.unpack("!I", f[38:42])[0]


LISTENER = """
import socket, sys, time
s = socket.socket(); s.bind(("0.0.0.0", 8000)); s.listen(int(sys.argv[1]))
while True:
    c, _ = s.accept()
    c.close()
"""


def answers_do_not_tell(lab):
    """An off-path attacker forges a victim's segments and counts how many answers are left for his own."""
    p = lab.server.spawn(["/usr/bin/python3", "-c", LISTENER, 64], finesse=True)
    lab.server.wait_listening(p, 8000, finesse=True)
    raw, macs = Raw(lab.client), (mac(lab.server), mac(lab.client))
    for i in range(400):
        raw.send(frame(macs, "10.77.200.7", SERVER_IP, 1000 + i, 8000, 1, 1, ACK))
    for i in range(20):
        raw.send(frame(macs, CLIENT_IP, SERVER_IP, 2000 + i, 8000, 1, 1, ACK))
    mine = 0
    for sport, to, port, flags in raw.received(PATIENCE):
        mine += sport == 8000 and to == CLIENT_IP and 2000 <= port < 2020 and bool(flags & RST)
        if mine == 20:
            break
    check(mine == 20, "after 400 forged segments of a victim the attacker got %d of his 20 resets" % mine)
    entries = lab.server.text(["ip", "neigh", "show"]).count("10.77.200.7")
    check(entries == 0, "and no neighbour was asked for")
    p.kill()
    p.wait()


def icmp_unreachable(macs, src, dst, code, quoted, icmp_type=3):
    """From src to dst about a packet of dst's: `quoted` is (source port, destination, destination port, sequence number)."""
    sport, to, dport, seq = quoted
    quote = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 60, 1, 0x4000, 64, 6, 0, socket.inet_aton(dst), socket.inet_aton(to))
    quote += struct.pack("!HHI", sport, dport, seq)
    icmp = struct.pack("!BBHI", icmp_type, code, 0, 0) + quote
    icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 1, 0, 64, 1, 0, socket.inet_aton(src), socket.inet_aton(dst))
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return macs[0] + macs[1] + b"\x08\x00" + ip + icmp


def neighbour(lab, address="10.77.200.7"):
    """An address that nobody has, behind the client's interface."""
    lab.server.run(["ip", "neigh", "replace", address, "lladdr", ":".join("%02x" % b for b in mac(lab.client)), "dev", lab.server.interface])


def half_open(lab, p):
    if finesse_command():
        return lab.server.stat(p.pid)["listeners"][0]["syn_queue"]
    return len(lab.server.text(["ss", "-Htan", "state", "syn-recv"]).splitlines())


def wait_until(condition):
    """… or long enough: the check that follows says what is missing."""
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


def pass_by(raw, macs, port):
    """Until the server has seen what was sent before: an answer to what comes after it."""
    raw.send(frame(macs, CLIENT_IP, SERVER_IP, port, 8000, 1, 1, ACK))
    raw.first(lambda sport, to, dport, flags, seq: to == CLIENT_IP and dport == port and flags & RST)
    time.sleep(0.05)


def unreachable_half_open(lab):
    """What ICMP says of a SYN-ACK: Linux forgets the request when no way leads to the peer, and nothing else."""
    neighbour(lab)
    p = lab.server.spawn(["/usr/bin/python3", "-c", LISTENER, 64], finesse=True)
    lab.server.wait_listening(p, 8000, finesse=True)
    raw, macs = Raw(lab.client), (mac(lab.server), mac(lab.client))
    for port, kind, code, goes in ((3001, 3, 1, True), (3002, 3, 0, True), (3003, 3, 3, False), (3004, 3, 13, False), (3005, 11, 0, True)):
        raw.send(frame(macs, "10.77.200.7", SERVER_IP, port, 8000, 5000, 0, SYN, 64000))
        seq = raw.first(lambda sport, to, dport, flags, s: flags & SYN and dport == port)[4]
        before = half_open(lab, p)
        raw.send(icmp_unreachable(macs, CLIENT_IP, SERVER_IP, code, (8000, "10.77.200.7", port, seq + 7), kind))  # another number: forged
        raw.send(frame(macs, "10.77.200.7", SERVER_IP, 3999, 8000, 1, 1, RST))
        pass_by(raw, macs, port)
        forged = half_open(lab, p)
        raw.send(icmp_unreachable(macs, CLIENT_IP, SERVER_IP, code, (8000, "10.77.200.7", port, seq), kind))
        pass_by(raw, macs, port + 100)
        if goes:
            wait_until(lambda: half_open(lab, p) < before)
        after = half_open(lab, p)
        check(forged == before and (after == before - 1) == goes and after >= before - 1,
              "type %d code %d of a SYN-ACK: %d half-open, forged %d, then %d" % (kind, code, before, forged, after))
    p.kill()
    p.wait()


ONE = """
import socket, sys, time
s = socket.socket(); s.bind(("0.0.0.0", 8000)); s.listen(0)
c, _ = s.accept()
c.close()
time.sleep(60)
"""


def time_wait_stays(lab):
    """A SYN that would take over a TIME-WAIT, but is not admitted, must leave it."""
    if not finesse_command():
        return
    neighbour(lab)
    p = lab.server.spawn(["/usr/bin/python3", "-c", ONE], finesse=True, settings=["--close-policy", "off"])
    lab.server.wait_listening(p, 8000, finesse=True)
    raw, macs, me = Raw(lab.client), (mac(lab.server), mac(lab.client)), "10.77.200.7"

    def say(port, seq, ack, flags):
        raw.send(frame(macs, me, SERVER_IP, port, 8000, seq, ack, flags, 64000))

    def hear(port, flag):
        return raw.first(lambda sport, to, dport, flags, s: dport == port and flags & flag)[4]

    say(4000, 5000, 0, SYN)
    iss = hear(4000, SYN)
    say(4000, 5001, iss + 1, ACK)
    fin = hear(4000, 1)
    say(4000, 5001, fin + 1, ACK | 1)
    wait_until(lambda: lab.server.stat(p.pid)["time_wait"] == 1)
    check(lab.server.stat(p.pid)["time_wait"] == 1, "the server, which closed first, has a TIME-WAIT")
    say(4001, 7000, 0, SYN)
    other = hear(4001, SYN)
    say(4001, 7001, other + 1, ACK)
    wait_until(lambda: len(lab.server.stat(p.pid)["connections"]) == 1)  # in the queue, which is full
    say(4000, 900000, 0, SYN)
    wait_until(lambda: lab.server.stat(p.pid)["counters"]["socket"]["ListenDrops"])
    now = lab.server.stat(p.pid)
    check(now["time_wait"] == 1 and now["counters"]["socket"]["ListenDrops"] >= 1,
          "a newer SYN that finds the accept queue full leaves it: %d, %d SYNs dropped" % (now["time_wait"], now["counters"]["socket"]["ListenDrops"]))
    p.kill()
    p.wait()


HOARDER = """
import os, socket, sys, threading, time
s = socket.socket(); s.bind(("0.0.0.0", 8000)); s.listen(256)
conns = []
def take():
    while True: conns.append(s.accept()[0])
threading.Thread(target=take, daemon=True).start()
sys.stdin.readline()
while len(conns) < int(sys.argv[1]): time.sleep(0.01)
total = 0
def drain(c):
    global total
    c.settimeout(60)
    while True:
        d = c.recv(65536)
        if not d: break
        total += len(d)
threads = [threading.Thread(target=drain, args=(c,)) for c in conns]
for t in threads: t.start()
for t in threads: t.join()
print(total, flush=True)
"""


def memory_of(lab, p):
    return lab.server.stat(p.pid)["memory"]


def far_bytes(lab, strangers=200):
    """Connections by hand from an address that nobody has: each sends one byte at its window's end."""
    neighbour(lab)
    p = lab.server.spawn(["/usr/bin/python3", "-c", HOARDER, strangers], finesse=True, stdin=subprocess.PIPE)
    lab.server.wait_listening(p, 8000, finesse=True)
    raw, macs = Raw(lab.client), (mac(lab.server), mac(lab.client))
    before = memory_of(lab, p)["in_use_bytes"]
    for i in range(strangers):
        raw.send(frame(macs, "10.77.200.7", SERVER_IP, 10000 + i, 8000, 5000, 0, SYN, 64000))
    opened = {}
    for sport, to, port, flags, seq in raw.segments(PATIENCE):
        if flags & SYN and to == "10.77.200.7" and port not in opened:
            opened[port] = seq + 1
            raw.send(frame(macs, to, SERVER_IP, port, 8000, 5001, seq + 1, ACK))
            raw.send(frame(macs, to, SERVER_IP, port, 8000, 5001 + 65000, seq + 1, ACK, payload=b"x"))
        if len(opened) == strangers:
            break
    wait_until(lambda: len(lab.server.stat(p.pid)["connections"]) == strangers)
    time.sleep(0.1)
    each = (memory_of(lab, p)["in_use_bytes"] - before) / strangers
    check(len(opened) == strangers and each < 8192, "a byte at the window's end of %d connections takes %d bytes each" % (len(opened), each))
    p.kill()
    p.wait()


def limit(lab, clients=48, size=512 << 10):
    """More unread data than memory: bounded, and when it is read all of it comes."""
    p = lab.server.spawn(["/usr/bin/python3", "-c", HOARDER, clients], finesse=True, settings=["--memory-limit", "8M"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    lab.server.wait_listening(p, 8000, finesse=True)
    senders = [lab.client.spawn(["/usr/bin/python3", "-c", "import socket, sys\nc = socket.create_connection((%r, 8000), 60)\n"
                                 "c.settimeout(200); c.sendall(bytes(%d)); c.close()" % (SERVER_IP, size)]) for _ in range(clients)]
    wait_until(lambda: len(lab.server.stat(p.pid)["connections"]) == clients)
    wait_until(lambda: memory_of(lab, p).get("pressure") is True)
    most = 0
    for _ in range(8):
        most = max(most, memory_of(lab, p)["in_use_bytes"])
        time.sleep(0.1)
    check(most <= 9 << 20, "%d unread connections take %.1f MiB of 8" % (clients, most / 2**20))
    check(lab.server.stat(p.pid)["memory"].get("pressure") is True, "and it is told that memory runs short")
    try:
        out, _ = p.communicate(b"\n", timeout=200)
    except subprocess.TimeoutExpired:
        out = b"-1"
    check(int(out or 0) == clients * size, "read, all of it comes: %d of %d bytes" % (int(out or 0), clients * size))
    for s in senders:
        s.kill()
        s.wait()
    p.kill()
    p.wait()


def main():
    if os.geteuid():
        print("skipped: needs root")
        return 77
    with Lab() as lab:
        answers_do_not_tell(lab)
        unreachable_half_open(lab)
        time_wait_stays(lab)
        far_bytes(lab)
        limit(lab)
    return check.tally()


if __name__ == "__main__":
    sys.exit(main())
