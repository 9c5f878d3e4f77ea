"""The loads of the bench: each starts a server, runs a client once, and says what it saw.

A load is a function (setup) -> Sample. The server is started anew for each sample, so that no sample inherits another's
sockets, and every client run is bounded by `seconds`.
"""
import itertools
import json
import os
import re
import subprocess
import sys
import time

from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "net"))
from lab import CLIENT_IP, CLIENT_POOL, SERVER_IP, TOP, Lab, LabError  # noqa: E402,F401
from nginx import nginx_argv  # noqa: E402

PORT = 7000
HERTZ = os.sysconf("SC_CLK_TCK")


@dataclass
class Setup:
    """Who runs under finesse in this sample."""
    lab: object
    server: bool
    client: bool
    seconds: float
    settings: tuple = ()


@dataclass
class Sample:
    value: float
    requests: float = 0  # for CPU per request; 0: none is told
    cpu_us: float = 0  # all that the machine did meanwhile
    server_us: float = 0  # the server's process alone
    client_us: float = 0
    more: dict = field(default_factory=dict)  # further figures of the same unit, by name


def machine_busy_s():
    fields = [int(v) for v in open("/proc/stat").readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / HERTZ


def process_cpu_s(pid):
    fields = Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / HERTZ


def children_cpu_s():
    """Of the processes that ended and were waited for: between two looks, the clients."""
    t = os.times()
    return t.children_user + t.children_system


class Server:
    """with Server(setup, argv) as s: … ; ended, whatever happens."""

    def __init__(self, setup, argv, cwd=None):
        self.setup, self.argv, self.cwd = setup, argv, cwd

    def __enter__(self):
        host = self.setup.lab.server
        self.process = host.spawn(self.argv, self.setup.server, self.setup.settings, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        host.wait_listening(self.process, PORT, self.setup.server)
        return self

    def __exit__(self, *_):
        self.setup.lab.stop(self.process)

    def measure(self, clients):
        """Runs client commands side by side: their outputs, and what it cost."""
        host, s = self.setup.lab.client, self.setup
        before = machine_busy_s(), process_cpu_s(self.process.pid), children_cpu_s()
        running = [host.spawn(argv, s.client, s.settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for argv in clients]
        limit = time.monotonic() + s.seconds * 3 + 20
        outputs = [self._wait(p, clients[0][0], limit) for p in running]
        after = machine_busy_s(), process_cpu_s(self.process.pid), children_cpu_s()
        self.sample = Sample(0, 0, *((a - b) * 1e6 for a, b in zip(after, before)))
        return outputs

    def _wait(self, p, name, limit):
        try:
            out = p.communicate(timeout=max(limit - time.monotonic(), 0.1))[0]
        except subprocess.TimeoutExpired:
            p.kill()
            p.communicate()
            raise LabError("%s did not end" % name) from None
        finally:
            self.setup.lab.processes.remove(p)
        if p.returncode != 0:
            raise LabError("%s: status %d" % (name, p.returncode))
        return out.decode(errors="replace")

    def result(self, value, requests=0):
        self.sample.value, self.sample.requests = value, requests
        return self.sample




def number(pattern, text):
    m = re.search(pattern, text)
    if not m:
        raise LabError("no figure in the client's output: %r" % text[-300:])
    return float(m.group(1))


# ---- bulk ----

def bulk(reverse):
    def load(s):
        with Server(s, ["iperf3", "-s", "-p", PORT]) as server:
            argv = ["iperf3", "-c", SERVER_IP, "-p", PORT, "-J", "-t", "%d" % max(s.seconds, 1)]
            argv += ["-R"] if reverse else []
            document = json.loads(server.measure([argv])[0])
            received = document["end"]["sum_received"]
            return server.result(received["bits_per_second"] / 1e9, received["bytes"] / 1e6)
    return load


# ---- request and response ----

def redis(connections, pipeline=1):
    def load(s):
        with Server(s, ["redis-server", "--port", PORT, "--bind", SERVER_IP, "--save", "", "--appendonly", "no",
                        "--protected-mode", "no"]) as server:
            rate_guess = 15000 if connections == 1 else 60000
            n = int(rate_guess * pipeline * s.seconds)
            out = server.measure([["redis-benchmark", "-h", SERVER_IP, "-p", PORT, "-c", connections, "-n", n, "-P", pipeline, "-t", "get",
                                   "-d", 64, "--csv"]])[0]
            rate = float([line for line in out.splitlines() if line.startswith('"GET')][0].split(",")[1].strip('"'))
            return server.result(rate, n)
    return load


def write_files(s):
    root = Path(s.lab.dir) / "www"
    root.mkdir(exist_ok=True)
    for name, size in (("1k", 1 << 10), ("100k", 100 << 10), ("10m", 10 << 20)):
        (root / name).write_bytes(b"x" * size)


def start_nginx(s, keepalive):
    write_files(s)
    return Server(s, nginx_argv(s.lab.dir, "%s:%d backlog=4096" % (SERVER_IP, PORT), main="worker_rlimit_nofile 8192;", connections=4096,
                                http="keepalive_requests 1000000000; keepalive_timeout %d;" % keepalive))


def memcached(s):
    """Two threads at the server, one at the client; nine gets to a set, values of 1 KiB."""
    with Server(s, ["memcached", "-u", "root", "-l", SERVER_IP, "-p", PORT, "-t", 2]) as server:
        out = server.measure([["memcaslap", "-s", "%s:%d" % (SERVER_IP, PORT), "-T", 1, "-c", 64, "-X", 1024, "-t", "%ds" % max(s.seconds, 1)]])[0]
        return server.result(number(r"TPS:\s+(\d+)", out), number(r"Ops:\s+(\d+)", out))


def run_wrk(s, server, connections, name="1k"):
    out = server.measure([["wrk", "-t", 1, "-c", connections, "-d", "%ds" % max(s.seconds, 1), "http://%s:%d/%s" % (SERVER_IP, PORT, name)]])[0]
    return server.result(number(r"Requests/sec:\s+([\d.]+)", out), number(r"(\d+) requests in", out))


def wrk(connections, name="1k"):
    def load(s):
        with start_nginx(s, 65) as server:
            return run_wrk(s, server, connections, name)
    return load


HAPROXY = """
global
    maxconn 2000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
listen proxy
    bind %s:%d
    server behind %s:%d
"""


def haproxy(s):
    """wrk, haproxy, nginx on the host of wrk: both of haproxy's sides are its TCP's."""
    config, behind = Path(s.lab.dir) / "haproxy.cfg", PORT + 1
    config.write_text(HAPROXY % (SERVER_IP, PORT, CLIENT_IP, behind))
    nginx = nginx_argv(s.lab.dir, "%s:%d backlog=4096" % (CLIENT_IP, behind), connections=1024, http="keepalive_requests 1000000000;")
    write_files(s)
    upstream = s.lab.client.spawn(nginx, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        s.lab.client.wait_listening(upstream, behind)
        with Server(s, ["haproxy", "-db", "-f", config]) as server:
            return run_wrk(s, server, 50)
    finally:
        s.lab.stop(upstream)


def connect_request_close(addresses):
    """ab from several client addresses: HTTP/1.0, the server closes first by its own code, ab waits for the end of file."""
    def load(s):
        with start_nginx(s, 0) as server:
            n = int(15000 * s.seconds / addresses)  # an engine comes up in some 15 ms of CPU: of few connections that would be much
            outs = server.measure([["ab", "-q", "-B", a, "-c", 16, "-n", n, "http://%s:%d/1k" % (SERVER_IP, PORT)]
                                   for a in CLIENT_POOL[:addresses]])
            if any(number(r"Failed requests:\s+(\d+)", o) for o in outs):
                raise LabError("ab: failed requests")
            return server.result(sum(number(r"Requests per second:\s+([\d.]+)", o) for o in outs), n * addresses)
    return load


def wrk_close(s):
    """wrk, one client address: it closes as soon as it has the response."""
    with start_nginx(s, 0) as server:
        return run_wrk(s, server, 50)


# ---- the server alone: its clients have no TCP that costs anything ----

GENERATOR_NUMBERS = itertools.count(0, 150000)  # more than one run uses
GENERATOR_FIRST, GENERATOR_ADDRESSES = "10.77.2.1", 16  # nobody's: the client's kernel ignores what comes for them
REPEATED_AT_MOST = 0.001  # of the answers: beyond that something was lost, and what was measured is waiting


def mac_of(host):
    return json.loads(host.text(["ip", "-j", "link", "show", host.interface]))[0]["address"]


def generator_argv(lab, seconds, close):
    mac = mac_of(lab.client)
    lines = ["neigh replace 10.77.2.%d lladdr %s dev %s nud permanent" % (i + 1, mac, lab.server.interface) for i in range(GENERATOR_ADDRESSES)]
    lab.server.run(["ip", "-batch", "-"], input="\n".join(lines).encode())
    return [TOP / "bench/generator", "--interface", lab.client.interface, "--mac", mac_of(lab.server), "--server", SERVER_IP, PORT,
            "--clients", GENERATOR_FIRST, GENERATOR_ADDRESSES, "--connections", 64, "--seconds", seconds, "--from", next(GENERATOR_NUMBERS)] + (["--close"] if close else [])


def generate(s, server, close):
    seen = json.loads(server.measure([generator_argv(s.lab, s.seconds, close)])[0])
    if seen["repeated"] > seen["answers"] * REPEATED_AT_MOST:
        raise LabError("generator: %(repeated)d repetitions, %(answers)d answers" % seen)
    return server.result(seen["answers_per_s"], seen["answers"])


def alone_epoll(close):
    def load(s):
        argv = [TOP / "bench/epoll_server", SERVER_IP, PORT] + (["--close"] if close else [])
        with Server(s, argv) as server:
            return generate(s, server, close)
    return load


def alone_nginx(close):
    def load(s):
        with start_nginx(s, 0 if close else 65) as server:
            return generate(s, server, close)
    return load


# ---- on a host with a firewall ----

# ufw's own rules, as on a host where it was enabled; what it writes to is a copy that goes with this mount namespace. It finds no kernel log and no modules to load, which is no error.
UFW = """mount -t tmpfs none /run; mkdir /run/ufw-etc; cp -a /etc/ufw/. /run/ufw-etc; mount --bind /run/ufw-etc /etc/ufw
for rule in 22/tcp 80/tcp 443/tcp %d/tcp; do ufw allow $rule; done; ufw --force enable""" % PORT
# On an open port nobody is asked about, but for a rule that some clients' packets meet.
A_RULE_FOR_SOME = "iptables -A INPUT -p tcp --sport 9 -j DROP"


def behind_ufw(load, and_then="true"):
    def behind(s):
        try:
            s.lab.server.run(["unshare", "--mount", "sh", "-ec", UFW])
            s.lab.server.run(["sh", "-ec", and_then])
            return load(s)
        finally:
            s.lab.server.run(["nft", "flush", "ruleset"])
    return behind


# ---- latency ----

def ping_pong(spin):
    """sockperf's median half round trip, 64 bytes; spinning: both its ends poll without blocking."""
    def load(s):
        extra = ["--nonblocked"] if spin else []
        if spin:
            s.settings = ("--spin", "1000")
        with Server(s, ["sockperf", "server", "--tcp", "-i", SERVER_IP, "-p", PORT] + extra) as server:
            out = server.measure([["sockperf", "ping-pong", "--tcp", "-i", SERVER_IP, "-p", PORT, "-m", 64,
                                   "-t", "%d" % max(s.seconds, 1)] + extra])[0]
            return server.result(number(r"percentile 50.000\s*=\s*([\d.]+)", out), number(r"ReceivedMessages=(\d+)", out))
    return load


def at_equal_rate(s):
    """Latency while a fixed rate is asked for, which every set-up can do."""
    with Server(s, ["sockperf", "server", "--tcp", "-i", SERVER_IP, "-p", PORT]) as server:
        out = server.measure([["sockperf", "under-load", "--tcp", "-i", SERVER_IP, "-p", PORT, "-m", 64, "--mps", 10000, "--reply-every", 1,
                               "-t", "%d" % max(s.seconds, 1)]])[0]
        sample = server.result(number(r"percentile 50.000\s*=\s*([\d.]+)", out), number(r"ReceivedMessages=(\d+)", out))
        sample.more = {"p99": number(r"percentile 99.000\s*=\s*([\d.]+)", out), "p99.9": number(r"percentile 99.900\s*=\s*([\d.]+)", out)}
        return sample


@dataclass
class Row:
    name: str
    unit: str
    load: object
    lower_is_better: bool = False
    client_matters: bool = True  # False: it has no TCP that could be finesse's
    congestions: tuple = ()  # the kernel's ends are measured with each; the best counts

    def setups(self, every):
        return [s for s in every if self.client_matters or not s[2]]


KERNEL_CONGESTIONS = ("cubic", "reno", "bbr")
ROWS = [
    Row("bulk, client sends", "Gbit/s", bulk(False), congestions=KERNEL_CONGESTIONS),
    Row("bulk, server sends", "Gbit/s", bulk(True), congestions=KERNEL_CONGESTIONS),
    Row("redis GET, 1 connection", "req/s", redis(1)),
    Row("redis GET, 50 connections", "req/s", redis(50)),
    Row("redis GET, 500 connections", "req/s", redis(500)),
    Row("redis GET, pipelined by 16, 50 connections", "req/s", redis(50, 16)),
    Row("memcached -t 2, 64 connections", "req/s", memcached),
    Row("wrk 1 KiB, 1 connection", "req/s", wrk(1)),
    Row("wrk 1 KiB, 50 connections", "req/s", wrk(50)),
    Row("wrk 1 KiB, 500 connections", "req/s", wrk(500)),
    Row("wrk 100 KiB, 50 connections", "req/s", wrk(50, "100k")),
    Row("wrk 10 MiB, 8 connections", "req/s", wrk(8, "10m")),
    Row("haproxy, wrk 1 KiB, 50 connections", "req/s", haproxy, client_matters=False),
    Row("ab, connect-request-close, 4 addresses", "req/s", connect_request_close(4)),
    Row("wrk, connect-request-close, 1 address", "req/s", wrk_close),
    Row("server alone, epoll, 64 connections", "req/s", alone_epoll(False), client_matters=False),
    Row("server alone, epoll, connect-request-close", "req/s", alone_epoll(True), client_matters=False),
    Row("server alone, nginx 1 KiB, 64 connections", "req/s", alone_nginx(False), client_matters=False),
    Row("server alone, nginx 1 KiB, connect-request-close", "req/s", alone_nginx(True), client_matters=False),
    Row("server alone, nginx 1 KiB, connect-request-close, ufw", "req/s", behind_ufw(alone_nginx(True)), client_matters=False),
    Row("server alone, nginx 1 KiB, connect-request-close, ufw asked about each", "req/s", behind_ufw(alone_nginx(True), A_RULE_FOR_SOME), client_matters=False),
    Row("server alone, nginx 1 KiB, 64 connections, ufw", "req/s", behind_ufw(alone_nginx(False)), client_matters=False),
    Row("sockperf, blocking, median", "us", ping_pong(False), lower_is_better=True),
    Row("sockperf, spinning, median", "us", ping_pong(True), lower_is_better=True),
    Row("sockperf, 10,000/s, median", "us", at_equal_rate, lower_is_better=True),
]
