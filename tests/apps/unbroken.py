"""What a program under finesse must not break: its end, other connections and ports, loopback, other families."""
import os
import shutil
import signal
import socket
import subprocess
import time

from case import APPS, PYTHON, SERVER_IP, Case, Failed, LabError, expect, file_sha256, finesse_command, sha256
from web import http_server, nginx

def client_socket(lab, port, timeout=20):
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


def tcx_programs(lab, host=None):
    """Programs at the server interface's tcx ingress (bpf(BPF_PROG_QUERY)); None where the kernel has no tcx."""
    host = host or lab.server
    code = """
import ctypes, socket, struct, sys
attr = bytearray(struct.pack("IIIIQIIQQQQ", socket.if_nametoindex(sys.argv[1]), 46, 0, 0, 0, 0, 0, 0, 0, 0, 0))
buf = (ctypes.c_char * len(attr)).from_buffer(attr)
r = ctypes.CDLL(None, use_errno=True).syscall({"x86_64": 321, "aarch64": 280}[__import__("platform").machine()], 16, buf, len(attr))
print(struct.unpack_from("I", attr, 24)[0] if r == 0 else "unknown %d" % ctypes.get_errno())
"""
    out = host.text([PYTHON, "-c", code, host.interface]).strip()
    return int(out) if out.isdigit() else None


def left_behind(lab, host=None):
    host = host or lab.server
    left = []
    if tcx_programs(lab, host):
        left.append("a tcx program")
    for line in host.text(["cat", "/proc/net/unix"]).splitlines():
        if "@finesse/" in line:
            left.append(line.split()[-1])
    if host.text(["tc", "filter", "show", "dev", host.interface, "ingress"]).strip():
        left.append("a tc filter")
    if shutil.which("nft") and host.text(["nft", "list", "ruleset"]).strip():
        left.append("nftables rules")
    return left


LEFT_SECONDS = 30  # the broker ends with the last process of its tree, and gives up a link that it keeps ready after two seconds


def wait_nothing_left(lab, host=None):
    """What is left behind after a bound; nothing, if all is well."""
    end = time.monotonic() + LEFT_SECONDS
    while True:
        left = left_behind(lab, *([host] if host else []))
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.05)


def kill_minus_nine(lab):
    """The kernel answers for the port at once, and nothing is left behind."""
    case = Case(lab, True, False)
    nginx(case)
    idle = client_socket(lab, case.port)
    idle.sendall(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n")
    expect(b"200 OK" in idle.recv(1000), "no answer before the kill")
    if finesse_command() and tcx_programs(lab) is not None:
        expect(tcx_programs(lab) > 0, "no tcx program while the server runs: the check proves nothing")
    repeated = lab.client.syns_repeated()
    expect(lab.stop(case.process, signal.SIGKILL) == -signal.SIGKILL, "it was not killed")
    try:
        client_socket(lab, case.port)
        raise Failed("the port still answers")
    except LabError as e:
        expect("ConnectionRefusedError" in str(e), "a new connection: %s" % str(e)[-200:])
    repeated = lab.client.syns_repeated() - repeated
    expect(repeated <= 1, "refused only when the SYN had been sent %d times" % (1 + repeated))
    try:
        idle.sendall(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n")
        while idle.recv(65536):
            pass
    except ConnectionError:  # the request was faster than the end of file
        pass
    except TimeoutError:
        raise Failed("the idle connection has not heard of it after %d s" % idle.gettimeout()) from None
    left = wait_nothing_left(lab)
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
