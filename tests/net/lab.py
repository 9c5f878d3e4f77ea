"""Two hosts in network namespaces, joined by a veth: what the demonstration and the application tests run in.

With `link="loss=1%,delay=20ms,…"` (tests/bridge) a third namespace between them holds a bad network; the hosts' transmit
offloads are off then, so that what is lost or damaged is a wire segment.

The namespaces have no names: each lives as long as a process that holds it, and everything that is started here dies with
this process (PR_SET_PDEATHSIG), so that nothing is left behind however it ends.
"""
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = Path(os.environ.get("FINESSE_BUILD_DIR", HERE.parent.parent)).resolve()
SERVER_IP, CLIENT_IP = "10.77.0.1", "10.77.0.2"
CLIENT_POOL = ["10.77.1.%d" % i for i in range(1, 65)]
SLOW = 6  # bounds are for a machine that does nothing else; they end what hangs, and decide nothing
PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    pass


def die_with_parent():
    """In a child before exec. A shell that runs us in the background has SIGINT ignored: not so for what we start."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def finesse_command():
    """The command under test; FINESSE="" leaves everything to the kernel, which proves the harness."""
    given = os.environ.get("FINESSE")
    if given is not None:
        return [given] if given else None
    return [str(TOP / "finesse")]


def clean_environment():
    """Settings of ours that the caller's environment has must not leak into what is measured."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("FINESSE") and k != "LD_PRELOAD"}
    env.update(LC_ALL="C", PYTHONDONTWRITEBYTECODE="1", PATH=env.get("PATH", "") + ":/usr/sbin:/sbin")
    return env


class Host:
    """One namespace."""

    def __init__(self, lab, interface):
        self.lab, self.interface = lab, interface
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up && echo && exec sleep infinity"],
                                       stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        if self.holder.stdout.readline() != b"\n":
            raise LabError("cannot make a network namespace")

    def socket(self, *args):
        """A socket of this process in the host's namespace: its peer by hand."""
        with self.inside():
            return socket.socket(*args)

    def connect(self, address, port, timeout, lport=0):
        """The same, connected, from that port of the host's; a port that a connection had is taken again."""
        s = self.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.settimeout(timeout)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("", lport))
        s.connect((address, port))
        return s

    @contextlib.contextmanager
    def inside(self):
        """This thread is in the host's namespace meanwhile."""
        ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        theirs = os.open("/proc/%d/ns/net" % self.holder.pid, os.O_RDONLY)
        try:
            if _libc.setns(theirs, CLONE_NEWNET):
                raise LabError("setns: errno %d" % ctypes.get_errno())
            yield
        finally:
            _libc.setns(ours, CLONE_NEWNET)
            os.close(ours)
            os.close(theirs)

    def command(self, argv, finesse=False, settings=()):
        argv = [str(a) for a in argv]
        if finesse and finesse_command():
            argv = finesse_command() + ["run", "--interface", self.interface, *settings, "--"] + argv
            if os.environ.get("FINESSE_APPS_ASAN"):  # the runtime must be the first to be loaded
                argv = ["env", "LD_PRELOAD=" + os.environ["FINESSE_APPS_ASAN"]] + argv
        return ["nsenter", "--net=/proc/%d/ns/net" % self.holder.pid] + argv

    def spawn(self, argv, finesse=False, settings=(), **kw):
        kw.setdefault("env", clean_environment())
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("cwd", self.lab.dir)
        p = subprocess.Popen(self.command(argv, finesse, settings), preexec_fn=die_with_parent, **kw)
        self.lab.processes.append(p)
        return p

    def run(self, argv, finesse=False, settings=(), timeout=60, check=True, **kw):
        """Output of a command that ends within `timeout` seconds of a machine that does nothing else, with status 0 when `check`."""
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        stdin = kw.pop("input", None)
        if stdin is not None:
            kw["stdin"] = subprocess.PIPE
        p = self.spawn(argv, finesse, settings, **kw)
        try:
            out, err = p.communicate(stdin, timeout=timeout * SLOW)
        except subprocess.TimeoutExpired:
            p.kill()
            p.communicate()
            raise LabError("%s: did not end within %d s" % (argv[0], timeout * SLOW)) from None
        finally:
            self.lab.processes.remove(p)
        if check and p.returncode != 0:
            raise LabError("%s: status %d: %s" % (argv[0], p.returncode, (err or b"").decode(errors="replace").strip()[-600:]))
        return subprocess.CompletedProcess(argv, p.returncode, out, err)

    def add_address(self, address):
        """Which it has at once, beside the one of the lab: one of IPv6 without duplicate address detection."""
        v6 = ":" in address
        self.run(["ip", "address", "add", address + ("/64" if v6 else "/16"), "dev", self.interface] + (["nodad"] if v6 else []))

    def text(self, argv, **kw):
        return self.run(argv, **kw).stdout.decode()

    def time_waits(self, port):
        """Kernel sockets in TIME-WAIT that concern a server port, at either end."""
        out = self.text(["ss", "-Htan", "state", "time-wait", "( sport = :%d or dport = :%d )" % (port, port)])
        return len(out.splitlines())

    def opens(self):
        """TcpActiveOpens, TcpPassiveOpens of this namespace: connections that the kernel's TCP made."""
        values = {}
        for line in self.text(["nstat", "-asz", "TcpActiveOpens", "TcpPassiveOpens"]).splitlines():
            fields = line.split()
            if fields and fields[0].startswith("Tcp"):
                values[fields[0]] = int(fields[1])
        return values["TcpActiveOpens"], values["TcpPassiveOpens"]

    def syns_repeated(self):
        """TcpExtTCPSynRetrans of this namespace: what a first SYN without an answer shows, however slow the machine is."""
        return int(self.text(["nstat", "-asz", "TcpExtTCPSynRetrans"]).split("TcpExtTCPSynRetrans")[1].split()[0])

    def stat(self, pid):
        """`finesse stat --json` of a process; {} when it does not answer."""
        p = self.run(finesse_command() + ["stat", str(pid), "--json"], check=False, timeout=15)
        try:
            document = json.loads(p.stdout)
        except ValueError:
            return {}
        if isinstance(document, list):
            document = next((d for d in document if d.get("pid") == pid), {})
        return document

    def wait_listening(self, p, port, finesse=False, timeout=15):
        """Until `p` listens on `port`: in the kernel's table, and for the engine when it runs under it."""
        end = time.monotonic() + timeout * SLOW
        while time.monotonic() < end:
            if p.poll() is not None:
                raise LabError("the server ended with status %d" % p.returncode)
            if self.text(["ss", "-Hltn", "sport = :%d" % port]).strip():
                if not finesse or not finesse_command():
                    return
                document = self.stat(p.pid)
                if any(entry.get("port") == port for entry in document.get("listeners", [])):
                    return
                if document.get("fallbacks"):
                    raise LabError("the server fell back to the kernel: %s" % document["fallbacks"])
            time.sleep(0.02)
        raise LabError("the server does not listen on port %d%s" % (port, " under finesse" if finesse else ""))


class Lab:
    def __init__(self, client_pool=False, link=None):
        self.processes = []
        self.dir = tempfile.mkdtemp(prefix="finesse-lab-")
        os.chmod(self.dir, 0o755)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(1))
        self.server, self.client = Host(self, "server0"), Host(self, "client0")
        self.middle = self.bridge = None
        if link is None:
            self._veth(self.server, self.server.interface, self.client, self.client.interface)
        else:
            self.middle = Host(self, "")
            self._veth(self.server, self.server.interface, self.middle, "to-server")
            self._veth(self.client, self.client.interface, self.middle, "to-client")
        self._configure(client_pool)
        if link is not None:
            self._start_bridge(link)

    @staticmethod
    def _veth(a, a_name, b, b_name):
        a.run(["ip", "link", "add", a_name, "type", "veth", "peer", "name", b_name, "netns", str(b.holder.pid)])

    def _start_bridge(self, link):
        """`link`: settings of tests/bridge for both directions, or two of them: client to server, server to client."""
        m = self.middle
        m.run(["sh", "-c", "for i in to-server to-client; do echo 1 >/proc/sys/net/ipv6/conf/$i/disable_ipv6; ip link set $i up; done"])
        for host in (self.server, self.client):
            host.run(["ethtool", "-K", host.interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off"])
            self._wait_carrier(host)
        settings = [link] if isinstance(link, str) else list(link)
        self.bridge = m.spawn([TOP / "tests/bridge/bridge", "to-client", "to-server", *settings], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if self.bridge.stdout.readline() != b"ready\n":
            raise LabError("the bridge: %s" % self.bridge.stderr.read().decode(errors="replace"))

    def bridge_counters(self):
        """Ends the bridge: its counters by direction, {"to-client": {…}, "to-server": {…}} by where the frames came from."""
        self.processes.remove(self.bridge)
        self.bridge.send_signal(signal.SIGTERM)
        out, err = self.bridge.communicate(timeout=10 * SLOW)
        if self.bridge.returncode != 0:
            raise LabError("the bridge ended with status %d: %s" % (self.bridge.returncode, err.decode(errors="replace")))
        return {way["from"]: way for way in json.loads(out)["ways"]}

    def _configure(self, client_pool):
        s, c = self.server, self.client
        for host, ip in ((s, SERVER_IP), (c, CLIENT_IP)):
            lines = ["addr add %s/16 dev %s" % (ip, host.interface)]
            if client_pool and host is c:
                lines += ["addr add %s/16 dev %s" % (a, host.interface) for a in CLIENT_POOL]
            lines += ["link set %s up" % host.interface]
            host.run(["ip", "-batch", "-"], input="\n".join(lines).encode())
        if self.middle is None:
            for host in (s, c):
                self._wait_carrier(host)

    @staticmethod
    def _wait_carrier(host):
        for _ in range(250 * SLOW):
            told = host.text(["ip", "-o", "link", "show", host.interface])
            if "LOWER_UP" in told and "DOWN " not in told:  # it has seen that the other end is there: until then it drops what is sent
                return
            time.sleep(0.02)
        raise LabError("%s has no carrier" % host.interface)

    def stop(self, p, how=signal.SIGTERM, timeout=10):
        """Ends a process: its status, or LabError when it does not end."""
        if p in self.processes:
            self.processes.remove(p)
        if p.poll() is None:
            p.send_signal(how)
        try:
            return p.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            raise LabError("a process did not end within %d s of signal %d" % (timeout * SLOW, how)) from None

    def close(self):
        holders = [host.holder for host in (self.server, self.client, self.middle) if host]
        for p in list(self.processes) + holders:
            p.kill()
            p.wait()
        self.processes.clear()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def read_all(s):
    """What comes until the end of file; s is closed."""
    with s:
        got = b""
        while more := s.recv(65536):
            got += more
        return got


def tally(checks, failed):
    """A test program's last line, which tests/complete counts. The exit status."""
    print("%d%%: Checks: %d, Failures: %d, Errors: 0" % (100 * (checks - failed) // max(checks, 1), checks, failed), flush=True)
    return 1 if failed or not checks else 0


class Checks:
    """check = Checks(); check(ok, what) …; return check.tally()"""

    def __init__(self):
        self.n = self.failed = 0

    def __call__(self, ok, what):
        self.n += 1
        self.failed += not ok
        print(("ok: " if ok else "FAILED: ") + what, flush=True)

    def tally(self):
        return tally(self.n, self.failed)


class Timely:
    """
    Checks that a machine which is too busy to let a thread run may fail, now and then: what is wrong is wrong every time.

    timely = Timely(); inside of `run`, timely(ok, what) …; timely.tried(run) is what run() gave, and `timely.failed` what was still wrong in the last of TRIES runs.
    """

    TRIES = 4

    def __init__(self):
        self.failed = []

    def __call__(self, ok, what):
        if not ok:
            self.failed.append(what)
            print("(untimely: %s)" % what, flush=True)

    def tried(self, run):
        for _ in range(self.TRIES):
            self.failed = []
            result = run()
            if not self.failed:
                break
        return result


def both_ways(run):
    """A whole test: run(finesse) gives whether it is right and what was seen; natively, then under finesse. The exit status."""
    failed = 0
    for who, finesse in ("kernel", False), ("finesse", True):
        ok, seen = run(finesse)
        failed += not ok
        print("%s: %s: %s" % ("ok" if ok else "FAILED", who, seen), flush=True)
    return tally(2, failed)


def compare_lines(seen):
    """A whole test: what seen(finesse) gives natively and under finesse, line by line. The exit status."""
    if os.geteuid():
        print("skipped: needs root")
        return 77
    natively, ours = seen(False), seen(True)
    failures = abs(len(natively) - len(ours))
    for a, b in zip(natively, ours):
        failures += a != b
        print("ok: %s" % a if a == b else "FAILED: natively %s, under finesse %s" % (a, b))
    return tally(len(natively), failures)


class Capture:
    """with Capture(host) as c: … ; c.segments afterwards."""

    def __init__(self, host, everything=False):
        self.host, self.segments, self.drops = host, [], 0
        self.argv = [sys.executable, str(HERE / "capture.py"), host.interface] + (["--all"] if everything else [])

    def __enter__(self):
        self.process = self.host.spawn(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            raise LabError("the capture did not start")
        return self

    def __exit__(self, kind, *_):
        out, _ = self.process.communicate(timeout=60 * SLOW)
        self.host.lab.processes.remove(self.process)
        if kind is None:
            result = json.loads(out)
            self.segments, self.drops = result["segments"], result["drops"]


FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def connections(segments, port):
    """The segments of each connection to a server port: a list of lists, in order of their SYNs."""
    current, out = {}, []
    for s in segments:
        if port not in (s["sport"], s["dport"]):
            continue
        client = (s["src"], s["sport"]) if s["dport"] == port else (s["dst"], s["dport"])
        opened = current.get(client)
        if s["flags"] & SYN and not s["flags"] & ACK and not (opened and opened[0]["seq"] == s["seq"]):
            opened = current[client] = []
            out.append(opened)
        if opened is not None:
            opened.append(s)
    return out


def first_fins(segments, port):
    """Who sent the first FIN: {"client": n, "server": n, "reset": n, "open": n}."""
    count = {"client": 0, "server": 0, "reset": 0, "open": 0}
    for connection in connections(segments, port):
        verdict = "open"
        for s in connection:
            if s["flags"] & FIN:
                verdict = "client" if s["dport"] == port else "server"
                break
            if s["flags"] & RST:
                verdict = "reset"
                break
        count[verdict] += 1
    return count
