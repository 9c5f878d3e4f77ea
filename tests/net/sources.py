#!/usr/bin/python3
"""
Whose SYNs a host answers: sources of every kind × what its administrator set (rp_filter, accept_local, route_localnet, rules of routing, no default route …), natively and under
finesse. A source is answered, by an interface, or met with silence; a listener that is bound to the interface is asked beside a plain one.

The SYNs of a row are sent one after the other, and then one that is answered in any case: so silence needs no time. Who is the kernel's on second thoughts is answered when his SYN comes
again, so each is sent three times. A row that differs is tried again: a machine that is busy loses frames.
"""
import socket
import struct
import sys
import time

from lab import Lab, LabError, SERVER_IP, tally

PLAIN, BOUND = 7001, 7002
MARK = "10.77.0.99"  # nobody's, and the client's MAC
SERVER = """
import socket, sys, time
for port in %d, %d:
    for family, any_ in (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"):
        s = socket.socket(family)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if port == %d:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"server0")
        s.bind((any_, port))
        s.listen(4096)
        globals()["l%%d%%d" %% (port, family)] = s
time.sleep(1000)
""" % (PLAIN, BOUND, BOUND)

SOURCES = {
    "of the net": "10.77.0.98", "of a net beyond the gateway": "192.0.2.5", "of another interface's net": "203.0.113.5", "with a way by two interfaces": "100.64.0.5",
    "the server's": SERVER_IP, "the server's other address": "10.88.0.1", "loopback": "127.0.0.9", "this net": "0.1.2.3", "nobody": "0.0.0.0",
    "broadcast": "255.255.255.255", "the net's broadcast": "10.77.255.255", "multicast": "224.0.0.5", "class E": "240.0.0.1", "unreachable": "198.51.100.5",
    "blackhole": "198.51.101.5", "prohibited": "198.51.102.5", "of a table that a rule names": "198.51.103.5",
}
SOURCES6 = {
    "6: of the net": "fd77::98", "6: beyond the gateway": "2001:db8::5", "6: of another interface's net": "fd88::5", "6: the server's": "fd77::1",
    "6: the server's other": "fd88::1", "6: loopback": "::1", "6: nobody": "::", "6: multicast": "ff02::5", "6: IPv4": "::ffff:192.0.2.5", "6: IPv4-compatible": "::192.0.2.5",
    "6: unreachable": "2001:db8:1::5", "6: blackhole": "2001:db8:2::5", "6: link-local": "fe80::98",
}


# From the plain source: (TCP's flags, IP's options).
FLAGS = {"SYN, PSH": (0x0a, b""), "SYN, URG": (0x22, b""), "SYN, FIN": (3, b""), "SYN, ECE, CWR": (0xc2, b""), "SYN with options of IP": (2, b"\1\1\1\0"),
         "SYN by a source route": (2, b"\x83\7\x08\x0a\x4d\0\x63\0"), "SYN by a strict one": (2, b"\1\x89\7\x08\x0a\x4d\0\x63")}


def conf(name, value, *where):
    return ["for i in %s; do echo %s >/proc/sys/net/ipv4/conf/$i/%s; done" % (" ".join(where or ("all", "server0", "other0")), value, name)]


ROWS = {
    "nothing set": [],
    "rp_filter 1": conf("rp_filter", 1),
    "rp_filter 1 of the interface": conf("rp_filter", 1, "server0"),
    "rp_filter 2": conf("rp_filter", 2),
    "rp_filter 1 of all, 2 of the interface": conf("rp_filter", 1, "all") + conf("rp_filter", 2, "server0"),
    "no default route": ["ip route del default", "ip -6 route del default"],
    "no default route, rp_filter 1": conf("rp_filter", 1) + ["ip route del default", "ip -6 route del default"],
    "no default route, rp_filter 2": conf("rp_filter", 2) + ["ip route del default", "ip -6 route del default"],
    "a rule": ["ip rule add from 10.99.0.0/16 lookup 100"],
    "a rule by the source that the answer has": ["ip rule add from %s to 198.51.103.0/24 lookup 100 pref 100" % SERVER_IP],
    "the same, rp_filter 1": conf("rp_filter", 1) + ["ip rule add from %s to 198.51.103.0/24 lookup 100 pref 100" % SERVER_IP],
    "the same, rp_filter 2": conf("rp_filter", 2) + ["ip rule add from %s to 198.51.103.0/24 lookup 100 pref 100" % SERVER_IP],
    "accept_local": conf("accept_local", 1),
    "accept_local, rp_filter 1": conf("accept_local", 1) + conf("rp_filter", 1),
    "accept_source_route": conf("accept_source_route", 1),
    "accept_source_route of the interface": conf("accept_source_route", 1, "server0") + conf("accept_source_route", 0, "all"),
    "route_localnet": conf("route_localnet", 1),
    "src_valid_mark, rp_filter 1": conf("src_valid_mark", 1) + conf("rp_filter", 1),
    "cookies, rp_filter 1": conf("rp_filter", 1) + ["echo 2 >/proc/sys/net/ipv4/tcp_syncookies"],
    "cookies": ["echo 2 >/proc/sys/net/ipv4/tcp_syncookies"],
    "cookies, no default route, rp_filter 2": conf("rp_filter", 2) + ["echo 2 >/proc/sys/net/ipv4/tcp_syncookies", "ip route del default", "ip -6 route del default"],
}


# What Linux answers though the answer can reach nobody, or by a route that its own table refuses. Silence is right.
NO_HOST = {"the net's broadcast", "6: nobody", "6: IPv4-compatible", "6: unreachable, bound", "6: blackhole, bound", "loopback, bound"}
NO_HOST |= {name + ", bound" for name in NO_HOST if "bound" not in name}


# The host judges, and the ports are open to all: so nobody is asked about plain SYNs, and about others.
OPEN = "tcp dport { %d, %d } accept" % (PLAIN, BOUND)
CHAIN = "nft add table inet t; nft 'add chain inet t c { type filter hook input priority 0; policy drop; }'; nft add rule inet t c ct state established,related accept; " \
        "nft add rule inet t c meta l4proto ipv6-icmp accept; "


def rules(*each):
    return [CHAIN + "; ".join("nft 'add rule inet t c %s'" % r for r in each)]


ROWS |= {
    "open ports": rules(OPEN),
    "open ports, rp_filter 1": rules(OPEN) + conf("rp_filter", 1),
    "open ports, rp_filter 2, cookies": rules(OPEN) + conf("rp_filter", 2) + ["echo 2 >/proc/sys/net/ipv4/tcp_syncookies"],
    "open ports, but for sources without a way back": rules("fib saddr . iif oif missing drop", OPEN),
    "open ports, but for some flags": rules("tcp flags & psh != 0 ct state new drop", OPEN),
    "open ports, for SYN alone": rules("tcp flags & (fin|syn|rst|psh|urg) != syn ct state new drop", OPEN),
    "open ports, but for options of IP": rules("ip hdrlength > 5 drop", OPEN),
    "open ports, but for pieces": rules(OPEN) + ["nft 'add chain inet t early { type filter hook prerouting priority -500; }'; nft 'add rule inet t early ip frag-off & 0x1fff != 0 drop'"],
}
BOTH = ("--interface", "server0,other0")
SERVED = {name: BOTH for name in ("both interfaces", "both interfaces, rp_filter 1", "both interfaces, rp_filter 2", "both interfaces, cookies, rp_filter 1")}
ROWS |= {name: ROWS.get(name.split(", ", 1)[-1], []) for name in SERVED}


def add(data, total=0):
    data += b"\0" * (len(data) % 2)
    total += sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def syn(macs, src, dst, sport, dport, flags=2, options=b"", seq=1000, ack=0, text=b""):
    family = socket.AF_INET6 if ":" in src else socket.AF_INET
    s, d = socket.inet_pton(family, src), socket.inet_pton(family, dst)
    tcp = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 5 << 4, flags, 65535, 0, 0) + text
    tcp = tcp[:16] + struct.pack("!H", ~add(tcp, add(s + d, 6 + len(tcp))) & 0xffff) + tcp[18:]
    if family == socket.AF_INET6:
        return macs + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + s + d + tcp
    ip = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, 20 + len(options) + len(tcp), 1, 0, 64, 6, 0) + s + d + options
    return macs + b"\x08\x00" + ip[:10] + struct.pack("!H", ~add(ip) & 0xffff) + ip[12:] + tcp


def in_pieces(frame, first=24):
    """Of IPv4, without options."""
    for off, more, part in (0, 0x2000, frame[34:34 + first]), (first // 8, 0, frame[34 + first:]):
        ip = frame[14:16] + struct.pack("!HHHBBH", 20 + len(part), 1, more | off, 64, 6, 0) + frame[26:34]
        yield frame[:14] + ip[:10] + struct.pack("!H", ~add(ip) & 0xffff) + ip[12:] + part


def synacks(sniffer):
    """(source port of the SYN, server's port) of the SYN-ACKs that are there."""
    while True:
        try:
            frame = sniffer.recv(2000, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        v6 = frame[12:14] == b"\x86\xdd"
        tcp = frame[54:] if v6 else frame[14 + frame[14] % 16 * 4:] if frame[12:14] == b"\x08\x00" else b""
        if len(tcp) >= 20 and (frame[20] if v6 else frame[23]) == 6 and tcp[13] & 0x12 == 0x12:
            yield struct.unpack("!HH", tcp[2:4] + tcp[:2])


def mac_of(host):
    return host.text(["ip", "-o", "link", "show", host.interface]).split("link/ether ")[1].split()[0]


def set_up(lab, commands):
    s, c = lab.server, lab.client
    mac = mac_of(c)
    c.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/client0/disable_ipv6"])
    lines = ["for i in all server0; do echo 0 >/proc/sys/net/ipv4/conf/$i/rp_filter; done", "echo 0 >/proc/sys/net/ipv6/conf/server0/accept_dad", "ip link add other0 type veth peer name other1", "echo 1 >/proc/sys/net/ipv6/conf/other1/disable_ipv6", "ip link set dev other1 up",
             "echo 0 >/proc/sys/net/ipv4/conf/other0/rp_filter", "ip addr add 10.88.0.1/24 dev other0",
             "ip addr add fd77::1/64 dev server0 nodad", "ip addr add fd88::1/64 dev other0 nodad", "ip link set dev other0 up", "ip route add default via 10.77.0.2",
             "ip -6 route add default via fd77::2", "ip route add 203.0.113.0/24 dev other0", "ip route add 100.64.0.0/24 nexthop via 10.77.0.2 nexthop via 10.88.0.9",
             "ip route add unreachable 198.51.100.0/24", "ip route add blackhole 198.51.101.0/24", "ip route add prohibit 198.51.102.0/24",
             "ip route add 198.51.103.0/24 dev other0", "ip route add default via 10.77.0.2 table 100", "ip -6 route add unreachable 2001:db8:1::/64",
             "ip -6 route add blackhole 2001:db8:2::/64"]
    for a in MARK, "10.77.0.98", "10.77.0.2", "fd77::2", "fd77::98", "fe80::98", "10.77.255.254":
        lines.append("ip neigh replace %s lladdr %s dev server0 nud permanent" % (a, mac))
    for a in "203.0.113.5", "198.51.100.5", "198.51.101.5", "198.51.102.5", "198.51.103.5", "fd88::5", "2001:db8:1::5", "2001:db8:2::5":  # of a listener that is bound all are neighbours
        lines.append("ip neigh replace %s lladdr %s dev server0 nud permanent" % (a, mac))
    for a in "10.88.0.9", "203.0.113.5", "198.51.103.5", "fd88::5":
        lines.append("ip neigh replace %s lladdr 02:00:00:00:00:09 dev other0 nud permanent" % a)
    s.run(["sh", "-ec", "\n".join(lines + commands)])


def wait_for_mark(link, sniffers, macs, port, seen):
    """Until a SYN that is answered in any case is: what came before it has been met. Lost ones are sent again."""
    end, n = time.monotonic() + 30, 0
    while time.monotonic() < end:
        n += 1
        link.send(syn(macs, MARK, SERVER_IP, port + n, PLAIN))
        again = time.monotonic() + 0.5
        while time.monotonic() < again:
            for name, sniffer in sniffers.items():
                seen |= {(name, *pair) for pair in synacks(sniffer)}
            if any(("server0", port + k, PLAIN) in seen for k in range(1, n + 1)):
                return
    raise LabError("nobody answers")


def attempt(commands, finesse, settings=()):
    with Lab() as lab:
        set_up(lab, commands)
        server = lab.server.spawn([sys.executable, "-SEc", SERVER], finesse=finesse, settings=settings)
        for port in PLAIN, BOUND:
            lab.server.wait_listening(server, port, finesse=finesse and port == PLAIN)
        link = lab.client.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        link.bind(("client0", 0))
        sniffers = {}
        for name, host in ("client0", lab.client), ("other1", lab.server):
            sniffers[name] = host.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            sniffers[name].bind((name, 3))
        sniffers = {"server0": sniffers["client0"], "other0": sniffers["other1"]}
        macs = b"".join(bytes.fromhex(mac_of(h).replace(":", "")) for h in (lab.server, lab.client))
        seen, kinds = set(), {}
        for turn in range(3):
            for k, (name, source) in enumerate({**SOURCES, **SOURCES6}.items()):
                for port in PLAIN, BOUND:
                    sport = 20000 + 2 * k + (port == BOUND)
                    kinds[sport] = name + (", bound" if port == BOUND else "")
                    link.send(syn(macs, source, "fd77::1" if ":" in source else SERVER_IP, sport, port))
            for k, (name, (flags, options)) in enumerate(FLAGS.items()):
                kinds[25000 + k] = name
                link.send(syn(macs, SOURCES["of the net"], SERVER_IP, 25000 + k, PLAIN, flags, options))
            kinds[25900] = "SYN in pieces"
            for piece in in_pieces(syn(macs, SOURCES["of the net"], SERVER_IP, 25900, PLAIN, text=b"12345678")):
                link.send(piece)
            wait_for_mark(link, sniffers, macs, 30000 + 100 * turn, seen)
        if finesse and not lab.server.stat(server.pid).get("counters", {}).get("SegmentsIn", 1):
            raise LabError("the engine saw nothing")
        return {kind: " and ".join(sorted({i for i, sport, _ in seen if sport == at})) or "silence" for at, kind in kinds.items()}


def main():
    failed = checks = 0
    for name, commands in ROWS.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        natively = attempt(commands, False)
        for _ in range(3):
            differs = {k: (natively[k], v) for k, v in attempt(commands, True, SERVED.get(name, ())).items() if natively[k] != v and not (k in NO_HOST and v == "silence")}
            if not differs:
                break
            natively = attempt(commands, False)
        checks += 1
        failed += bool(differs)
        answered = sum(v != "silence" for v in natively.values())
        print("%s: %s: %d of %d are answered" % ("FAILED" if differs else "ok", name, answered, len(natively)), flush=True)
        for kind, (kernel, ours) in differs.items():
            print("    %s: natively %s, under finesse %s" % (kind, kernel, ours), flush=True)
    return tally(checks, failed)


if __name__ == "__main__":
    sys.exit(main())
