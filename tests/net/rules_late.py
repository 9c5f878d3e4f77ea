#!/usr/bin/python3
"""Rules that come while a server is served that had no privilege when its engine came up. It may not hear of rules, so the broker tells it; what they drop is dropped on a live connection, too. IPsec policies are rules as well.
Of the first table of legacy iptables, and of a program that chooses the socket of a SYN (sk_lookup) or sits at a hook of netfilter, nobody hears; so that is tried with a server that kept its privilege, too.

rules_late.py: one row for each set-up of rules at the beginning, and what comes later.
"""
import ctypes
import errno
import os
import signal
import socket
import struct
import sys
import time

from judged_rules import BPF_LINK_CREATE, BPF_PROG_LOAD, bpf
from lab import Lab, LabError, SERVER_IP, tally
from sources import MARK, mac_of, syn

PORT = 7002
SERVER = """
import os, socket, sys
if sys.argv[1] == "dropped":
    os.setgid(65534); os.setuid(65534)
s = socket.create_server(("", %d))
c, _ = s.accept()
while data := c.recv(100):
    c.sendall(data)
""" % PORT
SERVER_OF_MANY = SERVER[:SERVER.index("c, _")] + "while True:\n    s.accept()[0].close()\n"
SERVER_THAT_DROPS = """
import os, socket
s = socket.create_server(("", %d))
os.setgroups([]); os.setgid(65534); os.setuid(65534)
while True:
    s.accept()[0].close()
""" % PORT
BOUND = 20  # seconds
BAN = "add table ip late; add chain ip late in { type filter hook input priority 0; }; add rule ip late in tcp dport %d drop" % PORT
BLOCK = "ip xfrm policy add src 0.0.0.0/0 dst %s/32 proto tcp dport %d dir in action block" % (SERVER_IP, PORT)
HARMLESS = "add table ip other; add chain ip other in { type filter hook input priority 0; }; add rule ip other in udp dport 53 accept"
LEGACY = "iptables-legacy -w -A INPUT -p tcp --dport %d -j DROP" % PORT
LEGACY_OTHER = "iptables-legacy -w -t raw -A PREROUTING -p udp --dport 53 -j DROP"
SK_LOOKUP, AT_SK_LOOKUP = 30, 36  # BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP
NETFILTER, AT_NETFILTER = 32, 45  # BPF_PROG_TYPE_NETFILTER, BPF_NETFILTER: Linux 6.4
REFUSES = bytes.fromhex("b700000000000000" "9500000000000000")  # r0 = SK_DROP; exit


def refuse_lookups(lab):
    """The descriptor of a program that finds no socket for any SYN."""
    text, gpl = ctypes.create_string_buffer(REFUSES), ctypes.create_string_buffer(b"GPL")
    prog = bpf(BPF_PROG_LOAD, struct.pack("<IIQQIIQII16sII", SK_LOOKUP, len(REFUSES) // 8, ctypes.addressof(text), ctypes.addressof(gpl), 0, 0, 0, 0, 0, b"refuses", 0, AT_SK_LOOKUP))
    namespace = os.open("/proc/%d/ns/net" % lab.server.holder.pid, os.O_RDONLY)
    try:
        return bpf(BPF_LINK_CREATE, struct.pack("<IIII", prog, namespace, AT_SK_LOOKUP, 0))
    finally:
        os.close(prog)
        os.close(namespace)


def drop_at_hook(lab):
    """The descriptor of a program at netfilter's input hook that drops everything (r0 = NF_DROP is 0, too)."""
    text, gpl = ctypes.create_string_buffer(REFUSES), ctypes.create_string_buffer(b"GPL")
    prog = bpf(BPF_PROG_LOAD, struct.pack("<IIQQIIQII16sII", NETFILTER, len(REFUSES) // 8, ctypes.addressof(text), ctypes.addressof(gpl), 0, 0, 0, 0, 0, b"drops", 0, AT_NETFILTER))
    try:
        with lab.server.inside():
            return bpf(BPF_LINK_CREATE, struct.pack("<IIIIIIiI", prog, 0, AT_NETFILTER, 0, socket.AF_INET, 1, -4321, 0))
    finally:
        os.close(prog)


OF_OTHERS = "add table ip late; add chain ip late in { type filter hook input priority 0; }; insert rule ip late in tcp sport 9 tcp dport %d drop" % PORT
OPENED = "add table ip late; add chain ip late in { type filter hook input priority 0; policy drop; }; add rule ip late in tcp dport %d accept" % PORT


def counter(document, name):
    """Of `finesse stat --json`, wherever it stands; 0: it is not told."""
    if isinstance(document, dict):
        return document[name] if isinstance(document.get(name), int) else sum(counter(v, name) for v in document.values())
    return sum(counter(v, name) for v in document) if isinstance(document, list) else 0


def answer(sniffer, sport):
    """The next segment to that port: its flags and sequence number."""
    while True:
        frame = sniffer.recv(2000)
        if frame[12:14] == b"\x08\x00" and frame[23] == 6 and frame[34:38] == struct.pack("!HH", PORT, sport):
            return frame[47], struct.unpack("!I", frame[38:42])[0]


def cookie_row(lab, before):
    """A cookie is out when rules come by which the host has to be asked."""
    lab.server.run(["sh", "-c", "echo 2 >/proc/sys/net/ipv4/tcp_syncookies; ip neigh replace %s lladdr %s dev server0 nud permanent" % (MARK, mac_of(lab.client))])
    if before:
        lab.server.run(["nft", before])
    server = lab.server.spawn([sys.executable, "-c", SERVER_OF_MANY, "kept"], finesse=True)
    lab.server.wait_listening(server, PORT, finesse=True)
    wire = lab.client.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.bind(("client0", 3))
    wire.settimeout(BOUND)
    macs = b"".join(bytes.fromhex(mac_of(h).replace(":", "")) for h in (lab.server, lab.client))
    wire.send(syn(macs, MARK, SERVER_IP, 20000, PORT))
    flags, seq = answer(wire, 20000)
    if flags & 0x17 != 0x12 or counter(lab.server.stat(server.pid), "SyncookiesSent") != 1:
        return "no cookie was sent"
    lab.server.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/tcp_syncookies"])  # who comes now gets none
    is_served(lab)
    sent = counter(lab.server.stat(server.pid), "SyncookiesSent")
    while is_served(lab) and sent != counter(lab.server.stat(server.pid), "SyncookiesSent"):
        sent = counter(lab.server.stat(server.pid), "SyncookiesSent")
    lab.server.run(["nft", OF_OTHERS])
    end = time.monotonic() + BOUND
    while not judged(lab, server):
        if time.monotonic() > end:
            return "the rules were not noticed in %d s" % BOUND
    wire.send(syn(macs, MARK, SERVER_IP, 20000, PORT, 0x10, seq=1001, ack=seq + 1 & 0xffffffff))
    flags, _ = answer(wire, 20000)
    return None if not flags & 4 else "reset"


def judged(lab, server):
    """Has somebody who connects now been judged? One by one: whoever comes first may still find the old rules."""
    before = counter(lab.server.stat(server.pid), "Judged")
    is_served(lab)
    return counter(lab.server.stat(server.pid), "Judged") > before


def is_served(lab):
    """A new connection."""
    with lab.client.socket(socket.AF_INET, socket.SOCK_STREAM) as c:
        c.settimeout(BOUND)
        try:
            c.connect((SERVER_IP, PORT))
        except ConnectionRefusedError:
            return False
        except ConnectionResetError:
            pass  # it was answered
        return True


def comes_through(lab):
    """A new connection. A SYN that the engine drops while the listener becomes the kernel's comes again after a second; one more is not waited for."""
    with lab.client.socket(socket.AF_INET, socket.SOCK_STREAM) as c:
        c.settimeout(1.5)
        try:
            c.connect((SERVER_IP, PORT))
        except TimeoutError:
            return False
        return True


def hook_row(lab, who):
    server = lab.server.spawn([sys.executable, "-c", SERVER_OF_MANY, who], finesse=True)
    lab.server.wait_listening(server, PORT, finesse=True)
    opens = lab.server.opens()[1]
    if not is_served(lab) or lab.server.opens()[1] != opens:
        return "the kernel carries it from the beginning"
    try:
        link = drop_at_hook(lab)
    except OSError as e:
        return None if e.errno in (errno.EINVAL, errno.EPERM) else str(e)
    try:
        end = time.monotonic() + BOUND
        while comes_through(lab):
            if time.monotonic() > end:
                return "the program was not noticed in %d s" % BOUND
    finally:
        os.close(link)
    end = time.monotonic() + BOUND
    while not comes_through(lab):
        if time.monotonic() > end:
            return "refused when the program is gone"
    return None


def lookup_row(lab, who):
    server = lab.server.spawn([sys.executable, "-c", SERVER_OF_MANY, who], finesse=True)
    lab.server.wait_listening(server, PORT, finesse=True)
    opens = lab.server.opens()[1]
    if not is_served(lab) or lab.server.opens()[1] != opens:
        return "the kernel carries it from the beginning"
    link = refuse_lookups(lab)
    try:
        end = time.monotonic() + BOUND
        while is_served(lab):
            if time.monotonic() > end:
                return "the program was not noticed in %d s" % BOUND
    finally:
        os.close(link)
    end = time.monotonic() + BOUND
    while not is_served(lab):  # the kernel lets it go when it has time
        if time.monotonic() > end:
            return "refused when the program is gone"
    return None


def broker_of(host):
    """By its name and network namespace."""
    netns = os.readlink("/proc/%d/ns/net" % host.holder.pid)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/comm" % pid) as comm:
                if comm.read() == "finesse-broker\n" and os.readlink("/proc/%s/ns/net" % pid) == netns:
                    return int(pid)
        except OSError:
            pass  # it has ended
    raise LabError("there is no broker")


def hung_broker_row(lab):
    """Who has dropped its privilege hears of rules, and the broker that shall read them hangs: until the engine gives up, the host is asked about everybody."""
    lab.server.run(["nft", OPENED])
    server = lab.server.spawn([sys.executable, "-c", SERVER_THAT_DROPS], finesse=True)
    lab.server.wait_listening(server, PORT, finesse=True)
    is_served(lab)
    if not is_served(lab) or counter(lab.server.stat(server.pid), "Accepted") != 2 or counter(lab.server.stat(server.pid), "Judged"):
        return "the port was not open to all"
    broker = broker_of(lab.server)
    os.kill(broker, signal.SIGSTOP)
    try:
        lab.server.run(["nft", OF_OTHERS])
        end = time.monotonic() + BOUND
        while not judged(lab, server):
            if time.monotonic() > end or lab.server.stat(server.pid).get("firewall") == "unknown":
                return "whoever came was let in by the old rules"
    finally:
        os.kill(broker, signal.SIGCONT)
    return None


def echoed(c, wait):
    c.sendall(b"x")
    c.settimeout(wait)
    try:
        return c.recv(100)
    except TimeoutError:
        return b""


def is_answered(c, token, wait):
    """Whether `token` comes back. What was sent before may come late."""
    c.sendall(token)
    end, came = time.monotonic() + wait, b""
    while token not in came:
        left = end - time.monotonic()
        if left <= 0:
            return False
        c.settimeout(left)
        try:
            data = c.recv(100)
        except TimeoutError:
            return False
        if not data:
            return False
        came += data
    return True


def is_kernels(lab):
    return bool(lab.server.text(["ss", "-Htn", "state", "established", "sport = :%d" % PORT]).strip())


def row(lab, who, before, late):
    if before:
        lab.server.run(before if isinstance(before, list) else ["nft", before])
    server = lab.server.spawn([sys.executable, "-c", SERVER, who], finesse=True)
    lab.server.wait_listening(server, PORT, finesse=True)
    with lab.client.socket(socket.AF_INET, socket.SOCK_STREAM) as c:
        c.settimeout(BOUND)
        c.connect((SERVER_IP, PORT))
        for _ in range(3):
            if not echoed(c, BOUND):
                return "nothing came back before the rule"
        if is_kernels(lab):
            return "the kernel carries it from the beginning"
        lab.server.run(late)
        end = time.monotonic() + BOUND
        while not is_kernels(lab):
            if time.monotonic() > end:
                return "the rule was not noticed in %d s" % BOUND
            echoed(c, 0.05)
        if is_answered(c, b"late", 0.7):
            return "answered in spite of the rule"
    return None


def main():
    failed = 0
    rows = [(name + ", " + who, lambda lab, who=who, before=before, late=late: row(lab, who, before, late)) for name, whose, before, late in (
        ("no rules", ("dropped",), None, ["nft", BAN]),
        ("rules that concern nobody", ("dropped",), HARMLESS, ["nft", BAN]),
        ("an IPsec policy", ("dropped",), None, BLOCK.split()),
        ("an IPsec policy beside rules that concern nobody", ("dropped",), HARMLESS, BLOCK.split()),
        ("the first legacy table", ("kept", "dropped"), None, LEGACY.split()),
        ("the first legacy table beside nftables' rules that concern nobody", ("kept",), HARMLESS, LEGACY.split()),
        ("the first legacy table beside nftables' rules that open the port", ("kept",), OPENED, LEGACY.split()),
        ("another legacy table", ("kept", "dropped"), LEGACY_OTHER.split(), LEGACY.split()),
    ) for who in whose]
    rows += [("a program that chooses the socket, " + who, lambda lab, who=who: lookup_row(lab, who)) for who in ("kept", "dropped")]
    rows += [("a program at a hook of netfilter, " + who, lambda lab, who=who: hook_row(lab, who)) for who in ("kept", "dropped")]
    rows += [("a cookie, and then rules, " + name, lambda lab, before=before: cookie_row(lab, before)) for name, before in (("none before", None), ("an open port before", OPENED))]
    rows.append(("rules that nobody can read in time", hung_broker_row))
    for name, play in rows:
        try:
            with Lab() as lab:
                said = play(lab)
        except (LabError, OSError) as e:
            said = str(e)
        failed += said is not None
        print("FAILED: %s: %s" % (name, said) if said else "ok: " + name, flush=True)
    return tally(len(rows), failed)


if __name__ == "__main__":
    sys.exit(main())
