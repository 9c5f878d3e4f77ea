#!/usr/bin/python3
"""What options do to packets, and whom they keep out: each case natively and under finesse, told by a capture at the peer. The kernel is the oracle.

A case says, too, whether the engine carries it under finesse, or which option leaves the socket to the kernel ("finesse stat").
"""
import json
import os
import socket
import struct
import subprocess
import sys

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from lab import CLIENT_IP, Lab, LabError, SERVER_IP, tally  # noqa: E402

END = [sys.executable, str(Path(__file__).resolve().parent / "options_end.py")]
SERVER6, CLIENT6 = "fd77::1", "fd77::2"
SOL, IP, IPV6, TCP = socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.IPPROTO_TCP
IP_TOS, IP_TTL, IP_MTU_DISCOVER, IP_MINTTL, IP_UNICAST_IF = 1, 2, 10, 21, 50
V6_HOPS, V6_TCLASS, V6_MINHOPS = 16, 67, 73
SO_BINDTODEVICE, SO_ATTACH_FILTER, SO_MARK, SO_PRIORITY, SO_BINDTOIFINDEX = 25, 26, 36, 12, 62
TCP_DEFER_ACCEPT, TCP_MAXSEG, TCP_MD5SIG, TCP_FASTOPEN, SO_ZEROCOPY, IP_TRANSPARENT, IP_OPTIONS, IP_RECVERR = 9, 2, 14, 23, 60, 19, 4, 11
AT_ONCE = 4  # cases wait more than they compute
WAITS = (2, 8, 20)  # seconds for an answer; longer when the two differ, as on a busy machine either may be late


def number(level, name, value, length=4):
    return [level, name, value, length]


def device(name):
    return [SOL, SO_BINDTODEVICE, (name.encode() + b"\0").hex(), 0]


def md5_key(address, prefix=32):
    """struct tcp_md5sig for any peer of an address."""
    sockaddr = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(address)).ljust(128, b"\0")
    return [TCP, TCP_MD5SIG, (sockaddr + struct.pack("=BBHi", 0, prefix, 3, 0) + b"key".ljust(80, b"\0")).hex(), 0]


class Case:
    """`who` is under finesse and has the options `before`, `during` and `after` (connect; or listen, listen, accept); `peer` are the other end's before connect.
    The client waits for a greeting of the server, unless it speaks `first`."""

    def __init__(self, name, who, before, after=(), peer=(), during=(), kernels=None, v6=False, first=False):
        self.name, self.who, self.before, self.during, self.after, self.peer = name, who, list(before), list(during), list(after), list(peer)
        self.kernels, self.v6, self.first = kernels, v6, first


CASES = [
    Case("no option", "server", []),
    Case("no option", "client", []),
    Case("IP_TOS of a listener", "server", [number(IP, IP_TOS, 0x48)]),
    Case("IP_TOS keeps its ECN bits to itself", "server", [number(IP, IP_TOS, 0xFF)]),
    Case("IP_TOS in one byte, after accept", "server", [], [number(IP, IP_TOS, 0xB8, 1)]),
    Case("IP_TOS before connect", "client", [number(IP, IP_TOS, 0x10)]),
    Case("IP_TOS after connect", "client", [], [number(IP, IP_TOS, 0x20)]),
    Case("IP_TTL of a listener", "server", [number(IP, IP_TTL, 17)]),
    Case("IP_TTL of a listener, another after accept", "server", [number(IP, IP_TTL, 17)], [number(IP, IP_TTL, 33, 1)]),
    Case("IP_TTL before connect", "client", [number(IP, IP_TTL, 3)]),
    Case("IP_TTL back to the default", "client", [number(IP, IP_TTL, 3)], [number(IP, IP_TTL, -1)]),
    Case("IP_MTU_DISCOVER: no path MTU discovery", "client", [number(IP, IP_MTU_DISCOVER, 0)]),
    Case("IP_MTU_DISCOVER: probe", "client", [number(IP, IP_MTU_DISCOVER, 3)], kernels="IP_MTU_DISCOVER"),
    Case("IP_MINTTL keeps a far client out", "server", [number(IP, IP_MINTTL, 200)]),
    Case("IP_MINTTL lets a near client in", "server", [number(IP, IP_MINTTL, 200)], peer=[number(IP, IP_TTL, 255)]),
    Case("IP_MINTTL after accept", "server", [], [number(IP, IP_MINTTL, 255)]),
    Case("IP_MINTTL before connect", "client", [number(IP, IP_MINTTL, 65)]),
    Case("TCP_MAXSEG of a listener", "server", [number(TCP, TCP_MAXSEG, 700)]),
    Case("TCP_MAXSEG before connect", "client", [number(TCP, TCP_MAXSEG, 700)]),
    Case("TCP_DEFER_ACCEPT: not before the client speaks", "server", [number(TCP, TCP_DEFER_ACCEPT, 5)]),
    Case("TCP_DEFER_ACCEPT: the client speaks", "server", [number(TCP, TCP_DEFER_ACCEPT, 5)], first=True),
    Case("TCP_DEFER_ACCEPT: the time is over", "server", [number(TCP, TCP_DEFER_ACCEPT, 1)]),
    Case("IP_TTL that a child set", "server", [number(IP, IP_TTL, 17, "child")]),
    Case("IP_TTL that a child set", "client", [number(IP, IP_TTL, 17, "child")]),
    Case("SO_MARK that a child set", "server", [number(SOL, SO_MARK, 7, "child")], kernels="SO_MARK"),
    Case("IP_TTL after listen", "server", [], during=[number(IP, IP_TTL, 17)]),
    Case("IP_TTL while it connects", "client", [], during=[number(IP, IP_TTL, 255)], peer=[number(IP, IP_TOS, 8)]),
    Case("IP_MINTTL after listen", "server", [], during=[number(IP, IP_MINTTL, 200)]),
    Case("SO_BINDTODEVICE after listen", "server", [], during=[device("lo")], kernels="SO_BINDTODEVICE"),
    Case("TCP_MD5SIG after listen", "server", [], during=[md5_key(CLIENT_IP)], kernels="TCP_MD5SIG"),
    Case("SO_ATTACH_FILTER after listen", "server", [], during=[[SOL, SO_ATTACH_FILTER, "filter", 0]], kernels="SO_ATTACH_FILTER"),
    Case("SO_BINDTODEVICE: another device, listener", "server", [device("lo")], kernels="SO_BINDTODEVICE"),
    Case("SO_BINDTODEVICE: another device, connect", "client", [device("lo")], kernels="SO_BINDTODEVICE"),
    Case("SO_BINDTODEVICE: the engine's, listener", "server", [device("server0")]),
    Case("SO_BINDTODEVICE: the engine's, connect", "client", [device("client0")]),
    Case("SO_BINDTODEVICE: none", "server", [device("")]),
    Case("SO_BINDTOIFINDEX: another", "server", [number(SOL, SO_BINDTOIFINDEX, 1)], kernels="SO_BINDTOIFINDEX"),
    Case("IP_UNICAST_IF: another", "client", [number(IP, IP_UNICAST_IF, socket.htonl(1))], kernels="IP_UNICAST_IF"),
    Case("SO_ATTACH_FILTER drops all, listener", "server", [[SOL, SO_ATTACH_FILTER, "filter", 0]], kernels="SO_ATTACH_FILTER"),
    Case("SO_ATTACH_FILTER drops all, after accept", "server", [], [[SOL, SO_ATTACH_FILTER, "filter", 0]], kernels="SO_ATTACH_FILTER"),
    Case("SO_ATTACH_FILTER drops all, connect", "client", [[SOL, SO_ATTACH_FILTER, "filter", 0]], kernels="SO_ATTACH_FILTER"),
    Case("TCP_MD5SIG, a client without key", "server", [md5_key(CLIENT_IP)], kernels="TCP_MD5SIG"),
    Case("TCP_MD5SIG, a client with it", "server", [md5_key(CLIENT_IP)], peer=[md5_key(SERVER_IP)], kernels="TCP_MD5SIG"),
    Case("SO_MARK that a rule sends nowhere", "client", [number(SOL, SO_MARK, 7)], kernels="SO_MARK"),
    Case("SO_MARK of a listener", "server", [number(SOL, SO_MARK, 7)], kernels="SO_MARK"),
    Case("SO_MARK 0", "server", [number(SOL, SO_MARK, 0)]),
    Case("SO_PRIORITY that not everybody may set", "client", [number(SOL, SO_PRIORITY, 7)], kernels="SO_PRIORITY"),
    Case("SO_PRIORITY of a listener", "server", [number(SOL, SO_PRIORITY, 5)]),
    Case("SO_ZEROCOPY after connect", "client", [], [number(SOL, SO_ZEROCOPY, 1)]),
    Case("TCP_FASTOPEN where the namespace lets no server do it", "server", [number(TCP, TCP_FASTOPEN, 5)]),
    Case("IP_TRANSPARENT", "server", [number(IP, IP_TRANSPARENT, 1)], kernels="IP_TRANSPARENT"),
    Case("IP_OPTIONS", "client", [[IP, IP_OPTIONS, "01010101", 0]], kernels="IP_OPTIONS"),
    Case("IP_RECVERR", "client", [number(IP, IP_RECVERR, 1)]),
    Case("IPV6_TCLASS of a listener", "server", [number(IPV6, V6_TCLASS, 0x48)], v6=True),
    Case("IPV6_TCLASS after connect", "client", [], [number(IPV6, V6_TCLASS, 0xB8)], v6=True),
    Case("IPV6_UNICAST_HOPS of a listener", "server", [number(IPV6, V6_HOPS, 17)], v6=True),
    Case("IPV6_UNICAST_HOPS before connect", "client", [number(IPV6, V6_HOPS, 5)], v6=True),
    Case("IPV6_MINHOPCOUNT keeps a far client out", "server", [number(IPV6, V6_MINHOPS, 200)], v6=True),
    Case("IPV6_MINHOPCOUNT lets a near client in", "server", [number(IPV6, V6_MINHOPS, 200)], peer=[number(IPV6, V6_HOPS, 255)], v6=True),
    Case("TCP_MAXSEG of a listener, IPv6", "server", [number(TCP, TCP_MAXSEG, 700)], v6=True),
]


def ready(p):
    line = p.stdout.readline()
    if line != b"ready\n":
        raise LabError("an end did not start: %r" % line)
    return p


def finish(lab, p):
    out, _ = p.communicate(timeout=120)
    lab.processes.remove(p)
    return out


def what_it_sent(segments, port, server):
    """The packets of the end under test: each kind once, in order; ACKs alone depend on time."""
    out = []
    for s in segments:
        if (s["sport"] == port) != server or not (s["flags"] & 2 or s["len"]):
            continue
        kind = {"what": "SYN" if s["flags"] & 2 else "data", **{k: s[k] for k in ("tos", "ttl", "df", "mss") if k in s}}
        if kind not in out:
            out.append(kind)
    return out


def play(lab, case, port, wait, finesse):
    """One run: what the programs and the wire told, and `finesse stat` of the end under test."""
    tested = lab.server if case.who == "server" else lab.client
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    address = SERVER6 if case.v6 else SERVER_IP
    ends = {"server": (case.peer, [], []), "client": (case.peer, [], [])}
    ends[case.who] = (case.before, case.during, case.after)
    argv = {who: [address, port] + [json.dumps(o) for o in ends[who]] + [wait] for who in ends}
    watcher = lab.server if tested is lab.client else lab.client
    watch = ready(watcher.spawn(END + ["watch", watcher.interface, port], **pipes))
    server = ready(lab.server.spawn(END + ["listen"] + argv["server"], finesse=finesse and case.who == "server", **pipes))
    client = lab.client.spawn(END + ["connect"] + argv["client"] + [json.dumps(case.first)], finesse=finesse and case.who == "client", **pipes)
    result = json.loads(client.stdout.readline())
    stat = tested.stat((server if case.who == "server" else client).pid) if finesse else {}
    finish(lab, client)
    finish(lab, server)
    segments = json.loads(finish(lab, watch))
    return {"result": result, "sent": what_it_sent(segments, port, case.who == "server")}, stat


def judge(case, native, finesse, stat):
    """Why the case fails, or nothing."""
    if native != finesse:
        return "natively %s, under finesse %s" % (json.dumps(native), json.dumps(finesse))
    reasons = [f["why"] for f in stat.get("fallbacks", [])]
    if case.kernels is None and reasons:
        return "the engine did not carry it: %s" % reasons
    if case.kernels is None and not stat.get("pid"):
        return "finesse stat did not answer"
    if case.kernels is not None and not any(case.kernels + " " in r for r in reasons):
        return "no such reason in finesse stat: %s" % reasons
    return None


def configure(lab):
    for host, address in ((lab.server, SERVER6), (lab.client, CLIENT6)):
        host.add_address(address)
        host.run(["ip", "rule", "add", "fwmark", "7", "blackhole"])
        host.run(["sh", "-c", "echo 61 >/proc/sys/net/ipv4/ip_default_ttl; echo 62 | tee /proc/sys/net/ipv6/conf/*/hop_limit >/dev/null"])


def main():
    if os.geteuid() != 0:
        print("skipped: needs root")
        return 77
    failed = 0
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    cases = [c for c in CASES if wanted in c.name]
    with Lab() as lab:
        configure(lab)

        def both(case):
            for turn, wait in enumerate(WAITS):
                port = 20000 + 1000 * turn + 2 * cases.index(case)
                why = judge(case, play(lab, case, port, wait, False)[0], *play(lab, case, port + 1, wait, True))
                if not why:
                    break
            return case, why

        pool = ThreadPoolExecutor(AT_ONCE)
        for case, why in pool.map(both, cases):
            failed += why is not None
            print("%s %s (%s)%s" % ("FAILED:" if why else "ok:", case.name, case.who, ": " + why if why else ""), flush=True)
    return tally(len(cases), failed)


if __name__ == "__main__":
    sys.exit(main())
