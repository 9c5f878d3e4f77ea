"""A box: where one server runs as its service starts it. It has the server host's network namespace, and mount and process namespaces of its own. /run, /var/log and
what the server writes to are empty folders in it, and the package's configuration is a copy at its real path: so the unit file's own command runs. With the box's
process 1 everything in it dies.
"""
import collections
import json
import os
import shutil
import signal
import subprocess
import time

from pathlib import Path

from case import PYTHON, Failed, LabError, finesse_command
from lab import clean_environment, die_with_parent

HERE = Path(__file__).resolve().parent
BROKER = "finesse-broker"  # is none of the server's processes: it outlives them for a moment
Process = collections.namedtuple("Process", "pid inner parent name user")


def wait_until(what, condition, seconds=10):
    end = time.monotonic() + seconds
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise Failed("not within %d s: %s" % (seconds, what))
        time.sleep(0.02)


def status_fields(pid):
    fields = {}
    try:
        for line in open("/proc/%d/status" % pid):
            key, _, value = line.partition(":")
            fields[key] = value.split()
    except OSError:
        return {}
    return fields


class Box:
    """`empty`: paths that become empty file systems. `copied`: paths whose copies the box has, and may change. `folders`: (path, user, mode) made in it."""

    def __init__(self, lab, host, finesse, empty=(), copied=(), folders=(), bound=()):
        self.lab, self.host, self.finesse = lab, host, finesse
        self.dir = Path(lab.dir) / "box"
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(mode=0o755)
        self.log = open(self.dir / "output", "ab")
        plan = {"empty": ["/var/log", *empty], "bound": [(path, str(source)) for path, source in bound], "folders": list(folders)}
        for path in copied:
            copy = self.copy(path)
            subprocess.run(["cp", "-a", path, copy], check=True)
            plan["bound"].append((path, str(copy)))
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", PYTHON, HERE / "box_init.py"]
        self.holder = subprocess.Popen(host.command(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=clean_environment(),
                                       preexec_fn=die_with_parent)
        lab.processes.append(self.holder)
        self.holder.stdin.write(json.dumps(plan).encode())
        self.holder.stdin.close()
        if self.holder.stdout.readline() != b"ready\n":
            raise LabError("the box: %s" % self.output())
        self.init = int(open("/proc/%d/task/%d/children" % (self.holder.pid, self.holder.pid)).read().split()[0])
        self.namespace = os.readlink("/proc/%d/ns/pid" % self.init)

    def copy(self, path):
        """Where the box's copy of a path of `copied` is, to change it from outside."""
        return self.dir / path.strip("/").replace("/", "-")

    def output(self):
        self.log.flush()
        return (self.dir / "output").read_bytes()[-600:].decode(errors="replace").strip()

    def finesse_prefix(self, finesse=True, settings=()):
        return finesse_command() + ["run", "--interface", self.host.interface, *settings, "--"] if finesse and finesse_command() else []

    def command(self, argv, finesse=False, settings=()):
        argv = self.finesse_prefix(finesse, settings) + [str(a) for a in argv]
        return ["nsenter", "--target", str(self.init), "--net", "--mount", "--pid", "--"] + argv

    def spawn(self, argv, finesse=None, settings=(), env=(), **kw):
        """As the service manager starts it. Under finesse when the box is."""
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", self.log)
        kw.setdefault("stderr", self.log)
        finesse = self.finesse if finesse is None else finesse
        p = subprocess.Popen(self.command(argv, finesse, settings), env={**clean_environment(), **dict(env)}, cwd="/", preexec_fn=die_with_parent, **kw)
        self.lab.processes.append(p)
        return p

    def run(self, argv, timeout=20, check=True, **kw):
        p = self.spawn(argv, **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **kw})
        try:
            out, _ = p.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            p.kill()
            raise Failed("%s did not end within %d s" % (argv[0], timeout)) from None
        finally:
            self.lab.processes.remove(p)
        if check and p.returncode:
            raise Failed("%s: status %d: %s %s" % (argv[0], p.returncode, (out or b"").decode(errors="replace").strip()[-500:], self.output()))
        return (out or b"").decode(errors="replace")

    def processes(self, name=None):
        """The server's living processes, by name (comm)."""
        return [p for p in self.everything() if p.name != BROKER and name in (None, p.name)]

    def everything(self):
        """All that lives in the box but its first process."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == self.init:
                continue
            try:
                if os.readlink("/proc/%s/ns/pid" % entry) != self.namespace:
                    continue
            except OSError:
                continue
            f = status_fields(int(entry))
            if f and f["State"][0] not in "ZX":
                found.append(Process(int(entry), int(f["NSpid"][-1]), int(f["PPid"][0]), f["Name"][0], int(f["Uid"][1])))
        return sorted(found)

    def master(self, name):
        """The process of that name whose parent has another."""
        all_of_it = self.processes(name)
        pids = {p.pid for p in all_of_it}
        for p in all_of_it:
            if p.parent not in pids:
                return p
        raise Failed("no %s runs: %s" % (name, self.output()))

    def workers(self, name):
        master = self.master(name)
        return [p for p in self.processes(name) if p.parent == master.pid]

    def stat(self):
        """The documents of `finesse stat --json`, one for each process that answers."""
        if not finesse_command():
            return []
        out = self.run(finesse_command() + ["stat", "--json"], finesse=False, check=False, stderr=subprocess.DEVNULL)
        try:
            document = json.loads(out)
        except ValueError:
            return []
        return document if isinstance(document, list) else [document]

    def end(self):
        """Kills all that is in it, at once, as a container's end does."""
        if self.holder.poll() is None:
            try:
                os.kill(self.init, signal.SIGKILL)
            except ProcessLookupError:
                pass
            try:
                self.holder.wait(10)
            except subprocess.TimeoutExpired:
                self.holder.kill()
                self.holder.wait()
                raise Failed("the box did not end") from None
        if self.holder in self.lab.processes:
            self.lab.processes.remove(self.holder)
        for p in list(self.lab.processes):
            if p.poll() is not None:
                self.lab.processes.remove(p)
        self.log.close()
