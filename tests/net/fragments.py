"""
A client that does not ask for the path's MTU (net.ipv4.ip_no_pmtu_disc 1, as some phones and tunnels behave) sends to a server behind a router whose link has a smaller one: each full
segment comes in pieces. Natively and under finesse: all bytes come, and under finesse to the engine, with and
without rules that make the host judge, and with each classifier.
"""
import hashlib
import os
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import Host, Lab, LabError, SERVER_IP, CLIENT_IP, tally  # noqa: E402
import socket  # noqa: E402

PORT, BYTES, FAR = 7001, 2000000, "10.91.0.2"
SERVER = """
import hashlib, socket, sys
l = socket.create_server(("", int(sys.argv[1])))
while True:
    c, _ = l.accept()
    h, n = hashlib.sha256(), 0
    while n < int(sys.argv[2]):
        got = c.recv(65536)
        if not got:
            break
        h.update(got)
        n += len(got)
    c.sendall(h.digest())
    c.close()
"""
JUDGED = "add table inet t; add chain inet t c { type filter hook input priority 0; policy drop; }; add rule inet t c ct state established accept; " \
         "add rule inet t c tcp sport 9 drop; add rule inet t c tcp dport %d accept" % PORT


def far_host(lab):
    """Behind the client's host, which becomes a router."""
    far, router = Host(lab, "far0"), lab.client
    router.run(["ip", "link", "add", "to-far", "type", "veth", "peer", "name", "far0", "netns", str(far.holder.pid)])
    router.run(["sh", "-ec", "ip addr add 10.91.0.1/24 dev to-far; ip link set to-far up; ip link set client0 mtu 1300; echo 1 >/proc/sys/net/ipv4/ip_forward"])
    far.run(["sh", "-ec", "ip addr add %s/24 dev far0; ip link set far0 up; ip route add default via 10.91.0.1; echo 1 >/proc/sys/net/ipv4/ip_no_pmtu_disc" % FAR])
    lab.server.run(["ip", "route", "add", "10.91.0.0/24", "via", CLIENT_IP])
    return far


def fragments(host, name):
    for line in host.text(["nstat", "-asz", name]).splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise LabError("no " + name)


def transfer(far):
    data = os.urandom(BYTES)
    with far.socket(socket.AF_INET, socket.SOCK_STREAM) as c:
        c.settimeout(60)
        c.connect((SERVER_IP, PORT))
        sender = threading.Thread(target=c.sendall, args=(data,), daemon=True)
        sender.start()
        got = b""
        while len(got) < 32:
            more = c.recv(32)
            if not more:
                break
            got += more
        sender.join(1)
    return got == hashlib.sha256(data).digest()


def row(finesse, rules, classifier):
    with Lab() as lab:
        far = far_host(lab)
        try:
            if rules:
                lab.server.run(["nft", rules])
            server = lab.server.spawn([sys.executable, "-c", SERVER, str(PORT), str(BYTES)], finesse=finesse, settings=("--classifier", classifier) if finesse else ())
            lab.server.wait_listening(server, PORT, finesse=finesse)
            if not transfer(far):
                return "other bytes came"
            if fragments(lab.client, "IpFragCreates") < BYTES // 1500:
                return "the router cut nothing"
            if finesse and lab.server.opens()[1]:
                return "the kernel served"
            return None
        finally:
            far.holder.kill()
            far.holder.wait()


def main():
    failed = n = 0
    rows = [(False, None, ""), (False, JUDGED, ""), (True, None, "ebpf"), (True, JUDGED, "ebpf"), (True, None, "nftables"), (True, None, "socket")]
    for finesse, rules, classifier in rows:
        try:
            why = row(finesse, rules, classifier)
        except (LabError, OSError) as e:
            why = repr(e)
        n += 1
        failed += why is not None
        print("%s: %s%s" % ("FAILED" if why else "ok", "finesse, " + classifier if finesse else "kernel", ", rules" if rules else ""), why or "", flush=True)
    return tally(n, failed)


if __name__ == "__main__":
    sys.exit(main())
