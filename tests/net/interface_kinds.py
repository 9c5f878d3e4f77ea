"""Kinds of interfaces × what happens to them in the middle of a transfer: natively and under finesse, where the connection must be the engine's and stay it.

A case makes the interface `if0` of the host, lets the program echo what the peer sends, in steps, and changes `if0` between them: MTU, MAC, name, offloads, down and up,
its carrier, addresses, an XDP program, another namespace and back. The bytes must come back, all of them. Printed beside it: the longest that a step took, natively and under finesse.
"""
import os
import signal
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from interfaces import PIECE, WAIT_S, connect  # noqa: E402
from lab import finesse_command, Host, Lab, LabError, tally  # noqa: E402

HOST, PEER = "10.83.0.1", "10.83.0.2"
STEPS_BEFORE, STEPS_AFTER = 3, 6
SUBJECT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "interfaces.py")


def veth(host, peer, name="if0", peer_name="if0"):
    host.run(["ip", "link", "add", name, "type", "veth", "peer", "name", peer_name, "netns", str(peer.holder.pid)])


def up(host, *names):
    for n in names:
        host.run(["ip", "link", "set", n, "up"])


def make_veth(host, peer):
    veth(host, peer)


def make_bridge(host, peer):
    veth(host, peer, "port0")
    host.run(["ip", "link", "add", "if0", "type", "bridge"])
    host.run(["ip", "link", "set", "port0", "master", "if0"])
    up(host, "port0")


def make_macvlan(host, peer):
    veth(host, peer, "under0")
    host.run(["ip", "link", "add", "if0", "link", "under0", "type", "macvlan", "mode", "bridge"])
    # Otherwise the lower device answers ARP for the address, too, and has the frames.
    host.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/under0/arp_ignore"])
    up(host, "under0")


def make_vxlan(host, peer):
    veth(host, peer, "under0", "under0")
    for h, mine, other in ((host, "10.84.0.1", "10.84.0.2"), (peer, "10.84.0.2", "10.84.0.1")):
        h.run(["ip", "addr", "add", mine + "/24", "dev", "under0"])
        up(h, "under0")
        h.run(["ip", "link", "add", "if0", "type", "vxlan", "id", "5", "dstport", "4789", "local", mine, "remote", other, "dev", "under0"])


# Makes if0 here and in the namespace of the process argv[2], and carries frames between the two.
PUMP = """
import ctypes, fcntl, os, select, struct, sys
def device():
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH22x", b"if0", 0x1000 | int(sys.argv[1])))  # TUNSETIFF, IFF_NO_PI
    return fd
fds = [device()]
if ctypes.CDLL(None).setns(os.open("/proc/%s/ns/net" % sys.argv[2], os.O_RDONLY), 0x40000000):
    sys.exit("setns")
fds.append(device())
print("ready", flush=True)
while True:
    for fd in select.select(fds, [], [])[0]:
        try:
            os.write(fds[1 - fds.index(fd)], os.read(fd, 65536))
        except OSError:  # the other one is down, or full
            pass
"""
IFF_TUN, IFF_TAP = 1, 2


def tuntap(host, peer, mode):
    p = host.spawn([sys.executable, "-SEc", PUMP, str(mode), str(peer.holder.pid)], stdout=subprocess.PIPE)
    if not p.stdout.readline():
        raise LabError("no TUN device")


def make_tun(host, peer):
    tuntap(host, peer, IFF_TUN)


def make_tap(host, peer):
    tuntap(host, peer, IFF_TAP)


KINDS = {"veth": make_veth, "bridge": make_bridge, "macvlan": make_macvlan, "vxlan": make_vxlan, "tun": make_tun, "tap": make_tap}


# Loads "return XDP_PASS", and attaches it by netlink (IFLA_XDP), so that it stays when this process ends.
XDP = """
import ctypes, os, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
code = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xb7, 0, 0, 2, 0x95, 0, 0, 0))
text = ctypes.create_string_buffer(b"GPL")
attr = ctypes.create_string_buffer(struct.pack("<IIQQ", 6, 2, ctypes.addressof(code), ctypes.addressof(text)), 128)
prog = libc.syscall(321, 5, attr, 128)
if prog < 0:
    raise OSError(ctypes.get_errno(), "bpf")
xdp = struct.pack("<HHi", 8, 1, prog)  # IFLA_XDP_FD
xdp = struct.pack("<HH", 4 + len(xdp), 43 | 0x8000) + xdp
link = struct.pack("<BxHiII", 0, 0, socket.if_nametoindex("if0"), 0, 0) + xdp
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.send(struct.pack("<IHHII", 16 + len(link), 19, 5, 1, 0) + link)  # RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK
answer = struct.unpack("<i", s.recv(4096)[16:20])[0]
if answer:
    raise OSError(-answer, "IFLA_XDP")
"""


def mtu(host, peer):
    host.run(["ip", "link", "set", "if0", "mtu", "1280"])


def mac(host, peer):
    host.run(["ip", "link", "set", "if0", "address", "02:00:00:00:83:99"])
    host.run(["ip", "neigh", "flush", "dev", "if0"])
    peer.run(["ip", "neigh", "flush", "dev", "if0"])


def rename(host, peer):
    host.run(["ip", "link", "set", "if0", "down"])
    host.run(["ip", "link", "set", "if0", "name", "named1"])
    up(host, "named1")


def offloads(host, peer):
    host.run(["ethtool", "-K", "if0", "tx", "off", "tso", "off", "gso", "off", "gro", "off"], check=False)


def down_up(host, peer):
    host.run(["ip", "link", "set", "if0", "down"])
    up(host, "if0")


def address(host, peer):
    """One more address, and it goes again."""
    host.run(["ip", "addr", "add", "10.83.0.9/24", "dev", "if0"])
    host.run(["ip", "addr", "del", "10.83.0.9/24", "dev", "if0"])


def neighbour(host, peer):
    host.run(["ip", "neigh", "flush", "dev", "if0"])


def carrier(host, peer):
    """The other end goes down and comes back; so does what the interface stands on."""
    peer.run(["ip", "link", "set", "if0", "down"])
    up(peer, "if0")


def only_address(host, peer):
    """The connection's own address is taken away, and given back."""
    host.run(["ip", "addr", "del", HOST + "/24", "dev", "if0"])
    host.run(["ip", "addr", "add", HOST + "/24", "dev", "if0"])


def address_back(host, peer):
    """The same, and the peer's next bytes are there before the program has heard that the address is back: it is stopped. Linux's connection does not ask whether its program runs."""
    host.run(["ip", "addr", "del", HOST + "/24", "dev", "if0"])
    if host.finesse:
        host.run(finesse_command() + ["stat", str(host.subject.pid)])  # answered after the news of the address
    os.kill(host.subject.pid, signal.SIGSTOP)
    host.run(["ip", "addr", "add", HOST + "/24", "dev", "if0"])
    sent = segments_sent(peer.connection)
    peer.connection.sendall(PIECE)
    end = time.monotonic() + WAIT_S
    while segments_sent(peer.connection) == sent and time.monotonic() < end:
        pass
    os.kill(host.subject.pid, signal.SIGCONT)
    receive(peer.connection, "after the address was back")


def segments_sent(s):
    return struct.unpack_from("=I", s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 156)[0]  # tcpi_data_segs_out


def xdp(host, peer):
    """A program of XDP that lets all pass; it stays until the namespace ends."""
    host.run([sys.executable, "-SEc", XDP], stdout=None, stderr=None)


def namespace(host, peer):
    """Into another namespace and back; there it loses its addresses."""
    other = Host(host.lab, "lo")
    host.run(["ip", "link", "set", "if0", "netns", str(other.holder.pid)])
    other.run(["ip", "link", "set", "if0", "netns", str(host.holder.pid)])
    host.run(["ip", "addr", "add", HOST + "/24", "dev", "if0"])
    up(host, "if0")
    other.holder.kill()
    other.holder.wait()


def route(host, peer):
    """The way to the peer's net goes, and comes again, with another metric."""
    host.run(["ip", "route", "del", "10.83.0.0/24", "dev", "if0"])
    host.run(["ip", "route", "add", "10.83.0.0/24", "dev", "if0", "src", HOST, "metric", "7"])


def qdisc(host, peer):
    """Another one, with which what waits in the old one is lost."""
    host.run(["tc", "qdisc", "replace", "dev", "if0", "root", "tbf", "rate", "2gbit", "burst", "1mb", "latency", "50ms"])


CHANGES = [mtu, mac, rename, offloads, down_up, address, neighbour, carrier, only_address, address_back, route, qdisc, xdp, namespace]
IMPOSSIBLE = {("tun", "mac"), ("bridge", "namespace"), ("vxlan", "namespace")}  # no MAC; may not move (Linux 6.18)


def receive(s, when):
    got = b""
    while len(got) < len(PIECE):
        data = s.recv(65536)
        if not data:
            raise LabError("the connection ended " + when)
        got += data
    if got != PIECE:
        raise LabError("other bytes came back " + when)


def step(s, sent):
    """Out and back; how long it took."""
    began = time.monotonic()
    s.sendall(PIECE)
    receive(s, "in step %d" % sent)
    return time.monotonic() - began


def one(lab, kind, change, finesse, port):
    """The longest step in seconds; how many connections the kernel of the host had; LabError."""
    host, peer = Host(lab, "if0"), Host(lab, "if0")
    try:
        KINDS[kind](host, peer)
        for h, ip in ((host, HOST), (peer, PEER)):
            h.run(["ip", "addr", "add", ip + "/24", "dev", "if0"])
            up(h, "if0")
        argv = [sys.executable, SUBJECT, "subject", "serve", "0.0.0.0", str(port), ""]
        p = host.spawn((finesse_command() + ["run", "--"] if finesse else []) + argv)
        host.wait_listening(p, port, finesse)
        s, why = connect(peer, HOST, port)
        if s is None:
            raise LabError("connect: " + why)
        with s:
            host.subject, host.finesse, peer.connection = p, finesse, s
            for i in range(STEPS_BEFORE):
                step(s, i)
            change(host, peer)
            slowest = max(step(s, STEPS_BEFORE + i) for i in range(STEPS_AFTER))
        opens = host.opens()
        lab.stop(p, signal.SIGKILL)
        return slowest, opens[0] + opens[1]
    finally:
        for h in (host, peer):
            h.holder.kill()
            h.holder.wait()


def judge(lab, kind, change, port):
    native, by_kernel = one(lab, kind, change, False, port)
    if not by_kernel:
        return "natively the kernel had no connection"
    ours, by_kernel = one(lab, kind, change, True, port)
    print("%-8s %-12s longest step %4.0f ms natively, %4.0f ms under finesse" % (kind, change.__name__, native * 1e3, ours * 1e3))
    return "the kernel had %d connections" % by_kernel if by_kernel else None


def main(wanted):
    if os.geteuid() != 0:
        print("skipped: needs root")
        return 77
    failed, cases = 0, [(k, c) for k in KINDS for c in CHANGES if wanted in k + "+" + c.__name__ and (k, c.__name__) not in IMPOSSIBLE]
    with Lab() as lab:
        for i, (kind, change) in enumerate(cases):
            try:
                why = judge(lab, kind, change, 22000 + i)
            except (LabError, OSError) as e:
                why = str(e)
            failed += why is not None
            print("%s %s, %s%s" % ("FAILED:" if why else "ok:", kind, change.__name__, ": " + why if why else ""), flush=True)
    return tally(len(cases), failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
