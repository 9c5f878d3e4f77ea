"""Deaths by a signal's default action: what the peer saw, and the wait status.

  death_signal.py server WHAT        serves port 9000 and waits to die; prints how many bytes it has sent when all is ready
  death_signal.py rounds ADDRESS SERVER_NAMESPACE FINESSE    a client's side of the table, natively and under finesse

Natively and under finesse a line of the table must be the same. Prints the lines that differ, or that are not what the kernel's TCP does, and their number.
"""
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

PORT, SMALL = 9000, 100
SIGNALS = ["TERM", "INT", "HUP", "USR1", "ALRM", "QUIT", "SEGV", "ABRT", "PIPE"]
# … and the ways by which the program itself gets them
OWN = ["fault", "abort", "kill"]


def die_by_itself(how):
    import ctypes
    if how == "fault":
        ctypes.string_at(8)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGTERM)
    os.abort()


def use_other_stack():
    """Signals that ask for it are handled there; the program's own stack may have no room when one comes."""
    import ctypes
    stack = ctypes.create_string_buffer(65536)
    words = (ctypes.c_uint64 * 3)(ctypes.addressof(stack), 0, len(stack))
    if ctypes.CDLL(None).sigaltstack(words, None):
        raise OSError("sigaltstack")
    return stack


def server(what, how):
    stack = use_other_stack() if what == "stack" else None
    for name in SIGNALS:
        signal.signal(getattr(signal, "SIG" + name), signal.SIG_DFL)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", PORT))
    s.listen(8)
    dies_r, dies_w = os.pipe()
    if what == "unaccepted" and os.fork() == 0:
        # It accepts what its parent left.
        os.close(dies_w)
        os.read(dies_r, 1)
        s.settimeout(20)
        c = s.accept()[0]
        c.sendall(b"child")
        os._exit(0)
    print("listens", flush=True)
    c = s.accept()[0]
    sent = 0
    if what in ("ring", "core", "stack", "traced"):  # the reader is slow
        c.setblocking(False)
        try:
            while sent < 1 << 20:
                sent += c.send(b"x" * 65536)
        except BlockingIOError:
            pass
    elif what == "unread":
        select.select([c], [], [])
    elif what == "unaccepted":
        select.select([s], [], [])
    print(sent, flush=True)
    if how in OWN:
        sys.stdin.readline()
        if what == "small":  # nobody has asked for it to be sent yet
            c.sendall(b"y" * SMALL)
        die_by_itself(how)
    while stack or True:  # computes
        pass


def until_end(c):
    n = 0
    try:
        while chunk := c.recv(65536):
            n += len(chunk)
        return n, "end of file"
    except ConnectionResetError:
        return n, "reset"


def ended(p):
    """How it ended: by which signal, and whether it left a core."""
    with open(os.pidfd_open(p.pid)) as pidfd:
        if not select.select([pidfd], [], [], 20)[0]:
            raise TimeoutError("it does not end")
    info = os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT)
    return {os.CLD_EXITED: "exit", os.CLD_KILLED: "killed", os.CLD_DUMPED: "dumped core"}[info.si_code], info.si_status


def send(p, how):
    if how in OWN:
        p.stdin.write("\n")
        p.stdin.flush()
        return
    p.send_signal(getattr(signal, "SIG" + how))


def one(prefix, address, what, how):
    with tempfile.TemporaryDirectory() as scratch:
        p = subprocess.Popen([*prefix, sys.executable, os.path.abspath(__file__), "server", what, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=scratch)
        try:
            return exchange(p, address, what, how) + [any(f.startswith("core") for f in os.listdir(scratch))]
        except OSError as error:
            return [repr(error)]
        finally:
            p.kill()
            p.wait()


def exchange(p, address, what, how):
    p.stdout.readline()
    c = socket.socket()
    if what != "unread" and what != "unaccepted":
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    c.settimeout(20)
    c.connect((address, PORT))
    waits = None
    if what == "unread":
        c.sendall(b"unread")
    elif what == "unaccepted":
        waits = socket.create_connection((address, PORT), 20)
    sent = int(p.stdout.readline()) + SMALL * (what == "small")
    send(p, how)
    status = ended(p)
    got, end = until_end(c)
    c.close()
    result = [*status, "all" if got == sent else f"{got} of {sent}", end]
    if waits:
        result.append(until_end(waits))
        waits.close()
    return result


def rounds(address, namespace, finesse):
    native = ["nsenter", "--net=" + namespace]
    ours = [*native, os.path.abspath(finesse), "run", "--strict", "--interface", "server0", "--"]
    tracer = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=accept4"]
    wrong = 0
    cases = [("ring", how) for how in SIGNALS + OWN]
    cases += [(what, how) for what in ("unread", "unaccepted") for how in ("TERM", "SEGV")]
    cases += [("core", how) for how in ("SEGV", "fault")]
    cases += [("small", how) for how in ("fault", "kill")] + [("stack", "fault")]
    if shutil.which("strace"):
        cases += [("traced", how) for how in ("fault", "kill")]
    for what, how in cases:
        between = tracer if what == "traced" else []
        expected, seen = one(native + between, address, what, how), one(ours + between, address, what, how)
        if seen != expected:
            print(f"{what}, {how}: {seen}, natively {expected}")
            wrong += 1
    print(f"{len(cases)} deaths, {wrong} differ")
    return wrong


if sys.argv[1] == "server":
    import resource
    if sys.argv[2] == "core":
        resource.setrlimit(resource.RLIMIT_CORE, [resource.getrlimit(resource.RLIMIT_CORE)[1]] * 2)
    else:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    server(sys.argv[2], sys.argv[3])
sys.exit(rounds(*sys.argv[2:5]) != 0)
