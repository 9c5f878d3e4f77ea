"""One row of the table: a server, started as its service starts it, what a client asks of it, and what happens in its life."""
import hashlib
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import time

from pathlib import Path

import load
from load import HANG_SECONDS
from box import HERE, Box, wait_until
from case import PYTHON, SERVER_IP, Failed, expect, file_sha256, sha256
from lab import Lab, LabError
from unbroken import left_behind

FILE_BYTES = 8 * 1000 * 1000
THREADS = 8
PERIOD_MS = 10
CONTAINER_SECONDS = 3  # what is known to be deaf then is not waited for any longer


def carrier(kernel, total):
    """Who carried `total` connections, of which the kernel counted so many. A SYN that meets no worker which waited lately is the kernel's: now and then on a machine that lets none run."""
    return "engine" if kernel <= total / 10 else "kernel" if kernel >= total else "mixed"


class Row:
    """What a row says of itself; the defaults are those of a web server with the standard port."""

    name = programs = modules = ""  # modules: of Python
    port, kind, kept = 80, "http", "http_kept"
    address = SERVER_IP
    served = None  # the server's own port, where what the client asks stands before it
    comm = ""  # of the master, as /proc/PID/comm says
    empty, copied, folders = (), (), ()
    start = ()  # the unit's ExecStart
    forks = False  # the unit's Type=forking: the command ends and the service goes on
    events = ()  # pairs of a name and a function(run); those in `lossless` lose nothing on the kernel's TCP
    held = 4  # idle connections while a server dies
    by_design = ""  # why the engine does not carry the connections, if so

    threads = THREADS  # of the load
    inner = False  # has connections among its own processes, by loopback, which the kernel counts, too
    proxy = False  # opens connections of its own, to a server at the client's host
    clients = True  # its clients are tried under finesse, too

    def configure(self, box):
        pass

    def launch(self, box):
        """Starts the service."""
        return box.spawn(self.start)

    def before(self, run):
        """What else runs: upstreams, proxies at the client's host."""

    def check(self, run):
        """The content, by hash."""
        run.fetch_file()

    def arguments(self, run):
        return ["/small", run.small_hash] if self.kind == "http" else []

    def kept_arguments(self, run):
        return []


class Load:
    """load.py at the client's host, while the server's life goes on."""

    def __init__(self, run):
        self.run, self.last = run, {}
        row = run.row
        self.process = run.lab.client.spawn([PYTHON, HERE / "load.py", row.kind, row.address, row.port, row.threads, PERIOD_MS, *row.arguments(run)],
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def look(self, seconds):
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            raise Failed("the load does not speak")
        text = self.process.stdout.readline()
        expect(text, "the load ended")
        self.last = json.loads(text)
        return self.last

    def until_more(self, n, seconds=20):
        """Until `n` more requests than now were answered."""
        first, end = self.last.get("ok", 0), time.monotonic() + seconds
        while self.look(10).get("ok", 0) < first + n:
            if time.monotonic() > end:
                raise Failed("under load only %d of %d requests were answered within %d s: %s" % (self.last.get("ok", 0) - first, n, seconds, self.last))

    def until_refused(self, seconds=10):
        end = time.monotonic() + seconds
        first = self.look(10).get("refused", 0)
        while self.look(10).get("refused", 0) <= first:
            if time.monotonic() > end:
                raise Failed("the port is not refused within %d s: %s" % (seconds, self.last))

    def end(self):
        self.process.stdin.close()
        while not self.look(10)["end"]:
            pass
        self.process.wait(10)
        self.run.lab.processes.remove(self.process)
        return self.last

    slow_is_lost = False  # a machine that is busy may be slow without fault

    @classmethod
    def lost(cls, counts, refused=True):
        """What went wrong: (number, words)."""
        kinds = ["reset", "cut", "wrong", "hang"] + ["refused"] * refused + ["slow"] * cls.slow_is_lost
        bad = {k: v for k, v in counts.items() if k in kinds}
        return sum(bad.values()), ", ".join("%d %s" % (v, k) for k, v in bad.items() if v) + (" " + counts["told"] if bad.get("wrong") else "")


class Run:
    """A row's run, on the kernel's TCP or under finesse."""

    def __init__(self, lab, row, finesse, finesse_client=False):
        self.lab, self.row, self.finesse, self.finesse_client = lab, row, finesse, finesse_client
        self.faults = {}  # what is not right: event -> words
        self.losses = {}
        self.listener = self.connections = self.client = "-"
        self.service = self.box = None
        self.main = None  # the command that runs, unless it forks
        www = lab.www
        self.small_hash = file_sha256(www / "html/small")
        self.file_hash = file_sha256(www / "html/file")

    # ---- start and end ----

    def start(self):
        row = self.row
        self.main = row.launch(self.box)
        if row.forks:
            try:
                status = self.main.wait(20)
            except subprocess.TimeoutExpired:
                raise Failed("the start command does not end") from None
            self.lab.processes.remove(self.main)
            expect(status == 0, "the start command's status is %d: %s" % (status, self.box.output()))
        try:
            wait_until("an answer", self.answers, 20)
        except Failed as e:
            raise Failed("%s: %s: %s" % (e, self.why, self.box.output())) from None

    def restart(self):
        """After the server's end, with everything of it gone."""
        self.kill_everything()
        self.start()

    def kill_everything(self):
        def all_dead():
            left = self.box.processes()
            for p in left:
                try:
                    os.kill(p.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            return not left
        wait_until("all processes are dead", all_dead)
        if self.main in self.lab.processes:
            self.main.wait(10)
            self.lab.processes.remove(self.main)

    def connect(self, to=None):
        s = self.lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.settimeout(HANG_SECONDS)
        try:
            s.connect(to or (self.row.address, self.row.port))
        except OSError:
            s.close()
            raise
        return s

    def answers(self):
        try:
            with self.connect() as s:
                load.KINDS[self.row.kind](s, *self.row.arguments(self))
            return True
        except (OSError, load.Cut, load.Wrong, ValueError) as e:
            self.why = repr(e)
            return False

    def refused(self):
        try:
            self.connect((SERVER_IP, self.row.served or self.row.port)).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
        return False

    # ---- content ----

    def ask(self, argv, **kw):
        """What a client program says. It is under finesse when that is the row's role."""
        return self.lab.client.run(argv, self.finesse_client, timeout=40, **kw).stdout

    def fetch_file(self, path="/file"):
        url = "http://%s:%d%s" % (self.row.address, self.row.port, path)
        got = self.ask(["curl", "-sS", "--fail", "-m", "20", url])
        expect(sha256(got) == self.file_hash, "%d bytes of the file came, and are not what was sent" % len(got))

    def begin_download(self):
        """A large file of which the client has read a little."""
        s = self.lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.settimeout(10)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.connect((self.row.address, self.row.port))
        s.sendall(b"GET /file HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n")
        return s, s.recv(10000)

    def end_download(self, download):
        s, got = download
        with s:
            parts = [got]
            try:
                while True:
                    b = s.recv(1 << 20)
                    if not b:
                        break
                    parts.append(b)
            except OSError as e:
                raise Failed("the download was broken off: %s after %d bytes" % (e, sum(map(len, parts)))) from None
        body = b"".join(parts).partition(b"\r\n\r\n")[2]
        expect(hashlib.sha256(body).hexdigest() == self.file_hash, "the download came to %d bytes, or is damaged" % len(body))

    # ---- who carries ----

    def hold(self):
        s = self.connect()
        load.KINDS[self.row.kept](s, *self.row.kept_arguments(self))
        return s

    def kernel_has(self, s):
        """The kernel of the server's host has this connection."""
        out = self.lab.server.text(["ss", "-Htan", "( sport = :%d and dport = :%d )" % (self.row.port, s.getsockname()[1])])
        return bool(re.search("ESTAB|CLOSE-WAIT|FIN-WAIT", out))

    def measure_carriers(self):
        opened, before = self.lab.server.opens()
        reached = self.lab.client.opens()[1]
        clients = Load(self)
        clients.until_more(40)
        counts = clients.end()
        total = sum(v for k, v in counts.items() if k in ("ok", "reset", "cut", "wrong", "hang"))
        active, passive = (now - then for now, then in zip(self.lab.server.opens(), (opened, before)))
        if self.row.proxy:
            self.client = carrier(active, self.lab.client.opens()[1] - reached)
        held = [self.hold() for _ in range(self.row.held)]
        handed = sum(self.kernel_has(s) for s in held)
        for s in held:
            s.close()
        self.connections = carrier(handed, len(held)) if self.row.inner else carrier(passive, total)
        if self.connections == "engine" and handed:
            self.connections = "handed"
        ports = [entry.get("port") for document in self.box.stat() for entry in document.get("listeners", [])]
        self.listener = "engine" if (self.row.served or self.row.port) in ports else "kernel"
        n, words = Load.lost(counts)
        expect(n == 0, "of %d plain requests %s" % (total, words))

    # ---- life ----

    def under_load(self, name, event, refused=True, until=None):
        """`event` while requests come. What is lost is noted."""
        clients = Load(self)
        try:
            clients.until_more(50)
            event()
            (until or (lambda c: c.until_more(100)))(clients)
        finally:
            if clients.process.poll() is None:
                counts = clients.end()
                self.lose(name, *Load.lost(counts, refused))
        return counts

    def lose(self, name, n, words):
        """To what the event lost before."""
        before, told = self.losses.get(name, (0, ""))
        self.losses[name] = (before + n, "; ".join(filter(None, (told, words))))

    def hear_the_end(self, held, what):
        """The clients of idle connections hear of their server's death; a fault of its own."""
        patience = HANG_SECONDS if what != "container" else CONTAINER_SECONDS
        end = time.monotonic() + patience
        deaf = 0
        for s in held:
            s.settimeout(max(0.01, end - time.monotonic()))
            try:
                while s.recv(65536):
                    pass
            except TimeoutError:
                deaf += 1
            except OSError:
                pass
            s.close()
        if deaf:
            self.faults["idle clients: " + what] = "%d of %d hear nothing within %d s" % (deaf, len(held), patience)

    def nothing_left(self):
        wait_until("the port is refused", self.refused, 30)
        end = time.monotonic() + 30
        while True:
            left = left_behind(self.lab)
            if self.box.holder.poll() is None:
                left += [p.name for p in self.box.everything()]
            if not left:
                return
            if time.monotonic() > end:
                raise Failed("left behind: %s" % ", ".join(left))
            time.sleep(0.05)


# ---- events that several rows have ----

def signal_master(number):
    def send(run):
        os.kill(run.box.master(run.row.comm).pid, number)
    return send


def reload_by(number, workers_change=True, finishes=True):
    """The master reads its configuration again: the old workers end, and with a download that began before."""
    def reload(run):
        old = {p.pid for p in run.box.workers(run.row.comm)} if workers_change else set()
        download = run.begin_download() if run.row.kind == "http" and finishes else None
        clients_event = lambda: signal_master(number)(run)  # noqa: E731
        run.under_load("reload", clients_event)
        if download:
            run.end_download(download)
        if old:
            wait_until("the old workers end", lambda: not old & {p.pid for p in run.box.processes()}, 15)
        expect(run.answers(), "no answer after the reload")
    return "reload", reload


def reload_twice(number):
    name, once = reload_by(number)

    def reload(run):
        once(run)
        once(run)
    return name, reload


def worker_kill(run):
    """kill -9 of one worker: the others go on, and only what it had is lost."""
    victim = run.box.workers(run.row.comm)[0]
    held = [run.hold() for _ in range(run.row.held)]
    run.under_load("worker -9", lambda: os.kill(victim.pid, signal.SIGKILL))
    expect(run.answers(), "no answer after the death of a worker")
    wait_until("the worker is gone", lambda: victim.pid not in {p.pid for p in run.box.processes()})
    for s in held:
        s.close()


def master_kill(run):
    """kill -9 of the master: whether the port answers then is the program's matter, and must be as on the kernel's TCP."""
    victim = run.box.master(run.row.comm)

    def settled(clients):
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            clients.look(10)
    run.under_load("master -9", lambda: os.kill(victim.pid, signal.SIGKILL), False, settled)
    run.answers_without_master = run.answers()
    run.restart()


def graceful_end(number, finishes=True):
    """The server ends as its unit ends it: what was begun is finished, and nothing stays behind."""
    def end(run):
        download = run.begin_download() if run.row.kind == "http" and finishes else None
        run.under_load("end", lambda: signal_master(number)(run), False, lambda clients: clients.until_refused())
        if download:
            run.end_download(download)
        wait_until("all processes end", lambda: not [p for p in run.box.processes() if p.name == run.row.comm], 15)
        run.nothing_left()
        run.restart()
    return "end", end


def kill_all(run):
    """All of the server's processes are killed at once: clients hear of it, and nothing stays behind."""
    held = [run.hold() for _ in range(run.row.held)]
    run.kill_everything()
    run.hear_the_end(held, "all -9")
    run.nothing_left()
    run.start()


def random_kills(count, seed):
    """`count` SIGKILLs of workers, the master, or all, at random times under load: the port answers, and no client hangs."""
    def kills(run):
        dice = random.Random(seed)
        clients = Load(run)
        hung = dead = 0
        try:
            for n in range(count):
                clients.until_more(dice.randrange(1, 40), 10)
                held = [run.hold() for _ in range(2)]
                what = dice.choices(("worker", "master", "all"), (8, 1, 1))[0]
                workers = run.box.workers(run.row.comm)
                victims = {"worker": [dice.choice(workers)], "master": [run.box.master(run.row.comm)], "all": run.box.processes()}[what]
                for p in victims:
                    try:
                        os.kill(p.pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                start = time.monotonic()
                if what != "worker":
                    run.restart()
                for s in held:
                    hung += not lives_or_ends(s)
                while not run.answers():
                    expect(time.monotonic() < start + 2 * HANG_SECONDS, "after kill %d (%s) the port is dead (seed %d)" % (n, what, seed))
                dead += time.monotonic() > start + HANG_SECONDS and what == "worker"
        finally:
            counts = clients.end()
        run.lose("kills", *Load.lost(counts, False))
        expect(not hung and not dead and not counts.get("hang"), "%d idle clients hung, %d times the port, and %d requests (seed %d)"
               % (hung, dead, counts.get("hang", 0), seed))
        kill_all(run)
    return "kills", kills


def lives_or_ends(s):
    """A held connection of a web server answers, or its client hears of the end, within HANG_SECONDS."""
    s.settimeout(HANG_SECONDS)
    with s:
        try:
            load.discard(s)
            load.http_kept(s)
        except TimeoutError:
            return False
        except (OSError, load.Cut, load.Wrong):
            pass
    return True


def box_dies(run):
    """The end of the container."""
    held = [run.hold() for _ in range(run.row.held)]
    run.box.end()
    run.hear_the_end(held, "container")
    run.nothing_left()


def step(run, name, function, *arguments):
    """One thing that must be right; otherwise it is noted, and the row goes on."""
    try:
        function(*arguments)
        return True
    except (Failed, LabError) as e:
        run.faults[name] = str(e)
    except Exception as e:  # what a socket or a program says: a fault like others
        run.faults[name] = "%s: %s" % (type(e).__name__, e)
    return False


def begin(run):
    row, lab = run.row, run.lab
    run.box = Box(lab, lab.server, run.finesse, row.empty, row.copied, row.folders, bound=[("/var/www", lab.www)])
    row.configure(run.box)
    row.before(run)
    run.start()


def life(run, only_events, kills, times):
    broken = False
    for name, event in list(run.row.events) + ([random_kills(*kills)] if kills else []):
        if only_events is not None and name not in only_events:
            continue
        if broken and not step(run, name + " (restart)", run.restart):
            return
        broken = not all(step(run, name, event, run) for _ in range(times))
    if not broken or step(run, "restart at the end", run.restart):
        step(run, "container", box_dies, run)


def run_server(row, finesse, only_events=None, kills=None, times=1):
    """The whole life of a server: a Run with what was seen."""
    with Lab() as lab:
        lab.www = make_www(lab)
        run = Run(lab, row, finesse)
        if step(run, "start", begin, run):
            step(run, "content", row.check, run)
            step(run, "requests", run.measure_carriers)
            life(run, only_events, kills, times)
        if run.box:
            step(run, "box", run.box.end)
        return run


def run_client(row, server=False):
    """The row's clients under finesse, the server on the kernel's TCP, or under finesse, too."""
    with Lab() as lab:
        lab.www = make_www(lab)
        run = Run(lab, row, server, True)
        if step(run, "start", begin, run):
            before, accepted = lab.client.opens()[0], lab.server.opens()[1]
            step(run, "content", row.check, run)
            run.client = carrier(lab.client.opens()[0] - before, lab.server.opens()[1] - accepted)
        if run.box:
            step(run, "box", run.box.end)
        return run


def make_www(lab):
    www = Path(lab.dir) / "www-root"
    (www / "html").mkdir(parents=True)
    (www / "html/file").write_bytes(os.urandom(FILE_BYTES))
    (www / "html/small").write_bytes(os.urandom(350).hex().encode())
    return www


