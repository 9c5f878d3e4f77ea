"""A host with several interfaces: each case natively and under finesse, where its connections must be the engine's.

The host in the middle has `server0` (10.77.0.1, towards the client) and `second0` (10.79.0.1, towards another host); some cases add `third0` (10.81.0.1) while the
program runs. Peers are kernel sockets of this process. The program (`subject`) runs natively, then under finesse with the setting `interface` as it is by default.
"""
import hashlib
import json
import os
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ""))
from lab import finesse_command, Host, Lab, LabError, SERVER_IP, tally  # noqa: E402

SECOND_IP, SECOND_PEER, THIRD_IP, THIRD_PEER = "10.79.0.1", "10.79.0.2", "10.81.0.1", "10.81.0.2"
PIECE = bytes(range(256)) * 256
WAIT_S = 20


# ---- the program under test ----

def echo(s):
    with s:
        while True:
            data = s.recv(65536)
            if not data:
                return
            s.sendall(data)


def serve(address, port, device):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if device:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    listener.bind((address, port))
    listener.listen(64)
    while True:
        s, _ = listener.accept()
        threading.Thread(target=echo, args=(s,), daemon=True).start()


def serve_twice(port, order):
    """Two listeners of one port, of which one is bound to a device ("d"), made in that order; capitals are of IPv6, for both families. Each client reads which one has it."""
    for name in order:
        v6 = name.isupper()
        listener = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if name in "dD":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"second0")
        listener.bind(("::" if v6 else "0.0.0.0", port))
        listener.listen(64)
        threading.Thread(target=tell, args=(listener, name.encode())).start()
    print("both listen", flush=True)


def tell(listener, name):
    while True:
        s, _ = listener.accept()
        s.sendall(name)
        s.close()


def fetch(addresses):
    """Sends to echo servers in turn, over connections that are all open at once."""
    socks = []
    for a in addresses:
        host, port = a.rsplit(",", 1)
        info = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        s = socket.socket(info[0], socket.SOCK_STREAM)
        s.settimeout(WAIT_S)
        s.connect(info[4])
        socks.append(s)
    for s in socks:
        print(s.getsockname()[0], s.getpeername()[0], round_trip(s), flush=True)


def send_slowly(address, port, pieces):
    """A transfer that the test steps: a piece for each line of standard input."""
    s = socket.create_connection((address, int(port)), WAIT_S)
    for i in range(int(pieces)):
        sys.stdin.readline()
        s.sendall(PIECE)
        print(i, flush=True)
    s.shutdown(socket.SHUT_WR)
    s.recv(1)


# ---- peers ----

def round_trip(s):
    s.sendall(PIECE)
    got = b""
    while len(got) < len(PIECE):
        data = s.recv(65536)
        if not data:
            return "end after %d" % len(got)
        got += data
    return "same" if got == PIECE else "other"


def connect(host, address, port):
    s = host.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    s.settimeout(WAIT_S)
    try:
        s.connect((address, port))
    except OSError as e:
        s.close()
        return None, type(e).__name__
    return s, None


def ask(host, address, port):
    s, why = connect(host, address, port)
    if s is None:
        return why
    with s:
        return round_trip(s)


class EchoServer:
    def __init__(self, host, address, port):
        self.listener = host.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind((address, port))
        self.listener.listen(16)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(s,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


class Sink:
    """Takes one connection and hashes what comes."""

    def __init__(self, host, address, port):
        self.listener = host.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind((address, port))
        self.listener.listen(1)
        self.hash, self.n = hashlib.sha256(), 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        s, _ = self.listener.accept()
        with s:
            while True:
                data = s.recv(65536)
                if not data:
                    return
                self.hash.update(data)
                self.n += len(data)

    def wait(self, n):
        end = time.monotonic() + WAIT_S
        while self.n < n and time.monotonic() < end and self.thread.is_alive():
            self.thread.join(0.01)
        return self.n >= n


# ---- the network ----

class Hosts:
    def __init__(self, lab):
        self.lab, self.server, self.client = lab, lab.server, lab.client
        self.second = Host(lab, "peer0")
        self.third = Host(lab, "peer0")
        self.add(self.second, "second0", SECOND_IP, SECOND_PEER)
        # Either peer knows the way to the other's network through the server.
        self.client.run(["ip", "route", "add", "10.79.0.0/24", "via", SERVER_IP])
        self.second.run(["ip", "route", "add", "10.77.0.0/16", "via", SECOND_IP])
        for h in (self.server, self.client, self.second):
            h.run(["sh", "-c", "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done"])

    def add(self, peer, interface, ip, peer_ip, peer_name="peer0"):
        self.server.run(["ip", "link", "add", interface, "type", "veth", "peer", "name", peer_name, "netns", str(peer.holder.pid)])
        for host, name, address in ((self.server, interface, ip), (peer, peer_name, peer_ip)):
            host.run(["ip", "link", "set", name, "up"])
            host.run(["ip", "addr", "add", address + "/24", "dev", name])

    def remove(self, interface):
        self.server.run(["ip", "link", "del", interface])

    def close(self):
        for h in (self.second, self.third):
            h.holder.kill()
            h.holder.wait()

    def program(self, finesse, *args, **kw):
        argv = [sys.executable, os.path.abspath(__file__), "subject"] + [str(a) for a in args]
        if finesse and finesse_command():
            argv = finesse_command() + ["run", "--"] + argv
        return self.server.spawn(argv, **kw)

    def sent(self, interface):
        stats = json.loads(self.server.text(["ip", "-j", "-s", "link", "show", "dev", interface]))
        return stats[0]["stats64"]["tx"]["bytes"]

    def serve(self, finesse, address, port, device=""):
        p = self.program(finesse, "serve", address, port, device)
        self.server.wait_listening(p, port, finesse and not device)
        return p

    def interfaces_of(self, p):
        return sorted(self.server.stat(p.pid).get("interfaces", []))

    def wait_interfaces(self, p, wanted):
        end = time.monotonic() + WAIT_S
        while self.interfaces_of(p) != wanted:
            if time.monotonic() > end:
                raise LabError("serves %s, not %s" % (self.interfaces_of(p), wanted))
            time.sleep(0.02)

    def link_local(self, peer, name):
        end = time.monotonic() + WAIT_S
        while True:
            for line in peer.text(["ip", "-6", "-o", "addr", "show", "dev", name, "scope", "link"]).splitlines():
                if "tentative" not in line:
                    return line.split()[3].split("/")[0]
            if time.monotonic() > end:
                raise LabError("no link-local address")
            time.sleep(0.02)


# ---- the cases: what the peer and the program see, as text ----

def all_addresses(h, finesse, port):
    p = h.serve(finesse, "0.0.0.0", port)
    seen = [ask(h.client, SERVER_IP, port), ask(h.second, SECOND_IP, port)]
    seen.append(ask(h.client, SECOND_IP, port))  # an address of the other interface
    h.lab.stop(p)
    return seen


def one_address(h, finesse, port):
    p = h.serve(finesse, SECOND_IP, port)
    served = "" if not finesse or h.interfaces_of(p) == ["second0"] else h.interfaces_of(p)  # this one alone is attached
    seen = [ask(h.second, SECOND_IP, port), ask(h.client, SECOND_IP, port), served]  # the second comes by the kernel's queue
    h.lab.stop(p)
    return seen


def both_ways_out(h, finesse, port):
    with EchoServer(h.client, "10.77.0.2", port), EchoServer(h.second, SECOND_PEER, port):
        p = h.program(finesse, "fetch", "10.77.0.2,%d" % port, "%s,%d" % (SECOND_PEER, port), stdout=-1)
        out = p.communicate(timeout=60)[0].decode().splitlines()
        h.lab.processes.remove(p)
    return out


def proxy(h, finesse, port):
    """Clients on one side, upstreams on the other, in one process: the echo goes out again."""
    p = h.serve(finesse, SERVER_IP, port)
    s, why = connect(h.client, SERVER_IP, port)
    with s, EchoServer(h.second, SECOND_PEER, port):
        q = h.program(finesse, "fetch", "%s,%d" % (SECOND_PEER, port), stdout=-1)
        out = q.communicate(timeout=60)[0].decode().splitlines()
        h.lab.processes.remove(q)
        seen = [why, round_trip(s), out]
    h.lab.stop(p)
    return seen


def bound_to_device(h, finesse, port):
    p = h.serve(finesse, "0.0.0.0", port, "second0")
    seen = [ask(h.second, SECOND_IP, port), ask(h.client, SERVER_IP, port), ask(h.second, SECOND_IP, port)]
    h.lab.stop(p)
    return seen


def beside_a_device(h, finesse, port):
    seen = []
    for order in "du", "ud", "DU", "UD", "dU", "Ud", "uD", "Du":
        p = h.program(finesse, "serve_twice", port, order, stdout=-1)
        p.stdout.readline()
        for host, address in ((h.second, SECOND_IP), (h.client, SERVER_IP)):
            for _ in range(4):
                s, why = connect(host, address, port)
                with s:
                    seen.append(s.recv(1))
        h.lab.stop(p)
    return seen


def comes_later(h, finesse, port):
    p = h.serve(finesse, "0.0.0.0", port)
    h.add(h.third, "third0", THIRD_IP, THIRD_PEER)
    if finesse:
        h.wait_interfaces(p, ["second0", "server0", "third0"])
    s, why = connect(h.client, SERVER_IP, port)
    with s:
        seen = [ask(h.third, THIRD_IP, port), why, round_trip(s)]
        h.remove("third0")
        if finesse:
            h.wait_interfaces(p, ["second0", "server0"])
        seen += [round_trip(s), ask(h.second, SECOND_IP, port)]
    h.lab.stop(p)
    return seen


def route_moves(h, finesse, port):
    """10.90.0.1 is the second host's own, and that is reached by two interfaces: in the middle of a transfer the route moves, and back."""
    h.add(h.second, "third0", THIRD_IP, THIRD_PEER, "peer1")
    h.second.run(["ip", "addr", "replace", "10.90.0.1/32", "dev", "lo"])
    ways = [("second0", SECOND_PEER), ("third0", THIRD_PEER)]

    def route(i):
        h.server.run(["ip", "route", "replace", "10.90.0.1", "via", ways[i][1], "dev", ways[i][0], "src", SECOND_IP])

    route(0)
    sink, pieces, seen = Sink(h.second, "10.90.0.1", port), 40, []
    p = h.program(finesse, "send_slowly", "10.90.0.1", port, pieces, stdin=-1, stdout=-1)
    for i in range(pieces):
        if i % 10 == 0:
            route(i // 10 % 2)
            before = h.sent(ways[i // 10 % 2][0])
        p.stdin.write(b"\n")
        p.stdin.flush()
        p.stdout.readline()
        seen.append(sink.wait((i + 1) * len(PIECE)))
        if i % 10 == 9:
            seen.append(h.sent(ways[i // 10 % 2][0]) - before >= 9 * len(PIECE))
    p.stdin.close()
    sink.thread.join(WAIT_S)
    h.lab.stop(p)
    h.remove("third0")
    return [all(seen), sink.n, sink.hash.hexdigest() == hashlib.sha256(PIECE * pieces).hexdigest()]


def link_local(h, finesse, port):
    """Both peers have the same link-local address: the scope tells them apart."""
    for peer, name in ((h.client, "client0"), (h.second, "peer0")):
        peer.run(["ip", "addr", "replace", "fe80::77/64", "dev", name, "nodad"])
    h.link_local(h.server, "server0")
    h.link_local(h.server, "second0")
    with EchoServer(h.second, "::", port):
        p = h.program(finesse, "fetch", "fe80::77%%second0,%d" % port, stdout=-1)
        out = p.communicate(timeout=60)[0].decode().splitlines()
        h.lab.processes.remove(p)
    with EchoServer(h.client, "::", port):
        p = h.program(finesse, "fetch", "fe80::77%%server0,%d" % port, stdout=-1)
        out += p.communicate(timeout=60)[0].decode().splitlines()
        h.lab.processes.remove(p)
    return out


# The case, and how many connections the kernel of the host may have made or taken under finesse.
CASES = [(all_addresses, 0), (one_address, 1), (both_ways_out, 0), (proxy, 0), (bound_to_device, 0), (beside_a_device, 0), (comes_later, 0), (route_moves, 0), (link_local, 0)]


def play(h, case, finesse, port):
    before = h.server.opens()
    seen = case(h, finesse, port)
    after = h.server.opens()
    return seen, (after[0] - before[0]) + (after[1] - before[1])


def judge(h, case, by_kernel, port):
    native, opened = play(h, case, False, port)
    if not opened:
        return "natively the kernel made no connection: %s" % (native,)
    finesse, opened = play(h, case, True, port + 1)
    if repr(native) != repr(finesse):
        return "natively %s, under finesse %s" % (native, finesse)
    if opened > by_kernel:
        return "the kernel made %d connections" % opened
    return None


def main(wanted):
    if os.geteuid() != 0:
        print("skipped: needs root")
        return 77
    failed, cases = 0, [c for c in CASES if wanted in c[0].__name__]
    with Lab() as lab:
        h = Hosts(lab)
        try:
            for i, (case, by_kernel) in enumerate(cases):
                try:
                    why = judge(h, case, by_kernel, 21000 + 2 * i)
                except LabError as e:
                    why = str(e)
                failed += why is not None
                print("%s %s%s" % ("FAILED:" if why else "ok:", case.__name__, ": " + why if why else ""), flush=True)
        finally:
            h.close()
    return tally(len(cases), failed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["subject"]:
        how = {"serve": lambda a: serve(a[0], int(a[1]), a[2]), "serve_twice": lambda a: serve_twice(int(a[0]), a[1]), "fetch": fetch,
               "send_slowly": lambda a: send_slowly(*a)}
        how[sys.argv[2]](sys.argv[3:])
    else:
        sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
