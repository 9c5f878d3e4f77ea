"""A broker that hangs holds nobody up: a process that has asked it aside, and has no answer, forks, execs, unshares and ends at once.

The process has dropped its privilege, so the engine asks the broker about its cgroup, by a connection of its own. The broker is stopped, and the bound of that connection's wait is taken away from
outside: who waits for the answer waits for ever, and no verdict asks the clock.
"""
import ctypes
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "net"))
from lab import Lab, LabError, SERVER_IP, tally  # noqa: E402

PORT, PATIENCE = 8000, 60  # seconds
TRIES = 20
SYS_PIDFD_GETFD, SIOCOUTQ = 438, 0x5411
CALLS = "fork", "posix_spawn", "exec", "unshare", "setns", "end"
libc = ctypes.CDLL(None, use_errno=True)


def said(what):
    os.write(1, what.encode() + b"\n")


def child_ends(pid):
    os.waitpid(pid, 0)


def do(call):
    """What the test waits for is the line; `end` says it by the end of file."""
    if call == "fork":
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        child_ends(pid)
    elif call == "posix_spawn":
        child_ends(os.posix_spawn("/bin/true", ["true"], {}))
    elif call == "exec":
        os.execv("/bin/echo", ["echo", "exec"])
    elif call == "unshare":
        libc.unshare(0x10000000)  # CLONE_NEWUSER, by which a process needs no privilege
    elif call == "setns":
        libc.setns(os.open("/proc/self/ns/user", os.O_RDONLY), 0)  # EINVAL, after all that is done before
    elif call == "end":
        sys.exit(0)
    said(call)


def serve(call):
    listener = socket.create_server(("", PORT))
    c, _ = listener.accept()
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    said("dropped")
    while data := c.recv(100):
        if b"!" in data:
            do(call)
            return
        c.sendall(data)


class Asker:
    """The connections to the broker of a process of ours."""

    def __init__(self, pid):
        self.pid, self.pidfd, self.taken = pid, os.pidfd_open(pid), {}

    def look(self):
        for name in os.listdir("/proc/%d/fd" % self.pid):
            if name in self.taken or not self._is_socket(name):
                continue
            fd = libc.syscall(SYS_PIDFD_GETFD, self.pidfd, int(name), 0)
            if fd < 0:
                continue
            s = socket.socket(fileno=fd)
            if s.family == socket.AF_UNIX and s.type == socket.SOCK_SEQPACKET and "finesse/broker/" in self._peer(s):
                self.taken[name] = s
            else:
                s.close()
        return self.taken.values()

    def _is_socket(self, name):
        try:
            return os.readlink("/proc/%d/fd/%s" % (self.pid, name)).startswith("socket:")
        except OSError:
            return False

    @staticmethod
    def _peer(s):
        try:
            name = s.getpeername()
        except OSError:
            return ""
        return name.decode(errors="replace") if isinstance(name, bytes) else name

    def waits(self):
        """Those of which the broker has not read all."""
        return [s for s in self.taken.values() if self._unread(s)]

    @staticmethod
    def _unread(s):
        n = ctypes.c_int()
        return libc.ioctl(s.fileno(), SIOCOUTQ, ctypes.byref(n)) == 0 and n.value > 0

    @staticmethod
    def is_aside(s):
        """That connection is made under the engine's lock: it may wait a millisecond for room to speak, the engine's own one a second."""
        seconds, _ = struct.unpack("ll", s.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16))
        return seconds == 0

    def close(self):
        for s in self.taken.values():
            s.close()
        os.close(self.pidfd)


class Void(Exception):
    """The broker was stopped at a moment that proves nothing."""


def broker_of(host):
    """By its name and network namespace."""
    netns = os.readlink("/proc/%d/ns/net" % host.holder.pid)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path("/proc", pid, "comm").read_text() == "finesse-broker\n" and os.readlink("/proc/%s/ns/net" % pid) == netns:
                return int(pid)
        except OSError:
            pass  # it has ended
    raise LabError("there is no broker")


def bound(s, seconds):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, 0))


def until(what, c, is_so):
    """The engine has turns meanwhile."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            raise LabError("never: " + what)
        c.sendall(b"x")
        c.recv(100)
        time.sleep(0.01)


def line(p):
    if not select.select([p.stdout], [], [], PATIENCE)[0]:
        raise LabError("it waits for the broker")
    return p.stdout.readline().decode().strip()


def row(lab, call):
    p = lab.server.spawn([sys.executable, __file__, "serve", call], finesse=True, stdout=subprocess.PIPE)
    lab.server.wait_listening(p, PORT, finesse=True)
    c = lab.client.socket(socket.AF_INET, socket.SOCK_STREAM)
    c.settimeout(PATIENCE)
    c.connect((SERVER_IP, PORT))
    if line(p) != "dropped":
        raise LabError("the privilege was not dropped")
    asker, stopped = Asker(p.pid), 0
    try:
        until("two connections to the broker", c, lambda: len(asker.look()) == 2)
        stopped = broker_of(lab.server)
        os.kill(stopped, signal.SIGSTOP)
        for s in asker.taken.values():
            bound(s, 0)
        until("a question", c, asker.waits)
        unread = asker.waits()
        for s in asker.taken.values():
            if s not in unread:
                bound(s, 1)  # a handover may ask by it, and goes on without an answer
        if len(asker.waits()) != 1:  # afterwards: a question from before waits without a bound there, too
            raise Void("both connections have a question")
        if not asker.is_aside(unread[0]):
            raise Void("the broker had begun to answer, and what it has not read is the engine's own")
        c.sendall(b"!")
        got = line(p)
        return None if got == ("" if call == "end" else call) else "said " + got
    finally:
        if stopped:
            os.kill(stopped, signal.SIGCONT)
        asker.close()
        c.close()
        lab.stop(p, signal.SIGKILL)


def main():
    failed = 0
    for call in CALLS:
        wrong = "no run of %d was of use" % TRIES
        for _ in range(TRIES):
            try:
                with Lab() as lab:
                    wrong = row(lab, call)
            except Void:
                continue
            except (LabError, OSError) as e:
                wrong = str(e)
            break
        failed += wrong is not None
        print("FAILED: %s: %s" % (call, wrong) if wrong else "ok: " + call, flush=True)
    return tally(len(CALLS), failed)


if sys.argv[1:2] == ["serve"]:
    serve(sys.argv[2])
else:
    sys.exit(main())
