"""One server, one client, and who of them runs under finesse: what the application tests are made of."""
import hashlib
import signal
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


class Failed(Exception):
    pass


def expect(condition, text):
    if not condition:
        raise Failed(text)


def wanted(name, only):
    """`only`: words, any of which picks a case; with +, all of them."""
    return not only or any(all(part in name for part in word.split("+")) for word in only.split(","))


def judge(name, case):
    """Runs a case, which says what it saw: one line, that begins with ok or FAILED."""
    start = time.monotonic()
    try:
        told = case()
    except (Failed, LabError) as e:
        return "FAILED: %s: %s" % (name, e)
    except Exception:  # a bug here or a surprise there
        return "FAILED: %s: %s" % (name, traceback.format_exc())
    return "ok: %s: %s (%.1f s)" % (name, told, time.monotonic() - start)


def carried_by_the_engine(lab, server, client):
    if not finesse_command():
        return
    active, passive = lab.client.opens()[0], lab.server.opens()[1]
    expect(not client or active == 0, "the kernel opened %d of the client's connections" % active)
    expect(not server or passive == 0, "the kernel accepted %d of the server's connections" % passive)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def file_sha256(path):
    return sha256(Path(path).read_bytes())


class Case:
    """One server and one client, in one distribution of roles."""

    next_port = 9000
    settings = ()
    scale = 1  # of data, connections and requests: the long form has more

    def __init__(self, lab, server, client):
        self.lab, self.server, self.client = lab, server, client
        Case.next_port += 1
        self.port = Case.next_port
        self.dir = Path(lab.dir)
        self.process = None

    def url(self, path):
        return "http://%s:%d/%s" % (SERVER_IP, self.port, path)

    def start(self, argv, timeout=15, **kw):
        self.process = self.lab.server.spawn(argv, self.server, self.settings, stdout=subprocess.DEVNULL, stderr=open(self.dir / "server.err", "wb"), **kw)
        self.lab.server.wait_listening(self.process, self.port, self.server, timeout)

    def run(self, argv, timeout=60, **kw):
        return self.lab.client.run(argv, self.client, timeout=timeout, **kw)

    def no_fallback(self):
        if not (self.server and finesse_command()) or self.process.poll() is not None:
            return
        document = self.lab.server.stat(self.process.pid)
        expect(document, "finesse stat does not answer")
        # What a forked child uses is handed over to it, by design.
        fallbacks = [f for f in document.get("fallbacks", []) if (f["what"], f["why"]) != ("a connection", "a forked process uses it")]
        expect(not fallbacks, "the server fell back: %s" % fallbacks)
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
