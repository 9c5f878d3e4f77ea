"""Own-address mode: programs on addresses that the kernel does not have, against each other and against a kernel; without root of the host.

All runs in a user namespace of its own (77 where there is none to be had). In it the network namespace M has a bridge with the veths a0 and b0, on which the programs
under test have their addresses, and forwards between all that it has: its kernel must stay out all the same. The namespace K behind the same bridge is a peer with the kernel's TCP.

    own_address.py [CASE…]
"""
import ctypes
import fcntl
import hashlib
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = Path(os.environ.get("FINESSE_BUILD_DIR", HERE.parent.parent)).resolve()
FINESSE = str(TOP / "finesse")
WAIT_S = 20
WORLDS = 4
CLONE_NEWNET, PR_SET_PDEATHSIG = 0x40000000, 1
TUNSETIFF, IFF_TUN, IFF_TAP, IFF_NO_PI = 0x400454CA, 1, 2, 0x1000
libc = ctypes.CDLL(None, use_errno=True)
KERNEL, KERNEL6 = "10.78.0.2", "fd78::2"
A, A6, B, B6 = "10.78.0.9", "fd78::9", "10.78.0.10", "fd78::10"
SIZE = 3000000


class Failed(Exception):
    pass


def expect(condition, message):
    if not condition:
        raise Failed(message)


def environment():
    env = {k: v for k, v in os.environ.items() if not k.startswith("FINESSE") and k != "LD_PRELOAD"}
    env.update(LC_ALL="C", PYTHONDONTWRITEBYTECODE="1", FINESSE_LOG="info", PATH=env.get("PATH", "") + ":/usr/sbin:/sbin")
    return env


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def sh(script):
    p = subprocess.run(["sh", "-ec", script], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=WAIT_S)
    expect(p.returncode == 0, "%s: %s" % (script, p.stdout.decode()))
    return p.stdout.decode()


class World:
    def __init__(self):
        self.dir = tempfile.mkdtemp()
        self.processes = []
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec sleep infinity"], stdout=subprocess.PIPE,
                                       preexec_fn=die_with_parent, env=environment())
        self.holder.stdout.readline()
        sh("ip link set lo up; ip link add br0 type bridge; ip addr add 10.78.0.254/24 dev br0; ip addr add fd78::254/64 dev br0 nodad; ip link set br0 up; ip link set br0 type bridge mcast_query_interval 300 mcast_startup_query_interval 100 mcast_query_response_interval 20; ip link set br0 type bridge mcast_snooping 1 mcast_querier 1;"
           "for i in a b; do ip link add ${i}0 type veth peer name ${i}1; ip link set ${i}1 master br0 up; ip link set ${i}0 up; done;"
           "ip link add k1 master br0 type veth peer name k0 netns %d; ip link set k1 up;"
           "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding;"
           "ip link add x0 type veth peer name x1; ip link set x0 up; ip link set x1 up" % self.holder.pid)
        self.kernel("ip addr add %s/24 dev k0; ip addr add %s/64 dev k0 nodad; ip link set k0 up; echo 1 >/proc/sys/net/ipv4/conf/k0/arp_notify;"
                    "echo 1 >/proc/sys/net/ipv6/conf/k0/ndisc_notify" % (KERNEL, KERNEL6))
        self.data = os.urandom(SIZE)
        os.mkdir(self.dir + "/www")
        Path(self.dir, "www/file").write_bytes(self.data)

    def kernel(self, script):
        return sh("nsenter --net=/proc/%d/ns/net sh -ec '%s'" % (self.holder.pid, script))

    def finesse(self, interface, address, argv, settings=(), inside=None, **kw):
        """Starts a program with an address of its own; what it says is in p.log."""
        log = tempfile.NamedTemporaryFile(dir=self.dir, delete=False)
        argv = list(inside or []) + [FINESSE, "run", "--interface", interface, "--address", address, *settings, "--"] + [str(a) for a in argv]
        kw.setdefault("stdout", log)
        p = subprocess.Popen(argv, env=environment(), stdin=subprocess.DEVNULL, stderr=log, preexec_fn=die_with_parent, cwd=self.dir, start_new_session=True, **kw)
        p.log = log.name
        self.processes.append(p)
        return p

    def run(self, interface, address, argv, timeout=WAIT_S, **kw):
        p = self.finesse(interface, address, argv, stdout=subprocess.PIPE, **kw)
        try:
            out, _ = p.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            p.kill()
            raise Failed("%s did not end: %s" % (argv, said(p))) from None
        return p.returncode, out

    def socket_of_kernel(self, *args):
        """A socket of this process in K."""
        ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        theirs = os.open("/proc/%d/ns/net" % self.holder.pid, os.O_RDONLY)
        try:
            expect(libc.setns(theirs, CLONE_NEWNET) == 0, "setns")
            return socket.socket(*args)
        finally:
            libc.setns(ours, CLONE_NEWNET)
            os.close(ours)
            os.close(theirs)

    def end(self):
        for p in self.processes:
            try:
                os.killpg(p.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            p.wait()
        self.processes = []

    def close(self):
        self.end()
        self.holder.kill()
        self.holder.wait()
        subprocess.run(["rm", "-rf", self.dir], check=False)


def said(p):
    return Path(p.log).read_text(errors="replace")


def until(what, condition, seconds=WAIT_S):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed("never: %s" % what)
        time.sleep(0.02)


def says(p, pattern):
    def look():
        expect(p.poll() is None or re.search(pattern, said(p)), "it ended: %s" % said(p))
        return re.search(pattern, said(p))
    try:
        until(pattern, look)
    except Failed as e:
        raise Failed("%s; it said: %s" % (e, said(p))) from None


def ours(p, *addresses):
    for a in addresses:
        says(p, re.escape(a) + " is ours")


def stat(p):
    out = subprocess.run([FINESSE, "stat", str(p.pid), "--json"], env=environment(), stdout=subprocess.PIPE, timeout=WAIT_S, check=True).stdout
    document = json.loads(out)
    return document[0] if isinstance(document, list) else document.get("processes", [document])[0]


def announce(world, address, mac):
    """A gratuitous ARP request of a host on k0."""
    mac, ip = bytes.fromhex(mac.replace(":", "")), socket.inet_aton(address)
    with world.socket_of_kernel(socket.AF_PACKET, socket.SOCK_RAW, 0) as s:
        s.bind(("k0", 0x0806))
        s.send(b"\xff" * 6 + mac + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + ip + bytes(6) + ip)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ping(world, address, n=1, size=56, wait=WAIT_S, quiet=None):
    """How many of n echo requests a kernel host's raw socket sees answered, with their data: until all are, for `wait` seconds, or until none was for `quiet` seconds."""
    v6 = ":" in address
    s = world.socket_of_kernel(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP)
    payload, answered = os.urandom(size), set()
    with s:
        for seq in range(n):
            head = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, 0x4321, seq)
            s.sendto(head[:2] + struct.pack("!H", 0 if v6 else checksum(head + payload)) + head[4:] + payload, (address, 0))
        end = time.monotonic() + wait
        while len(answered) < n and time.monotonic() < end:
            if not select.select([s], [], [], 0.1)[0]:
                continue
            data, who = s.recvfrom(65536)
            data = data if v6 else data[20:]
            if who[0] == address and data[0] == (129 if v6 else 0) and data[4:6] == b"\x43\x21" and data[8:] == payload:
                answered.add(struct.unpack("!H", data[6:8])[0])
                end = time.monotonic() + quiet if quiet else end
    return len(answered)


def fetch(world, address, port, path="/file", size=None):
    """By the kernel's TCP, from K."""
    s = world.socket_of_kernel(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    with s:
        s.settimeout(WAIT_S)
        s.connect((address, port))
        s.sendall(b"GET %s HTTP/1.0\r\n\r\n" % path.encode())
        out = b""
        while True:
            piece = s.recv(1 << 20)
            if not piece:
                break
            out += piece
    return out.split(b"\r\n\r\n", 1)[-1]


def tcp_of_the_kernel():
    """Connections that M's kernel opened or accepted, and resets and ICMP errors that it sent."""
    names = "TcpActiveOpens TcpPassiveOpens TcpOutRsts IcmpOutErrors IcmpOutDestUnreachs IcmpOutRedirects IpForwDatagrams Ip6OutForwDatagrams Icmp6OutDestUnreachs Icmp6OutRedirects"
    return {line.split()[0]: int(line.split()[1]) for line in sh("nstat -asz " + names).splitlines() if not line.startswith("#")}


NGINX = """daemon off; user root; worker_processes 2; pid {dir}/pid; error_log stderr;
events {{ }} http {{ access_log off; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
server {{ listen 80; listen [::]:80; root {dir}/www; }} }}
"""
SERVER = str(HERE / "own_address_end.py")


def http_server(world, interface="a0", address=A + "/24," + A6 + "/64", port=80, **kw):
    p = world.finesse(interface, address, ["/usr/bin/python3", SERVER, "serve", "::", port], **kw)
    ours(p, *[a.split("/")[0] for a in address.split(",")])
    return p


# ---- the cases ----

def nginx_and_curl(world):
    """Both ends have addresses of their own, on one bridge, IPv4 and IPv6. The kernel of M has no part in it."""
    Path(world.dir, "nginx.conf").write_text(NGINX.format(dir=world.dir))
    before = tcp_of_the_kernel()
    server = world.finesse("a0", A + "/24," + A6 + "/64", ["nginx", "-c", world.dir + "/nginx.conf", "-e", "stderr"])
    ours(server, A, A6)
    for url in ("http://%s/file" % A, "http://[%s]/file" % A6):
        status, out = world.run("b0", B + "/24," + B6 + "/64", ["curl", "-sS", "--fail", "--max-time", "15", url])
        expect(status == 0 and out == world.data, "%s: status %d, %d bytes; %s" % (url, status, len(out), said(world.processes[-1])))
    after = tcp_of_the_kernel()
    expect(after == before, "the kernel had a part in it: %s, %s" % (before, after))


def kernel_peer(world):
    """A host with the kernel's TCP: its neighbour cache, echo replies, contents, a closed port; nobody else answers."""
    server = http_server(world)
    before = tcp_of_the_kernel()
    for a in (A, A6):
        expect(ping(world, a, 3) == 3, "no echo replies from " + a)
        expect(ping(world, a, 1, size=1400) == 1, "no echo reply of 1400 bytes from " + a)
        expect(fetch(world, a, 80) == world.data, "contents from " + a)
    mac = stat(server)["own"]["mac"]
    for a in (A, A6):
        neighbour = world.kernel("ip neigh show " + a)
        expect(mac in neighbour, "%s: %s" % (mac, neighbour))
    expect(mac not in sh("ip link show a0"), "the kernel has our MAC")
    for a in (A, A6):
        s = world.socket_of_kernel(socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM)
        with s:
            s.settimeout(WAIT_S)
            expect(s.connect_ex((a, 81)) == 111, "a closed port of %s does not refuse" % a)
    expect(tcp_of_the_kernel() == before, "the kernel had a part in it: %s, %s" % (before, tcp_of_the_kernel()))
    shown = subprocess.run([FINESSE, "stat", str(server.pid)], env=environment(), stdout=subprocess.PIPE, timeout=WAIT_S, check=True).stdout.decode()
    expect(re.search(r"own addresses: 10\.78\.0\.9/24 ours, fd78::9/64 ours; MAC %s; answers for them" % mac, shown), shown)
    counters = stat(server)["own"]["counters"]
    expect(counters["ArpAnswered"] and counters["NdAnswered"] and counters["EchoAnswered"] == 8, counters)


def iputils(world):
    """What people ask with: ping, ping -6 and arping, from a kernel host. `arping -D` finds the address in use."""
    server = http_server(world)
    mac = stat(server)["own"]["mac"].upper()
    for options, a in (("", A), ("-s 1472 -M do", A), ("-R", A), ("-T tsonly", A), ("-6", A6), ("-6 -s 1452 -M do", A6)):
        text = world.kernel("ping -n -q -c 3 -i 0.2 -W 10 %s %s" % (options, a))
        expect("3 packets transmitted, 3 received" in text, text)
    text = world.kernel("arping -c 3 -w 10 -I k0 " + A)
    expect(text.count("reply from %s [%s]" % (A, mac)) == 3 and "Received 3 response" in text, text)
    text = world.kernel("arping -D -c 2 -w 10 -I k0 %s || echo in use" % A)
    expect("in use" in text and mac in text, text)
    text = world.kernel("arping -D -c 1 -w 1 -I k0 %s && echo free" % B)
    expect("free" in text and "Received 0 response" in text, text)


def echo_is_limited(world):
    http_server(world)
    begun = time.monotonic()
    n = ping(world, A, 2000, quiet=1.0)
    seconds = time.monotonic() - begun
    expect(50 <= n <= 150 * (2 + seconds), "%d of 2000 echo requests were answered in %.1f s" % (n, seconds)) # at most 150 for each second that it touches


def names(world):
    """getsockname, bind to the own address, loopback, an address that nobody has."""
    http_server(world)
    status, out = world.run("b0", B + "/24," + B6 + "/64", ["/usr/bin/python3", SERVER, "names", A, A6, B, B6])
    expect(status == 0, said(world.processes[-1]))
    expect(out.decode().split() == ["%s>%s" % (B, A), "%s>%s" % (B6, A6), "bound:%s>%s" % (B, A), "bound:%s>%s" % (B6, A6), "loopback:127.0.0.1",
                                    "listener:" + B, "taken:EADDRINUSE", "nobody:EHOSTUNREACH", "elsewhere:ENETUNREACH"], out.decode())


def gateway(world):
    """What is on no prefix of ours goes to the gateway: K forwards to its own second address."""
    world.kernel("ip addr add 192.0.2.1/32 dev lo; ip addr add 2001:db8::1/128 dev lo; ip route add 10.9.9.0/24 dev k0; ip -6 route add fd99::/64 dev k0;"
                 "ip addr add 10.9.9.1/24 dev k0; ip addr add fd99::1/64 dev k0 nodad")
    listeners = []
    for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        s = world.socket_of_kernel(family, socket.SOCK_STREAM)
        s.bind((address, 7))
        s.listen(4)
        listeners.append(s)
    for s, address in zip(listeners, ("192.0.2.1", "2001:db8::1")):
        status, out = world.run("b0", "10.9.9.9/24,fd99::9/64", ["/usr/bin/python3", SERVER, "connect", address, 7], settings=["--gateway", "10.9.9.1,fd99::1"])
        expect(status == 0 and out.decode().split() == ["10.9.9.9" if "." in address else "fd99::9"], "%s: %s %s" % (address, out, said(world.processes[-1])))
        s.close()
    world.kernel("ip addr del 10.9.9.1/24 dev k0; ip addr del fd99::1/64 dev k0; ip addr del 192.0.2.1/32 dev lo; ip addr del 2001:db8::1/128 dev lo")


def neighbour_moves(world):
    """The peer's MAC changes in mid-transfer: its announcement is believed, and the bytes are whole."""
    server = http_server(world)
    s = world.socket_of_kernel(socket.AF_INET, socket.SOCK_STREAM)
    with s:
        s.settimeout(WAIT_S)
        s.connect((A, 80))
        s.sendall(b"GET /slow HTTP/1.0\r\n\r\n")
        got, begun = b"", time.monotonic()
        moved = 0
        while True:
            piece = s.recv(65536)
            if not piece:
                break
            got += piece
            if moved < 2 and len(got) > (moved + 1) * 200000:
                moved += 1
                mac = "02:aa:00:00:00:0%d" % moved
                world.kernel("ip link set k0 down; ip link set k0 address %s; ip link set k0 up; ip addr replace %s/64 dev k0 nodad" % (mac, KERNEL6))
                until("the bridge forwards", lambda: "state forwarding" in sh("bridge link show dev k1"))
                announce(world, KERNEL, mac)
    body = got.split(b"\r\n\r\n", 1)[1]
    expect(moved == 2 and hashlib.sha256(body).digest() == hashlib.sha256(bytes(1000000)).digest(), "%d bytes, moved %d times" % (len(body), moved))
    asked, seconds = stat(server)["own"]["counters"]["Solicited"], time.monotonic() - begun
    expect(asked <= 12 + 2 * seconds, "it asks too much: %d times in %.1f s" % (asked, seconds))


def conflict_at_start(world):
    """The address is K's already: told, and the program runs on the kernel's TCP; with --strict it cannot connect."""
    for address in (KERNEL + "/24", KERNEL6 + "/64"):
        status, out = world.run("b0", address, ["/usr/bin/python3", SERVER, "conflict", "10.78.0.77" if "." in address else "fd78::77"])
        text = said(world.processes[-1])
        expect(status == 0 and b"OSError" in out, "%s %s" % (out, text))
        expect(re.search(re.escape(address.split("/")[0]) + r" is used by [0-9a-f:]{17} on b0", text), text)


def conflict_later(world):
    """K takes the address while a connection lives: defended; insisted on within ten seconds: given up (RFC 5227), and the connection is reset."""
    server = http_server(world, address=A + "/24")
    s = world.socket_of_kernel(socket.AF_INET, socket.SOCK_STREAM)
    s.settimeout(WAIT_S)
    s.connect((A, 80))
    announce(world, A, "02:bb:00:00:00:01")
    says(server, "02:bb:00:00:00:01 uses " + re.escape(A) + ", too")
    expect(stat(server)["own"]["counters"]["Defended"] == 1, "not defended")
    s.sendall(b"GET /file HTTP/1.0\r\n\r\n")
    expect(s.recv(4) == b"HTTP", "the connection does not go on")
    announce(world, A, "02:bb:00:00:00:01")
    says(server, re.escape(A) + " is used by 02:bb:00:00:00:01")
    try:
        while s.recv(1 << 20):
            pass
        raise Failed("the connection ended as if in order")
    except ConnectionResetError:
        pass
    expect(ping(world, A, 1, wait=0.5) == 0, "it still answers for the address")
    world.kernel("ip neigh flush dev k0")


def another_tree(world):
    """A second tree may not have the address on this interface; the first goes on."""
    http_server(world)
    status, out = world.run("a0", A + "/24", ["/usr/bin/python3", SERVER, "conflict", KERNEL])
    text = said(world.processes[-1])
    expect(b"OSError" in out and "another program of this host has the address " + A in text, "%s %s" % (out, text))
    expect(fetch(world, A, 80) == world.data, "the first one is disturbed")


def another_tree_elsewhere(world):
    """A second tree has the address on another interface of the same network: it hears of the first, as client and as server. The first goes on."""
    http_server(world)
    used = re.escape(A) + r" is used by [0-9a-f:]{17} on b0"
    status, out = world.run("b0", A + "/24", ["/usr/bin/python3", SERVER, "conflict", KERNEL])
    expect(status == 0 and b"OSError" in out and re.search(used, said(world.processes[-1])), "%s %s" % (out, said(world.processes[-1])))
    says(world.finesse("b0", A + "/24", ["/usr/bin/python3", SERVER, "serve", A, 81]), used)
    expect(fetch(world, A, 80) == world.data, "the first one is disturbed")


def kernel_takes_it(world):
    """The host's own kernel gets the address while it is used here: it is given up, the connection reset, and the kernel has it."""
    server = http_server(world, address=A + "/24")
    with world.socket_of_kernel(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.settimeout(WAIT_S)
        s.connect((A, 80))
        sh("ip addr add %s/32 dev br0" % A)
        says(server, "this host's kernel has %s now" % re.escape(A))
        try:
            expect(s.recv(1) == b"reset", "the connection ended in order")
        except ConnectionResetError:
            pass
    sh("ip addr del %s/32 dev br0" % A)


def kernel_has_it(world):
    status, out = world.run("b0", "10.78.0.254/24", ["/usr/bin/python3", SERVER, "connect", KERNEL, 9], settings=["--strict"])
    text = said(world.processes[-1])
    expect(status != 0 and "this host's kernel has it" in text, "%d %s %s" % (status, out, text))


def processes_share(world):
    """A prefork server: each process has an engine, one leads; it is killed, another one answers for the address, the port and echo requests."""
    server = world.finesse("a0", A + "/24", ["/usr/bin/python3", SERVER, "prefork", "0.0.0.0", 80, 3])
    ours(server, A)
    leaders, served = [server.pid], []
    for _ in range(3):
        served.append(int(fetch(world, A, 80, "/pid")))
        if len(served) == 3:
            break
        os.kill(leaders[-1], signal.SIGKILL)
        until("another leader", lambda: int(re.findall(r"pid (\d+) claims the address", said(server))[-1]) not in leaders)
        leaders.append(int(re.findall(r"pid (\d+) claims the address", said(server))[-1]))
        until("an answer", lambda: ping(world, A, 1, wait=0.3) == 1)
        if served[-1] not in leaders[:-1]:
            os.kill(served[-1], signal.SIGKILL)
            until("another server", lambda: any(int(p) != served[-1] for p in re.findall(r"pid (\d+) serves port 80 now", said(server))))
    expect(len(set(served)) >= 2 and len(set(leaders)) == 3, "%s served, %s led: %s" % (served, leaders, said(server)))


def send_and_exit(world, port):
    """All must arrive. Did the server's end come in order, too? (On a busy machine it may take longer to close than the client waits.)"""
    listener = world.socket_of_kernel(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((KERNEL, port))
    listener.listen(4)
    got = []

    def take():
        s, _ = listener.accept()
        with s:
            s.settimeout(WAIT_S)
            while True:
                piece = s.recv(65536)
                if not piece:
                    threading.Event().wait(0.05)  # a peer that closes a while after the client
                    break
                got.append(piece)
    t = threading.Thread(target=take)
    t.start()
    status, _ = world.run("b0", B + "/24", ["/usr/bin/python3", SERVER, "send", KERNEL, port, 500000])
    t.join(WAIT_S)
    listener.close()
    expect(status == 0 and b"".join(got) == bytes(500000), "%d bytes" % sum(map(len, got)))
    try:
        until("the server's end", lambda: not world.kernel("ss -Htn state last-ack state closing state fin-wait-1 sport = :%d" % port).strip(), 1)
    except Failed:
        return False
    return True


def at_the_end(world):
    """A client that sends and exits at once: all arrives, and the server's end is in order, too: its FIN is acknowledged before the process is gone."""
    expect(any(send_and_exit(world, port) for port in (7, 8, 9)), "the server's last ACK never came")


def blocks(pid, sig):
    """Does a process's first thread block the signal?"""
    return int(re.search("SigBlk:\t(.*)", Path("/proc/%d/task/%d/status" % (pid, pid)).read_text())[1], 16) >> sig - 1 & 1


def dies_twice(world):
    """A second signal, which another thread gets, does not cut short what the first one's death still has to send."""
    p = world.finesse("a0", A + "/24", ["/usr/bin/python3", SERVER, "fill", A, 80])
    ours(p, A)
    says(p, "listens")
    with world.socket_of_kernel(socket.AF_INET, socket.SOCK_STREAM) as c:
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        c.settimeout(WAIT_S)
        c.connect((A, 80))
        says(p, "filled with ")
        sent = int(re.search("filled with ([0-9]+)", said(p))[1])
        p.send_signal(signal.SIGTERM)
        until("the first signal's handler", lambda: blocks(p.pid, signal.SIGTERM))
        p.send_signal(signal.SIGTERM)
        got = 0
        while piece := c.recv(4096):
            got += len(piece)
    expect(got == sent, "%d of %d bytes" % (got, sent))
    expect(p.wait(WAIT_S) == -signal.SIGTERM, "it ended otherwise")


def net_raw_alone(world):
    """CAP_NET_RAW is all that is needed."""
    drop = ["setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all"]
    http_server(world, inside=drop, port=8080)
    expect(fetch(world, A, 8080) == world.data and fetch(world, A6, 8080) == world.data, "contents")
    status, out = world.run("b0", B + "/24", ["/usr/bin/python3", SERVER, "get", A, 8080], inside=drop)
    expect(status == 0 and int(out) == SIZE, said(world.processes[-1]))


def one_interface(world):
    """Two programs with an address each on one interface that goes nowhere."""
    http_server(world, interface="x0")
    for a, b in ((A, B + "/24"), (A6, B6 + "/64")):
        status, out = world.run("x0", b, ["/usr/bin/python3", SERVER, "get", a, 80])
        expect(status == 0 and int(out) == SIZE, "%s %s" % (out, said(world.processes[-1])))


def open_tun(world, inside_k, name="tun0", kind=IFF_TUN):
    """A TUN or TAP device in K or in M: its fd."""
    ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    theirs = os.open("/proc/%d/ns/net" % world.holder.pid, os.O_RDONLY)
    try:
        expect(not inside_k or libc.setns(theirs, CLONE_NEWNET) == 0, "setns")
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), kind | IFF_NO_PI))
    finally:
        libc.setns(ours, CLONE_NEWNET)
        os.close(ours)
        os.close(theirs)
    (world.kernel if inside_k else sh)("ip link set dev %s up" % name)
    return fd


def ip_packet(src, dst, protocol, payload):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0, socket.inet_aton(src), socket.inet_aton(dst))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def read_tun(fd, wanted, seconds=5):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([fd], [], [], 0.1)[0]:
            packet = os.read(fd, 2048)
            if packet[0] >> 4 == 4 and wanted(packet):
                return packet
    return None


def tun(world):
    """An interface without MACs: served where the host does not forward (K); where it does (M), declined with the reason."""
    fd = open_tun(world, False)
    p = world.finesse("tun0", "10.9.0.1/24", ["/usr/bin/python3", SERVER, "connect", "10.9.0.2", 9])
    says(p, "tun0 has no MACs, and this host forwards")
    os.close(fd)
    fd = open_tun(world, True)
    server = world.finesse("tun0", "10.9.0.1/24", ["/usr/bin/python3", SERVER, "serve", "0.0.0.0", 80], inside=["nsenter", "--net=/proc/%d/ns/net" % world.holder.pid])
    says(server, "serving TCP")  # which comes after the address here, for which there is nobody to ask
    echo = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + b"abcd"
    echo = echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:]
    os.write(fd, ip_packet("10.9.0.2", "10.9.0.1", 1, echo))
    reply = read_tun(fd, lambda p: p[9] == 1)
    expect(reply and reply[12:16] == socket.inet_aton("10.9.0.1") and reply[20] == 0 and reply[24:] == echo[4:], "no echo reply: %s" % reply)
    syn = struct.pack("!HHIIBBHHH", 4000, 80, 1000, 0, 0x50, 2, 65535, 0, 0)
    pseudo = socket.inet_aton("10.9.0.2") + socket.inet_aton("10.9.0.1") + struct.pack("!BBH", 0, 6, len(syn))
    syn = syn[:16] + struct.pack("!H", checksum(pseudo + syn)) + syn[18:]
    os.write(fd, ip_packet("10.9.0.2", "10.9.0.1", 6, syn))
    synack = read_tun(fd, lambda p: p[9] == 6)
    expect(synack and synack[33] == 0x12 and synack[28:32] == struct.pack("!I", 1001), "no SYN-ACK: %s" % synack)
    stray = read_tun(fd, lambda p: p[9] == 6 and p[33] & 4 or p[9] == 1, 0.5)
    expect(stray is None, "the kernel answers, too: %s" % stray)
    os.close(fd)


def carry(fds, counts, ends):
    """Frames from each of the two devices to the other, until `ends` is closed."""
    while True:
        ready = select.select([*fds, ends], [], [])[0]
        if ends in ready:
            return
        for fd in ready:
            frame = os.read(fd, 2048)
            counts[fds.index(fd)] += frame[12:14] in (b"\x08\x00", b"\x86\xdd")
            os.write(fds[fd == fds[0]], frame)


def tap(world):
    """Two programs, each with an address of its own on a TAP device, and whoever has the devices' descriptors between them. The kernel of M has no part in it."""
    fds, counts, (ends, end) = [open_tun(world, False, name, IFF_TAP) for name in ("tap0", "tap1")], [0, 0], os.pipe()
    carrier = threading.Thread(target=carry, args=(fds, counts, ends))
    carrier.start()
    try:
        before = tcp_of_the_kernel()
        http_server(world, "tap0")
        for a, b in ((A, B + "/24"), (A6, B6 + "/64")):
            status, out = world.run("tap1", b, ["/usr/bin/python3", SERVER, "get", a, 80])
            expect(status == 0 and int(out) == SIZE, "%s %s" % (out, said(world.processes[-1])))
        expect(tcp_of_the_kernel() == before, "the kernel had a part in it: %s, %s" % (before, tcp_of_the_kernel()))
        expect(counts[0] > 2 * SIZE / 1500 and counts[1] > 20, "the frames went another way: %s" % counts)
    finally:
        os.close(end)
        carrier.join()
        for fd in (ends, *fds):
            os.close(fd)


def one_mac(world):
    """A macvlan takes frames for its own MAC only: that one is used, where the host does not forward (K); where it does (M), the mode is declined."""
    sh("ip link add link a0 name mv1 type macvlan mode bridge; ip link set mv1 up")
    p = world.finesse("mv1", A + "/24", ["/usr/bin/python3", SERVER, "connect", KERNEL, 9])
    says(p, "mv1 takes frames for its own MAC only, and this host forwards")
    world.kernel("ip link add link k0 name mv0 type macvlan mode bridge; ip link set mv0 up")
    server = http_server(world, "mv0", inside=["nsenter", "--net=/proc/%d/ns/net" % world.holder.pid])
    names_of = "nsenter --net=/proc/%d/ns/net nstat -asz TcpPassiveOpens TcpOutRsts IcmpOutErrors Icmp6OutErrors" % world.holder.pid
    before = sh(names_of)
    for a, b in ((A, B + "/24"), (A6, B6 + "/64")):
        status, out = world.run("b0", b, ["/usr/bin/python3", SERVER, "get", a, 80])
        expect(status == 0 and int(out) == SIZE, "%s %s" % (out, said(world.processes[-1])))
    expect(sh(names_of) == before, "K's kernel had a part in it")
    expect(re.search(r"pid (\d+) claims", said(server)), "nobody claims")


CASES = [nginx_and_curl, kernel_peer, iputils, echo_is_limited, names, gateway, neighbour_moves, conflict_at_start, conflict_later, another_tree, another_tree_elsewhere, kernel_has_it, kernel_takes_it, processes_share,
         at_the_end, dies_twice, net_raw_alone, one_interface, tun, tap, one_mac]


def main():
    if "--inside" not in sys.argv:
        probe = subprocess.run(["unshare", "-Urn", "ip", "link", "add", "type", "veth"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if probe.returncode != 0:
            print("skipped: no user namespaces for this user, or no veth in one")
            return 77
        os.execvp("unshare", ["unshare", "-Urnm", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh", "/usr/bin/python3", __file__, "--inside"] + sys.argv[1:])
    die_with_parent()
    wanted = [a for a in sys.argv[1:] if a != "--inside"]
    return run(wanted) if wanted else side_by_side()


def side_by_side():
    """They mostly wait: for the link to say that nobody has the address."""
    shares = [[c.__name__ for c in CASES[i::WORLDS]] for i in range(WORLDS)]
    processes = [subprocess.Popen(["unshare", "--net", "/usr/bin/python3", __file__, "--inside"] + s, stdout=subprocess.PIPE, preexec_fn=die_with_parent) for s in shares]
    checks = failures = 0
    for p in processes:
        out, _ = p.communicate()
        *lines, last = out.decode(errors="replace").splitlines() or [""]
        print("\n".join(lines), flush=True)
        counts = re.match(r"\d+%: Checks: (\d+), Failures: (\d+)", last)
        checks += int(counts[1]) if counts else 1
        failures += int(counts[2]) if counts else 1
    return summary(checks, failures)


def summary(n, failed):
    print("%d%%: Checks: %d, Failures: %d, Errors: 0" % (100 * (n - failed) // max(n, 1), n, failed))
    return 1 if failed or not n else 0


def run(wanted):
    world, failed, n = World(), 0, 0
    for case in CASES:
        if case.__name__ not in wanted:
            continue
        n += 1
        begun = time.monotonic()
        try:
            case(world)
            print("ok: %s (%.1f s)" % (case.__name__, time.monotonic() - begun), flush=True)
        except (Failed, OSError, subprocess.SubprocessError) as e:
            failed += 1
            print("FAILED: %s: %s" % (case.__name__, e), flush=True)
            traceback.print_exc(limit=-3, file=sys.stdout)
            for p in world.processes:
                print("%s said: %s" % (p.pid, said(p)[-2000:]), flush=True)
        world.end()
    world.close()
    return summary(n, failed)


if __name__ == "__main__":
    sys.exit(main())
