#!/usr/bin/python3
"""Unmodified programs under finesse against the kernel's TCP at the other end, in both roles, and both under finesse.

Every case asserts that the content is exact (by hash), that nothing hangs and all end cleanly, and that the *engine* carried the
traffic: no fall-back in `finesse stat --json`, and not one connection in the kernel's own counters of that namespace.

    apps.py [--only WORD[,WORD…]] [--list]

FINESSE="" in the environment runs all on the kernel's TCP: that proves the harness. Ends with 77 without root.
"""
import argparse
import ctypes
import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback

from pathlib import Path

APPS = Path(__file__).resolve().parent
sys.path.insert(0, str(APPS.parent / "net"))
from lab import CLIENT_IP, SERVER_IP, Lab, LabError, finesse_command  # noqa: E402,F401

PYTHON = "/usr/bin/python3"
FILE_BYTES = 8 * 1000 * 1000
NGINX = """
daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log {dir}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    client_max_body_size 100m;
    client_body_temp_path {dir}/t1;
    proxy_temp_path {dir}/t2;
    fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4;
    scgi_temp_path {dir}/t5;
    server {{ listen {port}; root {dir}/www; location /put/ {{ dav_methods PUT; create_full_put_path on; }} }}
}}
"""
URLLIB = """
import hashlib, sys, urllib.request
h = hashlib.sha256()
with urllib.request.urlopen(sys.argv[1], timeout=30) as r:
    while True:
        b = r.read(65536)
        if not b: break
        h.update(b)
print(h.hexdigest())
"""

FORKING_SERVER = """
import socketserver, sys
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while True:
            b = self.request.recv(65536)
            if not b: break
            self.request.sendall(b)
class Server(socketserver.ForkingTCPServer):
    allow_reuse_address = True
with Server((sys.argv[1], int(sys.argv[2])), Echo) as s:
    try:
        s.serve_forever()
    except KeyboardInterrupt:
        pass
"""
ECHO_CLIENT = """
import socket, sys, threading
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
data = sys.stdin.buffer.read()
def send():
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
while True:
    b = s.recv(65536)
    if not b: break
    sys.stdout.buffer.write(b)
"""


class Failed(Exception):
    pass


def expect(condition, text):
    if not condition:
        raise Failed(text)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def file_sha256(path):
    return sha256(Path(path).read_bytes())


class Case:
    """One server and one client, in one distribution of roles."""

    next_port = 9000

    def __init__(self, lab, server, client):
        self.lab, self.server, self.client = lab, server, client
        Case.next_port += 1
        self.port = Case.next_port
        self.dir = Path(lab.dir)
        self.process = None

    def url(self, path):
        return "http://%s:%d/%s" % (SERVER_IP, self.port, path)

    def start(self, argv, **kw):
        self.process = self.lab.server.spawn(argv, self.server, stdout=subprocess.DEVNULL, stderr=open(self.dir / "server.err", "wb"), **kw)
        self.lab.server.wait_listening(self.process, self.port, self.server)

    def run(self, argv, timeout=60, **kw):
        return self.lab.client.run(argv, self.client, timeout=timeout, **kw)

    def no_fallback(self):
        if not (self.server and finesse_command()) or self.process.poll() is not None:
            return
        document = self.lab.server.stat(self.process.pid)
        expect(document, "finesse stat does not answer")
        expect(not document.get("fallbacks"), "the server fell back: %s" % document.get("fallbacks"))
        expect(document.get("totals", {}).get("connections_accepted", 1) > 0, "finesse stat counts no connection")

    def end(self, how=signal.SIGTERM, status=(0,)):
        """Ends the server: cleanly."""
        self.no_fallback()
        got = self.lab.stop(self.process, how)
        expect(got in status, "the server ended with status %d: %s" % (got, (self.dir / "server.err").read_bytes()[-300:]))

    def wait_end(self, timeout=20):
        """Until a server that serves once ends by itself."""
        try:
            got = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failed("the server did not end by itself within %d s" % timeout) from None
        self.lab.processes.remove(self.process)
        expect(got == 0, "the server ended with status %d: %s" % (got, (self.dir / "server.err").read_bytes()[-300:]))


# ---- servers ----

def nginx(case):
    config = case.dir / "nginx.conf"
    config.write_text(NGINX.format(dir=case.dir, port=case.port))
    case.start(["nginx", "-p", case.dir, "-e", "stderr", "-c", config])


def http_server(case):
    case.start([PYTHON, "-u", "-m", "http.server", "--bind", SERVER_IP, "-d", case.dir / "www", case.port])


def redis(case):
    case.start(["redis-server", "--port", case.port, "--bind", SERVER_IP, "--save", "", "--appendonly", "no", "--dir", case.dir,
                "--protected-mode", "no"])


# ---- programs in pairs: each gets a Case ----

def nginx_curl(case):
    nginx(case)
    got = case.run(["curl", "-sS", "--fail", case.url("file")]).stdout
    expect(sha256(got) == file_sha256(case.dir / "www/file"), "%d bytes, damaged" % len(got))
    case.end()


def nginx_curl_keepalive(case):
    """Five files over one connection."""
    nginx(case)
    got = case.run(["curl", "-sS", "--fail"] + [case.url("small")] * 5).stdout
    expect(got == (case.dir / "www/small").read_bytes() * 5, "%d bytes, damaged" % len(got))
    case.end()


def nginx_curl_upload(case):
    nginx(case)
    case.run(["curl", "-sS", "--fail", "-T", case.dir / "www/file", case.url("put/got")])
    expect(file_sha256(case.dir / "www/put/got") == file_sha256(case.dir / "www/file"), "the upload is damaged")
    case.end()


def nginx_curl_parallel(case):
    """300 files, 50 connections at a time."""
    nginx(case)
    config = case.dir / "curl.conf"
    config.write_text("next\n".join("url = %s\noutput = %s/out-%d\n" % (case.url("small"), case.dir, i) for i in range(300)))
    case.run(["curl", "-sS", "--no-progress-meter", "--fail", "-Z", "--parallel-max", "50", "-K", config])
    want = (case.dir / "www/small").read_bytes()
    for i in range(300):
        out = case.dir / ("out-%d" % i)
        expect(out.read_bytes() == want, "file %d is damaged" % i)
        out.unlink()
    case.end()


def nginx_urllib(case):
    nginx(case)
    got = case.run([PYTHON, "-c", URLLIB, case.url("file")]).stdout.decode().strip()
    expect(got == file_sha256(case.dir / "www/file"), "damaged")
    case.end()


def nginx_ncat(case):
    nginx(case)
    request = b"GET /file HTTP/1.0\r\nHost: x\r\n\r\n"
    got = case.run(["ncat", "--no-shutdown", SERVER_IP, case.port], input=request).stdout
    expect(sha256(got.partition(b"\r\n\r\n")[2]) == file_sha256(case.dir / "www/file"), "%d bytes, damaged" % len(got))
    case.end()


def http_server_curl(case):
    http_server(case)
    got = case.run(["curl", "-sS", "--fail", case.url("file")]).stdout
    expect(sha256(got) == file_sha256(case.dir / "www/file"), "%d bytes, damaged" % len(got))
    case.end(signal.SIGINT)


def http_server_urllib(case):
    http_server(case)
    got = case.run([PYTHON, "-c", URLLIB, case.url("file")]).stdout.decode().strip()
    expect(got == file_sha256(case.dir / "www/file"), "damaged")
    case.end(signal.SIGINT)


def redis_cli(case):
    redis(case)
    cli = ["redis-cli", "-h", SERVER_IP, "-p", case.port]
    value = (case.dir / "www/file").read_bytes()[:3000000]
    expect(case.run(cli + ["-x", "SET", "key"], input=value).stdout.strip() == b"OK", "SET")
    got = case.run(cli + ["--raw", "GET", "key"]).stdout
    expect(got == value + b"\n", "GET: %d bytes, damaged" % len(got))
    got = case.run(cli, input=b"PING\nINCR n\nQUIT\n").stdout.split()
    expect(got[:2] == [b"PONG", b"1"], "PING, INCR, QUIT: %r" % got)
    case.end()


def redis_benchmark(case):
    redis(case)
    out = case.run(["redis-benchmark", "-h", SERVER_IP, "-p", case.port, "-t", "set,get,lpush", "-n", 5000, "-c", 50, "--csv"]).stdout.decode()
    expect(out.count("\n") == 4, out)
    case.run(["redis-benchmark", "-h", SERVER_IP, "-p", case.port, "-t", "get", "-n", 20000, "-c", 20, "-P", 16, "-q"])
    got = case.run(["redis-cli", "-h", SERVER_IP, "-p", case.port, "LLEN", "mylist"]).stdout.strip()
    expect(got == b"5000", "5000 LPUSH left %r" % got)
    case.end()


def iperf3_with(case, *more):
    case.start(["iperf3", "-s", "-1", "-p", case.port])
    out = json.loads(case.run(["iperf3", "-c", SERVER_IP, "-p", case.port, "-n", "100M", "-J", *more]).stdout)
    end = out["end"]
    expect("error" not in out, out.get("error"))
    expect(end["sum_received"]["bytes"] > 50e6, "%d bytes received" % end["sum_received"]["bytes"])
    case.wait_end()


def iperf3_up(case):
    iperf3_with(case)


def iperf3_down(case):
    iperf3_with(case, "-R")


def iperf3_streams(case):
    iperf3_with(case, "-P", "4")


def ncat_to_server(case):
    with open(case.dir / "got", "wb") as out, open(case.dir / "www/file", "rb") as file:
        case.process = case.lab.server.spawn(["ncat", "-l", "--recv-only", SERVER_IP, case.port], case.server, stdout=out,
                                             stderr=open(case.dir / "server.err", "wb"))
        case.lab.server.wait_listening(case.process, case.port, case.server)
        case.run(["ncat", "--send-only", SERVER_IP, case.port], stdin=file)
        case.wait_end()
    expect(file_sha256(case.dir / "got") == file_sha256(case.dir / "www/file"), "damaged")


def ncat_to_client(case):
    with open(case.dir / "www/file", "rb") as file:
        case.start(["ncat", "-l", "--send-only", SERVER_IP, case.port], stdin=file)
    got = case.run(["ncat", "--recv-only", SERVER_IP, case.port]).stdout
    case.wait_end()
    expect(sha256(got) == file_sha256(case.dir / "www/file"), "%d bytes, damaged" % len(got))


def forking_echo(case):
    """accept, fork, close: the parent closes its copy at once, the child serves. Both ways at once, and a half-close."""
    case.start([PYTHON, "-c", FORKING_SERVER, SERVER_IP, case.port])
    data = (case.dir / "www/file").read_bytes()[:2000000]
    for _ in range(3):
        got = case.run([PYTHON, "-c", ECHO_CLIENT, SERVER_IP, case.port], input=data).stdout
        expect(got == data, "%d bytes of %d came back" % (len(got), len(data)))
    case.end(signal.SIGINT)


PAIRS = [
    (nginx_curl, "nginx curl"), (nginx_curl_keepalive, "nginx curl"), (nginx_curl_upload, "nginx curl"), (nginx_curl_parallel, "nginx curl"),
    (nginx_urllib, "nginx"), (nginx_ncat, "nginx ncat"), (http_server_curl, "curl"), (http_server_urllib, ""),
    (redis_cli, "redis-server redis-cli"), (redis_benchmark, "redis-server redis-benchmark redis-cli"),
    (iperf3_up, "iperf3"), (iperf3_down, "iperf3"), (iperf3_streams, "iperf3"),
    (ncat_to_server, "ncat"), (ncat_to_client, "ncat"), (forking_echo, ""),
]
ROLES = [("the server", True, False), ("the client", False, True), ("both", True, True)]


def run_pair(lab, pair, server, client):
    case = Case(lab, server, client)
    before_client, before_server = lab.client.opens()[0], lab.server.opens()[1]
    try:
        pair(case)
        if finesse_command():
            active, passive = lab.client.opens()[0] - before_client, lab.server.opens()[1] - before_server
            expect(not client or active == 0, "the kernel opened %d of the client's connections" % active)
            expect(not server or passive == 0, "the kernel accepted %d of the server's connections" % passive)
    finally:
        if case.process in lab.processes:
            lab.stop(case.process, signal.SIGKILL)


# ---- what must not break ----

def client_socket(lab, port, timeout=10):
    """A TCP socket of the client's namespace, connected; made by a helper process and passed to us."""
    ours, theirs = socket.socketpair()
    code = ("import socket,sys; s=socket.socket(); s.settimeout(10); s.connect((sys.argv[1], int(sys.argv[2])));"
            "socket.send_fds(socket.socket(fileno=0), [b'x'], [s.fileno()])")
    with theirs:
        lab.client.run([PYTHON, "-c", code, SERVER_IP, str(port)], stdin=theirs.fileno())
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    ours.close()
    s = socket.socket(fileno=fds[0])
    s.settimeout(timeout)
    return s


def tcx_programs(lab):
    """Programs at the server interface's tcx ingress (bpf(BPF_PROG_QUERY)); None where the kernel has no tcx."""
    code = """
import ctypes, socket, struct, sys
attr = bytearray(struct.pack("IIIIQIIQQQQ", socket.if_nametoindex(sys.argv[1]), 46, 0, 0, 0, 0, 0, 0, 0, 0, 0))
buf = (ctypes.c_char * len(attr)).from_buffer(attr)
r = ctypes.CDLL(None, use_errno=True).syscall({"x86_64": 321, "aarch64": 280}[__import__("platform").machine()], 16, buf, len(attr))
print(struct.unpack_from("I", attr, 24)[0] if r == 0 else "unknown %d" % ctypes.get_errno())
"""
    out = lab.server.text([PYTHON, "-c", code, lab.server.interface]).strip()
    return int(out) if out.isdigit() else None


def left_behind(lab):
    left = []
    if tcx_programs(lab):
        left.append("a tcx program")
    for line in lab.server.text(["cat", "/proc/net/unix"]).splitlines():
        if "@finesse/" in line:
            left.append(line.split()[-1])
    if lab.server.text(["tc", "filter", "show", "dev", lab.server.interface, "ingress"]).strip():
        left.append("a tc filter")
    if shutil.which("nft") and lab.server.text(["nft", "list", "ruleset"]).strip():
        left.append("nftables rules")
    return left


def kill_minus_nine(lab):
    """The kernel answers for the port at once, and nothing is left behind."""
    case = Case(lab, True, False)
    nginx(case)
    idle = client_socket(lab, case.port)
    idle.sendall(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n")
    expect(b"200 OK" in idle.recv(1000), "no answer before the kill")
    if finesse_command() and tcx_programs(lab) is not None:
        expect(tcx_programs(lab) > 0, "no tcx program while the server runs: the check proves nothing")
    expect(lab.stop(case.process, signal.SIGKILL) == -signal.SIGKILL, "it was not killed")
    start = time.monotonic()
    try:
        client_socket(lab, case.port)
        raise Failed("the port still answers")
    except LabError as e:
        expect("ConnectionRefusedError" in str(e), "a new connection: %s" % str(e)[-200:])
    seconds = time.monotonic() - start
    expect(seconds < 1.5, "the refusal took %.1f s" % seconds)
    try:
        idle.sendall(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n")
        while idle.recv(65536):
            pass
        expect(not finesse_command(), "an idle connection got an end of file")
    except ConnectionError:
        pass
    seconds = time.monotonic() - start
    expect(seconds < 2, "the idle connection heard of it after %.1f s" % seconds)
    left = left_behind(lab)
    expect(not left, "left behind: %s" % ", ".join(left))


ECHO = """
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2]))); s.listen()
c, _ = s.accept()
s.close()
print("ready", flush=True)
while True:
    b = c.recv(65536)
    if not b: break
    c.sendall(b)
"""


def kernel_connection_goes_on(lab):
    """A connection that the kernel has on a port goes on while a server under finesse takes the port over, and after."""
    case = Case(lab, True, False)
    old = lab.server.spawn([PYTHON, "-c", ECHO, SERVER_IP, str(case.port)], stdout=subprocess.PIPE)
    lab.server.wait_listening(old, case.port)
    s = client_socket(lab, case.port)
    expect(old.stdout.readline() == b"ready\n", "no echo server")

    def echo(n):
        data = os.urandom(n)
        s.sendall(data)
        got = b""
        while len(got) < n:
            block = s.recv(65536)
            expect(block, "the old connection ended")
            got += block
        expect(got == data, "the old connection's data is damaged")

    echo(10000)
    nginx(case)
    echo(100000)
    got = lab.client.run(["curl", "-sS", "--fail", case.url("small")]).stdout
    expect(got == (case.dir / "www/small").read_bytes(), "nginx on the same port: damaged")
    echo(100000)
    case.end()
    echo(10000)
    s.close()
    expect(old.wait(10) == 0, "the echo server's status")
    lab.processes.remove(old)


def other_ports_untouched(lab):
    """A kernel server on another port of the interface, while one under finesse runs."""
    case, other = Case(lab, True, False), Case(lab, False, False)
    nginx(case)
    passive = lab.server.opens()[1]
    http_server(other)
    got = lab.client.run(["curl", "-sS", "--fail", other.url("file")]).stdout
    expect(sha256(got) == file_sha256(case.dir / "www/file"), "damaged")
    expect(lab.server.opens()[1] == passive + 1, "the kernel did not accept it")
    got = lab.client.run(["curl", "-sS", "--fail", case.url("small")]).stdout
    expect(got == (case.dir / "www/small").read_bytes(), "nginx beside it: damaged")
    expect(not finesse_command() or lab.server.opens()[1] == passive + 1, "the kernel accepted nginx's connection")
    lab.stop(other.process, signal.SIGINT)
    got = lab.client.run(["curl", "-sS", "--fail", case.url("small")]).stdout
    expect(got == (case.dir / "www/small").read_bytes(), "and from the one under finesse: damaged")
    case.end()


def plain_programs(lab):
    """Loopback, UDP, AF_UNIX: the same output as natively."""
    argv = [PYTHON, APPS / "plain.py", SERVER_IP]
    native, ours = (lab.server.run(argv, finesse) for finesse in (False, True))
    expect(native.stdout == ours.stdout, "natively:\n%s\nunder finesse:\n%s" % (native.stdout.decode(), ours.stdout.decode()))
    expect(native.stdout.count(b"\n") >= 14, native.stdout.decode())
    expect(ours.stderr == native.stderr, ours.stderr.decode())


def clients_over_loopback(lab):
    """A server under finesse is reached over loopback as well: through the kernel's queue, by the same accept."""
    case = Case(lab, True, False)
    nginx(case)
    got = lab.server.run(["curl", "-sS", "--fail", "http://127.0.0.1:%d/file" % case.port]).stdout
    expect(sha256(got) == file_sha256(case.dir / "www/file"), "damaged")
    got = lab.client.run(["curl", "-sS", "--fail", case.url("small")]).stdout
    expect(got == (case.dir / "www/small").read_bytes(), "and from outside: damaged")
    case.end()


OTHERS = [
    (kill_minus_nine, "nginx ss"), (kernel_connection_goes_on, "nginx curl"), (other_ports_untouched, "nginx curl"), (plain_programs, ""),
    (clients_over_loopback, "nginx curl"),
]


def all_cases():
    for pair, programs in PAIRS:
        for role, server, client in ROLES:
            yield "%s: %s" % (pair.__name__, role), programs, (lambda lab, p=pair, s=server, c=client: run_pair(lab, p, s, c))
    for other, programs in OTHERS:
        yield other.__name__, programs, other


def wanted(name, only):
    return not only or any(all(part in name for part in word.split("+")) for word in only.split(","))


class Score:
    def __init__(self):
        self.checks = self.failed = self.skipped = 0

    def run(self, lab, name, programs, function):
        absent = [p for p in programs.split() if not shutil.which(p, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")]
        self.checks += 1
        if absent:
            self.skipped += 1
            print("skipped: %s (needs %s)" % (name, ", ".join(absent)), flush=True)
            return
        start = time.monotonic()
        why = None
        try:
            function(lab)
        except (Failed, LabError) as e:
            why = str(e)
        except Exception:  # a bug here or a surprise there: told, and the rest goes on
            why = traceback.format_exc()
        if why is not None:
            self.failed += 1
            print("FAILED: %s: %s" % (name, why), flush=True)
            for p in list(lab.processes):
                lab.stop(p, signal.SIGKILL)
        else:
            print("ok: %s (%.1f s)" % (name, time.monotonic() - start), flush=True)

    def summary(self):
        good = self.checks - self.failed - self.skipped
        return "%d%%: Checks: %d, Failures: %d, Errors: 0, Skipped: %d" % (100 * good // max(1, self.checks), self.checks, self.failed, self.skipped)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="words; with +, all of them: redis,curl+client")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    cases = [c for c in all_cases() if wanted(c[0], args.only)]
    if args.list:
        print("\n".join(c[0] for c in cases))
        return 0
    if os.geteuid() != 0:
        print("skipped: needs root")
        return 77
    score = Score()
    with Lab() as lab:
        www = Path(lab.dir) / "www"
        (www / "put").mkdir(parents=True)
        (www / "file").write_bytes(os.urandom(FILE_BYTES))
        (www / "small").write_bytes(os.urandom(700))
        for name, programs, function in cases:
            score.run(lab, name, programs, function)
    print(score.summary())
    return 1 if score.failed or not score.checks else 0


if __name__ == "__main__":
    sys.exit(main())
