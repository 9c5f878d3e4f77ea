"""Clients that ask a server again and again, each time over a new connection, and count what goes wrong. On the kernel's TCP.

    load.py KIND ADDRESS PORT THREADS PERIOD_MS [--from ADDRESS,…] [PATH SHA256]

A line of JSON every 50 ms; at the end of standard input the last, with "end": true. A request is `ok`, or counted under what happened to it:
refused (connect), reset, cut (end of file too soon), wrong, hang (nothing for HANG_SECONDS). Those that are ok and took so long as a lost SYN makes them are `slow`, too.
"""
import collections
import errno
import hashlib
import itertools
import json
import socket
import ssl
import struct
import sys
import threading
import time

HANG_SECONDS = 15  # longer than a machine that does much else keeps anybody waiting
SLOW_SECONDS = 0.9  # a SYN's first retransmission comes after 1 s


class Wrong(Exception):
    pass


class Cut(Exception):
    pass


def line(s):
    got = b""
    while not got.endswith(b"\n"):
        b = s.recv(1)
        if not b:
            raise Cut
        got += b
    return got


def exactly(s, n):
    got = b""
    while len(got) < n:
        b = s.recv(n - len(got))
        if not b:
            raise Cut
        got += b
    return got


def http(s, path, want):
    s.sendall(b"GET %s HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n" % path.encode())
    got = b""
    while True:
        b = s.recv(65536)
        if not b:
            break
        got += b
    head, end, body = got.partition(b"\r\n\r\n")
    if not end:
        raise Cut
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
        raise Wrong(head[:60])
    if b"chunked" in head.lower():
        whole, rest = b"", body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            n = int(size, 16)
            if n == 0:
                break
            whole, rest = whole + rest[:n], rest[n + 2:]
        body = whole
    if want and hashlib.sha256(body).hexdigest() != want:
        raise Cut if len(body) < 700 else Wrong("%d bytes" % len(body))


def http_length(s, path, want):
    """As most clients do: closes when the answer is complete, and does not wait for the server's end of file."""
    s.sendall(b"GET %s HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n" % path.encode())
    got = b""
    while b"\r\n\r\n" not in got:
        b = s.recv(65536)
        if not b:
            raise Cut
        got += b
    head, _, body = got.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise Wrong(head[:60])
    n = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    if hashlib.sha256(body + exactly(s, n - len(body))).hexdigest() != want:
        raise Wrong("%d bytes" % n)


def http_kept(s):
    """A request after which the connection stays."""
    s.sendall(b"GET /small HTTP/1.1\r\nHost: box\r\n\r\n")
    got = line(s)
    if not got.startswith(b"HTTP/1.1 200"):
        raise Wrong(got)


def discard(s):
    """What has arrived already."""
    timeout = s.gettimeout()
    s.settimeout(0)
    try:
        while s.recv(65536):
            pass
    except BlockingIOError:
        pass
    finally:
        s.settimeout(timeout)


def talk(s, *words):
    """Pairs of what is said and how the answer begins, with escapes."""
    plain = [w.encode().decode("unicode_escape").encode("latin1") for w in words]
    for say, want in zip(plain[::2], plain[1::2]):
        s.sendall(say)
        got = exactly(s, len(want))
        if got != want:
            raise Wrong(got)


def socks(s, host, port, path, want):
    """SOCKS 5, no authentication, and a request through it."""
    s.sendall(b"\5\1\0")
    if exactly(s, 2) != b"\5\0":
        raise Wrong("no method")
    s.sendall(b"\5\1\0\1" + socket.inet_aton(host) + struct.pack(">H", int(port)))
    answer = exactly(s, 10)
    if answer[:2] != b"\5\0":
        raise Wrong(answer)
    http(s, path, want)


def http_part(s):
    """Half a request: the worker that took it waits for the rest."""
    s.sendall(b"GET /small HTTP/1.1\r\nHost: box\r\n")


def redis(s):
    s.sendall(b"*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n")
    if exactly(s, 11) != b"$5\r\nhello\r\n":
        raise Wrong


def memcached(s):
    s.sendall(b"set k 0 0 2\r\nhi\r\nget k\r\n")
    if [line(s) for _ in range(4)] != [b"STORED\r\n", b"VALUE k 0 2\r\n", b"hi\r\n", b"END\r\n"]:
        raise Wrong


def mqtt_kept(s):
    # CONNECT (3.1.1, clean session, no name), PINGREQ
    s.sendall(bytes([0x10, 12]) + b"\0\4MQTT\4\2\0\x3c\0\0" + b"\xc0\0")
    if exactly(s, 6) != b"\x20\2\0\0\xd0\0":
        raise Wrong


def mqtt(s):
    mqtt_kept(s)
    s.sendall(b"\xe0\0")


def dns(s):
    query = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\3box\4test\0" + struct.pack(">HH", 1, 1)
    s.sendall(struct.pack(">H", len(query)) + query)
    answer = exactly(s, struct.unpack(">H", exactly(s, 2))[0])
    if answer[:2] != b"\0\7" or not answer.endswith(bytes([10, 1, 2, 3])):
        raise Wrong(answer)


def greeting(start):
    def ask(s):
        got = line(s)
        if not got.startswith(start):
            raise Wrong(got)
    return ask


def ftp_kept(s):
    """A reply may have several lines."""
    got = line(s)
    while got.startswith(b"220-"):
        got = line(s)
    if not got.startswith(b"220 "):
        raise Wrong(got)


def ftp(s):
    ftp_kept(s)
    s.sendall(b"QUIT\r\n")
    while not line(s).startswith(b"221 "):
        pass


def ssh(s):
    s.sendall(b"SSH-2.0-load\r\n")
    greeting(b"SSH-2.0-")(s)


def rsync(s):
    s.sendall(b"@RSYNCD: 31.0\n#list\n")
    while line(s) != b"@RSYNCD: EXIT\n":
        pass


def postgres_kept(s):
    body = struct.pack(">I", 196608) + b"user\0postgres\0database\0postgres\0\0"
    s.sendall(struct.pack(">I", len(body) + 4) + body)
    while True:
        kind = exactly(s, 1)
        content = exactly(s, struct.unpack(">I", exactly(s, 4))[0] - 4)
        if kind == b"E":
            raise Wrong(content)
        if kind == b"Z":
            break
    s.sendall(b"Q\0\0\0\x0eselect 7;\0")
    got = b""
    while not got.endswith(b"Z\0\0\0\5I"):
        b = s.recv(4096)
        if not b:
            raise Cut
        got += b
    if b"\0\0\0\x017C" not in got:
        raise Wrong(got)


def postgres(s):
    postgres_kept(s)
    s.sendall(b"X\0\0\0\4")


def echo(s):
    s.sendall(b"hello\n")
    if line(s) != b"hello\n":
        raise Wrong


def git(s):
    body = b"git-upload-pack /repo.git\0host=box\0"
    s.sendall(b"%04x" % (len(body) + 4) + body)
    first = exactly(s, int(exactly(s, 4), 16) - 4)
    if b"HEAD" not in first:
        raise Wrong(first)
    while True:
        n = int(exactly(s, 4), 16)
        if n == 0:
            break
        exactly(s, n - 4)
    s.sendall(b"0000")


def https(s, path, want):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(s, suppress_ragged_eofs=False) as t:
        http(t, path, want)


def smtp(s):
    greeting(b"220 ")(s)
    s.sendall(b"QUIT\r\n")
    greeting(b"221 ")(s)


def imap_kept(s):
    greeting(b"* OK")(s)
    s.sendall(b"a capability\r\n")
    greeting(b"* CAPABILITY IMAP4rev1")(s)
    greeting(b"a OK")(s)


def imap(s):
    imap_kept(s)
    s.sendall(b"b logout\r\n")
    greeting(b"* BYE")(s)


def mysql(s):
    """The server's greeting, protocol 10."""
    size = int.from_bytes(exactly(s, 4)[:3], "little")
    if exactly(s, size)[:1] != b"\n":
        raise Wrong


def smb(s):
    """SMB1's negotiation, which offers SMB2."""
    body = (b"\xffSMBr" + bytes(4) + b"\x18\x53\xc8" + bytes(12) + b"\xff\xff\xff\xfe" + bytes(4) + b"\0")
    dialects = b"\2NT LM 0.12\0\2SMB 2.002\0\2SMB 2.???\0"
    body += struct.pack("<H", len(dialects)) + dialects
    s.sendall(struct.pack(">I", len(body)) + body)
    answer = exactly(s, struct.unpack(">I", exactly(s, 4))[0])
    if answer[:4] != b"\xfeSMB":
        raise Wrong(answer[:40])


def ldap(s):
    """An anonymous bind."""
    s.sendall(bytes.fromhex("300c020101600702010304008000"))
    if exactly(s, 14) != bytes.fromhex("300c02010161070a010004000400"):
        raise Wrong


def irc(s):
    s.sendall(b"NICK b%d\r\nUSER b 0 * :b\r\n" % (s.getsockname()[1] % 1000000))
    while b" 001 " not in line(s):
        pass


def beanstalk(s):
    s.sendall(b"put 1 0 10 2\r\nhi\r\n")
    greeting(b"INSERTED ")(s)


def pgbouncer(s):
    body = struct.pack(">I", 196608) + b"user\0box\0database\0pgbouncer\0\0"
    s.sendall(struct.pack(">I", len(body) + 4) + body)
    if exactly(s, 1) != b"R":
        raise Wrong


class Load:
    def __init__(self, argv):
        kind, self.address, port, threads, period = argv[:5]
        self.ask, self.rest, self.sources = KINDS[kind], argv[5:], itertools.repeat(None)
        if self.rest[:1] == ["--from"]:
            self.sources, self.rest = itertools.cycle([(a, 0) for a in self.rest[1].split(",")]), self.rest[2:]
        self.port, self.period = int(port), int(period) / 1000
        self.count, self.lock, self.over, self.slowest, self.told = collections.Counter(), threading.Lock(), threading.Event(), 0.0, ""
        self.threads = [threading.Thread(target=self.client) for _ in range(int(threads))]

    def one(self):
        stage = "connect"
        try:
            with socket.create_connection((self.address, self.port), HANG_SECONDS, next(self.sources)) as s:
                stage = "exchange"
                self.ask(s, *self.rest)
                return "ok"
        except OSError as e:
            if e.errno == errno.EADDRNOTAVAIL:
                return "no port"
            if not isinstance(e, (ConnectionError, TimeoutError)):
                raise
            return self.what(e, stage)
        except (Wrong, ValueError, struct.error) as e:
            self.told = repr(e)[:200]
            return "wrong"
        except Cut:
            return "cut"

    @staticmethod
    def what(e, stage):
        if isinstance(e, ConnectionRefusedError):
            return "refused" if stage == "connect" else "reset"
        return "hang" if isinstance(e, TimeoutError) else "reset"

    def client(self):
        while not self.over.is_set():
            start = time.monotonic()
            verdict = self.one()
            took = time.monotonic() - start
            with self.lock:
                self.count[verdict] += 1
                self.count["slow"] += verdict == "ok" and took > SLOW_SECONDS
                self.slowest = max(self.slowest, took)
            self.over.wait(max(0.0, self.period - took))

    def tell(self, end=False):
        with self.lock:
            print(json.dumps({**self.count, "slowest": round(self.slowest, 3), "told": self.told, "end": end}), flush=True)

    def run(self):
        for t in self.threads:
            t.start()
        ended = threading.Thread(target=lambda: (sys.stdin.read(), self.over.set()), daemon=True)
        ended.start()
        while not self.over.wait(0.05):
            self.tell()
        for t in self.threads:
            t.join()
        self.tell(True)


KINDS = {"http": http, "http_length": http_length, "http_kept": http_kept, "http_part": http_part, "redis": redis, "memcached": memcached, "mqtt": mqtt, "mqtt_kept": mqtt_kept, "dns": dns,
         "ftp": ftp, "ftp_kept": ftp_kept, "ssh": ssh, "rsync": rsync, "rsync_kept": greeting(b"@RSYNCD: "), "postgres": postgres,
         "postgres_kept": postgres_kept, "echo": echo, "git": git, "nothing": lambda s: None, "talk": talk, "socks": socks,
         "https": https, "smtp": smtp, "smtp_kept": greeting(b"220 "), "imap": imap, "imap_kept": imap_kept, "mysql": mysql, "smb": smb, "ldap": ldap, "irc": irc,
         "beanstalk": beanstalk, "nats": greeting(b"INFO "), "svn": lambda s: exactly(s, 10), "pgbouncer": pgbouncer}
if __name__ == "__main__":
    Load(sys.argv[1:]).run()
