#!/usr/bin/python3
"""finesse in a container as Docker makes one: CAP_NET_RAW alone of what it could use, io_uring and bpf refused, /sys and /proc/sys read-only; IPv4 and IPv6 behind a bridge.

The tree: a host whose bridge has the container (container.c) on one side, and which masquerades and publishes a port on the other; a machine outside. Each check
compares content by hash, and asks the container's kernel what its TCP did: nothing. A capture at the container's interface sees who sends an RST.
"""
import hashlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "net"))
from lab import TOP, Host, LabError, finesse_command  # noqa: E402
from nginx import nginx_argv  # noqa: E402

INSIDE, GATEWAY, PUBLISHED, OUTSIDE = ("172.18.0.2", "fd18::2"), ("172.18.0.1", "fd18::1"), ("203.0.113.1", "2001:db8::1"), ("203.0.113.2", "2001:db8::2")
PORT, PUBLISHED_PORT = 80, 8080
SOCKET = ["--classifier", "socket", "--firewall", "bypass"]
ETH_P_ALL, RST = 3, 4
RULES = """
table inet host {
	chain prerouting { type nat hook prerouting priority dstnat;
		ip daddr 203.0.113.1 tcp dport 8080 dnat ip to 172.18.0.2:80
		ip6 daddr 2001:db8::1 tcp dport 8080 dnat ip6 to [fd18::2]:80
	}
	chain postrouting { type nat hook postrouting priority srcnat;
		ip saddr 172.18.0.0/16 oifname "uplink" masquerade
		ip6 saddr fd18::/64 oifname "uplink" masquerade
	}
}
"""
# What runc does to /proc and /sys, and a process tree of its own.
MOUNTS = """set -e
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t sysfs -o ro sysfs /sys
mount -t tmpfs tmpfs /run
exec "$@"
"""


class Failed(Exception):
    pass


def expect(condition, text):
    if not condition:
        raise Failed(text)


def url(address, port, path="file"):
    return "http://%s:%d/%s" % ("[%s]" % address if ":" in address else address, port, path)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def until(seconds, condition, what):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed("not within %d s: %s" % (seconds, what))
        time.sleep(0.02)


class Resets:
    """with Resets(host, interface) as r: … ; then r.sources: who sent an RST there."""

    def __init__(self, host, interface):
        self.socket = host.socket(17, 3, 0)  # AF_PACKET, SOCK_RAW
        self.socket.bind((interface, ETH_P_ALL))
        self.socket.settimeout(0.1)
        self.sources, self.frames, self.over = [], 0, False
        self.thread = threading.Thread(target=self.receive, daemon=True)

    def receive(self):
        while True:
            try:
                f = self.socket.recv(128)
            except TimeoutError:
                if self.over:
                    return
                continue
            self.frames += 1
            if f[12:14] == b"\x08\x00" and f[23] == 6 and f[14 + (f[14] & 15) * 4 + 13] & RST:
                self.sources.append(".".join(map(str, f[26:30])))
            elif f[12:14] == b"\x86\xdd" and f[20] == 6 and f[54 + 13] & RST:
                self.sources.append(f[22:38].hex())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join(10)
        self.socket.close()


class Tree:
    def __init__(self, scratch):
        self.dir, self.processes = scratch, []
        self.container, self.host, self.outside = Host(self, "eth0"), Host(self, "docker0"), Host(self, "eth0")
        self.host.run(["ip", "link", "add", "docker0", "type", "bridge"])
        self.host.run(["ip", "link", "add", "veth0", "type", "veth", "peer", "name", "eth0", "netns", str(self.container.holder.pid)])
        self.host.run(["ip", "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", str(self.outside.holder.pid)])
        self.host.run(["ip", "link", "set", "veth0", "master", "docker0", "up"])
        for host, device, addresses, route in ((self.host, "docker0", GATEWAY, None), (self.host, "uplink", PUBLISHED, None),
                                               (self.container, "eth0", INSIDE, GATEWAY), (self.outside, "eth0", OUTSIDE, None)):
            host.run(["ip", "addr", "add", addresses[0] + ("/16" if addresses[0].startswith("172") else "/24"), "dev", device])
            host.run(["ip", "addr", "add", addresses[1] + "/64", "dev", device, "nodad"])
            host.run(["ip", "link", "set", device, "up"])
            if route:
                host.run(["ip", "route", "add", "default", "via", route[0]])
                host.run(["ip", "-6", "route", "add", "default", "via", route[1]])
        self.host.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"])
        self.host.run(["nft", "-f", "-"], input=RULES.encode())

    def inside(self, argv, finesse=None, **kw):
        """A process in the container, by the settings of `finesse`, or without it."""
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", MOUNTS, "sh", str(TOP / "tests/rootless/container")]
        if finesse is not None:
            command += finesse_command() + ["run", *finesse, "--"]
        return self.container.spawn(command + [str(a) for a in argv], **kw)

    def run_inside(self, argv, finesse=None, timeout=30):
        p = self.inside(argv, finesse, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = p.communicate(timeout=timeout)
        self.processes.remove(p)
        return p.returncode, out, err.decode(errors="replace")

    def end(self, p):
        """SIGKILL for all of it, which no handler of the program's sees. The first process of its pid namespace is the last to be gone."""
        try:
            firsts = [os.pidfd_open(int(pid)) for pid in Path("/proc/%d/task/%d/children" % (p.pid, p.pid)).read_text().split()]
        except OSError:  # it has ended
            firsts = []
        self.processes.remove(p)
        p.kill()
        p.wait()
        for fd in firsts:
            select.select([fd], [], [], 20)
            os.close(fd)

    def counters(self):
        names = ["TcpActiveOpens", "TcpPassiveOpens", "TcpOutSegs", "TcpOutRsts"]
        fields = [line.split() for line in self.container.text(["nstat", "-asz", *names]).splitlines()]
        return {f[0]: int(f[1]) for f in fields if f and f[0] in names}

    def close(self):
        for p in self.processes + [h.holder for h in (self.container, self.host, self.outside)]:
            p.kill()
            p.wait()


def start_nginx(tree, settings, err="nginx.err", workers=0, listen=PORT):
    argv = nginx_argv(tree.dir, listen, server="listen [::]:%s; location /put/ { dav_methods PUT; create_full_put_path on; } location /pid { return 200 \"$pid\\n\"; } add_header X-Pid $pid;" % listen, http="client_max_body_size 100m;")
    if workers:
        config = Path(argv[-1])
        config.write_text(config.read_text().replace("master_process off;", "worker_processes %d;" % workers).replace("user root;", "user www-data;"))
    log = open(Path(tree.dir) / err, "wb")
    p = tree.inside(argv, settings, stderr=log)
    until(20, lambda: tree.container.text(["ss", "-Hltn", "sport = :%d" % PORT]).count("LISTEN") >= 2, "nginx listens: " + (Path(tree.dir) / err).read_text())
    if workers:  # one that was forked just now is root still
        until(20, lambda: len(workers_of(tree)) == workers and len(workers_of(tree, root=True)) == 1, "%d workers" % workers)
    return p


def get(tree, address, port, path="file"):
    p = tree.outside.run(["curl", "-sS", "--fail", "-m", "20", url(address, port, path)])
    return sha256(p.stdout)


def by_default(tree):
    """Rules cannot be read there: the kernel serves, one line says so, and what helps."""
    p = start_nginx(tree, [])
    expect(get(tree, PUBLISHED[0], PUBLISHED_PORT) == tree.hash, "damaged")
    tree.end(p)
    expect(tree.counters()["TcpPassiveOpens"] == 1, "not by the kernel: %s" % tree.counters())
    said = (Path(tree.dir) / "nginx.err").read_text()
    expect(re.search(r"firewall.*CAP_NET_ADMIN", said), said)
    status, out, _ = tree.run_inside(finesse_command() + ["doctor"])
    expect(status == 1 and re.search(rb"^missing +classifier .*finesse run --classifier socket --firewall bypass", out, re.M), out.decode())
    status, out, err = tree.run_inside(["true"], SOCKET + ["--strict"])
    expect(status == 0, err)


def silent(tree, before, resets):
    now = tree.counters()
    expect(now == before, "the container's kernel spoke: %s, before %s" % (now, before))
    ours = [s for s in resets.sources if s in (INSIDE[0], "fd18000000000000" + "0" * 15 + "2")]
    expect(resets.frames > 20 and not ours, "%d frames, RSTs of the container's: %s" % (resets.frames, ours))


def server(tree):
    """By a published port, both families; uploads; many at once."""
    p = start_nginx(tree, SOCKET)
    before = warm(tree)
    with Resets(tree.host, "veth0") as resets:
        for address in PUBLISHED:
            expect(get(tree, address, PUBLISHED_PORT) == tree.hash, "damaged, by " + address)
            tree.outside.run(["curl", "-sS", "--fail", "-m", "20", "-T", Path(tree.dir) / "www/file", url(address, PUBLISHED_PORT, "put/got")])
            expect(sha256((Path(tree.dir) / "www/put/got").read_bytes()) == tree.hash, "the upload is damaged, by " + address)
        config = "next\n".join('url = "%s"\noutput = "%s/out-%d"\n' % (url(PUBLISHED[i % 2], PUBLISHED_PORT, "small"), tree.dir, i) for i in range(60))
        tree.outside.run(["curl", "-sS", "--fail", "-g", "-Z", "--parallel-max", "20", "-m", "30", "-K", "-"], input=config.encode())
        for i in range(60):
            expect((Path(tree.dir) / ("out-%d" % i)).read_bytes() == tree.small, "file %d is damaged" % i)
        silent(tree, before, resets)
    return p


def server_by_loopback(tree):
    """The kernel's own queue, as ever; what it accepts has no filter of ours."""
    p = server(tree)
    status, out, err = tree.run_inside(["curl", "-sS", "--fail", "-m", "20", url("127.0.0.1", PORT)])
    expect(status == 0 and sha256(out) == tree.hash, err)
    expect(tree.counters()["TcpPassiveOpens"] > 0, "not by the kernel")
    tree.end(p)


def server_killed(tree):
    """SIGKILL in mid-transfer: the kernel owns the port again, and answers at once; nothing is left."""
    p = start_nginx(tree, SOCKET)
    warm(tree)
    client = tree.outside.spawn(["curl", "-sS", "--limit-rate", "200K", "-m", "30", "-T", Path(tree.dir) / "www/file", url(PUBLISHED[0], PUBLISHED_PORT, "put/killed")],
                                stderr=subprocess.DEVNULL)
    until(10, lambda: "ESTAB" in tree.outside.text(["ss", "-Htn", "dport = :%d" % PUBLISHED_PORT]), "the transfer begins")
    tree.end(p)
    for address in PUBLISHED:
        refused = tree.outside.run(["curl", "-sS", "-m", "10", url(address, PUBLISHED_PORT)], check=False)
        expect(refused.returncode == 7, "status %d, not refused: %s" % (refused.returncode, refused.stderr.decode()))
    expect(client.wait(20) != 0, "the transfer's client does not hear of the end")
    tree.processes.remove(client)
    left = tree.container.text(["ss", "-Htan", "exclude", "time-wait"])
    expect(not left.strip(), "left: " + left)


def workers_of(tree, root=False):
    """Pids of the container's nginx processes that are not root, or those that are."""
    net, found = os.readlink("/proc/%d/ns/net" % tree.container.holder.pid), []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink("/proc/%s/ns/net" % entry) == net and Path("/proc/%s/comm" % entry).read_text() == "nginx\n" and root == (os.stat("/proc/" + entry).st_uid == 0):
                found.append(int(entry))
        except OSError:
            pass
    return found


def master_of(tree):
    found = workers_of(tree, root=True)
    expect(len(found) == 1, "masters: %s" % found)
    return found[0]


def connected(tree, address, rcvbuf=None):
    s = tree.outside.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    if rcvbuf:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    s.settimeout(20)
    s.connect((address, PUBLISHED_PORT))
    return s


def peers_have_ended(tree, what):
    until(20, lambda: not tree.outside.text(["ss", "-Htn", "state", "connected", "exclude", "time-wait"]).strip(), what)


def server_with_worker(tree):
    """A master, and a worker that is not root: the broker opens its link, with CAP_NET_RAW alone. When it is killed, its successor serves, and idle clients hear of it."""
    p = start_nginx(tree, SOCKET, workers=1)
    before = warm(tree)
    with Resets(tree.host, "veth0") as resets:
        for address in PUBLISHED * 2:
            expect(get(tree, address, PUBLISHED_PORT) == tree.hash, "damaged, by " + address)
        peers_have_ended(tree, "the worker has taken its clients' FINs, which nobody else could")
        kill_worker(tree)
        for address in PUBLISHED:
            expect(get(tree, address, PUBLISHED_PORT) == tree.hash, "damaged after the worker's death, by " + address)
        silent(tree, before, resets)
    idle = [connected(tree, address) for address in PUBLISHED]
    for c in idle:
        c.sendall(b"GET /pid HTTP/1.1\r\nHost: a\r\n\r\n")
        expect(c.recv(1000), "no answer")
    kill_worker(tree)
    for c in idle:
        expect(c.recv(1) == b"", "an idle client hears of the end, as of the kernel's")
        c.close()
    expect(tree.counters() == before, "the container's kernel spoke: %s, before %s" % (tree.counters(), before))
    tree.end(p)


def kill_worker(tree):
    """The only one; until there is another."""
    first = workers_of(tree)
    expect(len(first) == 1, "workers: %s" % first)
    os.kill(first[0], signal.SIGKILL)
    until(20, lambda: workers_of(tree) not in ([], first), "another worker")


def warm(tree):
    """Until a worker serves, the port is the kernel's. The counters from then on."""
    def by_kernel():
        before = tree.counters()["TcpPassiveOpens"]
        get(tree, PUBLISHED[0], PUBLISHED_PORT, "small")
        return tree.counters()["TcpPassiveOpens"] - before
    until(20, lambda: not by_kernel(), "a worker's engine serves")
    return tree.counters()


def many(tree, what, n):
    """`n` at once, by both families; which processes answered."""
    config = "next\n".join('url = "%s"\nmax-time = 20\n' % url(PUBLISHED[i % 2], PUBLISHED_PORT, what) for i in range(n))
    p = tree.outside.run(["curl", "-sS", "--fail", "-g", "-Z", "--parallel-max", "20", "-K", "-"], input=config.encode(), timeout=60)
    lines = p.stdout.split()
    expect(len(lines) == n, "%d answers of %d: %s" % (len(lines), n, p.stderr.decode()))
    return {pid: lines.count(pid) for pid in lines}


def inside_pid(pid):
    """As the container's own namespace numbers it, which is what nginx says."""
    return int(re.search(r"^NSpid:.*\s(\d+)$", Path("/proc/%d/status" % pid).read_text(), re.M)[1])


def all_serve(tree):
    """Chance decides which member a client is for, so ask until each worker has answered. Who answered."""
    seen, workers = set(), {inside_pid(pid) for pid in workers_of(tree)}

    def each():
        seen.update(int(pid) for pid in many(tree, "pid", 60))
        return seen >= workers
    until(20, each, "each of %s answers" % workers)
    return seen


class Transfer:
    """A client of the large file, which reads nothing beyond the head until it is told to; whose it is stands there."""

    def __init__(self, tree, address):
        self.socket = connected(tree, address, rcvbuf=65536)  # so that the server cannot be done before it dies
        self.socket.sendall(b"GET /file HTTP/1.0\r\n\r\n")
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            got = self.socket.recv(1024)
            expect(got, "no answer")
            self.data += got
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        self.pid = int(re.search(rb"X-Pid: (\d+)", head)[1])

    def rest(self):
        """Hash of what came until the connection ended."""
        try:
            while got := self.socket.recv(1 << 16):
                self.data += got
        except ConnectionResetError:
            pass
        except TimeoutError:
            raise Failed("of %d: nothing more in 20 s after %d bytes" % (self.pid, len(self.data))) from None
        self.socket.close()
        return sha256(self.data)


def server_with_workers(tree):
    """Several that share one listening socket: each frame is one member's, all of them serve, and one that is killed is the others' and its successor's."""
    p = start_nginx(tree, SOCKET, workers=3)
    before = warm(tree)
    with Resets(tree.host, "veth0") as resets:
        for address in PUBLISHED * 2:
            expect(get(tree, address, PUBLISHED_PORT) == tree.hash, "damaged, by " + address)
        all_serve(tree)
        silent(tree, before, resets)
    transfers = []
    until(20, lambda: transfers.append(Transfer(tree, PUBLISHED[len(transfers) % 2])) or len(transfers) >= 6 and len({t.pid for t in transfers}) >= 2, "transfers of two workers")
    victim, first = transfers[0].pid, workers_of(tree)
    os.kill(next(pid for pid in first if inside_pid(pid) == victim), signal.SIGKILL)
    until(20, lambda: len(workers_of(tree)) == 3 and set(workers_of(tree)) != set(first), "another worker")
    by = all_serve(tree)
    expect(victim not in by, "%s, killed: %d" % (by, victim))
    for t in transfers:
        expect((t.rest() == tree.hash) == (t.pid != victim), "of %d: %d bytes, killed: %d" % (t.pid, len(t.data), victim))
    expect(tree.counters()["TcpPassiveOpens"] == before["TcpPassiveOpens"], "the kernel accepted")
    tree.end(p)


def listens(tree, pids):
    """Do these have a listening socket among the program's own numbers?"""
    return [pid for pid in pids if re.search(r"pid=%d,fd=\d\d?\)" % pid, tree.container.text(["ss", "-Htlnp"]))]


def server_reloaded(tree):
    """Sockets of one kernel group (SO_REUSEPORT), and a reload in mid-transfer: the old workers end theirs, and the new ones serve."""
    p = start_nginx(tree, SOCKET, workers=2, listen="%d reuseport" % PORT)
    before = warm(tree)
    slow = [Transfer(tree, PUBLISHED[i % 2]) for i in range(6)]
    old, answered = workers_of(tree), many(tree, "pid", 40)
    os.kill(master_of(tree), signal.SIGHUP)
    until(20, lambda: len(set(workers_of(tree)) - set(old)) == 2 and not listens(tree, old), "two new workers, and the old ones have closed their listeners")
    by = many(tree, "pid", 80)
    expect(set(by).isdisjoint(answered), "%s, before the reload %s" % (by, answered))
    for t in slow:
        expect(t.rest() == tree.hash, "a transfer of %d did not survive the reload: %d bytes" % (t.pid, len(t.data)))
    until(20, lambda: set(workers_of(tree)).isdisjoint(old), "the old workers end")
    many(tree, "pid", 40)
    expect(tree.counters() == before, "the container's kernel spoke: %s, before %s" % (tree.counters(), before))
    tree.end(p)


def client(tree):
    """Through the bridge's masquerade, both families; its ports are free again after it."""
    web = nginx_argv(tree.dir, PORT, server="listen [::]:%d;" % PORT, name="outside")
    p = tree.outside.spawn(web, stderr=subprocess.DEVNULL)
    until(20, lambda: tree.outside.text(["ss", "-Hltn", "sport = :%d" % PORT]).count("LISTEN") == 2, "nginx outside listens")
    # A server that was killed before has left peers whose FIN the kernel refuses, as nobody listens any more: that is not of this client.
    peers_have_ended(tree, "the peers of the servers before have ended")
    before = tree.counters()
    with Resets(tree.host, "veth0") as resets:
        for address in OUTSIDE:
            status, out, err = tree.run_inside(["curl", "-sS", "--fail", "-m", "20", url(address, PORT)], SOCKET)
            expect(status == 0 and sha256(out) == tree.hash, "%d, %d bytes by %s: %s" % (status, len(out), address, err))
        many = sum((["-o", "/dev/null", url(OUTSIDE[i % 2], PORT, "small")] for i in range(80)), [])
        status, out, err = tree.run_inside(["curl", "-sS", "--fail", "-g", "-Z", "--parallel-max", "40", "-m", "30", "-w", "%{http_code} ", "-H", "Connection: close", *many], SOCKET)
        expect(status == 0 and out.split() == [b"200"] * 80, "%d: %s %s" % (status, out, err))
        silent(tree, before, resets)
    tree.end(p)
    left = tree.container.text(["ss", "-Htan", "exclude", "time-wait"])
    expect(not left.strip(), "left: " + left)


# A server of one process is the kernel's until it first looks for a client.
LOOKS = """
s.setblocking(False)
try:
    s.accept()
except BlockingIOError:
    s.setblocking(True)
    print("ready", flush=True)
"""

LOCKER = """
import socket, sys
s = socket.create_server(("", 80))""" + LOOKS + """
for turn in range(2):
    c, _ = s.accept()
    if turn == 0:
        s.setsockopt(socket.SOL_SOCKET, 44, 1)  # SO_LOCK_FILTER
    c.sendall(b"hello")
    c.close()
"""


def own_filter(tree):
    """A program that locks its listener's filter has it from then on without ours: the kernel's listener, which speaks."""
    before = tree.counters()["TcpPassiveOpens"]
    p = tree.inside([sys.executable, "-c", LOCKER], SOCKET, stdout=subprocess.PIPE)
    expect(p.stdout.readline() == b"ready\n", "it does not listen")
    for opens in (0, 1):
        got = tree.host.run(["ncat", "--recv-only", "-w", "10", INSIDE[0], str(PORT)]).stdout
        expect(got == b"hello", "%s" % got)
        expect(tree.counters()["TcpPassiveOpens"] == before + opens, "connection %d: the kernel accepted %d" % (opens, tree.counters()["TcpPassiveOpens"] - before))
    tree.end(p)


LEAVES = """
import os, signal, socket, sys
s = socket.create_server(("", 80), reuse_port=True)""" + LOOKS + """
c, _ = s.accept()
c.recv(1)
c.setblocking(False)
n = 0
try:
    while n < 4000000:
        n += c.send(b"x" * 1000)
except BlockingIOError:
    pass
print(n, flush=True)
if sys.argv[1] == "exit":
    os._exit(0)
os.kill(os.getpid(), signal.SIGTERM)
"""


class LateReader:
    """A server that ends when it has sent what it can, and its client, which has read nothing."""

    def __init__(self, tree, how):
        command = ["sh", "-c", '"$@"; :', "sh", sys.executable, "-c", LEAVES, how]  # the first process of a pid namespace gets no such signal
        self.server = tree.inside(command, SOCKET, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        expect(self.server.stdout.readline() == b"ready\n", "it does not listen")
        self.socket = tree.host.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self.socket.settimeout(20)
        self.socket.connect((INSIDE[0], PORT))
        self.socket.sendall(b"x")
        self.sent = int(self.server.stdout.readline())
        expect(self.sent > 65536, "it sent %d bytes" % self.sent)

    def reads(self, what):
        got = 0
        try:
            while data := self.socket.recv(1 << 16):
                got += len(data)
        except ConnectionResetError:
            pass
        self.socket.close()
        expect(got == self.sent, "%s: %d bytes came of %d" % (what, got, self.sent))


def late_reader(tree):
    """Who reads late gets all that a process had sent before its end: the kernel cannot take it over here, so the process stays until the peer has it, and answers who joins it."""
    before = tree.counters()["TcpPassiveOpens"]
    readers = [LateReader(tree, "signal")]
    time.sleep(3)  # longer than a silent peer is waited for
    readers[0].reads("by a signal")
    readers += [LateReader(tree, "exit"), LateReader(tree, "exit")]
    time.sleep(3)
    readers[1].reads("by exit")
    readers[2].reads("of one that began to listen meanwhile")
    for r in readers:
        r.server.wait(20)
        tree.end(r.server)
    expect(tree.counters()["TcpPassiveOpens"] == before, "the kernel accepted")


OUTLIVES = """
import socket, time
s = socket.create_server(("", 80))""" + LOOKS + """
c, _ = s.accept()
s.close()
print("closed", flush=True)
while data := c.recv(100):
    c.sendall(data)
c.close()
for _ in range(1000):  # its last segments keep the port for some 40 ms
    try:
        socket.create_server(("", 80), backlog=1)
        print("again", flush=True)
        break
    except OSError:
        time.sleep(0.01)
input()
"""


def outlived_listener(tree):
    """A connection whose listener was closed: the kernel stays silent, who comes anew is refused by the engine, and the port is free after it."""
    before = tree.counters()
    p = tree.inside([sys.executable, "-c", OUTLIVES], SOCKET, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with Resets(tree.host, "veth0") as resets:
        expect(p.stdout.readline() == b"ready\n", "it does not listen")
        c = tree.host.socket(socket.AF_INET, socket.SOCK_STREAM)
        c.settimeout(10)
        c.connect((INSIDE[0], PORT))
        expect(p.stdout.readline() == b"closed\n", "it did not accept")
        for _ in range(20):
            c.sendall(b"x" * 100)
            got = b""
            while len(got) < 100:
                got += c.recv(100) or b"?" * 100
            expect(got == b"x" * 100, "%s" % got)
        knock = tree.host.run(["ncat", "-w", "5", INSIDE[0], str(PORT)], check=False, timeout=20)
        expect(b"refused" in knock.stderr, "%s" % knock.stderr)
        c.shutdown(socket.SHUT_WR)
        expect(c.recv(1) == b"", "no end")
        expect(p.stdout.readline() == b"again\n", "it cannot listen again")
        c.close()
    expect(tree.counters() == before, "the container's kernel spoke: %s, before %s" % (tree.counters(), before))
    expect(len(resets.sources) == 1, "RSTs: %s" % resets.sources)
    tree.end(p)


FORKS_LATE = """
import os, socket, sys
s = socket.create_server(("", 80))
print("listens", flush=True)
input()
if sys.argv[1] != "alone" and os.fork():
    os.wait()
    sys.exit()
print("accepts", flush=True)
for _ in range(4):
    c, _ = s.accept()
    c.sendall(b"hello " + c.recv(100))
    c.close()
"""


class Early:
    """A client, and what it is told."""

    def __init__(self, tree, what):
        self.what = what
        self.socket = tree.host.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.settimeout(20)
        self.socket.connect((INSIDE[0], PORT))
        self.socket.sendall(what)

    def ends(self, text):
        got = b""
        while data := self.socket.recv(100):
            got += data
        self.socket.close()
        expect(got == b"hello " + self.what, "%s: %s" % (text, got))


def before_fork(tree):
    """A client that comes between listen and the first accept is served, also by a child that is forked later, and also when its handshake ends after that."""
    for how in ("alone", "fork"):
        p = tree.inside([sys.executable, "-c", FORKS_LATE, how], SOCKET, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        expect(p.stdout.readline() == b"listens\n", "it does not listen")
        early = Early(tree, b"early")
        tree.container.run(["nft", "-f", "-"], input=b"table ip half {\n chain c {\n type filter hook input priority 0;\n tcp dport %d tcp flags & (syn | ack) == ack drop\n }\n}\n" % PORT)
        half = Early(tree, b"half")
        p.stdin.write(b"\n")
        p.stdin.flush()
        expect(p.stdout.readline() == b"accepts\n", "it does not go on")
        early.ends("%s, from before" % how)
        late = Early(tree, b"late")
        late.ends("%s, from after" % how)
        tree.container.run(["nft", "delete", "table", "ip", "half"])
        half.ends("%s, half open" % how)
        Early(tree, b"last").ends("%s, at last" % how)
        p.stdin.close()
        tree.end(p)


def strangers(tree):
    """A client's port is silent as a whole: the engine answers who knocks there, as the kernel would."""
    p = tree.outside.spawn(["ncat", "-lk", str(PORT)], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    until(10, lambda: tree.outside.text(["ss", "-Hltn", "sport = :%d" % PORT]).strip(), "ncat outside listens")
    c = tree.inside(["ncat", OUTSIDE[0], str(PORT)], SOCKET, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    until(20, lambda: tree.outside.text(["ss", "-Htn", "state", "established", "sport = :%d" % PORT]).strip(), "the connection is there")
    port = int(re.search(r":(\d+) ", tree.container.text(["ss", "-Hltn"]).split(INSIDE[0])[1]).group(1))
    knock = tree.host.run(["ncat", "-w", "5", INSIDE[0], str(port)], check=False, timeout=20)
    expect(b"refused" in knock.stderr, "port %d: %s" % (port, knock.stderr))
    expect(tree.outside.text(["ss", "-Htn", "state", "established", "sport = :%d" % PORT]).strip(), "the connection did not survive that")
    tree.end(c)
    tree.end(p)


def main():
    if os.geteuid() != 0:
        print("skipped: needs root")
        return 77
    if subprocess.run(["getent", "passwd", "www-data"], stdout=subprocess.DEVNULL).returncode:
        print("skipped: needs the user www-data")
        return 77
    for program in ("nginx", "curl", "nft", "ncat"):
        if subprocess.run(["sh", "-c", "command -v " + program], stdout=subprocess.DEVNULL).returncode:
            print("skipped: needs " + program)
            return 77
    only = sys.argv[1:]
    failed = n = 0
    scratch = subprocess.check_output(["mktemp", "-d"], text=True).strip()
    os.chmod(scratch, 0o755)
    tree = Tree(scratch)
    try:
        (Path(scratch) / "www").mkdir()
        data, tree.small = os.urandom(5000000), os.urandom(3000)
        (Path(scratch) / "www/file").write_bytes(data)
        (Path(scratch) / "www/small").write_bytes(tree.small)
        tree.hash = sha256(data)
        for check in (by_default, server_by_loopback, server_killed, server_with_worker, server_with_workers, server_reloaded, client, own_filter, late_reader, outlived_listener, before_fork, strangers):
            if only and check.__name__ not in only:
                continue
            n += 1
            try:
                check(tree)
                print("ok: " + check.__name__, flush=True)
            except (Failed, LabError, subprocess.TimeoutExpired, IndexError, OSError) as e:
                failed += 1
                print("FAILED: %s: %s: %s" % (check.__name__, type(e).__name__, e), flush=True)
                for p in list(tree.processes):
                    tree.end(p)
    finally:
        tree.close()
        subprocess.run(["rm", "-rf", scratch], check=False)
    print("%d%%: Checks: %d, Failures: %d, Errors: 0" % (100 * (n - failed) // max(n, 1), n, failed))
    return 1 if failed or not n else 0


if __name__ == "__main__":
    sys.exit(main())
