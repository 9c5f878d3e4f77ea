"""Programs with protocols of their own, and plain streams of bytes."""
import json
import signal

from case import PYTHON, SERVER_IP, expect, file_sha256, sha256

SOCKETSERVER = """
import socketserver, sys
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while True:
            b = self.request.recv(65536)
            if not b: break
            self.request.sendall(b)
class Server(socketserver.%s):
    allow_reuse_address = True
    %s
with Server((sys.argv[1], int(sys.argv[2])), Echo) as s:
    try:
        s.serve_forever()
    except KeyboardInterrupt:
        pass
"""
FORKING_SERVER = SOCKETSERVER % ("ForkingTCPServer", "")
THREADING_SERVER = SOCKETSERVER % ("ThreadingTCPServer", "daemon_threads = True; request_queue_size = 128")
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


def redis(case):
    case.start(["redis-server", "--port", case.port, "--bind", SERVER_IP, "--save", "", "--appendonly", "no", "--dir", case.dir,
                "--protected-mode", "no"])


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
    out = case.run(["redis-benchmark", "-h", SERVER_IP, "-p", case.port, "-t", "set,get,lpush", "-n", 5000 * case.scale, "-c", 50, "--csv"]).stdout.decode()
    expect(out.count("\n") == 4, out)
    case.run(["redis-benchmark", "-h", SERVER_IP, "-p", case.port, "-t", "get", "-n", 20000 * case.scale, "-c", 20, "-P", 16, "-q"])
    got = case.run(["redis-cli", "-h", SERVER_IP, "-p", case.port, "LLEN", "mylist"]).stdout.strip()
    expect(got == b"%d" % (5000 * case.scale), "5000 LPUSH left %r" % got)
    case.end()


def iperf3_with(case, *more):
    case.start(["iperf3", "-s", "-1", "-p", case.port])
    out = json.loads(case.run(["iperf3", "-c", SERVER_IP, "-p", case.port, "-n", "%dM" % (400 * case.scale), "-J", *more]).stdout)
    end = out["end"]
    expect("error" not in out, out.get("error"))
    expect(end["sum_received"]["bytes"] > 50e6, "%d bytes received" % end["sum_received"]["bytes"])
    case.wait_end()
    return end


def iperf3_congestion(case):
    """What TCP_CONGESTION set, getsockopt gives: iperf3 reports it."""
    for name in ("cubic", "reno"):
        end = iperf3_with(case, "-C", name)
        expect(end["sender_tcp_congestion"] == name, "-C %s: the sender has %s" % (name, end["sender_tcp_congestion"]))


CONGESTION_CLIENT = """
import errno, socket, sys
def name(s):
    return s.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\\0").decode()
def set(s, value):
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, value)
for before in ("", "reno"):
    s = socket.socket()
    if before:
        set(s, before.encode())
    s.connect((sys.argv[1], int(sys.argv[2])))
    if before:
        assert name(s) == before, name(s)
    elif sys.argv[3]:
        assert name(s) == sys.argv[3], name(s)
    for value in ("cubic", "reno"):
        set(s, value.encode())
        assert name(s) == value, name(s)
    try:
        set(s, b"nonesuch")
        raise SystemExit("nonesuch was taken")
    except OSError as e:
        assert e.errno == errno.ENOENT, e
    assert name(s) == "reno", name(s)
    s.close()
print("all as asked")
"""


def congestion_names(case):
    case.start(["ncat", "-l", "-k", "--recv-only", SERVER_IP, case.port])
    default = case.lab.client.text(["cat", "/proc/sys/net/ipv4/tcp_congestion_control"]).strip()
    out = case.run([PYTHON, "-c", CONGESTION_CLIENT, SERVER_IP, case.port, default]).stdout
    expect(out.strip() == b"all as asked", out)
    case.end(status=(0, -15, 143))


def iperf3_up(case):
    iperf3_with(case)


def iperf3_down(case):
    iperf3_with(case, "-R")


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


# ---- many connections, each way ----

ASYNCIO_SERVER = """
import asyncio, signal, sys
async def echo(r, w):
    while b := await r.read(65536):
        w.write(b)
        await w.drain()
    w.close()
async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(echo, sys.argv[1], int(sys.argv[2]), backlog=128)
    await stop.wait()
    server.close()
asyncio.run(main())
"""
ASYNCIO_CLIENT = """
import asyncio, hashlib, sys
data = sys.stdin.buffer.read()
async def one(i):
    r, w = await asyncio.open_connection(sys.argv[1], int(sys.argv[2]))
    part = data[i:] + data[:i]
    async def send():
        w.write(part)
        await w.drain()
        w.write_eof()
    sending = asyncio.create_task(send())
    got = await r.read()
    await sending
    w.close()
    assert got == part, (i, len(got))
async def main():
    await asyncio.gather(*(one(i) for i in range(int(sys.argv[3]))))
    print("equal")
asyncio.run(main())
"""
PERL_SERVER = """
use IO::Socket::INET; $SIG{TERM} = sub { exit 0 };
my $l = IO::Socket::INET->new(LocalAddr => $ARGV[0], LocalPort => $ARGV[1], Listen => 16, ReuseAddr => 1) or die $!;
while (my $c = $l->accept) { my $n = <$c>; open my $f, '<:raw', $ARGV[2]; local $/; print $c ($n + 1) . "\\n" . <$f>; close $c }
"""
PERL_CLIENT = """
use IO::Socket::INET; use Digest::SHA 'sha256_hex';
for my $i (1 .. 20) {
    my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1]) or die $!;
    print $s "$i\\n"; my $n = <$s>; die "$n" unless $n == $i + 1;
    local $/; print sha256_hex(scalar <$s>), "\\n"; close $s;
}
"""
RUBY_SERVER = """
require 'socket'
trap('TERM') { exit 0 }
s = TCPServer.new(ARGV[0], ARGV[1].to_i)
loop { Thread.new(s.accept) { |c| n = c.gets.to_i; c.write("#{n + 1}\\n" + File.binread(ARGV[2])); c.close } }
"""
RUBY_CLIENT = """
require 'socket'; require 'digest'
(1..20).map { |i| Thread.new {
  s = TCPSocket.new(ARGV[0], ARGV[1].to_i); s.puts i
  raise 'number' unless s.gets.to_i == i + 1
  h = Digest::SHA256.hexdigest(s.read); s.close; h } }.each { |t| puts t.value }
"""
MEMCACHE_CLIENT = """
import hashlib, os, socket, sys, threading
def one(t):
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
    f = s.makefile("rwb")
    for i in range(40):
        key, data = b"k%d-%d" % (t, i), os.urandom(1 + i * 977)
        f.write(b"set %s 0 0 %d\\r\\n%s\\r\\n" % (key, len(data), data)); f.flush()
        assert f.readline() == b"STORED\\r\\n"
        f.write(b"get %s\\r\\nget none\\r\\n" % key); f.flush()
        assert f.readline().split() == [b"VALUE", key, b"0", b"%d" % len(data)]
        assert f.read(len(data) + 2)[:-2] == data and f.readline() == b"END\\r\\n" and f.readline() == b"END\\r\\n"
    f.write(b"quit\\r\\n"); f.flush()
    assert f.read() == b""
    done.append(t)
done = []
threads = [threading.Thread(target=one, args=(t,)) for t in range(16)]
[t.start() for t in threads]; [t.join() for t in threads]
print(len(done))
"""


def asyncio_clients(case, n=24):
    n *= case.scale
    got = case.run([PYTHON, "-c", ASYNCIO_CLIENT, SERVER_IP, case.port, n], input=(case.dir / "www/file").read_bytes()[:300000])
    expect(got.stdout == b"equal\n", got.stderr.decode()[-300:])


def threading_echo(case):
    case.start([PYTHON, "-c", THREADING_SERVER, SERVER_IP, case.port])
    asyncio_clients(case)
    case.end(signal.SIGINT)


def asyncio_echo(case):
    case.start([PYTHON, "-c", ASYNCIO_SERVER, SERVER_IP, case.port])
    asyncio_clients(case)
    case.end()


def script_pair(case, server, client):
    case.start([*server, SERVER_IP, case.port, case.dir / "www/file"])
    got = case.run([*client, SERVER_IP, case.port]).stdout.decode().split()
    expect(got == [file_sha256(case.dir / "www/file")] * 20, "damaged: %s" % got[:3])
    case.end()


def perl_ruby(case):
    script_pair(case, ["perl", "-e", PERL_SERVER], ["ruby", "-e", RUBY_CLIENT])


def ruby_perl(case):
    script_pair(case, ["ruby", "-e", RUBY_SERVER], ["perl", "-e", PERL_CLIENT])


def memcached(case):
    case.start(["memcached", "-u", "root", "-l", SERVER_IP, "-p", case.port, "-t", "4", "-U", "0"])
    got = case.run([PYTHON, "-c", MEMCACHE_CLIENT, SERVER_IP, case.port])
    expect(got.stdout == b"16\n", got.stderr.decode()[-300:])
    case.end()


def socat_to_server(case):
    got = case.dir / "got"
    case.start(["socat", "-u", "TCP-LISTEN:%d,bind=%s,reuseaddr" % (case.port, SERVER_IP), "CREATE:%s" % got])
    case.run(["socat", "-u", "OPEN:%s" % (case.dir / "www/file"), "TCP:%s:%d" % (SERVER_IP, case.port)])
    case.wait_end()
    expect(file_sha256(got) == file_sha256(case.dir / "www/file"), "damaged")


def socat_to_client(case):
    case.start(["socat", "-u", "OPEN:%s" % (case.dir / "www/file"), "TCP-LISTEN:%d,bind=%s,reuseaddr" % (case.port, SERVER_IP)])
    got = case.run(["socat", "-u", "TCP:%s:%d" % (SERVER_IP, case.port), "STDOUT"]).stdout
    case.wait_end()
    expect(sha256(got) == file_sha256(case.dir / "www/file"), "%d bytes, damaged" % len(got))


def sockperf(case):
    """
    Every message numbered by sockperf itself: none lost, none out of order.

    Under load it sends without waiting and gives the last answers 50 ms; what a busy machine answers later it calls dropped, natively, too.
    """
    case.start(["sockperf", "server", "--tcp", "-i", SERVER_IP, "-p", case.port])
    for mode in (["ping-pong"], ["ping-pong", "--nonblocked"], ["under-load", "--mps", "2000", "--reply-every", "1"]):
        out = case.run(["sockperf", *mode, "--tcp", "-i", SERVER_IP, "-p", case.port, "-m", "400", "-t", "1"]).stdout.decode()
        right = "# duplicated messages = 0; # out-of-order messages = 0" if mode[0] == "under-load" else "dropped messages = 0; # duplicated messages = 0; # out-of-order messages = 0"
        expect(right in out, out[-400:])
    case.end(status=(0, 143, -15))


def iperf3_eight(case):
    iperf3_with(case, "-P", "8")


def iperf3_eight_down(case):
    iperf3_with(case, "-P", "8", "-R")


def iperf3_both_ways(case):
    case.start(["iperf3", "-s", "-1", "-p", case.port])
    end = json.loads(case.run(["iperf3", "-c", SERVER_IP, "-p", case.port, "-t", "1", "-J", "--bidir"]).stdout)["end"]
    for way in ("sum_received", "sum_received_bidir_reverse"):
        expect(end[way]["bytes"] > 10e6, "%s: %d bytes" % (way, end[way]["bytes"]))
    case.wait_end()


PAIRS = [
    (redis_cli, "redis-server redis-cli"), (redis_benchmark, "redis-server redis-benchmark redis-cli"), (memcached, "memcached"),
    (iperf3_up, "iperf3"), (iperf3_down, "iperf3"), (iperf3_congestion, "iperf3"), (congestion_names, "ncat"),
    (iperf3_eight, "iperf3"), (iperf3_eight_down, "iperf3"), (iperf3_both_ways, "iperf3"),
    (ncat_to_server, "ncat"), (ncat_to_client, "ncat"), (socat_to_server, "socat"), (socat_to_client, "socat"), (sockperf, "sockperf"),
    (threading_echo, ""), (asyncio_echo, ""), (forking_echo, ""), (perl_ruby, "perl ruby"), (ruby_perl, "ruby perl"),
]
