"""Servers whose own code closes first, and clients: what bench/close.py pairs.

A server is (name, start(case)); a client is (name, run(case, n)). A client makes n connections, from the addresses of the pool where it can choose one,
and returns how many went wrong: a status, or content that is not exact.
"""
import re
import sys

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.insert(0, str(TESTS / "apps"))
sys.path.insert(0, str(TESTS / "net"))
sys.path.insert(0, str(TESTS / "services"))
import rows_web  # noqa: E402
import stream  # noqa: E402
import web  # noqa: E402
from case import CLIENT_IP, PYTHON, SERVER_IP  # noqa: E402
from lab import CLIENT_POOL  # noqa: E402
from box import Box, wait_until  # noqa: E402
from nginx import nginx_argv  # noqa: E402

BODY_BYTES = 700

LINE_SERVER = """
import signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2])))
s.listen(256)
body = open(sys.argv[3], "rb").read()
while True:
    c, _ = s.accept()
    try:
        if c.recv(4096):
            c.sendall(body)
    except OSError:
        pass
    c.close()
"""
URLLIB = """
import http.client, sys
host, port, path, n, want = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), open(sys.argv[5], "rb").read()
bad = 0
for i in range(n):
    try:
        c = http.client.HTTPConnection(host, port, timeout=20, source_address=(sys.argv[6 + i % (len(sys.argv) - 6)], 0))
        c.request("GET", path)
        bad += c.getresponse().read() != want
        c.close()
    except OSError:
        bad += 1
print(bad)
"""
REQUESTS = """
import requests, sys
from requests.adapters import HTTPAdapter
class From(HTTPAdapter):
    def __init__(self, address):
        self.address = address
        super().__init__()
    def init_poolmanager(self, *args, **kw):
        super().init_poolmanager(*args, source_address=(self.address, 0), **kw)
url, n, want = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "rb").read()
bad = 0
for i in range(n):
    with requests.Session() as s:
        s.mount("http://", From(sys.argv[4 + i % (len(sys.argv) - 4)]))
        try:
            bad += s.get(url, timeout=20).content != want
        except requests.RequestException:
            bad += 1
print(bad)
"""
NODE = """
const http = require('http'), fs = require('fs');
const [url, n, want] = process.argv.slice(2), pool = process.argv.slice(5), body = fs.readFileSync(want);
let bad = 0, i = 0;
function next() {
    if (i == n) return console.log(bad);
    http.get(url, {agent: false, localAddress: pool[i++ % pool.length]}, r => {
        const parts = [];
        r.on('data', b => parts.push(b)).on('end', () => { bad += Buffer.concat(parts).equals(body) ? 0 : 1; next(); });
    }).on('error', () => { bad++; next(); });
}
next();
"""
NODE_SERVER = web.NODE_SERVER.replace("(q, r) => ", "(q, r) => r.setHeader('Connection', 'close') && ")
MEMCACHE = """
import socket, sys
bad = 0
for i in range(int(sys.argv[3])):
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20, (sys.argv[4 + i % (len(sys.argv) - 4)], 0))
    f = s.makefile("rwb")
    f.write(b"set k 0 0 2\\r\\nhi\\r\\nget k\\r\\n"); f.flush()
    bad += [f.readline() for _ in range(4)] != [b"STORED\\r\\n", b"VALUE k 0 2\\r\\n", b"hi\\r\\n", b"END\\r\\n"]
    f.write(b"quit\\r\\n"); f.flush()
    f.close(); s.close()
print(bad)
"""


# ---- servers ----

def nginx_with(directive):
    def start(case):
        case.start(nginx_argv(case.dir, case.port, http=directive + ";"))
    return start


def service(row, upstream=False):
    """Debian's nginx as its unit starts it, two workers as www-data, with the package's configuration; it closes after each request. As a proxy, it asks
    nginx at the client's host, which is on the kernel's TCP, and closes, too."""
    def start(case):
        case.port = row.port
        case.box = Box(case.lab, case.lab.server, case.server, row.empty, row.copied, row.folders, bound=[("/var/www/html", case.dir / "www")])
        row.configure(case.box)
        (case.box.copy("/etc/nginx") / "conf.d/box.conf").write_text("keepalive_timeout 0;\n")
        if upstream:
            case.behind_port = rows_web.UPSTREAM_PORT
            case.behind = case.lab.client.spawn(nginx_argv(case.dir, case.behind_port, name="nginx-behind"))
            case.lab.client.wait_listening(case.behind, case.behind_port)
        case.process = case.box.holder
        case.box.run(row.start, settings=case.settings, stdout=case.box.log)
        wait_until("nginx listens", lambda: case.lab.server.text(["ss", "-Hltn", "sport = :%d" % case.port]).strip())
    return start


def apache(case):
    config = case.dir / "apache2.conf"
    config.write_text(web.APACHE.format(dir=case.dir, ip=SERVER_IP, port=case.port, modules="/usr/lib/apache2/modules") + "KeepAlive Off\n")
    case.start(["apache2", "-X", "-f", config])


def lighttpd(case):
    config = case.dir / "lighttpd.conf"
    config.write_text(web.LIGHTTPD.format(dir=case.dir, ip=SERVER_IP, port=case.port) + "server.max-keep-alive-requests = 0\n")
    case.start(["lighttpd", "-D", "-f", config])


def haproxy(case):
    """In front of nginx at the client's host, which stays on the kernel's TCP."""
    lab, behind_port = case.lab, case.port + 1000
    case.behind = lab.client.spawn(nginx_argv(case.dir, behind_port, name="nginx-behind"))
    lab.client.wait_listening(case.behind, behind_port)
    config = case.dir / "haproxy.conf"
    config.write_text(web.HAPROXY.format(ip=SERVER_IP, port=case.port, backend=CLIENT_IP, backend_port=behind_port)
                      .replace("mode http", "mode http\n    option httpclose"))
    case.start(["haproxy", "-f", config])


def node(case):
    program = case.dir / "serve.js"
    program.write_text(NODE_SERVER)
    case.start(["node", program, case.dir / "www", SERVER_IP, case.port])


def memcached(case):
    case.start(["memcached", "-u", "root", "-l", SERVER_IP, "-p", case.port, "-t", "4", "-U", "0"])


def line_server(case):
    case.start([PYTHON, "-c", LINE_SERVER, SERVER_IP, case.port, case.dir / "www/body"])


# ---- clients ----

def shell_loop(case, n, command, want):
    """`command` n times with $a one of the pool's addresses in turn; its output, all together, must be n times `want`."""
    script = "i=0; set -- %s; while [ $i -lt %d ]; do a=$1; shift; set -- \"$@\" $a; %s || echo failed; i=$((i+1)); done" % (" ".join(CLIENT_POOL), n, command)
    out = case.run(["sh", "-c", script], timeout=60 + n).stdout
    if out == want * n:
        return 0
    return max(1, n - out.count(want))


def body(case):
    return (case.dir / "www/body").read_bytes()


def curl(case, n):
    return shell_loop(case, n, "curl -sS --interface $a %s" % case.url("body"), body(case))


def wget(case, n):
    return shell_loop(case, n, "wget -q -O - --bind-address=$a %s" % case.url("body"), body(case))


def wrk(case, n):
    out = case.run(["wrk", "-t", 1, "-c", 8, "-d", "1s", case.url("body")]).stdout.decode()
    m = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    # wrk counts a close that it did not ask for as a read error: only the others are
    return int(m.group(1)) + int(m.group(4)) if m else 0


def script(case, argv, *more):
    return int(case.run([*argv, *more, *CLIENT_POOL], timeout=120).stdout)


def urllib(case, n):
    return script(case, [PYTHON, "-c", URLLIB], SERVER_IP, case.port, "/body", n, case.dir / "www/body")


def requests(case, n):
    return script(case, [PYTHON, "-c", REQUESTS], case.url("body"), n, case.dir / "www/body")


def node_client(case, n):
    program = case.dir / "get.js"
    program.write_text(NODE)
    return script(case, ["node", program], case.url("body"), n, case.dir / "www/body")


def ab(case, n):
    bad = 0
    for i in range(4):
        out = case.run(["ab", "-q", "-B", CLIENT_POOL[i], "-c", 2, "-n", n // 4, case.url("body")], timeout=120).stdout.decode()
        bad += int(re.search(r"Failed requests:\s+(\d+)", out).group(1))
    return bad


def ncat_http(case, n):
    command = "printf 'GET /body HTTP/1.0\\r\\n\\r\\n' | ncat --no-shutdown -s $a %s %d | tail -c %d" % (SERVER_IP, case.port, BODY_BYTES)
    return shell_loop(case, n, command, body(case))


def ncat(case, n):
    return shell_loop(case, n, "echo hello | ncat --no-shutdown -s $a %s %d" % (SERVER_IP, case.port), body(case))


def redis_cli(case, n):
    return shell_loop(case, n, "printf 'PING\\nQUIT\\n' | redis-cli -h %s -p %d" % (SERVER_IP, case.port), b"PONG\n")


def memcache(case, n):
    return script(case, [PYTHON, "-c", MEMCACHE], SERVER_IP, case.port, n)


WEB_SERVERS = [("nginx as its service", service(rows_web.Nginx())), ("nginx as a proxy", service(rows_web.NginxProxy(), True)),
               ("nginx, keepalive_timeout 0", nginx_with("keepalive_timeout 0")), ("nginx, keepalive_requests 1", nginx_with("keepalive_requests 1")),
               ("apache2 event", apache), ("lighttpd", lighttpd), ("haproxy", haproxy), ("node", node), ("python http.server", web.http_server)]
WEB_CLIENTS = [("curl", curl), ("wget", wget), ("wrk", wrk), ("urllib", urllib), ("requests", requests),
               ("node", node_client), ("ab", ab), ("ncat", ncat_http)]
ROWS = [(s, c) for s in WEB_SERVERS for c in WEB_CLIENTS] + [
    (("redis (QUIT)", stream.redis), ("redis-cli", redis_cli)), (("memcached (quit)", memcached), ("python", memcache)),
    (("line server", line_server), ("ncat", ncat))]
BOTH_ROWS = [(s, c) for s, c in ROWS if (s[0], c[0]) in {
    ("nginx, keepalive_timeout 0", "ab"), ("nginx, keepalive_timeout 0", "curl"), ("python http.server", "urllib"), ("python http.server", "ab"), ("apache2 event", "ab"),
    ("node", "node"), ("line server", "ncat")}]
