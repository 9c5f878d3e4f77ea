"""Servers that are no web servers, as Debian's units start them; and what their own clients get from them."""
import hashlib
import signal
import socket
import struct
import subprocess

from pathlib import Path

from box import wait_until
from case import PYTHON, SERVER_IP, expect, sha256
from row import Row, graceful_end, kill_all, master_kill, reload_by, worker_kill
from rows_web import change

END_AND_KILL = [graceful_end(signal.SIGTERM, finishes=False), ("all -9", kill_all)]
HUP = reload_by(signal.SIGHUP, workers_change=False, finishes=False)


def inside(box, path):
    return Path("/proc/%d/root%s" % (box.init, path))


class Memcached(Row):
    name, programs, comm, port, kind, kept = "memcached -t 4 -u memcache", "memcached", "memcached", 11211, "memcached", "memcached"
    copied, folders = ("/etc/memcached.conf",), [("/run/memcached", "memcache", 0o755)]
    start = ("/usr/share/memcached/scripts/systemd-memcached-wrapper", "/etc/memcached.conf")
    events = END_AND_KILL

    def configure(self, box):
        change(box.copy("/etc/memcached.conf"), ("^-l .*", "-l 0.0.0.0\n-t 4"))

    # Its client is a script: a value of half a megabyte.
    script = ("import socket, sys, hashlib; s = socket.create_connection((sys.argv[1], 11211), 20); f = s.makefile('rwb'); v = open(sys.argv[2], 'rb').read(500000)\n"
              "f.write(b'set big 0 0 500000\\r\\n' + v + b'\\r\\nget big\\r\\n'); f.flush(); f.readline(); f.readline()\n"
              "print(hashlib.sha256(f.read(500000)).hexdigest())")

    def check(self, run):
        path = run.lab.www / "html/file"
        got = run.ask([PYTHON, "-c", self.script, SERVER_IP, path]).decode().strip()
        expect(got == sha256(path.read_bytes()[:500000]), "the value is damaged: %s" % got)


class Redis(Row):
    name, programs, comm, port, kind, kept = "redis as redis", "redis-server redis-cli", "redis-server", 6379, "redis", "redis"
    empty, copied = ("/var/lib/redis",), ("/etc/redis",)
    folders = [("/var/lib/redis", "redis", 0o750), ("/var/log/redis", "redis", 0o755), ("/run/redis", "redis", 0o755)]
    # User=redis, CapabilityBoundingSet=, NoNewPrivileges=
    start = ("setpriv", "--reuid=redis", "--regid=redis", "--init-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs",
             "/usr/bin/redis-server", "/etc/redis/redis.conf", "--supervised", "systemd", "--daemonize", "no")
    events = END_AND_KILL

    def configure(self, box):
        change(box.copy("/etc/redis") / "redis.conf", ("^bind .*", "bind 0.0.0.0"), ("^protected-mode yes", "protected-mode no"))

    def check(self, run):
        path = run.lab.www / "html/file"
        run.ask(["redis-cli", "-h", SERVER_IP, "-x", "set", "big"], stdin=path.open("rb"))
        got = run.ask(["redis-cli", "-h", SERVER_IP, "--raw", "get", "big"])
        expect(sha256(got[:-1]) == run.file_hash, "the value is damaged: %d bytes" % len(got))


class Mosquitto(Row):
    name, programs, comm, port, kind, kept = "mosquitto", "mosquitto mosquitto_pub mosquitto_sub", "mosquitto", 1883, "mqtt", "mqtt_kept"
    empty, copied = ("/var/lib/mosquitto",), ("/etc/mosquitto",)
    folders = [(p, "mosquitto", 0o740) for p in ("/var/log/mosquitto", "/run/mosquitto", "/var/lib/mosquitto")]
    start = ("/usr/sbin/mosquitto", "-c", "/etc/mosquitto/mosquitto.conf")
    events = [HUP, *END_AND_KILL]

    def configure(self, box):
        (box.copy("/etc/mosquitto") / "conf.d/box.conf").write_text("listener 1883\nallow_anonymous true\n")

    def check(self, run):
        run.ask(["mosquitto_pub", "-h", SERVER_IP, "-r", "-q", "1", "-t", "box", "-f", run.lab.www / "html/file"])
        got = run.ask(["mosquitto_sub", "-h", SERVER_IP, "-t", "box", "-C", "1", "-N", "-W", "10"])
        expect(sha256(got) == run.file_hash, "the message is damaged: %d bytes" % len(got))


class Dnsmasq(Row):
    name, programs, comm, port, kind, kept = "dnsmasq over TCP", "dnsmasq dig", "dnsmasq", 53, "dns", "dns"
    copied = ("/etc/dnsmasq.d", "/etc/default/dnsmasq")
    start, forks = ("/usr/share/dnsmasq/systemd-helper", "exec"), True
    events = [HUP, *END_AND_KILL]
    held = 2
    by_design = "a process per connection"

    def configure(self, box):
        (box.copy("/etc/dnsmasq.d") / "box").write_text("address=/box.test/10.1.2.3\nno-resolv\nport=53\n")

    def check(self, run):
        for _ in range(5):
            got = run.ask(["dig", "+tcp", "+short", "+tries=1", "@" + SERVER_IP, "box.test"]).strip()
            expect(got == b"10.1.2.3", "dig +tcp says %r" % got)


class Postgres(Row):
    name, programs, comm, port, kind, kept = "postgres", "pg_ctlcluster psql pgbench", "postgres", 5432, "postgres", "postgres_kept"
    copied = ("/etc/postgresql", "/var/lib/postgresql")
    folders = [("/run/postgresql", "postgres", 0o2775), ("/var/log/postgresql", "postgres", 0o775)]
    start, forks = ("/usr/bin/pg_ctlcluster", "--skip-systemctl-redirect", "15", "main", "start"), True
    events = [HUP, graceful_end(signal.SIGINT, finishes=False), ("all -9", kill_all)]
    by_design = "a process per connection"

    def configure(self, box):
        where = box.copy("/etc/postgresql") / "15/main"
        with (where / "postgresql.conf").open("a") as f:
            f.write("listen_addresses = '*'\nfsync = off\n")
        with (where / "pg_hba.conf").open("a") as f:
            f.write("host all all 10.77.0.0/16 trust\n")

    def check(self, run):
        there = ["-h", SERVER_IP, "-U", "postgres"]
        got = run.ask(["psql", *there, "-Atc", "select string_agg(md5(i::text), '') from generate_series(1, 20000) i"]).strip()
        want = "".join(hashlib.md5(b"%d" % i).hexdigest() for i in range(1, 20001)).encode()
        expect(got == want, "psql got %d bytes instead of %d" % (len(got), len(want)))
        run.ask(["pgbench", *there, "-q", "-i", "-s", "1", "postgres"])
        out = run.ask(["pgbench", *there, "-C", "-c", "4", "-t", "20", "postgres"]).decode()
        expect("actually processed: 80/80" in out, "pgbench: %s" % out[-300:])


class PostgresDirect(Postgres):
    """Without Debian's wrapper, which throws the environment away."""

    name, forks = "postgres, without pg_ctlcluster", False
    start = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "/usr/lib/postgresql/15/bin/postgres", "-D", "/var/lib/postgresql/15/main",
             "-c", "config_file=/etc/postgresql/15/main/postgresql.conf")


def early_resets(run):
    """Thirty clients that reset as soon as they are connected: no child is stuck, and the next login is right."""
    for _ in range(30):
        s = run.connect()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    wait_until("only the listening sshd is left", lambda: len(run.box.processes("sshd")) == 1, 10)
    run.row.check(run)


def many_at_once(run, count=80):
    """More children at once than any fixed set would hold."""
    held = [run.hold() for _ in range(count)]
    expect(len(run.box.processes(run.row.comm)) > count, "only %d processes run" % len(run.box.processes(run.row.comm)))
    for s in held:
        s.close()
    wait_until("the children end", lambda: len(run.box.processes(run.row.comm)) == 1, 10)


class Sshd(Row):
    name, programs, comm, port, kind, kept = "sshd", "sshd ssh scp rsync", "sshd", 22, "ssh", "ssh"
    copied, folders = ("/etc/ssh",), [("/run/sshd", None, 0o755)]
    start = ("/usr/sbin/sshd", "-D")
    events = [HUP, ("early resets", early_resets), *END_AND_KILL]
    held, threads = 2, 4  # MaxStartups' first drops come at ten
    by_design = "a process per connection"

    def configure(self, box):
        key = box.dir / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        keys = box.copy("/etc/ssh") / "box_keys"
        keys.write_bytes((box.dir / "key.pub").read_bytes())
        keys.chmod(0o644)
        (box.copy("/etc/ssh") / "sshd_config.d/box.conf").write_text("AuthorizedKeysFile /etc/ssh/box_keys\nPermitRootLogin prohibit-password\n")

    @staticmethod
    def options(run):
        return ["-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes",
                "-i", str(run.box.dir / "key")]

    def check(self, run):
        there, out = "root@" + SERVER_IP, run.lab.www / "out"
        got = run.ask(["ssh", *self.options(run), there, "cat /var/www/html/file"])
        expect(sha256(got) == run.file_hash, "ssh: %d bytes, damaged" % len(got))
        run.ask(["scp", "-q", *self.options(run), there + ":/var/www/html/file", out])
        expect(sha256(out.read_bytes()) == run.file_hash, "scp: damaged")
        out.unlink()
        run.ask(["rsync", "-e", "ssh " + " ".join(self.options(run)), there + ":/var/www/html/file", out])
        expect(sha256(out.read_bytes()) == run.file_hash, "rsync over ssh: damaged")
        out.unlink()


class Vsftpd(Row):
    name, programs, comm, port, kind, kept = "vsftpd", "vsftpd curl", "vsftpd", 21, "ftp", "ftp_kept"
    copied, folders = ("/etc/vsftpd.conf",), [("/run/vsftpd/empty", None, 0o755)]
    start = ("/usr/sbin/vsftpd", "/etc/vsftpd.conf")
    events = END_AND_KILL
    by_design = "a process per connection"

    def configure(self, box):
        change(box.copy("/etc/vsftpd.conf"), ("^anonymous_enable=NO", "anonymous_enable=YES\nanon_root=/var/www/html"))

    def check(self, run):
        for how in ((), ("-P", "-")):
            got = run.ask(["curl", "-sS", "-m", "20", *how, "ftp://%s/file" % SERVER_IP])
            expect(sha256(got) == run.file_hash, "%s: %d bytes, damaged" % ("active" if how else "passive", len(got)))


class Rsyncd(Row):
    name, programs, comm, port, kind, kept = "rsync daemon", "rsync", "rsync", 873, "rsync", "rsync_kept"
    start = ("/usr/bin/rsync", "--daemon", "--no-detach", "--config=/run/rsyncd.conf")
    events = END_AND_KILL
    by_design = "a process per connection"

    def configure(self, box):
        inside(box, "/run/rsyncd.conf").write_text("[www]\npath = /var/www/html\n")

    def check(self, run):
        out = run.lab.www / "out"
        run.ask(["rsync", "rsync://%s/www/file" % SERVER_IP, out])
        expect(sha256(out.read_bytes()) == run.file_hash, "damaged")
        out.unlink()


class GitDaemon(Row):
    name, programs, comm, port, kind, kept = "git daemon", "git", "git-daemon", 9418, "git", "nothing"
    start = ("git", "daemon", "--reuseaddr", "--export-all", "--base-path=/var/www", "/var/www")
    events = END_AND_KILL
    held = 2
    by_design = "a process per connection"
    identity = ("-c", "user.name=box", "-c", "user.email=box@box", "-c", "init.defaultBranch=main", "-c", "safe.directory=*")

    def configure(self, box):
        www = Path(box.lab.www)
        for argv in (["init", "-q", www / "work"], ["-C", www / "work", "add", "."], ["-C", www / "work", "commit", "-q", "-m", "x"],
                     ["clone", "-q", "--bare", www / "work", www / "repo.git"]):
            subprocess.run(["git", *self.identity, *argv], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            (www / "work/file").write_bytes((www / "html/file").read_bytes())

    def check(self, run):
        out = run.lab.www / "clone"
        run.ask(["git", *self.identity, "clone", "-q", "git://%s/repo.git" % SERVER_IP, out])
        expect(sha256((out / "file").read_bytes()) == run.file_hash, "damaged")


MIXIN = """
import http.server, socketserver, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
    protocol_version = "HTTP/1.1"
class Server(getattr(socketserver, sys.argv[1]), http.server.HTTPServer):
    request_queue_size, daemon_threads, allow_reuse_address, block_on_close = 128, True, True, False
Server(("", 8000), lambda *a: Handler(*a, directory="/var/www/html")).serve_forever()
"""


class Forking(Row):
    name, comm, port = "python ForkingMixIn", "python3", 8000
    start = (PYTHON, "-c", MIXIN, "ForkingMixIn")
    events = [("all -9", kill_all)]
    by_design = "a process per connection"


class Threading(Row):
    name, comm, port = "python ThreadingMixIn", "python3", 8000
    start = (PYTHON, "-c", MIXIN, "ThreadingMixIn")
    events = END_AND_KILL


class Socat(Row):
    name, programs, comm, port, kind, kept = "socat fork", "socat", "socat", 7000, "echo", "echo"
    start = ("socat", "TCP-LISTEN:7000,fork,reuseaddr,backlog=128", "PIPE")
    events = [("80 at once", many_at_once), *END_AND_KILL]
    by_design = "a process per connection"

    def check(self, run):
        data = (run.lab.www / "html/small").read_bytes()
        got = run.ask(["socat", "-t", "5", "STDIO", "TCP:%s:7000" % SERVER_IP], stdin=(run.lab.www / "html/small").open("rb"))
        expect(got == data, "%d bytes came back" % len(got))


# The listener is in an epoll set before the children are made; each child waits on that set, or on one of its own that it inherited.
PREFORK = """
import os, select, socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 7000)); s.listen(128)
s.setblocking(False)
ep = select.epoll()
ep.register(s.fileno(), select.EPOLLIN)
for _ in range(3):
    if os.fork() == 0:
        clients = {}
        while True:
            for fd, _ in ep.poll():
                if fd == s.fileno():
                    try: c, _ = s.accept()
                    except BlockingIOError: continue
                    data = c.recv(100)
                    while data and not data.endswith(b"\\n"): data += c.recv(100)
                    c.sendall(data)
                    c.recv(1)
                    c.close()
while True: os.wait()
"""


class EpollBeforeFork(Row):
    name, comm, port, kind, kept = "epoll before fork", "python3", 7000, "echo", "echo"
    start = (PYTHON, "-c", PREFORK)
    events = [("worker -9", worker_kill), ("all -9", kill_all)]
    held, clients = 1, False

    def check(self, run):
        pass


# Children accept from the listener that their parent made, and the parent accepts, too.
SHARED = """
import os, socket, threading
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 7000)); s.listen(128)
def serve(c):
    with c:
        f = c.makefile("rwb")
        for line in f:
            f.write(line); f.flush()
for _ in range(3):
    if os.fork() == 0: break
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""


class ParentToo(Row):
    name, comm, port, kind, kept = "parent and children accept", "python3", 7000, "echo", "echo"
    start = (PYTHON, "-c", SHARED)
    events = [("worker -9", worker_kill), ("master -9", master_kill), ("all -9", kill_all)]
    clients = False

    def check(self, run):
        pass


ACTIVATED = """
import http.server, os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
    protocol_version = "HTTP/1.1"
assert os.environ["LISTEN_FDS"] == "1" and int(os.environ["LISTEN_PID"]) == os.getpid()
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    def server_bind(self): self.server_name, self.server_port = "box", 8000
    def server_activate(self): pass
server = Server(("", 8000), lambda *a: Handler(*a, directory="/var/www/html"), bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
server.serve_forever()
"""
LAUNCHER = """
import os, socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 8000)); s.listen(128)
if s.fileno() != 3: os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[1], sys.argv[1:])
"""


class SocketActivation(Row):
    """The launcher is under finesse, too."""

    name, programs, comm, port = "systemd-socket-activate", "systemd-socket-activate", "python3", 8000
    start = ("systemd-socket-activate", "-l", "8000", PYTHON, "-c", ACTIVATED)
    events = END_AND_KILL


class Launcher(Row):
    """As systemd does it: the socket is made first, and inherited by finesse run."""

    name, comm, port = "LISTEN_FDS of a manager", "python3", 8000
    start = (PYTHON, "-c", ACTIVATED)
    events = END_AND_KILL

    def launch(self, box):
        return box.spawn([PYTHON, "-c", LAUNCHER, *box.finesse_prefix(box.finesse), *self.start], finesse=False)


class LauncherUnder(Row):
    name, comm, port = "LISTEN_FDS, launcher under it", "python3", 8000
    start = (PYTHON, "-c", LAUNCHER, PYTHON, "-c", ACTIVATED)
    events = END_AND_KILL


ROWS = [Memcached(), Redis(), Mosquitto(), Dnsmasq(), Postgres(), PostgresDirect(), Sshd(), Vsftpd(), Rsyncd(), GitDaemon(), Forking(), Threading(), Socat(), SocketActivation(), Launcher(), LauncherUnder(),
        EpollBeforeFork(), ParentToo()]
